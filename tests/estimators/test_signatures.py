"""What every factory says of itself: names, flags, defaults, refusals, devices."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from cases import generator, normal
from torch import Tensor

import ils
from ils.estimators import Estimator
from ils.estimators import randomness as kinds
from ils.estimators.antithetic import Uniform
from ils.estimators.perturbation import AdaptiveStep
from ils.estimators.score_function import RunningBaseline
from ils.estimators.without_replacement import DistinctDraws
from ils.exact import Loss


def squares(y: Tensor) -> Tensor:
    """A surrogate for RELAX."""
    return (y**2).sum((-1, -2))


# Factory: arguments that have no default; then name, randomness, evaluations, biased, whether the
# loss is differentiated; then the defaults of the rest.
SAID: dict[str, tuple[dict[str, Any], tuple[Any, ...], dict[str, Any]]] = {
    "adaptive_implicit_mle": (
        {},
        ("adaptive I-MLE", kinds.Gumbel(), 1, True, True),
        {"initial_step": 1.0, "update": 1e-3, "symmetric": True},
    ),
    "arm": ({}, ("ARM", Uniform(linear=True), 2, False, False), {}),
    "blackbox": (
        {"step_size": 0.7},
        ("blackbox", kinds.Deterministic(), 1, True, True),
        {},
    ),
    "darn": ({}, ("DARN", kinds.Draw(), 1, True, True), {}),
    "decoupled_straight_through_gumbel": (
        {},
        ("decoupled straight-through Gumbel", kinds.Gumbel(), 1, True, True),
        {"forward_temperature": 1.0, "backward_temperature": 1.0},
    ),
    "disarm": ({}, ("DisARM", Uniform(), 2, False, False), {}),
    "disarm_categorical": ({}, ("DisARM, categorical", Uniform(), 2, False, False), {}),
    "double_control_variate": (
        {},
        ("double control variates", kinds.Draws(2), 2, False, True),
        {"samples": 2, "coefficient": 1.0},
    ),
    "gapped_straight_through": (
        {},
        ("gapped straight-through", kinds.Draw(), 1, True, True),
        {"temperature": 1.0, "gap": 1.0},
    ),
    "gumbel_rao": (
        {"temperature": 0.7},
        ("Gumbel-Rao", kinds.Exponential(10), 1, True, True),
        {"samples": 10},
    ),
    "gumbel_softmax": (
        {"temperature": 0.7},
        ("Gumbel-Softmax", kinds.Gumbel(), 1, True, True),
        {},
    ),
    "identity": ({}, ("identity", kinds.Deterministic(), 1, True, True), {}),
    "implicit_mle": ({"step_size": 0.7}, ("I-MLE", kinds.Gumbel(), 1, True, True), {}),
    "intermediate_loss_sampling": (
        {"step_size": 0.7},
        ("ILS", kinds.Draw(), 1, True, True),
        {
            "normalizer": ils.sum_normalize,
            "metric": ils.metric.euclidean,
            "gradient": ils.target.logits_gradient,
            "keep_mass": False,
            "per_step": False,
        },
    ),
    "leave_one_out": (
        {},
        ("leave-one-out", kinds.Draws(2), 2, False, False),
        {"samples": 2},
    ),
    "muprop": ({}, ("MuProp", kinds.Draw(), 2, False, True), {}),
    "rebar": (
        {},
        ("REBAR", kinds.Exponential(2), 3, False, True),
        {"temperature": 1.0, "coefficient": 1.0},
    ),
    "reinmax": ({}, ("ReinMax", kinds.Draw(), 1, True, True), {"temperature": 1.0}),
    "relax": (
        {"surrogate": squares},
        ("RELAX", kinds.Exponential(2), 1, False, False),
        {"temperature": 1.0},
    ),
    "score_function": ({}, ("REINFORCE", kinds.Draw(), 1, False, False), {"baseline": 0.0}),
    "score_function_running": (
        {},
        ("REINFORCE, running baseline", kinds.Draw(), 1, False, False),
        {"decay": 0.9},
    ),
    "spigot": (
        {"step_size": 0.7},
        ("SPIGOT", kinds.Deterministic(), 1, True, True),
        {"per_step": False},
    ),
    "spigot_ce": (
        {"step_size": 0.7},
        ("SPIGOT-CE", kinds.Deterministic(), 1, True, True),
        {"per_step": False},
    ),
    "spigot_eg": (
        {"step_size": 0.7},
        ("SPIGOT-EG", kinds.Deterministic(), 1, True, True),
        {"per_step": False},
    ),
    "straight_through": (
        {},
        ("straight-through", kinds.Draw(), 1, True, True),
        {"temperature": 1.0},
    ),
    "straight_through_gumbel": (
        {"temperature": 0.7},
        ("straight-through Gumbel-Softmax", kinds.Gumbel(), 1, True, True),
        {},
    ),
    "sum_and_sample": (
        {},
        ("sum-and-sample", DistinctDraws(2), 2, False, False),
        {"samples": 2, "baseline": True},
    ),
    "unordered_set": (
        {},
        ("unordered set", DistinctDraws(2), 2, False, False),
        {"samples": 2, "baseline": True},
    ),
    "zgr": ({}, ("ZGR", kinds.Draw(), 1, True, True), {}),
}

BINARY = ("arm", "disarm")

each_factory = pytest.mark.parametrize("name", SAID)


def factory(name: str) -> Callable[..., Estimator]:
    return getattr(ils.estimators, name)


def problem(name: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Loss]:
    """Logits of three variables and a loss of all of them."""
    shape = (3, 2 if name in BINARY else 4)
    weights = normal(*shape, seed=2).to(dtype)
    return normal(*shape, seed=1).to(dtype), lambda z: ((z * weights).sum((-1, -2)) - 0.4) ** 3


def test_every_factory_is_listed() -> None:
    """The table above holds every factory of the package."""
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
    logits, loss = problem(name)
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
    required, _, defaults = SAID[name]
    for argument, good in {**required, **defaults}.items():
        if isinstance(good, bool) or callable(good) or argument == "baseline":
            continue
        for wrong, error in ((-1, ValueError), ("1", TypeError), (True, TypeError)):
            with pytest.raises(error, match=f"^{argument}: expected "):
                factory(name)(**{**required, argument: wrong})
        if isinstance(good, float) and argument not in ("coefficient", "decay"):
            with pytest.raises(ValueError, match=f"^{argument}: expected a positive"):
                factory(name)(**{**required, argument: 0.0})
    if "samples" in defaults and name != "gumbel_rao":
        with pytest.raises(ValueError, match=r"^samples: expected at least 2, got 1"):
            factory(name)(**required, samples=1)
    if "decay" in defaults:
        assert factory(name)(decay=0)
        with pytest.raises(ValueError, match=r"^decay: .*\[0, 1\), got 1"):
            factory(name)(decay=1)


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
    logits, loss = problem(name, torch.float32)
    required = SAID[name][0]
    plain = factory(name)(**required)(logits, loss, draws=2, generator=generator(4))
    with elsewhere():
        found = factory(name)(**required)(logits, loss, draws=2, generator=generator(4))
    assert found.dtype == torch.float32
    assert torch.equal(found, plain)


@each_factory
def test_support_on_the_device_of_the_logits(name: str) -> None:
    """The enumerated noise too is on the device of the logits and has their type."""
    estimator = factory(name)(**SAID[name][0])
    logits = problem(name, torch.float32)[0][:2]
    if isinstance(estimator.randomness, kinds.Gumbel | kinds.Exponential):
        with pytest.raises(ValueError, match=r"^estimator: expected finite randomness, got "):
            estimator.randomness.support(logits, 0)
        return
    plain = estimator.randomness.support(logits, 1)
    with elsewhere():
        found = estimator.randomness.support(logits, 1)
    for one, other in zip(plain, found, strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)
    noise, weights = plain
    assert weights.shape == (len(noise), 2)
    assert torch.allclose(weights.sum(0), torch.ones(2), atol=1e-5)
    again, joint = estimator.randomness.support(logits, 0)
    assert joint.shape == (len(again),)
    assert torch.allclose(joint.sum(), torch.tensor(1.0), atol=1e-5)
    # How many values one problem can take, and what they look like.
    sizes = {
        "Deterministic": (1, (0,)),
        "Draw": (4, (2, 4)),
        "Draws": (16, (2, 2, 4)),
        "DistinctDraws": (12, (2, 2, 4)),
        "Uniform": (6, (2, 1))
        if name == "arm"
        else (3, (2, 1))
        if name == "disarm"
        else (27, (2, 3)),
    }
    assert (len(noise), noise.shape[1:]) == sizes[type(estimator.randomness).__name__]


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
        needed["surrogate"] = squares
    for key in real:
        with pytest.raises(TypeError, match=f"{key}: expected a real number, got"):
            factory(**{**needed, key: value})
    # A number of NumPy is one.
    for key in real:
        factory(**{**needed, key: np.float32(0.5)})
