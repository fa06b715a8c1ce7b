"""SPIGOT-CE: a projected step from the mean."""

from __future__ import annotations

from torch import Tensor

from ils.checks import check_positive
from ils.estimators.estimator import Estimator, Formula
from ils.estimators.evaluation import Loss, value_and_gradient
from ils.estimators.randomness import Deterministic
from ils.simplex import project_simplex

__all__ = ["at_mean", "spigot_ce"]


def at_mean(logits: Tensor, noise: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """The mean ``pi`` for each entry of the noise, and the derivative of the loss there."""
    probs = logits.softmax(-1).expand(len(noise), *logits.shape)
    return probs, value_and_gradient(loss, probs, logits)[1]


def _formula(
    logits: Tensor, noise: Tensor, loss: Loss, *, step_size: float, per_step: bool
) -> Tensor:
    probs, grad = at_mean(logits, noise, loss)
    stepped = (probs - step_size * grad).masked_fill(logits.isneginf(), -float("inf"))
    estimate = probs - project_simplex(stepped)
    return estimate / step_size if per_step else estimate


def spigot_ce(*, step_size: float, per_step: bool = False) -> Estimator:
    r"""SPIGOT-CE: ``pi - mu``, ``mu = project(pi - gamma g(pi))``.

    The gradient for the logits of the cross-entropy between the target ``mu`` and ``pi``.

    *Approximates* the gradient of ``E[L]`` *with* a target one projected step away from the mean;
    *requires* the derivative of the loss at ``pi``, inside the simplex; **biased**.  Nothing is
    random.  One evaluation an estimate.

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
        >>> estimator = ils.estimators.spigot_ce(step_size=0.5)
        >>> ils.exact.moments(estimator, loss, torch.zeros(3)).bias
        tensor([ 1.3333,  1.3333, -2.6667])

    Source: Mihaylova, Niculae and Martins (2020), and their published code, which takes the
    derivative at ``pi``.
    """
    check_positive("step_size", step_size)

    return Estimator(
        name="SPIGOT-CE",
        formula=Formula(_formula, step_size=step_size, per_step=per_step),
        randomness=Deterministic(),
        evaluations=1,
        biased=True,
        differentiates=True,
    )
