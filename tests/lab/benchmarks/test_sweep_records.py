"""The records of the sweep in the book: whole, of ten fresh seeds, and sane."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lab.benchmarks import report
from lab.methods.annealed import Annealed
from lab.run import records
from lab.show.intervals import estimate
from lab.training.again import AGAIN, FIRST_STEPS, PARTS, agreement, flips
from lab.training.contestants import budgets
from lab.training.curves import CURVES
from lab.training.protocol import FINAL_SEEDS, PLAIN, entries, explored, method_of, methods
from lab.training.tasks import TASKS, TUNED
from lab.training.tuning import choose

DATA = Path(__file__).resolve().parents[3] / "book" / "data"
FINAL = records.read("sweep-final", DATA)
TUNING = records.read("sweep-tuning", DATA)
SECONDS = records.read("sweep-seconds", DATA)
BEGINNINGS = records.read("sweep-beginnings", DATA)
CHOSEN = choose(TUNING.table)
ONE = report.at_budget(FINAL.table, 1)


@pytest.mark.parametrize("name", TUNED)
def test_whole(name: str) -> None:
    """Every entry was tuned and run on ten fresh seeds."""
    wanted = {(one.method, one.budget, one.copy, one.exploration) for one in entries([name])}
    wanted |= {
        (one.method, one.budget, 0, one.exploration) for one in explored(CHOSEN) if one.task == name
    }
    tuned = CHOSEN.loc[name]
    assert set(tuned.index) == wanted
    assert (tuned["trials"] >= 4).all()
    assert (tuned["error"] >= 0).all()
    ends = report.measured(FINAL.table, name)[20].unstack("seed")
    assert set(ends.index) == wanted
    assert tuple(ends.columns) == FINAL_SEEDS
    assert set(SECONDS.table.loc[name].index) == wanted
    assert FINAL.provenance["configuration"]["failed"] == []


def test_reinmax_beats_straight_through_where_it_was_published() -> None:
    """On the polynomial with p = 2, by the published settings and by tuned ones."""
    for name in ("polynomial-2-p2-liu", "polynomial-2-p2"):
        ends = report.ends(ONE, name)
        assert estimate(ends.loc["straight-through"] - ends.loc["ReinMax"]).low > 0.02
        assert ends.loc["ReinMax"].mean() > TASKS[name].optimum


def test_unbiased_methods_solve_one_bit_and_the_note_does_not() -> None:
    """The problem ``(b - .45)^2``, whose optimum is ``b = 0``."""
    wrong = report.measured(FINAL.table, "bits", "wrong, t = 0.45")[20].unstack("seed")
    wrong = wrong.xs((0, PLAIN), level=("copy", "exploration")).mean(axis=1)
    unbiased = [name for name in wrong.index if not made_once(name[0]).biased]
    assert len({method for method, _ in unbiased}) == 11
    assert (wrong[unbiased] < 0.05).all()
    assert wrong["ILS (the note)", 1] > 0.4


def made_once(name: str) -> Any:
    """A method as it is trained on one bit."""
    task = TASKS["bits"]
    if name in task.own:
        return SimpleNamespace(biased=True)
    found, _ = method_of(task, name, methods(task)[name].settings[0], budgets(name, task)[0])
    return found.at(0.0) if isinstance(found, Annealed) else found


def test_beginnings_belong_to_the_final_runs() -> None:
    """Of the chosen settings, for every problem and seed; the ends are those of the final runs."""
    found = BEGINNINGS.table
    assert found.columns.tolist() == ["start", *(f"step {n}" for n in FIRST_STEPS), "end"]
    assert set(found.index.droplevel([n for n in CURVES if n not in ("task", "method")])) == set(
        AGAIN.items()
    )
    assert set(found.index.get_level_values("seed")) == set(FINAL_SEEDS)
    parts = found[["start", "end"]].set_axis([0, 1], axis=1)
    assert records.agree(FINAL, parts, 1e-6).all()


def test_agreement_of_a_run_with_its_record() -> None:
    """All of it agrees with itself, a row that parts is counted, and so is a mean outside."""
    task = "polynomial-2-p1.5"
    again = BEGINNINGS.table.loc[[task]].copy()
    whole = agreement(BEGINNINGS, FINAL, {task: again}).loc[task]
    assert whole.tolist() == [10, 1.0, 1.0, True]
    again.iloc[0, again.columns.get_loc("step 4")] *= 1.001
    again.iloc[1, again.columns.get_loc("end")] *= 1.001
    parted = agreement(BEGINNINGS, FINAL, {task: again}).loc[task]
    assert parted[list(PARTS)].tolist() == [0.9, 0.9]
    assert parted["inside"]
    again["end"] *= 1.5
    assert not agreement(BEGINNINGS, FINAL, {task: again}).loc[task, "inside"]
    # Expected flips: draws times bounds between categories, over two to the twenty-fourth.
    draws = 32 * 4 * 50 * len(FINAL_SEEDS)  # examples, variables, steps, seeds
    assert flips("codebook") == pytest.approx(draws * 31 / 2**24)
    assert flips("bits") == pytest.approx(200 * len(FINAL_SEEDS) / 2**24)
