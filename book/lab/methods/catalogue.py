"""Every method of the laboratory, with the range over which it is tuned.

The one list that the tests of all estimators, the suite of problems and the tables of the book
read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ils import estimators, simplex, target
from ils.estimators import Estimator
from ils.metric import fisher
from lab.methods.learning import (
    as_it_is,
    with_baseline_at_rest,
    with_step_adapted,
    with_surrogate_fitted,
)
from lab.problems.enumerable import Problem

__all__ = ["FAMILIES", "METHODS", "Method"]


@dataclass(frozen=True)
class Method:
    """One method and its tuning range.

    Attributes:
        name: unique, as in tables and figures.
        family: a key of ``FAMILIES``.
        factory: the name of the function in :mod:`ils.estimators`.
        make: makes the estimator at a setting.
        option: what the setting is, empty for a method without.
        settings: the tuning range; one number for a method without.
        default: the setting that stands for the method where one is shown.
        source: citation keys of the bibliography.
        sampled: whether its moments are estimated from draws and not summed.
        binary: whether it needs two categories.
        prepare: brings an estimator that learns into the state in which it is measured.
    """

    name: str
    family: str
    factory: str
    make: Callable[[float], Estimator]
    source: tuple[str, ...]
    option: str = ""
    settings: tuple[float, ...] = (0.0,)
    default: float = 0.0
    sampled: bool = False
    binary: bool = False
    prepare: Callable[[Estimator, Problem], Estimator] = as_it_is

    def serves(self, categories: int) -> bool:
        """Whether the method exists for variables with so many categories."""
        return categories == 2 or not self.binary


FAMILIES = {
    "straight-through": "a draw forward, an invented derivative backward",
    "relaxation": "a point inside the simplex in place of the draw",
    "intermediate loss": "a target that is better than the draw",
    "perturbation": "a second most likely category, for changed logits",
    "score function": "values of the loss, weighted by the score",
}

_CENTRED = target.centred_gradient
_TEMPERATURES = (0.25, 0.5, 1.0, 2.0, 4.0)
_STEPS = (0.01, 0.1, 0.3, 1.0, 3.0)
_LONG_STEPS = (0.1, 0.3, 1.0, 3.0, 10.0)
_SAMPLES = (2.0, 4.0, 8.0)
_COEFFICIENTS = (0.25, 0.5, 1.0)


def _ils(name: str, **options: Any) -> Method:
    """A form of ILS, divided by its step so that it has the units of a gradient."""
    return Method(
        name,
        "intermediate loss",
        "intermediate_loss_sampling",
        lambda a: estimators.intermediate_loss_sampling(step_size=a, per_step=True, **options),
        ("shliselberg2019ils",),
        "step size",
        _STEPS,
        0.1,
    )


def _spigot(name: str, factory: str, source: str) -> Method:
    make = getattr(estimators, factory)
    return Method(
        name,
        "intermediate loss",
        factory,
        lambda a: make(step_size=a, per_step=True),
        (source,),
        "step size",
        _STEPS,
        0.1,
    )


def _tempered(
    name: str, factory: str, source: str, *, family: str = "straight-through", sampled: bool = False
) -> Method:
    make = getattr(estimators, factory)
    return Method(
        name,
        family,
        factory,
        lambda t: make(temperature=t),
        (source,),
        "temperature",
        _TEMPERATURES,
        1.0,
        sampled,
    )


def _several(name: str, factory: str, source: str, samples: tuple[float, ...] = _SAMPLES) -> Method:
    make = getattr(estimators, factory)
    return Method(
        name,
        "score function",
        factory,
        lambda count: make(samples=int(count)),
        (source,),
        "samples",
        samples,
        2.0,
        sampled=True,
    )


def _plain(
    name: str,
    factory: str,
    *source: str,
    family: str = "score function",
    binary: bool = False,
    sampled: bool = False,
) -> Method:
    make = getattr(estimators, factory)
    return Method(name, family, factory, lambda _: make(), source, binary=binary, sampled=sampled)


def _squares(y: Tensor) -> Tensor:
    """A surrogate for RELAX before it is fitted."""
    return (y**2).sum((-1, -2))


METHODS: tuple[Method, ...] = (
    # --- a draw forward, an invented derivative backward
    _tempered("straight-through", "straight_through", "bengio2013straightthrough"),
    _tempered("straight-through Gumbel", "straight_through_gumbel", "jang2017gumbel", sampled=True),
    Method(
        "decoupled straight-through Gumbel",
        "straight-through",
        "decoupled_straight_through_gumbel",
        lambda t: estimators.decoupled_straight_through_gumbel(forward_temperature=t),
        ("shah2024decoupled",),
        "forward temperature",
        (0.25, 0.5, 2.0, 4.0),
        0.5,
        sampled=True,
    ),
    _tempered("Gumbel-Rao", "gumbel_rao", "paulus2021raoblackwell", sampled=True),
    _tempered("gapped straight-through", "gapped_straight_through", "fan2022gapped"),
    _tempered("ReinMax", "reinmax", "liu2023reinmax"),
    _plain("ZGR", "zgr", "shekhovtsov2023zgr", family="straight-through"),
    _plain("DARN", "darn", "gregor2014darn", family="straight-through"),
    # --- a point inside the simplex in place of the draw
    _tempered(
        "Gumbel-Softmax", "gumbel_softmax", "jang2017gumbel", family="relaxation", sampled=True
    ),
    # --- a target that is better than the draw
    _ils("ILS"),
    _ils("ILS, centred", gradient=_CENTRED),
    _ils("ILS, projected", gradient=_CENTRED, normalizer=simplex.project_simplex),
    _ils("ILS, Fisher", gradient=_CENTRED, metric=fisher, keep_mass=True),
    _spigot("SPIGOT", "spigot", "peng2018spigot"),
    _spigot("SPIGOT-CE", "spigot_ce", "mihaylova2020understanding"),
    _spigot("SPIGOT-EG", "spigot_eg", "mihaylova2020understanding"),
    # --- a second most likely category, for changed logits
    Method(
        "I-MLE",
        "perturbation",
        "implicit_mle",
        lambda a: estimators.implicit_mle(step_size=a),
        ("niepert2021imle",),
        "step size",
        _LONG_STEPS,
        1.0,
        sampled=True,
    ),
    Method(
        "adaptive I-MLE",
        "perturbation",
        "adaptive_implicit_mle",
        lambda a: estimators.adaptive_implicit_mle(initial_step=a),
        ("minervini2023aimle",),
        "initial step",
        (1.0,),
        1.0,
        sampled=True,
        prepare=with_step_adapted,
    ),
    Method(
        "blackbox",
        "perturbation",
        "blackbox",
        lambda a: estimators.blackbox(step_size=a),
        ("vlastelica2020blackbox",),
        "step size",
        _LONG_STEPS,
        1.0,
    ),
    _plain("identity", "identity", "sahoo2023identity", family="perturbation"),
    # --- values of the loss, weighted by the score
    _plain("REINFORCE", "score_function", "glynn1990likelihood", "williams1992reinforce"),
    Method(
        "REINFORCE, running baseline",
        "score function",
        "score_function_running",
        lambda decay: estimators.score_function_running(decay=decay),
        ("williams1992reinforce",),
        "decay",
        (0.9,),
        0.9,
        prepare=with_baseline_at_rest,
    ),
    _several("leave-one-out", "leave_one_out", "kool2019buy4"),
    Method(
        "double control variates",
        "score function",
        "double_control_variate",
        lambda c: estimators.double_control_variate(coefficient=c),
        ("titsias2022double",),
        "coefficient",
        _COEFFICIENTS,
        1.0,
        sampled=True,
    ),
    _plain("MuProp", "muprop", "gu2016muprop"),
    Method(
        "REBAR",
        "score function",
        "rebar",
        lambda c: estimators.rebar(coefficient=c),
        ("tucker2017rebar",),
        "coefficient",
        _COEFFICIENTS,
        1.0,
        sampled=True,
    ),
    Method(
        "RELAX",
        "score function",
        "relax",
        lambda t: estimators.relax(_squares, temperature=t),
        ("grathwohl2018relax",),
        "temperature",
        (1.0,),
        1.0,
        sampled=True,
        prepare=with_surrogate_fitted,
    ),
    _plain("ARM", "arm", "yin2019arm", binary=True, sampled=True),
    _plain("DisARM", "disarm", "dong2020disarm", "yin2020u2g", binary=True, sampled=True),
    Method(
        "DisARM, categorical",
        "score function",
        "disarm_categorical",
        lambda _: estimators.disarm_categorical(),
        ("dong2021coupled",),
        sampled=True,
    ),
    _several("unordered set", "unordered_set", "kool2020unordered", (2.0, 4.0)),
    _several("sum-and-sample", "sum_and_sample", "kool2020unordered", (2.0, 4.0)),
)
