"""The records of the sweep in the book: whole, of ten fresh seeds, and sane."""

from __future__ import annotations

from pathlib import Path

import pytest

from ils.lab import records
from ils.lab.intervals import estimate
from ils.lab.sweep import report
from ils.lab.sweep.contestants import CONTESTANTS, TRIALS
from ils.lab.sweep.protocol import FINAL_SEEDS, methods
from ils.lab.sweep.tasks import TASKS, TUNED

DATA = Path(__file__).resolve().parents[2] / "book" / "data"
FINAL = records.read("sweep-final", DATA)
TUNING = records.read("sweep-tuning", DATA)


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
    assert wrong["ILS, as in the note"] > 0.4
