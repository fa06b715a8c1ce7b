"""Tables from the suite's record: pooled points, their Pareto front, the best settings."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lab.methods.catalogue import METHODS

__all__ = ["best_settings", "budget", "defaults", "front", "points"]

_BY_NAME = {method.name: method for method in METHODS}


def points(table: pd.DataFrame, scale: str = "all", kind: str = "all") -> pd.DataFrame:
    """One row a method and setting: the measures, and the ``noise`` of one evaluation.

    ``noise`` is the standard deviation of the mean of as many estimates as one evaluation pays for,
    the deviation times the square root of the evaluations.

    Args:
        table: the record of the suite.
        scale: of the logits, or ``all``.
        kind: of the loss, pooled over shapes by the mean of the medians, or ``all``.
    """
    found = table.xs(scale, level="scale") if kind == "all" else table
    found = found.xs(kind, level="kind").groupby(level=["method", "setting"], sort=False).mean()
    evaluations = [_BY_NAME[name].make(value).evaluations for name, value in found.index]
    families = [_BY_NAME[name].family for name, _ in found.index]
    found = found.assign(evaluations=evaluations, family=families)
    # A sum of many terms that cancel is not exactly zero, and an estimate can be below it.
    found["bias"] = found["bias"].where(found["bias"] > 1e-9, 0.0)
    return found.assign(noise=found["deviation"] * np.sqrt(found["evaluations"]))


def defaults(found: pd.DataFrame) -> pd.DataFrame:
    """The rows at each method's default setting, by method."""
    keep = [value == _BY_NAME[name].default for name, value in found.index]
    return found[keep].droplevel("setting")


def best_settings(found: pd.DataFrame, by: str = "error") -> pd.DataFrame:
    """The row of each method's best setting, by method; ``setting`` becomes a column."""
    flat = found.reset_index("setting")
    rank = flat.reset_index()[by].groupby(flat.index.to_numpy(), sort=False).idxmin()
    return flat.iloc[rank.to_numpy()]


def front(found: pd.DataFrame) -> pd.DataFrame:
    """The rows that no other beats in both bias and noise, by growing bias."""
    ordered = found.sort_values(["bias", "noise"], kind="stable")
    lowest = ordered["noise"].cummin()
    kept = ordered[ordered["noise"] == lowest]
    return kept[~kept["noise"].duplicated()]


def budget(found: pd.DataFrame, evaluations: list[int]) -> pd.DataFrame:
    """Relative root mean square error for a budget of evaluations, at the best setting for it.

    ``sqrt(bias^2 + noise^2 / N)`` with the medians; index: method, columns: ``N``.
    """
    columns = {
        n: np.sqrt(found["bias"] ** 2 + found["noise"] ** 2 / n)
        .groupby(level="method", sort=False)
        .min()
        for n in evaluations
    }
    return pd.DataFrame(columns)
