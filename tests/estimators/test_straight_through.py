"""Straight-through against autograd of its surrogate."""

from __future__ import annotations

import pytest
import torch
from cases import close, draws, normal
from torch import Tensor

from ils import exact
from ils.estimators import straight_through

SHAPES = [(5,), (3, 4), (1, 2)]


def loss(z: Tensor) -> Tensor:
    weights = normal(*z.shape[1:], seed=1)
    return ((z * weights).flatten(1).sum(-1) - 0.4) ** 3


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_surrogate(shape: tuple[int, ...], temperature: float) -> None:
    """Each estimate is autograd's through the surrogate z + p - p.detach()."""
    logits, z = normal(*shape, seed=4), draws(20, *shape, seed=5)
    found = straight_through(temperature=temperature).formula(logits, z, loss)
    for one, estimate in zip(z, found, strict=True):
        leaf = logits.clone().requires_grad_()
        probs = (leaf / temperature).softmax(-1)
        (expected,) = torch.autograd.grad(loss((one + probs - probs.detach())[None]).sum(), leaf)
        assert close(estimate, expected)


def test_linear_losses() -> None:
    """Exact and without variance at temperature 1; biased at another, and for other losses."""
    logits, weights = normal(3, 3, seed=5), normal(3, 3, seed=6)

    def linear(z: Tensor) -> Tensor:
        return (z * weights).flatten(1).sum(-1) + 3

    quality = exact.moments(straight_through(), linear, logits)
    assert quality.bias.abs().max() < 1e-12
    assert quality.variance < 1e-24
    assert exact.moments(straight_through(temperature=2.0), linear, logits).bias.abs().max() > 0.01
    assert exact.moments(straight_through(), loss, logits).bias.abs().max() > 0.01


def test_pytorchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """OneHotCategoricalStraightThrough of torch.distributions does the same, draw by draw."""
    logits = normal(3, 4, seed=7).requires_grad_()
    z = draws(3, 4, seed=8)
    law = torch.distributions.OneHotCategoricalStraightThrough(logits=logits)
    monkeypatch.setattr(torch.distributions.OneHotCategorical, "sample", lambda self, shape=(): z)
    (expected,) = torch.autograd.grad(loss(law.rsample()[None]).sum(), logits)
    assert close(straight_through().formula(logits.detach(), z[None], loss)[0], expected)
