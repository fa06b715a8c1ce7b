"""What every factory says of itself: names, flags, defaults, refusals, devices."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from cases import generator
from factories import SAID, bowl, each_factory, factory, make, options_of, problem

import ils
from ils.estimators.perturbation import AdaptiveStep
from ils.estimators.score_function import RunningBaseline
from ils.estimators.without_replacement import DistinctDraws


def test_every_factory_is_listed() -> None:
    """The table holds every factory of the package."""
    listed = {name for name in ils.estimators.__all__ if inspect.isfunction(factory(name))} - {
        "from_rule"
    }
    assert set(SAID) == listed


@each_factory
def test_what_is_said(name: str) -> None:
    """Name, randomness, evaluations and flags, each of its own type."""
    required, (title, randomness, evaluations, biased, differentiates), _ = SAID[name]
    estimator = factory(name)(**required)
    assert estimator.name == title
    assert estimator.randomness == randomness
    assert estimator.randomness.joint is isinstance(randomness, DistinctDraws)
    assert type(estimator.evaluations) is int
    assert estimator.evaluations == evaluations
    assert estimator.biased is biased
    assert estimator.differentiates is differentiates


@each_factory
def test_defaults(name: str) -> None:
    """Left out, an argument has the value that stands in the table, and a call makes one draw."""
    required, _, defaults = SAID[name]
    plain, spelt = factory(name)(**required), factory(name)(**required, **defaults)
    logits, loss = problem(name, 3)
    found = plain(logits, loss, generator=generator(3))
    assert found.shape == (1, *logits.shape)
    assert torch.equal(found, spelt(logits, loss, draws=1, generator=generator(3)))
    for _ in range(2):
        found = plain(logits, loss, draws=30, generator=generator(3))
        assert torch.equal(found, spelt(logits, loss, draws=30, generator=generator(3)))
    assert plain.evaluations == spelt.evaluations
    for held in ("step", "baseline"):
        assert getattr(plain, held, None) == getattr(spelt, held, None)


def test_defaults_of_what_estimators_hold() -> None:
    """The states of the two estimators that have one, as they begin."""
    assert AdaptiveStep() == AdaptiveStep(1.0, 1e-3, 1.0, 0.9, 1.0)
    assert ils.estimators.adaptive_implicit_mle().step == AdaptiveStep()
    assert RunningBaseline() == RunningBaseline(0.9, 0.0, False)
    assert ils.estimators.score_function_running().baseline == RunningBaseline()


@each_factory
def test_refusals_name_the_argument(name: str) -> None:
    """A number out of its range, and what is no number, are refused under the argument's name."""
    defaults = SAID[name][2]
    for argument, good in options_of(name).items():
        if isinstance(good, bool) or callable(good) or argument == "baseline":
            continue
        of_nan = ValueError if isinstance(good, float) else TypeError
        wrongs = ((-1, ValueError), ("1", TypeError), (True, TypeError), (math.nan, of_nan))
        for wrong, error in wrongs:
            with pytest.raises(error, match=f"^{argument}: expected "):
                make(name, **{argument: wrong})
        if isinstance(good, float) and argument not in ("coefficient", "decay", "tau"):
            with pytest.raises(ValueError, match=f"^{argument}: expected a positive"):
                make(name, **{argument: 0.0})
    if "samples" in defaults:
        least = 1 if name in ("gumbel_rao", "reinmax_rao") else 2
        with pytest.raises(ValueError, match=f"^samples: expected at least {least}, got "):
            make(name, samples=least - 1)
        with pytest.raises(TypeError, match=r"^samples: expected an integer"):
            make(name, samples=2.0)
    if "decay" in defaults:
        assert make(name, decay=0)
        with pytest.raises(ValueError, match=r"^decay: .*\[0, 1\), got 1"):
            make(name, decay=1)


@contextmanager
def elsewhere() -> Iterator[None]:
    """Tensors that are made without a device or a type get the wrong ones."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            yield
    finally:
        torch.set_default_dtype(before)


@each_factory
def test_device_and_type_are_those_of_the_logits(name: str) -> None:
    """Nothing falls back on the default device or the default type."""
    logits, loss = problem(name, 3, dtype=torch.float32)
    plain = make(name)(logits, loss, draws=2, generator=generator(4))
    with elsewhere():
        found = make(name)(logits, loss, draws=2, generator=generator(4))
    assert found.dtype == torch.float32
    assert torch.equal(found, plain)


@pytest.mark.parametrize("value", [torch.tensor(0.5), np.array(0.5)], ids=["tensor", "array"])
@pytest.mark.parametrize("name", ils.estimators.__all__)
def test_a_tensor_is_no_real_number(name: str, value: Any) -> None:
    """Not even one without axes: it is refused by the name of the option, as NumPy's array is."""
    factory: Any = getattr(ils.estimators, name)
    if inspect.isclass(factory):
        return
    options = inspect.signature(factory).parameters
    real = [
        key for key, option in options.items() if option.annotation in ("float", "float | None")
    ]
    needed = {key: 0.5 for key in real if options[key].default is inspect.Parameter.empty}
    if "surrogate" in options:
        needed["surrogate"] = bowl
    for key in real:
        with pytest.raises(TypeError, match=f"{key}: expected a real number, got"):
            factory(**{**needed, key: value})
    # A number of NumPy is one.
    for key in real:
        factory(**{**needed, key: np.float32(0.5)})
