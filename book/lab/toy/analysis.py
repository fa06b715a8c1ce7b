"""Summaries of the toy's curves: ends, times to a level, paired differences.

Curves are tables with one row a replicate and one column a recorded step.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

__all__ = ["end", "first_below", "paired", "split_settings"]


def end(curves: pd.DataFrame, window: float = 0.2) -> pd.Series:
    """Mean over the recorded steps in the last part of the run (by default a fifth)."""
    steps = curves.columns.to_numpy()
    return curves.loc[:, steps >= (1 - window) * steps[-1]].mean(axis=1)


def first_below(curves: pd.DataFrame, level: float) -> pd.Series:
    """First recorded step at which each curve is below a level; infinite if it never is."""
    below = curves.to_numpy() < level
    steps = curves.columns.to_numpy()[below.argmax(axis=1)].astype(float)
    return pd.Series(np.where(below.any(axis=1), steps, np.inf), index=curves.index)


def paired(values: pd.Series, first: str, second: str) -> pd.Series:
    """Difference of two settings group by group; both saw the same problems and draws.

    Args:
        values: indexed by (setting, measure, group).
        first, second: names of the settings.
    """
    return values.xs(first, level="setting") - values.xs(second, level="setting")


def split_settings(settings: pd.Index) -> pd.DataFrame:
    """Columns ``method``, ``schedule`` and ``rate`` out of "method | schedule | rate"."""
    parts = [name.split(" | ") for name in settings]
    table = pd.DataFrame(parts, columns=["method", "schedule", "rate"])
    return table.assign(rate=table["rate"].astype(float))
