"""The protocol: twelve trials for each method and problem, then ten fresh seeds.

*Tuning.*  Every method has :data:`~ils.lab.sweep.contestants.TRIALS` trials, each a setting with a
learning rate; each trial is run for half the steps of a final run with as many of ``TUNING_SEEDS``
as the problem says, at least two.  The trial with the least mean measure on validation data wins;
a trial in which a run ends in a number that is not finite cannot.

*Final runs.*  The winner is run with ``FINAL_SEEDS``, none of which was used before, for all steps,
and measured on test data.  A seed fixes initial parameters and examples, so runs of two
methods with one seed are a pair.  The measure at the last step counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from ils.estimators import Estimator
from ils.lab.sweep.contestants import CONTESTANTS, MAIN, TRIALS, Contestant
from ils.lab.sweep.task import Own, Task
from ils.lab.sweep.tasks import PUBLISHED, TASKS
from ils.lab.sweep.train import Objective, train

__all__ = [
    "FINAL_SEEDS",
    "TUNING_SEEDS",
    "Training",
    "choose",
    "final_runs",
    "method_of",
    "curves",
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


def methods(task: Task) -> dict[str, Contestant | Own]:
    """Every method that takes part in a problem, by name."""
    invited = [one for one in CONTESTANTS if one.name in MAIN or not task.main_only]
    serving = {one.name: one for one in invited if one.serves(task)}
    return {**serving, **task.own}


def method_of(task: Task, name: str, setting: float) -> Estimator | Objective:
    """A method at a setting, as :func:`ils.lab.sweep.train.train` takes it."""
    method = methods(task)[name]
    if isinstance(method, Contestant):
        return method.make(setting * task.step_unit if method.option == "step size" else setting)
    return lambda parameters, batch: method.objective(parameters, batch, setting)


def rates_of(task: Task, method: Contestant | Own) -> tuple[float, ...]:
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
        task: a key of :data:`ils.lab.sweep.tasks.TASKS`.
        method: a name among :func:`methods`.
        setting: its parameter.
        learning_rates: of Adam.
        seeds: see the head of this module.
        steps: how many.
        split: where the measures are taken.
        records: how often.
        device: where it runs.
    """

    task: str
    method: str
    setting: float
    learning_rates: tuple[float, ...]
    seeds: tuple[int, ...]
    steps: int
    split: str
    records: int = 20
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
    picked = ("ReinMax", "straight-through", "straight-through Gumbel", "ILS, as in the note")
    return [
        Training(task, method, 1.0, (1e-3,), FINAL_SEEDS, TASKS[task].steps, "test", device=device)
        for task in PUBLISHED
        for method in picked
    ]


def trials(table: pd.DataFrame) -> pd.DataFrame:
    """What a tuning run ends at: index (task, method, setting, learning rate), a column a seed.

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
    steps = table.index.get_level_values("step")
    place = pd.Index((steps * 20 / task.steps).round().astype(int), name="part")
    kept = table.droplevel(["setting", "learning_rate", "step"]).set_index(place, append=True)
    kept.columns.name = "measure"
    wide = kept.stack().unstack("part")
    return wide.reorder_levels(["task", "measure", "method", "seed"])


def recompute(chosen: pd.DataFrame, task: str, method: str, part: float = 0.05) -> pd.DataFrame:
    """The beginning of a method's final runs anew, as :func:`curves` has them.

    Args:
        chosen: from :func:`choose`.
        task, method: of the runs.
        part: of the run after which to end.
    """
    (run,) = final_runs(chosen.loc[[(task, method)]])
    return curves(run(part=part))
