"""What equals what, and for which losses nothing is lost: exact conditions and limits.

ReinMax, ZGR, DARN, straight-through and ILS in the Fisher metric, clamped and not.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from cases import close, cubic_loss, derivative, draws, eye, normal
from test_perturbation import imle_means
from torch import Tensor

import ils
from ils import exact
from ils.estimators import darn, intermediate_loss_sampling, reinmax, straight_through, zgr
from ils.target import centred_gradient

SHAPES = [(5,), (3, 4), (1, 2), (4, 2), (4, 2, 3)]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
each_joint = pytest.mark.parametrize("shape", SHAPES[:-1], ids=str)
each_loss = pytest.mark.parametrize("shape", [(4,), (3, 3), (2, 4), (5, 2)], ids=str)


def fisher_step(step_size: float, normalizer: Any) -> Any:
    """The centred, mass-keeping ILS step in the Fisher metric, divided by the step size."""
    return intermediate_loss_sampling(
        step_size=step_size,
        normalizer=normalizer,
        metric=ils.metric.fisher,
        gradient=centred_gradient,
        keep_mass=True,
        per_step=True,
    )


def clamped_step(step_size: float) -> Any:
    return fisher_step(step_size, ils.sum_normalize)


def case(shape: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor, Any]:
    logits, z = normal(*shape, seed=seed), draws(200, *shape, seed=seed + 1)
    return logits, z, cubic_loss(normal(*shape, seed=seed + 2), min(2, len(shape)))


# --- one estimator under several names


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
@pytest.mark.parametrize("step_size", [1e-3, 0.3, 5.0])
def test_fisher_step_is_twice_reinmax(shape: tuple[int, ...], step_size: float) -> None:
    """Without clamping, for every step size and draw."""
    logits, z, loss = case(shape, 10)
    twice = 2 * reinmax().formula(logits, z, loss)
    found = fisher_step(step_size, ils.sum_normalize_unclamped).formula(logits, z, loss)
    assert close(found, twice, 1e-12 / step_size * (1 + float(twice.abs().max())))


# --- clamping


@each_joint
def test_clamping_changes_nothing_if_and_only_if(shape: tuple[int, ...]) -> None:
    """Clamped step = 2 ReinMax at a draw iff no category is worse and alpha (g_i - <pi, g>) <= 1.

    Variable by variable; on either side of the largest step, too.
    """
    logits, z, loss = case(shape, 4)
    grad = derivative(loss, z)
    drawn = (z * grad).sum(-1)
    worst = drawn >= grad.amax(-1)
    assert worst.any()
    assert not worst.all()
    twice = 2 * reinmax().formula(logits, z, loss)
    excess = drawn - (logits.softmax(-1) * grad).sum(-1)
    least = float(1 / excess[worst].max())
    for step_size in (1e-4, 0.3 * least, 0.999 * least, 1.001 * least, 3 * least, 30 * least):
        far = (clamped_step(step_size).formula(logits, z, loss) - twice).abs().amax(-1)
        same = worst & (step_size * excess <= 1)
        assert (far[same] < 1e-9).all()
        assert (far[~same] > 1e-6).all()
        assert torch.equal(same, worst) == (step_size < least)


def test_clamped_mean_is_one_sided() -> None:
    """At small steps the mean of entry k is pi_k sum_i pi_i [(d_ki)_+ - (d_ik)_+].

    ``d_ji = <g(e_j), e_j - e_i>``, from each draw j: only flow towards a better category counts.
    It is not exact for quadratic losses; ReinMax, which counts both ends, is.
    """
    logits = normal(4, seed=7)
    square, weights = normal(4, 4, seed=8), normal(4, seed=9)

    def loss(z: Tensor) -> Tensor:
        return ((z @ square) * z).sum(-1) + z @ weights

    grads, probs = derivative(loss, eye(4)), logits.softmax(-1)
    rise = grads.diagonal()[:, None] - grads  # rise[j, i] = <g(e_j), e_j - e_i>
    flow = rise.clamp(min=0)
    expected = probs * (flow @ probs - flow.T @ probs)
    found = exact.moments(clamped_step(1e-7), loss, logits)
    assert close(found.mean, expected, 1e-5)
    assert found.bias.norm() > 0.05 * found.gradient.norm()
    assert exact.moments(reinmax(), loss, logits).bias.abs().max() < 1e-12


@each_joint
def test_clamped_fisher_step_is_exact_for_linear_losses(shape: tuple[int, ...]) -> None:
    """Clamped, per step, as the step tends to zero: mass flows from worse to better alone."""
    logits, loss = normal(*shape, seed=70), linear_loss(shape, 71)
    far = [
        float(exact.moments(clamped_step(a), loss, logits).bias.abs().max()) for a in (1e-3, 1e-5)
    ]
    assert far[1] < 1e-5
    if shape[-1] > 2:  # of first order in the step; with two categories nothing is left
        assert far[0] == pytest.approx(100 * far[1], rel=0.02)


def test_imle_at_small_steps_is_the_clamped_fisher_step() -> None:
    """As both steps tend to zero the two have one mean: the flow from worse to better."""
    for seed in range(5):
        logits, loss = normal(4, seed=90 + seed), cubic_loss(normal(4, seed=100 + seed), 1)
        grads = derivative(loss, eye(4))
        flow = exact.moments(clamped_step(1e-7), loss, logits).mean
        assert close(imle_means(logits, grads, 1e-7), flow, 1e-5 * (1 + float(flow.abs().max())))
        assert (flow - exact.moments(reinmax(), loss, logits).mean).abs().max() > 1e-3


# --- exactness


def linear_loss(shape: tuple[int, ...], seed: int) -> Any:
    weights = normal(*shape, seed=seed)
    return lambda z: (z * weights).flatten(1).sum(-1) + 2


def affine_loss(shape: tuple[int, ...], seed: int) -> Any:
    """Linear in each variable when the others are held: products of different variables."""
    weights = normal(*shape, seed=seed)

    def loss(z: Tensor) -> Tensor:
        each = (z * weights).sum(-1)
        return each.prod(-1) + each.sum(-1) * 0.5 + each[:, 0] * each[:, -1]

    return loss


def quadratic_loss(shape: tuple[int, ...], seed: int) -> Any:
    size = math.prod(shape)
    square, weights = normal(size, size, seed=seed), normal(size, seed=seed + 1)

    def loss(z: Tensor) -> Tensor:
        x = z.flatten(1)
        return ((x @ square) * x).sum(-1) + x @ weights

    return loss


def separate_squares(shape: tuple[int, ...], seed: int) -> Any:
    """Quadratic in each variable when the others are held, of the fourth degree together."""
    weights = normal(*shape, seed=seed)
    return lambda z: ((z * weights).sum(-1) ** 2).prod(-1)


@each_loss
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


@each_loss
def test_darn_is_as_wrong_the_other_way(shape: tuple[int, ...]) -> None:
    """For a loss quadratic in each variable the biases of DARN and straight-through cancel."""
    logits, weights = normal(*shape, seed=62), normal(*shape, seed=63)

    def loss(z: Tensor) -> Tensor:
        each = (z * weights).sum(-1).reshape(len(z), -1)  # draws by variables
        return ((each + 1) ** 2).prod(-1) + each.sum(-1)

    first, second = (exact.moments(e, loss, logits).bias for e in (straight_through(), darn()))
    assert close(first, -second, 1e-11)
    assert first.abs().max() > 1e-3
