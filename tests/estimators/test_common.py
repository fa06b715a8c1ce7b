"""What every method owes: shapes, batches, generators, masks, honest flags, errors, docstrings."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from cases import close, cubic_loss, generator, normal
from torch import Tensor

import ils
from ils import exact
from ils.estimators import (
    Estimator,
    arm,
    disarm,
    disarm_categorical,
    double_control_variate,
    leave_one_out,
    muprop,
    score_function,
    sum_and_sample,
    unordered_set,
)
from ils.exact import Loss
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


def problem(method: Method, *axes: int, seed: int, events: int = 2) -> tuple[Tensor, Loss]:
    """Logits with these axes before the categories, and a loss over the last ``events`` axes."""
    shape = shape_of(method, *axes)
    return normal(*shape, seed=seed), cubic_loss(normal(*shape, seed=seed + 1), events)


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
        logits, loss = problem(method, *axes, seed=1, events=events)
        before = torch.get_rng_state()
        found = make(method, setting, events)(logits, loss, draws=3, generator=generator(5))
        assert torch.equal(torch.get_rng_state(), before)
        assert found.shape == (3, *logits.shape)
        assert found.isfinite().all()
        again = make(method, setting, events)(logits, loss, draws=3, generator=generator(5))
        assert torch.equal(found, again)


@each_method
def test_batch(method: Method) -> None:
    """With the same noise, a problem of a batch gets the estimates that it gets alone."""
    shape = shape_of(method, 5, 3)
    logits, weights = normal(*shape, seed=3), normal(*shape, seed=4)
    estimator = method.make(method.default)
    noise = estimator.randomness.sample(logits, 6, generator(7), 1)
    together = estimator.formula(logits, noise, cubic_loss(weights, 2))
    for item in range(5):
        alone = cut(noise, logits, item)
        found = estimator.formula(logits[item], alone, cubic_loss(weights[item], 2))
        assert close(together[:, item], found, 1e-10 * (1 + float(found.abs().max())))


@each_method
def test_mask(method: Method) -> None:
    """A category of -inf has the gradient zero, and the others a finite one."""
    logits, loss = problem(method, 2, 3, seed=5)
    logits[0, :, 1] = -torch.inf
    found = method.make(method.default)(logits, loss, draws=50, generator=generator(8))
    assert found.isfinite().all()
    assert not found[:, 0, :, 1].any()
    assert found[:, 1].any()


@each_setting
def test_evaluations(method: Method, setting: float) -> None:
    """The formula evaluates the loss as often as the estimator says."""
    logits, plain = problem(method, 3, seed=7)
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
@pytest.mark.parametrize("graph", [False, True], ids=["constant", "graph of the decoder"])
def test_differentiates(method: Method, graph: bool) -> None:
    """Who says that values suffice gets along without a derivative in the draw; others refuse."""
    logits, plain = problem(method, 3, seed=7)
    one = torch.tensor(1.0, dtype=torch.float64, requires_grad=graph)

    def constant(z: Tensor) -> Tensor:
        return one * plain(z.detach())

    estimator = method.make(method.default)
    if estimator.differentiates:
        with pytest.raises(ValueError, match=r"^loss: expected a function that can be diff"):
            estimator(logits, constant, generator=generator(1))
    else:
        found = estimator(logits, constant, draws=4, generator=generator(1))
        again = method.make(method.default)(logits, plain, draws=4, generator=generator(1))
        assert close(found, again)
        assert not found.requires_grad


@each_method
def test_bias_is_told(method: Method) -> None:
    """Where the moments are finite sums, the mean is the gradient exactly if it is said to be."""
    logits, loss = problem(method, 2, seed=10)
    estimator = method.make(method.default)
    try:
        quality = exact.moments(estimator, loss, logits)
    except ValueError as error:
        assert "finite randomness" in str(error)  # noqa: PT017
        assert method.sampled
        return
    far = float(quality.bias.abs().max())
    assert far > 1e-3 if estimator.biased else far < 1e-10


OF_ANY = [(4,), (2, 3), (3, 2)]
OF_TWO = [(1, 2), (2, 2), (3, 2)]
# ARM's estimate is linear in u, so two nodes a piece do.
UNBIASED = {
    "ARM": (arm(), OF_TWO),
    "DisARM": (disarm(), OF_TWO),
    "DisARM, categorical": (disarm_categorical(), OF_ANY),
    "REINFORCE": (score_function(), OF_ANY),
    "REINFORCE, 5": (score_function(baseline=5.0), OF_ANY),
    "REINFORCE, -40": (score_function(baseline=-40.0), OF_ANY),
    "leave-one-out, 2": (leave_one_out(samples=2), OF_ANY),
    "leave-one-out, 3": (leave_one_out(samples=3), OF_ANY),
    "double control variates": (double_control_variate(samples=2), OF_ANY),
    "double control variates, 0.3": (double_control_variate(samples=2, coefficient=0.3), OF_ANY),
    "double control variates, 3 samples": (
        double_control_variate(samples=3, coefficient=0.7),
        OF_ANY,
    ),
    "MuProp": (muprop(), OF_ANY),
    "unordered set, 2": (unordered_set(samples=2), OF_ANY),
    "unordered set, 3": (unordered_set(samples=3), OF_ANY),
    "unordered set without baseline": (unordered_set(samples=3, baseline=False), OF_ANY),
    "sum-and-sample, 2": (sum_and_sample(samples=2), OF_ANY),
    "sum-and-sample, 3": (sum_and_sample(samples=3), OF_ANY),
    "sum-and-sample without baseline": (sum_and_sample(samples=3, baseline=False), OF_ANY),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", UNBIASED)
def test_unbiased(name: str, seed: int) -> None:
    """The mean over all noise is the exact gradient, for several logits and losses."""
    estimator, shapes = UNBIASED[name]
    for shape in shapes:
        logits = normal(*shape, seed=seed)
        loss = cubic_loss(normal(*shape, seed=seed + 50), len(shape))
        quality = exact.moments(estimator, loss, logits)
        assert quality.bias.abs().max() < 1e-10 * (1 + float(quality.variance) ** 0.5)
        assert quality.gradient.abs().max() > 1e-3


@each_method
def test_bad_input(method: Method) -> None:
    """Clear errors for logits, draws and losses that make no sense."""
    estimator = method.make(method.default)
    logits, loss = problem(method, 3, seed=14)
    with pytest.raises(TypeError, match=r"logits: .* got torch\.int64"):
        estimator(logits.long(), loss)
    with pytest.raises(ValueError, match=r"logits: .* got NaN"):
        estimator(torch.full_like(logits, torch.nan), loss)
    with pytest.raises(ValueError, match=r"draws: expected at least 1, got 0"):
        estimator(logits, loss, draws=0)
    with pytest.raises(ValueError, match=r"loss: .* got \(\)"):
        estimator(logits, lambda z: loss(z).sum(), draws=2)


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
