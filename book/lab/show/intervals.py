"""Means with bootstrap intervals over replicates (``scipy.stats.bootstrap``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

__all__ = ["Estimate", "band", "estimate", "grouped"]

_RESAMPLES = 2000
_SEED = 0


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95% interval."""

    mean: float
    low: float
    high: float

    def text(self, digits: int = 4) -> str:
        """The mean and the interval: ``0.0020 [0.0019, 0.0021]``."""
        mean, low, high = self._rounded(digits)
        return f"{mean} [{low}, {high}]"

    def _rounded(self, digits: int) -> list[str]:
        return [_rounded(number, digits) for number in (self.mean, self.low, self.high)]


def _rounded(number: float, digits: int) -> str:
    """With so many digits behind the point; what would be zero and is not, in powers of ten."""
    if number and abs(number) < 0.5 * 10**-digits:
        return f"{number:.1e}"
    return f"{number:.{digits}f}"


def estimate(values: Sequence[float] | pd.Series | np.ndarray) -> Estimate:
    """Mean over replicates with its percentile bootstrap 95% interval.

    Args:
        values: one a replicate; for a paired comparison, the differences.
    """
    sample = np.asarray(values, dtype=float)
    low, high = _interval(sample[None])
    return Estimate(float(sample.mean()), float(low[0]), float(high[0]))


def band(curves: pd.DataFrame, by: str = "setting") -> pd.DataFrame:
    """Mean curves and their bands: index ``(by, step)``, columns ``mean``, ``low``, ``high``.

    Args:
        curves: one row a replicate, one column a step.
        by: the level of the index that names the curve.
    """
    parts = {}
    for name, part in curves.groupby(level=by, sort=False):
        values = part.to_numpy().T
        low, high = _interval(values)
        parts[name] = pd.DataFrame(
            {"mean": values.mean(-1), "low": low, "high": high},
            index=pd.Index(part.columns, name="step"),
        )
    return pd.concat(parts, names=[by])


def grouped(table: pd.DataFrame, by: list[str], value: str) -> pd.DataFrame:
    """Mean and interval of a column within groups: index ``by``, columns ``mean, low, high``.

    Args:
        table: one row a replicate and group.
        by: columns that name the group.
        value: the column to average.
    """
    rows = {}
    for name, part in table.groupby(by, sort=False)[value]:
        found = estimate(part)
        rows[name] = (found.mean, found.low, found.high)
    index = pd.MultiIndex.from_tuples(rows, names=by)
    return pd.DataFrame(list(rows.values()), index=index, columns=["mean", "low", "high"])


def _interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Interval of the mean along the last axis."""
    # A batch at a time: all resamples of all curves at once would take gigabytes.
    result = bootstrap(
        (values,),
        np.mean,
        axis=-1,
        n_resamples=_RESAMPLES,
        method="percentile",
        batch=50,
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return np.atleast_1d(result.low), np.atleast_1d(result.high)
