"""From the record of the suite to the plane: pooling, the front, the best settings."""

from __future__ import annotations

import pandas as pd
import pytest

from lab.bias_variance import plane


def table() -> pd.DataFrame:
    rows = [
        ("straight-through", 1.0, 0.3, 0.8, 0.4),
        ("straight-through", 2.0, 0.6, 0.5, 0.5),
        ("ReinMax", 1.0, 0.1, 1.8, 0.7),
        ("ReinMax", 2.0, 0.7, 1.9, 0.6),
        ("leave-one-out", 2.0, 0.0, 2.0, 0.8),
        ("leave-one-out", 8.0, 0.0, 1.0, 0.5),
    ]
    found = pd.DataFrame(rows, columns=["method", "setting", "bias", "deviation", "error"])
    found = found.assign(kind="all", shape="all", scale="all")
    return found.set_index(["method", "setting", "kind", "shape", "scale"])


def test_points_count_evaluations() -> None:
    """The noise of one evaluation is the deviation times the root of what an estimate costs."""
    found = plane.points(table())
    assert found.loc[("leave-one-out", 8.0), "noise"] == pytest.approx(8**0.5)
    assert found.loc[("ReinMax", 1.0), "noise"] == 1.8
    assert found.loc[("ReinMax", 1.0), "family"] == "straight-through"
    # The front is what no other point beats in both; the rest is left out.
    names = list(plane.front(plane.points(table())).index)
    expected = [("leave-one-out", 2.0), ("ReinMax", 1.0), ("straight-through", 1.0)]
    assert names == [*expected, ("straight-through", 2.0)]


def test_best_and_default_settings() -> None:
    """One row a method: the lowest error, or the catalogue's default."""
    found = plane.points(table())
    best = plane.best_settings(found)
    wanted = {"straight-through": 1.0, "ReinMax": 2.0, "leave-one-out": 8.0}
    assert best["setting"].to_dict() == wanted
    assert plane.defaults(found).loc["leave-one-out", "deviation"] == 2.0


def test_budget() -> None:
    """More evaluations lower the noise and leave the bias; the setting is the best for each."""
    errors = plane.budget(plane.points(table()), [1, 100])
    assert errors.loc["ReinMax", 1] == pytest.approx((0.1**2 + 1.8**2) ** 0.5)
    assert errors.loc["ReinMax", 100] == pytest.approx((0.1**2 + 1.8**2 / 100) ** 0.5)
    assert errors.loc["straight-through", 1] == pytest.approx((0.6**2 + 0.5**2) ** 0.5)
    assert errors.loc["straight-through", 100] == pytest.approx((0.3**2 + 0.8**2 / 100) ** 0.5)
