r"""How the gradient at a draw becomes a gradient for the logits: the backward pass, as formulas.

A :class:`Rule` is a choice of options; :func:`estimate` applies it to a gradient ``g`` at a draw
of category ``i``.  With ``Delta = M J_h(z)^T g`` (:func:`ils.target.direction`) it is one of

.. math::

    \tfrac12 J_h(z) \Delta, \qquad
    \frac{s}{\alpha} \bigl(z - h(z - \tfrac{\alpha}{s} \Delta)\bigr),\; s = \max_k |\Delta_k|,
    \qquad \pi - h(z - \alpha \Delta) \;\text{ or }\; z - h(z - \alpha \Delta):

the limit of small steps, a step relative to the gradient, and the note's.  The first two are
homogeneous in ``g``: a loss twice as large gives an update twice as large.  Nothing here draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ils.checks import check_positive, check_same_shape, eager, holds_values
from ils.metric import euclidean, fisher
from ils.simplex import Normalizer, project_simplex, sum_normalize, sum_normalize_unclamped
from ils.target import direction, intermediate_target, logits_gradient

__all__ = ["Rule", "check_rule", "estimate", "fisher_limit"]


class Rule(NamedTuple):
    """The options of :func:`ils.sample` that choose the gradient."""

    step_size: float | None
    metric: Callable[[Tensor, Tensor], Tensor]
    normalizer: Callable[[Tensor], Tensor]
    centred: bool
    relative: bool
    keep_mass: bool

    def needs_probs(self) -> bool:
        """Whether the estimate depends on the distribution, or on the draw alone."""
        return not self.centred or self.metric is not euclidean

    def needs_mask(self) -> bool:
        """Whether a probability of zero does not by itself mean an update of zero."""
        return self.metric is not fisher or not _divides_by_sum(self.normalizer)


def _divides_by_sum(normalizer: Callable[[Tensor], Tensor]) -> bool:
    return normalizer is sum_normalize or normalizer is sum_normalize_unclamped


def check_rule(rule: Rule, categories: int, like: Tensor) -> None:
    """Refuse options that name no gradient: see the errors of :func:`ils.sample`."""
    step_size, metric, normalizer = rule[:3]
    if step_size is not None:
        check_positive("step_size", step_size)
    if not callable(metric):
        raise TypeError(f"metric: expected a function, got {type(metric).__name__}")
    if not rule.centred and (step_size is None or rule.relative):
        raise ValueError(
            "centred=False: expected relative=False and a step_size; the term pi - z that it "
            "keeps does not shrink with the gradient"
        )
    if not callable(normalizer):
        raise TypeError(f"normalizer: expected a function, got {type(normalizer).__name__}")
    if step_size is None:
        # The limit of small steps is one, whatever these say.
        given = isinstance(normalizer, Normalizer)
        for option, without_effect in (
            (f"normalizer={normalizer}" if given else "a normalizer of one's own",
             normalizer is not sum_normalize),
            ("relative=False", not rule.relative),
            ("keep_mass=True", rule.keep_mass),
        ):  # fmt: skip
            if without_effect:
                raise ValueError(f"step_size: expected a number for {option}, got None")
    if isinstance(normalizer, Normalizer):
        return
    # The first and the last corner stand for all: a full identity would be K x K.
    corners = torch.zeros(2, categories, dtype=like.dtype, device=like.device)
    corners[0, 0] = corners[1, -1] = 1
    mapped = normalizer(corners)
    check_same_shape("normalizer: its output", mapped, corners)
    if holds_values(mapped) and not torch.allclose(mapped, corners, atol=1e-3):
        raise ValueError(
            "normalizer: expected h(z) = z for every one-hot z, got a largest difference of "
            f"{(mapped - corners).abs().max():.3g}"
        )


def estimate(
    rule: Rule,
    grad: Tensor,
    at: Tensor,
    probs: Tensor | None,
    mask: Tensor | None,
    *,
    look: bool = False,
) -> Tensor:
    r"""The gradient for the logits.

    Args:
        rule: the options, as :func:`check_rule` accepts them.
        grad: ``g``, the gradient at the draws, ``(..., K)``.
        at: the drawn categories, ``(..., 1)``.
        probs: ``pi``, broadcasting to ``(..., K)``; None where :meth:`Rule.needs_probs` is false.
        mask: true where a category cannot be drawn, broadcasting to ``(..., K)``; None if there
            is none, or where :meth:`Rule.needs_mask` is false.
        look: whether values may be looked at to spare a pass: in eager code, on a CPU.

    Returns:
        ``(..., K)``, in the units of ``g``, or without unit for the note's form.
    """
    step = rule.step_size
    if step is not None and not isinstance(step, float):
        step = float(step)
    if step is None and rule.metric is fisher and probs is not None:
        return fisher_limit(grad, at, probs, look)
    if probs is not None and not rule.needs_mask():
        mask = probs == 0
    plain = rule.metric in (euclidean, fisher) and not rule.keep_mass
    if step is not None and rule.normalizer is sum_normalize and plain:
        return _sum_normalized(rule, step, grad, at, probs, mask)
    grad = _at_least_float32(grad)
    if probs is not None and probs.dtype != grad.dtype:
        probs = probs.to(grad.dtype)
    if step is None:
        z = _one_hot(at, grad)
        return direction(z, grad, metric=rule.metric, probs=probs, keep_mass=True, mask=mask) / 2
    if rule.normalizer is project_simplex and rule.metric is euclidean and not rule.relative:
        return _projected(step, grad, at, None if rule.centred else probs, mask)
    return _general(rule, step, grad, at, probs, mask)


def _at_least_float32(grad: Tensor) -> Tensor:
    return grad.float() if grad.dtype in (torch.float16, torch.bfloat16) else grad


def fisher_limit(grad: Tensor, at: Tensor, probs: Tensor, look: bool) -> Tensor:
    """``pi_k (g_k - g_i) / 2``, and minus their sum for the drawn category ``i``."""
    # Of the half types, a column in float32 takes the rest along; no copy of the whole is made.
    half = _at_least_float32(grad.gather(-1, at)).mul_(-0.5)
    moved = torch.add(half, grad, alpha=0.5).mul_(probs)
    if not look:
        moved = torch.where(probs == 0, 0, moved)
    total = moved.sum(-1, keepdim=True)
    # A gradient that is not finite must not reach a category that cannot be drawn.
    if look and not math.isfinite(float(total.sum())):
        return fisher_limit(grad, at, probs, look=False)
    return _put(moved, at, total.neg_())


def _sum_normalized(
    rule: Rule, step: float, grad: Tensor, at: Tensor, probs: Tensor | None, mask: Tensor | None
) -> Tensor:
    """The target is in proportion to ``c = s / alpha`` for the draw, ``(-Delta_k)_+`` elsewhere."""
    drawn = _at_least_float32(grad.gather(-1, at))  # takes the rest along, as above
    delta = grad - drawn
    if probs is not None and rule.metric is fisher:
        delta.mul_(probs)
    if mask is not None:
        delta = _cleared(delta, mask)
    # Everything below is in place: fresh memory would cost more than the arithmetic.
    if probs is not None and not rule.centred:
        # pi - pi_D: the drawn category, whose gain is zero, takes c = 1 / alpha.
        lost = _negative_part(delta)
        share = (1 / step - lost.sum(-1, keepdim=True)).reciprocal_()
        update = lost.mul_(share)
        if mask is not None:
            update = _cleared(update, mask)
        return update.add_(probs).scatter_add_(-1, at, share.mul_(-1 / step))
    if rule.relative:
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
    # The norm refuses empty batches where there are no values.
    return delta.abs().amax(-1, keepdim=True)


def _negative_part(delta: Tensor) -> Tensor:
    """``min(delta, 0)``; the transforms of ``torch.func`` loop over what is done in place."""
    return delta.clamp_(max=0) if eager() else delta.clamp(max=0)


def _cleared(update: Tensor, mask: Tensor) -> Tensor:
    """Zero where a category cannot be drawn, whatever the rest of the row is."""
    return update.masked_fill_(mask, 0) if eager() else update.masked_fill(mask, 0)


def _put(update: Tensor, at: Tensor, value: Tensor) -> Tensor:
    """The update with a value for the drawn category."""
    return update.scatter_(-1, at, value) if eager() else update.scatter(-1, at, value)


def _one_hot(at: Tensor, like: Tensor) -> Tensor:
    return torch.zeros_like(like).scatter(-1, at, 1)


def _projected(
    step: float, grad: Tensor, at: Tensor, probs: Tensor | None, mask: Tensor | None
) -> Tensor:
    """The note's step and the projection, which ignores what is added to all entries."""
    one = torch.ones((), dtype=grad.dtype, device=grad.device).expand(at.shape)
    stepped = grad.mul(-step).scatter_add_(-1, at, one)
    if mask is not None:
        stepped.masked_fill_(mask, -torch.inf)
    target = project_simplex(stepped)
    if mask is not None:
        target = _cleared(target, mask)
    return target.neg_().scatter_add_(-1, at, one) if probs is None else probs - target


def _general(
    rule: Rule, step: float, grad: Tensor, at: Tensor, probs: Tensor | None, mask: Tensor | None
) -> Tensor:
    """The formulas of :mod:`ils.target`, for any normaliser and metric."""
    z = _one_hot(at, grad)
    if mask is not None:
        # A given draw can have a probability that underflows to zero: it is still where we are.
        mask = mask & (z == 0)
    options: dict[str, Any] = {
        "normalizer": rule.normalizer,
        "metric": rule.metric,
        "probs": probs if probs is None else probs.expand_as(grad),
        "keep_mass": rule.keep_mass,
        "mask": mask,
    }
    size: float | Tensor = step
    if rule.relative:
        scale = direction(z, grad, **options).abs().amax(-1, keepdim=True)
        # Of this least size, so that its inverse is finite: a gradient can be zero or subnormal.
        size = (scale / step).clamp(min=torch.finfo(scale.dtype).tiny).reciprocal()
    target = intermediate_target(z, grad, step_size=size, **options)
    update = z - target
    if probs is not None and not rule.centred:
        update = logits_gradient(target, probs, z)
    elif isinstance(rule.normalizer, Normalizer):
        # 1 - pi_D would lose the digits of a small step: the draw loses what the others gain.
        gained = target.scatter(-1, at, 0).sum(-1, keepdim=True)
        update = update.scatter(-1, at, gained)
    if rule.relative:
        update = update / size
    return update if mask is None else update.masked_fill(mask, 0)
