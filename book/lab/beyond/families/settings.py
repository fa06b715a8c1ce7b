"""The distributions and the losses on which the families' estimators are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ils import distributions as dist

__all__ = ["INSTANCES", "KINDS", "SETTINGS", "Losses", "Setting", "make_losses"]

INSTANCES = 100


@dataclass(frozen=True)
class Setting:
    """A distribution at given parameters.

    Attributes:
        family: as in tables.
        title: with its parameters.
        parameter: the name of the one that is estimated.
        make: the distribution, in float64.
    """

    family: str
    title: str
    parameter: str
    make: Callable[[], Any]


def _number(value: Any) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _setting(family: str, title: str, parameter: str, kind: Any, *values: Any) -> Setting:
    numbers = [_number(value) for value in values]
    return Setting(family, title, parameter, lambda: kind(*numbers))


SETTINGS = (
    _setting("Bernoulli", "Bernoulli(.2)", "probs", dist.Bernoulli, 0.2),
    _setting("binomial", "binomial(10, .3)", "probs", dist.Binomial, 10.0, 0.3),
    _setting("Poisson", "Poisson(.5)", "rate", dist.Poisson, 0.5),
    _setting("Poisson", "Poisson(4)", "rate", dist.Poisson, 4.0),
    _setting("Poisson", "Poisson(40)", "rate", dist.Poisson, 40.0),
    _setting("geometric", "geometric(.3)", "probs", dist.Geometric, 0.3),
    _setting(
        "negative binomial", "neg. binomial(3, .5), p", "probs", dist.NegativeBinomial, 3.0, 0.5
    ),
    _setting(
        "negative binomial",
        "neg. binomial(3, .5), r",
        "total_count",
        dist.NegativeBinomial,
        3.0,
        0.5,
    ),
    _setting("normal", "normal(0, 1), mean", "loc", dist.Normal, 0.0, 1.0),
    _setting("normal", "normal(0, 1), scale", "scale", dist.Normal, 0.0, 1.0),
    _setting("gamma", "gamma(.5, 1), shape", "concentration", dist.Gamma, 0.5, 1.0),
    _setting("gamma", "gamma(3, 1), shape", "concentration", dist.Gamma, 3.0, 1.0),
    _setting("gamma", "gamma(3, 1), rate", "rate", dist.Gamma, 3.0, 1.0),
    _setting("beta", "beta(.5, .5), first", "concentration1", dist.Beta, 0.5, 0.5),
    _setting("beta", "beta(2, 4), first", "concentration1", dist.Beta, 2.0, 4.0),
    _setting("Dirichlet", "Dirichlet(.7, 1, 2)", "concentration", dist.Dirichlet, [0.7, 1.0, 2.0]),
    _setting("von Mises", "von Mises(0, 1), kappa", "concentration", dist.VonMises, 0.0, 1.0),
    _setting("von Mises", "von Mises(0, 8), kappa", "concentration", dist.VonMises, 0.0, 8.0),
)

KINDS = ("quadratic", "wave", "network", "threshold")


@dataclass(frozen=True)
class Losses:
    """Random losses of one kind, of a draw in units of its standard deviation.

    Attributes:
        kind: of :data:`KINDS`.
        of: standardised draws ``(I, S, d)`` to values ``(I, S)``.
        centre, spread: what the draws are standardised by, ``(d,)``.
    """

    kind: str
    of: Callable[[Tensor], Tensor]
    centre: Tensor
    spread: Tensor
    instances: int

    def values(self, z: Tensor) -> Tensor:
        """``(I, S)`` at draws ``(S, d)`` or ``(I, S, d)``."""
        return self.of((self._each(z) - self.centre) / self.spread)

    def gradients(self, z: Tensor) -> Tensor:
        """``(I, S, d)``, likewise."""
        leaf = self._each(z).clone().requires_grad_()
        (found,) = torch.autograd.grad(self.values(leaf).sum(), leaf)
        return found

    def _each(self, z: Tensor) -> Tensor:
        return z if z.dim() == 3 else z.expand(self.instances, *z.shape)


def make_losses(
    kind: str, centre: Tensor, spread: Tensor, *, instances: int = INSTANCES, seed: int = 0
) -> Losses:
    """Random losses.

    Args:
        kind: ``quadratic``, distance from a random point; ``wave``, a sine of random frequency
            and phase; ``network``, eight random hyperbolic tangents; ``threshold``, a steep
            logistic step at a random place.
        centre, spread: mean and standard deviation of the draw, ``(d,)``.
        instances: how many.
        seed: of a generator of their own.
    """
    generator = torch.Generator().manual_seed(seed)
    dims = len(centre)

    def normal(*shape: int) -> Tensor:
        return torch.randn(instances, *shape, generator=generator, dtype=torch.float64)

    if kind == "quadratic":
        point = normal(1, dims)
        return Losses(kind, lambda u: ((u - point) ** 2).sum(-1) / 2, centre, spread, instances)
    direction = torch.nn.functional.normalize(normal(dims, 1), dim=1)
    if kind == "wave":
        rate = torch.rand(instances, 1, generator=generator, dtype=torch.float64) * 2 + 0.5
        phase = normal(1) * torch.pi
        turn = lambda u: torch.sin(rate * (u @ direction).squeeze(-1) + phase)  # noqa: E731
        return Losses(kind, turn, centre, spread, instances)
    if kind == "network":
        first, bias, second = normal(dims, 8), normal(1, 8), normal(8, 1)
        net = lambda u: (torch.tanh(u @ first + bias) @ second).squeeze(-1)  # noqa: E731
        return Losses(kind, net, centre, spread, instances)
    place = normal(1)
    step = lambda u: torch.sigmoid(6 * ((u @ direction).squeeze(-1) - place))  # noqa: E731
    return Losses(kind, step, centre, spread, instances)
