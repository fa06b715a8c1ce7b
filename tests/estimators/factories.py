"""Every factory of the package with what it says of itself, for the tests of all of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import cubic_loss, normal
from torch import Tensor

import ils
from ils.estimators import Estimator
from ils.estimators import randomness as kinds
from ils.estimators.antithetic import Uniform
from ils.estimators.without_replacement import DistinctDraws
from ils.exact import Loss


def bowl(y: Tensor) -> Tensor:
    """A surrogate for RELAX that can be pickled, of problems with two axes."""
    return (y**2).sum((-1, -2))


Said = tuple[dict[str, Any], tuple[Any, ...], dict[str, Any]]


def biased(title: str, randomness: Any, needed: Any = None, **defaults: Any) -> Said:
    """Of one evaluation, and of the derivative of the loss."""
    return needed or {}, (title, randomness, 1, True, True), defaults


def values(title: str, randomness: Any, evaluations: int, **defaults: Any) -> Said:
    """Unbiased, of values of the loss alone."""
    return {}, (title, randomness, evaluations, False, False), defaults


TAU, STEP = {"temperature": 0.7}, {"step_size": 0.7}
DRAW, GUMBEL, NOTHING = kinds.Draw(), kinds.Gumbel(), kinds.Deterministic()
TWO, DISTINCT, TEN = kinds.Draws(2), DistinctDraws(2), kinds.Exponential(10)
# Factory: arguments that have no default; then name, randomness, evaluations, biased, whether the
# loss is differentiated; then the defaults of the rest.
SAID: dict[str, Said] = {
    "adaptive_implicit_mle": biased(
        "adaptive I-MLE", GUMBEL, initial_step=1.0, update=1e-3, symmetric=True
    ),
    "arm": values("ARM", Uniform(linear=True), 2),
    "blackbox": biased("blackbox", NOTHING, STEP),
    "darn": biased("DARN", DRAW),
    "decoupled_straight_through_gumbel": biased(
        "decoupled straight-through Gumbel",
        GUMBEL,
        forward_temperature=1.0,
        backward_temperature=1.0,
    ),
    "disarm": values("DisARM", Uniform(), 2),
    "disarm_categorical": values("DisARM, categorical", Uniform(), 2),
    "double_control_variate": (
        {},
        ("double control variates", TWO, 2, False, True),
        {"samples": 2, "coefficient": 1.0},
    ),
    "gapped_straight_through": biased("gapped straight-through", DRAW, temperature=1.0, gap=1.0),
    "gumbel_rao": biased("Gumbel-Rao", TEN, TAU, samples=10),
    "gumbel_softmax": biased("Gumbel-Softmax", GUMBEL, TAU),
    "identity": biased("identity", NOTHING),
    "implicit_mle": biased("I-MLE", GUMBEL, STEP),
    "intermediate_loss_sampling": biased(
        "ILS",
        DRAW,
        STEP,
        normalizer=ils.sum_normalize,
        metric=ils.metric.euclidean,
        gradient=ils.target.logits_gradient,
        keep_mass=False,
        per_step=False,
    ),
    "leave_one_out": values("leave-one-out", TWO, 2, samples=2),
    "muprop": ({}, ("MuProp", DRAW, 2, False, True), {}),
    "mve": biased("MVE", DRAW, tau=math.inf),
    "rebar": (
        {},
        ("REBAR", kinds.Exponential(2), 3, False, True),
        {"temperature": 1.0, "coefficient": 1.0},
    ),
    "reinmax": biased("ReinMax", DRAW, temperature=1.0),
    "reinmax_control_variate": (
        {},
        ("ReinMax, control variate", TWO, 2, True, True),
        {"samples": 2, "temperature": 1.0},
    ),
    "reinmax_rao": biased("ReinMax-Rao", TEN, TAU, samples=10),
    "relax": (
        {"surrogate": bowl},
        ("RELAX", kinds.Exponential(2), 1, False, False),
        {"temperature": 1.0},
    ),
    "score_function": values("REINFORCE", DRAW, 1, baseline=0.0),
    "score_function_running": values("REINFORCE, running baseline", DRAW, 1, decay=0.9, own_dims=0),
    "spigot": biased("SPIGOT", NOTHING, STEP, per_step=False),
    "spigot_ce": biased("SPIGOT-CE", NOTHING, STEP, per_step=False),
    "spigot_eg": biased("SPIGOT-EG", NOTHING, STEP, per_step=False),
    "straight_through": biased("straight-through", DRAW, temperature=1.0),
    "straight_through_gumbel": biased("straight-through Gumbel-Softmax", GUMBEL, TAU),
    "sum_and_sample": values("sum-and-sample", DISTINCT, 2, samples=2, baseline=True),
    "unordered_set": values("unordered set", DISTINCT, 2, samples=2, baseline=True),
    "zgr": biased("ZGR", DRAW),
}


BINARY = ("arm", "disarm")
JOINT = ("sum_and_sample", "unordered_set")
TEMPERATURES = ("temperature", "forward_temperature", "backward_temperature", "gap")
LEARNING = ("adaptive_implicit_mle", "score_function_running")

each_factory = pytest.mark.parametrize("name", SAID)


def cubic_problem(shape: tuple[int, ...], seed: int) -> tuple[Tensor, Loss]:
    """Logits of one problem, and a cubic loss of all its axes."""
    return normal(*shape, seed=seed), cubic_loss(normal(*shape, seed=seed + 50), len(shape))


def factory(name: str) -> Callable[..., Estimator]:
    return getattr(ils.estimators, name)


def make(name: str, **options: Any) -> Estimator:
    """The estimator with its defaults, but for what is said here."""
    return factory(name)(**{**SAID[name][0], **options})


def options_of(name: str) -> dict[str, Any]:
    """All arguments of a factory, with the values of the table."""
    return {**SAID[name][0], **SAID[name][2]}


def shape_of(name: str, *axes: int) -> tuple[int, ...]:
    """The axes with two categories for a binary method, and with four for others."""
    return (*axes, 2 if name in BINARY else 4)


def loss_for(weights: Tensor) -> Loss:
    """A cubic loss over the last two axes."""
    return lambda z: ((z * weights.to(z)).sum((-1, -2)) - 0.4) ** 3


def problem(name: str, *axes: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Loss]:
    """Logits with these axes before the categories, and a loss of the last two axes."""
    shape = shape_of(name, *axes)
    return normal(*shape, seed=1).to(dtype), loss_for(normal(*shape[-2:], seed=2).to(dtype))
