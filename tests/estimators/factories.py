"""Every factory of the package with what it says of itself, for the tests of all of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import normal
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
    "mve": ({}, ("MVE", kinds.Draw(), 1, True, True), {"tau": math.inf}),
    "rebar": (
        {},
        ("REBAR", kinds.Exponential(2), 3, False, True),
        {"temperature": 1.0, "coefficient": 1.0},
    ),
    "reinmax": ({}, ("ReinMax", kinds.Draw(), 1, True, True), {"temperature": 1.0}),
    "reinmax_rao": (
        {"temperature": 0.7},
        ("ReinMax-Rao", kinds.Exponential(10), 1, True, True),
        {"samples": 10},
    ),
    "relax": (
        {"surrogate": bowl},
        ("RELAX", kinds.Exponential(2), 1, False, False),
        {"temperature": 1.0},
    ),
    "score_function": ({}, ("REINFORCE", kinds.Draw(), 1, False, False), {"baseline": 0.0}),
    "score_function_running": (
        {},
        ("REINFORCE, running baseline", kinds.Draw(), 1, False, False),
        {"decay": 0.9, "own_dims": 0},
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
JOINT = ("sum_and_sample", "unordered_set")
LEARNING = ("adaptive_implicit_mle", "score_function_running")

each_factory = pytest.mark.parametrize("name", SAID)


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
