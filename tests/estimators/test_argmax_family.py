"""SPIGOT and its variants, identity, blackbox, I-MLE: formulas, limits, relations."""

from __future__ import annotations

from typing import Any

import entmax
import pytest
import torch
from cases import close, cubic_loss, draws, generator, normal
from torch import Tensor

import ils
from ils import exact
from ils.estimators import (
    adaptive_implicit_mle,
    blackbox,
    identity,
    implicit_mle,
    intermediate_loss_sampling,
    spigot,
    spigot_ce,
    spigot_eg,
)
from ils.relaxation import hardened
from ils.target import centred_gradient

SHAPES = [(5,), (3, 4)]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def problem(shape: tuple[int, ...], seed: int) -> tuple[Tensor, Any]:
    return normal(*shape, seed=seed), cubic_loss(normal(*shape, seed=seed + 50), len(shape))


def slope(loss: Any, point: Tensor) -> Tensor:
    leaf = point.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf[None]).sum(), leaf)[0]


def only(estimator: Any, logits: Tensor, loss: Any) -> Tensor:
    """The one estimate of a method that draws nothing, and that it is its own mean."""
    found = estimator(logits, loss, draws=3)
    assert torch.equal(found[0], found[2])
    quality = exact.moments(estimator, loss, logits)
    assert close(quality.mean, found[0])
    assert quality.variance == 0
    return found[0]


@each_shape
@pytest.mark.parametrize("step_size", [0.05, 0.5, 3.0])
def test_spigot_family(shape: tuple[int, ...], step_size: float) -> None:
    """Each against its formula, projected by the entmax package's sparsemax."""
    logits, loss = problem(shape, 1)
    top, probs = hardened(logits), logits.softmax(-1)

    def project(x: Tensor) -> Tensor:
        return entmax.sparsemax(x, dim=-1)

    at_top, at_mean = slope(loss, top), slope(loss, probs)
    expected = {
        spigot: top - project(top - step_size * at_top),
        spigot_ce: probs - project(probs - step_size * at_mean),
        spigot_eg: probs - (probs.log() - step_size * at_mean).softmax(-1),
    }
    for make, estimate in expected.items():
        assert close(only(make(step_size=step_size), logits, loss), estimate, 1e-10)
        divided = only(make(step_size=step_size, per_step=True), logits, loss)
        assert close(divided, estimate / step_size, 1e-9)


@each_shape
def test_spigot_at_a_draw_is_the_projected_step(shape: tuple[int, ...]) -> None:
    """SPIGOT is the centred, projected ILS estimate at the likeliest category."""
    logits, loss = problem(shape, 2)
    ours = intermediate_loss_sampling(
        step_size=0.4, gradient=centred_gradient, normalizer=ils.project_simplex
    )
    top = hardened(logits)
    expected = ours.formula(logits, top[None], loss)[0]
    assert close(only(spigot(step_size=0.4), logits, loss), expected)


@each_shape
def test_spigot_eg_tends_to_straight_through_at_the_mean(shape: tuple[int, ...]) -> None:
    """Divided by the step, to J g(pi), with an error of first order in the step."""
    logits, loss = problem(shape, 3)
    probs = logits.softmax(-1)
    grad = slope(loss, probs)
    limit = probs * (grad - (probs * grad).sum(-1, keepdim=True))
    far = [
        float((only(spigot_eg(step_size=a, per_step=True), logits, loss) - limit).abs().max())
        for a in (1e-3, 1e-4)
    ]
    assert far[1] < 1e-3
    assert far[0] == pytest.approx(10 * far[1], rel=0.05)
    # Not straight-through with the derivative at the draw.
    drawn = exact.moments(ils.estimators.straight_through(), loss, logits).mean
    assert (drawn - limit).abs().max() > 0.01


def tangent_projection(direction: Tensor, drawn: int) -> Tensor:
    """Nearest point of the cone {d: sum d = 0, d_k >= 0 for k != drawn}, by its conditions.

    ``d_k = max(v_k - t, 0)`` off the draw and ``d_i = v_i - t`` with ``t`` such that the sum is 0.
    """
    others = [k for k in range(len(direction)) if k != drawn]
    low, high = float(direction.min()) - 1, float(direction.max()) + 1

    def at(t: float) -> Tensor:
        found = direction - t
        found[others] = found[others].clamp(min=0)
        return found

    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle).sum() > 0 else (low, middle)
    return at((low + high) / 2)


def test_projected_step_is_one_sided() -> None:
    """At a small step (z - pi_D) / alpha is minus the projection of -g onto the tangent cone."""
    logits, loss = problem((5,), 4)
    z = exact.states(logits)
    estimator = intermediate_loss_sampling(
        step_size=1e-4,
        gradient=centred_gradient,
        normalizer=ils.project_simplex,
        per_step=True,
    )
    found = estimator.formula(logits, z, loss)
    for drawn in range(5):
        expected = -tangent_projection(-slope(loss, z[drawn]), drawn)
        assert close(found[drawn], expected, 1e-9)


def test_plane_step_is_the_natural_gradient_for_linear_losses() -> None:
    """Unclamped, the projected step hands on g - mean(g), F's pseudo-inverse times F g."""
    logits, weights = normal(5, seed=5), normal(5, seed=6)
    probs = logits.softmax(-1)
    fisher = torch.diag(probs) - torch.outer(probs, probs)
    gradient = exact.gradient(lambda z: z @ weights, logits)
    natural = torch.linalg.pinv(fisher, rtol=1e-12, hermitian=True) @ gradient
    direction = ils.target.direction(
        exact.states(logits), weights.expand(5, 5), normalizer=ils.project_simplex
    )
    assert close(direction, natural.expand(5, 5), 1e-9)
    # The sum-normalised step that keeps its mass has another mean.
    kept = ils.target.direction(exact.states(logits), weights.expand(5, 5), keep_mass=True)
    assert ((probs @ kept) - natural).abs().max() > 0.1
    mean = (probs * weights).sum()
    other = weights - mean - 5 * probs * (weights.mean() - weights)
    assert close(probs @ kept, other, 1e-12)


@each_shape
def test_identity(shape: tuple[int, ...]) -> None:
    """The derivative at the likeliest category without its mean over what is not masked."""
    logits, loss = problem(shape, 7)
    grad = slope(loss, hardened(logits))
    assert close(only(identity(), logits, loss), grad - grad.mean(-1, keepdim=True))


@each_shape
@pytest.mark.parametrize("step_size", [0.1, 1.0, 10.0])
def test_blackbox_and_imle(shape: tuple[int, ...], step_size: float) -> None:
    """Differences of two argmaxes; blackbox is I-MLE without noise."""
    logits, loss = problem(shape, 8)
    noise = normal(20, *shape, seed=9)
    found = implicit_mle(step_size=step_size).formula(logits, noise, loss)
    for one, estimate in zip(noise, found, strict=True):
        z = hardened(logits + one)
        moved = hardened(logits + one - step_size * slope(loss, z))
        assert close(estimate, (z - moved) / step_size)
    silent = implicit_mle(step_size=step_size).formula(logits, torch.zeros(1, *shape), loss)[0]
    assert close(only(blackbox(step_size=step_size), logits, loss), silent)


def test_adaptive_imle() -> None:
    """Two-sided and one-sided differences at a step relative to the logits."""
    logits, loss = problem((3, 4), 10)
    noise = normal(20, 3, 4, seed=11)
    for symmetric in (True, False):
        estimator = adaptive_implicit_mle(initial_step=0.8, symmetric=symmetric)
        found = estimator.formula(logits, noise, loss)
        for one, estimate in zip(noise, found, strict=True):
            z = hardened(logits + one)
            grad = slope(loss, z)
            step = 0.8 * logits.norm() / grad.norm()
            right = hardened(logits + one - step * grad)
            left = hardened(logits + one + step * grad) if symmetric else z
            assert close(estimate, (left - right) / (step * (2 if symmetric else 1)))


def test_adaptive_imle_learns() -> None:
    """The step rises while too little changes, falls while too much does, and stays above 0."""
    logits, loss = problem((3, 4), 12)
    for start, direction in ((1e-3, 1), (50.0, -1)):
        estimator: Any = adaptive_implicit_mle(initial_step=start, update=0.01)
        values = [estimator.step.value]
        for call in range(30):
            estimator(logits, loss, draws=20, generator=generator(call))
            values.append(estimator.step.value)
        assert direction * (values[-1] - values[15]) > 0.1
    tiny: Any = adaptive_implicit_mle(initial_step=0.01, update=1.0)
    tiny.step.changes = 100.0
    tiny(logits, loss, generator=generator(1))
    assert tiny.step.value == 0.0
    assert not tiny(logits, loss, generator=generator(2)).any()


def test_adaptive_imle_of_a_flat_loss() -> None:
    """No derivative, no estimate, no error."""
    estimator = adaptive_implicit_mle()
    found = estimator(normal(4, seed=13), lambda z: (z * 0).sum(-1), draws=5)
    assert not found.any()


def test_targets_stay_on_the_simplex() -> None:
    """What SPIGOT and its variants subtract is a distribution, at any step."""
    logits, loss = problem((3, 4), 14)
    for make, start in ((spigot, hardened(logits)), (spigot_ce, logits.softmax(-1))):
        target = start - only(make(step_size=50.0), logits, loss)
        assert (target > -1e-12).all()
        assert close(target.sum(-1), torch.ones(3, dtype=torch.float64))
    assert draws(2, 3).shape == (2, 3)
