"""The protocol: equal trials, fair choice, prefixes of runs; and the summaries of the report."""

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
from lab.training.contestants import TRIALS
from lab.training.protocol import (
    FINAL_SEEDS,
    TUNING_SEEDS,
    Training,
    choose,
    curves,
    final_runs,
    methods,
    published_runs,
    rates_of,
    trials,
    tuning_runs,
)
from lab.training.tasks import PUBLISHED, TASKS, TUNED


def test_equal_trials() -> None:
    """Every method has the same number of trials on every problem, and its own seeds in the end."""
    runs = tuning_runs(TUNED)
    count: dict[tuple[str, str], int] = {}
    for run in runs:
        key = (run.task, run.method)
        count[key] = count.get(key, 0) + len(run.learning_rates)
        assert run.split == "validation"
        assert run.steps == TASKS[run.task].steps // 2
        assert len(run.seeds) >= 2
    assert set(count.values()) == {TRIALS}
    assert set(count) == {(name, method) for name in TUNED for method in methods(TASKS[name])}
    assert len({run.name for run in runs}) == len(runs)
    assert not set(TUNING_SEEDS) & set(FINAL_SEEDS)
    assert len(FINAL_SEEDS) == 10


def test_rates_have_the_same_ends() -> None:
    """Settings share learning rates between the same two ends."""
    for name in TUNED:
        task = TASKS[name]
        for method in methods(task).values():
            rates = rates_of(task, method)
            assert rates[0] == pytest.approx(task.rates[0], rel=1e-2)
            assert rates[-1] == pytest.approx(task.rates[1], rel=1e-2)
            assert np.ptp(np.diff(np.log(rates))) < 0.02


def test_choice() -> None:
    """The least mean wins; a trial with a run that failed cannot.

    Problems with more seeds make columns that are empty for the others.
    """
    rows = {
        ("experts", "m", 0.0, 0.1): [3.0, 3.0],
        ("experts", "m", 1.0, 0.1): [0.0, np.nan],
        ("experts", "m", 1.0, 0.2): [2.0, 3.0],
        ("experts", "n", 0.0, 0.1): [9.0, np.nan],
        ("bits", "m", 0.0, 0.1): [1.0] * 10,
        ("bits", "m", 0.0, 0.2): [1.0] * 9 + [0.0],
        ("bits", "m", 0.0, 0.3): [0.0] * 9 + [np.nan],
    }
    index = pd.MultiIndex.from_tuples(rows, names=["task", "method", "setting", "learning_rate"])
    padded = [values + [np.nan] * (10 - len(values)) for values in rows.values()]
    table = pd.DataFrame(padded, index=index, columns=range(1, 11))
    chosen = choose(table)
    assert list(chosen.loc[("experts", "m")]) == [1.0, 0.2, 2.5]
    assert chosen.loc[("experts", "n"), "validation"] == np.inf
    assert list(chosen.loc[("bits", "m")]) == [0.0, 0.2, 0.9]


def test_a_part_is_the_beginning_of_the_whole() -> None:
    """The first twentieths of a run are those of the whole run, number for number."""
    run = Training("experts", "straight-through", 1.0, (0.01,), (101, 102), 40, "test")
    whole, part = run(), run(part=0.1)
    assert 0 < len(part) < len(whole)
    pd.testing.assert_frame_equal(part, whole.loc[part.index])


def test_tables() -> None:
    """What is gathered: an end for each trial, a curve for each final run."""
    run = Training("experts", "straight-through", 1.0, (0.01, 0.1), (1, 2), 20, "validation", 4)
    table = run()
    found = trials(table)
    assert found.shape == (2, 2)
    last = table.xs(20, level="step")["squared error"]
    assert found.loc[("experts", "straight-through", 1.0, 0.1), 2] == last.xs(0.1, level=3).iloc[1]
    steps = TASKS["experts"].steps
    final = pd.concat({("experts", "m", 0.0): _made(steps)}, names=["task", "method", "setting"])
    curve = curves(final)
    assert curve.loc[("experts", "squared error", "m", 101), 20] == 1.0
    assert list(curve.columns) == list(range(21))


def _made(steps: int) -> pd.DataFrame:
    index = pd.MultiIndex.from_product(
        [[0.1], [101, 102], [steps * k // 20 for k in range(21)]],
        names=["learning_rate", "seed", "step"],
    )
    value = index.get_level_values("step") / steps
    return pd.DataFrame({"squared error": value, "experts in use": 8.0}, index=index)


def test_final_runs() -> None:
    """Each winner at its setting and rate, on the fresh seeds and the test data."""
    index = pd.MultiIndex.from_tuples([("bits", "ReinMax")], names=["task", "method"])
    chosen = pd.DataFrame([(1.2, 0.03, 0.1)], index, ["setting", "learning_rate", "validation"])
    (run,) = final_runs(chosen)
    assert (run.setting, run.learning_rates, run.seeds) == (1.2, (0.03,), FINAL_SEEDS)
    assert (run.steps, run.split) == (TASKS["bits"].steps, "test")
    assert {run.task for run in published_runs()} == set(PUBLISHED)


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
    table = report.profiles(found, ["x", "y"], [-1.0, 0.5])
    assert table.loc["x"].tolist() == pytest.approx([1.0, 0.5])


def test_profiles() -> None:
    """The share of runs above a level; a run that failed is above none."""
    found = made({("a", "x"): [0.2, -3.0, -np.inf, 0.9]})
    table = report.profiles(found, ["x"], [-9.0, 0.0, 0.5])
    assert list(table.loc["x"]) == [0.75, 0.5, 0.25]


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
    found = report.progress(final, ["bits"])
    assert found.loc[("bits", "m")].tolist() == pytest.approx([1.0, 1.0])
    assert found.loc[("bits", "n")].tolist() == pytest.approx([0.5, 0.0])
    assert found.loc[("bits", "o")].tolist() == pytest.approx([1.0, -np.inf])
    assert found.loc[("bits", "exact gradient")].tolist() == pytest.approx([1.25, 1.25])
    best = report.wins(final, ["bits"])
    assert best.loc["bits", "best"] == "m"


def test_edges() -> None:
    """Winners at either end of the range are counted, problem by problem."""
    least, most = TASKS["bits"].rates
    index = pd.MultiIndex.from_tuples([("bits", m) for m in "abcd"], names=["task", "method"])
    chosen = pd.DataFrame({"learning_rate": [least, most, least * 2, most / 2]}, index=index)
    assert report.edges(chosen)["bits"] == 0.5


def test_one_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A problem from the command line: two records, with what was run and what failed.

    They lie apart from the book's, whose rows of other problems would be lost.
    """
    kept = ("ReinMax (default)", "REINFORCE", "straight-through")

    def execute(runs: list[Training], **options: Any) -> Outcome:
        some = [run for run in runs if run.method in kept]
        broken = [run for run in some if run.method == kept[2] and run.split == "test"]
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
    assert report.ends(final.table, "bits").shape == (2, 10)
    tuning = records.read("sweep-tuning", folder)
    assert len(tuning.table) == 3 * TRIALS
    chosen = choose(tuning.table)
    listing = report.listing(final.table, chosen, "bits")
    assert listing.loc["ReinMax (default)", "beats"] == 0.5
    assert list(listing["failed"]) == [0, 0]
    # Five settings of three methods were tuned, and two winners run, on two workers.
    assert final.provenance["seconds"] == 3.0 * 7 / 2
    (failed,) = final.provenance["configuration"]["failed"]
    assert failed.startswith("bits--straight-through--")
    monkeypatch.setattr(sys, "argv", ["sweep", "nothing"])
    with pytest.raises(SystemExit) as refused:
        cli.main()
    assert refused.value.code == 2
