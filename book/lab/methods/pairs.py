r"""Estimators of several draws, as formulas of draws, losses and derivatives.

The variables are independent: ``n`` draws of ``D`` variables with ``K`` categories.  What a
variable gets of its own derivative is written with ReinMax,
``R(z) g = (pi (g - g_i) - z (<pi, g> - g_i)) / 2`` after a draw of ``i``, and its mean ``F g``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

__all__ = ["PAIRS", "Draws", "dot", "fisher", "other_draws", "reinmax"]


def dot(x: Tensor, y: Tensor) -> Tensor:
    """The inner product over categories, which keeps their axis."""
    return (x * y).sum(-1, keepdim=True)


def fisher(probs: Tensor, grad: Tensor) -> Tensor:
    """``F g``, variable by variable."""
    return probs * (grad - dot(probs, grad))


def reinmax(probs: Tensor, z: Tensor, grad: Tensor) -> Tensor:
    """``R(z) g``, variable by variable."""
    own = dot(z, grad)
    return (probs * (grad - own) - z * (dot(probs, grad) - own)) / 2


@dataclass(frozen=True)
class Draws:
    """Draws, or all outcomes of them.

    Attributes:
        probs: ``(*batch, D, K)``.
        z: ``(S, n, *batch, D, K)``.
        grad: the derivative of the loss at each draw, likewise.
        value: the loss at each draw, ``(S, n, *batch)``.
        chance: of each outcome, ``(S,)``, where these are all.
    """

    probs: Tensor
    z: Tensor
    grad: Tensor
    value: Tensor
    chance: Tensor | None = None


def mean_reinmax(d: Draws) -> Tensor:
    """The mean of ReinMax over the draws."""
    return reinmax(d.probs, d.z, d.grad).mean(1)


def other_draws(d: Draws, coefficient: float = 1.0) -> Tensor:
    """ReinMax of each draw, with the mean derivative of the others as control variate."""
    others = coefficient * (d.grad.sum(1, keepdim=True) - d.grad) / (d.z.shape[1] - 1)
    return (fisher(d.probs, others) + reinmax(d.probs, d.z, d.grad - others)).mean(1)


def _step(d: Draws) -> Tensor:
    """From the second draw to the first."""
    return d.z[:, 0] - d.z[:, 1]


def pair_trapezium(d: Draws) -> Tensor:
    """Each variable's step times half its trapezium."""
    step = _step(d)
    return step * dot(d.grad.sum(1), step) / 4


def _scored(d: Draws, value: Tensor) -> Tensor:
    """The mean over draws of ``(z_s - pi)`` times a value less the mean of the others."""
    draws = d.z.shape[1]
    advantage = (value - value.mean(1, keepdim=True)) * draws / (draws - 1)
    return ((d.z - d.probs) * advantage[..., None, None]).mean(1)


def leave_one_out(d: Draws) -> Tensor:
    """The mean over draws of ``(z_s - pi)`` times the loss less the mean of the other losses."""
    return _scored(d, d.value)


def corrected(d: Draws) -> Tensor:
    """The mean of ReinMax, and the step times half the error of the variable's own trapezium."""
    return leave_one_out(d) - pair_trapezium(d) + mean_reinmax(d)


def _of_others(per_variable: Tensor) -> Tensor:
    """Sum over the other variables."""
    return per_variable.sum(-2, keepdim=True) - per_variable


def second_order(d: Draws) -> Tensor:
    """ReinMax with control variate, the error of the whole trapezium, and what others bring in."""
    step, change = _step(d), d.grad[:, 0] - d.grad[:, 1]
    error = leave_one_out(d) - step * dot(d.grad.sum(1), step).sum(-2, keepdim=True) / 4
    first, second = d.z[:, 0] - d.probs, d.z[:, 1] - d.probs
    cross = first * _of_others(dot(change, first)) - second * _of_others(dot(change, second))
    return error + other_draws(d) + cross / 4


def double_control_variate(d: Draws) -> Tensor:
    """Leave-one-out, each loss corrected by the other draws' derivative, and the mean of that.

    Titsias and Shi's, with the coefficient 1.
    """
    others = (d.grad.sum(1, keepdim=True) - d.grad) / (d.z.shape[1] - 1)
    linear = dot(others, d.z - d.probs).sum((-1, -2))
    return _scored(d, d.value - linear) + fisher(d.probs, d.grad.mean(1))


PAIRS: dict[str, Callable[[Draws], Tensor]] = {
    "ReinMax": mean_reinmax,
    "ReinMax, control variate": other_draws,
    "trapezium": pair_trapezium,
    "leave-one-out": leave_one_out,
    "ReinMax, corrected": corrected,
    "control variate, corrected": second_order,
    "double control variates": double_control_variate,
}
"""The estimators of two draws, by the names of the chapter and in its order."""
