"""Bias and noise of every estimator at every setting, and over step sizes, as tables.

Both are in units of the gradient: the root of the mean square over random losses, over that of the
exact gradient.  Noise is the standard deviation of one evaluation of the loss: an estimate that
takes two counts as ``sqrt(2)`` noisier.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from lab.beyond.families.methods import (
    Measured,
    Place,
    differences,
    gumbel_softmax,
    leave_one_out,
    measure_field,
    place,
    velocities,
)
from lab.beyond.families.settings import INSTANCES, KINDS, SETTINGS, Losses, Setting, make_losses

__all__ = [
    "INSTANCES",
    "KINDS",
    "METHODS",
    "error",
    "of_one_evaluation",
    "quality",
    "summarise",
    "winners",
]

METHODS = (
    "ils.distributions",
    "straight-through",
    "any distribution",
    "order 2",
    "order 3",
    "order 4",
    "pathwise",
    "differences",
    "leave-one-out, 2",
    "leave-one-out, 8",
    "Gumbel-Softmax, .5",
    "Gumbel-Softmax, 1",
)
INDEX = ["setting", "kind", "method"]
_RESAMPLES = 1000


def of_one_evaluation() -> list[str]:
    """The methods that evaluate the loss once and use no exact velocity."""
    families = (
        "ils.distributions",
        "straight-through",
        "any distribution",
        "order",
        "Gumbel-Softmax",
    )
    return [name for name in METHODS if name.startswith(families)]


def _measured(where: Place, losses: Losses) -> dict[str, Measured]:
    values, gradients = losses.values(where.z), losses.gradients(where.z)
    found = {
        name: measure_field(where, field, gradients) for name, field in velocities(where).items()
    }
    if where.discrete:
        found["differences"] = differences(where, losses)
        for temperature, name in ((0.5, ".5"), (1.0, "1")):
            found[f"Gumbel-Softmax, {name}"] = gumbel_softmax(where, losses, temperature)
    for draws in (2, 8):
        found[f"leave-one-out, {draws}"] = leave_one_out(where, values, draws)
    return found


def quality(
    settings: Sequence[Setting] = SETTINGS,
    kinds: Sequence[str] = KINDS,
    instances: int = INSTANCES,
) -> pd.DataFrame:
    """One row a setting, kind of loss, method and instance.

    Returns:
        Index (setting, kind, method, instance); columns ``gradient``, ``bias``, ``variance``: the
        squared norms of the exact gradient and the bias, and the variance of one evaluation.
    """
    parts = {}
    for setting in settings:
        where = place(setting)
        for kind in kinds:
            losses = make_losses(kind, where.centre, where.spread, instances=instances)
            values = losses.values(where.z)
            exact = torch.einsum("s,sp,is->ip", where.at.weights, where.score, values)
            for name, found in _measured(where, losses).items():
                parts[(setting.title, kind, name)] = pd.DataFrame(
                    {
                        "gradient": (exact**2).sum(-1).numpy(),
                        "bias": ((found.mean - exact) ** 2).sum(-1).numpy(),
                        "variance": found.variance.numpy(),
                    }
                )
    return pd.concat(parts, names=[*INDEX, "instance"])


def _ratio(above: np.ndarray, below: np.ndarray) -> tuple[float, float, float]:
    """Root of a ratio of means, with its 95% bootstrap interval over instances."""
    generator = np.random.default_rng(0)
    chosen = generator.integers(len(above), size=(_RESAMPLES, len(above)))
    many = np.sqrt(above[chosen].mean(-1) / below[chosen].mean(-1))
    low, high = np.quantile(many, [0.025, 0.975])
    return float(np.sqrt(above.mean() / below.mean())), float(low), float(high)


def summarise(table: pd.DataFrame, by: Sequence[str] = tuple(INDEX)) -> pd.DataFrame:
    """Bias and noise in units of the gradient, each with its interval.

    Args:
        table: of :func:`quality`.
        by: what to keep apart.

    Returns:
        Index ``by``; columns ``bias``, ``bias_low``, ``bias_high``, and the same of ``noise``.
    """
    rows: dict[Any, dict[str, float]] = {}
    for key, part in table.groupby(level=list(by), sort=False):
        row: dict[str, float] = {}
        for name, column in (("bias", "bias"), ("noise", "variance")):
            found = _ratio(part[column].to_numpy(), part["gradient"].to_numpy())
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), found, strict=True))
        rows[key] = row
    index = pd.MultiIndex.from_tuples(list(rows), names=list(by))
    return pd.DataFrame(list(rows.values()), index=index)


def error(table: pd.DataFrame, evaluations: int) -> pd.Series:
    """Root mean square error of the mean of so many evaluations, in units of the gradient.

    Args:
        table: of :func:`quality`.
        evaluations: of the loss.
    """
    grouped: Any = table.groupby(level=INDEX, sort=False).mean()
    bias, variance, gradient = (grouped[name] for name in ("bias", "variance", "gradient"))
    return ((bias + variance / evaluations) / gradient) ** 0.5


def winners(
    table: pd.DataFrame, evaluations: Sequence[int], methods: Sequence[str]
) -> pd.DataFrame:
    """The method of least error, for each setting, kind and number of evaluations.

    Of methods within a thousandth of the least, the first: some are the same by another name.

    Args:
        table: of :func:`quality`.
        evaluations: numbers of evaluations of the loss, at least as many as an estimate takes.
        methods: that take part.

    Returns:
        Index (setting, kind), a column a number: the name of the method.
    """
    columns = {}
    for count in evaluations:
        least = {"leave-one-out, 2": 2, "leave-one-out, 8": 8, "differences": 2}
        allowed = [name for name in methods if least.get(name, 1) <= count]
        errors = error(table, count).unstack("method")
        errors = errors[[name for name in allowed if name in errors]]
        tied = errors.le(1.001 * errors.min(axis=1), axis=0)
        columns[count] = tied.idxmax(axis=1)
    return pd.DataFrame(columns)
