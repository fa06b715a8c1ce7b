"""What the distributions share: the sources of randomness, and a draw without its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from ils.checks import check_floating
from ils.tangent import tangent

__all__ = [
    "OfProbabilities",
    "Reparameterized",
    "carried",
    "check_parameters",
    "given",
    "poisson",
    "standard_dirichlet",
    "standard_gamma",
]

# The names that PyTorch's own distributions use; they alone take a generator.
_native: Any = torch


class Reparameterized(Distribution):
    """A distribution whose draws come from a generator and carry a gradient.

    A family says how to draw, and how a draw moves with the parameters; this class does the rest.
    """

    has_rsample: Any = True
    _floating: tuple[str, ...] = ()

    def _draw(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        """Exact draws ``shape``, without a gradient."""
        raise NotImplementedError

    def _carry(self, z: Tensor) -> Tensor:
        """``z``, with its velocity for the parameters."""
        raise NotImplementedError

    def rsample(
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """Exact draws ``(*sample_shape, *batch_shape, *event_shape)`` that carry a gradient.

        Args:
            sample_shape: shape of the independent draws.
            generator: source of the draws; the default is PyTorch's own.
        """
        # Detached from forward-mode derivatives too, of which no_grad knows nothing.
        z = self.sample(sample_shape, generator).detach()
        return self._carry(z) if torch.is_grad_enabled() else z

    def sample(
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """The same draws without a gradient."""
        for name in self._floating:
            # Of probs and logits the one that was not given is computed, maybe, and is no concern.
            if name not in ("probs", "logits") or name in self.__dict__:
                check_floating(name, getattr(self, name))
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            return self._draw(shape, generator)


class OfProbabilities(Reparameterized):
    """One that is made of ``probs`` or ``logits``, and expands to one that is made of the same."""

    _floating = ("probs", "logits")

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """As the parent's, which takes logits that have been computed, and clamped, for given."""
        new: Any = super().expand(torch.Size(batch_shape), _instance)
        logits = given(self)[1]
        new.__dict__.pop("probs" if logits else "logits", None)
        if "_param" in new.__dict__:
            new._param = new.__dict__["logits" if logits else "probs"]
        return new


def carried(z: Tensor, *moves: tuple[Tensor, Tensor]) -> Tensor:
    """``z``, with a velocity for each parameter; one that overflows is the largest number."""
    for velocity, parameter in moves:
        # Zero times infinity would make the draw itself NaN.
        z = z + velocity.nan_to_num() * tangent(parameter)
    return z


def check_parameters(probs: Tensor | None, logits: Tensor | None) -> None:
    """Refuse those of ``probs`` and ``logits`` that are given and not floating point."""
    for name, value in (("probs", probs), ("logits", logits)):
        if value is not None:
            check_floating(name, value)


def given(distribution: Any) -> tuple[Tensor, bool]:
    """The parameter that was given, and whether it is ``logits`` and not ``probs``."""
    names = [name for name in distribution.__dict__ if name in ("probs", "logits")]
    # The other is computed, and set, later, or not at all.
    param = getattr(distribution, "_param", distribution.__dict__[names[0]])
    return param, param is distribution.__dict__.get("logits")


def poisson(rate: Tensor, generator: torch.Generator | None) -> Tensor:
    """Poisson draws, of the shape of the rate; beyond ``2^60`` the rate itself.

    PyTorch counts in 64 bits, and a larger count would come out negative.
    """
    largest = 2.0**60
    return torch.where(rate > largest, rate, torch.poisson(rate.clamp(max=largest), generator))


def standard_gamma(concentration: Tensor, generator: torch.Generator | None) -> Tensor:
    """Gamma draws of rate 1, of the shape of the concentration."""
    return _native._standard_gamma(concentration.detach(), generator=generator)


def standard_dirichlet(concentration: Tensor, generator: torch.Generator | None) -> Tensor:
    """Dirichlet draws, of the shape of the concentration."""
    return _native._sample_dirichlet(concentration.detach(), generator=generator)
