"""Finite steps: bias and noise over the step size, and over the map back to the support.

The step is ``z - alpha M g`` with ``M`` as in :mod:`ils.velocity`; the estimate is the difference
of the statistics ``z`` and ``z^2`` before and after, over ``alpha``, times the matrix that makes
its limit the velocity.  The unit of ``alpha`` is such that at 1 a draw moves by about its standard
deviation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ils.intermediate import unconstrained
from lab.beyond.families.methods import Place, place
from lab.beyond.families.settings import SETTINGS, make_losses

__all__ = ["STEPS", "STUDIED", "VARIANTS", "by_step"]

STUDIED = ("Poisson(.5)", "Poisson(4)", "gamma(3, 1), shape", "beta(2, 4), first")
STEPS = tuple(10 ** (k / 4) for k in range(-12, 5))
VARIANTS = ("stop at the bounds", "round at random", "unconstrained", "not centred")


def _metric(where: Place) -> Tensor:
    """Half the mean square of the jumps, or the diffusion, ``(S,)``, of mean variance."""
    z, family = where.z.squeeze(-1), where.setting.family
    if family == "Poisson":
        return (where.centre + z) / 2
    shape = {"gamma": z, "beta": z * (1 - z)}[family]
    return shape * where.spread**2 / (where.at.weights @ shape)


def _statistics(z: Tensor, discrete: bool) -> Tensor:
    return z.unsqueeze(-1) if discrete else torch.stack([z, z**2], -1)


def _outcomes(
    where: Place, stepped: Tensor, variant: str, step: Tensor
) -> list[tuple[Tensor, Tensor | float]]:
    """The points at which a step may end, with their probabilities."""
    support: Any = where.setting.make().support
    low, high = getattr(support, "lower_bound", 0.0), getattr(support, "upper_bound", torch.inf)
    if variant == "unconstrained":
        move = unconstrained(support)
        return [(move(where.z.squeeze(-1).expand_as(step), step), 1.0)]
    inside = stepped.clamp(low, high)
    if variant != "round at random":
        return [(inside, 1.0)]
    part = inside - inside.floor()
    return [(inside.floor(), 1 - part), (inside.floor() + 1, part)]


def _measure(where: Place, gradients: Tensor, alpha: float, variant: str) -> tuple[Tensor, Tensor]:
    """Mean and variance of the estimate, ``(I,)``."""
    z, w, score = where.z.squeeze(-1), where.at.weights, where.score.squeeze(-1)
    metric = _metric(where)
    before = _statistics(z, where.discrete)
    bend = torch.ones_like(before)
    if not where.discrete:
        bend[:, 1] = 2 * z
    # For counts the mean square of jumps stands for the slope of the statistic.
    energy = torch.einsum("s,s,sp,sq->pq", w, metric, bend, bend)
    factor = torch.linalg.solve(energy, torch.einsum("s,s,sp->p", w, score, before))
    step = alpha * metric * gradients
    first, second = torch.zeros_like(gradients), torch.zeros_like(gradients)
    for end, chance in _outcomes(where, z - step, variant, step):
        change = before - _statistics(end, where.discrete)
        if variant == "not centred":
            change = w @ before - _statistics(end, where.discrete)
        found = change @ factor / alpha
        first, second = first + chance * found, second + chance * found**2
    mean = first @ w
    return mean, second @ w - mean**2


def by_step(
    titles: Sequence[str] = STUDIED, steps: Sequence[float] = STEPS, kind: str = "network"
) -> pd.DataFrame:
    """Index (setting, variant, step), columns ``bias`` and ``noise`` in units of the gradient.

    Args:
        titles: of settings of Poisson, gamma and beta.
        steps: sizes.
        kind: of the losses.
    """
    rows: dict[tuple[str, str, float], dict[str, float]] = {}
    for setting in SETTINGS:
        if setting.title not in titles:
            continue
        where = place(setting)
        losses = make_losses(kind, where.centre, where.spread)
        values, gradients = losses.values(where.z), losses.gradients(where.z).squeeze(-1)
        exact = torch.einsum("s,s,is->i", where.at.weights, where.score.squeeze(-1), values)
        size = (exact**2).mean().sqrt()
        for variant in VARIANTS:
            # Rounding is for counts, and a coordinate without bounds for what has some inside.
            if variant == ("unconstrained" if where.discrete else "round at random"):
                continue
            for alpha in steps:
                mean, variance = _measure(where, gradients, alpha, variant)
                bias = ((mean - exact) ** 2).mean().sqrt() / size
                noise = variance.clamp(min=0).mean().sqrt() / size
                rows[(setting.title, variant, alpha)] = {"bias": float(bias), "noise": float(noise)}
    index = pd.MultiIndex.from_tuples(rows, names=["setting", "variant", "step"])
    return pd.DataFrame(list(rows.values()), index=index)
