r"""Fast forms of some rules; the reference is the formula of the rule in :mod:`ils.rules`.

A fast form needs only the drawn category and ``pi``, stores no one-hot vector, works in place and
takes few passes over memory; the optional kernel computes the same.  With
``Delta = M J_h(z)^T g`` it is one of

.. math::

    \tfrac12 J_h(z) \Delta, \qquad
    \frac{s}{\alpha} \bigl(z - h(z - \tfrac{\alpha}{s} \Delta)\bigr),\; s = \max_k |\Delta_k|,
    \qquad \pi - h(z - \alpha \Delta) \;\text{ or }\; z - h(z - \alpha \Delta).

No randomness.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ils import kernel
from ils.execution import eager, holds_values
from ils.metric import euclidean, fisher
from ils.rules import Limit, Note, ReinMax, Rule, Step
from ils.simplex import project_simplex, sum_normalize

__all__ = ["LIMIT", "Form", "at_least_float32", "estimate", "fisher_limit", "form_of"]


class Form(NamedTuple):
    """A fast form, in the terms of the kernel.

    Attributes:
        kind: one of the kinds of :mod:`ils.kernel`.
        step: ``alpha``; 0 for the limit of small steps.
        weighted: whether the metric is Fisher's, or else the Euclidean.
        relative: whether the step is relative to the largest entry of ``Delta``.
        centred: whether the estimate is ``z - pi_D``, or else ``pi - pi_D``.
    """

    kind: int
    step: float
    weighted: bool
    relative: bool
    centred: bool

    def needs_probs(self) -> bool:
        """Whether the estimate depends on the distribution, and not on the draw alone."""
        return self.weighted or not self.centred

    def needs_mask(self) -> bool:
        """Whether a probability of zero does not by itself mean an update of zero."""
        return not self.weighted


LIMIT = Form(kernel.FISHER_LIMIT, 0.0, weighted=True, relative=False, centred=True)


def form_of(rule: Rule) -> Form | None:
    """The fast form of a rule; None if there is none, as for every user-defined rule."""
    kind = type(rule)  # a subclass may have another formula
    if kind is ReinMax and rule.temperature == 1:  # pyright: ignore[reportAttributeAccessIssue]
        return LIMIT
    if kind is Limit and rule.metric is fisher:  # pyright: ignore[reportAttributeAccessIssue]
        return LIMIT
    if not isinstance(rule, Step | Note) or kind not in (Step, Note):
        return None
    if rule.keep_mass or rule.metric not in (euclidean, fisher):
        return None
    weighted = rule.metric is fisher
    if rule.normalizer is sum_normalize:
        if isinstance(rule, Step):
            return Form(kernel.SUM_NORMALIZED, rule.size, weighted, relative=True, centred=True)
        return Form(kernel.SUM_NORMALIZED, rule.step_size, weighted, False, rule.centred)
    if rule.normalizer is project_simplex and isinstance(rule, Note) and not weighted:
        return Form(kernel.PROJECTED, rule.step_size, False, False, rule.centred)
    return None


def estimate(
    form: Form,
    grad: Tensor,
    at: Tensor,
    probs: Tensor | None,
    mask: Tensor | None,
    *,
    look: bool = False,
) -> Tensor:
    r"""The gradient for the logits.

    Args:
        form: which one.
        grad: ``g``, the gradient at the draws, ``(..., K)``.
        at: the drawn categories, ``(..., 1)``.
        probs: ``pi``, broadcasting to ``(..., K)``; None where :meth:`Form.needs_probs` is false.
        mask: true where a category cannot be drawn, broadcasting to ``(..., K)``; None if there
            is none, or where :meth:`Form.needs_mask` is false.
        look: whether values may be read to save a pass: in eager code, on a CPU.

    Returns:
        ``(..., K)``, in the units of ``g``, or without unit for the note's form.
    """
    if form.kind == kernel.FISHER_LIMIT:
        assert probs is not None
        return fisher_limit(grad, at, probs, look)
    if form.kind == kernel.PROJECTED:
        grad = at_least_float32(grad)
        probs = None if probs is None or form.centred else probs.to(grad.dtype)
        return _projected(form.step, grad, at, probs, mask)
    if probs is not None and not form.needs_mask():
        mask = probs == 0
    return _sum_normalized(form, grad, at, probs, mask)


def at_least_float32(x: Tensor) -> Tensor:
    """The same in float32, if it is of a half type."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def fisher_limit(grad: Tensor, at: Tensor, probs: Tensor, look: bool) -> Tensor:
    """``pi_k (g_k - g_i) / 2``, and minus their sum for the drawn category ``i``."""
    # For half types, a column in float32 promotes the sum to float32, without a copy of ``grad``.
    half = at_least_float32(grad.gather(-1, at)).mul_(-0.5)
    moved = torch.add(half, grad, alpha=0.5).mul_(probs)
    if not look:
        moved = torch.where(probs == 0, 0, moved)
    total = moved.sum(-1, keepdim=True)
    # A gradient that is not finite must not reach a category that cannot be drawn.
    if look and not math.isfinite(float(total.sum())):
        return fisher_limit(grad, at, probs, look=False)
    return _put(moved, at, total.neg_())


def _sum_normalized(
    form: Form, grad: Tensor, at: Tensor, probs: Tensor | None, mask: Tensor | None
) -> Tensor:
    """The target is proportional to ``c = s / alpha`` at the draw, ``(-Delta_k)_+`` elsewhere."""
    step = form.step
    drawn = at_least_float32(grad.gather(-1, at))  # promotes, as above
    delta = grad - drawn
    if probs is not None and form.weighted:
        delta.mul_(probs)
    if mask is not None:
        delta = _cleared(delta, mask)
    # Everything below is in place: new memory would cost more than the arithmetic.
    if probs is not None and not form.centred:
        # pi - pi_D: the drawn category, whose gain is zero, takes c = 1 / alpha.
        lost = _negative_part(delta)
        share = (1 / step - lost.sum(-1, keepdim=True)).reciprocal_()
        update = lost.mul_(share)
        if mask is not None:
            update = _cleared(update, mask)
        return update.add_(probs).scatter_add_(-1, at, share.mul_(-1 / step))
    if form.relative:
        scale = _largest(delta)
        top = scale.div_(step).clamp(min=torch.finfo(scale.dtype).tiny)
        lost = _negative_part(delta)
        total = lost.sum(-1, keepdim=True)
        share = top / (top - total)
    else:
        lost = _negative_part(delta)
        total = lost.sum(-1, keepdim=True)
        share = (1 / step - total).reciprocal_()
    update = lost.mul_(share)
    if mask is not None:
        update = _cleared(update, mask)
    return _put(update, at, total.mul_(share).neg_())


def _largest(delta: Tensor) -> Tensor:
    """The largest size of an entry, ``(..., 1)``."""
    if holds_values(delta):
        return torch.linalg.vector_norm(delta, torch.inf, -1, keepdim=True)
    # Without values vector_norm raises for empty batches.
    return delta.abs().amax(-1, keepdim=True)


def _negative_part(delta: Tensor) -> Tensor:
    """``min(delta, 0)``; in place only in eager code: ``torch.func`` would loop over the batch."""
    return delta.clamp_(max=0) if eager() else delta.clamp(max=0)


def _cleared(update: Tensor, mask: Tensor) -> Tensor:
    """The update, with zero where a category cannot be drawn, also in a row of NaN."""
    return update.masked_fill_(mask, 0) if eager() else update.masked_fill(mask, 0)


def _put(update: Tensor, at: Tensor, value: Tensor) -> Tensor:
    """The update, with ``value`` at the drawn category."""
    return update.scatter_(-1, at, value) if eager() else update.scatter(-1, at, value)


def _projected(
    step: float, grad: Tensor, at: Tensor, probs: Tensor | None, mask: Tensor | None
) -> Tensor:
    """The note's step and the projection, which ignores a constant added to all entries."""
    one = torch.ones((), dtype=grad.dtype, device=grad.device).expand(at.shape)
    stepped = grad.mul(-step).scatter_add_(-1, at, one)
    if mask is not None:
        stepped.masked_fill_(mask, -torch.inf)
    target = project_simplex(stepped)
    if mask is not None:
        target = _cleared(target, mask)
    return target.neg_().scatter_add_(-1, at, one) if probs is None else probs - target
