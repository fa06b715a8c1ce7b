r"""Estimators of several draws, by enumeration.

The variables are independent.  Draws and derivatives have the shape ``(..., n, D, K)``: ``n`` draws
of ``D`` variables with ``K`` categories.  What a variable gets of its own derivative is written
with ReinMax, ``R(z) g = (pi (g - g_i) - z (<pi, g> - g_i)) / 2`` after a draw of ``i``, and its
mean ``F g``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from ils import exact

__all__ = [
    "PAIRS",
    "Draws",
    "curvature_table",
    "enumerate_draws",
    "moments",
    "other_draws",
    "reinmax",
    "variables_table",
    "variances",
    "waves",
]


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


# --- estimators ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draws:
    """All outcomes of ``n`` draws.

    Attributes:
        probs: ``(D, K)``.
        z: ``(S, n, D, K)``.
        grad: the derivative of the loss at each draw, likewise.
        value: the loss at each draw, ``(S, n)``.
        chance: of each outcome, ``(S,)``.
    """

    probs: Tensor
    z: Tensor
    grad: Tensor
    value: Tensor
    chance: Tensor


def enumerate_draws(probs: Tensor, loss: exact.Loss, draws: int = 2) -> Draws:
    """All ``(K**D)**draws`` outcomes."""
    z = exact.states(probs, 0).detach().requires_grad_()
    value = loss(z)
    (grad,) = torch.autograd.grad(value.sum(), z)
    place = torch.cartesian_prod(*[torch.arange(len(z))] * draws).reshape(-1, draws)
    chance = (z.detach() * probs).sum(-1).prod(-1)[place].prod(-1)
    return Draws(probs, z.detach()[place], grad[place], value.detach()[place], chance)


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


def leave_one_out(d: Draws) -> Tensor:
    """The step times half the difference of the losses."""
    rise = d.value[:, 0] - d.value[:, 1]
    return _step(d) * rise[:, None, None] / 2


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
    """Leave-one-out, each loss corrected by the other draw's derivative, and the mean of that.

    Titsias and Shi's, with the coefficient 1.
    """
    away = d.z - d.probs
    cross = dot(d.grad[:, 0], away[:, 1]) - dot(d.grad[:, 1], away[:, 0])
    change = _step(d) * cross.sum(-2, keepdim=True) / 2
    return leave_one_out(d) + change + fisher(d.probs, d.grad.mean(1))


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


def moments(d: Draws, estimate: Tensor) -> tuple[Tensor, Tensor]:
    """The mean, ``(D, K)``, and the variance, summed over entries, of each variable, ``(D,)``."""
    mean = torch.einsum("s,sdk->dk", d.chance, estimate)
    return mean, torch.einsum("s,sdk->d", d.chance, (estimate - mean) ** 2)


def variances(probs: Tensor, loss: exact.Loss) -> dict[str, float]:
    """The variance of each of :data:`PAIRS`, summed over all entries."""
    d = enumerate_draws(probs, loss)
    return {name: float(moments(d, formula(d))[1].sum()) for name, formula in PAIRS.items()}


# --- tables of the figure ------------------------------------------------------------------------


def waves(
    variables: int, categories: int, curvature: float, generator: torch.Generator
) -> tuple[Tensor, exact.Loss]:
    """Random logits, ``(D, K)``, and a loss: eight sine waves, linear as the curvature vanishes."""
    shape = (variables, categories)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64)
    inner = torch.randn(*shape, 8, generator=generator, dtype=torch.float64)
    start, outer = torch.randn(2, 8, generator=generator, dtype=torch.float64)

    def loss(z: Tensor) -> Tensor:
        wave = (curvature * torch.einsum("sdk,dkj->sj", z, inner) + start).sin()
        return wave @ outer / curvature

    return logits, loss


def _medians(
    cases: dict[float, tuple[int, int, float]], losses: int, seed: int, axis: str
) -> pd.DataFrame:
    rows = []
    for at, (variables, categories, curvature) in cases.items():
        generator = torch.Generator().manual_seed(seed)
        for _ in range(losses):
            logits, loss = waves(variables, categories, curvature, generator)
            length = float((exact.gradient(loss, logits) ** 2).sum())
            found = variances(logits.softmax(-1), loss)
            rows += [(at, name, value / length) for name, value in found.items()]
    table = pd.DataFrame(rows, columns=[axis, "estimator", "variance"])
    return table.groupby([axis, "estimator"], as_index=False)["variance"].median()


def curvature_table(categories: int = 4, losses: int = 50, seed: int = 1) -> pd.DataFrame:
    """One variable: the median over random losses of the variance over the squared gradient.

    Returns:
        Columns ``curvature``, ``estimator``, ``variance``.
    """
    sizes = torch.logspace(-1.5, 0.5, 7, dtype=torch.float64).tolist()
    return _medians({c: (1, categories, c) for c in sizes}, losses, seed, "curvature")


def variables_table(
    sizes: tuple[int, ...] = (1, 2, 3, 4, 5),
    curvature: float = 0.2,
    losses: int = 50,
    seed: int = 1,
) -> pd.DataFrame:
    """Variables of two categories that act on each other; the same median.

    Returns:
        Columns ``variables``, ``estimator``, ``variance``.
    """
    return _medians({d: (d, 2, curvature) for d in sizes}, losses, seed, "variables")
