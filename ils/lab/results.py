"""``python -m ils.lab.results``: run what is too long for a notebook and write its records."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ils.lab import experiment1, fixed_points, problems, quality, records

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
    "toy-tuning-ils": (partial(experiment1.tuning, experiment1.ILS_METHODS), _TUNING),
    "toy-tuning-gumbel": (partial(experiment1.tuning, experiment1.GUMBEL_METHODS), _TUNING),
}

# Each needs the record of a sweep, which must be there first.
AFTER_TUNING = {
    "toy-fair-ils": ("toy-tuning-ils", experiment1.ILS_METHODS),
    "toy-fair-gumbel": ("toy-tuning-gumbel", experiment1.GUMBEL_METHODS),
}


def _run(name: str, folder: Path) -> str:
    """Run one part in a process of its own and write its record."""
    torch.set_num_threads(1)
    function, configuration = PARTS[name]
    start = time.perf_counter()
    table = function(progress=name)
    seconds = time.perf_counter() - start
    records.write(name, table, configuration=configuration, seconds=seconds, folder=folder)
    return f"{name}: {len(table)} rows in {seconds:.0f} s"


def _fair(name: str, folder: Path) -> str:
    """The comparison at the learning rates that a sweep chose."""
    torch.set_num_threads(1)
    sweep, methods = AFTER_TUNING[name]
    chosen = experiment1.choose(records.read(sweep, folder).table)
    start = time.perf_counter()
    table = experiment1.fair(methods, chosen, progress=name)
    seconds = time.perf_counter() - start
    configuration = _configuration(
        seed=experiment1.SEEDS["fair"],
        groups=experiment1.GROUPS,
        steps=experiment1.STEPS,
        learning_rate=chosen.to_dict("records"),
    )
    records.write(name, table, configuration=configuration, seconds=seconds, folder=folder)
    return f"{name}: {len(table)} rows in {seconds:.0f} s"


def main() -> None:
    """Run all parts, or those named."""
    everything = [*PARTS, *AFTER_TUNING]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=everything)
    parser.add_argument("--folder", type=Path, default=Path("book/data"))
    parser.add_argument("--workers", type=int, default=2)
    wanted = parser.parse_args()
    if unknown := set(wanted.parts) - set(everything):
        parser.error(f"unknown parts {sorted(unknown)}; there are {everything}")
    start = time.perf_counter()
    with ProcessPoolExecutor(wanted.workers) as pool:
        for run, names in ((_run, PARTS), (_fair, AFTER_TUNING)):
            jobs = [pool.submit(run, n, wanted.folder) for n in names if n in wanted.parts]
            for job in jobs:
                print(job.result(), flush=True)
    print(f"all in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
