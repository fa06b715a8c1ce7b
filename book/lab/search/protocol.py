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

*With values.* Estimators of :data:`lab.search.values.ESTIMATORS` see losses and derivatives of
several draws. They are tuned on the design problems with two evaluations a step, and the one with
the greatest mean progress is taken, as all are candidates for one place and none is the default.
It is tuned and run once on the final problems with two, and with four on those of them on which the
benchmarks have four; and so is, with two, the mean of ReinMax where the benchmarks lack it. *Asked*
is, at each budget, a lower final measure than leave-one-out, double control variates, REBAR and the
mean of ReinMax on at least 80% of the problems, and elsewhere a difference within what entries of
one method have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lab.search.candidates import CANDIDATES, Candidate
from lab.search.values import ESTIMATORS, WITH_VALUES, WithValues
from lab.training.curves import CURVES, curves
from lab.training.protocol import DEFAULT, PLAIN, Entry, Training, final_run
from lab.training.tasks import REPEATED, TASKS
from lab.training.tuning import choose, table_of, tune

__all__ = [
    "BUDGETS",
    "DESIGN",
    "FINAL",
    "MOST",
    "Tried",
    "choice",
    "choice_with_values",
    "finals",
    "progress",
    "tuned",
    "tuned_with_values",
]

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
BUDGETS = (2, 4)
"""Of those that see values: the search has the first, the final part both."""
MEAN = WithValues(DEFAULT)
"""The mean of ReinMax draws."""

EVERY: tuple[Candidate | WithValues, ...] = (*CANDIDATES, *WITH_VALUES)

Execute = Callable[[Sequence[Training]], Mapping[Training, pd.DataFrame]]


@dataclass(frozen=True)
class Tried(Entry):
    """A candidate on a problem, with the evaluations of an entry of the benchmarks.

    Attributes:
        candidate: its place in :data:`EVERY` is the setting.
    """

    candidate: Candidate | WithValues = CANDIDATES[0]

    @property
    def settings(self) -> tuple[float, ...]:
        """One."""
        return (float(EVERY.index(self.candidate)),)

    def at(self, setting: float) -> tuple[Any, int]:
        """See :meth:`lab.training.protocol.Entry.at`."""
        return self.candidate.made(TASKS[self.task].draws * self.budget)


def tuned(
    candidates: Sequence[Candidate | WithValues],
    tasks: Sequence[str],
    run: Execute,
    budgets: Sequence[int] = (1,),
) -> pd.DataFrame:
    """What was chosen for each candidate on each problem.

    Args:
        candidates: of :data:`EVERY`.
        tasks: problems.
        run: executes runs.
        budgets: evaluations a step.

    Returns:
        Index (task, candidate, budget); columns of :func:`lab.training.tuning.choose`.
    """
    every = [(one, task, budget) for one in candidates for task in tasks for budget in budgets]
    wanted = [Tried(task, DEFAULT, budget, candidate=one) for one, task, budget in every]
    parts = {}
    for entry, trials in tune(wanted, run).items():
        assert isinstance(entry, Tried)
        key = entry.task, entry.candidate.name, entry.budget
        parts[key] = choose(table_of({entry: trials})).iloc[0]
    found = pd.DataFrame(parts).T.infer_objects()
    return found.rename_axis(["task", "candidate", "budget"])


def tuned_with_values(taken: WithValues, run: Execute) -> pd.DataFrame:
    """What was chosen on the final problems, as :func:`tuned`: for the one taken, and the mean."""
    whole = [name for name in FINAL if name in REPEATED]
    parts = [
        tuned([taken], FINAL, run, BUDGETS[:1]),
        tuned([taken], whole, run, BUDGETS[1:]),
        tuned([MEAN], [name for name in FINAL if name not in whole], run, BUDGETS[:1]),
    ]
    return pd.concat(parts)


def progress(design: pd.DataFrame, final: pd.DataFrame) -> pd.DataFrame:
    """How far each candidate comes on validation data: a row a candidate, a column a problem.

    Args:
        design: from :func:`tuned`.
        final: the record ``sweep-final``, from which the beginnings are taken.
    """
    ends = design["validation"].droplevel("budget").unstack("task")
    ends = ends.reindex([one.name for one in EVERY if one.name in ends.index])
    keys = {task: (task, TASKS[task].measure, DEFAULT, 1, 0, PLAIN) for task in ends}
    start = pd.Series(
        {task: final.xs(key, level=CURVES[:-1])[0].mean() for task, key in keys.items()}
    )
    return (start - ends) / (start - ends.min())


def choice_with_values(found: pd.DataFrame) -> WithValues:
    """Of the estimators that see values the one with the greatest mean progress."""
    return WithValues(found.loc[list(ESTIMATORS)].mean(axis=1).idxmax())


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
    named = {one.name: one for one in EVERY}
    runs: dict[Training, str] = {}
    for (task, name, budget), row in chosen.iterrows():  # type: ignore[misc]
        entry = Tried(task, DEFAULT, budget, candidate=named[name])
        one = final_run(entry, entry.settings[0], float(row["learning_rate"]))
        runs[one] = name
    parts = [
        curves(table).rename({DEFAULT: runs[one]}, level="method")
        for one, table in run(list(runs)).items()
    ]
    return pd.concat(parts)
