"""Experiment 1, the note's toy: its parts, each one batched run with a fixed protocol.

(a) :func:`as_in_the_note`: six settings, six random groups.  (b) :func:`controlled` and
:func:`corrected`: the same 200 groups for every setting.  (c) :func:`tuning` and :func:`fair`: a
learning-rate sweep on groups of its own, and the best of each method on fresh ones.
(d) :func:`collapse`: the exact gradient of the toy's own bound.
:func:`ils_limits` and :func:`gumbel_limits`: the fixed points.

Every part has a seed of its own and takes ``stop``, to run only its first steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from ils.simplex import sum_normalize_unclamped
from ils.target import centred_gradient, probs_gradient
from lab.methods.gumbel_limit import gumbel_limit, sobol_gumbel
from lab.problems.toy import Toy, ils_limit, keep_mass_threshold, random_toy
from lab.toy.analysis import end, first_below, split_settings
from lab.toy.simulate import (
    Block,
    Bound,
    Gumbel,
    Intermediate,
    Noise,
    constant,
    linear_decay,
    record_steps,
    simulate,
)

__all__ = [
    "GUMBEL_METHODS",
    "ILS_METHODS",
    "as_in_the_note",
    "choose",
    "collapse",
    "controlled",
    "controlled_toy",
    "corrected",
    "fair",
    "gumbel_limits",
    "ils_limits",
    "tuning",
]

Methods = Mapping[str, Callable[[int], Callable[[Tensor, Toy, Noise], Tensor]]]

STEPS = 50_000
LEARNING_RATE = 0.01
STEP_SIZES = (0.1, 0.01, 0.001)
TEMPERATURES = (0.1, 1.0, 10.0)
GROUPS = 200
# The problems of a part have its seed, its noise the two seeds that follow: none overlap.
SEEDS = {"note": 14, "controlled": 10, "tuning": 2019, "fair": 2030}

# Names of the catalogue.
_CODE, _NOTE, _KEPT = "ILS (the note's code)", "ILS (the note)", "ILS (the note), mass kept"

NOTE_SETTINGS = tuple(f"{_CODE}, step {a:g}" for a in STEP_SIZES) + tuple(
    f"Gumbel-Softmax, T = {t:g}" for t in TEMPERATURES
)

COLLAPSE_STEPS = 200_000

SWEEP_GROUPS = 20
SWEEP_RATES = tuple(10 ** (power / 2) for power in range(-6, 3))
SWEEP_TEMPERATURES = (0.1, 0.25, 0.5, 1.0, 10.0)
SPEED_LEVEL = 0.005


def _toy(groups: int, seed: int) -> Toy:
    """The problems of a part; its noise has the seeds that follow."""
    return random_toy(groups, generator=torch.Generator().manual_seed(seed))


def _run(
    part: str,
    toy: Toy,
    blocks: Sequence[Block],
    stop: int | None,
    progress: str | None,
    *,
    steps: int = STEPS,
    every: int | None = None,
    bound: bool = False,
) -> pd.DataFrame:
    """Simulate a part with the noise that belongs to it; with ``bound``, measure that too."""
    return simulate(
        toy,
        blocks,
        steps=steps,
        seed=SEEDS[part] + 1,
        record=record_steps(steps, every=every),
        measures=[toy.divergence, toy.bound] if bound else [toy.divergence],
        stop=stop,
        progress=progress,
    )


def _note_blocks() -> list[Block]:
    """The note's six settings with the note's gradient, learning rate and unclamped ``h``."""
    note = Intermediate(STEP_SIZES, gradient=probs_gradient, normalizer=sum_normalize_unclamped)
    rates = [LEARNING_RATE] * 3
    return [
        Block(NOTE_SETTINGS[:3], note, rates),
        Block(NOTE_SETTINGS[3:], Gumbel(TEMPERATURES), rates),
    ]


def as_in_the_note(*, stop: int | None = None, progress: str | None = None) -> pd.DataFrame:
    """(a) The six settings on six random groups; the note's panels are setting ``k``, group ``k``.

    Every setting runs on every group, so that a panel can be set against the same setting on
    other problems.
    """
    toy = _toy(len(NOTE_SETTINGS), SEEDS["note"])
    return _run("note", toy, _note_blocks(), stop, progress, every=250)


def controlled_toy() -> Toy:
    """The 200 groups of parts (b) and (d)."""
    return _toy(GROUPS, SEEDS["controlled"])


def controlled(*, stop: int | None = None, progress: str | None = None) -> pd.DataFrame:
    """(b) The note's six settings, all on the same 200 groups."""
    return _run("controlled", controlled_toy(), _note_blocks(), stop, progress)


def corrected(*, stop: int | None = None, progress: str | None = None) -> pd.DataFrame:
    """(b) The corrected gradient and its variants on the groups and draws of :func:`controlled`."""
    toy = controlled_toy()
    threshold = keep_mass_threshold(toy.eps, toy.size)
    names = [f"{_NOTE}, step {a:g}" for a in STEP_SIZES]
    blocks = [
        Block(names, Intermediate(STEP_SIZES), [LEARNING_RATE] * 3),
        Block(
            ["ILS, centred, step 0.01"],
            Intermediate([0.01], gradient=centred_gradient),
            [LEARNING_RATE],
        ),
        Block(
            [f"{_KEPT}, step 0.1 eps N K", f"{_KEPT}, step eps N K"],
            Intermediate([0.1 * threshold, threshold], keep_mass=True),
            [LEARNING_RATE] * 2,
        ),
    ]
    return _run("controlled", toy, blocks, stop, progress)


def collapse(*, stop: int | None = None, progress: str | None = None) -> pd.DataFrame:
    """(d) Exact gradient descent on the toy's own bound, on the groups of (b)."""
    toy = _toy(GROUPS, SEEDS["controlled"])
    return _run(
        "controlled",
        toy,
        [Block(["exact gradient of the bound"], Bound(), [LEARNING_RATE])],
        stop,
        progress,
        steps=COLLAPSE_STEPS,
        bound=True,
    )


def _intermediate(step_size: float, **options: Any) -> Callable[[int], Intermediate]:
    return lambda count: Intermediate([step_size] * count, **options)


def _gumbel(temperature: float) -> Callable[[int], Gumbel]:
    return lambda count: Gumbel([temperature] * count)


_ONE = keep_mass_threshold(1e-8, 25)  # the step size at which c = alpha / (eps N K) is 1

# Methods of the fair comparison: each makes a rule for a number of settings.
ILS_METHODS: Methods = {
    _CODE: _intermediate(0.01, gradient=probs_gradient),
    f"{_CODE}, c = 1": _intermediate(_ONE, gradient=probs_gradient),
    f"{_CODE}, c = 0.1": _intermediate(0.1 * _ONE, gradient=probs_gradient),
    _NOTE: _intermediate(0.01),
    f"{_KEPT}, c = 0.1": _intermediate(0.1 * _ONE, keep_mass=True),
    f"{_KEPT}, c = 1": _intermediate(_ONE, keep_mass=True),
}
GUMBEL_METHODS: Methods = {f"Gumbel-Softmax, T = {t:g}": _gumbel(t) for t in SWEEP_TEMPERATURES}


def _sweep(methods: Methods, rates: Mapping[tuple[str, str], Sequence[float]]) -> list[Block]:
    """For each method and schedule its learning rates; named "method | schedule | rate"."""
    schedules = {"constant": constant, "decay": linear_decay}
    return [
        Block(
            [f"{method} | {schedule} | {rate:.4g}" for rate in values],
            methods[method](len(values)),
            values,
            schedules[schedule],
        )
        for (method, schedule), values in rates.items()
    ]


def tuning(
    methods: Methods, *, stop: int | None = None, progress: str | None = None
) -> pd.DataFrame:
    """(c) Every method, schedule and learning rate on 20 groups that nothing else uses.

    Args:
        methods: :data:`ILS_METHODS` or :data:`GUMBEL_METHODS`; problems and draws do not depend
            on which run together.
        stop, progress: as in :func:`lab.toy.simulate.simulate`.

    Returns:
        Means over the groups.
    """
    toy = _toy(SWEEP_GROUPS, SEEDS["tuning"])
    rates = {(m, s): SWEEP_RATES for m in methods for s in ("constant", "decay")}
    curves = _run("tuning", toy, _sweep(methods, rates), stop, progress)
    return curves.groupby(["setting", "measure"], sort=False).mean()


def choose(tuned: pd.DataFrame) -> pd.DataFrame:
    """Pick learning rates from :func:`tuning`.

    For the purpose "end" the lowest mean divergence over the last fifth of the run, for each
    schedule; for "speed" the first below ``SPEED_LEVEL``, at a constant rate.  A method that
    never gets there has none for speed.

    Returns:
        One row a method, schedule and purpose, with the rate.
    """
    table = split_settings(tuned.index.get_level_values("setting"))
    table["end"] = end(tuned).to_numpy()
    table["speed"] = first_below(tuned, SPEED_LEVEL).to_numpy()
    picks = []
    for (method, schedule), part in table.groupby(["method", "schedule"], sort=False):
        for purpose in ("end", "speed") if schedule == "constant" else ("end",):
            best = part.loc[part[purpose].idxmin()]
            if best[purpose] < float("inf"):
                picks.append((method, schedule, purpose, best["rate"]))
    return pd.DataFrame(picks, columns=["method", "schedule", "purpose", "rate"])


def fair(
    methods: Methods,
    chosen: pd.DataFrame,
    *,
    stop: int | None = None,
    progress: str | None = None,
) -> pd.DataFrame:
    """(c) The chosen learning rates on 200 fresh groups.

    Args:
        methods: as in :func:`tuning`.
        chosen: from :func:`choose`.
        stop, progress: as in :func:`lab.toy.simulate.simulate`.
    """
    toy = _toy(GROUPS, SEEDS["fair"])
    rates = {
        key: sorted(set(part["rate"]))
        for key, part in chosen.groupby(["method", "schedule"], sort=False)
    }
    return _run("fair", toy, _sweep(methods, rates), stop, progress)


def ils_limits() -> pd.DataFrame:
    """Divergence at the fixed point of each ILS setting of (b), one row a group.

    From the stationary distribution of its transition matrix.
    """
    toy = controlled_toy()
    models = {
        f"{_CODE}, step {a:g}": ils_limit(toy, step_size=a, normalizer=sum_normalize_unclamped)
        for a in STEP_SIZES
    }
    models |= {f"{_NOTE}, step {a:g}": ils_limit(toy, step_size=a) for a in STEP_SIZES}
    # Centring changes no expectation, so no fixed point.
    models["ILS, centred, step 0.01"] = models[f"{_NOTE}, step 0.01"]
    models |= {
        f"{_KEPT}, step {label}": ils_limit(toy, step_size=a, keep_mass=True)
        for label, a in {"0.1 eps N K": 0.1 * _ONE, "eps N K": _ONE}.items()
    }
    return _divergences(toy, models)


def gumbel_limits(
    *,
    temperatures: Sequence[float] = (10.0, 1.0, 0.5, 0.1),
    groups: int = GROUPS,
    points: int = 2**11,
    progress: str | None = None,
) -> pd.DataFrame:
    """Divergence at the fixed point of relaxed Gumbel-Softmax, one row a group.

    Args:
        temperatures: those to solve for.
        groups: how many of the groups of (b).
        points: quasi-random noises over which the expected relaxed loss is minimised.
        progress: title of a progress bar; it shows in a terminal only.
    """
    toy = controlled_toy()
    toy = replace(toy, p=toy.p[:groups], start=toy.start[:groups])
    flat = toy.p.flatten(0, 1)
    noise = sobol_gumbel(points, flat.shape[-1])
    models = {}
    for t in tqdm(temperatures, desc=progress, disable=True if progress is None else None):
        model, _ = gumbel_limit(flat, t, eps=toy.eps, noise=noise, iterations=60)
        models[f"Gumbel-Softmax, T = {t:g}"] = model.reshape(toy.p.shape)
    return _divergences(toy, models)


def _divergences(toy: Toy, models: Mapping[str, Tensor]) -> pd.DataFrame:
    columns = {name: toy.divergence(model).tolist() for name, model in models.items()}
    return pd.DataFrame(columns).rename_axis("group")
