"""What every factory says of itself: names, flags, defaults, refusals, devices."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch
from cases import generator, needs_no_defaults
from factories import SAID, each_factory, factory, make, options_of, problem
from torch import Tensor

import ils
from ils.estimators import randomness as kinds
from ils.estimators.perturbation import AdaptiveStep
from ils.estimators.score_function import RunningBaseline
from ils.estimators.without_replacement import DistinctDraws
from lab.methods.catalogue import METHODS


def test_every_factory_is_listed() -> None:
    """The table and the catalogue hold every factory of the package."""
    listed = {name for name in ils.estimators.__all__ if inspect.isfunction(factory(name))} - {
        "from_rule"
    }
    assert set(SAID) == listed == {method.factory for method in METHODS}


@each_factory
def test_what_is_said(name: str) -> None:
    """Defaults, name, randomness, evaluations and flags, each of its own type."""
    required, (title, randomness, evaluations, biased, differentiates), defaults = SAID[name]
    options = inspect.signature(factory(name)).parameters.values()
    assert {one.name: one.default for one in options if one.default is not one.empty} == defaults
    estimator = factory(name)(**required)
    assert estimator.name == title
    assert estimator.randomness == randomness
    assert estimator.randomness.joint is isinstance(randomness, DistinctDraws)
    assert type(estimator.evaluations) is int
    assert estimator.evaluations == evaluations
    assert estimator.biased is biased
    assert estimator.differentiates is differentiates


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
        wrongs = [(-1, ValueError), ("1", TypeError), (True, TypeError), (math.nan, of_nan)]
        if isinstance(good, float):  # not even a tensor or an array without axes is a number
            wrongs += [(torch.tensor(0.5), TypeError), (np.array(0.5), TypeError)]
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


@each_factory
def test_device_and_type_are_those_of_the_logits(name: str) -> None:
    """Nothing falls back on the default device or the default type."""
    logits, loss = problem(name, 3, dtype=torch.float32)

    def results() -> list[Tensor]:
        noise = make(name).randomness.sample(logits, 5, generator(1), 0)
        parts = [*noise] if isinstance(noise, tuple) else [noise]
        assert all(len(part) == 5 for part in parts)
        return [make(name)(logits, loss, draws=2, generator=generator(4)), *parts]

    assert needs_no_defaults(results)


@each_factory
def test_support_on_the_device_of_the_logits(name: str) -> None:
    """The enumerated noise too is on the device of the logits and has their type."""
    randomness = make(name).randomness
    logits = problem(name, 3, dtype=torch.float32)[0][:2]
    if isinstance(randomness, kinds.Gumbel | kinds.Exponential):
        with pytest.raises(ValueError, match=r"^estimator: expected finite randomness, got "):
            randomness.support(logits, 0)
        return
    assert needs_no_defaults(lambda: [*randomness.support(logits, 1)])
    noise, weights = randomness.support(logits, 1)
    assert weights.shape == (len(noise), 2)
    again, joint = randomness.support(logits, 0)
    assert joint.shape == (len(again),)
    for total in (*weights.sum(0), joint.sum()):
        assert float(total) == pytest.approx(1, abs=1e-5)
    # How many values one problem can take, and what they look like.
    sizes = {
        "Deterministic": (1, (0,)),
        "Draw": (4, (2, 4)),
        "Draws": (16, (2, 2, 4)),
        "DistinctDraws": (12, (2, 2, 4)),
        "arm": (6, (2, 1)),
        "disarm": (3, (2, 1)),
        "disarm_categorical": (27, (2, 3)),
    }
    kind = type(randomness).__name__
    assert (len(noise), noise.shape[1:]) == sizes[name if kind == "Uniform" else kind]
