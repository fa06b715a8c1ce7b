"""Experiment 1: how learning rates are chosen, and that each part runs and begins as it goes on."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import pandas as pd
import pytest
import torch

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
    assert first_below(table, 2.0).tolist() == [float("inf"), 0.0]
    assert first_below(table, 3.0).tolist() == [float("inf"), 0.0]


PARTS: dict[str, Callable[..., pd.DataFrame]] = {
    "as in the note": experiment1.as_in_the_note,
    "controlled": experiment1.controlled,
    "corrected": experiment1.corrected,
    "collapse": experiment1.collapse,
    "tuning, ILS": functools.partial(experiment1.tuning, experiment1.ILS_METHODS),
    "tuning, Gumbel": functools.partial(experiment1.tuning, experiment1.GUMBEL_METHODS),
}


@pytest.mark.parametrize("part", PARTS)
def test_parts_begin_as_they_go_on(part: str) -> None:
    """A part stopped early is the beginning of itself; the global random state is left alone."""
    state = torch.get_rng_state()
    long, short = PARTS[part](stop=4), PARTS[part](stop=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert long.columns.tolist() == [0, 1, 2, 3, 4]
    assert short.columns.tolist() == [0, 1, 2]
    pd.testing.assert_frame_equal(short, long[short.columns], check_exact=True)
    assert long.index.is_unique
    assert long.notna().all(axis=None)
    divergence = long.xs("divergence", level="measure")
    # All settings start alike, and each moves.
    grouped = "group" in divergence.index.names
    begun = divergence[0].unstack("group") if grouped else divergence[[0]]
    assert (begun.max() - begun.min()).max() < 1e-12
    assert (divergence[4] != divergence[0]).all()


def test_fair_runs_the_chosen_rates() -> None:
    """Each chosen rate of each method and schedule is run once, on groups of its own."""
    chosen = pd.DataFrame(
        [
            ("Gumbel-Softmax, T = 1", "constant", "end", 0.1),
            ("Gumbel-Softmax, T = 1", "constant", "speed", 1.0),
            ("Gumbel-Softmax, T = 0.5", "decay", "end", 0.1),
            ("Gumbel-Softmax, T = 0.5", "constant", "end", 0.1),
            ("Gumbel-Softmax, T = 0.5", "constant", "speed", 0.1),
        ],
        columns=["method", "schedule", "purpose", "rate"],
    )
    curves = experiment1.fair(experiment1.GUMBEL_METHODS, chosen, stop=1)
    assert set(curves.index.get_level_values("setting")) == {
        "Gumbel-Softmax, T = 1 | constant | 0.1",
        "Gumbel-Softmax, T = 1 | constant | 1",
        "Gumbel-Softmax, T = 0.5 | decay | 0.1",
        "Gumbel-Softmax, T = 0.5 | constant | 0.1",
    }
    assert len(curves) == 4 * experiment1.GROUPS
    tuned_on = experiment1.tuning(experiment1.GUMBEL_METHODS, stop=0)[0].iloc[0]
    assert curves[0].iloc[: experiment1.SWEEP_GROUPS].mean() != tuned_on


def test_problems_are_apart() -> None:
    """No part but the two of (b) runs on problems of another."""
    parts = {name: experiment1._toy(6, seed).p for name, seed in experiment1.SEEDS.items()}
    assert set(parts) == {"note", "controlled", "tuning", "fair"}
    for one, other in itertools.combinations(parts.values(), 2):
        assert (one.flatten(0, 1)[:, None] - other.flatten(0, 1)).abs().amax(-1).min() > 1e-3
