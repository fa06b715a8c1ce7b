"""Measurements on a VAE: bias and variance of every method as it trains, and sample images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ils.estimators import Estimator
from ils.estimators.randomness import Draw
from lab.methods.learning import with_baseline_at_rest
from lab.methods.quality import enumerated, sampled
from lab.problems.enumerable import Problem
from lab.training.protocol import FINAL_SEEDS, method_of
from lab.training.task import Parameters
from lab.training.tasks import TASKS
from lab.training.tasks.autoencoder import Autoencoder
from lab.training.train import train

__all__ = ["Pictures", "Trajectory", "image_problem"]

_IMAGES = 8
_DRAWS = 400
_SHOWN = 10


def image_problem(task: Autoencoder, parameters: Parameters) -> Problem:
    """The gradient for the logits of the first test images, in float64, as a problem of the suite.

    Args:
        task: the VAE.
        parameters: of a single run, ``(1, ...)``.
    """
    exact = {name: p.double() for name, p in parameters.items()}
    images = task.images.test[:_IMAGES].flatten(-2).double().unsqueeze(0)
    batch = (images, images)

    def loss(z: Tensor) -> Tensor:
        """Draws ``(D, images, n, K)`` to values ``(D, images)``."""
        return task.loss(exact, batch, z.unsqueeze(1)).squeeze(1)

    return Problem("VAE", "trained", loss, task.logits(exact, batch).squeeze(0))


@dataclass(frozen=True)
class Trajectory:
    """Bias and variance of methods along one training run.

    Attributes:
        task: a VAE whose states can be enumerated.
        method, setting, learning_rate: of the run.
        measured: methods, settings and budgets.
        seed: of the run.
        records: how often they are measured.
    """

    task: str
    method: str
    setting: float
    learning_rate: float
    measured: tuple[tuple[str, float, int], ...]
    seed: int = FINAL_SEEDS[0]
    records: int = 5

    @property
    def name(self) -> str:
        """A file name."""
        return f"{self.task}--quality"

    def __call__(self) -> pd.DataFrame:
        """Medians over images of what :mod:`lab.methods.quality` measures, by step and method."""
        task = TASKS[self.task]
        rows: dict[tuple[int, str], dict[str, float]] = {}

        def look(step: int, parameters: Parameters) -> None:
            problem = image_problem(task, parameters)
            for name, setting, budget in self.measured:
                estimator, _ = method_of(task, name, setting, budget)
                assert isinstance(estimator, Estimator)
                if hasattr(estimator, "baseline"):
                    estimator = with_baseline_at_rest(estimator, problem)
                if isinstance(estimator.randomness, Draw):
                    quality = enumerated(estimator, problem)
                else:
                    quality = sampled(estimator, problem, draws=_DRAWS, seed=step)
                measures = quality.measures()
                rows[step, name] = {k: float(v.median()) for k, v in measures.items()}

        method, draws = method_of(task, self.method, self.setting)
        train(
            task,
            method,
            draws=draws,
            learning_rates=[self.learning_rate],
            seeds=[self.seed],
            steps=task.steps,
            split="test",
            records=self.records,
            look=look,
        )
        index = pd.MultiIndex.from_tuples(rows, names=["step", "method"])
        return pd.DataFrame(list(rows.values()), index=index)


@dataclass(frozen=True)
class Pictures:
    """Reconstructions of test images and samples of the prior after training.

    Attributes:
        task: a VAE.
        trained: methods with their settings and learning rates.
        seed: of the runs.
    """

    task: str
    trained: tuple[tuple[str, float, float], ...]
    seed: int = FINAL_SEEDS[0]

    @property
    def name(self) -> str:
        """A file name."""
        return f"{self.task}--pictures"

    def __call__(self) -> pd.DataFrame:
        """Probabilities of the pixels, index (method, kind, image); the originals are a method."""
        task: Any = TASKS[self.task]
        originals = task.images.test[:_SHOWN].flatten(-2)
        parts = {("original", "reconstruction"): originals}
        for name, setting, rate in self.trained:
            last: Parameters = {}
            method, draws = method_of(task, name, setting)
            train(
                task,
                method,
                draws=draws,
                learning_rates=[rate],
                seeds=[self.seed],
                steps=task.steps,
                split="test",
                records=1,
                look=lambda _, parameters, last=last: last.update(
                    {key: p.clone() for key, p in parameters.items()}
                ),
            )
            logits = task.logits(last, (originals.unsqueeze(0),))
            parts[name, "reconstruction"] = _decoded(task, last, logits)
            parts[name, "sample"] = _decoded(task, last, torch.zeros_like(logits))
        rows = {
            (*key, place): pixels
            for key, images in parts.items()
            for place, pixels in enumerate(images.tolist())
        }
        index = pd.MultiIndex.from_tuples(rows, names=["method", "kind", "image"])
        return pd.DataFrame(list(rows.values()), index=index)


def _decoded(task: Autoencoder, parameters: Parameters, logits: Tensor) -> Tensor:
    """Pixels for one draw from each row of logits ``(1, B, n, K)``."""
    generator = torch.Generator().manual_seed(0)
    z = Draw().sample(logits, 1, generator, 0)
    return task.decode(parameters, z).sigmoid().squeeze(1).squeeze(0)
