"""Every method of the report, once: its name, how it is made, its sources, and how it is tuned.

Names are those of every record, table, figure and sentence, and are chosen so:

- *ILS (the note)* is Algorithm 1 of the note, whose term ``pi - z`` is kept, and *ILS (the note's
  code)* what its published code computes.  What follows a comma after *ILS* is a form without that
  term: *ILS, centred*, or centred and with another normaliser or another metric.
- *ReinMax (default)* is the default of :func:`ils.sample`: ReinMax at temperature 1, where nothing
  is tuned.  *ReinMax* alone has a temperature, which is tuned.
- A setting comes last, after a comma: *ILS (the note), step 0.1*.

The suite of problems measures :data:`METHODS`; :data:`CATALOGUE` also holds what is trained or
simulated only, and :data:`BESIDE` what is made by a single problem.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ils import estimators, metric, simplex, target
from ils.estimators import Estimator
from ils.metric import fisher
from ils.rules import Ordinal, Step
from lab.methods.annealed import Annealed
from lab.methods.learning import (
    as_it_is,
    with_baseline_at_rest,
    with_step_adapted,
    with_surrogate_fitted,
)
from lab.methods.package import by_rule, package_default
from lab.problems.enumerable import Problem
from lab.show.looks import LOOKS, Look

__all__ = ["BESIDE", "CATALOGUE", "FAMILIES", "METHODS", "NAMES", "Make", "Method", "method"]

Make = Callable[[float], Estimator]
Train = Callable[[float], Estimator | Annealed[Estimator]]


@dataclass(frozen=True)
class Method:
    """One method, and how it is tuned where it is measured and where it is trained.

    Attributes:
        name: unique; the seed of what is sampled depends on it.
        family: a key of ``FAMILIES``, or what it is in place of one.
        factory: the name of the function in :mod:`ils.estimators`; empty for what only
            :func:`ils.sample` or a single problem makes.
        make: makes the estimator at a setting.
        source: citation keys of the bibliography.
        option: what the setting is, empty for a method without.
        settings: those at which it is measured; one number for a method without, none for one that
            is not measured.
        default: the setting that stands for the method where one is shown.
        sampled: whether its moments are estimated from draws and not summed.
        mean: makes an estimator with the same mean, which can be summed, of one that is sampled.
        binary: whether it needs two categories.
        ordinal: whether it needs a loss that sees of a draw the number of its category alone; for
            two categories it is ReinMax.
        prepare: brings an estimator that learns into the state in which it is measured.
        trained: the settings among which the training chooses; none for one that is not trained.
        train: makes the estimator that is trained, where it is not the one that is measured.
        several: makes the estimator of so many evaluations, at least two, where this is more than
            the mean of independent estimates.
        most: the largest number of evaluations for ``several``.
        single: whether it draws joint states without replacement: one variable is all it can be
            trained with, and what lies behind the draw would need their weights.
        limit: the largest number of categories times variables at which its training is bearable.
        main: whether it is trained also where another problem of the kind has shown the rest.
    """

    name: str
    family: str
    factory: str
    make: Make
    source: tuple[str, ...]
    option: str = ""
    settings: tuple[float, ...] = (0.0,)
    default: float = 0.0
    sampled: bool = False
    mean: Make | None = None
    binary: bool = False
    ordinal: bool = False
    prepare: Callable[[Estimator, Problem], Estimator] = as_it_is
    trained: tuple[float, ...] = ()
    train: Train | None = None
    several: Callable[[float, int], Estimator] | None = None
    most: int = 10_000
    single: bool = False
    limit: int = 10_000
    main: bool = False

    @property
    def look(self) -> Look:
        """Its colour, dashes and mark in every figure."""
        return LOOKS[self.name]

    def serves(self, categories: int) -> bool:
        """Whether the method exists for variables with so many categories."""
        return categories == 2 or not self.binary


FAMILIES = {
    "straight-through": "a draw forward, a surrogate gradient backward",
    "relaxation": "a point inside the simplex in place of the draw",
    "intermediate loss": "a target that is better than the point it comes from",
    "perturbation": "a second most likely category, for changed logits",
    "score function": "values of the loss, weighted by the score",
}

_CENTRED = target.centred_gradient
_TEMPERATURES = (0.25, 0.5, 1.0, 2.0, 4.0)
_STEPS = (0.01, 0.1, 0.3, 1.0, 3.0)
_LONG_STEPS = (0.1, 0.3, 1.0, 3.0, 10.0)
_SAMPLES = (2.0, 4.0, 8.0)
_COEFFICIENTS = (0.25, 0.5, 1.0)
_TRAINED_TEMPERATURES = (0.5, 1.0, 2.0)
_HIGH_TEMPERATURES = (1.0, 1.5, 2.0, 3.0, 5.0)
_TRAINED_STEPS = (0.1, 1.0, 10.0)
_ONCE = (0.0,)
_NOTE = "shliselberg2019ils"


def _ils(
    name: str,
    *,
    settings: tuple[float, ...] = _STEPS,
    trained: tuple[float, ...] = (),
    main: bool = False,
    **options: Any,
) -> Method:
    """A form of ILS, divided by its step so that it has the units of a gradient."""
    return Method(
        name,
        "intermediate loss",
        "intermediate_loss_sampling",
        lambda a: estimators.intermediate_loss_sampling(step_size=a, per_step=True, **options),
        (_NOTE,),
        "step size",
        settings,
        0.1,
        trained=trained,
        main=main,
    )


def _relative(name: str, make: Make, trained: tuple[float, ...] = ()) -> Method:
    """A step relative to the gradient, as only :func:`ils.sample` has it."""
    option = "relative step"
    return Method(
        name,
        "intermediate loss",
        "",
        make,
        (),
        option,
        settings=(),
        trained=trained,
        main=bool(trained),
    )


def _euclidean(normalizer: Callable[[Tensor], Tensor]) -> Make:
    return lambda a: by_rule(Step(a, metric=metric.euclidean, normalizer=normalizer), "ils.sample")


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
        trained=_TRAINED_STEPS,
    )


def _tempered(
    name: str,
    factory: str,
    *source: str,
    family: str = "straight-through",
    sampled: bool = False,
    trained: tuple[float, ...] = _TRAINED_TEMPERATURES,
    train: Train | None = None,
    main: bool = True,
) -> Method:
    make = getattr(estimators, factory)
    return Method(
        name,
        family,
        factory,
        lambda t: make(temperature=t),
        source,
        "temperature",
        _TEMPERATURES,
        1.0,
        sampled,
        trained=trained,
        train=train,
        main=main,
    )


def _several(
    name: str,
    factory: str,
    source: str,
    samples: tuple[float, ...] = _SAMPLES,
    **training: Any,
) -> Method:
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
        several=lambda _, samples: make(samples=samples),
        **training,
    )


def _plain(
    name: str,
    factory: str,
    *source: str,
    family: str = "score function",
    binary: bool = False,
    sampled: bool = False,
    trained: tuple[float, ...] = _ONCE,
    limit: int = 10_000,
) -> Method:
    make = getattr(estimators, factory)
    return Method(
        name,
        family,
        factory,
        lambda _: make(),
        source,
        binary=binary,
        sampled=sampled,
        trained=trained,
        limit=limit,
    )


def _squares(y: Tensor) -> Tensor:
    """A surrogate for RELAX before it is fitted."""
    return (y**2).sum((-1, -2))


CATALOGUE: tuple[Method, ...] = (
    # --- a draw forward, a surrogate gradient backward
    _tempered(
        "straight-through",
        "straight_through",
        "bengio2013straightthrough",
        trained=_HIGH_TEMPERATURES,
    ),
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
        trained=(0.25, 0.5, 2.0),
    ),
    _tempered(
        "Gumbel-Rao",
        "gumbel_rao",
        "paulus2021raoblackwell",
        sampled=True,
        train=lambda t: estimators.gumbel_rao(temperature=t, samples=4),
    ),
    _tempered("gapped straight-through", "gapped_straight_through", "fan2022gapped", main=False),
    Method(
        "ReinMax (default)",
        "straight-through",
        "",
        lambda _: package_default(),
        ("liu2023reinmax",),
        settings=(),
        trained=_ONCE,
        main=True,
    ),
    _tempered("ReinMax", "reinmax", "liu2023reinmax", trained=_HIGH_TEMPERATURES),
    Method(
        "ReinMax, control variate",
        "straight-through",
        "reinmax_control_variate",
        lambda t: estimators.reinmax_control_variate(temperature=t),
        ("liu2023reinmax",),
        "temperature",
        _TEMPERATURES,
        1.0,
        sampled=True,
        mean=lambda t: estimators.reinmax(temperature=t),
        trained=_HIGH_TEMPERATURES,
        several=lambda t, n: estimators.reinmax_control_variate(samples=n, temperature=t),
        main=True,
    ),
    _plain("ZGR", "zgr", "shekhovtsov2023zgr", family="straight-through", trained=()),
    _plain("DARN", "darn", "gregor2014darn", family="straight-through"),
    _tempered("ReinMax-Rao", "reinmax_rao", "wang2026beyondreinmax", sampled=True, main=False),
    Method(
        "MVE",
        "straight-through",
        "mve",
        lambda tau: estimators.mve(tau=tau),
        ("hooper2026straightthrough",),
        "tau",
        (1.0, 10.0, 100.0, 1e6),
        1e6,
        trained=(1.0, 10.0, 1e6),
        limit=512,
    ),
    Method(
        "MVE, annealed",
        "straight-through",
        "",
        lambda _: estimators.mve(tau=1.0),
        ("hooper2026straightthrough",),
        settings=(),
        trained=_ONCE,
        train=lambda _: Annealed(lambda part: estimators.mve(tau=10 ** (6 * part))),
        limit=512,
        main=True,
    ),
    Method(
        "MVE for integers",
        "straight-through",
        "",
        lambda _: estimators.from_rule(Ordinal(), name="MVE for integers"),
        ("hooper2026straightthrough",),
        settings=(),
        ordinal=True,
        trained=_ONCE,
        main=True,
    ),
    # --- a point inside the simplex in place of the draw
    _tempered(
        "Gumbel-Softmax",
        "gumbel_softmax",
        "jang2017gumbel",
        "maddison2017concrete",
        family="relaxation",
        sampled=True,
    ),
    # --- a target that is better than the point it comes from
    _ils("ILS (the note)", trained=_TRAINED_STEPS, main=True),
    _ils("ILS, centred", gradient=_CENTRED, trained=_TRAINED_STEPS),
    _ils(
        "ILS, projected",
        gradient=_CENTRED,
        normalizer=simplex.project_simplex,
        trained=_TRAINED_STEPS,
    ),
    _ils("ILS, Fisher", gradient=_CENTRED, metric=fisher, keep_mass=True),
    _ils("ILS, Fisher, mass free", settings=(), gradient=_CENTRED, metric=fisher),
    _ils("ILS, mass kept", settings=(), gradient=_CENTRED, keep_mass=True),
    _ils("ILS (the note), mass kept", settings=(), keep_mass=True),
    _ils("ILS (the note's code)", settings=(), gradient=target.probs_gradient),
    _relative("ILS, relative step", package_default, trained=_TRAINED_STEPS),
    _relative("ILS, relative step, Euclidean", _euclidean(simplex.sum_normalize)),
    _relative("ILS, relative step, projected", _euclidean(simplex.project_simplex)),
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
        trained=_TRAINED_STEPS,
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
        trained=_TRAINED_STEPS,
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
        trained=(0.5, 0.9, 0.99),
        train=lambda decay: estimators.score_function_running(decay=decay, own_dims=1),
        main=True,
    ),
    _several("leave-one-out", "leave_one_out", "kool2019buy4", trained=_ONCE, main=True),
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
        trained=_COEFFICIENTS,
        several=lambda c, n: estimators.double_control_variate(samples=n, coefficient=c),
        main=True,
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
        trained=_COEFFICIENTS,
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
    _plain("DisARM, categorical", "disarm_categorical", "dong2021coupled", sampled=True, limit=256),
    _several(
        "unordered set",
        "unordered_set",
        "kool2020unordered",
        (2.0, 4.0),
        trained=_ONCE,
        most=4,
        single=True,
    ),
    _several(
        "sum-and-sample",
        "sum_and_sample",
        "kool2020unordered",
        (2.0, 4.0),
        trained=_ONCE,
        most=4,
        single=True,
    ),
)
"""All that :mod:`ils` makes for any categorical variable."""

METHODS = tuple(method for method in CATALOGUE if method.settings)
"""Those that the suite measures."""


def _by_its_problem(_: float) -> Estimator:
    raise LookupError("a method of one problem is made by that problem")


def _beside(name: str, family: str, *source: str) -> Method:
    return Method(name, family, "", _by_its_problem, source, settings=())


_ONE, _BEYOND, _BOUND = "one problem", "beyond categorical", "reference"

BESIDE: tuple[Method, ...] = (
    _beside("exact gradient", _BOUND),
    _beside("no gradient", _BOUND),
    _beside("marginals", _BOUND),
    _beside("gold clusters", _BOUND),
    _beside("VQ-VAE", _ONE, "vandenoord2017vqvae"),
    _beside("rotation trick", _ONE, "fifty2025rotation"),
    _beside("FSQ", _ONE, "mentzer2024fsq"),
    _beside("DAPS", _ONE, "drolet2026daps"),
    _beside("SparseMixer", _ONE, "liu2023sparsemixer"),
    _beside("SparseMixer 2", _ONE, "liu2024grin"),
    _beside("SIMPLE", _ONE, "ahmed2023simple"),
    _beside("SFESS", _ONE, "wijk2025sfess"),
    _beside("ILS, capped simplex", _ONE),
    _beside("I-MLE, top-k", _ONE, "niepert2021imle"),
    _beside("relaxed top-k", _ONE, "xie2019subsets"),
    _beside("ils.distributions", _BEYOND),
    _beside("any distribution", _BEYOND),
    _beside("order", _BEYOND, "he2026finite"),
    _beside("pathwise", _BEYOND, "jankowiak2018pathwise"),
    _beside("differences", _BEYOND, "cong2019go"),
    _beside("arrival times", _BEYOND, "vafaii2024poisson"),
    _beside("implicit", _BEYOND, "figurnov2018implicit"),
    _beside("stratified", _BEYOND),
    _beside("weights fixed", _BOUND),
)
"""What single problems make, and what stands for the best and the least that can be had."""

_BY_NAME = {one.name: one for one in (*CATALOGUE, *BESIDE)}

NAMES = tuple(_BY_NAME)
"""All names, in the order of the catalogue."""


def method(name: str) -> Method:
    """The method of this name.

    Raises:
        KeyError: there is none.
    """
    return _BY_NAME[name]
