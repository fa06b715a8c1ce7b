"""Estimators and their formulas as values: equal, hashed, copied, pickled, written out."""

from __future__ import annotations

import copy
import math
import pickle
import re
from typing import Any

import numpy as np
import pytest
import torch
from cases import generator, normal
from factories import (
    LEARNING,
    SAID,
    TEMPERATURES,
    each_factory,
    loss_for,
    make,
    options_of,
    problem,
)

from ils import estimators


@each_factory
def test_copies(name: str) -> None:
    """Pickled, copied and made anew, an estimator is equal and gives the same estimates."""
    one = make(name)
    logits, loss = problem(name, 3, 2)
    one(logits, loss, draws=3, generator=generator(1))
    learnt = one.randomness == make(name).randomness and name in LEARNING
    assert (make(name) == one) is not learnt
    assert hash(make(name)) == hash(one)
    for other in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one), copy.copy(one)):
        assert other == one
        assert hash(other) == hash(one)
        assert repr(other) == repr(one)
        states = (generator(2), generator(2))
        found, again = (
            e(logits, loss, draws=5, generator=g)
            for e, g in zip((copy.deepcopy(one), other), states, strict=True)
        )
        assert torch.equal(found, again)
    assert len({one, make(name)}) == 1 + learnt


@each_factory
def test_other_options_are_another_value(name: str) -> None:
    """An option that differs makes another estimator; another method is another one anyhow."""
    assert len({make(other).formula for other in SAID}) == len(SAID)
    assert make(name) != "estimator"
    assert make(name).formula != "formula"
    for option, value in options_of(name).items():
        if isinstance(value, bool):
            changed: Any = not value
        elif isinstance(value, int):
            changed = value + 1
        elif isinstance(value, float):
            changed = 0.5 if math.isinf(value) else value / 2 + 0.1
        else:
            continue
        other = make(name, **{option: changed})
        assert other != make(name), option
        assert other == make(name, **{option: changed})


def test_what_is_learnt_is_copied() -> None:
    """A copy has the state of the first, and learns for itself."""
    logits, loss = problem("darn", 3, 2)
    for name in LEARNING:
        one = make(name)
        one(logits, loss, draws=3, generator=generator(1))
        other, again = copy.deepcopy(one), pickle.loads(pickle.dumps(one))
        other(logits, loss, draws=3, generator=generator(2))
        assert other != one == again
        again(logits, loss, draws=3, generator=generator(2))
        assert other == again
    held = torch.tensor([1.0, 2.0])
    tensor = estimators.score_function(baseline=held)
    assert tensor == estimators.score_function(baseline=held.clone())
    assert hash(tensor) == hash(pickle.loads(pickle.dumps(tensor)))
    for baseline in (torch.tensor([1.0, 3.0]), held.double(), 1.0):
        assert tensor != estimators.score_function(baseline=baseline)
    own = estimators.score_function_running(own_dims=1)
    own(logits, loss, generator=generator(1))
    assert copy.deepcopy(own) == own != estimators.score_function_running(own_dims=1)


def test_formulas_are_written_out() -> None:
    """With their name and all their options."""
    assert repr(estimators.reinmax(temperature=0.5).formula) == (
        "Formula(ils.estimators.from_rule._formula, rule=ReinMax(temperature=0.5))"
    )
    learning = repr(estimators.adaptive_implicit_mle(symmetric=False).formula)
    assert re.fullmatch(r"Formula\(\S+\._aimle, step=\S*\([^)]*\), symmetric=False\)", learning)


@each_factory
def test_numbers_of_numpy(name: str) -> None:
    """Counts and numbers of NumPy are taken as Python's."""
    logits, loss = problem(name, 3, 2)
    options = {
        option: np.int64(value) if isinstance(value, int) else np.float64(value)
        for option, value in options_of(name).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    estimator = make(name, **options)
    assert estimator == make(name)
    assert type(estimator.evaluations) is int
    found = estimator(
        logits, loss, draws=np.int64(3), generator=generator(1), batch_dims=np.int32(1)
    )
    assert torch.equal(found, make(name)(logits, loss, draws=3, generator=generator(1)))


# What may be as small or as large as the type of the logits can tell from 0 and infinity.
HELD = {*TEMPERATURES, "step_size", "coefficient"}


@each_factory
def test_numbers_that_the_type_cannot_hold(name: str) -> None:
    """A temperature or a step that rounds to zero is refused under its name, at the call."""
    for option in HELD & options_of(name).keys():
        for number in (1e-41, 1e39):
            for dtype in (torch.float16, torch.bfloat16, torch.float32):
                with pytest.raises(ValueError, match=f"^{option}: expected a number from "):
                    make(name, **{option: number})(*problem(name, 2, dtype=dtype))


def test_numbers_that_the_type_just_holds() -> None:
    """The smallest and the largest number of a type, and zero."""
    loss = loss_for(normal(2, 4, seed=2))
    kind = torch.finfo(torch.float32)
    for number in (kind.tiny, kind.max):
        estimator = estimators.straight_through(temperature=number)
        assert estimator(torch.ones(2, 4), loss, generator=generator(1)).shape == (1, 2, 4)
    assert estimators.rebar(coefficient=0.0)(torch.ones(2, 4), loss).isfinite().all()
