"""SPIGOT: a projected step from the likeliest category."""

from __future__ import annotations

from torch import Tensor

from ils.checks import check_positive
from ils.estimators.estimator import Estimator, Formula
from ils.estimators.evaluation import Loss, value_and_gradient
from ils.estimators.randomness import Deterministic
from ils.relaxation import hardened
from ils.simplex import project_simplex

__all__ = ["at_argmax", "spigot"]


def at_argmax(logits: Tensor, noise: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """The likeliest category, one-hot, for each entry of the noise, and ``dL/dz`` there."""
    top = hardened(logits).expand(len(noise), *logits.shape)
    return top, value_and_gradient(loss, top, logits)[1]


def _formula(
    logits: Tensor, noise: Tensor, loss: Loss, *, step_size: float, per_step: bool
) -> Tensor:
    top, grad = at_argmax(logits, noise, loss)
    stepped = (top - step_size * grad).masked_fill(logits.isneginf(), -float("inf"))
    estimate = top - project_simplex(stepped)
    return estimate / step_size if per_step else estimate


def spigot(*, step_size: float, per_step: bool = False) -> Estimator:
    r"""SPIGOT: ``e - mu``, ``mu = project(e - gamma g(e))``, ``e`` the likeliest category.

    The projection is the Euclidean one onto the simplex.  The centred, projected ILS estimate
    with the likeliest category in place of a draw.

    *Approximates* the gradient of ``L`` at the most likely category, not of ``E[L]``, *with* a
    target one projected step away; *requires* the derivative of the loss; **biased**.  Nothing is
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
        >>> estimator = ils.estimators.spigot(step_size=0.5)
        >>> ils.exact.moments(estimator, loss, torch.tensor([0.0, 0.5, 1.0])).bias
        tensor([ 0.5873,  1.6954, -2.2826])

    Source: Peng, Thomson and Smith (2018); Mihaylova, Niculae and Martins (2020), and their
    published code.
    """
    check_positive("step_size", step_size)

    return Estimator(
        name="SPIGOT",
        formula=Formula(_formula, step_size=step_size, per_step=per_step),
        randomness=Deterministic(),
        evaluations=1,
        biased=True,
        differentiates=True,
    )
