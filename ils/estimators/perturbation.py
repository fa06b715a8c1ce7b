"""A second most likely category, for changed logits: I-MLE, blackbox, identity."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ils.checks import check_positive
from ils.estimators.estimator import Estimator, Formula, biased, documented
from ils.estimators.evaluation import Loss, event_sum, like_draws, value_and_gradient
from ils.estimators.intermediate import at_argmax
from ils.estimators.randomness import Deterministic, Gumbel
from ils.relaxation import hardened, levelled
from ils.rules import Identity

__all__ = ["AdaptiveStep", "adaptive_implicit_mle", "blackbox", "identity", "implicit_mle"]


def _imle(logits: Tensor, noise: Tensor, loss: Loss, *, step_size: float) -> Tensor:
    z = hardened(logits + noise)
    _, grad = value_and_gradient(loss, z, logits)
    return (z - hardened(logits - step_size * grad + noise)) / step_size


@documented
def implicit_mle(*, step_size: float) -> Estimator:
    r"""I-MLE: ``[a(theta) - a(theta - lambda g)] / lambda``, ``a(x) = onehot argmax(x + G)``.

    ``z = a(theta)`` is the draw.  The target has the logits ``theta - lambda g(z)``, with the
    same Gumbel noise: for one categorical variable its perturb-and-MAP draw is exact.

    *Approximates* the gradient of ``E[L]`` *with* the difference between the model and a target one
    step away in the logits; *requires* the derivative of the loss; **biased**.  One evaluation an
    estimate.

    Args:
        step_size: ``lambda > 0``, in units of one over the gradient of the loss.  The published
            code does not divide by it.

    Raises:
        TypeError, ValueError: ``step_size`` is not a positive finite number.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> generator = torch.Generator().manual_seed(0)
        >>> estimator = ils.estimators.implicit_mle(step_size=0.5)
        >>> estimator(torch.zeros(3), loss, draws=5, generator=generator).shape
        torch.Size([5, 3])

    Source: Niepert, Minervini and Franceschi (2021), and the authors' published code.
    """
    check_positive("step_size", step_size)
    return biased("I-MLE", Gumbel(), _imle, step_size=step_size)


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
        """Update from the ``count`` estimates of a call; entries not finite are ignored."""
        if count == 0:
            return
        nonzero = float(estimates.nan_to_num(0, 0, 0).count_nonzero()) / count
        self.changes = self.decay * self.changes + (1 - self.decay) * nonzero
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


def _aimle(
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


@documented
def adaptive_implicit_mle(
    *, initial_step: float = 1.0, update: float = 1e-3, symmetric: bool = True
) -> Estimator:
    r"""Adaptive I-MLE: ``[a(theta + lambda g) - a(theta - lambda g)] / (2 lambda)``.

    ``a(x) = onehot argmax(x + G)`` with the Gumbel noise of the draw.  The step is relative:
    ``lambda = beta |theta| / |g|``, here with the norms of one draw and problem, so that
    draws do not interact.  After a call ``beta`` rises by ``update`` if its estimates had fewer
    than one non-zero entry on (running) average, and falls otherwise; the estimator keeps it in
    its attribute ``step``.

    *Approximates* the gradient of ``E[L]`` *with* the difference between two models a step away to
    either side; *requires* the derivative of the loss; **biased**.  One evaluation an estimate.

    Args:
        initial_step: ``beta > 0`` at first, without unit.
        update: change of ``beta`` a call.
        symmetric: step to both sides; else from the draw to one side, as in I-MLE.

    Raises:
        TypeError, ValueError: ``initial_step`` or ``update`` is not a positive finite number.

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
        formula=_Raw(_aimle, step=step, symmetric=symmetric),
        randomness=Gumbel(),
        evaluations=1,
        biased=True,
        differentiates=True,
        step=step,
    )


def _blackbox(logits: Tensor, noise: Tensor, loss: Loss, *, step_size: float) -> Tensor:
    top, grad = at_argmax(logits, noise, loss)
    return (top - hardened(logits - step_size * grad)) / step_size


@documented
def blackbox(*, step_size: float) -> Estimator:
    r"""Blackbox: ``[a(theta) - a(theta - lambda g)] / lambda`` with ``a(x) = onehot argmax(x)``.

    ``g`` is the derivative of the loss at ``a(theta)``.  The estimate is the gradient of a
    piecewise linear interpolation of the loss as a function of the logits.
    I-MLE without noise.

    *Approximates* the gradient of ``L`` at the most likely category, not of ``E[L]``; *requires*
    the derivative of the loss; **biased**.  Nothing is random.  One evaluation an estimate.

    Args:
        step_size: ``lambda > 0``, in units of one over the gradient of the loss.

    Raises:
        TypeError, ValueError: ``step_size`` is not a positive finite number.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.blackbox(step_size=0.5)
        >>> ils.exact.moments(estimator, loss, torch.tensor([0.0, 0.5, 1.0])).bias
        tensor([-0.4127,  1.6954, -1.2826])

    Source: Vlastelica et al. (2020), there for a minimum in place of a maximum.
    """
    check_positive("step_size", step_size)
    return biased("blackbox", Deterministic(), _blackbox, step_size=step_size)


def _identity(logits: Tensor, noise: Tensor, loss: Loss) -> Tensor:
    top, grad = at_argmax(logits, noise, loss)
    return Identity().gradient(grad, top, logits)


@documented
def identity() -> Estimator:
    r"""Identity: ``g - mean(g)`` at the likeliest category.

    Forward the argmax, backward its derivative replaced by the identity and projected onto the
    changes of the logits that matter (a constant added to all does not).

    *Approximates* the gradient of ``L`` at the most likely category, not of ``E[L]``; *requires*
    the derivative of the loss; **biased**.  Nothing is random.  One evaluation an estimate.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.identity()
        >>> ils.exact.moments(estimator, loss, torch.zeros(3)).bias
        tensor([-0.6667,  0.3333,  0.3333])

    Source: Sahoo et al. (2023), with the projection onto the mean-free cost vectors.
    """
    return biased("identity", Deterministic(), _identity)
