"""Every method of the laboratory, with the range over which it is tuned.

The one list that the tests of all estimators, the suite of problems and the tables of the book
read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ils import estimators, simplex, target
from ils.estimators import Estimator
from ils.metric import fisher

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

METHODS: tuple[Method, ...] = (
    # --- intermediate loss ------------------------------------------------------------------
    Method(
        "ILS",
        "intermediate loss",
        "intermediate_loss_sampling",
        lambda a: estimators.intermediate_loss_sampling(step_size=a, per_step=True),
        ("shliselberg2019ils",),
        "step size",
        _STEPS,
        0.1,
    ),
    Method(
        "ILS, centred",
        "intermediate loss",
        "intermediate_loss_sampling",
        lambda a: estimators.intermediate_loss_sampling(
            step_size=a, gradient=_CENTRED, per_step=True
        ),
        ("shliselberg2019ils",),
        "step size",
        _STEPS,
        0.1,
    ),
    Method(
        "ILS, centred, projected",
        "intermediate loss",
        "intermediate_loss_sampling",
        lambda a: estimators.intermediate_loss_sampling(
            step_size=a, gradient=_CENTRED, normalizer=simplex.project_simplex, per_step=True
        ),
        ("shliselberg2019ils",),
        "step size",
        _STEPS,
        0.1,
    ),
    Method(
        "ILS, centred, Fisher",
        "intermediate loss",
        "intermediate_loss_sampling",
        lambda a: estimators.intermediate_loss_sampling(
            step_size=a, gradient=_CENTRED, metric=fisher, keep_mass=True, per_step=True
        ),
        ("shliselberg2019ils",),
        "step size",
        _STEPS,
        0.1,
    ),
    # --- straight-through --------------------------------------------------------------------
    Method(
        "straight-through",
        "straight-through",
        "straight_through",
        lambda t: estimators.straight_through(temperature=t),
        ("bengio2013straightthrough",),
        "temperature",
        _TEMPERATURES,
        1.0,
    ),
    # --- relaxation --------------------------------------------------------------------------
    Method(
        "Gumbel-Softmax",
        "relaxation",
        "gumbel_softmax",
        lambda t: estimators.gumbel_softmax(temperature=t),
        ("jang2017gumbel", "maddison2017concrete"),
        "temperature",
        _TEMPERATURES,
        1.0,
        sampled=True,
    ),
    Method(
        "straight-through Gumbel",
        "straight-through",
        "straight_through_gumbel",
        lambda t: estimators.straight_through_gumbel(temperature=t),
        ("jang2017gumbel",),
        "temperature",
        _TEMPERATURES,
        1.0,
        sampled=True,
    ),
    # --- score function ----------------------------------------------------------------------
    Method(
        "REINFORCE",
        "score function",
        "score_function",
        lambda _: estimators.score_function(),
        ("glynn1990likelihood", "williams1992reinforce"),
    ),
    Method(
        "REINFORCE, running baseline",
        "score function",
        "score_function_running",
        lambda decay: estimators.score_function_running(decay=decay),
        ("williams1992reinforce",),
        "decay",
        (0.9,),
        0.9,
    ),
)
