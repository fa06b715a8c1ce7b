"""On which problems the search chooses, how, and on which the choice is measured once.

*Design.* Every candidate is tuned on the problems of :data:`DESIGN` as an entry of the benchmarks
is (:mod:`lab.training.tuning`): at several rates, with the same seeds, for half the steps, on
validation data. *Choice.* Progress is 0 where a run begins and 1 where the best candidate ends. Of
the candidates that lose no more than :data:`MOST` against the default on any problem the one with
the greatest mean progress is taken; and of those that do not fade, likewise. *Final.* These two and
the default are tuned on the problems of :data:`FINAL`, and run with the final seeds on test data,
once. The kinds of these problems the search does not see, but for the VAEs. *Asked* is, on these, a
probability of more progress of at least .5 against every method with one evaluation a step at its
tuned parameter and of .6 against all together, and nowhere a tenth less progress than the best.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lab.search.candidates import CANDIDATES, Candidate
from lab.training.again import CURVES, curves
from lab.training.protocol import DEFAULT, PLAIN, Entry, Training, final_run
from lab.training.tasks import TASKS
from lab.training.tuning import choose, table_of, tune

__all__ = ["DESIGN", "FINAL", "MOST", "Tried", "choice", "finals", "progress", "tuned"]

DESIGN = ("bits", "polynomial-2-p2", "subset", "experts", "codebook", "vae-8x4")
FINAL = (
    "clusters-10",
    "clusters-20",
    "bandit",
    "control",
    "halves-8x16",
    "vae-4x24",
    "vae-8x16",
    "vae-10x30",
)
MOST = 0.1

Execute = Callable[[Sequence[Training]], Mapping[Training, pd.DataFrame]]


@dataclass(frozen=True)
class Tried(Entry):
    """A candidate on a problem, with one evaluation a step.

    Attributes:
        candidate: its place in :data:`lab.search.candidates.CANDIDATES` is the setting.
    """

    candidate: Candidate = CANDIDATES[0]

    @property
    def settings(self) -> tuple[float, ...]:
        """One."""
        return (float(CANDIDATES.index(self.candidate)),)

    def at(self, setting: float) -> tuple[Any, int]:
        """See :meth:`lab.training.protocol.Entry.at`."""
        return self.candidate.method(), 1


def tuned(candidates: Sequence[Candidate], tasks: Sequence[str], run: Execute) -> pd.DataFrame:
    """What was chosen for each candidate on each problem.

    Args:
        candidates: of :data:`lab.search.candidates.CANDIDATES`.
        tasks: problems.
        run: executes runs.

    Returns:
        Index (task, candidate); columns of :func:`lab.training.tuning.choose`.
    """
    wanted = [Tried(task, DEFAULT, candidate=one) for one in candidates for task in tasks]
    parts = {}
    for entry, trials in tune(wanted, run).items():
        assert isinstance(entry, Tried)
        parts[entry.task, entry.candidate.name] = choose(table_of({entry: trials})).iloc[0]
    found = pd.DataFrame(parts).T.infer_objects()
    return found.rename_axis(["task", "candidate"])


def progress(design: pd.DataFrame, final: pd.DataFrame) -> pd.DataFrame:
    """How far each candidate comes on validation data: a row a candidate, a column a problem.

    Args:
        design: from :func:`tuned`.
        final: the record ``sweep-final``, from which the beginnings are taken.
    """
    ends = design["validation"].unstack("task")
    ends = ends.reindex([one.name for one in CANDIDATES if one.name in ends.index])
    keys = {task: (task, TASKS[task].measure, DEFAULT, 1, 0, PLAIN) for task in ends}
    start = pd.Series(
        {task: final.xs(key, level=CURVES[:-1])[0].mean() for task, key in keys.items()}
    )
    return (start - ends) / (start - ends.min())


def choice(found: pd.DataFrame, steady: bool = False) -> Candidate:
    """The candidate that is taken.

    Args:
        found: from :func:`progress`.
        steady: among those that do not fade.
    """
    safe = (found >= found.loc[CANDIDATES[0].name] - MOST).all(axis=1)
    kept = [one for one in CANDIDATES if safe.get(one.name) and not (steady and one.fades)]
    return max(kept, key=lambda one: found.loc[one.name].mean())


def finals(chosen: pd.DataFrame, run: Execute) -> pd.DataFrame:
    """The final runs: the index of ``sweep-final``, the method being the candidate's name.

    Args:
        chosen: from :func:`tuned`, on the problems of :data:`FINAL`.
        run: executes runs.
    """
    named = {one.name: one for one in CANDIDATES}
    runs: dict[Training, str] = {}
    for (task, name), row in chosen.iterrows():
        entry = Tried(task, DEFAULT, candidate=named[name])
        one = final_run(entry, entry.settings[0], float(row["learning_rate"]))
        runs[one] = name
    parts = [
        curves(table).rename({DEFAULT: runs[one]}, level="method")
        for one, table in run(list(runs)).items()
    ]
    return pd.concat(parts)
