"""The protocol of the two experiments, as that of the benchmarks (:mod:`lab.training.protocol`).

*Tuning.*  Every method has twelve trials: twelve learning rates of Adam, or three temperatures with
four learning rates each, evenly spaced logarithms between the same two ends.  A trial is run for
half the steps of a final run with the first tuning seeds, 4 on counts and 20 on the mixture; the
least mean measure wins, on validation images where there are images.  A trial with a run that ends
in a number that is not finite cannot win.

*Final runs.*  The winner is run for all steps with fresh seeds, 10 on counts and 100 on the
mixture, where a seed decides which modes the start can see.  A seed fixes initial parameters and
the order of the images, so that runs of two methods with one seed are a pair.  The measure at the
last step counts.

Ends of the learning rates and temperatures, steps and numbers of seeds were set after a pilot with
seeds from 1001 on, which no run here uses, and not changed afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from lab.beyond.models.counts import CountAutoencoder
from lab.beyond.models.posterior import MixturePosterior
from lab.training.task import Own, Parameters, Task
from lab.training.train import Objective, train

__all__ = [
    "EXPERIMENTS",
    "SEEDS",
    "TRIALS",
    "Chosen",
    "Final",
    "Tuning",
    "choose",
    "final_of",
    "objective_of",
    "rates_of",
    "recompute",
    "rows_of",
    "trained",
]

EXPERIMENTS: dict[str, Task] = {"counts": CountAutoencoder(), "mixture": MixturePosterior()}
SEEDS = {"counts": tuple(range(101, 111)), "mixture": tuple(range(101, 201))}
"""Of the final runs; those of the tuning begin at 1."""

TRIALS = 12
"""Of each method: its settings times as many learning rates as fill them."""

_RECORDS = 20

Chosen = tuple[tuple[str, float, float], ...]
"""Methods with their settings and learning rates."""


def objective_of(experiment: str, method: str, setting: float) -> Objective:
    """A method at a setting, as :func:`lab.training.train.train` takes it."""
    own = EXPERIMENTS[experiment].own[method]
    return lambda parameters, batch, _: own.objective(parameters, batch, setting)


def rates_of(task: Task, method: Own) -> tuple[float, ...]:
    """The learning rates of each setting: evenly spaced logarithms over the task's range."""
    count = TRIALS // len(method.settings)
    least, most = (torch.tensor(rate, dtype=torch.float64).log10().item() for rate in task.rates)
    return tuple(
        float(f"{rate:.3g}") for rate in torch.logspace(least, most, count, dtype=torch.float64)
    )


@dataclass(frozen=True)
class Tuning:
    """Every trial of every method.

    Attributes:
        experiment: a key of :data:`EXPERIMENTS`.
    """

    experiment: str

    @property
    def name(self) -> str:
        """Of the record."""
        return f"models-{self.experiment}-tuning"

    @property
    def configuration(self) -> dict[str, Any]:
        """Seeds, steps, ends of the learning rates and settings of the methods."""
        task = EXPERIMENTS[self.experiment]
        return {
            "seed": list(range(1, 1 + task.tuning_seeds)),
            "steps": task.steps // 2,
            "trials": TRIALS,
            "rates": list(task.rates),
            "settings": {name: list(own.settings) for name, own in task.own.items()},
        }

    def __call__(self) -> pd.DataFrame:
        """Final measures, index (method, setting, learning rate), a column a seed."""
        task, parts = EXPERIMENTS[self.experiment], {}
        for name, own in task.own.items():
            for setting in own.settings:
                table = train(
                    task,
                    objective_of(self.experiment, name, setting),
                    learning_rates=rates_of(task, own),
                    seeds=self.configuration["seed"],
                    steps=task.steps // 2,
                    split="validation",
                    records=1,
                )
                last = table.xs(task.steps // 2, level="step")[task.measure]
                parts[name, setting] = last.unstack("seed")
        return pd.concat(parts, names=["method", "setting"])


def choose(trials: pd.DataFrame) -> Chosen:
    """The winning trial of each method.

    Args:
        trials: from :class:`Tuning`.
    """
    means = trials.mean(axis=1, skipna=False).fillna(float("inf"))
    best = means.groupby(level="method", sort=False).idxmin()
    return tuple((str(name), float(setting), float(rate)) for name, setting, rate in best)


def trained(
    experiment: str,
    chosen: tuple[str, float, float],
    *,
    records: int = _RECORDS,
    part: float = 1.0,
    seeds: tuple[int, ...] = (),
    look: Callable[[int, Parameters], None] | None = None,
) -> pd.DataFrame:
    """A final run of a method, or its beginning; draws depend on which seeds are run together.

    Args:
        experiment: a key of :data:`EXPERIMENTS`.
        chosen: method, setting, learning rate.
        records: how often measures are taken.
        part: of the run after which to end.
        seeds: by default all.
        look: as in :func:`lab.training.train.train`.
    """
    task, (method, setting, rate) = EXPERIMENTS[experiment], chosen
    return train(
        task,
        objective_of(experiment, method, setting),
        learning_rates=[rate],
        seeds=seeds or SEEDS[experiment],
        steps=task.steps,
        split="test",
        records=records,
        part=part,
        look=look,
    )


@dataclass(frozen=True)
class Final:
    """The winners, with fresh seeds.

    Attributes:
        experiment: a key of :data:`EXPERIMENTS`.
        chosen: from :func:`choose`.
    """

    experiment: str
    chosen: Chosen

    @property
    def name(self) -> str:
        """Of the record."""
        return f"models-{self.experiment}-final"

    @property
    def configuration(self) -> dict[str, Any]:
        """Seeds, steps and what was chosen."""
        steps = EXPERIMENTS[self.experiment].steps
        return {"seed": list(SEEDS[self.experiment]), "steps": steps, "chosen": self.chosen}

    def __call__(self) -> pd.DataFrame:
        """See :func:`rows_of`."""
        parts = [rows_of(self.experiment, c[0], trained(self.experiment, c)) for c in self.chosen]
        return pd.concat(parts)


def final_of(experiment: str, trials: pd.DataFrame) -> Final:
    """The final runs after a tuning."""
    return Final(experiment, choose(trials))


def rows_of(experiment: str, method: str, table: pd.DataFrame) -> pd.DataFrame:
    """Measures of a run, index (measure, method, seed), a column a twentieth of the run."""
    steps = table.index.get_level_values("step")
    place = (steps * _RECORDS / EXPERIMENTS[experiment].steps).round().astype(int)
    kept = table.droplevel(["learning_rate", "step"]).set_index(
        pd.Index(place, name="part"), append=True
    )
    kept.columns.name = "measure"
    wide = pd.concat([kept.stack().unstack("part")], keys=[method], names=["method"])
    return wide.reorder_levels(["measure", "method", "seed"])


def recompute(final: Final, method: str, part: float = 0.05) -> pd.DataFrame:
    """The beginning of a method's final runs anew, all seeds, as its record has them."""
    (chosen,) = [one for one in final.chosen if one[0] == method]
    return rows_of(final.experiment, method, trained(final.experiment, chosen, part=part))
