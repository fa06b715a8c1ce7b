"""Gumbel-Rao by quadrature: what the average keeps, what it removes, and its limit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases import close, cubic_loss, eye, generator, logistic_nodes, normal
from torch import Tensor

from ils import exact
from ils.estimators import Estimator
from ils.estimators.gumbel import gumbel_rao, straight_through_gumbel
from ils.estimators.straight_through import straight_through, zgr
from ils.relaxation import conditional_gumbel

each_count = pytest.mark.parametrize("categories", [2, 3])


def line(temperature: float, order: int) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre panels on the half-line, fine where a softmax at this temperature turns."""
    nodes, weights = (torch.from_numpy(x) for x in np.polynomial.legendre.leggauss(order))
    middle = 40 * min(temperature, 0.5)
    near = torch.linspace(0, middle, 41, dtype=torch.float64)
    far = torch.linspace(middle, middle + 60, 41, dtype=torch.float64)
    edges = torch.cat([near, far[1:]])
    half = edges.diff()[:, None] / 2
    return (edges[:-1, None] + half * (1 + nodes)).flatten(), (half * weights).flatten()


def gap_nodes(logits: Tensor, drawn: int, temperature: float) -> tuple[Tensor, Tensor]:
    """Gaps t_k of the largest perturbed logit, that of the draw, to the others; and weights.

    With exponential times of rates pi_k, t_k = log(T_k / T_i), and T_i integrated out, the density
    given the draw is (K - 1)! prod_k (pi_k e^t_k) / (pi_i + sum_k pi_k e^t_k) ** K at t > 0.
    """
    count = len(logits)
    others = [k for k in range(count) if k != drawn]
    nodes, weights = line(temperature, 12 if count == 2 else 6)
    index = torch.cartesian_prod(*[torch.arange(len(nodes))] * (count - 1))
    index = index.reshape(-1, count - 1)
    log_probs = logits.log_softmax(-1)
    gaps = torch.zeros(len(index), count, dtype=torch.float64)
    gaps[:, others] = nodes[index]
    terms = log_probs + gaps
    log_density = terms[:, others].sum(-1) - count * terms.logsumexp(-1) + math.lgamma(count)
    return gaps, weights[index].prod(-1) * log_density.exp()


def given_draw(logits: Tensor, drawn: int, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Draw, exponential numbers and weights: the numbers that lead to the gaps."""
    gaps, weights = gap_nodes(logits, drawn, temperature)
    numbers = logits.softmax(-1) * gaps.expm1()
    numbers[:, drawn] = 1
    return eye(len(logits))[drawn].expand_as(gaps), numbers.unsqueeze(1), weights


def conditional_mean(logits: Tensor, loss: exact.Loss, temperature: float) -> Tensor:
    """Mean of Gumbel-Rao given each draw, (K, K)."""
    estimator = gumbel_rao(temperature=temperature, samples=1)
    rows = []
    for drawn in range(len(logits)):
        z, numbers, weights = given_draw(logits, drawn, temperature)
        rows.append(weights @ estimator.formula(logits, (z, numbers), loss))
    return torch.stack(rows)


def hard_nodes(logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Gumbel noise and weights, draw by draw, so that the hard sample jumps at no node."""
    parts = [gap_nodes(logits, drawn, temperature) for drawn in range(len(logits))]
    noise = torch.cat([-gaps - logits for gaps, _ in parts])
    weights = [p * weights for p, (_, weights) in zip(logits.softmax(-1), parts, strict=True)]
    return noise, torch.cat(weights)


def exponential_nodes(logits: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """All draws, with nodes for the ratios of standard exponential numbers, which are all that
    an estimate depends on; none of this knows of the gaps."""
    if len(logits) == 2:
        nodes, weights = logistic_nodes()
        ratios = torch.stack([nodes, torch.zeros_like(nodes)], -1)
    else:
        axis = torch.arange(-36, 36.01, 0.25, dtype=torch.float64)
        ratios = torch.cartesian_prod(axis, axis, torch.zeros(1, dtype=torch.float64))
        weights = (-ratios.sum(-1) - 3 * (-ratios).logsumexp(-1)).exp()
        weights = weights / weights.sum()
    z = eye(len(logits)).repeat_interleave(len(ratios), 0)
    numbers = (-ratios).exp().repeat(len(logits), 1).unsqueeze(1)
    return (z, numbers), torch.outer(logits.softmax(-1), weights).flatten()


def case(categories: int, seed: int = 0) -> tuple[Tensor, exact.Loss]:
    logits = normal(categories, seed=70 + seed)
    return logits, cubic_loss(normal(categories, seed=80 + seed), 1)


@each_count
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_mean_is_that_of_straight_through_gumbel(categories: int, temperature: float) -> None:
    """The mean over exponentials against the mean over Gumbel noise, to 1e-9."""
    logits, loss = case(categories)
    found = exact.moments(
        gumbel_rao(temperature=temperature, samples=1),
        loss,
        logits,
        nodes=exponential_nodes(logits),
    )
    nodes = hard_nodes(logits, temperature)
    assert float(nodes[1].sum()) == pytest.approx(1, abs=1e-11)
    hard = straight_through_gumbel(temperature=temperature)
    expected = exact.moments(hard, loss, logits, nodes=nodes)
    assert close(found.mean, expected.mean, 1e-9)
    assert expected.mean.abs().max() > 0.05
    # One conditional sample is one sample: the variance too is that of the hard estimate.
    assert float(found.variance) == pytest.approx(float(expected.variance), rel=1e-8)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_variance(temperature: float) -> None:
    """Var = E[Var given the draw] / samples + Var[mean given the draw]; never more than hard."""
    logits, loss = case(2, seed=1)
    (z, numbers), weights = exponential_nodes(logits)
    found = {}
    single = gumbel_rao(temperature=temperature, samples=1)
    found[1] = float(exact.moments(single, loss, logits, nodes=((z, numbers), weights)).variance)
    # Two samples: all pairs of nodes, draw by draw.
    half = len(z) // 2
    first, second = torch.cartesian_prod(torch.arange(half), torch.arange(half)).T
    law = weights[:half] / weights[:half].sum()
    both = torch.cat([numbers[first], numbers[second]], 1).repeat(2, 1, 1)
    pairs = torch.outer(logits.softmax(-1), law[first] * law[second]).flatten()
    draws = eye(2).repeat_interleave(half**2, 0)
    double = gumbel_rao(temperature=temperature, samples=2)
    found[2] = float(exact.moments(double, loss, logits, nodes=((draws, both), pairs)).variance)
    # As if there were infinitely many.
    rows = conditional_mean(logits, loss, temperature)
    probs = logits.softmax(-1)
    limit = float((probs @ (rows - probs @ rows) ** 2).sum())
    assert found[2] == pytest.approx(found[1] / 2 + limit / 2, rel=1e-8)
    assert limit < 0.9 * found[2] < 0.9**2 * found[1]


def test_average_tends_to_the_mean_given_the_draw() -> None:
    """Three categories, 200,000 conditional samples, within five standard errors everywhere.

    Nine comparisons: a false alarm has a probability below 6e-6.  Gumbel noise that ignores the
    draw would be seen: it is off by more than twice the slack.
    """
    logits, loss = case(3, seed=2)
    z = exact.states(logits)
    numbers = torch.empty(3, 200_000, 3, dtype=torch.float64)
    numbers.exponential_(generator=generator(90))
    found = gumbel_rao(temperature=0.7, samples=200_000).formula(logits, (z, numbers), loss)
    parts = gumbel_rao(temperature=0.7, samples=1).formula(
        logits, (z[:, None].expand_as(numbers).reshape(-1, 3), numbers.reshape(-1, 1, 3)), loss
    )
    parts = parts.reshape(3, -1, 3)
    assert close(found, parts.mean(1), 1e-12)
    slack = 5 * parts.std(1) / parts.shape[1] ** 0.5
    assert ((found - conditional_mean(logits, loss, 0.7)).abs() < slack).all()
    free = ((logits - numbers.log()) / 0.7).softmax(-1)
    leaf = z.clone().requires_grad_()
    (grad,) = torch.autograd.grad(loss(leaf).sum(), leaf)
    grad = grad[:, None]
    free = (free * (grad - (free * grad).sum(-1, keepdim=True)) / 0.7).mean(1)
    assert ((free - conditional_mean(logits, loss, 0.7)).abs() > 2 * slack).any()


@each_count
def test_limit_is_zgr(categories: int) -> None:
    """Given each draw, the mean tends to ZGR as the temperature falls, at the rate of it."""
    logits, loss = case(categories, seed=3)
    limit = zgr().formula(logits, exact.states(logits), loss)
    scale = float(limit.abs().max())
    means = {t: conditional_mean(logits, loss, t) for t in (0.04, 0.02, 0.01)}
    far = [float((mean - limit).abs().max()) for mean in means.values()]
    assert far[0] > 1.6 * far[1] > 1.6**2 * far[2]
    assert far[2] < 0.05 * scale
    # Extrapolated to zero: the remainder is of second order.
    assert close(2 * means[0.01] - means[0.02], limit, 0.2 * far[2])
    # Neither straight-through nor anything a tenth off would pass.
    other = straight_through().formula(logits, exact.states(logits), loss)
    assert not close(other, limit, 5 * far[2])
    assert 0.1 * scale > far[2]


def test_rate_of_the_limit_for_two_categories() -> None:
    """The mean given the draw i is ZGR times 1 + 2 tau log(2) (2 pi_i - 1), to first order."""
    logits, loss = case(2, seed=4)
    limit = zgr().formula(logits, exact.states(logits), loss)
    slope = 2 * math.log(2) * (2 * logits.softmax(-1) - 1)
    for temperature in (1e-2, 1e-3):
        ratio = (conditional_mean(logits, loss, temperature) / limit)[:, 0]
        assert close((ratio - 1) / temperature, slope, 6 * temperature)
    assert slope.abs().min() > 0.1


def test_variance_at_low_temperature() -> None:
    """tau times the second moment of straight-through Gumbel tends to pi_0 pi_1 sum_i d_i^2 / 12.

    ``d_i`` is the slope g_1 - g_0 at the draw i.  What averages over all conditional samples stays
    bounded: it tends to the variance of ZGR.
    """
    logits, loss = case(2, seed=5)
    probs = logits.softmax(-1)
    z = exact.states(logits).requires_grad_()
    (grads,) = torch.autograd.grad(loss(z).sum(), z)
    expected = float(probs.prod() * (grads[:, 1] - grads[:, 0]).square().sum() / 12)
    temperature = 1e-3
    hard = straight_through_gumbel(temperature=temperature)
    found = exact.moments(hard, loss, logits, nodes=hard_nodes(logits, temperature))
    second = float(found.variance + found.mean.square().sum()) / 2  # two equal entries
    assert temperature * second == pytest.approx(expected, rel=0.01)
    rows = conditional_mean(logits, loss, temperature)
    spread = float((probs @ (rows - probs @ rows) ** 2).sum())
    assert spread == pytest.approx(float(exact.moments(zgr(), loss, logits).variance), rel=0.02)


@pytest.mark.parametrize("degree", [1, 2])
def test_cold_straight_through_gumbel_is_exact_for_quadratic_losses(degree: int) -> None:
    """Its bias falls like the temperature, for a linear loss like its square."""
    logits, weights = normal(3, seed=76), normal(3, seed=86)
    loss = lambda z: (z @ weights) ** degree  # noqa: E731
    far = []
    for temperature in (0.02, 0.01):
        hard = straight_through_gumbel(temperature=temperature)
        nodes = hard_nodes(logits, temperature)
        far.append(float(exact.moments(hard, loss, logits, nodes=nodes).bias.abs().max()))
    assert far[0] / far[1] == pytest.approx(2.0 if degree == 2 else 4.0, rel=0.1)
    assert far[1] < 0.05
    # At a temperature of one it has a bias for either.
    bias = exact.moments(
        straight_through_gumbel(temperature=1.0), loss, logits, nodes=hard_nodes(logits, 1.0)
    ).bias
    assert bias.abs().max() > 0.005


def test_noise_is_held_when_differentiated() -> None:
    """Differentiated through the conditional noise as well, the mean would be another.

    It would be <g, d E[y given the draw] / d theta>, which tends to 0 with the temperature, since
    y tends to the draw.
    """
    logits, loss = case(2, seed=6)
    (z, numbers), weights = exponential_nodes(logits)
    leaf = z.clone().requires_grad_()
    (grad,) = torch.autograd.grad(loss(leaf).sum(), leaf)
    largest = []
    for temperature in (1.0, 0.1):
        theta = logits.clone().requires_grad_()
        y = (conditional_gumbel(theta, z, numbers[:, 0]) / temperature).softmax(-1)
        (through,) = torch.autograd.grad((weights * (y * grad).sum(-1)).sum(), theta)
        held = logits.softmax(-1) @ conditional_mean(logits, loss, temperature)
        assert (through - held).abs().max() > 0.1 * held.abs().max()
        largest.append(float(through.abs().max() / held.abs().max()))
    assert largest[1] < 0.25 * largest[0]


def test_options() -> None:
    """Errors name the argument."""
    with pytest.raises(ValueError, match=r"temperature: expected a positive finite number"):
        gumbel_rao(temperature=0.0)
    with pytest.raises(ValueError, match=r"samples: expected at least 1, got 0"):
        gumbel_rao(temperature=1.0, samples=0)
    estimator = gumbel_rao(temperature=1.0, samples=100)
    assert isinstance(estimator, Estimator)
    assert estimator.evaluations == 1
