"""ILS as an estimator: the formula of the target, and what the operator hands on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import close, draws, normal
from torch import Tensor

import ils
from ils.estimators import from_rule, intermediate_loss_sampling
from ils.target import centred_gradient, logits_gradient, probs_gradient

SHAPES = [(5,), (3, 4), (1, 2)]


def loss(z: Tensor) -> Tensor:
    weights = normal(*z.shape[1:], seed=1)
    return ((z * weights).flatten(1).sum(-1) - 0.4) ** 3


def upstream(z: Tensor) -> Tensor:
    """Gradient of :func:`loss`, by hand."""
    weights = normal(*z.shape[1:], seed=1)
    outer = 3 * ((z * weights).flatten(1).sum(-1) - 0.4) ** 2
    return outer.reshape(-1, *[1] * (z.dim() - 1)) * weights


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("gradient", [logits_gradient, centred_gradient, probs_gradient])
@pytest.mark.parametrize("keep_mass", [False, True])
@pytest.mark.parametrize("metric", [ils.metric.euclidean, ils.metric.fisher])
def test_formula(shape: tuple[int, ...], gradient: Any, keep_mass: bool, metric: Any) -> None:
    """Each estimate is the formula of the target, and what ils.sample hands on."""
    logits, z = normal(*shape, seed=6), draws(20, *shape, seed=7)
    probs = logits.softmax(-1).expand_as(z)
    for normalizer in (ils.sum_normalize, ils.project_simplex):
        options: dict[str, Any] = {
            "step_size": 0.3,
            "normalizer": normalizer,
            "metric": metric,
            "keep_mass": keep_mass,
        }
        estimator = intermediate_loss_sampling(gradient=gradient, **options)
        found = estimator.formula(logits, z, loss)
        target = ils.target.intermediate_target(z, upstream(z), probs=probs, **options)
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
    options: dict[str, Any] = {"gradient": centred_gradient, "keep_mass": True}
    options["normalizer"] = ils.sum_normalize_unclamped
    direction = ils.target.direction(z, upstream(z), keep_mass=True)
    for step_size in (0.1, 1e-6):
        estimator = intermediate_loss_sampling(step_size=step_size, per_step=True, **options)
        assert close(estimator.formula(logits, z, loss), direction, 1e-8)


def test_metric_needs_the_distribution() -> None:
    """The formula of the step refuses a metric without what it weights by."""
    z, grad = draws(3, 4, seed=1), normal(3, 4, seed=2)
    with pytest.raises(ValueError, match="probs: expected the distribution"):
        ils.target.direction(z, grad, metric=ils.metric.fisher)
    probs = normal(4, seed=3).softmax(-1)
    plain = ils.target.direction(z, grad)
    assert close(ils.target.direction(z, grad, probs=probs), plain)
    assert close(
        ils.target.direction(z, grad, probs=probs, metric=ils.metric.fisher), probs * plain
    )
