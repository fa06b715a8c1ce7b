"""The noise of an estimator: how to sample it, and its support with weights, where it is finite.

Each kind has ``sample(logits, draws, generator, batch_dims)``, which returns the noise with a
leading axis of length ``draws``, and ``support(logits, batch_dims)``, which returns all noise,
leading axis ``S``, with weights ``(S, *batch)`` that sum to 1: with these an expectation is a sum.
``batch_dims`` counts the leading axes of the logits that are problems; ``sample`` needs it only
where ``joint`` is true.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from ils.draw import draw_index, exponential, one_hot
from ils.states import probability, states

__all__ = ["Deterministic", "Draw", "Draws", "Exponential", "Gumbel", "Noise", "Randomness"]

Noise: TypeAlias = Any
"""A tensor, or a tuple of tensors, whose leading axes agree; what it holds is the kind's."""


class Randomness(Protocol):
    """See the head of this module."""

    @property
    def joint(self) -> bool:
        """Whether ``sample`` must know which axes are problems."""
        ...

    def sample(
        self, logits: Tensor, draws: int, generator: torch.Generator | None, batch_dims: int
    ) -> Noise:
        """Noise for ``draws`` estimates."""
        ...

    def support(self, logits: Tensor, batch_dims: int) -> tuple[Noise, Tensor]:
        """All noise and its weights."""
        ...


@dataclass(frozen=True)
class Draw:
    """One one-hot draw from ``softmax(logits)``, ``(D, *logits.shape)``."""

    joint: bool = False

    def sample(
        self, logits: Tensor, draws: int, generator: torch.Generator | None, batch_dims: int
    ) -> Tensor:
        """Noise for ``draws`` estimates."""
        rows = logits.expand(draws, *logits.shape)
        return one_hot(draw_index(rows.softmax(-1), generator), torch.empty_like(rows))

    def support(self, logits: Tensor, batch_dims: int) -> tuple[Tensor, Tensor]:
        """All noise and its weights."""
        z = states(logits, batch_dims)
        return z, probability(logits, z, batch_dims)


@dataclass(frozen=True)
class Draws:
    """Independent one-hot draws, ``(D, count, *logits.shape)``."""

    count: int
    joint: bool = False

    def sample(
        self, logits: Tensor, draws: int, generator: torch.Generator | None, batch_dims: int
    ) -> Tensor:
        """Noise for ``draws`` estimates."""
        flat = Draw().sample(logits, draws * self.count, generator, batch_dims)
        return flat.reshape(draws, self.count, *logits.shape)

    def support(self, logits: Tensor, batch_dims: int) -> tuple[Tensor, Tensor]:
        """All noise and its weights."""
        z, weights = Draw().support(logits, batch_dims)
        every = torch.arange(len(z), device=z.device)
        index = torch.cartesian_prod(*[every] * self.count).reshape(-1, self.count)
        return z[index], weights[index].prod(1)


@dataclass(frozen=True)
class Deterministic:
    """No noise: the estimate is a function of the logits.  An empty tensor ``(D, 0)``."""

    joint: bool = False

    def sample(
        self, logits: Tensor, draws: int, generator: torch.Generator | None, batch_dims: int
    ) -> Tensor:
        """Noise for ``draws`` estimates."""
        return logits.new_empty(draws, 0)

    def support(self, logits: Tensor, batch_dims: int) -> tuple[Tensor, Tensor]:
        """All noise and its weights."""
        return logits.new_empty(1, 0), logits.new_ones(1, *logits.shape[:batch_dims])


@dataclass(frozen=True)
class Gumbel:
    """Standard Gumbel numbers, ``(D, *logits.shape)``; no finite support."""

    joint: bool = False

    def sample(
        self, logits: Tensor, draws: int, generator: torch.Generator | None, batch_dims: int
    ) -> Tensor:
        """Noise for ``draws`` estimates."""
        return -exponential((draws, *logits.shape), logits, generator).log()

    def support(self, logits: Tensor, batch_dims: int) -> tuple[Tensor, Tensor]:
        """Refused: the noise is continuous."""
        raise ValueError(no_support("Gumbel numbers"))


@dataclass(frozen=True)
class Exponential:
    """A draw, and ``count`` rows of standard exponential noise, from which Gumbel noise is made.

    ``(z, e)`` with ``z`` of shape ``(D, *logits.shape)`` and ``e`` of ``(D, count,
    *logits.shape)``; see :func:`ils.relaxation.conditional_gumbel`.  No finite support.
    """

    count: int
    joint: bool = False

    def sample(
        self, logits: Tensor, draws: int, generator: torch.Generator | None, batch_dims: int
    ) -> tuple[Tensor, Tensor]:
        """Noise for ``draws`` estimates."""
        z = Draw().sample(logits, draws, generator, batch_dims)
        return z, exponential((draws, self.count, *logits.shape), logits, generator)

    def support(self, logits: Tensor, batch_dims: int) -> tuple[Noise, Tensor]:
        """Refused: the noise is continuous."""
        raise ValueError(no_support("exponential numbers"))


def no_support(what: str) -> str:
    """The message of kinds that cannot be enumerated."""
    return (
        f"estimator: expected finite randomness, got {what}; hand nodes and weights of a "
        "quadrature, or estimate the moments from draws"
    )
