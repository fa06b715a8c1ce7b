"""What every estimator owes: shapes, batches, generators, masks, types, honest flags, errors."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from cases import close, generator, normal
from torch import Tensor

import ils
from ils import exact
from ils.estimators import Estimator
from lab.methods.catalogue import FAMILIES, METHODS, Method

each_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
each_setting = pytest.mark.parametrize(
    ("method", "setting"),
    [(method, setting) for method in METHODS for setting in method.settings],
    ids=lambda value: value.name if isinstance(value, Method) else f"{value:g}",
)


def shape_of(method: Method, *axes: int) -> tuple[int, ...]:
    """The axes with two categories for a binary method, and with four for others."""
    return (*axes, 2 if method.binary else 4)


def make(method: Method, setting: float, events: int = 2) -> Estimator:
    """The estimator at a setting; a surrogate must have the axes of the loss."""
    if method.factory == "relax":
        axes = tuple(range(-events, 0))
        return ils.estimators.relax(lambda y: (y**2).sum(axes), temperature=setting)
    return method.make(setting)


def loss_for(weights: Tensor, events: int) -> ils.exact.Loss:
    """A cubic loss over the last ``events`` axes; it is defined off the corners too."""
    axes = tuple(range(-events, 0))
    return lambda z: ((z * weights).sum(axes) - 0.4) ** 3 + (z * weights).sum(axes)


def cut(noise: Any, logits: Tensor, item: int) -> Any:
    """The noise of one problem of a batch."""
    if isinstance(noise, tuple):
        return tuple(cut(part, logits, item) for part in noise)
    if noise.numel() == 0:
        return noise
    return noise.select(noise.dim() - logits.dim(), item)


@each_setting
def test_shapes_and_generator(method: Method, setting: float) -> None:
    """Estimates are (D, *shape), repeat with the generator, and leave the global one alone."""
    for axes, events in (((), 1), ((3,), 2), ((2, 3), 2), ((2,), 1), ((2, 1, 3), 2)):
        shape = shape_of(method, *axes)
        logits = normal(*shape, seed=1)
        loss = loss_for(normal(*shape, seed=2), events)
        before = torch.get_rng_state()
        found = make(method, setting, events)(logits, loss, draws=3, generator=generator(5))
        assert torch.equal(torch.get_rng_state(), before)
        assert found.shape == (3, *shape)
        assert found.isfinite().all()
        again = make(method, setting, events)(logits, loss, draws=3, generator=generator(5))
        assert torch.equal(found, again)


@each_method
def test_types(method: Method) -> None:
    """Estimates have the type of the logits."""
    shape = shape_of(method, 3)
    for dtype in (torch.float32, torch.float64):
        loss = loss_for(normal(*shape, seed=2).to(dtype), 2)
        logits = normal(*shape, seed=1).to(dtype)
        found = method.make(method.default)(logits, loss, draws=5, generator=generator(1))
        assert found.dtype == dtype
        assert found.isfinite().all()


@each_method
def test_batch(method: Method) -> None:
    """With the same noise, a problem of a batch gets the estimates that it gets alone."""
    shape = shape_of(method, 5, 3)
    logits, weights = normal(*shape, seed=3), normal(*shape, seed=4)
    estimator = method.make(method.default)
    noise = estimator.randomness.sample(logits, 6, generator(7), 1)
    together = estimator.formula(logits, noise, loss_for(weights, 2))
    for item in range(5):
        alone = cut(noise, logits, item)
        found = estimator.formula(logits[item], alone, loss_for(weights[item], 2))
        assert close(together[:, item], found, 1e-10 * (1 + float(found.abs().max())))


@each_method
def test_mask(method: Method) -> None:
    """A category of -inf has the gradient zero, and the others a finite one."""
    shape = shape_of(method, 2, 3)
    logits = normal(*shape, seed=5)
    logits[0, :, 1] = -torch.inf
    loss = loss_for(normal(*shape, seed=6), 2)
    found = method.make(method.default)(logits, loss, draws=50, generator=generator(8))
    assert found.isfinite().all()
    assert not found[:, 0, :, 1].any()
    assert found[:, 1].any()


@each_setting
def test_evaluations(method: Method, setting: float) -> None:
    """The formula evaluates the loss as often as the estimator says."""
    shape = shape_of(method, 3)
    logits, plain = normal(*shape, seed=7), loss_for(normal(*shape, seed=8), 2)
    points = 0

    def counted(z: Tensor) -> Tensor:
        nonlocal points
        points += len(z)
        return plain(z)

    estimator = method.make(setting)
    noise = estimator.randomness.sample(logits, 10, generator(9), 0)
    estimator.formula(logits, noise, counted)
    assert points == 10 * estimator.evaluations


@each_method
def test_differentiates(method: Method) -> None:
    """Who says that values suffice gets along with a loss that has no derivative."""
    shape = shape_of(method, 3)
    logits, plain = normal(*shape, seed=7), loss_for(normal(*shape, seed=8), 2)
    estimator = method.make(method.default)

    def constant(z: Tensor) -> Tensor:
        return plain(z.detach())

    if estimator.differentiates:
        with pytest.raises(ValueError, match=r"loss: .* differentiated"):
            estimator(logits, constant, generator=generator(1))
    else:
        found = estimator(logits, constant, draws=4, generator=generator(1))
        again = method.make(method.default)(logits, plain, draws=4, generator=generator(1))
        assert close(found, again)


@each_method
def test_bias_is_told(method: Method) -> None:
    """Where the moments are finite sums, the mean is the gradient exactly if it is said to be."""
    shape = shape_of(method, 2)
    logits, loss = normal(*shape, seed=10), loss_for(normal(*shape, seed=11), 2)
    estimator = method.make(method.default)
    try:
        quality = exact.moments(estimator, loss, logits)
    except ValueError as error:
        assert "finite randomness" in str(error)  # noqa: PT017
        assert method.sampled
        return
    far = float(quality.bias.abs().max())
    assert far > 1e-3 if estimator.biased else far < 1e-10


@each_method
def test_no_gradient_is_left_behind(method: Method) -> None:
    """Logits that require a gradient get none, and no_grad around the call does not matter."""
    shape = shape_of(method, 3)
    logits = normal(*shape, seed=12).requires_grad_()
    loss = loss_for(normal(*shape, seed=13), 2)
    found = method.make(method.default)(logits, loss, draws=4, generator=generator(2))
    assert logits.grad is None
    assert not found.requires_grad
    with torch.no_grad():
        again = method.make(method.default)(logits, loss, draws=4, generator=generator(2))
    assert torch.equal(found, again)


@each_method
def test_bad_input(method: Method) -> None:
    """Clear errors for logits, draws and losses that make no sense."""
    estimator, shape = method.make(method.default), shape_of(method, 3)
    logits, loss = normal(*shape, seed=14), loss_for(normal(*shape, seed=15), 2)
    with pytest.raises(TypeError, match=r"logits: .* got torch\.int64"):
        estimator(logits.long(), loss)
    with pytest.raises(ValueError, match=r"logits: .* got NaN"):
        estimator(torch.full_like(logits, torch.nan), loss)
    with pytest.raises(ValueError, match=r"draws: expected at least 1, got 0"):
        estimator(logits, loss, draws=0)
    with pytest.raises(ValueError, match=r"loss: .* got \(\)"):
        estimator(logits, lambda z: loss(z).sum(), draws=2)
    if method.option:
        for wrong in (-1.0, float("nan")):
            with pytest.raises((ValueError, TypeError)):
                method.make(wrong)
    if method.binary:
        with pytest.raises(ValueError, match=r"logits: expected two categories, got 4"):
            estimator(normal(3, 4), lambda z: z.sum((-1, -2)))


def test_catalogue_is_complete() -> None:
    """Every factory of the package is in the catalogue, under a family that exists."""
    factories = {
        name
        for name in ils.estimators.__all__
        if name != "from_rule" and inspect.isfunction(getattr(ils.estimators, name))
    }
    assert {method.factory for method in METHODS} == factories
    assert len({method.name for method in METHODS}) == len(METHODS)
    for method in METHODS:
        assert method.family in FAMILIES
        assert method.default in method.settings
        assert isinstance(method.make(method.default), Estimator)


@each_method
def test_docstring_tells_all(method: Method) -> None:
    """Equation, what is approximated with what, requirements, bias, evaluations, source."""
    text = inspect.getdoc(getattr(ils.estimators, method.factory)) or ""
    for said in ("*Approximates*", "equires*", "biased**", "valuation", "Source:", "``"):
        assert said in text, (method.factory, said)
