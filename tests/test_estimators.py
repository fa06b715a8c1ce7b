"""Estimators under one signature, each against autograd of what it is said to differentiate."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from cases import close, draws, eye, generator, normal
from torch import Tensor

import ils
from ils.estimators import (
    gumbel_softmax,
    gumbel_softmax_vjp,
    intermediate_loss_sampling,
    score_function,
    straight_through,
)
from ils.target import centred_gradient, logits_gradient, probs_gradient

SHAPES = [(5,), (3, 4), (1, 2)]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def loss(z: Tensor) -> Tensor:
    weights = normal(*z.shape[1:], seed=1)
    return ((z * weights).flatten(1).sum(-1) - 0.4) ** 3


def upstream(z: Tensor) -> Tensor:
    """Gradient of :func:`loss`, by hand."""
    weights = normal(*z.shape[1:], seed=1)
    outer = 3 * ((z * weights).flatten(1).sum(-1) - 0.4) ** 2
    return outer.reshape(-1, *[1] * (z.dim() - 1)) * weights


@each_shape
def test_score_function(shape: tuple[int, ...]) -> None:
    """Each estimate is the loss times autograd's gradient of the draw's log-probability."""
    logits, z = normal(*shape, seed=2), draws(20, *shape, seed=3)
    found = score_function(logits, z, loss)
    for one, estimate in zip(z, found, strict=True):
        leaf = logits.clone().requires_grad_()
        log_prob = (leaf.log_softmax(-1) * one).sum()
        (score,) = torch.autograd.grad(log_prob, leaf)
        assert close(estimate, score * loss(one[None]))


@each_shape
def test_straight_through(shape: tuple[int, ...]) -> None:
    """Each estimate is autograd's through the surrogate z + pi - pi.detach()."""
    logits, z = normal(*shape, seed=4), draws(20, *shape, seed=5)
    found = straight_through(logits, z, loss)
    for one, estimate in zip(z, found, strict=True):
        leaf = logits.clone().requires_grad_()
        probs = leaf.softmax(-1)
        (expected,) = torch.autograd.grad(loss((one + probs - probs.detach())[None]).sum(), leaf)
        assert close(estimate, expected)


@each_shape
@pytest.mark.parametrize("gradient", [logits_gradient, centred_gradient, probs_gradient])
@pytest.mark.parametrize("keep_mass", [False, True])
def test_intermediate_loss_sampling(
    shape: tuple[int, ...], gradient: object, keep_mass: bool
) -> None:
    """Each estimate is the formula of the target, and what ils.sample hands on."""
    logits, z = normal(*shape, seed=6), draws(20, *shape, seed=7)
    for normalizer in (ils.sum_normalize, ils.project_simplex):
        options = {"step_size": 0.3, "normalizer": normalizer, "keep_mass": keep_mass}
        found = intermediate_loss_sampling(gradient=gradient, **options)(logits, z, loss)
        target = ils.target.intermediate_target(z, upstream(z), **options)
        assert close(found, gradient(target, logits.softmax(-1).expand_as(z), z))
        if gradient is probs_gradient:
            continue
        for one, estimate in zip(z, found, strict=True):
            leaf = logits.clone().requires_grad_()
            centred = gradient is centred_gradient
            draw = ils.differentiable_draw(leaf, one, centred=centred, **options)
            (expected,) = torch.autograd.grad(loss(draw[None]).sum(), leaf)
            assert close(estimate, expected)


@pytest.mark.parametrize(
    "estimator",
    [score_function, straight_through, intermediate_loss_sampling(step_size=0.3)],
    ids=["score function", "straight-through", "intermediate loss"],
)
def test_draws_do_not_interact(estimator: ils.exact.Estimator) -> None:
    """One estimate a draw, the same alone as among others, and no gradient left behind."""
    logits, z = normal(3, 4, seed=8).requires_grad_(), draws(10, 3, 4, seed=9)
    together = estimator(logits.detach(), z, loss)
    assert together.shape == z.shape
    for one, estimate in zip(z, together, strict=True):
        assert close(estimator(logits.detach(), one[None], loss)[0], estimate)
    assert logits.grad is None
    with torch.no_grad():
        assert torch.equal(estimator(logits, z, loss), together)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_gumbel_softmax_vjp(temperature: float) -> None:
    """The stated product is autograd's through the relaxed sample."""
    logits = normal(6, 4, seed=10).requires_grad_()
    noise, grad = normal(6, 4, seed=11), normal(6, 4, seed=12)
    y = gumbel_softmax(logits, noise, temperature)
    (expected,) = torch.autograd.grad(y, logits, grad)
    assert close(gumbel_softmax_vjp(y.detach(), grad, temperature), expected, 1e-11)
    assert expected.abs().max() > 1e-3


@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_gumbel_softmax_is_pytorchs(temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given its noise, F.gumbel_softmax gives the same sample and the same gradient."""
    logits = normal(6, 4, seed=13).requires_grad_()
    exponential = torch.empty(6, 4, dtype=torch.float64).exponential_(generator=generator(14))
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda self: self.copy_(exponential))
    theirs = F.gumbel_softmax(logits, tau=temperature)
    ours = gumbel_softmax(logits.detach(), -exponential.log(), temperature)
    assert close(ours, theirs.detach())
    grad = normal(6, 4, seed=15)
    (expected,) = torch.autograd.grad(theirs, logits, grad)
    assert close(gumbel_softmax_vjp(ours, grad, temperature), expected, 1e-11)


def test_temperatures_broadcast() -> None:
    """A tensor of temperatures gives each setting the sample and the product of its own."""
    logits, noise, grad = normal(5, 4, seed=16), normal(5, 4, seed=17), normal(5, 4, seed=18)
    several = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    y = gumbel_softmax(logits, noise, several[:, None, None])
    back = gumbel_softmax_vjp(y, grad, several[:, None, None])
    for i, temperature in enumerate(several.tolist()):
        one = gumbel_softmax(logits, noise, temperature)
        assert close(y[i], one)
        assert close(back[i], gumbel_softmax_vjp(one, grad, temperature))


def test_gumbel_softmax_tends_to_the_hard_draw() -> None:
    """As the temperature falls the sample goes to the corner of the largest perturbed logit."""
    logits, noise = normal(50, 4, seed=19), normal(50, 4, seed=20)
    hard = eye(4)[(logits + noise).argmax(-1)]
    distances = [
        float((gumbel_softmax(logits, noise, temperature) - hard).abs().max())
        for temperature in (1.0, 1e-2, 1e-4)
    ]
    assert distances[0] > 0.5
    assert distances == sorted(distances, reverse=True)
    assert distances[2] < 1e-6
