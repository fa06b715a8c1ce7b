"""Expectations of a distribution as sums: over its states, or over a grid that is exact enough.

A continuous distribution is summed over a uniform grid in the unconstrained coordinate, where its
density decays faster than any power: there the trapezium rule converges exponentially.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, VonMises, biject_to, constraints

from ils.intermediate import at_each_draw

__all__ = ["Nodes", "nodes", "scores"]

_NEGLIGIBLE = 42.0  # e^-42 is 6e-19
_FINE = 4001
_FINE_PLANE = 241
_REACH = 400.0


@dataclass(frozen=True)
class Nodes:
    """Nodes and weights of a quadrature.

    Attributes:
        z: ``(S, *event_shape)``, in float64; ascending for single numbers.
        weights: ``(S,)``, of sum 1.
        volumes: ``(S,)``, the factors from density to weight; ones for states.
    """

    z: Tensor
    weights: Tensor
    volumes: Tensor


def nodes(distribution: Distribution) -> Nodes:
    """Nodes of one distribution, of batch shape ``()``.

    Args:
        distribution: in float64, over whole numbers, a line, a half-line, an interval, a circle,
            or the simplex with three entries.
    """
    support: Any = distribution.support
    if isinstance(distribution, VonMises):
        z = torch.linspace(-torch.pi, torch.pi, _FINE, dtype=torch.float64)[:-1]
        volumes = torch.full_like(z, 2 * torch.pi / len(z))
    elif support.is_discrete:
        z = _states(distribution)
        volumes = torch.ones_like(z)
    else:
        transform: Any = biject_to(support)
        y, cell = _plane(distribution) if distribution.event_shape else _line(distribution)
        z = transform(y)
        volumes = transform.log_abs_det_jacobian(y, z).exp() * cell
    logs = distribution.log_prob(z) + volumes.log()
    return Nodes(z, logs.softmax(0), volumes)


def _states(distribution: Distribution) -> Tensor:
    support: Any = distribution.support
    if support is constraints.boolean:
        return torch.arange(2, dtype=torch.float64)
    top = getattr(support, "upper_bound", None)
    if top is not None:
        return torch.arange(int(top) + 1, dtype=torch.float64)
    z = torch.arange(100_000, dtype=torch.float64)
    likely = distribution.log_prob(z) > -_NEGLIGIBLE
    return z[: int(likely.nonzero().max()) + 1]


def _line(distribution: Distribution) -> tuple[Tensor, float]:
    """A grid in the unconstrained coordinate, and the width of its cells."""
    transform: Any = biject_to(distribution.support)  # type: ignore[arg-type]
    coarse = torch.arange(-_REACH, _REACH, 0.02, dtype=torch.float64)
    z = transform(coarse)
    inside = distribution.support.check(z) & z.isfinite()  # type: ignore[union-attr]
    coarse, z = coarse[inside], z[inside]
    logs = distribution.log_prob(z) + transform.log_abs_det_jacobian(coarse, z)
    likely = coarse[logs > logs.max() - _NEGLIGIBLE]
    y = torch.linspace(float(likely[0]), float(likely[-1]), _FINE, dtype=torch.float64)
    return y, float(y[1] - y[0])


def _plane(distribution: Distribution) -> tuple[Tensor, float]:
    """The same in two coordinates, and the area of a cell."""
    transform: Any = biject_to(distribution.support)  # type: ignore[arg-type]
    coarse = torch.linspace(-60, 60, 601, dtype=torch.float64)
    y = torch.cartesian_prod(coarse, coarse)
    z = transform(y)
    inside = (z > 0).all(-1)
    y, z = y[inside], z[inside]
    logs = distribution.log_prob(z) + transform.log_abs_det_jacobian(y, z)
    likely = y[logs > logs.max() - _NEGLIGIBLE]
    axes = [
        torch.linspace(float(low), float(high), _FINE_PLANE, dtype=torch.float64)
        for low, high in zip(likely.amin(0), likely.amax(0), strict=True)
    ]
    return torch.cartesian_prod(*axes), float((axes[0][1] - axes[0][0]) * (axes[1][1] - axes[1][0]))


def scores(distribution: Distribution, at: Nodes) -> dict[str, Tensor]:
    """``d log p / d theta`` at each node, ``(S, *shape of the parameter)``, with mean zero.

    Args:
        distribution: as in :func:`nodes`.
        at: its nodes.
    """
    leaves, bound = at_each_draw(distribution, at.z)
    found = torch.autograd.grad(bound.log_prob(at.z).sum(), [*leaves.values()])
    # The densities of PyTorch are approximate for some (the von Mises, to 1e-7): centring makes
    # the scores those of the weights.
    return {
        name: value - torch.tensordot(at.weights, value, dims=1)
        for name, value in zip(leaves, found, strict=True)
    }
