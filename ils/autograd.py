"""Autograd functions of the operator: a draw forward and a rule's estimate backward."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ils import kernel
from ils.checks import check_logits_values, check_same_shape, refuse_forward_mode
from ils.draw import draw_indices, probabilities, uniforms
from ils.execution import compiling, eager, may_look, plain_on_cpu
from ils.fast import LIMIT, at_least_float32, estimate, fisher_limit, form_of
from ils.relaxation import LEVEL, levelled
from ils.rules import Rule

__all__ = [
    "attach",
    "draw",
    "draw_at",
    "draw_index_of",
    "embed",
    "refuse_derivative",
    "sample_with_rule",
]


def sample_with_rule(
    logits: Tensor, rule: Rule, generator: torch.Generator | None, draws: tuple[int, ...]
) -> Tensor:
    """One-hot draws ``(*draws, ..., K)`` with the gradient of a rule, along the last axis."""
    if not eager():
        with torch.no_grad():
            z, at, probs = draw(logits, generator, draws)
            noise = noise_of(rule, z.shape, logits, generator)
        return _Attach.apply(logits, z, at, probs, noise, rule)
    refuse_forward_mode(logits)
    form = form_of(rule)
    if form is not None and kernel.serves(logits):
        try:
            numbers = uniforms(logits, generator, math.prod(draws))
            return kernel.sample(logits, numbers, draws, *form)
        except RuntimeError:
            check_logits_values(logits)
            raise
    if torch.is_grad_enabled() and logits.requires_grad:
        if form is LIMIT and not draws and _ordinary(logits):
            return _DrawOrdinary.apply(logits, generator)[0]
        return _Draw.apply(logits, (rule, generator, draws))[0]
    return draw(logits.detach(), generator, draws)[0]


def noise_of(
    rule: Rule, shape: tuple[int, ...], logits: Tensor, generator: torch.Generator | None
) -> Tensor | None:
    """The noise of a rule for draws of this shape; None for a rule without noise."""
    if type(rule).noise is Rule.noise:
        return None
    return rule.noise(shape, at_least_float32(logits.detach()), generator)


def attach(logits: Tensor, z: Tensor, rule: Rule, generator: torch.Generator | None) -> Tensor:
    """Given draws ``(*draws, ..., K)``, with the gradient of a rule attached."""
    if eager():
        refuse_forward_mode(logits, z)
    with torch.no_grad():
        at, probs = z.argmax(-1, keepdim=True), probabilities(logits)
        noise = noise_of(rule, z.shape, logits, generator)
    return _Attach.apply(logits, z, at, probs, noise, rule)


def embed(
    index: Tensor, weight: Tensor, logits: Tensor, rule: Rule, generator: torch.Generator | None
) -> Tensor:
    """Rows ``weight[index]``, ``(*draws, ..., D)``, with the gradient of a rule for the logits."""
    if eager():
        refuse_forward_mode(weight, logits)
    with torch.no_grad():
        noise = noise_of(rule, (*index.shape, logits.shape[-1]), logits, generator)
    return _Embed.apply(index, weight, logits, noise, rule)


def draw_index_of(
    logits: Tensor, generator: torch.Generator | None, draws: tuple[int, ...]
) -> Tensor:
    """Drawn indices ``(*draws, ...)``; K - 1 for a bad row where values cannot be checked."""
    if may_look(logits) and kernel.serves(logits):
        numbers = uniforms(logits, generator, math.prod(draws))
        try:
            return kernel.draw(logits, numbers, False, draws, one_hot=False)[1].squeeze(-1)
        except RuntimeError:
            check_logits_values(logits)
            raise
    index = draw_at(logits, generator, draws)[0].squeeze(-1)
    if may_look(logits):
        if index.numel() and int(index.amax()) >= logits.shape[-1]:
            check_logits_values(logits)
        return index
    return index.clamp(max=logits.shape[-1] - 1)


def draw_at(
    logits: Tensor, generator: torch.Generator | None, draws: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Drawn indices ``(*draws, ..., 1)``, and ``pi``; for a bad row the index is K or more."""
    probs = probabilities(logits)
    at = draw_indices(probs, generator, math.prod(draws))
    if draws:
        at = at.movedim(-1, 0).reshape(*draws, *probs.shape[:-1], 1)
    return at, probs


def draw(
    logits: Tensor, generator: torch.Generator | None, draws: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """One-hot draws ``(*draws, ..., K)``, their indices ``(*draws, ..., 1)``, and ``pi``."""
    at, probs = draw_at(logits, generator, draws)
    if draws or not logits.is_contiguous():
        z = torch.zeros(draws + logits.shape, dtype=logits.dtype, device=logits.device)
    else:
        z = torch.zeros_like(logits)  # the same, but faster
    # A row with NaN, with +inf or with -inf alone has NaN throughout, and no index.
    if may_look(logits):
        return _put_ones(z, at, logits), at, probs
    at = at.clamp(max=logits.shape[-1] - 1)
    one = (1 + 0 * probs[..., :1]).to(z.dtype)  # exactly one, or NaN
    return z.scatter(-1, at, one.expand(at.shape)), at, probs


def _put_ones(z: Tensor, at: Tensor, logits: Tensor) -> Tensor:
    """One-hot rows, made of the zeros in place; raises for logits whose index is out of range."""
    # For many rows a tensor of ones is scattered faster than the number 1.
    ones = 1 if at.numel() < 1000 else z.new_ones(at.shape)
    try:
        return z.scatter_(-1, at, ones)
    except RuntimeError:
        check_logits_values(logits)
        raise


class _Draw(torch.autograd.Function):
    """The draw and its gradient in one function: the fast path, for eager code."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        # One tuple, since each argument of an autograd function costs time.
        options: tuple[Rule, torch.Generator | None, tuple[int, ...]],
    ) -> tuple[Tensor, Tensor]:
        rule, generator, draws = options
        z, at, probs = draw(logits, generator, draws)
        noise = noise_of(rule, z.shape, logits, generator)
        kept, mask = _what_to_keep(rule, logits, probs)
        # Empty, but part of the graph: a second derivative then reaches the node that raises.
        anchor = logits.new_empty(0)
        ctx.save_for_backward(at, kept, mask, noise, anchor)
        ctx.set_materialize_grads(False)
        ctx.known = rule, logits.shape, may_look(logits)
        return z, anchor

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        grad = grads[0]
        if grad is None:  # the loss does not depend on the draw
            return None, None
        at, kept, mask, noise, anchor = ctx.saved_tensors
        rule, shape, look = ctx.known
        if not torch.is_grad_enabled():
            return _back(rule, grad, at, kept, mask, noise, shape, look), None
        with torch.no_grad():
            update = _back(rule, grad, at, kept, mask, noise, shape, look)
        return refuse_derivative(update, grad, anchor), None


def _ordinary(logits: Tensor) -> bool:
    """In eager code: whether a tensor is plain, on the CPU, contiguous, and float32 or float64."""
    return (
        plain_on_cpu(logits)
        and logits.dtype in (torch.float32, torch.float64)
        and logits.is_contiguous()
    )


class _DrawOrdinary(torch.autograd.Function):
    """:class:`_Draw` for one draw a row with the default rule, where overhead matters most.

    The same operations with the same result, without the branches on rule, draws and types, which
    :func:`sample_with_rule` has decided.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        probs = probabilities(logits)
        at = draw_indices(probs, generator, 1)
        z = _put_ones(torch.zeros_like(logits), at, logits)
        anchor = logits.new_empty(0)  # as above
        ctx.save_for_backward(at, probs, anchor)
        ctx.set_materialize_grads(False)
        return z, anchor

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        grad = grads[0]
        if grad is None:
            return None, None
        at, probs, anchor = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return fisher_limit(grad, at, probs, True), None
        with torch.no_grad():
            update = fisher_limit(grad, at, probs, True)
        return refuse_derivative(update, grad, anchor), None


class _Attach(torch.autograd.Function):
    """Identity on ``z``, with a rule's gradient: for compilers, transforms, and given draws."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        logits: Tensor, z: Tensor, at: Tensor, probs: Tensor, noise: Tensor | None, rule: Rule
    ) -> Tensor:
        return z.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        logits, _, at, probs, noise, ctx.rule = inputs
        ctx.save_for_backward(logits, at, probs, noise)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        logits, at, probs, noise = ctx.saved_tensors
        with torch.no_grad():
            kept, mask = _what_to_keep(ctx.rule, logits, probs)
            update = _back(ctx.rule, grads[0], at, kept, mask, noise, logits.shape, False)
        if torch.is_grad_enabled() and not compiling():
            update = refuse_derivative(update, grads[0], logits)
        return update, None, None, None, None, None


class _Embed(torch.autograd.Function):
    """A look-up whose gradient for the logits is that of the one-hot product ``z @ weight``."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        index: Tensor, weight: Tensor, logits: Tensor, noise: Tensor | None, rule: Rule
    ) -> Tensor:
        return torch.nn.functional.embedding(index, weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        # Of tensors (..., K) only the logits are saved: backward computes the softmax again.
        index, weight, logits, noise, ctx.rule = inputs
        ctx.save_for_backward(index, weight, logits, noise)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        index, weight, logits, noise = ctx.saved_tensors
        grad, for_weight, for_logits = grads[0], None, None
        with torch.no_grad():
            if ctx.needs_input_grad[1]:
                for_weight = torch.ops.aten.embedding_dense_backward(
                    grad, index, weight.shape[0], -1, False
                ).to(weight.dtype)
            if ctx.needs_input_grad[2]:
                at, probs = index.unsqueeze(-1), probabilities(logits)
                kept, mask = _what_to_keep(ctx.rule, logits, probs)
                upstream = grad @ weight.to(grad.dtype).mT
                for_logits = _back(
                    ctx.rule, upstream, at, kept, mask, noise, logits.shape, may_look(logits)
                ).to(logits.dtype)
        if torch.is_grad_enabled() and not compiling():
            if for_weight is not None:
                for_weight = refuse_derivative(for_weight, grad, weight, logits)
            if for_logits is not None:
                for_logits = refuse_derivative(for_logits, grad, weight, logits)
        return None, for_weight, for_logits, None, None


def _what_to_keep(rule: Rule, logits: Tensor, probs: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """What backward needs: probabilities and mask, if the fast form uses them, or the logits."""
    form, mask = form_of(rule), None
    if form is None:
        return logits, None
    if form.needs_mask() and not (
        may_look(logits) and (logits.numel() == 0 or float(logits.amin()) > -math.inf)
    ):
        mask = logits == -torch.inf
    if not form.needs_probs():
        return None, mask
    # Not in float16, which is too coarse for probabilities: its smallest number is 6e-8.
    return (probs.bfloat16() if logits.dtype == torch.bfloat16 else probs), mask


def _back(
    rule: Rule,
    grad: Tensor,
    at: Tensor,
    kept: Tensor | None,
    mask: Tensor | None,
    noise: Tensor | None,
    shape: torch.Size,
    look: bool,
) -> Tensor:
    """The estimate, summed over the draws, in the type of the gradient."""
    form = form_of(rule)
    if form is not None:
        update = estimate(form, grad, at, kept, mask, look=look)
    else:
        assert kept is not None
        update = _plain(rule, at_least_float32(grad), at, kept, noise, look)
    extra = update.dim() - len(shape)
    if extra:
        update = update.sum(tuple(range(extra)))
    return update.to(grad.dtype)


def _plain(
    rule: Rule, grad: Tensor, at: Tensor, logits: Tensor, noise: Tensor | None, look: bool
) -> Tensor:
    """The estimate by a rule's own formula; masked categories have gradient and estimate zero."""
    # Contiguous, because the sum of a strided row is rounded differently.
    grad, logits = grad.contiguous(), logits.to(grad.dtype).contiguous()
    z = torch.zeros_like(grad).scatter(-1, at, 1)
    noise = None if noise is None else noise.to(grad.dtype)
    ordinary = False
    if look and logits.numel():
        low, high = logits.aminmax()
        ordinary = float(low) >= -LEVEL and float(high) <= LEVEL
    mask = None if ordinary else logits.isneginf()
    if mask is not None:
        logits, grad = levelled(logits), grad.masked_fill(mask, 0)
    update = rule.gradient(grad, z, logits, noise)
    if update.shape != grad.shape:
        check_same_shape(f"rule: the gradient of {rule!r}", update, grad)
    return update if mask is None else update.masked_fill(mask, 0)


class _Refused(torch.autograd.Function):
    """The identity, whose backward pass raises."""

    generate_vmap_rule = True

    @staticmethod
    def forward(update: Tensor, *sources: Tensor) -> Tensor:
        return update.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise RuntimeError(
            "ils: expected to be differentiated once; the gradient of a draw is an estimate, and "
            "the derivative of no function"
        )


def refuse_derivative(update: Tensor, *sources: Tensor) -> Tensor:
    """The update, unchanged; raises when it is differentiated, for itself or for its sources."""
    return _Refused.apply(update, *sources)
