"""ReinMax away from temperature 1: what is lost, and its limits."""

from __future__ import annotations

import pytest
import torch
from cases import close, cubic_loss, normal
from torch import Tensor

from ils import exact
from ils.estimators.straight_through import reinmax


def jacobian(probs: Tensor) -> Tensor:
    return probs.diag() - torch.outer(probs, probs)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.3, 4.0])
def test_mean_for_a_linear_loss(temperature: float) -> None:
    """E = [diag(p) - (p p' + p pi' + pi p' - pi pi') / 2] g, p = softmax(theta / tau).

    It is the softmax Jacobian at tau = 1 alone.
    """
    logits, weights = normal(5, seed=1), normal(5, seed=2)
    found = exact.moments(reinmax(temperature=temperature), lambda z: z @ weights, logits)
    pi, p = logits.softmax(-1), (logits / temperature).softmax(-1)
    cross = torch.outer(p, pi)
    expected = p.diag() - (torch.outer(p, p) + cross + cross.T - torch.outer(pi, pi)) / 2
    assert close(found.mean, expected @ weights, 1e-12)
    if temperature == 1:
        assert found.bias.abs().max() < 1e-12
    else:
        assert found.bias.norm() > 0.05 * found.gradient.norm()


def limit_case() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    logits = normal(4, seed=3)
    loss, z = cubic_loss(normal(4, seed=4), 1), exact.states(logits)
    leaf = z.clone().requires_grad_()
    (grads,) = torch.autograd.grad(loss(leaf).sum(), leaf)
    own = grads @ jacobian(logits.softmax(-1)) / 2
    return logits, z, grads, own


@pytest.mark.parametrize("temperature", [1e-3, 1e6])
def test_limits(temperature: float) -> None:
    """As tau -> 0 the middle lies between the draw and the mode, as tau -> inf the centre."""
    logits, z, grads, own = limit_case()
    cold = temperature < 1
    other = exact.states(logits)[logits.argmax()] if cold else torch.full_like(logits, 1 / 4)
    middle = (z + other) / 2
    expected = torch.stack(
        [2 * jacobian(m) @ g - o for m, g, o in zip(middle, grads, own, strict=True)]
    )
    if cold:  # in words: half the difference of the two, and nothing where they are one
        change = (grads * (z - other)).sum(-1, keepdim=True)
        assert close(expected, (z - other) * change / 2 - own)
    loss = cubic_loss(normal(4, seed=4), 1)
    found = reinmax(temperature=temperature).formula(logits, z, loss)
    assert close(found, expected, 1e-5)


def test_rows_sum_to_zero() -> None:
    """Softmax ignores what is added to all logits, and so does the estimate."""
    logits, loss = normal(3, 4, seed=5), cubic_loss(normal(3, 4, seed=6), 2)
    z = exact.states(logits)
    for temperature in (0.5, 1.0, 3.0):
        found = reinmax(temperature=temperature).formula(logits, z, loss)
        assert found.sum(-1).abs().max() < 1e-12
        moved = reinmax(temperature=temperature).formula(logits + 2, z, loss)
        assert close(found, moved, 1e-12)


def test_options() -> None:
    """Errors name the argument."""
    with pytest.raises(ValueError, match=r"temperature: expected a positive finite number"):
        reinmax(temperature=0.0)
