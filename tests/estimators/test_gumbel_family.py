"""Estimators with Gumbel noise: against integration, and against each other at the same noise."""

from __future__ import annotations

import pytest
import torch
from cases import close, cubic_loss, draws, exponential_nodes, generator, logistic_nodes, normal
from scipy.integrate import quad
from torch import Tensor

from ils import exact
from ils.estimators import (
    decoupled_straight_through_gumbel,
    gapped_straight_through,
    gumbel_rao,
    gumbel_softmax,
    straight_through,
    straight_through_gumbel,
    zgr,
)
from ils.relaxation import conditional_gumbel


def two_categories() -> tuple[Tensor, Tensor]:
    """Nodes for the noise of two categories: the difference of two Gumbels is logistic."""
    nodes, weights = logistic_nodes()
    return torch.stack([nodes, torch.zeros_like(nodes)], -1), weights


def three_categories() -> tuple[Tensor, Tensor]:
    """For three: with exponentials, logits of the ratios; the third Gumbel integrated out.

    Only differences matter.  x = G_1 - G_3 and y = G_2 - G_3 have the density
    ``2 e^-x e^-y / (1 + e^-x + e^-y)^3``, smooth and exponentially small at infinity.
    """
    line = torch.arange(-36, 36.01, 0.25, dtype=torch.float64)
    x, y = torch.meshgrid(line, line, indexing="ij")
    bottom = torch.stack([torch.zeros_like(x), -x, -y]).logsumexp(0)
    weights = 0.25**2 * 2 * (-x - y - 3 * bottom).exp()
    noise = torch.stack([x, y, torch.zeros_like(x)], -1).reshape(-1, 3)
    return noise, weights.flatten() / weights.sum()


def test_three_category_nodes() -> None:
    """The nodes for three categories give the softmax as the chance of the argmax, to 1%."""
    noise, weights = three_categories()
    density = 0.25**2 * 2  # the weights sum to one before they are normalised
    line = torch.arange(-36, 36.01, 0.25, dtype=torch.float64)
    x, y = torch.meshgrid(line, line, indexing="ij")
    bottom = torch.stack([torch.zeros_like(x), -x, -y]).logsumexp(0)
    assert float((density * (-x - y - 3 * bottom).exp()).sum()) == pytest.approx(1, abs=1e-10)
    logits = normal(3, seed=1)
    first = torch.nn.functional.one_hot((logits + noise).argmax(-1), 3).double()
    assert close(weights @ first, logits.softmax(-1), 0.02)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0])
@pytest.mark.parametrize("categories", [2, 3])
def test_relaxed_mean_is_the_gradient_of_the_relaxed_loss(
    temperature: float, categories: int
) -> None:
    """By quadrature: the mean estimate against central differences of E[L(y)]."""
    nodes = two_categories() if categories == 2 else three_categories()
    logits = normal(categories, seed=2)
    loss = cubic_loss(normal(categories, seed=3), 1)
    quality = exact.moments(gumbel_softmax(temperature=temperature), loss, logits, nodes=nodes)

    def relaxed(theta: Tensor) -> float:
        return float(nodes[1] @ loss(((theta + nodes[0]) / temperature).softmax(-1)))

    step = 1e-5
    for k in range(categories):
        shift = step * torch.eye(categories, dtype=torch.float64)[k]
        slope = (relaxed(logits + shift) - relaxed(logits - shift)) / (2 * step)
        assert float(quality.mean[k]) == pytest.approx(slope, abs=1e-8)
    assert quality.bias.abs().max() > 1e-3


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_hard_mean_by_integration(temperature: float) -> None:
    """Two categories: straight-through Gumbel against scipy's integral on either side of 0."""
    logits, loss = normal(2, seed=4), cubic_loss(normal(2, seed=5), 1)
    z = exact.states(logits).requires_grad_()
    (grads,) = torch.autograd.grad(loss(z).sum(), z)
    odds = float(logits[0] - logits[1])
    total = 0.0
    for row, (low, high) in enumerate(((-odds, 60.0), (-60.0, -odds))):
        change = float(grads[row, 0] - grads[row, 1])

        def integrand(x: float) -> float:
            y = torch.tensor((odds + x) / temperature, dtype=torch.float64).sigmoid()
            law = torch.tensor(x, dtype=torch.float64)
            return float(y * (1 - y) * law.sigmoid() * (-law).sigmoid()) / temperature

        total += change * quad(integrand, low, high, epsabs=1e-12, limit=200)[0]
    estimator = straight_through_gumbel(temperature=temperature)
    found = estimator(logits, loss, draws=400_000, generator=generator(6))
    error = float(found[:, 0].std() / len(found) ** 0.5)
    # Three comparisons at five standard errors: a false alarm below 2e-6.
    assert abs(float(found[:, 0].mean()) - total) < 5 * error
    assert error < 0.01 * abs(total)  # so that a wrong factor would be seen


def test_gumbel_rao_is_an_average_at_fixed_draw() -> None:
    """Each part is straight-through Gumbel at the noise that the conditional sample stands for."""
    logits, loss = normal(3, 4, seed=7), cubic_loss(normal(3, 4, seed=8), 2)
    z, numbers = draws(6, 3, 4, seed=9), normal(6, 5, 3, 4, seed=10).exp()
    found = gumbel_rao(temperature=0.7, samples=5).formula(logits, (z, numbers), loss)
    parts = [
        straight_through_gumbel(temperature=0.7).formula(
            logits, conditional_gumbel(logits, z, numbers[:, s]) - logits, loss
        )
        for s in range(5)
    ]
    assert close(found, torch.stack(parts).mean(0), 1e-11)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_gumbel_rao_has_the_mean_of_straight_through_gumbel(temperature: float) -> None:
    """Two categories by quadrature over both exponentials, against the logistic integral."""
    logits, loss = normal(2, seed=11), cubic_loss(normal(2, seed=12), 1)
    line, weight = exponential_nodes()
    first, second = torch.meshgrid(line, line, indexing="ij")
    numbers = torch.stack([first, second], -1).reshape(-1, 2)
    both = torch.outer(weight, weight).flatten()
    z = torch.eye(2, dtype=torch.float64).repeat_interleave(len(numbers), 0)
    probs = logits.softmax(-1)
    nodes = ((z, numbers.repeat(2, 1).unsqueeze(1)), torch.cat([both * probs[0], both * probs[1]]))
    estimator = gumbel_rao(temperature=temperature, samples=1)
    found = exact.moments(estimator, loss, logits, nodes=nodes)
    hard = straight_through_gumbel(temperature=temperature)
    fine = logistic_nodes(34.0, 0.0005)
    noise = torch.stack([fine[0], torch.zeros_like(fine[0])], -1)
    expected = exact.moments(hard, loss, logits, nodes=(noise, fine[1]))
    # The hard draw jumps at one point: the trapezium rule is off by at most a step there.
    assert close(found.mean, expected.mean, 5e-4 * float(expected.mean.abs().max()) + 1e-4)
    assert expected.mean.abs().max() > 0.05


def test_gumbel_rao_tends_to_zgr() -> None:
    """At a small temperature its mean given the draw is ZGR, within five standard errors.

    Forty comparisons: a false alarm has a probability below 3e-5.  Straight-through, the limit one
    might expect, is ten standard errors away or more somewhere.
    """
    logits, loss = normal(4, seed=13), cubic_loss(normal(4, seed=14), 1)
    z = exact.states(logits)
    numbers = torch.empty(4, 400_000, 4, dtype=torch.float64).exponential_(generator=generator(15))
    scores = conditional_gumbel(logits, z.unsqueeze(1), numbers)
    y = (scores / 0.01).softmax(-1)
    leaf = z.clone().requires_grad_()
    (grad,) = torch.autograd.grad(loss(leaf).sum(), leaf)
    parts = y * (grad[:, None] - (y * grad[:, None]).sum(-1, keepdim=True)) / 0.01
    error = parts.std(1) / parts.shape[1] ** 0.5
    limit = zgr().formula(logits, z, loss)
    slack = 5 * error + 0.02 * limit.abs().max()  # the temperature is not zero
    assert ((parts.mean(1) - limit).abs() < slack).all()
    other = straight_through().formula(logits, z, loss)
    assert ((parts.mean(1) - other).abs() > 2 * slack).any()


def test_gumbel_rao_averages_noise_away() -> None:
    """More conditional samples, less variance, at the same number of evaluations."""
    logits, loss = normal(3, 4, seed=16), cubic_loss(normal(3, 4, seed=17), 2)
    spread = []
    for samples in (1, 4, 16):
        estimator = gumbel_rao(temperature=0.5, samples=samples)
        assert estimator.evaluations == 1
        found = estimator(logits, loss, draws=20_000, generator=generator(18))
        spread.append(float(found.var(0).sum()))
    assert spread[0] > 1.2 * spread[1] > 1.2 * spread[2]


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_decoupled(temperature: float) -> None:
    """At equal temperatures: straight-through Gumbel of logits / tau; else the draw differs."""
    logits, loss = normal(3, 4, seed=19), cubic_loss(normal(3, 4, seed=20), 2)
    noise = -torch.empty(500, 3, 4, dtype=torch.float64).exponential_(generator=generator(21)).log()
    plain = straight_through_gumbel(temperature=1.0).formula(logits / temperature, noise, loss)
    plain = plain / temperature
    same = decoupled_straight_through_gumbel(
        forward_temperature=temperature, backward_temperature=temperature
    )
    assert close(same.formula(logits, noise, loss), plain)
    other = decoupled_straight_through_gumbel(
        forward_temperature=0.25, backward_temperature=temperature
    ).formula(logits, noise, loss)
    drawn = (logits / 0.25 + noise).argmax(-1)
    unchanged = (drawn == (logits / temperature + noise).argmax(-1)).all(-1)
    assert 0 < int(unchanged.sum()) < 500
    assert close(other[unchanged], plain[unchanged])
    assert ((other - plain)[~unchanged].abs().amax((-1, -2)) > 1e-6).all()


@pytest.mark.parametrize("gap", [1.0, 0.2, None])
def test_gapped(gap: float | None) -> None:
    """Written out as the authors do: lift the drawn logit, lower the others where they are near."""
    logits, loss = 2 * normal(3, 4, seed=22), cubic_loss(normal(3, 4, seed=23), 2)
    z = draws(30, 3, 4, seed=24)
    found = gapped_straight_through(temperature=0.8, gap=gap).formula(logits, z, loss)
    leaf = z.clone().requires_grad_()
    (grad,) = torch.autograd.grad(loss(leaf).sum(), leaf)
    top = logits.max(-1, keepdim=True).values
    room: Tensor | float = 1.0 if gap is None else gap
    if gap is None:
        chance = (logits.softmax(-1) * z).sum(-1, keepdim=True)
        room = -(1 - chance).log() / chance
    lift = (top - logits) * z
    lower = (logits - top + room).clamp(min=0) * (1 - z)
    theta = logits.expand_as(z).clone().requires_grad_()
    surrogate = ((theta + lift - lower) / 0.8).softmax(-1)
    (expected,) = torch.autograd.grad(surrogate, theta, grad)
    assert close(found, expected, 1e-10)
    shifted = logits + lift - lower
    assert torch.equal(shifted.argmax(-1), z.argmax(-1))


def test_gapped_without_need_is_straight_through() -> None:
    """Where the drawn category leads by more than the gap, nothing is shifted."""
    logits = torch.tensor([5.0, 1.0, 0.0], dtype=torch.float64)
    loss, z = cubic_loss(normal(3, seed=25), 1), torch.eye(3, dtype=torch.float64)[:1]
    found = gapped_straight_through(gap=1.0).formula(logits, z, loss)
    assert close(found, straight_through().formula(logits, z, loss))
