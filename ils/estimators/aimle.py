"""Adaptive I-MLE: the step is found from how often it changes anything."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ils.checks import check_positive
from ils.estimators.estimator import Estimator, Formula
from ils.estimators.evaluation import Loss, event_sum, like_draws, value_and_gradient
from ils.estimators.randomness import Gumbel
from ils.relaxation import hardened, levelled

__all__ = ["AdaptiveStep", "adaptive_implicit_mle"]


@dataclass
class AdaptiveStep:
    """The relative step of adaptive I-MLE, raised while estimates change less than ``target``.

    Attributes:
        value: ``beta``, the length of the step over that of the logits.
        update: by how much a call changes it.
        target: wanted number of entries that are not zero, an estimate.
        decay: weight of the past in the running number of such entries.
        changes: that running number.
    """

    value: float = 1.0
    update: float = 1e-3
    target: float = 1.0
    decay: float = 0.9
    changes: float = 1.0

    def observe(self, estimates: Tensor, count: int) -> None:
        """Take in the ``count`` estimates of a call; entries that are not finite say nothing."""
        if count == 0:
            return
        found = float(estimates.nan_to_num(0, 0, 0).count_nonzero()) / count
        self.changes = self.decay * self.changes + (1 - self.decay) * found
        self.value += self.update if self.changes < self.target else -self.update
        self.value = max(self.value, 0.0)


@dataclass(frozen=True)
class _Adaptive(Estimator):
    step: AdaptiveStep = field(hash=False)

    def _learn(self, estimates: Tensor, values: Tensor) -> None:
        self.step.observe(estimates, values.numel())


class _Raw(Formula):
    """The length of the logits is that of the logits as they are given."""

    def _prepared(self, logits: Tensor) -> Tensor:
        return logits


def _length(x: Tensor, values: Tensor) -> Tensor:
    """Euclidean length over variables and categories, of the shape of the values.

    Taken in units of a power of two, which is exact, so that no square overflows.
    """
    rows = x.flatten(values.dim())
    if rows.shape[-1] == 0:
        return torch.zeros_like(values)
    exponent = rows.abs().amax(-1, keepdim=True).frexp().exponent.clamp(-120, 120)
    unit = torch.ldexp(torch.ones_like(rows[..., :1]), exponent)
    return event_sum((rows / unit) ** 2, values).sqrt() * unit.squeeze(-1)


def _formula(
    logits: Tensor, noise: Tensor, loss: Loss, *, step: AdaptiveStep, symmetric: bool
) -> Tensor:
    level = levelled(logits)
    z = hardened(level + noise)
    losses, grad = value_and_gradient(loss, z, logits)
    # A masked category counts in neither length.
    mask = logits.isneginf().expand_as(z)
    known, grad = logits.expand_as(z).masked_fill(mask, 0), grad.masked_fill(mask, 0)
    slope = _length(grad, losses)
    length = _length(known, losses) / slope
    # A loss that is flat at the draw gives the estimate zero.
    scale = like_draws(step.value * length.masked_fill(slope == 0, 0), z)
    left = hardened(level + scale * grad + noise) if symmetric else z
    right = hardened(level - scale * grad + noise)
    divisor = 2 * scale if symmetric else scale
    return torch.where(divisor != 0, (left - right) / divisor, torch.zeros_like(z))


def adaptive_implicit_mle(
    *, initial_step: float = 1.0, update: float = 1e-3, symmetric: bool = True
) -> Estimator:
    r"""Adaptive I-MLE: ``[a(theta + lambda g) - a(theta - lambda g)] / (2 lambda)``.

    ``a(x) = onehot argmax(x + G)`` with the Gumbel noise of the draw.  The step is relative:
    ``lambda = beta |theta| / |g|``, here with the norms of one draw and problem, so that
    draws do not interact.  After a call ``beta`` rises by ``update`` if its estimates had fewer
    than one non-zero entry on (running) average, and falls else; the estimator holds it in
    its attribute ``step``.

    *Approximates* the gradient of ``E[L]`` *with* the difference between two models a step away to
    either side; *requires* the derivative of the loss; **biased**.  One evaluation an estimate.

    Args:
        initial_step: ``beta > 0`` at first, without unit.
        update: change of ``beta`` a call.
        symmetric: step to both sides; else from the draw to one side, as in I-MLE.

    Returns:
        An :class:`Estimator`: ``(D, *logits.shape)`` for logits ``(*batch, *variables, K)``.

    Raises:
        TypeError, ValueError: ``initial_step`` or ``update`` is not a positive finite number; at a
            call, as :class:`Estimator`.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> generator = torch.Generator().manual_seed(0)
        >>> estimator = ils.estimators.adaptive_implicit_mle()
        >>> estimator(torch.zeros(3), loss, draws=5, generator=generator).shape
        torch.Size([5, 3])

    Source: Minervini, Franceschi and Niepert (2023), and the authors' published code.
    """
    check_positive("initial_step", initial_step)
    check_positive("update", update)
    step = AdaptiveStep(value=float(initial_step), update=float(update))

    return _Adaptive(
        name="adaptive I-MLE",
        formula=_Raw(_formula, step=step, symmetric=symmetric),
        randomness=Gumbel(),
        evaluations=1,
        biased=True,
        differentiates=True,
        step=step,
    )
