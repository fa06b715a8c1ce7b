"""The beginning of some final runs, computed again.

The book computes the first twentieth of one method's final runs on each problem again.  Another
processor rounds differently; training amplifies small differences, and a draw that changes by
rounding changes all that follows.  So the comparison uses what is robust to rounding: the first
steps, row by row, and after the twentieth the share of rows that agree and the means over the
seeds; see :func:`agreement`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from lab.run import records as recorded
from lab.training.contestants import budgets
from lab.training.curves import wide
from lab.training.protocol import FINAL_SEEDS, INDEX, PLAIN, Entry, final_run
from lab.training.tasks import TASKS, TUNED

__all__ = [
    "AGAIN",
    "FIRST_STEPS",
    "PARTS",
    "Beginnings",
    "agreement",
    "beginnings",
    "flips",
    "recompute",
]

FIRST_STEPS = (1, 2, 4, 8, 16)
"""After which the beginning of a run is measured, beside its first twentieth."""

PARTS = ("first steps", "end")
"""What is compared of a run that is computed again, see :func:`agreement`."""

_PART = 0.05
_OTHERS = {
    "straight-through": ("polynomial-2-p1.5", "polynomial-2-p3", "bandit", "vae-8x4", "vae-10x30"),
    "leave-one-out": ("polynomial-2-p2", "control", "vae-4x24"),
    "ILS (the note)": ("clusters-10", "experts", "vae-8x16"),
    "ReinMax": ("polynomial-8-p2", "clusters-20", "codebook"),
}
_OF = {task: method for method, tasks in _OTHERS.items() for task in tasks}

AGAIN = {task: _OF.get(task, "ReinMax (default)") for task in TUNED}
"""The method whose runs are computed again, of each problem."""


def _again(task: str) -> Entry:
    method = AGAIN[task]
    return Entry(task, method, budgets(method, TASKS[task])[0])


def recompute(chosen: pd.DataFrame, task: str) -> pd.DataFrame:
    """The first twentieth of the runs that :data:`AGAIN` names.

    Args:
        chosen: from :func:`lab.training.tuning.choose`.
        task: of the runs.

    Returns:
        Index as of :func:`lab.training.curves.curves`; columns ``start``, ``step 1`` and so on for
        each of :data:`FIRST_STEPS`, and ``end``, the second of ``sweep-final``.
    """
    entry = _again(task)
    row = chosen.loc[(task, entry.method, entry.budget, 0, PLAIN)]
    run = final_run(entry, float(row["setting"]), float(row["learning_rate"]))
    last = round(_PART * run.steps)
    table = replace(run, records=(0, *FIRST_STEPS, last))(part=_PART)
    return wide(table).rename(columns=lambda n: {0: "start", last: "end"}.get(n, f"step {n}"))


def flips(task: str) -> float:
    """Draws that another rounding is expected to change in what is computed again of a problem.

    A draw compares a uniform number with cumulative probabilities.  Where two processors differ by
    one unit in the last place of float32 at each of the ``K - 1`` bounds between categories, it
    falls between the two values with a probability of ``(K - 1) / 2^24`` at most.

    Args:
        task: a problem.
    """
    about = TASKS[task]
    draws = about.draws * about.variables * getattr(about, "examples", 1)
    return draws * len(FINAL_SEEDS) * _PART * about.steps * (about.categories - 1) / 2**24


@dataclass(frozen=True)
class Beginnings:
    """What :func:`recompute` gives for every problem, as a record.

    Attributes:
        chosen: problem, method, budget, setting and learning rate of each.
    """

    chosen: tuple[tuple[str, str, int, float, float], ...]

    name = "sweep-beginnings"

    @property
    def configuration(self) -> dict[str, Any]:
        """Seeds, steps and what was chosen."""
        return {"seed": list(FINAL_SEEDS), "steps": list(FIRST_STEPS), "chosen": self.chosen}

    def __call__(self) -> pd.DataFrame:
        """See :func:`recompute`."""
        rows = {(*key, 0, PLAIN): (setting, rate) for *key, setting, rate in self.chosen}
        index = pd.MultiIndex.from_tuples(rows, names=INDEX[:5])
        chosen = pd.DataFrame(list(rows.values()), index, ["setting", "learning_rate"])
        return pd.concat([recompute(chosen, task) for task, *_ in self.chosen])


def beginnings(chosen: pd.DataFrame) -> Beginnings:
    """The run that makes the record of the beginnings.

    Args:
        chosen: from :func:`lab.training.tuning.choose`.
    """
    rows = []
    for task in AGAIN:
        one = _again(task)
        row = chosen.loc[(task, one.method, one.budget, 0, PLAIN)]
        found = float(row["setting"]), float(row["learning_rate"])
        rows.append((task, one.method, one.budget, *found))
    return Beginnings(tuple(rows))


def agreement(
    first: recorded.Record, final: recorded.Record, again: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """How far runs that are computed again follow their records.

    A row is one measure of one seed; it agrees when all its entries do to 1e-4 of the largest.

    Args:
        first: the record ``sweep-beginnings``.
        final: the record ``sweep-final``.
        again: from :func:`recompute`, by problem.

    Returns:
        A row a problem: ``rows``; the shares of these that agree over the ``first steps`` and, with
        ``sweep-final``, at the ``end`` of the part; and whether ``inside``: for each measure, the
        mean over the seeds at the end lies between the least and the largest seed of the record.
    """
    found = {}
    for task, table in again.items():
        parts = table[["start", "end"]].set_axis([0, 1], axis=1)
        ends = final.table.loc[table.index, 1].groupby(level="measure")
        mean = table["end"].groupby(level="measure").mean()
        found[task] = {
            "rows": len(table),
            PARTS[0]: recorded.agree(first, table.filter(like="step"), 1e-4).mean(),
            PARTS[1]: recorded.agree(final, parts, 1e-4).mean(),
            "inside": bool(((ends.min() <= mean) & (mean <= ends.max())).all()),
        }
    return pd.DataFrame(found).T.rename_axis("problem").infer_objects()
