"""Experiment 1: how learning rates are chosen, and on which problems each part runs."""

from __future__ import annotations

import itertools

import pandas as pd
import pytest

from lab.toy import experiment as experiment1
from lab.toy.analysis import end, first_below

STEPS = [0, 10, 60, 80, 90, 100]


def tuned(rows: dict[str, list[float]]) -> pd.DataFrame:
    index = pd.MultiIndex.from_product([rows, ["divergence"]], names=["setting", "measure"])
    return pd.DataFrame(list(rows.values()), index=index, columns=STEPS)


def test_choose() -> None:
    """The lowest last fifth wins the end, the first below the level wins speed, if any does."""
    table = tuned(
        {
            # Lowest at the very last step, but not over the last fifth.
            "A | constant | 0.01": [1, 0.5, 0.4, 0.3, 0.3, 0.001],
            "A | constant | 0.1": [1, 0.5, 0.1, 0.1, 0.1, 0.1],
            # First below the level, then up again.
            "A | constant | 1": [1, 0.004, 0.2, 0.2, 0.2, 0.2],
            "A | decay | 0.01": [1, 0.004, 0.004, 0.3, 0.3, 0.3],
            "A | decay | 0.1": [1, 0.9, 0.9, 0.2, 0.2, 0.25],
            # Never below: the level itself is not below it.
            "B | constant | 0.01": [1, 0.9, 0.8, 0.005, 0.005, 0.005],
            "B | constant | 0.1": [1, 0.9, 0.8, 0.7, 0.7, 0.7],
        }
    )
    assert experiment1.SPEED_LEVEL == 0.005
    found = experiment1.choose(table)
    assert found.columns.tolist() == ["method", "schedule", "purpose", "rate"]
    assert found.to_numpy().tolist() == [
        ["A", "constant", "end", 0.1],
        ["A", "constant", "speed", 1.0],
        ["A", "decay", "end", 0.1],
        ["B", "constant", "end", 0.01],
    ]


def test_end_and_first_below() -> None:
    """The end is the last fifth with both its borders; a curve never below has no finite time."""
    table = tuned({"x": [9, 9, 9, 3, 6, 9], "y": [1, 0.1, 5, 0.1, 5, 5]})
    assert end(table).tolist() == pytest.approx([6.0, 10.1 / 3])
    assert end(table, window=0.1).tolist() == [7.5, 5.0]
    assert first_below(table, 0.5).tolist() == [float("inf"), 10.0]
    assert first_below(table, 3.0).tolist() == [float("inf"), 0.0]


def test_fair_runs_the_chosen_rates() -> None:
    """Each chosen rate of each method and schedule is run once, on groups of its own."""
    one, half = ("Gumbel-Softmax, T = 1", "Gumbel-Softmax, T = 0.5")
    rows = [(one, "constant", "end", 0.1), (one, "constant", "speed", 1.0)]
    rows += [(half, "decay", "end", 0.1), (half, "constant", "end", 0.1)]
    rows += [(half, "constant", "speed", 0.1)]
    chosen = pd.DataFrame(rows, columns=["method", "schedule", "purpose", "rate"])
    curves = experiment1.fair(experiment1.GUMBEL_METHODS, chosen, stop=1)
    wanted = {f"{one} | constant | 0.1", f"{one} | constant | 1"}
    wanted |= {f"{half} | decay | 0.1", f"{half} | constant | 0.1"}
    assert set(curves.index.get_level_values("setting")) == wanted
    assert len(curves) == 4 * experiment1.GROUPS
    tuned_on = experiment1.tuning(experiment1.GUMBEL_METHODS, stop=0)[0].iloc[0]
    assert curves[0].iloc[: experiment1.SWEEP_GROUPS].mean() != tuned_on


def test_problems_are_apart() -> None:
    """No part but the two of (b) runs on problems of another."""
    parts = {name: experiment1._toy(6, seed).p for name, seed in experiment1.SEEDS.items()}
    assert set(parts) == {"note", "controlled", "tuning", "fair"}
    for one, other in itertools.combinations(parts.values(), 2):
        assert (one.flatten(0, 1)[:, None] - other.flatten(0, 1)).abs().amax(-1).min() > 1e-3
