"""The estimators of :mod:`lab.methods.pairs` by enumeration: means, variances, and their tables."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from ils import exact
from lab.methods.pairs import PAIRS, Draws

__all__ = [
    "curvature_table",
    "enumerate_draws",
    "moments",
    "variables_table",
    "variances",
    "waves",
]


def enumerate_draws(probs: Tensor, loss: exact.Loss, draws: int = 2) -> Draws:
    """All ``(K**D)**draws`` outcomes."""
    z = exact.states(probs, 0).detach().requires_grad_()
    value = loss(z)
    (grad,) = torch.autograd.grad(value.sum(), z)
    place = torch.cartesian_prod(*[torch.arange(len(z))] * draws).reshape(-1, draws)
    chance = (z.detach() * probs).sum(-1).prod(-1)[place].prod(-1)
    return Draws(probs, z.detach()[place], grad[place], value.detach()[place], chance)


def moments(d: Draws, estimate: Tensor) -> tuple[Tensor, Tensor]:
    """The mean, ``(D, K)``, and the variance, summed over entries, of each variable, ``(D,)``."""
    assert d.chance is not None
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
