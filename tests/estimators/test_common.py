"""What every method owes: shapes, batches, generators, masks, honest flags, errors, docstrings."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from cases import close, cubic_loss, generator, normal
from factories import cubic_problem, each_factory, factory, make, problem, shape_of
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
from ils.estimators import randomness as kinds
from ils.exact import Loss
from lab.methods.catalogue import METHODS, Method


def cut(noise: Any, logits: Tensor, item: int) -> Any:
    """The noise of one problem of a batch."""
    if isinstance(noise, tuple):
        return tuple(cut(part, logits, item) for part in noise)
    if noise.numel() == 0:
        return noise
    return noise.select(noise.dim() - logits.dim(), item)


@pytest.mark.parametrize(
    ("method", "setting"),
    [(method, setting) for method in METHODS for setting in method.settings],
    ids=lambda value: value.name if isinstance(value, Method) else f"{value:g}",
)
def test_shapes_and_generator(method: Method, setting: float) -> None:
    """Shapes, evaluations as said, and numbers of the given generator alone."""
    for axes, events in (((), 1), ((3,), 2), ((2, 3), 2), ((2,), 1), ((2, 1, 3), 2)):
        shape = shape_of(method.factory, *axes)
        logits, loss = normal(*shape, seed=1), cubic_loss(normal(*shape, seed=2), events)
        ends, points = tuple(range(-events, 0)), []

        def estimator(ends: tuple[int, ...] = ends) -> Estimator:
            if method.factory != "relax":
                return method.make(setting)
            return ils.estimators.relax(lambda y: (y**2).sum(ends), temperature=setting)

        def counted(z: Tensor, loss: Loss = loss, points: list[int] = points) -> Tensor:
            points.append(len(z))
            return loss(z)

        before, dims = torch.get_rng_state(), len(axes) + 1 - events
        found = estimator()(logits, counted, draws=3, generator=generator(5), batch_dims=dims)
        assert sum(points) == 3 * estimator().evaluations
        assert torch.equal(torch.get_rng_state(), before)
        assert found.shape == (3, *logits.shape)
        assert found.isfinite().all()
        assert torch.equal(found, estimator()(logits, loss, draws=3, generator=generator(5)))


@each_factory
def test_batch(name: str) -> None:
    """With the same noise, a problem of a batch gets the estimates that it gets alone."""
    shape = shape_of(name, 5, 3)
    logits, weights = normal(*shape, seed=3), normal(*shape, seed=4)
    estimator = make(name)
    noise = estimator.randomness.sample(logits, 6, generator(7), 1)
    together = estimator.formula(logits, noise, cubic_loss(weights, 2))
    for item in range(5):
        alone = cut(noise, logits, item)
        found = estimator.formula(logits[item], alone, cubic_loss(weights[item], 2))
        assert close(together[:, item], found, 1e-10 * (1 + float(found.abs().max())))


@each_factory
@pytest.mark.parametrize("graph", [False, True], ids=["constant", "graph of the decoder"])
def test_differentiates(name: str, graph: bool) -> None:
    """Who says that values suffice gets along without a derivative in the draw; others refuse."""
    logits, plain = problem(name, 3)
    one = torch.tensor(1.0, dtype=torch.float64, requires_grad=graph)

    def constant(z: Tensor) -> Tensor:
        return one * plain(z.detach())

    if make(name).differentiates:
        with pytest.raises(ValueError, match=r"^loss: expected a function that can be diff"):
            make(name)(logits, constant, generator=generator(1))
    else:
        found = make(name)(logits, constant, draws=4, generator=generator(1))
        assert close(found, make(name)(logits, plain, draws=4, generator=generator(1)))
        assert not found.requires_grad


@each_factory
def test_bias_is_told(name: str) -> None:
    """Where the moments are finite sums, the mean is the gradient exactly if it is said to be."""
    logits, loss = problem(name, 2)
    estimator = make(name)
    if isinstance(estimator.randomness, kinds.Gumbel | kinds.Exponential):
        with pytest.raises(ValueError, match="finite randomness"):
            exact.moments(estimator, loss, logits)
        return
    far = float(exact.moments(estimator, loss, logits).bias.abs().max())
    assert far > 1e-3 if estimator.biased else far < 1e-10


# ARM's estimate is linear in u, so two nodes a piece do.
UNBIASED = [
    *(arm(), disarm(), disarm_categorical(), muprop()),
    *(score_function(baseline=baseline) for baseline in (0.0, 5.0, -40.0)),
    *(leave_one_out(samples=samples) for samples in (2, 3)),
    double_control_variate(samples=2),
    double_control_variate(samples=2, coefficient=0.3),
    double_control_variate(samples=3, coefficient=0.7),
    *(one(samples=samples) for one in (unordered_set, sum_and_sample) for samples in (2, 3)),
    *(one(samples=3, baseline=False) for one in (unordered_set, sum_and_sample)),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("estimator", UNBIASED, ids=lambda one: one.name)
def test_unbiased(estimator: Estimator, seed: int) -> None:
    """The mean over all noise is the exact gradient, for several logits and losses."""
    two = estimator.name in ("ARM", "DisARM")
    for shape in [(1, 2), (2, 2), (3, 2)] if two else [(4,), (2, 3), (3, 2)]:
        logits, loss = cubic_problem(shape, seed)
        quality = exact.moments(estimator, loss, logits)
        assert quality.bias.abs().max() < 1e-10 * (1 + float(quality.variance) ** 0.5)
        assert quality.gradient.abs().max() > 1e-3


@each_factory
def test_bad_input(name: str) -> None:
    """Clear errors for logits and draws that make no sense."""
    logits, loss = problem(name, 3)
    with pytest.raises(TypeError, match=r"logits: .* got torch\.int64"):
        make(name)(logits.long(), loss)
    with pytest.raises(ValueError, match=r"logits: .* got NaN"):
        make(name)(torch.full_like(logits, torch.nan), loss)
    with pytest.raises(ValueError, match=r"draws: expected at least 1, got 0"):
        make(name)(logits, loss, draws=0)


@each_factory
def test_docstring_tells_all(name: str) -> None:
    """Equation, what is approximated with what, requirements, bias, evaluations, source."""
    text = inspect.getdoc(factory(name)) or ""
    for said in ("*Approximates*", "equires*", "biased**", "valuation", "Source:", "``"):
        assert said in text, said
