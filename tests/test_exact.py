"""Exact expectations and moments, against brute force."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from cases import close, needs_no_defaults, normal
from torch import Tensor

from ils import exact
from ils.estimators import (
    Estimator,
    gumbel_softmax,
    intermediate_loss_sampling,
    score_function,
    straight_through,
)
from ils.states import probability


def cubic(z: Tensor) -> Tensor:
    """A loss in which all variables and categories matter and interact."""
    weights = normal(*z.shape[1:], seed=1)
    linear = (z * weights).flatten(1).sum(-1)
    return linear**3 + 0.3 * linear - 0.7


def joint(logits: Tensor) -> list[tuple[float, Tensor]]:
    """All joint states with their probabilities, one by one."""
    rows = logits.reshape(-1, logits.shape[-1]).softmax(-1)
    found = []
    for index in itertools.product(range(logits.shape[-1]), repeat=len(rows)):
        z, weight = torch.zeros_like(rows), 1.0
        for variable, category in enumerate(index):
            z[variable, category] = 1
            weight *= float(rows[variable, category])
        found.append((weight, z.reshape(logits.shape)))
    return found


SHAPES = [(4,), (1, 4), (2, 3), (3, 3), (5, 2), (1, 1), (3, 1)]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


@each_shape
def test_expectation_and_gradient(shape: tuple[int, ...]) -> None:
    """The sum over states, one by one, and its derivative by central differences."""
    logits = normal(*shape, seed=2)

    def value(theta: Tensor) -> float:
        return sum(weight * float(cubic(z[None])) for weight, z in joint(theta))

    assert float(exact.expectation(cubic, logits)) == pytest.approx(value(logits), abs=1e-11)
    found, step = exact.gradient(cubic, logits), 1e-5
    assert found.shape == logits.shape
    for place in range(logits.numel()):
        shift = torch.zeros(logits.numel(), dtype=torch.float64)
        shift[place] = step
        shift = shift.reshape(shape)
        slope = (value(logits + shift) - value(logits - shift)) / (2 * step)
        # Truncation is of the order step ** 2, rounding of the order 1e-16 / step.
        assert float(found.flatten()[place]) == pytest.approx(slope, abs=1e-8)


def test_gradient_leaves_the_logits_alone() -> None:
    """No gradient is written to the logits, and no_grad around the call does not matter."""
    logits = normal(2, 3, seed=3).requires_grad_()
    with torch.no_grad():
        found = exact.gradient(cubic, logits)
    assert logits.grad is None
    assert not found.requires_grad
    (expected,) = torch.autograd.grad(exact.expectation(cubic, logits), logits)
    assert torch.equal(found, expected)


@each_shape
@pytest.mark.parametrize(
    "estimator",
    [score_function(), straight_through(), intermediate_loss_sampling(step_size=0.2)],
    ids=["score function", "straight-through", "intermediate loss"],
)
def test_moments_by_brute_force(shape: tuple[int, ...], estimator: Estimator) -> None:
    """Mean, bias, variance and cosine, summed state by state."""
    logits = normal(*shape, seed=4)
    quality = exact.moments(estimator, cubic, logits)
    pairs = [(w, estimator.formula(logits, z[None], cubic)[0]) for w, z in joint(logits)]
    mean = torch.stack([w * estimate for w, estimate in pairs]).sum(0)
    second = sum(w * float((estimate**2).sum()) for w, estimate in pairs)
    truth = exact.gradient(cubic, logits)
    scale = 1 + second
    assert close(quality.gradient, truth)
    assert close(quality.mean, mean, 1e-12 * scale)
    assert close(quality.bias, mean - truth, 1e-12 * scale)
    variance = second - float((mean**2).sum())
    assert float(quality.variance) == pytest.approx(variance, abs=1e-11 * scale)
    if shape[-1] > 1:
        assert variance > 1e-3
        cosine = torch.nn.functional.cosine_similarity(mean.flatten(), truth.flatten(), dim=0)
        assert float(quality.cosine) == pytest.approx(float(cosine), abs=1e-9)
    else:
        assert quality.cosine.isnan()


def test_masked_category() -> None:
    """A category of -inf adds nothing: the moments are those without it."""
    logits = normal(4, seed=8)
    logits[2] = -torch.inf
    kept = [0, 1, 3]
    weights = normal(4, seed=9)
    full = exact.moments(score_function(), lambda z: (z @ weights) ** 2, logits)
    small = exact.moments(score_function(), lambda z: (z @ weights[kept]) ** 2, logits[kept])
    assert close(full.mean[kept], small.mean)
    assert full.mean[2] == 0
    assert close(full.variance, small.variance)
    assert full.bias.abs().max() < 1e-12


@pytest.mark.parametrize(
    ("logits", "error", "message"),
    [
        (torch.tensor(0.0), ValueError, "logits: .* got a scalar"),
        (torch.zeros(23, 2), ValueError, r"logits: .*4194304 joint states, got 2\*\*23"),
        (torch.zeros(3, 0), ValueError, r"logits: .* got shape \(3, 0\)"),
        (torch.zeros(3).int(), TypeError, r"logits: .* got torch\.int32"),
        (torch.tensor([0.0, torch.nan]), ValueError, "logits: .* got NaN"),
        (None, TypeError, "logits: .* got NoneType"),
    ],
    ids=["scalar", "too many", "no category", "integers", "NaN", "None"],
)
def test_bad_input(logits: Any, error: type[Exception], message: str) -> None:
    """Logits that have no enumeration are refused by all functions of the module."""
    for call in (
        lambda: exact.states(logits),
        lambda: exact.expectation(cubic, logits),
        lambda: exact.gradient(cubic, logits),
        lambda: exact.moments(score_function(), cubic, logits),
    ):
        with pytest.raises(error, match=f"^{message}"):
            call()


def test_bad_input_loss() -> None:
    """A loss with anything but one value a draw and problem is refused."""
    message = r"loss: .* shape \(2,\) or \(2, \*batch\) .* got \(2, 3\)"
    for call in (exact.expectation, exact.gradient):
        with pytest.raises(ValueError, match=message):
            call(lambda z: z.sum(-2), normal(2, 3))
    with pytest.raises(ValueError, match=r"loss: .* got \(\)"):
        exact.expectation(lambda z: z.sum(), normal(3))
    with pytest.raises(ValueError, match=r"loss: .* shape \(3,\) .* got \(1,\)"):
        exact.expectation(lambda z: z.sum().reshape(1), normal(3))
    with pytest.raises(TypeError, match=r"loss: .* got float"):
        exact.expectation(lambda z: 1.0, normal(3))
    with pytest.raises(ValueError, match=r"loss: .* differentiated"):
        exact.moments(straight_through(), lambda z: z.detach()[:, 0], normal(3))


def test_bad_input_estimator() -> None:
    """An estimator that averages, or drops an axis, is refused, and so is one without support."""
    broken = replace(score_function(), formula=lambda theta, z, loss: z.mean(0))
    with pytest.raises(ValueError, match=r"estimator: .* shape \(9, 2, 3\), got \(2, 3\)"):
        exact.moments(broken, cubic, normal(2, 3))
    with pytest.raises(ValueError, match="estimator: expected finite randomness, got Gumbel"):
        exact.moments(gumbel_softmax(temperature=1.0), cubic, normal(2, 3))


def test_batch() -> None:
    """Problems of a batch, each with a loss of its own, are as if alone."""
    logits, weights = normal(4, 2, 3, seed=10), normal(4, 2, 3, seed=11)

    def together(z: Tensor) -> Tensor:
        return (z * weights).sum((-1, -2)) ** 3

    value = exact.expectation(together, logits)
    slope = exact.gradient(together, logits)
    for estimator in (score_function(), straight_through()):
        quality = exact.moments(estimator, together, logits)
        for i in range(4):

            def alone(z: Tensor, i: int = i) -> Tensor:
                return (z * weights[i]).sum((-1, -2)) ** 3

            assert close(value[i], exact.expectation(alone, logits[i]))
            assert close(slope[i], exact.gradient(alone, logits[i]))
            one = exact.moments(estimator, alone, logits[i])
            for name in ("mean", "bias", "variance", "cosine"):
                assert close(getattr(quality, name)[i], getattr(one, name), 1e-10)


def test_moments_take_given_nodes() -> None:
    """Nodes and weights are used as they are, with weights for each problem too."""
    logits, loss = normal(2, 3), lambda z: (z * torch.arange(3.0).double()).sum(-1) ** 2
    estimator = score_function()
    z = exact.states(logits, 1)
    weights = probability(logits, z, 1)
    given = exact.moments(estimator, loss, logits, nodes=(z, weights))
    found = exact.moments(estimator, loss, logits)
    for name in ("gradient", "mean", "bias", "variance", "cosine"):
        assert close(getattr(given, name), getattr(found, name), 1e-12)
    flat = torch.full((3,), 1 / 3, dtype=torch.float64)
    uniform = exact.moments(estimator, loss, logits, nodes=(z, flat))
    estimates = estimator.formula(logits, z, loss)
    assert close(uniform.mean, estimates.mean(0), 1e-12)
    spread = ((estimates - estimates.mean(0)) ** 2).sum(-1).mean(0)
    assert close(uniform.variance, spread, 1e-12)


def test_no_variables() -> None:
    """Without variables the expectation is the loss of the one state."""
    assert exact.expectation(lambda z: z.sum((-1, -2)) + 2, torch.zeros(0, 3)) == 2


def test_device_and_type() -> None:
    """Nothing that is made on the way falls back on the default device or type."""
    logits = normal(2, 3).float()

    def results() -> list[Tensor]:
        quality = exact.moments(straight_through(), lambda z: z[..., 0].sum(-1) ** 2, logits)
        return [quality.gradient, quality.variance]

    assert needs_no_defaults(results)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_moments_have_the_type_of_the_logits(dtype: torch.dtype) -> None:
    """Whatever type they are computed in."""
    logits = normal(2, 3).to(dtype)

    def loss(z: Tensor) -> Tensor:
        return z[..., 0].sum(-1) ** 2

    quality = exact.moments(straight_through(), loss, logits)
    for name in ("gradient", "mean", "bias", "variance", "cosine"):
        assert getattr(quality, name).dtype == dtype
    assert exact.expectation(loss, logits).dtype == dtype


def test_number_of_batch_axes() -> None:
    """It is checked, and with it the shape of the loss's values."""
    logits = normal(4, 2, 3)

    def loss(z: Tensor) -> Tensor:
        return z[..., 0].sum(-1)

    with pytest.raises(ValueError, match=r"^batch_dims: expected at most 2 for logits"):
        exact.moments(straight_through(), loss, logits, batch_dims=3)
    for function in (exact.expectation, exact.gradient):
        assert close(function(loss, logits, batch_dims=1), function(loss, logits))
        with pytest.raises(ValueError, match=r"^batch_dims: expected at most 2 for logits"):
            function(loss, logits, batch_dims=3)
        with pytest.raises(ValueError, match=r"^loss: "):
            function(lambda z: loss(z).mean(-1), logits, batch_dims=1)
