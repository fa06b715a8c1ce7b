r"""A posterior with two modes that a grid resolves, and its approximation by a mixture.

Petal lengths of every tenth flower of scikit-learn's iris are explained by two normal components
with known weights .55 and .45 and known standard deviation .7; their means ``z = (z_1, z_2)`` have
independent priors ``N(3, 3^2)``.  Exchanging the means gives two modes; as the weights are not
equal, neither are the modes.

The approximation ``q`` is a mixture of four normal distributions with diagonal covariance.  The
measure is ``KL(q || posterior)`` by quadrature, with the posterior normalised on the same grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor

from lab.beyond.models import components as methods
from lab.beyond.models.components import Mixture
from lab.training.task import Own, Parameters, Stream, Task

__all__ = [
    "EVALUATIONS",
    "MixturePosterior",
    "divergence",
    "grid",
    "log_density",
    "log_posterior",
    "observations",
    "share_above",
]

EVALUATIONS = 8
"""Of the density of the posterior, a step and run."""

_WEIGHTS = (0.55, 0.45)
_SPREAD = 0.7
_PRIOR = (3.0, 3.0)
_START = 1.5
_GRID = (-7.0, 13.0, 0.1)
_SEVERAL = 32


@cache
def observations() -> Tensor:
    """Fifteen petal lengths in centimetres."""
    from sklearn.datasets import load_iris

    return torch.from_numpy(load_iris().data[::10, 2].copy())


def log_density(z: Tensor) -> Tensor:
    """Logarithm of prior times likelihood, without constants, of means ``(..., 2)``."""
    centre, width = _PRIOR
    x = observations().to(z)
    weights = torch.tensor(_WEIGHTS, dtype=z.dtype)
    errors = (x - z.unsqueeze(-1)) / _SPREAD
    each = weights.log().unsqueeze(-1) - errors**2 / 2
    return each.logsumexp(-2).sum(-1) - (((z - centre) / width) ** 2).sum(-1) / 2


@cache
def grid() -> Tensor:
    """Points ``(M^2, 2)`` a tenth of a centimetre apart."""
    least, most, step = _GRID
    line = torch.arange(round((most - least) / step), dtype=torch.float64) * step + least
    return torch.cartesian_prod(line, line)


@cache
def log_posterior() -> Tensor:
    """The logarithm of the normalised density at the points of the grid."""
    values = log_density(grid())
    return values - values.logsumexp(0) - 2 * math.log(_GRID[2])


def divergence(q: Mixture) -> tuple[Tensor, Tensor, Tensor]:
    """``KL(q || posterior)``; the mass of ``q`` on the grid, and that where ``z_1 > z_2``.

    Args:
        q: mixtures ``(R, K)``.

    Returns:
        Three tensors ``(R,)``.
    """
    log_q = q.log_prob(grid().unsqueeze(1))  # (points, R)
    mass = log_q.exp() * _GRID[2] ** 2
    # Where q underflows log_q is still finite: zero times infinity would be NaN.
    kl = (mass * (log_q - log_posterior().unsqueeze(-1))).sum(0)
    return kl, mass.sum(0), share_above(mass)


def share_above(mass: Tensor) -> Tensor:
    """The part of a mass ``(points, ...)`` on the grid where the first mean is the larger."""
    first, second = grid().unbind(-1)
    weight = (first > second).double() + (first == second).double() / 2
    return (mass * weight.reshape(-1, *[1] * (mass.dim() - 1))).sum(0)


@dataclass(frozen=True)
class MixturePosterior(Task):
    """See the head of this module.

    Attributes:
        categories: components.
        steps: of a final run.
    """

    categories: int = 4
    steps: int = 1500

    name = "mixture"
    title = "mixture posterior of two means"
    measure = "KL divergence"
    tuning_seeds = 20
    rates = (1e-2, 3e-1)

    @property
    def own(self) -> Mapping[str, Own]:
        """The methods, by name; *weights fixed* and *stratified, many* are references."""
        draws = EVALUATIONS
        rounds = EVALUATIONS // self.categories
        temperatures = ("temperature", (0.25, 0.5, 1.0))
        soft, hard = methods.soft, methods.straight_through
        return {
            "ils.distributions": Own(partial(_from_package, draws)),
            "leave-one-out": Own(partial(_from_noise, methods.leave_one_out, draws)),
            "Gumbel-Softmax": Own(partial(_from_noise, soft, draws), *temperatures),
            "straight-through Gumbel": Own(partial(_from_noise, hard, draws), *temperatures),
            "implicit": Own(partial(_from_noise, methods.implicit, draws)),
            "stratified": Own(partial(_from_noise, methods.stratified, rounds)),
            "weights fixed": Own(partial(_from_noise, methods.weights_fixed, draws)),
            "stratified, many": Own(partial(_from_noise, methods.stratified, _SEVERAL)),
        }

    def start(self, stream: Stream) -> Parameters:
        """Equal weights, means near the prior's, standard deviations of 1; in float64."""
        means = stream.normal(self.categories, 2).double() * _START + _PRIOR[0]
        return {
            "logits": torch.zeros_like(means[..., 0]),
            "means": means,
            "log_scales": torch.zeros_like(means),
        }

    def batch(
        self, parameters: Parameters, stream: Stream, generator: torch.Generator
    ) -> torch.Generator:
        """The source of the draws."""
        return generator

    def evaluate(self, parameters: Parameters, split: str) -> dict[str, Tensor]:
        """The divergence; the masses of ``q`` on the grid, and where the first mean is larger."""
        found = [divergence(Mixture(*one)) for one in zip(*_split(parameters), strict=True)]
        kl, mass, above = (torch.cat(values) for values in zip(*found, strict=True))
        return {self.measure: kl, "mass": mass, "above": above}


def _split(parameters: Parameters, size: int = 20) -> list[tuple[Tensor, ...]]:
    """Runs a few at a time: a grid for each of a hundred would take gigabytes."""
    return [parameters[name].split(size) for name in ("logits", "means", "log_scales")]


def _of(parameters: Parameters) -> Mixture:
    return Mixture(parameters["logits"], parameters["means"], parameters["log_scales"])


def _loss(q: Mixture) -> Callable[[Tensor], Tensor]:
    """``log q(z) - log p(z)`` with ``q`` held: its own gradient is zero in expectation."""
    held = q.detach()
    return lambda z: held.log_prob(z) - log_density(z)


def _from_noise(
    surrogate: Callable[..., Tensor],
    draws: int,
    parameters: Parameters,
    generator: torch.Generator,
    setting: float,
) -> Tensor:
    """The objective of a function of :mod:`lab.beyond.models.components`."""
    q = _of(parameters)
    noise = methods.draw_noise(q, draws, generator)
    return surrogate(_loss(q), q, noise, setting)


def _from_package(
    draws: int, parameters: Parameters, generator: torch.Generator, _: float
) -> Tensor:
    """ILS as it is used: the mixture of the package and its ``rsample``."""
    q = _of(parameters)
    return _loss(q)(q.distribution().rsample((draws,), generator)).mean(0)
