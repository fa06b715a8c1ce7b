"""Decoupled straight-through Gumbel: the law of its draw, and its mean by quadrature."""

from __future__ import annotations

import pytest
import torch
from cases import close, cubic_loss, generator, normal
from scipy.integrate import quad
from torch import Tensor

from ils import exact
from ils.estimators.gumbel import decoupled_straight_through_gumbel

each_forward = pytest.mark.parametrize("forward", [0.25, 0.5, 1.0, 3.0])


def gumbel(*shape: int, seed: int) -> Tensor:
    numbers = torch.empty(*shape, dtype=torch.float64).exponential_(generator=generator(seed))
    return -numbers.log()


@each_forward
def test_draw_is_that_of_the_forward_temperature(forward: float) -> None:
    """The loss is evaluated at draws of softmax(theta / tau_f), five standard errors.

    Twenty comparisons: a false alarm has a probability below 2e-5.
    """
    logits = normal(5, seed=1)
    seen = []

    def loss(z: Tensor) -> Tensor:
        seen.append(z.detach())
        return z.square().sum(-1)

    estimator = decoupled_straight_through_gumbel(forward_temperature=forward)
    estimator.formula(logits, gumbel(200_000, 5, seed=2), loss)
    (z,) = seen
    law = (logits / forward).softmax(-1)
    slack = 5 * (law * (1 - law) / len(z)).sqrt()
    assert ((z.mean(0) - law).abs() < slack).all()
    assert torch.equal(z.sum(-1), torch.ones(len(z), dtype=torch.float64))
    if forward != 1:
        assert ((z.mean(0) - logits.softmax(-1)).abs() > 5 * slack).any()


@each_forward
def test_mean_by_integration(forward: float) -> None:
    """Two categories: against scipy's integral on either side of where the draw changes.

    Four comparisons at five standard errors: a false alarm has a probability below 3e-6.
    """
    logits, loss = normal(2, seed=3), cubic_loss(normal(2, seed=4), 1)
    z = exact.states(logits).requires_grad_()
    (grads,) = torch.autograd.grad(loss(z).sum(), z)
    odds = float(logits[0] - logits[1])
    turn, total = -odds / forward, 0.0
    for row, (low, high) in enumerate(((turn, 60.0), (-60.0, turn))):
        change = float(grads[row, 0] - grads[row, 1])

        def integrand(x: float) -> float:
            y = torch.tensor(odds + x, dtype=torch.float64).sigmoid()
            law = torch.tensor(x, dtype=torch.float64)
            return float(y * (1 - y) * law.sigmoid() * (-law).sigmoid())

        total += change * quad(integrand, low, high, epsabs=1e-12, limit=200)[0]
    estimator = decoupled_straight_through_gumbel(forward_temperature=forward)
    found = estimator(logits, loss, draws=400_000, generator=generator(5))
    error = float(found[:, 0].std() / len(found) ** 0.5)
    assert abs(float(found[:, 0].mean()) - total) < 5 * error
    assert close(found[:, 0], -found[:, 1])
    assert error < 0.01 * abs(total)  # so that a wrong factor would be seen


@each_forward
def test_autograd(forward: float) -> None:
    """A hard value with a soft derivative, both from one noise, through autograd."""
    logits, loss = normal(3, 4, seed=6), cubic_loss(normal(3, 4, seed=7), 2)
    noise = gumbel(20, 3, 4, seed=8)
    estimator = decoupled_straight_through_gumbel(forward_temperature=forward)
    theta = logits.expand_as(noise).clone().requires_grad_()
    index = (theta / forward + noise).argmax(-1)
    hard = torch.nn.functional.one_hot(index, 4).double()
    soft = (theta + noise).softmax(-1)
    (expected,) = torch.autograd.grad(loss(hard + soft - soft.detach()).sum(), theta)
    assert close(estimator.formula(logits, noise, loss), expected, 1e-11)


def test_options() -> None:
    """Errors name the argument."""
    with pytest.raises(ValueError, match=r"forward_temperature: expected a positive finite number"):
        decoupled_straight_through_gumbel(forward_temperature=0.0)
    with pytest.raises(ValueError, match=r"backward_temperature: expected a positive finite"):
        decoupled_straight_through_gumbel(backward_temperature=-1.0)
