"""The records of the search in the book: everything that was to be tried, and nothing besides."""

from __future__ import annotations

from pathlib import Path

from lab.run import records
from lab.search.candidates import CANDIDATES
from lab.search.protocol import (
    BUDGETS,
    DESIGN,
    FINAL,
    MEAN,
    choice,
    choice_with_values,
    progress,
)
from lab.search.values import WITH_VALUES
from lab.training.protocol import FINAL_SEEDS
from lab.training.tasks import REPEATED

DATA = Path(__file__).resolve().parents[3] / "book" / "data"
DESIGNED = records.read("search-design", DATA).table
CHOSEN = records.read("search-chosen", DATA).table
ENDED = records.read("search-final", DATA).table
SWEPT = records.read("sweep-final", DATA).table


def test_every_candidate_was_tried_on_every_design_problem() -> None:
    wanted = {(task, one.name, 1) for task in DESIGN for one in CANDIDATES}
    wanted |= {(task, one.name, 2) for task in DESIGN for one in WITH_VALUES}
    assert set(DESIGNED.index) == wanted
    assert DESIGNED.index.is_unique
    assert not DESIGNED.isna().any(axis=None)


def test_the_final_part_has_what_was_chosen_and_nothing_else() -> None:
    """The rule of choice, applied to the record, names what was run; once each, on fresh seeds."""
    found = progress(DESIGNED.query("budget == 1"), SWEPT)[list(DESIGN)]
    taken = {choice(found), choice(found, steady=True), CANDIDATES[0]}
    mixed = choice_with_values(progress(DESIGNED.query("budget == 2"), SWEPT)[list(DESIGN)])
    whole = [task for task in FINAL if task in REPEATED]
    wanted = {(task, one.name, 1) for task in FINAL for one in taken}
    wanted |= {(task, mixed.name, BUDGETS[0]) for task in FINAL}
    wanted |= {(task, mixed.name, BUDGETS[1]) for task in whole}
    wanted |= {(task, MEAN.name, BUDGETS[0]) for task in FINAL if task not in whole}
    assert set(CHOSEN.index) == wanted
    runs = ENDED.reset_index().groupby(["task", "method", "budget"])["seed"].unique()
    assert set(runs.index) == wanted
    assert all(tuple(sorted(seeds)) == FINAL_SEEDS for seeds in runs)
