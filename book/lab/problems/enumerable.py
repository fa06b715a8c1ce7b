r"""Random problems small enough to be enumerated: a loss, and logits, for many instances at once.

A *cell* of the suite is a kind of loss, a shape ``(n, K)`` (variables, categories) and a scale of
the logits.  Its instances are one batch: the loss maps draws ``(D, B, n, K)`` to ``(D, B)``.
Every loss is a smooth function on the whole cube, so that relaxations can be evaluated too, and is
divided by its standard deviation over all states, so that step sizes mean the same everywhere.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ils.exact import Loss, states

__all__ = ["INSTANCES", "KINDS", "SCALES", "SHAPES", "Problem", "make_problem", "suite"]

INSTANCES = 200
SHAPES = ((1, 16), (3, 4), (8, 2))
"""Variables and categories."""

SCALES = {"flat": 0.3, "peaked": 2.0, "nearly deterministic": 6.0}
"""Standard deviation of the logits."""


@dataclass(frozen=True)
class Problem:
    """A batch of instances of one cell.

    Attributes:
        kind: the name of the loss, a key of ``KINDS``.
        scale: the name of the scale of the logits, a key of ``SCALES``.
        loss: maps draws ``(D, B, n, K)`` to values ``(D, B)``.
        logits: ``(B, n, K)``.
    """

    kind: str
    scale: str
    loss: Loss
    logits: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Variables and categories, ``(n, K)``."""
        return self.logits.shape[-2], self.logits.shape[-1]


Normal = Callable[..., Tensor]
"""Standard normal numbers ``(B, *shape)`` from the generator of a cell."""


def _linear(normal: Normal, n: int, categories: int) -> Loss:
    w = normal(n, categories)
    return lambda z: (w * z).sum((-1, -2))


def _quadratic(normal: Normal, n: int, categories: int) -> Loss:
    size = n * categories
    w, a = normal(size), normal(size, size)

    def loss(z: Tensor) -> Tensor:
        x = z.flatten(-2)
        return (w * x).sum(-1) + torch.einsum("dbi,bij,dbj->db", x, a, x) / math.sqrt(n)

    return loss


def _cubic(normal: Normal, n: int, categories: int) -> Loss:
    v, w = normal(n, categories) / math.sqrt(n), normal(n, categories)
    return lambda z: (v * z).sum((-1, -2)) ** 3 + (w * z).sum((-1, -2)) / 2


def _power(normal: Normal, n: int, categories: int) -> Loss:
    """``mean |x - c|^1.5`` over variables whose category ``k`` has the value ``k / (K - 1)``."""
    levels = torch.linspace(0, 1, categories, dtype=torch.float64)
    c = 0.5 + 0.2 * normal(n)
    return lambda z: ((z * levels).sum(-1) - c).abs().pow(1.5).mean(-1)


def _mlp(normal: Normal, n: int, categories: int) -> Loss:
    """One hidden layer of eight ``tanh`` units."""
    inner, outer, shift = normal(n * categories, 8), normal(8), normal(8)

    def loss(z: Tensor) -> Tensor:
        hidden = torch.einsum("dbi,bij->dbj", z.flatten(-2), inner) / math.sqrt(n)
        return (outer * (hidden + shift / 2).tanh()).sum(-1)

    return loss


def _toy(normal: Normal, n: int, categories: int) -> Loss:
    """The note's loss, ``-mean p log(z + eps)`` with a random ``p`` and ``eps = 1e-8``."""
    p = normal(n, categories).softmax(-1)
    return lambda z: -(p * (z.clamp(min=0) + 1e-8).log()).mean((-1, -2))


def _decoder(normal: Normal, n: int, categories: int) -> Loss:
    """Negative log-likelihood of eight bits under a two-layer decoder of the draw."""
    inner, outer, bits = normal(n * categories, 8), normal(8, 8), normal(8) > 0

    def loss(z: Tensor) -> Tensor:
        hidden = (torch.einsum("dbi,bij->dbj", z.flatten(-2), inner) / math.sqrt(n)).tanh()
        score = torch.einsum("dbi,bij->dbj", hidden, outer)
        return torch.nn.functional.softplus(torch.where(bits, -score, score)).sum(-1)

    return loss


KINDS: dict[str, Callable[[Normal, int, int], Loss]] = {
    "linear": _linear,
    "quadratic": _quadratic,
    "cubic": _cubic,
    "power 1.5": _power,
    "MLP": _mlp,
    "toy": _toy,
    "decoder": _decoder,
}


def make_problem(
    kind: str, shape: tuple[int, int], scale: str, instances: int = INSTANCES
) -> Problem:
    """The instances of a cell, the same on every call; fewer are the first ones.

    Args:
        kind: a key of ``KINDS``.
        shape: variables and categories, ``(n, K)``.
        scale: a key of ``SCALES``.
        instances: how many.
    """
    seed = 1000 * list(KINDS).index(kind) + 100 * list(SCALES).index(scale)
    generator = torch.Generator().manual_seed(seed + 10 * shape[0] + 1_000_000 * shape[1])

    def normal(*size: int) -> Tensor:
        # All instances are made, so that fewer are the first ones.
        numbers = torch.randn((INSTANCES, *size), generator=generator, dtype=torch.float64)
        return numbers[:instances]

    raw = KINDS[kind](normal, *shape)
    logits = SCALES[scale] * normal(*shape)
    spread = raw(states(logits, batch_dims=1)).std(0, correction=0)
    return Problem(kind, scale, lambda z: raw(z) / spread, logits)


def suite(instances: int = INSTANCES) -> Iterator[Problem]:
    """All cells: kinds, shapes, scales."""
    for kind, shape, scale in itertools.product(KINDS, SHAPES, SCALES):
        yield make_problem(kind, shape, scale, instances)
