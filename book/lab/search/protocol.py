"""On which problems the search chooses, and on which the choice is measured once.

Design: the problems of ``DESIGN``, at the seeds and rates of the tuning of the benchmarks, for half
the steps, on validation data.  Final: the problems of ``FINAL``, whose kinds the search does not
see but for the VAEs, at the final seeds and on test data, with the rates tuned as in the
benchmarks.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from lab.search.candidates import Candidate
from lab.training.tasks import TASKS
from lab.training.train import train
from lab.training.tuning import first_rates

__all__ = ["DESIGN", "FINAL", "Trial", "design"]

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
_SEEDS = 8


@dataclass(frozen=True)
class Trial:
    """A candidate on a problem of the design, at every rate with every seed in one program.

    Attributes:
        task: a key of :data:`lab.training.tasks.TASKS`.
        candidate: what is tried.
        learning_rates: of Adam.
    """

    task: str
    candidate: Candidate
    learning_rates: tuple[float, ...]

    @property
    def name(self) -> str:
        """A file name."""
        rates = "_".join(f"{rate:.2g}" for rate in self.learning_rates)
        words = self.candidate.name.replace(", ", "-").replace(" ", "-")
        return f"search-{self.task}--{words}--{rates}"

    def __call__(self) -> pd.DataFrame:
        """Measures, index (task, candidate, learning rate, seed, step)."""
        task = TASKS[self.task]
        table = train(
            task,
            self.candidate.method(),
            learning_rates=self.learning_rates,
            seeds=range(1, _SEEDS + 1),
            steps=task.steps // 2,
            split="validation",
            records=4,
        )
        key = (self.task, self.candidate.name)
        return pd.concat([table], keys=[key], names=["task", "candidate"])


def design(candidate: Candidate) -> list[Trial]:
    """The trials of a candidate; further rates are added where the best is at an end."""
    return [Trial(task, candidate, tuple(first_rates(TASKS[task]))) for task in DESIGN]
