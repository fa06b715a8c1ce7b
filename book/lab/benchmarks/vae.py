"""One training of a VAE of real size, as a run with a record: what decides its numbers.

:mod:`lab.benchmarks.vae_sweep` says which there are and why.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ils.estimators import Estimator, leave_one_out, reinmax_control_variate
from ils.rules import (
    MVE,
    GumbelRao,
    Note,
    Ordinal,
    ReinMax,
    Rule,
    StraightThrough,
    StraightThroughGumbel,
)
from lab.run.checkout import digest
from lab.training.epochs import train
from lab.training.tasks.digits import Images, mnist
from lab.training.tasks.vae import Vae

__all__ = ["CONTESTANTS", "INDEX", "SIZES", "Contestant", "Fit", "fingerprint"]

INDEX = ["size", "method", "setting", "learning_rate", "seed", "epoch"]


@dataclass(frozen=True, repr=False)
class PerStep(Note):
    """Algorithm 1 of the note, divided by its step: in the units of a gradient."""

    def gradient(
        self, grad: Tensor, z: Tensor, logits: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """See :meth:`ils.rules.Rule.gradient`."""
        return super().gradient(grad, z, logits, noise) / self.step_size


# Not from the catalogue: a change in any method there would make hours of records stale.
_MAKE: dict[str, Callable[[float], Rule | Estimator]] = {
    "ReinMax (default)": lambda _: ReinMax(),
    "ReinMax": ReinMax,
    "straight-through": StraightThrough,
    "straight-through Gumbel": StraightThroughGumbel,
    "Gumbel-Rao": lambda t: GumbelRao(t, samples=4),
    "ILS (the note)": PerStep,
    "MVE, annealed": MVE,
    "MVE for integers": lambda _: Ordinal(),
    "ReinMax, control variate": lambda t: reinmax_control_variate(temperature=t),
    "leave-one-out": lambda count: leave_one_out(samples=int(count)),
}


@dataclass(frozen=True)
class Contestant:
    """A method at a setting.

    Attributes:
        method: its name in :mod:`lab.methods.catalogue`.
        setting: its parameter, in the first epoch.
        last: in the last epoch, where it is annealed: by the same factor each epoch.
        embedding: of the sizes at which it takes part; of all if it is empty.
    """

    method: str
    setting: float = 0.0
    last: float | None = None
    embedding: str = ""

    def at(self, epoch: int, epochs: int) -> Rule | Estimator:
        """What is trained with in an epoch, counted from 0."""
        part = 0.0 if self.last is None else epoch / max(1, epochs - 1)
        ratio = 1.0 if self.last is None else self.last / self.setting
        return _MAKE[self.method](self.setting * ratio**part)


CONTESTANTS = (
    Contestant("ReinMax (default)"),
    Contestant("ReinMax", 1.3),
    Contestant("straight-through", 1.0),
    Contestant("Gumbel-Rao", 1.0, 0.1),
    Contestant("straight-through Gumbel", 1.0, 0.1),
    Contestant("ILS (the note)", 0.1),
    Contestant("MVE, annealed", 1.0, 1e6),
    Contestant("MVE for integers", embedding="integer"),
    Contestant("ReinMax, control variate", 1.0),
    Contestant("leave-one-out", 2.0),
    Contestant("leave-one-out", 4.0),
)
"""Every method that takes part."""

SIZES: dict[str, tuple[int, int, str]] = {
    "128x4": (128, 4, "one-hot"),
    "32x16": (32, 16, "one-hot"),
    "8x64": (8, 64, "one-hot"),
    "128x4-integer": (128, 4, "integer"),
    "128x16-integer": (128, 16, "integer"),
    "128x64-integer": (128, 64, "integer"),
}
"""Variables, categories and embedding, by name."""


@cache
def _images(folder: str) -> Images:
    return mnist(Path(folder))


@cache
def fingerprint(folder: str) -> str:
    """Of the images of a folder, so that a record says what it was made from.

    Raises:
        FileNotFoundError, ValueError: as :func:`lab.training.tasks.digits.mnist`.
    """
    images, told = _images(folder), hashlib.sha256()
    for part in (images.train, images.validation, images.test):
        told.update(np.ascontiguousarray((part * 255).round().byte().numpy()))
    return told.hexdigest()[:16]


@dataclass(frozen=True)
class Fit:
    """One contestant at one size and learning rate, all seeds in one program.

    Attributes:
        folder: of the images.
        size: a key of :data:`SIZES`.
        contestant: what is trained.
        learning_rate: the largest.
        seeds: a run each.
        epochs: how many.
        split: ``validation`` holds out the last sixth of the training images and is measured on
            these; ``test`` trains on all and is measured on the test images.
        samples: draws an image behind the measures.
        device: where it runs.
        checkpoints: folder in which it is kept while it runs.
        shape: variables, categories and embedding, where they are not those of the size.
        widths, examples: of the encoder's hidden layers, and images a step.
    """

    folder: str
    size: str
    contestant: Contestant
    learning_rate: float
    seeds: tuple[int, ...]
    epochs: int
    split: str
    samples: int = 32
    device: str = "cpu"
    checkpoints: str = "_build/vae"
    shape: tuple[int, int, str] | None = None
    widths: tuple[int, ...] = (512, 256)
    examples: int = 200

    @property
    def name(self) -> str:
        """A file name."""
        who = self.contestant
        method = "".join(c if c.isalnum() else "-" for c in who.method.lower())
        end = f"{who.setting:g}--{self.learning_rate:.3g}--{self.split}"
        return f"{Path(self.folder).name}-{self.size}--{method}--{end}"

    @property
    def configuration(self) -> Mapping[str, Any]:
        """What decides the numbers: no paths, but a fingerprint of the images."""
        kept = asdict(self) | {"images": fingerprint(self.folder), "seed": list(self.seeds)}
        return {k: v for k, v in kept.items() if k not in ("folder", "checkpoints", "seeds")}

    @property
    def cost(self) -> float:
        """Rough, to begin with the longest."""
        slow = {"Gumbel-Rao": 1.7, "leave-one-out": 1 + 0.3 * self.contestant.setting}
        return slow.get(self.contestant.method, 1.0) * self.epochs * len(self.seeds)

    @property
    def checkpoint(self) -> Path:
        """The file in which it is kept while it runs."""
        return Path(self.checkpoints) / f"{self.name}.pt"

    def images(self) -> Images:
        """As they are in the folder."""
        return _images(self.folder)

    def task(self, images: Images) -> Vae:
        """What is trained on these images."""
        variables, categories, embedding = self.shape or SIZES[self.size]
        return Vae(
            categories,
            variables,
            widths=self.widths,
            examples=self.examples,
            images=images,
            embedding=embedding,
        )

    def __call__(self) -> pd.DataFrame:
        """Index :data:`INDEX`; a row an epoch, the last of which has the measures too."""
        images = self.images()
        # What is held out while a rate is chosen is trained on afterwards.
        if self.split == "test":
            images = replace(images, train=torch.cat([images.train, images.validation]))
        task = self.task(images)
        told = json.dumps([dict(self.configuration), digest(type(self).__module__)])
        parameters, losses = train(
            task,
            lambda epoch: self.contestant.at(epoch, self.epochs),
            learning_rate=self.learning_rate,
            seeds=self.seeds,
            epochs=self.epochs,
            device=self.device,
            checkpoint=self.checkpoint,
            identity=hashlib.sha256(told.encode()).hexdigest(),
        )
        ends = task.bounds(parameters, images.part(self.split), self.samples)
        trained = task.bounds(parameters, images.train, 1)
        ends["training negative ELBO"] = trained[task.measure]
        who = (self.size, self.contestant.method, self.contestant.setting, self.learning_rate)
        rows = {
            (*who, seed, epoch): {"objective": losses[epoch - 1, place].item()}
            for place, seed in enumerate(self.seeds)
            for epoch in range(1, self.epochs + 1)
        }
        for name, values in ends.items():
            for seed, value in zip(self.seeds, values.tolist(), strict=True):
                rows[(*who, seed, self.epochs)][name] = value
        index = pd.MultiIndex.from_tuples(rows, names=INDEX)
        return pd.DataFrame(list(rows.values()), index=index)
