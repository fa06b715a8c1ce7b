"""The records of the sweep in the book: whole, of ten fresh seeds, and sane."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.benchmarks import report
from lab.run import records
from lab.show.intervals import estimate
from lab.training.contestants import CONTESTANTS, TRIALS
from lab.training.protocol import (
    AGAIN,
    FINAL_SEEDS,
    FIRST_STEPS,
    PARTS,
    agreement,
    beginnings,
    choose,
    flips,
    methods,
    recompute,
)
from lab.training.tasks import TASKS, TUNED

DATA = Path(__file__).resolve().parents[3] / "book" / "data"
FINAL = records.read("sweep-final", DATA)
TUNING = records.read("sweep-tuning", DATA)
BEGINNINGS = records.read("sweep-beginnings", DATA)


@pytest.mark.parametrize("name", TUNED)
def test_whole(name: str) -> None:
    """Every method that serves a problem has its trials, and ten fresh seeds."""
    ends = report.ends(FINAL.table, name)
    assert set(ends.index) == set(methods(TASKS[name]))
    assert tuple(ends.columns) == FINAL_SEEDS
    tried = TUNING.table.loc[name].groupby(level="method").size()
    assert (tried == TRIALS).all()
    assert set(tried.index) == set(ends.index)


def test_provenance() -> None:
    """No run is missing; the whole sweep took less than 90 minutes on two cores."""
    about = FINAL.provenance
    assert about["configuration"]["failed"] == []
    assert about["configuration"]["workers"] == 2
    assert about["seconds"] < 90 * 60
    assert about["commit"]


def test_reinmax_beats_straight_through_where_it_was_published() -> None:
    """On the polynomial with p = 2, by the published settings and by tuned ones."""
    for name in ("polynomial-2-p2-published", "polynomial-2-p2"):
        ends = report.ends(FINAL.table, name)
        assert estimate(ends.loc["straight-through"] - ends.loc["ReinMax"]).low > 0.02
        assert ends.loc["ReinMax"].mean() > TASKS[name].optimum


def test_unbiased_methods_solve_one_bit_and_the_note_does_not() -> None:
    """The problem ``(b - .45)^2``, whose optimum is ``b = 0``."""
    wrong = report.ends(FINAL.table, "bits", "wrong, t = 0.45").mean(axis=1)
    unbiased = [one.name for one in CONTESTANTS if not one.make(one.settings[0]).biased]
    assert len(unbiased) == 11
    assert (wrong[unbiased] < 0.05).all()
    assert wrong["ILS (the note)"] > 0.4


def test_beginnings_belong_to_the_final_runs() -> None:
    """Of the chosen settings, for every problem and seed; the ends are those of the final runs."""
    found = BEGINNINGS.table
    assert found.columns.tolist() == ["start", *(f"step {n}" for n in FIRST_STEPS), "end"]
    assert set(found.index.droplevel(["measure", "seed"])) == set(AGAIN.items())
    assert set(found.index.get_level_values("seed")) == set(FINAL_SEEDS)
    run = beginnings(choose(TUNING.table))
    assert BEGINNINGS.provenance["configuration"]["chosen"] == [list(row) for row in run.chosen]
    parts = found[["start", "end"]].set_axis([0, 1], axis=1)
    assert records.agree(FINAL, parts[[0]], 1e-6).all()
    # The final runs wait to be made anew, and those on codebook part by rounding.
    apart = records.agree(FINAL, parts, 1e-6).loc[lambda same: ~same].index
    assert set(apart.get_level_values("task")) <= {"codebook"}


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


def test_first_steps_are_computed_again() -> None:
    """On any processor: the first steps, on the problem whose runs part soonest."""
    found = agreement(
        BEGINNINGS, FINAL, {"codebook": recompute(choose(TUNING.table), "codebook")}
    ).loc["codebook"]
    assert found["first steps"] >= 0.5
    assert found["inside"]


def test_expected_flips() -> None:
    """Draws times bounds between categories, over two to the twenty-fourth."""
    draws = 32 * 4 * 50 * len(FINAL_SEEDS)  # examples, variables, steps, seeds
    assert flips("codebook") == pytest.approx(draws * 31 / 2**24)
    assert flips("bits") == pytest.approx(200 * len(FINAL_SEEDS) / 2**24)
