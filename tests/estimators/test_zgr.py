"""ZGR against a surrogate, and for two categories."""

from __future__ import annotations

import pytest
import torch
from cases import close, cubic_loss, draws, normal

from ils import exact
from ils.estimators.straight_through import zgr


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 2)], ids=str)
def test_autograd(shape: tuple[int, ...]) -> None:
    """Half the softmax and half the log-likelihood of the draw along z - pi, differentiated."""
    logits, z = normal(*shape, seed=1), draws(20, *shape, seed=2)
    loss = cubic_loss(normal(*shape, seed=3), min(2, len(shape)))
    leaf = z.clone().requires_grad_()
    (grad,) = torch.autograd.grad(loss(leaf).sum(), leaf)
    theta = logits.expand_as(z).clone().requires_grad_()
    score = torch.distributions.OneHotCategorical(logits=theta).log_prob(z)
    carrier = theta.softmax(-1) + (z - logits.softmax(-1)) * score.unsqueeze(-1)
    (expected,) = torch.autograd.grad((carrier * grad).sum() / 2, theta)
    assert close(zgr().formula(logits, z, loss), expected, 1e-11)


def test_two_categories() -> None:
    """|z_1 - pi_1| (g_1 - g_0) / 2 for theta_1, minus that for theta_0."""
    logits, loss = normal(3, 2, seed=4), cubic_loss(normal(3, 2, seed=5), 2)
    z = exact.states(logits)
    leaf = z.clone().requires_grad_()
    (grad,) = torch.autograd.grad(loss(leaf).sum(), leaf)
    slope = (z - logits.softmax(-1))[..., 1].abs() * (grad[..., 1] - grad[..., 0]) / 2
    assert close(zgr().formula(logits, z, loss), torch.stack([-slope, slope], -1), 1e-12)
