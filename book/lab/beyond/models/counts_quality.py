r"""Bias and variance of gradients for the rates, exactly, along the training of a small VAE.

With three variables the sum over all counts is feasible, truncated where less than ``1e-12`` of the
mass of a variable lies beyond.  So the exact gradient for the rates of an image is known, and the
mean and the variance of every method whose noise is a draw of the counts; those of the two
relaxations are estimated.  All are for two draws, as in a training step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import torch
from scipy.stats import poisson
from torch import Tensor

from lab.beyond.models import rates
from lab.beyond.models.counts import DRAWS, CountAutoencoder, gumbel_noise
from lab.beyond.models.moments import from_estimates, from_moments
from lab.training.task import Parameters
from lab.training.train import train

__all__ = ["CountsQuality", "Moments", "enumerate_counts", "moments_of", "quality_of"]

_IMAGES = 8
_ESTIMATES = 2000
_TAIL = 1e-12
_RECORDS = 6
_VELOCITIES = {
    "ils.distributions": rates.ils,
    "straight-through": rates.straight_through,
    "any distribution": rates.any_distribution,
}

Loss = Callable[[Tensor], Tensor]
Moments = dict[str, tuple[Tensor, Tensor]]
"""Of each method mean, ``(n,)``, and trace of the covariance, of two draws."""


def enumerate_counts(rate: Tensor) -> tuple[Tensor, Tensor]:
    """All counts ``(S, n)`` that matter for rates ``(n,)``, and their probabilities ``(S,)``."""
    lines = [
        torch.arange(int(poisson.isf(_TAIL, float(one))) + 2, dtype=rate.dtype) for one in rate
    ]
    z = torch.cartesian_prod(*lines)
    return z, rates.log_prob(z, rate).sum(-1).exp()


def moments_of(loss: Loss, rate: Tensor) -> tuple[Tensor, Moments]:
    """The exact gradient ``(n,)``, and the moments of the methods that draw counts.

    Args:
        loss: maps counts ``(S, n)`` to ``(S,)``.
        rate: ``(n,)``, in float64.
    """
    z, probs = enumerate_counts(rate)
    values, slopes = _differentiate(loss, z)
    # Centred losses lose fewer digits to rounding; no method depends on a constant in the loss.
    centred = values - probs @ values
    score = z / rate - 1
    exact = (probs * centred) @ score
    found: Moments = {
        name: _summary(probs, velocity(z, rate) * slopes, DRAWS)
        for name, velocity in _VELOCITIES.items()
    }
    steps = torch.eye(len(rate), dtype=rate.dtype)
    after = torch.stack([loss(z + step) for step in steps], -1)
    found["differences"] = _summary(probs, after - values.unsqueeze(-1), DRAWS)
    found["leave-one-out"] = (exact, _pair_second(probs, centred, score) - exact.square().sum())
    return exact, found


def _differentiate(loss: Loss, z: Tensor) -> tuple[Tensor, Tensor]:
    moving = z.clone().requires_grad_()
    values = loss(moving)
    (slopes,) = torch.autograd.grad(values.sum(), moving)
    return values.detach(), slopes


def _summary(probs: Tensor, estimates: Tensor, draws: int) -> tuple[Tensor, Tensor]:
    mean = probs @ estimates
    return mean, (probs @ (estimates - mean) ** 2).sum() / draws


def _pair_second(probs: Tensor, f: Tensor, s: Tensor) -> Tensor:
    """``E |(f_1 - f_2) (s_1 - s_2) / 2|^2`` for two draws, from the moments of one."""
    f = f.unsqueeze(-1)
    mean_f, mean_s = probs @ f, probs @ s
    both = (probs @ (f**2 * s**2)) + (probs @ f**2) * (probs @ s**2) + 2 * (probs @ (f * s)) ** 2
    crossed = (probs @ (f**2 * s)) * mean_s + (probs @ (f * s**2)) * mean_f
    return ((both - 2 * crossed) / 2).sum()


def quality_of(
    task: CountAutoencoder, parameters: Parameters, temperatures: tuple[float, float]
) -> dict[str, dict[str, Tensor]]:
    """What :mod:`lab.methods.quality` measures, of the first test images, ``(B,)``, by method.

    Args:
        task: with few variables.
        parameters: of a single run.
        temperatures: of Gumbel-Softmax and of the arrival times.
    """
    exact = {name: p.double() for name, p in parameters.items()}
    images = task.images.test[:_IMAGES].flatten(-2).double().unsqueeze(0)
    every = task.rate(exact, images).squeeze(0)
    gradients, parts = [], []
    samples: dict[str, list[Tensor]] = {"Gumbel-Softmax": [], "arrival times": []}
    generator = torch.Generator().manual_seed(0)
    for place, rate in enumerate(every):
        image = images[:, place : place + 1]

        def loss(z: Tensor, image: Tensor = image) -> Tensor:
            return task.pixel_loss(exact, image, z[:, None, None])[:, 0, 0]

        gradient, found = moments_of(loss, rate)
        gradients.append(gradient)
        parts.append(found)
        for name, found in _relaxed(loss, rate, temperatures, generator).items():
            samples[name].append(found)
    gradient = torch.stack(gradients)
    measured = {
        name: from_estimates(torch.stack(each, 1), gradient).measures()
        for name, each in samples.items()
    }
    for name in parts[0]:
        mean, variance = (torch.stack(v) for v in zip(*(p[name] for p in parts), strict=True))
        measured[name] = from_moments(mean, variance, gradient).measures()
    return measured


def _relaxed(
    loss: Loss, rate: Tensor, temperatures: tuple[float, float], generator: torch.Generator
) -> dict[str, Tensor]:
    """Independent estimates ``(N, n)`` of the two relaxations for the rates of an image."""
    copies = rate.expand(_ESTIMATES, -1).clone().requires_grad_()
    shape = (DRAWS, *copies.shape, rates.COUNTS)
    gumbels = gumbel_noise(shape, rate, generator)
    waits = -torch.log1p(-torch.rand(shape, dtype=rate.dtype, generator=generator))

    def flat(z: Tensor) -> Tensor:
        return loss(z.flatten(0, -2)).reshape(z.shape[:-1])

    values = {
        "Gumbel-Softmax": rates.relaxed(flat, copies, gumbels, temperatures[0]),
        "arrival times": rates.arrivals(flat, copies, waits, temperatures[1]),
    }
    return {name: torch.autograd.grad(v.sum(), copies)[0] for name, v in values.items()}


@dataclass(frozen=True)
class CountsQuality:
    """Measures along a training run with ILS.

    Attributes:
        learning_rate: of the run.
        temperatures: of Gumbel-Softmax and of the arrival times.
        variables: of the VAE.
        seed: of the run.
        steps: how many.
    """

    learning_rate: float
    temperatures: tuple[float, float]
    variables: int = 3
    seed: int = 101
    steps: int = 3000

    @property
    def name(self) -> str:
        """Of the record."""
        return "models-counts-quality"

    def __call__(self, part: float = 1.0) -> pd.DataFrame:
        """Medians over images, index (step, method).

        Args:
            part: of the run after which to end.
        """
        task = CountAutoencoder(variables=self.variables)
        rows: dict[tuple[int, str], dict[str, float]] = {}

        def look(step: int, parameters: Parameters) -> None:
            for name, found in quality_of(task, parameters, self.temperatures).items():
                rows[step, name] = {key: float(value.median()) for key, value in found.items()}

        train(
            task,
            lambda parameters, batch, _: task.own["ils.distributions"].objective(
                parameters, batch, 0.0
            ),
            learning_rates=[self.learning_rate],
            seeds=[self.seed],
            steps=self.steps,
            split="test",
            records=_RECORDS,
            part=part,
            look=look,
        )
        index = pd.MultiIndex.from_tuples(rows, names=["step", "method"])
        return pd.DataFrame(list(rows.values()), index=index)
