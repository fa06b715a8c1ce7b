"""The summaries of the report, on tables made by hand, and the command that makes its records."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lab.benchmarks import report
from lab.benchmarks import sweep as cli
from lab.run import records
from lab.run.engine import Outcome
from lab.training.curves import CURVES
from lab.training.protocol import DEFAULT, PLAIN, Training
from lab.training.tasks import TASKS
from lab.training.tuning import choose


def made(rows: dict[tuple[str, str], list[float]]) -> pd.DataFrame:
    """Progress, or ends, from lists of runs."""
    index = pd.MultiIndex.from_tuples(rows, names=["task", "method"])
    return pd.DataFrame(list(rows.values()), index=index)


def ended(ends: dict[str, list[float]]) -> pd.DataFrame:
    """Final runs of one bit, from the final measures of each method."""
    rows = {
        ("bits", TASKS["bits"].measure, method, seed): [0.5] * 20 + [value]
        for method, values in ends.items()
        for seed, value in enumerate(values)
    }
    index = pd.MultiIndex.from_tuples(rows, names=["task", "measure", "method", "seed"])
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
    # Problems of one kind share its weight.
    tasks = ("vae-1", "vae-2", "bits")
    found = made({(t, m): [float((t == "bits") == (m == "y"))] * 2 for t in tasks for m in "xy"})
    assert report.improvement(found, "x", "y").mean == pytest.approx(0.5)
    assert report.overall(found, ["x", "y"])["x"].mean == pytest.approx(0.5)


def test_overall() -> None:
    """Medians, none below zero, over the problems that all the methods serve."""
    rows = {("a", "x"): [0.2, 0.4, -np.inf], ("a", "y"): [1.0, 1.0, 1.0]}
    rows |= {("b", "x"): [-3.0, -2.0, -1.0], ("b", "y"): [0.5, 0.6, 0.7]}
    table = report.overall(made(rows | {("c", "x"): [9.0, 9.0, 9.0]}), ["x", "y"])
    assert table["x"].mean == pytest.approx(0.1)
    assert table["y"].mean == pytest.approx(0.8)
    assert table["x"].low <= table["x"].mean <= table["x"].high


def test_progress() -> None:
    """0 where a run began, 1 where the best method ends that is no reference; failed runs last."""
    ends = {"m": [0.1, 0.1], "n": [0.3, 0.5], "o": [0.1, np.nan], "exact gradient": [0.0, 0.0]}
    final = ended(ends)
    goal = report.goals(final, ["bits"])
    assert goal == {"bits": pytest.approx(0.1)}
    found = report.progress(final, ["bits"], goal)
    assert found.loc[("bits", "m")].tolist() == pytest.approx([1.0, 1.0])
    assert found.loc[("bits", "n")].tolist() == pytest.approx([0.5, 0.0])
    assert found.loc[("bits", "o")].tolist() == pytest.approx([1.0, -np.inf])
    assert found.loc[("bits", "exact gradient")].tolist() == pytest.approx([1.25, 1.25])
    start = report.progress(final, ["bits"], goal, place=0)
    assert start.loc[("bits", "m")].tolist() == [0.0, 0.0]


def test_best_of_a_problem() -> None:
    """What is not separated from the best: by chance, or by less than the null's spread."""
    noise = np.random.default_rng(0).normal(size=10) * 1e-3
    back = noise[::-1]
    runs = {"m": 0.1 + noise, "close": 0.11 + back, "noisy": 0.12 + 100 * noise, "far": 0.3 + back}
    final = ended({name: list(x) for name, x in (runs | {"exact gradient": 0 * noise}).items()})
    best = report.wins(final, ["bits"], {}).loc["bits"].tolist()
    assert best == ["m", pytest.approx(0.1 + noise.mean()), "noisy"]
    assert report.wins(final, ["bits"], {"bits": 0.05}).loc["bits", "alike"] == "close; noisy"
    # Runs that end alike are level with the best; a difference that never varies is one.
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


def test_one_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A problem from the command line: two records, with what was run and what failed.

    They lie apart from the book's, whose rows of other problems would be lost.
    """
    kept = ("ReinMax (default)", "REINFORCE", "straight-through")

    def execute(runs: list[Training], **options: Any) -> Outcome:
        some = [run for run in runs if run.entry.method in kept]
        broken = [run for run in some if run.entry.method == kept[2] and run.split == "test"]
        tables = {run: run() for run in some if run not in broken}
        for run in tables:
            (tmp_path / f"{run.name}.json").write_text('{"seconds": 3.0}')
        return Outcome(tables, dict.fromkeys(broken, "it broke"))

    folder = tmp_path / "some-problems"
    monkeypatch.setattr(type(TASKS["bits"]), "steps", 40)
    monkeypatch.setattr(cli, "execute", execute)
    monkeypatch.setattr(sys, "argv", ["sweep", "bits", "--runs", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    final = records.read("sweep-final", folder)
    assert set(final.table.index.get_level_values("method")) == set(kept[:2])
    one = report.at_budget(final.table, 1)
    assert report.ends(one, "bits").shape == (2, 10)
    assert report.ends(report.at_budget(final.table, 4), "bits").shape == (1, 10)
    assert report.ends(report.at_budget(final.table, 1, copy=3), "bits").shape == (1, 10)
    tuning = records.read("sweep-tuning", folder)
    chosen = choose(tuning.table)
    assert set(chosen.index.get_level_values("method")) == set(kept)
    spent = records.read("sweep-seconds", folder).table
    assert spent.loc[("bits", "REINFORCE", 1, 0, PLAIN), "final"] == 3.0
    listing = report.listing(final.table, chosen, spent, "bits")
    assert set(listing.index.get_level_values("budget")) == {1, 2, 4}
    assert listing.loc[(1, "ReinMax (default)"), "beats"] == 0.5
    assert list(listing["failed"]) == [0, 0, 0, 0]
    assert listing["setting"].isna().all()  # of methods without one
    written = report.shown(listing)
    assert set(written["setting"]) == {""}
    assert written.loc[(1, "ReinMax (default)"), "beats"] == "0.5"
    assert list(listing["seconds"]) == [3.0] * 4
    assert final.provenance["seconds"] == spent.sum().sum() / 2
    failed = final.provenance["configuration"]["failed"]
    assert len(failed) == 3  # of each budget
    assert all(name.startswith("bits--straight-through--") for name in failed)
    monkeypatch.setattr(sys, "argv", ["sweep", "nothing"])
    with pytest.raises(SystemExit) as refused:
        cli.main()
    assert refused.value.code == 2
