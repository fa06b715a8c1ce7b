"""Where relaxed Gumbel-Softmax rests: against numerical integration, and its own condition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import close, distribution, normal
from scipy import integrate, stats
from scipy.special import expit

from ils.relaxation import relaxed_sample, relaxed_sample_vjp
from lab.methods.gumbel_limit import gumbel_limit, sobol_gumbel
from lab.problems.toy import Toy


def test_sobol_gumbel() -> None:
    """Points have the Gumbel law in each column, far more evenly than chance, and no infinity."""
    noise = sobol_gumbel(2**12, 3)
    assert noise.shape == (2**12, 3)
    assert noise.isfinite().all()
    assert torch.equal(noise, sobol_gumbel(2**12, 3))
    assert not torch.equal(noise, sobol_gumbel(2**12, 3, seed=1))
    for column in noise.T.numpy():
        # Random points would lie about 2**-6 off; a net of 2**12 points lies 2**-12 off.
        assert stats.kstest(column, stats.gumbel_r.cdf).statistic < 2**-11
    products = (noise - np.euler_gamma).T @ (noise - np.euler_gamma) / 2**12
    # The variance hangs on the few points of the tail; correlations of random points would be .03.
    assert close(products.diag(), torch.full((3,), np.pi**2 / 6), 0.05)
    assert close(products - torch.diag(products.diag()), torch.zeros(3, 3), 0.01)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_gradient_of_the_relaxed_toy(temperature: float) -> None:
    """Without the guard the toy's gradient is (y - p) / (T N K), so rest means E[y] = p."""
    p, theta = distribution(2, 3, 5, seed=1), normal(2, 3, 5, seed=2).requires_grad_()
    noise = normal(2, 3, 5, seed=3)
    for eps in (0.0, 1e-12):
        toy = Toy(p=p, start=theta.detach(), eps=eps)
        y = relaxed_sample(theta, noise, temperature)
        loss = (-p * ((y + eps).log() - (p + eps).log())).mean((-1, -2)).sum()
        (expected,) = torch.autograd.grad(loss, theta)
        y = y.detach()
        assert close(relaxed_sample_vjp(y, toy.gradient(y), temperature), expected, 1e-13)
        slack = 1e-13 + 2 * eps / float(y.min()) / (temperature * 15)
        assert slack < 1e-3
        assert close(expected, (y - p) / (temperature * 15), slack)
        # False: another sign, or no temperature or size below it.
        for false in ((p - y) / (temperature * 15), (y - p) / temperature, (y - p) / 5):
            assert not close(expected, false, slack)
        assert expected.abs().max() > 1e-3


def mean_of_two(theta: float, temperature: float) -> float:
    """E[y_1] of two categories by quadrature: the difference of two Gumbels is logistic."""
    value, error = integrate.quad(
        lambda x: expit((theta + x) / temperature) * stats.logistic.pdf(x), -40, 40, limit=400
    )
    assert error < 1e-7
    return value


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_mean_relaxed_sample_is_the_target(temperature: float) -> None:
    """For K = 2 and no guard the model found has E[y] = p by an independent integral."""
    p = torch.tensor([[0.9, 0.1], [0.35, 0.65], [0.5, 0.5]], dtype=torch.float64)
    noise = sobol_gumbel(2**13, 2)
    model, slope = gumbel_limit(p, temperature, eps=0.0, noise=noise)
    assert slope.max() < 1e-8
    theta = (model[:, 0] / model[:, 1]).log().tolist()
    means = [mean_of_two(value, temperature) for value in theta]
    # The noise set is finite: its means are off by less than a thousandth.
    assert np.abs(np.array(means) - p[:, 0].numpy()).max() < 5e-4
    # The model itself is more peaked than p, by far more than that.
    assert float(model[0, 0]) > 0.92
    assert float(model[1, 1]) > 0.67


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0, 3.0])
def test_two_categories_are_flattened(temperature: float) -> None:
    """For K = 2 the mean relaxed sample lies between the model and one half."""
    for theta in (0.3, 1.0, 3.0):
        assert 0.5 < mean_of_two(theta, temperature) < expit(theta)
        assert expit(-theta) < mean_of_two(-theta, temperature) < 0.5


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_three_categories(temperature: float) -> None:
    """On its own noise E[y] = p to the tolerance, where the model is not p."""
    p = distribution(6, 3, seed=4)
    noise = sobol_gumbel(2**12, 3)
    model, slope = gumbel_limit(p, temperature, eps=0.0, noise=noise)
    assert slope.max() < 1e-8
    y = relaxed_sample(model.log().unsqueeze(1), noise, temperature)
    assert close(y.mean(1), p, 1e-8 * max(temperature, 1.0))
    assert (model - p).abs().max() > 0.02


def test_minimum_with_a_guard() -> None:
    """With a guard the gradient of the stated loss is zero there, and no step beside is lower."""
    p, noise = distribution(4, 3, seed=6), sobol_gumbel(2**10, 3)
    eps, temperature = 1e-2, 0.5
    model, slope = gumbel_limit(p, temperature, eps=eps, noise=noise)
    assert slope.max() < 1e-8
    theta = model.log().requires_grad_()

    def loss(logits: torch.Tensor) -> torch.Tensor:
        y = relaxed_sample(logits.unsqueeze(1), noise, temperature)
        return -(p * (y + eps).log().mean(1)).sum(-1)

    (grad,) = torch.autograd.grad(loss(theta).sum(), theta)
    assert grad.abs().max() < 1e-8
    best = loss(theta.detach())
    for seed in range(20):
        aside = theta.detach() + 0.1 * normal(4, 3, seed=seed)
        assert (loss(aside) > best).all()
    # The guard matters: without it the minimum is elsewhere.
    plain, _ = gumbel_limit(p, temperature, eps=0.0, noise=noise)
    assert (plain - model).abs().max() > 1e-3


def test_problems_do_not_interact() -> None:
    """Problems are split into parts for memory; each has the limit that it has alone."""
    p, noise = distribution(53, 3, seed=7), sobol_gumbel(2**8, 3)
    together, slope = gumbel_limit(p, 1.0, eps=0.0, noise=noise)
    assert together.shape == (53, 3)
    assert slope.shape == (53,)
    for i in (0, 49, 50, 52):
        alone, _ = gumbel_limit(p[i : i + 1], 1.0, eps=0.0, noise=noise)
        assert close(together[i : i + 1], alone, 1e-7)
    # With too few iterations the remaining gradient is reported, not hidden.
    _, slope = gumbel_limit(p, 3.0, eps=0.0, noise=noise, iterations=1)
    assert slope.max() > 1e-4


def test_bad_input() -> None:
    """A temperature that is none is refused."""
    p, noise = distribution(1, 3), sobol_gumbel(8, 3)
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=rf"temperature: .* got {temperature}"):
            gumbel_limit(p, temperature, eps=0.0, noise=noise)
    with pytest.raises(TypeError, match=r"temperature: .* got bool"):
        gumbel_limit(p, True, eps=0.0, noise=noise)
