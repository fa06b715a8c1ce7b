"""The methods of the sweep, and the settings over which each is tuned.

Every method has twelve trials: its settings times as many learning rates as fill them.  Names and
sources are those of :mod:`lab.methods.catalogue`; what differs is that a method learns here while
the model does, and that the settings are those with which the methods are trained in practice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from ils import estimators, simplex, target
from ils.estimators import Estimator
from ils.estimators.evaluation import Loss, value_and_gradient
from ils.estimators.randomness import Draw
from ils.fast import estimate, form_of
from ils.rules import ReinMax, Rule, Step
from lab.training.task import Task

__all__ = ["CONTESTANTS", "MAIN", "TRIALS", "Contestant", "package_default"]

TRIALS = 12
"""Trials of the tuning for each method and problem."""

_TEMPERATURES = (0.5, 1.0, 2.0)
_STEPS = (0.1, 1.0, 10.0)
_CENTRED = target.centred_gradient


@dataclass(frozen=True)
class Contestant:
    """A method with its own parameter.

    Attributes:
        name: as in tables.
        make: the estimator at a setting.
        family: a key of :data:`lab.methods.catalogue.FAMILIES`.
        option: what the setting is; empty for a method without.
        settings: the trials of the setting.
        binary: whether it needs two categories.
        single: whether it draws joint states without replacement: one variable is all it can take,
            and what lies behind the draw would need their weights.
        limit: the largest number of categories times variables at which its cost is bearable.
    """

    name: str
    make: Callable[[float], Estimator]
    family: str
    option: str = ""
    settings: tuple[float, ...] = (0.0,)
    binary: bool = False
    single: bool = False
    limit: int = 10_000

    def serves(self, task: Task) -> bool:
        """Whether the method exists for the problem."""
        return (
            (task.categories == 2 or not self.binary)
            and not (self.single and (task.variables > 1 or task.decoder))
            and task.categories * task.variables <= self.limit
        )


def _by_rule(rule: Rule, name: str) -> Estimator:
    """What :func:`ils.sample` hands on, as an estimator: by the fast form, to the last bit."""

    def formula(logits: Tensor, z: Tensor, loss: Loss) -> Tensor:
        _, grad = value_and_gradient(loss, z, logits)
        form = form_of(rule)
        assert form is not None
        probs = logits.softmax(-1).expand_as(z).contiguous()
        return estimate(form, grad, z.argmax(-1, keepdim=True), probs, None)

    return Estimator(name, formula, Draw(), evaluations=1, biased=True, differentiates=True)


def package_default(step_size: float | None = None) -> Estimator:
    """The gradient of ``ils.sample(logits)``, or of a relative step of this size."""
    return _by_rule(ReinMax() if step_size is None else Step(step_size), "ils.sample")


def _intermediate(a: float, **options: object) -> Estimator:
    return estimators.intermediate_loss_sampling(step_size=a, per_step=True, **options)


_ILS, _ST, _SCORE = "intermediate loss", "straight-through", "score function"
_STEP, _TAU = ("step size", _STEPS), ("temperature", _TEMPERATURES)

CONTESTANTS: tuple[Contestant, ...] = (
    Contestant("ILS, as in the note", _intermediate, _ILS, *_STEP),
    Contestant("ILS, centred", partial(_intermediate, gradient=_CENTRED), _ILS, *_STEP),
    Contestant(
        "ILS, projected",
        partial(_intermediate, gradient=_CENTRED, normalizer=simplex.project_simplex),
        _ILS,
        *_STEP,
    ),
    Contestant("ILS, default", lambda _: package_default(), _ILS),
    Contestant("ILS, relative step", package_default, _ILS, "relative step", (0.1, 1.0, 10.0)),
    Contestant("SPIGOT", lambda a: estimators.spigot(step_size=a, per_step=True), _ILS, *_STEP),
    Contestant(
        "SPIGOT-CE", lambda a: estimators.spigot_ce(step_size=a, per_step=True), _ILS, *_STEP
    ),
    Contestant(
        "SPIGOT-EG", lambda a: estimators.spigot_eg(step_size=a, per_step=True), _ILS, *_STEP
    ),
    Contestant(
        "straight-through", lambda t: estimators.straight_through(temperature=t), _ST, *_TAU
    ),
    Contestant(
        "straight-through Gumbel",
        lambda t: estimators.straight_through_gumbel(temperature=t),
        _ST,
        *_TAU,
    ),
    Contestant(
        "decoupled Gumbel",
        lambda t: estimators.decoupled_straight_through_gumbel(forward_temperature=t),
        _ST,
        "forward temperature",
        (0.25, 0.5, 2.0),
    ),
    Contestant("Gumbel-Rao", lambda t: estimators.gumbel_rao(temperature=t, samples=4), _ST, *_TAU),
    Contestant(
        "gapped straight-through",
        lambda t: estimators.gapped_straight_through(temperature=t),
        _ST,
        *_TAU,
    ),
    Contestant(
        "ReinMax",
        lambda t: estimators.reinmax(temperature=t),
        _ST,
        "temperature",
        (1.0, 1.2, 1.5),
    ),
    Contestant("DARN", lambda _: estimators.darn(), _ST),
    Contestant(
        "Gumbel-Softmax", lambda t: estimators.gumbel_softmax(temperature=t), "relaxation", *_TAU
    ),
    Contestant("I-MLE", lambda a: estimators.implicit_mle(step_size=a), "perturbation", *_STEP),
    Contestant("blackbox", lambda a: estimators.blackbox(step_size=a), "perturbation", *_STEP),
    Contestant("identity", lambda _: estimators.identity(), "perturbation"),
    Contestant("REINFORCE", lambda _: estimators.score_function(), _SCORE),
    Contestant(
        "REINFORCE, running baseline",
        lambda d: estimators.score_function_running(decay=d, own_dims=1),
        _SCORE,
        "decay",
        (0.5, 0.9, 0.99),
    ),
    Contestant(
        "leave-one-out",
        lambda count: estimators.leave_one_out(samples=int(count)),
        _SCORE,
        "samples",
        (2.0, 4.0),
    ),
    Contestant(
        "double control variates",
        lambda c: estimators.double_control_variate(coefficient=c),
        _SCORE,
        "coefficient",
        (0.25, 0.5, 1.0),
    ),
    Contestant("MuProp", lambda _: estimators.muprop(), _SCORE),
    Contestant(
        "REBAR", lambda c: estimators.rebar(coefficient=c), _SCORE, "coefficient", (0.25, 0.5, 1.0)
    ),
    Contestant("ARM", lambda _: estimators.arm(), _SCORE, binary=True),
    Contestant("DisARM", lambda _: estimators.disarm(), _SCORE, binary=True),
    Contestant("DisARM, categorical", lambda _: estimators.disarm_categorical(), _SCORE, limit=256),
    Contestant("unordered set", lambda _: estimators.unordered_set(samples=2), _SCORE, single=True),
    Contestant(
        "sum-and-sample", lambda _: estimators.sum_and_sample(samples=2), _SCORE, single=True
    ),
)

MAIN = (
    "ILS, as in the note",
    "ILS, centred",
    "ILS, default",
    "ILS, relative step",
    "straight-through",
    "straight-through Gumbel",
    "Gumbel-Rao",
    "gapped straight-through",
    "ReinMax",
    "Gumbel-Softmax",
    "REINFORCE, running baseline",
    "leave-one-out",
    "double control variates",
)
"""Those that take part where a problem of the same kind has shown the rest already."""
