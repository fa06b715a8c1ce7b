"""ILS and the SPIGOT family: the formula of the target, limits, and what the operator hands on."""

from __future__ import annotations

from typing import Any

import entmax
import pytest
import torch
from cases import close, cubic_loss, derivative, draws, normal
from factories import cubic_problem as problem
from torch import Tensor

import ils
from ils import exact
from ils.estimators import (
    from_rule,
    intermediate_loss_sampling,
    spigot,
    spigot_ce,
    spigot_eg,
    straight_through,
)
from ils.relaxation import hardened
from ils.target import centred_gradient, logits_gradient, probs_gradient

each_shape = pytest.mark.parametrize("shape", [(5,), (3, 4)], ids=str)


# --- Intermediate Loss Sampling


@pytest.mark.parametrize("shape", [(5,), (3, 4), (1, 2)], ids=str)
@pytest.mark.parametrize("gradient", [logits_gradient, centred_gradient, probs_gradient])
@pytest.mark.parametrize("keep_mass", [False, True])
@pytest.mark.parametrize("metric", [ils.metric.euclidean, ils.metric.fisher])
def test_formula(shape: tuple[int, ...], gradient: Any, keep_mass: bool, metric: Any) -> None:
    """Each estimate is the formula of the target, and what ils.sample hands on."""
    logits, z = normal(*shape, seed=6), draws(20, *shape, seed=7)
    loss, probs = cubic_loss(normal(*shape, seed=1), len(shape)), logits.softmax(-1).expand_as(z)
    grad = derivative(loss, z)
    for normalizer in (ils.sum_normalize, ils.project_simplex):
        options: dict[str, Any] = {
            "step_size": 0.3,
            "normalizer": normalizer,
            "metric": metric,
            "keep_mass": keep_mass,
        }
        estimator = intermediate_loss_sampling(gradient=gradient, **options)
        found = estimator.formula(logits, z, loss)
        target = ils.target.intermediate_target(z, grad, probs=probs, **options)
        assert close(found, gradient(target, probs, z))
        step = {name: option for name, option in options.items() if name != "step_size"}
        rule: Any = ils.rules.Note(0.3, centred=gradient is centred_gradient, **step)
        if gradient is probs_gradient:
            rule = ils.rules.NoteCode(0.3, **step)
        assert close(from_rule(rule).formula(logits, z, loss), found)
        for one, estimate in zip(z, found, strict=True):
            leaf = logits.clone().requires_grad_()
            draw = ils.differentiable_draw(leaf, one, rule=rule)
            (expected,) = torch.autograd.grad(loss(draw[None]).sum(), leaf)
            assert close(estimate, expected)


def test_per_step() -> None:
    """Divided by the step, the centred estimate tends to the direction of the step."""
    logits, z = normal(3, 4, seed=8), draws(20, 3, 4, seed=9)
    loss = cubic_loss(normal(3, 4, seed=1), 2)
    options: dict[str, Any] = {"gradient": centred_gradient, "keep_mass": True}
    options["normalizer"] = ils.sum_normalize_unclamped
    direction = ils.target.direction(z, derivative(loss, z), keep_mass=True)
    for step_size in (0.1, 1e-6):
        estimator = intermediate_loss_sampling(step_size=step_size, per_step=True, **options)
        assert close(estimator.formula(logits, z, loss), direction, 1e-8)


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
        step_size=1e-4, gradient=centred_gradient, normalizer=ils.project_simplex, per_step=True
    )
    found = estimator.formula(logits, z, loss)
    for drawn in range(5):
        expected = -tangent_projection(-derivative(loss, z[drawn]), drawn)
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


# --- SPIGOT


def only(estimator: Any, logits: Tensor, loss: Any) -> Tensor:
    """The one estimate of a method that draws nothing, and that it is its own mean."""
    found = estimator(logits, loss, draws=3)
    assert torch.equal(found[0], found[2])
    quality = exact.moments(estimator, loss, logits)
    assert close(quality.mean, found[0])
    assert quality.variance == 0
    return found[0]


@each_shape
@pytest.mark.parametrize("step_size", [0.05, 0.5, 3.0, 50.0])
def test_spigot_family(shape: tuple[int, ...], step_size: float) -> None:
    """Each against its formula, projected by the entmax package's sparsemax."""
    logits, loss = problem(shape, 1)
    top, probs = hardened(logits), logits.softmax(-1)

    def project(x: Tensor) -> Tensor:
        return entmax.sparsemax(x, dim=-1)

    at_top, at_mean = derivative(loss, top[None])[0], derivative(loss, probs[None])[0]
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
    grad = derivative(loss, probs[None])[0]
    limit = probs * (grad - (probs * grad).sum(-1, keepdim=True))
    far = [
        float((only(spigot_eg(step_size=a, per_step=True), logits, loss) - limit).abs().max())
        for a in (1e-3, 1e-4)
    ]
    assert far[1] < 1e-3
    assert far[0] == pytest.approx(10 * far[1], rel=0.05)
    # Not straight-through with the derivative at the draw.
    drawn = exact.moments(straight_through(), loss, logits).mean
    assert (drawn - limit).abs().max() > 0.01
