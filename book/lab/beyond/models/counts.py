r"""Poisson variables between two networks: a VAE of scikit-learn's digits.

An encoder gives ``n`` rates, a decoder the probability that each pixel is on, from ``n`` counts;
the prior of a count is Poisson of rate 1, and the divergence from it is

.. math:: \mathrm{KL} = \sum_j \lambda_j \log \lambda_j - \lambda_j + 1 .

Every method gets the same images in the same order from the same initial parameters, and draws
twice a step.  The methods differ only in the gradient for the rates, except for the two
relaxations, whose decoder is trained on numbers that are not whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ils.distributions import Poisson
from lab.beyond.models import rates as methods
from lab.training.task import Own, Parameters, Stream, Task
from lab.training.tasks.autoencoder import layers, network
from lab.training.tasks.digits import Images, bundled

__all__ = ["DRAWS", "CountAutoencoder", "Digits", "divergence", "gumbel_noise", "poisson_quantile"]

DRAWS = 2
_EVALUATIONS = 20
_LEAST_RATE = 1e-4
_MOST = 64


class Digits(NamedTuple):
    """A batch."""

    images: Tensor  # (R, B, pixels)
    generator: torch.Generator


@dataclass(frozen=True)
class CountAutoencoder(Task):
    """See the head of this module.

    Attributes:
        variables: ``n``.
        width: of the hidden layer of both networks.
        examples: images a step.
        steps: of a final run.
        images: where they come from.
    """

    variables: int = 8
    width: int = 64
    examples: int = 32
    steps: int = 3000
    images: Images = field(default_factory=bundled, repr=False, compare=False)

    name = "counts"
    title = "VAE of digits with Poisson variables"
    measure = "negative ELBO"
    tuning_seeds = 4
    rates = (1e-3, 3e-2)

    @property
    def own(self) -> Mapping[str, Own]:
        """The methods, by name; *differences* and *no gradient* are references."""
        pathwise = {
            "straight-through": methods.straight_through,
            "any distribution": methods.any_distribution,
        }
        return {
            "ils.distributions": Own(self._ils),
            **{
                name: Own(self._from_draws(partial(methods.pathwise, velocity=velocity)))
                for name, velocity in pathwise.items()
            },
            "leave-one-out": Own(self._from_draws(methods.leave_one_out)),
            "Gumbel-Softmax": Own(self._relaxed, "temperature", (0.25, 0.5, 1.0)),
            "arrival times": Own(self._arrivals, "temperature", (0.1, 0.3, 1.0)),
            "differences": Own(self._from_draws(methods.differences)),
            "no gradient": Own(self._from_draws(lambda loss, rate, z: loss(z).mean(0))),
        }

    def start(self, stream: Stream) -> Parameters:
        """Layers as ``torch.nn.Linear`` starts them."""
        pixels = self.images.train[0].numel()
        return stream.each(
            lambda generator: {
                **layers(generator, "in", [pixels, self.width, self.variables]),
                **layers(generator, "out", [self.variables, self.width, pixels]),
            }
        )

    def batch(self, parameters: Parameters, stream: Stream, generator: torch.Generator) -> Digits:
        """Images of each run, drawn with replacement."""
        index = stream.indices(len(self.images.train), self.examples)
        return Digits(self.images.train[index].flatten(-2), generator)

    def rate(self, parameters: Parameters, images: Tensor) -> Tensor:
        """The rates of images ``(R, B, pixels)``, ``(R, B, n)``, above 0."""
        return softplus(network(parameters, "in", images)) + _LEAST_RATE

    def pixel_loss(self, parameters: Parameters, images: Tensor, z: Tensor) -> Tensor:
        """Negative log-likelihood ``(D, R, B)`` of the images at counts ``(D, R, B, n)``."""
        score = network(parameters, "out", z)
        return softplus(score).sum(-1) - (score * images).sum(-1)

    def evaluate(self, parameters: Parameters, split: str) -> dict[str, Tensor]:
        """The bound over 20 draws, from uniform numbers that all runs and methods share."""
        images = self.images.part(split).flatten(-2)
        images = images.expand(len(parameters["in1.bias"]), *images.shape)
        rate = self.rate(parameters, images)
        bound = divergence(rate).mean(-1)
        parts = {"divergence": bound, "largest rate": rate.amax((-1, -2))}
        one = torch.Generator().manual_seed(7)
        for _ in range(_EVALUATIONS):
            z = poisson_quantile(torch.rand(rate.shape[1:], generator=one), rate)
            values = self.pixel_loss(parameters, images, z.unsqueeze(0)).squeeze(0)
            bound = bound + values.mean(-1) / _EVALUATIONS
        return {self.measure: bound, **parts}

    def _ils(self, parameters: Parameters, batch: Digits, _: float) -> Tensor:
        rate = self.rate(parameters, batch.images)
        z = Poisson(rate, validate_args=False).rsample((DRAWS,), generator=batch.generator)
        values = self.pixel_loss(parameters, batch.images, z).mean(0)
        return (values + divergence(rate)).mean(-1)

    def _from_draws(self, surrogate: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """An objective from a function of :mod:`lab.beyond.models.rates`."""

        def objective(parameters: Parameters, batch: Digits, _: float) -> Tensor:
            rate = self.rate(parameters, batch.images)
            expanded = rate.detach().expand(DRAWS, *rate.shape)
            z = torch.poisson(expanded, generator=batch.generator)
            loss: Any = partial(self.pixel_loss, parameters, batch.images)
            return (surrogate(loss, rate, z) + divergence(rate)).mean(-1)

        return objective

    def _relaxed(self, parameters: Parameters, batch: Digits, temperature: float) -> Tensor:
        rate = self.rate(parameters, batch.images)
        gumbels = gumbel_noise((DRAWS, *rate.shape, methods.COUNTS), rate, batch.generator)
        loss: Any = partial(self.pixel_loss, parameters, batch.images)
        values = methods.relaxed(loss, rate, gumbels, temperature)
        return (values + divergence(rate)).mean(-1)

    def _arrivals(self, parameters: Parameters, batch: Digits, temperature: float) -> Tensor:
        rate = self.rate(parameters, batch.images)
        shape = (DRAWS, *rate.shape, methods.COUNTS)
        u = torch.rand(shape, dtype=rate.dtype, generator=batch.generator)
        loss: Any = partial(self.pixel_loss, parameters, batch.images)
        values = methods.arrivals(loss, rate, -torch.log1p(-u), temperature)
        return (values + divergence(rate)).mean(-1)


def divergence(rate: Tensor) -> Tensor:
    """``KL(Poisson(rate) || Poisson(1))``, summed over the last axis, in nats."""
    return (rate * rate.log() - rate + 1).sum(-1)


def poisson_quantile(u: Tensor, rate: Tensor) -> Tensor:
    """The Poisson draw by inversion of a uniform number; counts from 64 on are truncated."""
    counts = torch.arange(_MOST, dtype=rate.dtype)
    below = methods.log_prob(counts, rate.unsqueeze(-1)).exp().cumsum(-1)
    return (below < u.unsqueeze(-1)).sum(-1).to(rate.dtype)


def gumbel_noise(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard Gumbel numbers."""
    u = torch.rand(shape, dtype=like.dtype, generator=generator)
    return -(-u.clamp(min=torch.finfo(u.dtype).tiny).log()).log()
