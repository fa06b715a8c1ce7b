"""The protocol: twelve trials for each method and problem, then ten fresh seeds.

*Tuning.*  Every method has :data:`~lab.training.contestants.TRIALS` trials, each a setting with a
learning rate; each trial is run for half the steps of a final run with as many of ``TUNING_SEEDS``
as the problem says, at least two.  The trial with the least mean measure on validation data wins;
a trial in which a run ends in a number that is not finite cannot.

*Final runs.*  The winner is run with ``FINAL_SEEDS``, none of which was used before, for all steps,
and measured on test data.  A seed fixes initial parameters and examples, so runs of two
methods with one seed are a pair.  The measure at the last step counts.

*Computed again.*  The book computes the first twentieth of one method's final runs on each problem
again.  Another processor rounds differently; training amplifies small differences, and a draw that
changes by rounding changes all that follows.  So the comparison uses what is robust to rounding:
the first steps, row by row, and after the twentieth the share of rows that agree and the means over
the seeds; see :func:`agreement`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch

from ils.estimators import Estimator
from lab.methods.catalogue import Method
from lab.run import records as recorded
from lab.training.contestants import CONTESTANTS, MAIN, TRIALS, serves
from lab.training.task import Own, Task
from lab.training.tasks import PUBLISHED, TASKS, TUNED
from lab.training.train import Objective, train

__all__ = [
    "AGAIN",
    "FINAL_SEEDS",
    "FIRST_STEPS",
    "PARTS",
    "TUNING_SEEDS",
    "Beginnings",
    "Training",
    "agreement",
    "beginnings",
    "choose",
    "final_runs",
    "method_of",
    "curves",
    "flips",
    "methods",
    "published_runs",
    "trials",
    "rates_of",
    "recompute",
    "tuning_runs",
]

TUNING_SEEDS = tuple(range(1, 11))
FINAL_SEEDS = tuple(range(101, 111))
COLUMNS = ["task", "method", "setting"]

FIRST_STEPS = (1, 2, 4, 8, 16)
"""After which the beginning of a run is measured, beside its first twentieth."""

PARTS = ("first steps", "end")
"""What is compared of a run that is computed again, see :func:`agreement`."""

_PART = 0.05
_OTHERS = {
    "straight-through": ("polynomial-2-p1.5", "clusters-3", "bandit", "vae-8x4", "vae-10x30"),
    "leave-one-out": ("polynomial-2-p2", "clusters-5", "control", "vae-4x24"),
    "ILS (the note)": ("polynomial-2-p3", "clusters-10", "experts", "vae-8x16"),
    "ReinMax": ("polynomial-8-p2", "clusters-20", "codebook", "vae-16x12"),
}
_OF = {task: method for method, tasks in _OTHERS.items() for task in tasks}

AGAIN = {task: _OF.get(task, "ReinMax (default)") for task in TUNED}
"""The method whose runs are computed again, of each problem."""


def methods(task: Task) -> dict[str, Method | Own]:
    """Every method that takes part in a problem, by name."""
    invited = [one for one in CONTESTANTS if one.name in MAIN or not task.main_only]
    serving = {one.name: one for one in invited if serves(one, task)}
    return {**serving, **task.own}


def method_of(task: Task, name: str, setting: float) -> Estimator | Objective:
    """A method at a setting, as :func:`lab.training.train.train` takes it."""
    method = methods(task)[name]
    if isinstance(method, Method):
        return method.make(setting * task.step_unit if method.option == "step size" else setting)
    return lambda parameters, batch: method.objective(parameters, batch, setting)


def rates_of(task: Task, method: Method | Own) -> tuple[float, ...]:
    """The learning rates of each setting: evenly spaced logarithms over the task's range."""
    count = TRIALS // len(method.settings)
    least, most = (torch.tensor(rate, dtype=torch.float64).log10().item() for rate in task.rates)
    return tuple(
        float(f"{rate:.3g}") for rate in torch.logspace(least, most, count, dtype=torch.float64)
    )


@dataclass(frozen=True)
class Training:
    """One method at one setting on one problem: every learning rate and seed in one program.

    Attributes:
        task: a key of :data:`lab.training.tasks.TASKS`.
        method: a name among :func:`methods`.
        setting: its parameter.
        learning_rates: of Adam.
        seeds: see the head of this module.
        steps: how many.
        split: where the measures are taken.
        records: how often, or after which steps.
        device: where it runs.
    """

    task: str
    method: str
    setting: float
    learning_rates: tuple[float, ...]
    seeds: tuple[int, ...]
    steps: int
    split: str
    records: int | tuple[int, ...] = 20
    device: str = "cpu"

    @property
    def name(self) -> str:
        """A file name."""
        method = "".join(letter if letter.isalnum() else "-" for letter in self.method.lower())
        return f"{self.task}--{method}--{self.setting:g}--{self.split}"

    @property
    def cost(self) -> float:
        """Rough, to begin with the longest."""
        task = TASKS[self.task]
        numbers = max(task.draws, getattr(task, "examples", 1)) * task.variables * task.categories
        slow = 4.0 if self.method in ("Gumbel-Rao", "DisARM, categorical", "leave-one-out") else 1.0
        return slow * self.steps * len(self.learning_rates) * len(self.seeds) * (numbers + 1000)

    def __call__(self, part: float = 1.0) -> pd.DataFrame:
        """Measures, index (task, method, setting, learning rate, seed, step).

        Args:
            part: of the run after which to end.
        """
        task = TASKS[self.task]
        table = train(
            task,
            method_of(task, self.method, self.setting),
            learning_rates=self.learning_rates,
            seeds=self.seeds,
            steps=self.steps,
            split=self.split,
            records=self.records,
            part=part,
            device=self.device,
        )
        return pd.concat([table], keys=[(self.task, self.method, self.setting)], names=COLUMNS)


def tuning_runs(names: Sequence[str], device: str = "cpu") -> list[Training]:
    """Every trial of every method on the problems named."""
    runs = []
    for name in names:
        task = TASKS[name]
        for method_name, method in methods(task).items():
            for setting in method.settings:
                runs.append(
                    Training(
                        name,
                        method_name,
                        setting,
                        rates_of(task, method),
                        TUNING_SEEDS[: task.tuning_seeds],
                        task.steps // 2,
                        "validation",
                        records=4,
                        device=device,
                    )
                )
    return runs


def choose(trials: pd.DataFrame) -> pd.DataFrame:
    """The winning trial of each method.

    Args:
        trials: final measures, index (task, method, setting, learning rate), a column a seed.

    Returns:
        Index (task, method); columns ``setting``, ``learning_rate``, ``validation``.
    """
    # Problems differ in the number of seeds: the columns of others are empty.
    parts = [
        part[list(TUNING_SEEDS[: TASKS[name].tuning_seeds])].mean(axis=1, skipna=False)
        for name, part in trials.groupby(level="task", sort=False)
    ]
    means = pd.concat(parts).fillna(float("inf"))
    best = means.groupby(level=["task", "method"], sort=False).idxmin()
    rows = {key[:2]: (*key[2:], means[key]) for key in best}
    index = pd.MultiIndex.from_tuples(rows, names=["task", "method"])
    return pd.DataFrame(list(rows.values()), index, ["setting", "learning_rate", "validation"])


def final_runs(chosen: pd.DataFrame, device: str = "cpu") -> list[Training]:
    """The winners, on fresh seeds and test data."""
    runs = []
    for (name, method), row in chosen.iterrows():
        runs.append(
            Training(
                name,
                method,
                float(row["setting"]),
                (float(row["learning_rate"]),),
                FINAL_SEEDS,
                TASKS[name].steps,
                "test",
                device=device,
            )
        )
    return runs


def published_runs(device: str = "cpu") -> list[Training]:
    """The polynomial problem at the settings of Liu et al. (2023), where nothing is tuned."""
    picked = ("ReinMax", "straight-through", "straight-through Gumbel", "ILS (the note)")
    return [
        Training(task, method, 1.0, (1e-3,), FINAL_SEEDS, TASKS[task].steps, "test", device=device)
        for task in PUBLISHED
        for method in picked
    ]


def trials(table: pd.DataFrame) -> pd.DataFrame:
    """Final measures of a tuning run, index (task, method, setting, learning rate), by seed.

    Args:
        table: as :class:`Training` returns it, or several, of one problem.
    """
    measure = TASKS[table.index.get_level_values("task")[0]].measure
    last = table.xs(table.index.get_level_values("step").max(), level="step")[measure]
    return last.unstack("seed")


def curves(table: pd.DataFrame) -> pd.DataFrame:
    """Curves of a final run: index (task, measure, method, seed), a column a twentieth of the run.

    Args:
        table: as :class:`Training` returns it, of one problem.
    """
    task = TASKS[table.index.get_level_values("task")[0]]
    return _wide(table).rename(columns=lambda step: round(step * 20 / task.steps))


def _wide(table: pd.DataFrame) -> pd.DataFrame:
    """Index (task, measure, method, seed), a column a step at which it was measured."""
    kept = table.droplevel(["setting", "learning_rate"])
    kept.columns.name = "measure"
    wide = kept.stack().unstack("step")
    return wide.reorder_levels(["task", "measure", "method", "seed"])


def recompute(chosen: pd.DataFrame, task: str) -> pd.DataFrame:
    """The first twentieth of the runs that :data:`AGAIN` names.

    Args:
        chosen: from :func:`choose`.
        task: of the runs.

    Returns:
        Index (task, measure, method, seed); columns ``start``, ``step 1`` and so on for each of
        :data:`FIRST_STEPS`, and ``end``, which the record ``sweep-final`` has as its second.
    """
    (run,) = final_runs(chosen.loc[[(task, AGAIN[task])]])
    last = round(_PART * run.steps)
    table = replace(run, records=(0, *FIRST_STEPS, last))(part=_PART)
    return _wide(table).rename(columns=lambda n: {0: "start", last: "end"}.get(n, f"step {n}"))


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
        chosen: problem, method, setting and learning rate of each.
    """

    chosen: tuple[tuple[str, str, float, float], ...]

    name = "sweep-beginnings"

    @property
    def configuration(self) -> dict[str, Any]:
        """Seeds, steps and what was chosen."""
        return {"seed": list(FINAL_SEEDS), "steps": list(FIRST_STEPS), "chosen": self.chosen}

    def __call__(self) -> pd.DataFrame:
        """See :func:`recompute`."""
        columns = ["task", "method", "setting", "learning_rate"]
        chosen = pd.DataFrame(list(self.chosen), columns=columns).set_index(["task", "method"])
        return pd.concat([recompute(chosen, task) for task, *_ in self.chosen])


def beginnings(chosen: pd.DataFrame) -> Beginnings:
    """The run that makes the record of the beginnings.

    Args:
        chosen: from :func:`choose`.
    """
    rows = [(task, method, *chosen.loc[(task, method)].iloc[:2]) for task, method in AGAIN.items()]
    return Beginnings(tuple((task, method, float(a), float(b)) for task, method, a, b in rows))


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
