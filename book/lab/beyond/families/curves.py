"""Velocities as functions of the draw, for the figures of the chapter."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch

from lab.beyond.families.fields import flow, galerkin, pathwise
from lab.beyond.families.methods import Place, measure_field, place, velocities
from lab.beyond.families.settings import KINDS, SETTINGS, make_losses

__all__ = ["TITLES", "curves", "own_statistics"]

TITLES = (
    "Poisson(4)",
    "neg. binomial(3, .5), r",
    "gamma(.5, 1), shape",
    "gamma(3, 1), shape",
    "beta(2, 4), first",
    "von Mises(0, 1), kappa",
)
_POINTS = 300


def _exact(where: Place) -> torch.Tensor:
    score = where.score.squeeze(-1)
    if not where.discrete:
        return pathwise(where.at, score)
    # Half of the flow to the next state, half of that from the one before: the trapezium rule.
    passed = flow(where.at, score)
    before = torch.cat([passed.new_zeros(1), passed[:-1]])
    return (passed + before) / 2 / where.at.weights


def _top(law: torch.Tensor, discrete: bool) -> torch.Tensor:
    return law.max() if discrete else torch.minimum(law.max(), 3 * law.median())


def curves(titles: Sequence[str] = TITLES) -> pd.DataFrame:
    """Columns ``setting``, ``z``, ``law``, ``exact``, ``ils.distributions``, ``straight-through``.

    Args:
        titles: of settings of a single number.
    """
    parts = []
    for setting in SETTINGS:
        if setting.title not in titles:
            continue
        where = place(setting)
        found = velocities(where)
        z, mass = where.z.squeeze(-1), where.at.weights
        likely = (mass.cumsum(0) > 1e-3) & (mass.flip(0).cumsum(0).flip(0) > 1e-3)
        law = mass / where.at.volumes
        table = {
            "z": z,
            # A density may be unbounded: it is clipped at the top of the picture.
            "law": (law / _top(law[likely], where.discrete)).clamp(max=1),
            "exact": _exact(where),
            "ils.distributions": found["ils.distributions"].flatten(),
            "straight-through": found["straight-through"].flatten(),
        }
        frame = pd.DataFrame({name: column[likely].numpy() for name, column in table.items()})
        thin = frame.iloc[:: max(1, len(frame) // _POINTS)]
        parts.append(thin.assign(setting=setting.title))
    return pd.concat(parts, ignore_index=True)


def own_statistics(title: str = "gamma(.5, 1), shape") -> pd.DataFrame:
    """Bias and noise with the family's statistics, or with ``z`` and ``z^2``; all kinds of loss.

    Args:
        title: of a gamma setting.

    Returns:
        Index ``method``; columns ``bias`` and ``noise``, in units of the gradient.
    """
    (setting,) = (one for one in SETTINGS if one.title == title)
    where = place(setting)
    z, score = where.z.squeeze(-1), where.score.squeeze(-1)
    slopes = torch.stack([1 / z, torch.ones_like(z)], -1)
    own = galerkin(where.at, score, z**2, torch.stack([z.log(), z], -1), slopes)
    fields = {"own": own.reshape(-1, 1, 1), "added": velocities(where)["ils.distributions"]}
    sums = {name: torch.zeros(3, dtype=z.dtype) for name in fields}
    for kind in KINDS:
        losses = make_losses(kind, where.centre, where.spread)
        exact = torch.einsum("s,s,is->i", where.at.weights, score, losses.values(where.z))
        gradients = losses.gradients(where.z)
        for name, field in fields.items():
            found = measure_field(where, field, gradients)
            bias = (found.mean.squeeze(-1) - exact) ** 2
            sums[name] += torch.stack([bias.mean(), found.variance.mean(), (exact**2).mean()])
    rows = {name: (total[:2] / total[2]).sqrt().tolist() for name, total in sums.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["bias", "noise"])
