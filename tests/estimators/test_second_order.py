"""ReinMax, ZGR, DARN, straight-through and ILS in the Fisher metric: what equals what, and when."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from cases import close, cubic_loss, draws, normal
from torch import Tensor

import ils
from ils import exact
from ils.estimators import (
    darn,
    intermediate_loss_sampling,
    reinmax,
    straight_through,
    zgr,
)
from ils.relaxation import hardened
from ils.target import centred_gradient

SHAPES = [(5,), (3, 4), (1, 2), (4, 2, 3)]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def fisher_step(step_size: float, normalizer: ils.Normalizer = ils.sum_normalize_unclamped):
    """The centred, mass-keeping ILS step in the Fisher metric, divided by the step size."""
    return intermediate_loss_sampling(
        step_size=step_size,
        normalizer=normalizer,
        metric=ils.metric.fisher,
        gradient=centred_gradient,
        keep_mass=True,
        per_step=True,
    )


def case(shape: tuple[int, ...], seed: int):
    logits, z = normal(*shape, seed=seed), draws(40, *shape, seed=seed + 1)
    return logits, z, cubic_loss(normal(*shape, seed=seed + 2), min(2, len(shape)))


@each_shape
def test_reinmax_is_zgr_is_the_mean_of_two(shape: tuple[int, ...]) -> None:
    """ReinMax at temperature 1 = ZGR = half of (straight-through + DARN), at every draw."""
    logits, z, loss = case(shape, 1)
    both = straight_through().formula(logits, z, loss) + darn().formula(logits, z, loss)
    scale = 1e-12 * (1 + float(both.abs().max()))
    assert close(reinmax().formula(logits, z, loss), both / 2, scale)
    assert close(zgr().formula(logits, z, loss), both / 2, scale)
    # At another temperature it is something else.
    other = reinmax(temperature=2.0).formula(logits, z, loss)
    assert (other - both / 2).abs().max() > 1e-3


@each_shape
def test_reinmax_entry_by_entry(shape: tuple[int, ...]) -> None:
    """After a draw of i: [pi_k (g_k - g_i) + z_k (g_i - <pi, g>)] / 2."""
    logits, z, loss = case(shape, 4)
    leaf = z.clone().requires_grad_()
    (grad,) = torch.autograd.grad(loss(leaf).sum(), leaf)
    probs = logits.softmax(-1).expand_as(z)
    drawn = (z * grad).sum(-1, keepdim=True)
    mean = (probs * grad).sum(-1, keepdim=True)
    expected = (probs * (grad - drawn) + z * (drawn - mean)) / 2
    assert close(reinmax().formula(logits, z, loss), expected, 1e-11)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_reinmax_with_temperature(temperature: float) -> None:
    """Twice the softmax Jacobian at the middle less half of that at pi, by autograd."""
    logits, z, loss = case((3, 4), 7)
    found = reinmax(temperature=temperature).formula(logits, z, loss)
    middle = (((logits / temperature).softmax(-1) + z) / 2).log()
    for one, start, estimate in zip(z, middle, found, strict=True):
        leaf = one.clone().requires_grad_()
        (grad,) = torch.autograd.grad(loss(leaf[None]).sum(), leaf)
        expected = 0
        for point, factor in ((start, 2.0), (logits, -0.5)):
            at = point.clone().requires_grad_()
            (part,) = torch.autograd.grad(at.softmax(-1), at, grad)
            expected = expected + factor * part
        assert close(estimate, expected, 1e-10)


@each_shape
@pytest.mark.parametrize("step_size", [1e-3, 0.3, 5.0])
def test_fisher_step_is_twice_reinmax(shape: tuple[int, ...], step_size: float) -> None:
    """Without clamping, for every step size and draw."""
    logits, z, loss = case(shape, 10)
    twice = 2 * reinmax().formula(logits, z, loss)
    found = fisher_step(step_size).formula(logits, z, loss)
    assert close(found, twice, 1e-12 / step_size * (1 + float(twice.abs().max())))


def test_clamping_breaks_the_identity() -> None:
    """Clamped, it holds at draws that no category is worse than, and only there, at any step."""
    logits, loss = normal(5, seed=20), cubic_loss(normal(5, seed=21), 1)
    z = exact.states(logits)
    leaf = z.clone().requires_grad_()
    (grad,) = torch.autograd.grad(loss(leaf).sum(), leaf)
    worst = (z * grad).sum(-1) >= grad.amax(-1)
    assert 0 < int(worst.sum()) < len(z)
    for step_size in (1e-6, 1e-3, 0.05):
        clamped = fisher_step(step_size, ils.sum_normalize).formula(logits, z, loss)
        far = (clamped - 2 * reinmax().formula(logits, z, loss)).abs().amax(-1)
        assert (far[worst] < 1e-9).all()
        assert (far[~worst] > 1e-3).all()


def linear_loss(shape: tuple[int, ...], seed: int):
    weights = normal(*shape, seed=seed)
    return lambda z: (z * weights).flatten(1).sum(-1) + 2


def affine_loss(shape: tuple[int, ...], seed: int):
    """Linear in each variable when the others are held: products of different variables."""
    weights = normal(*shape, seed=seed)

    def loss(z: Tensor) -> Tensor:
        each = (z * weights).sum(-1)
        return each.prod(-1) + each.sum(-1) * 0.5 + each[:, 0] * each[:, -1]

    return loss


def quadratic_loss(shape: tuple[int, ...], seed: int):
    size = 1
    for axis in shape:
        size *= axis
    square, weights = normal(size, size, seed=seed), normal(size, seed=seed + 1)

    def loss(z: Tensor) -> Tensor:
        x = z.flatten(1)
        return ((x @ square) * x).sum(-1) + x @ weights

    return loss


def separate_squares(shape: tuple[int, ...], seed: int):
    """Quadratic in each variable when the others are held, of the fourth degree together."""
    weights = normal(*shape, seed=seed)
    return lambda z: ((z * weights).sum(-1) ** 2).prod(-1)


@pytest.mark.parametrize("shape", [(4,), (3, 3), (2, 4), (5, 2)], ids=str)
def test_reinmax_is_exact_for_quadratic_losses(shape: tuple[int, ...]) -> None:
    """In expectation; of several variables, if quadratic in each with the others held."""
    for seed in range(5):
        logits = normal(*shape, seed=seed)
        losses = [quadratic_loss(shape, 30 + seed)]
        if len(shape) > 1:
            losses.append(separate_squares(shape, 40 + seed))
        for loss in losses:
            quality = exact.moments(reinmax(), loss, logits)
            assert quality.bias.abs().max() < 1e-10
            for first_order in (straight_through(), darn()):
                bias = exact.moments(first_order, loss, logits).bias
                assert bias.norm() > 0.01 * quality.gradient.norm()


@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (5, 2)], ids=str)
def test_first_order_methods_are_exact_for_affine_losses(shape: tuple[int, ...]) -> None:
    """Straight-through and DARN, in expectation, if linear in each variable with others held."""
    logits = normal(*shape, seed=50)
    for loss in (linear_loss(shape, 51), affine_loss(shape, 52)):
        for estimator in (straight_through(), darn(), reinmax()):
            assert exact.moments(estimator, loss, logits).bias.abs().max() < 1e-10


def test_reinmax_error_is_that_of_the_trapezium() -> None:
    """For a cubic loss the bias is pi_k sum_i pi_i d3 / 12, d3 the third derivative from i to k.

    For others it is at most pi_k (1 - pi_k) times the largest over 12, which one cubic attains.
    """
    weights, logits = normal(5, seed=60), normal(5, seed=61)
    quality = exact.moments(reinmax(), lambda z: (z @ weights) ** 3, logits)
    probs = logits.softmax(-1)
    third = 6 * (weights[:, None] - weights[None, :]) ** 3  # along e_i -> e_k, index (k, i)
    expected = probs * ((third / 12) @ probs)
    assert close(quality.bias, expected, 1e-11)
    assert quality.bias.abs().max() > 1e-3

    share, rise = probs * (1 - probs), weights[:, None] - weights
    for frequency in (0.2, 1.0, 3.0):
        quality = exact.moments(reinmax(), lambda z, f=frequency: (f * (z @ weights)).sin(), logits)
        bound = share * (frequency * rise).abs().max() ** 3 / 12
        assert (quality.bias.abs() <= bound).all()
        assert quality.bias.abs().max() > 1e-5
    for k in range(5):
        # Its slope is zero at every corner, so the whole gradient is bias.
        quality = exact.moments(reinmax(), lambda z, k=k: z[:, k] ** 2 * (3 - 2 * z[:, k]), logits)
        assert close(quality.bias[k], -12 * share[k] / 12, 1e-12)


@each_shape
def test_clamped_fisher_step_is_exact_for_linear_losses(shape: tuple[int, ...]) -> None:
    """Clamped, per step, as the step tends to zero: mass flows from worse to better alone."""
    if len(shape) > 2:
        shape = shape[1:]
    logits, loss = normal(*shape, seed=70), linear_loss(shape, 71)
    far = [
        float(exact.moments(fisher_step(a, ils.sum_normalize), loss, logits).bias.abs().max())
        for a in (1e-3, 1e-5)
    ]
    assert far[1] < 1e-5
    if shape[-1] > 2:  # of first order in the step; with two categories nothing is left
        assert far[0] == pytest.approx(100 * far[1], rel=0.02)


def imle_means(logits: Tensor, grads: Tensor, step_size: float) -> Tensor:
    """Exact mean of I-MLE for one variable; ``grads`` holds g at each draw, row by row.

    Given the draw i, with exponential numbers E = exp(-G) both draws are the argmin of E / weight.
    P(first i, second j) is the integral over r = E_j / E_i of (sum_k max(a_k / a_i, r b_k / b_j))
    ** -2, over the r at which the terms k = i and k = j are 1 and r.
    """
    count = len(logits)
    a, mean = logits.exp(), torch.zeros_like(logits)
    for i in range(count):
        b = (logits - step_size * grads[i]).exp()
        for j in range(count):
            if i == j:
                continue
            low, high = float(a[j] / a[i]), float(b[j] / b[i])
            if high <= low:
                continue
            others = [k for k in range(count) if k not in (i, j)]
            breaks = [float(a[k] * b[j] / (a[i] * b[k])) for k in others]
            points = sorted({low, high, *[r for r in breaks if low < r < high]})
            chance = 0.0
            for left, right in pairwise(points):
                middle, total, slope = (left + right) / 2, 1.0, 1.0
                for k, point in zip(others, breaks, strict=True):
                    if middle < point:
                        total += float(a[k] / a[i])
                    else:
                        slope += float(b[k] / b[j])
                chance += (right - left) / ((total + slope * left) * (total + slope * right))
            mean[i] += chance / step_size
            mean[j] -= chance / step_size
    return mean


def test_imle_mean() -> None:
    """The closed form of I-MLE's mean, within five standard errors of 400,000 estimates.

    Twelve comparisons: a false alarm has a probability below 1e-5.  The largest standard error is
    below a tenth of the largest mean, so that a wrong factor would be seen.
    """
    logits, loss = normal(4, seed=80), cubic_loss(normal(4, seed=81), 1)
    z = exact.states(logits).requires_grad_()
    (grads,) = torch.autograd.grad(loss(z).sum(), z)
    for step_size in (0.1, 0.5, 2.0):
        estimator = ils.estimators.implicit_mle(step_size=step_size)
        generator = torch.Generator().manual_seed(1)
        found = estimator(logits, loss, draws=400_000, generator=generator)
        error = found.std(0) / len(found) ** 0.5
        mean = imle_means(logits, grads, step_size)
        assert ((found.mean(0) - mean).abs() < 5 * error).all()
        assert error.max() < 0.02 * mean.abs().max()


def test_imle_at_small_steps_is_the_clamped_fisher_step() -> None:
    """As both steps tend to zero the two have one mean: the flow from worse to better."""
    for seed in range(5):
        logits, loss = normal(4, seed=90 + seed), cubic_loss(normal(4, seed=100 + seed), 1)
        z = exact.states(logits).requires_grad_()
        (grads,) = torch.autograd.grad(loss(z).sum(), z)
        flow = exact.moments(fisher_step(1e-7, ils.sum_normalize), loss, logits).mean
        assert close(imle_means(logits, grads, 1e-7), flow, 1e-5 * (1 + float(flow.abs().max())))
        assert (flow - exact.moments(reinmax(), loss, logits).mean).abs().max() > 1e-3


def test_draw_is_what_was_drawn() -> None:
    """hardened() of perturbed logits and one-hot draws agree on what a category is."""
    scores = normal(50, 6, seed=110)
    assert torch.equal(hardened(scores).argmax(-1), scores.argmax(-1))
