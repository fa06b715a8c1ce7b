"""SPIGOT-EG: a multiplicative step from the mean."""

from __future__ import annotations

from torch import Tensor

from ils.checks import check_positive
from ils.estimators.estimator import Estimator, Formula
from ils.estimators.evaluation import Loss
from ils.estimators.randomness import Deterministic
from ils.estimators.spigot_ce import at_mean

__all__ = ["spigot_eg"]


def _formula(
    logits: Tensor, noise: Tensor, loss: Loss, *, step_size: float, per_step: bool
) -> Tensor:
    probs, grad = at_mean(logits, noise, loss)
    estimate = probs - (logits - step_size * grad).softmax(-1)
    return estimate / step_size if per_step else estimate


def spigot_eg(*, step_size: float, per_step: bool = False) -> Estimator:
    r"""SPIGOT-EG: ``pi - mu``, ``mu = softmax(log pi - gamma g(pi))``.

    An exponentiated-gradient step in place of SPIGOT-CE's projected one.  Divided by ``gamma`` it
    tends to ``J g(pi)`` for ``gamma -> 0``: straight-through with the derivative at the mean.

    *Approximates* the gradient of ``E[L]`` *with* a target one multiplicative step away from the
    mean; *requires* the derivative of the loss at ``pi``, inside the simplex; **biased**.  Nothing
    is random.  One evaluation an estimate.

    Args:
        step_size: ``gamma > 0``, in units of one over the gradient of the loss.
        per_step: divide by ``gamma``: the estimate then has the units of the loss.  The target
            is held to the rounding of 1, which is divided too: a step must not be as short.

    Returns:
        An :class:`Estimator`: ``(D, *logits.shape)`` for logits ``(*batch, *variables, K)``.

    Raises:
        TypeError, ValueError: ``step_size`` is not a positive finite number; at a call, as
            :class:`Estimator`.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.spigot_eg(step_size=0.5)
        >>> ils.exact.moments(estimator, loss, torch.zeros(3)).bias
        tensor([ 1.4225,  1.2450, -2.6675])

    Source: Mihaylova, Niculae and Martins (2020), and their published code.
    """
    check_positive("step_size", step_size)

    return Estimator(
        name="SPIGOT-EG",
        formula=Formula(_formula, step_size=step_size, per_step=per_step),
        randomness=Deterministic(),
        evaluations=1,
        biased=True,
        differentiates=True,
    )
