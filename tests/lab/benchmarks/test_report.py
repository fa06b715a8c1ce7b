"""The summaries of the report, on tables made by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lab.benchmarks import report
from lab.training.curves import CURVES
from lab.training.protocol import DEFAULT, PLAIN
from lab.training.tasks import TASKS


def made(rows: dict[tuple[str, str], list[float]]) -> pd.DataFrame:
    """Progress, or ends, from lists of runs."""
    index = pd.MultiIndex.from_tuples(rows, names=["task", "method"])
    return pd.DataFrame(list(rows.values()), index=index)


def test_beats() -> None:
    """The probability by counting pairs; a failed run is beaten by every other."""
    first, second = pd.Series([1.0, 2.0, np.nan]), pd.Series([2.0, 3.0, 0.5])
    pairs = [[a < b, a == b] for a in (1.0, 2.0, np.inf) for b in second]
    wanted = np.mean([less + 0.5 * same for less, same in pairs])
    assert report.beats(first, second) == pytest.approx(wanted)


def test_improvement() -> None:
    """The mean over problems of the probability for two runs; its interval holds it."""
    random = np.random.default_rng(0)
    values = {(t, m): list(random.normal(m == "x", 1, 10)) for t in "abc" for m in "xy"}
    values[("d", "x")] = list(random.normal(9, 1, 10))  # no rival here: not counted
    found = made(values)
    # Each letter is a kind of its own.
    wanted = np.mean(
        [np.mean([[a > b for a in values[t, "x"]] for b in values[t, "y"]]) for t in "abc"]
    )
    one = report.improvement(found, "x", "y")
    other = report.improvement(found, "y", "x")
    assert one.mean == pytest.approx(wanted)
    assert one.low < one.mean < one.high
    assert other.mean == pytest.approx(1 - one.mean)
    assert report.improvement(found, "x", "x").mean == pytest.approx(0.5)


def test_kinds_count_alike() -> None:
    """Problems of one kind share its weight."""
    found = made(
        {
            ("vae-1", "x"): [1.0, 1.0],
            ("vae-1", "y"): [0.0, 0.0],
            ("vae-2", "x"): [1.0, 1.0],
            ("vae-2", "y"): [0.0, 0.0],
            ("bits", "x"): [0.0, 0.0],
            ("bits", "y"): [1.0, 1.0],
        }
    )
    assert report.improvement(found, "x", "y").mean == pytest.approx(0.5)
    assert report.overall(found, ["x", "y"])["x"].mean == pytest.approx(0.5)


def test_overall() -> None:
    """Medians, none below zero, over the problems that all the methods serve."""
    found = made(
        {
            ("a", "x"): [0.2, 0.4, -np.inf],
            ("a", "y"): [1.0, 1.0, 1.0],
            ("b", "x"): [-3.0, -2.0, -1.0],
            ("b", "y"): [0.5, 0.6, 0.7],
            ("c", "x"): [9.0, 9.0, 9.0],
        }
    )
    table = report.overall(found, ["x", "y"])
    assert table["x"].mean == pytest.approx(0.1)
    assert table["y"].mean == pytest.approx(0.8)
    assert table["x"].low <= table["x"].mean <= table["x"].high


def test_progress() -> None:
    """0 where a run began, 1 where the best method ends that is no reference; failed runs last."""
    rows = {
        ("bits", TASKS["bits"].measure, method, seed): [0.5] * 20 + [end]
        for method, ends in {
            "m": (0.1, 0.1),
            "n": (0.3, 0.5),
            "o": (0.1, np.nan),
            "exact gradient": (0.0, 0.0),
        }.items()
        for seed, end in zip((101, 102), ends, strict=True)
    }
    index = pd.MultiIndex.from_tuples(rows, names=["task", "measure", "method", "seed"])
    final = pd.DataFrame(list(rows.values()), index=index)
    goal = report.goals(final, ["bits"])
    assert goal == {"bits": pytest.approx(0.1)}
    found = report.progress(final, ["bits"], goal)
    assert found.loc[("bits", "m")].tolist() == pytest.approx([1.0, 1.0])
    assert found.loc[("bits", "n")].tolist() == pytest.approx([0.5, 0.0])
    assert found.loc[("bits", "o")].tolist() == pytest.approx([1.0, -np.inf])
    assert found.loc[("bits", "exact gradient")].tolist() == pytest.approx([1.25, 1.25])
    start = report.progress(final, ["bits"], goal, place=0)
    assert start.loc[("bits", "m")].tolist() == [0.0, 0.0]


def ended(ends: dict[str, list[float]]) -> pd.DataFrame:
    """Final runs of one bit, from the final measures of each method."""
    rows = {
        ("bits", TASKS["bits"].measure, method, seed): [0.5] * 20 + [value]
        for method, values in ends.items()
        for seed, value in enumerate(values)
    }
    index = pd.MultiIndex.from_tuples(rows, names=["task", "measure", "method", "seed"])
    return pd.DataFrame(list(rows.values()), index=index)


def test_best_of_a_problem() -> None:
    """What is not separated from the best: by chance, or by less than the null's spread."""
    noise = np.random.default_rng(0).normal(size=10) * 1e-3
    final = ended(
        {
            "m": list(0.1 + noise),
            "close": list(0.11 + noise[::-1]),
            "noisy": list(0.12 + 100 * noise),
            "far": list(0.3 + noise[::-1]),
            "exact gradient": [0.0] * 10,
        }
    )
    assert report.wins(final, ["bits"], {}).loc["bits"].tolist() == [
        "m",
        pytest.approx(0.1 + noise.mean()),
        "noisy",
    ]
    assert report.wins(final, ["bits"], {"bits": 0.05}).loc["bits", "alike"] == "close, noisy"


def test_the_same_ends_and_steady_differences_need_no_t_test() -> None:
    """Runs that end alike are level with the best; a difference that never varies is one."""
    ends = {"m": [0.0] * 10, "same": [0.0] * 10, "other": [1.0] * 10}
    best = report.wins(ended(ends), ["bits"], {}).loc["bits"]
    assert best.tolist() == ["m", 0.0, "same"]


def test_holm() -> None:
    """As by hand: the least p-value times the number of tests, the next times one less."""
    found = report.holm(np.array([0.03, 0.01, 0.2, 0.02]))
    assert found.tolist() == pytest.approx([0.06, 0.04, 0.2, 0.06])
    assert report.holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]


def test_null() -> None:
    """The entries of the default method, their progress, its spread and its chances."""
    rows = {
        ("bits", TASKS["bits"].measure, DEFAULT, 1, copy, PLAIN, seed): [0.5] * 20 + [end]
        for copy, end in enumerate((0.1, 0.2, 0.1, 0.1))
        for seed in (101, 102)
    }
    index = pd.MultiIndex.from_tuples(rows, names=CURVES)
    final = pd.DataFrame(list(rows.values()), index=index)
    found = report.null(final, 1, ["bits"])
    assert found.mean(axis=1).tolist() == pytest.approx([1.0, 0.75, 1.0, 1.0])
    assert sorted(set(report.null_chances(found))) == [0.0, 0.5, 1.0]
    assert report.spreads(final, 1, ["bits"]) == {"bits": pytest.approx(0.1)}
