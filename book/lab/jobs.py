"""``python -m lab results``: run what is too long for a notebook and write its records.

A record that was made from the present sources is kept; ``--fresh`` makes it anew.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from lab.beyond.families import quality as families
from lab.beyond.models import parts as models
from lab.beyond.models import visits
from lab.fixed_points import experiment as fixed_points
from lab.fixed_points import repaired
from lab.methods import quality
from lab.problems import enumerable as problems
from lab.run import records
from lab.run.engine import Run, execute, find
from lab.run.options import add_engine_options, engine_options, finish
from lab.toy import experiment as experiment1
from lab.training.again import Beginnings, beginnings
from lab.training.tuning import choose

__all__ = ["AFTER_TUNING", "PARTS", "Fair", "Part", "main", "modules", "phases"]

_TOY = {"learning_rate": experiment1.LEARNING_RATE, "eps": 1e-8, "problems": 5, "categories": 5}


def _configuration(**values: Any) -> dict[str, Any]:
    return _TOY | values


def _toy_batch(seed: str, **values: Any) -> dict[str, Any]:
    return {
        "seed": fixed_points.SEEDS[seed],
        "eps": fixed_points.EPS,
        "problems": fixed_points.PROBLEMS,
        "categories": 5,
    } | values


_CONTROLLED = _configuration(
    seed=experiment1.SEEDS["controlled"], groups=experiment1.GROUPS, steps=experiment1.STEPS
)

_TUNING = _configuration(
    seed=experiment1.SEEDS["tuning"],
    groups=experiment1.SWEEP_GROUPS,
    steps=experiment1.STEPS,
    learning_rate=list(experiment1.SWEEP_RATES),
)

_SUITE = {
    "seed": "by cell",
    "instances": problems.INSTANCES,
    "draws": quality.DRAWS,
    "shapes": problems.SHAPES,
    "scales": problems.SCALES,
}

PARTS: dict[str, tuple[Callable[..., pd.DataFrame], dict[str, Any]]] = {
    "toy-note": (
        experiment1.as_in_the_note,
        _configuration(seed=experiment1.SEEDS["note"], groups=6, steps=experiment1.STEPS),
    ),
    "toy-controlled": (experiment1.controlled, _CONTROLLED),
    "toy-corrected": (experiment1.corrected, _CONTROLLED),
    "toy-collapse": (
        experiment1.collapse,
        _configuration(
            seed=experiment1.SEEDS["controlled"],
            groups=experiment1.GROUPS,
            steps=experiment1.COLLAPSE_STEPS,
        ),
    ),
    "toy-gumbel-limits": (
        experiment1.gumbel_limits,
        _configuration(seed=experiment1.SEEDS["controlled"], groups=experiment1.GROUPS),
    ),
    "quality-pathwise": (partial(quality.quality_table, quality.PATHWISE), _SUITE),
    "quality-score": (partial(quality.quality_table, quality.SCORE), _SUITE),
    "families-quality": (
        families.quality,
        {"seed": 0, "instances": families.INSTANCES, "kinds": families.KINDS},
    ),
    "models-visits": (visits.record, visits.CONFIGURATION),
    "fixed-limits": (fixed_points.all_limits, _toy_batch("flows", steps=fixed_points.FLOW_STEPS)),
    "fixed-simulated": (
        fixed_points.simulate_flows,
        _toy_batch("flows", steps=fixed_points.SGD_STEPS),
    ),
    "fixed-ladder": (
        fixed_points.compare_on_ladder,
        _toy_batch(
            "ladder",
            evaluations=fixed_points.LADDER_EVALUATIONS,
            draws=fixed_points.LADDER_DRAWS,
            rates=fixed_points.LADDER_RATES,
        ),
    ),
    "fixed-repaired": (
        repaired.compare,
        {
            "seed": repaired.SEEDS["final"],
            "problems": repaired.PROBLEMS,
            "categories": 5,
            "evaluations": repaired.EVALUATIONS,
            "draws": repaired.DRAWS,
            "rates": repaired.RATES,
        },
    ),
    "toy-tuning-ils": (partial(experiment1.tuning, experiment1.ILS_METHODS), _TUNING),
    "toy-tuning-gumbel": (partial(experiment1.tuning, experiment1.GUMBEL_METHODS), _TUNING),
}

# Each needs the record of a sweep, which must be there first.
AFTER_TUNING = {
    "toy-fair-ils": ("toy-tuning-ils", experiment1.ILS_METHODS),
    "toy-fair-gumbel": ("toy-tuning-gumbel", experiment1.GUMBEL_METHODS),
}


@dataclass(frozen=True)
class Part:
    """A run of :data:`PARTS`, under its name there."""

    name: str

    @property
    def configuration(self) -> dict[str, Any]:
        """As in :data:`PARTS`."""
        return PARTS[self.name][1]

    @property
    def module(self) -> str:
        """That of the function."""
        function = PARTS[self.name][0]
        return getattr(function, "func", function).__module__

    def __call__(self) -> pd.DataFrame:
        return PARTS[self.name][0]()


@dataclass(frozen=True)
class Fair:
    """A comparison at the learning rates that a sweep chose.

    Attributes:
        name: in :data:`AFTER_TUNING`.
        chosen: the rows of :func:`lab.toy.experiment.choose`.
    """

    name: str
    chosen: tuple[tuple[str, str, str, float], ...]

    @property
    def module(self) -> str:
        """That of :func:`lab.toy.experiment.fair`."""
        return experiment1.fair.__module__

    @property
    def configuration(self) -> dict[str, Any]:
        """The learning rates, and what does not depend on them."""
        return _configuration(
            seed=experiment1.SEEDS["fair"],
            groups=experiment1.GROUPS,
            steps=experiment1.STEPS,
            learning_rate=self._rates().to_dict("records"),
        )

    def __call__(self) -> pd.DataFrame:
        return experiment1.fair(AFTER_TUNING[self.name][1], self._rates())

    def _rates(self) -> pd.DataFrame:
        columns = ["method", "schedule", "purpose", "rate"]
        return pd.DataFrame(list(self.chosen), columns=columns)


def _part(name: str, folder: Path) -> list[Run]:
    return [Part(name)]


def _fair(name: str, folder: Path) -> list[Run]:
    sweep = AFTER_TUNING[name][0]
    record = find(Part(sweep), folder)
    if record is None:
        raise LookupError(f"needs the record {sweep!r}, made from the present sources")
    chosen = experiment1.choose(record.table)
    return [Fair(name, tuple(chosen.itertuples(index=False, name=None)))]


def _begin(folder: Path) -> list[Run]:
    return [beginnings(choose(records.read("sweep-tuning", folder).table))]


Phase = dict[str, Callable[[Path], list[Run]]]


def phases() -> list[Phase]:
    """What there is to run, one phase after another.

    Returns:
        For each phase its parts: a name, by which it can be asked for, and a function that is
        given the folder of the records when the phase begins, and returns the runs.  It can read
        the records of earlier phases; if it raises ``LookupError`` or ``OSError``, its part fails
        and the others go on.
    """
    return [
        {name: partial(_part, name) for name in PARTS}
        | models.FIRST
        | {"sweep-beginnings": _begin},
        {name: partial(_fair, name) for name in AFTER_TUNING} | models.AFTER_TUNING,
    ]


def modules() -> dict[str, str]:
    """By record, the module whose sources, with its imports, decide the numbers."""
    parts = {name: Part(name).module for name in PARTS}
    fair = dict.fromkeys(AFTER_TUNING, experiment1.fair.__module__)
    return parts | fair | models.MODULES | {"sweep-beginnings": Beginnings.__module__}


def _run_phase(
    phase: Phase, wanted: Collection[str], folder: Path, options: dict[str, Any], made: list[str]
) -> dict[str, str]:
    """Run the wanted parts of a phase, and add the names of those run; what failed, and why."""
    runs: list[Run] = []
    failed: dict[str, str] = {}
    for name in [name for name in phase if name in wanted]:
        try:
            runs += phase[name](folder)
        except (LookupError, OSError) as error:
            failed[name] = str(error)
    made += [run.name for run in runs if options["fresh"] or find(run, folder) is None]
    outcome = execute(runs, folder=folder, report=tqdm.write, progress="runs", **options)
    return failed | {run.name: error for run, error in outcome.failed.items()}


def main() -> None:
    """Run all parts, or those named; the exit status is 1 if one failed."""
    steps = phases()
    everything = [name for phase in steps for name in phase]
    parser = argparse.ArgumentParser(description="Make the records of the long runs.")
    parser.add_argument("parts", nargs="*", default=everything)
    parser.add_argument("--folder", type=Path, default=Path("book/data"))
    add_engine_options(parser)
    wanted = parser.parse_args()
    if unknown := set(wanted.parts) - set(everything):
        parser.error(f"unknown parts {sorted(unknown)}; there are {everything}")
    options = engine_options(parser, wanted)
    start = time.perf_counter()
    failed: dict[str, str] = {}
    made: list[str] = []
    try:
        for phase in steps:
            failed |= _run_phase(phase, wanted.parts, wanted.folder, options, made)
    except (ImportError, OSError) as error:
        failed["all that is left"] = str(error)
    if made or failed:
        print(f"{len(made)} made in {time.perf_counter() - start:.0f} s")
    else:
        print("nothing is to be done: every record is current")
    finish(failed)
