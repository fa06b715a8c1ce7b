"""DARN as a score function with a baseline, and for two categories."""

from __future__ import annotations

import pytest
import torch
from cases import close, cubic_loss, draws, normal

from ils import exact
from ils.estimators.straight_through import darn


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 2)], ids=str)
def test_autograd(shape: tuple[int, ...]) -> None:
    """The log-likelihood of the draw times the loss less its tangent at the draw, taken at pi.

    Variable by variable: the tangent moves one variable to its mean and leaves the others.
    """
    logits, z = normal(*shape, seed=1), draws(20, *shape, seed=2)
    loss = cubic_loss(normal(*shape, seed=3), min(2, len(shape)))
    leaf = z.clone().requires_grad_()
    values = loss(leaf)
    (grad,) = torch.autograd.grad(values.sum(), leaf)
    values = values.detach().reshape(*values.shape, *[1] * (z.dim() - 1 - values.dim()))
    tangent = values + (grad * (logits.softmax(-1) - z)).sum(-1)
    theta = logits.expand_as(z).clone().requires_grad_()
    score = torch.distributions.OneHotCategorical(logits=theta).log_prob(z)
    (expected,) = torch.autograd.grad((score * (values - tangent)).sum(), theta)
    assert close(darn().formula(logits, z, loss), expected, 1e-11)


def test_two_categories() -> None:
    """(z_1 - pi_1)^2 (g_1 - g_0) for theta_1, minus that for theta_0."""
    logits, loss = normal(3, 2, seed=4), cubic_loss(normal(3, 2, seed=5), 2)
    z = exact.states(logits)
    leaf = z.clone().requires_grad_()
    (grad,) = torch.autograd.grad(loss(leaf).sum(), leaf)
    slope = (z - logits.softmax(-1))[..., 1] ** 2 * (grad[..., 1] - grad[..., 0])
    assert close(darn().formula(logits, z, loss), torch.stack([-slope, slope], -1), 1e-12)
