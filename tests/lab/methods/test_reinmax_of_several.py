"""ReinMax of several draws: by enumeration."""

from __future__ import annotations

import pytest
import torch

from ils import estimators, exact
from ils.rules import ReinMax
from lab.methods import pairs
from lab.methods.several import mean_of_reinmax, reinmax_of_several
from lab.optimality import several

LOGITS = torch.tensor([[0.3, -1.0, 0.8], [0.0, 2.0, -0.5]], dtype=torch.float64)


def curved(z: torch.Tensor) -> torch.Tensor:
    """A loss of two variables that is not linear."""
    weight = torch.arange(1.0, 7.0, dtype=z.dtype).reshape(2, 3)
    return ((z * weight).sum((-1, -2)) - 3.1) ** 3 / 10


def linear(z: torch.Tensor) -> torch.Tensor:
    """A linear loss."""
    return (z * torch.arange(1.0, 7.0, dtype=z.dtype).reshape(2, 3)).sum((-1, -2))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_mean(temperature: float) -> None:
    """The closed form of the mean over draws is the sum over categories."""
    grad = torch.tensor([[1.0, -2.0, 0.5], [3.0, 0.0, 1.0]], dtype=torch.float64)
    probs = LOGITS.softmax(-1)
    wanted = sum(
        probs[:, k : k + 1]
        * ReinMax(temperature).gradient(grad, torch.eye(3).double()[k].expand(2, 3), LOGITS)
        for k in range(3)
    )
    found = mean_of_reinmax(grad, LOGITS, temperature)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_it_has_the_mean_of_reinmax(temperature: float) -> None:
    """By enumeration, for a curved loss."""
    one = exact.moments(estimators.reinmax(temperature=temperature), curved, LOGITS, batch_dims=0)
    two = exact.moments(reinmax_of_several(2, temperature), curved, LOGITS, batch_dims=0)
    torch.testing.assert_close(two.mean, one.mean, rtol=1e-10, atol=1e-12)


def test_it_is_the_estimator_of_the_chapter() -> None:
    """At temperature 1, for every pair of draws."""
    draws = several.enumerate_draws(LOGITS.softmax(-1), curved)
    found = reinmax_of_several(2).formula(LOGITS, draws.z, curved)
    torch.testing.assert_close(found, pairs.other_draws(draws), rtol=1e-11, atol=1e-13)


def test_a_linear_loss_leaves_no_noise() -> None:
    """The variance is zero, and the mean that of the gradient."""
    found = exact.moments(reinmax_of_several(2), linear, LOGITS, batch_dims=0)
    assert float(found.variance.abs().max()) < 1e-24
    assert float(found.bias.abs().max()) < 1e-13
    assert reinmax_of_several(3).evaluations == 3
