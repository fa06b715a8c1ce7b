"""The classes of :mod:`ils.distributions` beside their parents, with parameters at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from cases import normal
from torch import Tensor

from ils import distributions

Map = Callable[[Tensor], Tensor]


def five(x: Tensor) -> Tensor:
    """A number of trials, which is no parameter to train."""
    return torch.full_like(x, 5)


def real(x: Tensor) -> Tensor:
    """A parameter without bounds."""
    return x


class Family(NamedTuple):
    """A class, and how parameters for it are made of normal numbers."""

    name: str
    maps: dict[str, Map]
    event: tuple[int, ...] = ()

    @property
    def ours(self) -> Any:
        return getattr(distributions, self.name)

    @property
    def parent(self) -> Any:
        return getattr(torch.distributions, self.name)

    @property
    def trained(self) -> list[str]:
        """The names of the parameters that have a gradient."""
        return [name for name, make in self.maps.items() if make is not five]

    def params(self, *shape: int, seed: int = 0) -> dict[str, Tensor]:
        """Parameters for a batch of that shape, in float64."""
        return {
            name: make(normal(*shape, *self.event, seed=seed + place))
            for place, (name, make) in enumerate(self.maps.items())
        }

    def leaves(self, *shape: int, seed: int = 0) -> dict[str, Tensor]:
        """The same; those that can be trained require a gradient."""
        found = self.params(*shape, seed=seed)
        for name in self.trained:
            found[name].requires_grad_()
        return found

    def make(self, *shape: int, seed: int = 0) -> Any:
        """A distribution of that batch shape."""
        return self.ours(**self.params(*shape, seed=seed))


def softmax(x: Tensor) -> Tensor:
    """Probabilities of categories."""
    return x.softmax(-1)


FAMILIES = {
    "Bernoulli-probs": Family("Bernoulli", {"probs": torch.sigmoid}),
    "Bernoulli-logits": Family("Bernoulli", {"logits": real}),
    "Binomial-probs": Family("Binomial", {"total_count": five, "probs": torch.sigmoid}),
    "Binomial-logits": Family("Binomial", {"total_count": five, "logits": real}),
    "Poisson": Family("Poisson", {"rate": torch.exp}),
    "Geometric-probs": Family("Geometric", {"probs": torch.sigmoid}),
    "Geometric-logits": Family("Geometric", {"logits": real}),
    "NegativeBinomial-probs": Family(
        "NegativeBinomial", {"total_count": torch.exp, "probs": torch.sigmoid}
    ),
    "NegativeBinomial-logits": Family(
        "NegativeBinomial", {"total_count": torch.exp, "logits": real}
    ),
    "Normal": Family("Normal", {"loc": real, "scale": torch.exp}),
    "Gamma": Family("Gamma", {"concentration": torch.exp, "rate": torch.exp}),
    "Beta": Family("Beta", {"concentration1": torch.exp, "concentration0": torch.exp}),
    "Dirichlet": Family("Dirichlet", {"concentration": torch.exp}, (3,)),
    "VonMises": Family("VonMises", {"loc": real, "concentration": torch.exp}),
    "OneHotCategorical-probs": Family("OneHotCategorical", {"probs": softmax}, (3,)),
    "OneHotCategorical-logits": Family("OneHotCategorical", {"logits": real}, (3,)),
}

every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


def some_families(*names: str) -> Any:
    """A mark for the families of these names."""
    chosen = {name: family for name, family in FAMILIES.items() if family.name in names}
    return pytest.mark.parametrize("family", chosen.values(), ids=chosen)


def update(z: Tensor, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gradients of a cubic loss of a draw for the parameters that require one."""
    names = [name for name, leaf in leaves.items() if leaf.requires_grad]
    loss = ((z - 0.3) ** 3 * normal(*z.shape, seed=99).to(z.dtype)).sum()
    found = torch.autograd.grad(loss, [leaves[name] for name in names], retain_graph=True)
    return dict(zip(names, found, strict=True))
