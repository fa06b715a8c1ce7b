"""``python -m lab sweep``: tune every method on every problem, run it, write the records.

Each run has a record of its own in a scratch folder, so that an interrupted sweep resumes where it
stopped; at the end they are merged into the few records that the book reads.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from lab.benchmarks.studies import Pictures, Trajectory
from lab.run import records
from lab.run.checkout import describe_checkout
from lab.run.engine import Run, execute
from lab.run.options import add_engine_options, engine_options, finish
from lab.training.curves import curves
from lab.training.protocol import (
    COPIES,
    DEFAULT,
    FINAL_SEEDS,
    PLAIN,
    Entry,
    Training,
    entries,
    explored,
    final_run,
    published_runs,
)
from lab.training.tasks import TASKS, TUNED
from lab.training.tuning import choose, table_of, tune

__all__ = ["SOURCES", "main", "sweep"]

SOURCES = "lab.benchmarks.sweep"
"""The module whose sources, with all that it imports, decide the numbers."""

_STUDIED = "vae-8x4"
_PICTURED = "vae-8x16"
_PAINTERS = (DEFAULT, "ILS (the note)", "straight-through", "Gumbel-Softmax")

Execute = Callable[[Sequence[Any]], Mapping[Any, pd.DataFrame]]


def sweep(names: Sequence[str], run: Execute, device: str) -> dict[str, pd.DataFrame]:
    """The tables of the problems named.

    Args:
        names: keys of :data:`lab.training.tasks.TASKS` that are tuned.
        run: executes runs; those that fail are missing from what it returns.
        device: where to train.
    """
    plain = tune(entries(names), run, device)
    chosen = choose(table_of(plain))
    more = tune([one for one in explored(chosen) if one.task in names], run, device)
    tuned = table_of(plain | more)
    chosen = choose(tuned)
    finals: list[Run] = [_final(key, row, device) for key, row in chosen.iterrows()]
    if set(names) == set(TUNED):
        finals += [*published_runs(device), *_studies(chosen)]
    done = run(finals)
    tables = {"sweep-tuning": tuned}
    trained = [table for one, table in done.items() if isinstance(one, Training)]
    if trained:
        tables["sweep-final"] = pd.concat([curves(table) for table in trained])
    for one, table in done.items():
        if isinstance(one, Trajectory):
            tables["vae-quality"] = table
        if isinstance(one, Pictures):
            tables["vae-pictures"] = table
    return tables


def _final(key: Any, row: pd.Series, device: str) -> Training:
    task, method, budget, copy, exploration = key
    setting, weight = float(row["setting"]), float(row["weight"])
    base, tuned = (0.0, setting) if exploration == PLAIN else (setting, weight)
    entry = Entry(task, method, int(budget), int(copy), exploration, base)
    return final_run(entry, tuned, float(row["learning_rate"]), device)


def _studies(chosen: pd.DataFrame) -> list[Run]:
    """Bias and variance along a run, and pictures, at the chosen settings."""
    plain = chosen.xs((0, PLAIN), level=("copy", "exploration")).reset_index("budget")
    plain = plain[~plain.index.duplicated()]  # the least budget of each
    studied, pictured = plain.loc[_STUDIED], plain.loc[_PICTURED]
    measured = tuple(
        (name, float(row["setting"]), int(row["budget"]))
        for name, row in studied.iterrows()
        if name not in ("exact gradient", "MVE, annealed", *TASKS[_STUDIED].own)
    )
    begin = studied.loc[DEFAULT]
    trained = tuple(
        (name, float(pictured.loc[name, "setting"]), float(pictured.loc[name, "learning_rate"]))
        for name in _PAINTERS
    )
    rate = float(begin["learning_rate"])
    return [Trajectory(_STUDIED, DEFAULT, 0.0, rate, measured), Pictures(_PICTURED, trained)]


def _seconds(runs: Mapping[Run, float]) -> pd.DataFrame:
    """Seconds of each entry: of all its trials, and of its final run."""
    rows: dict[tuple, dict[str, float]] = {}
    for one, spent in runs.items():
        if isinstance(one, Training):
            entry = one.entry
            key = (entry.task, entry.method, entry.budget, entry.copy, entry.exploration)
            part = "final" if one.split == "test" else "tuning"
            row = rows.setdefault(key, {"tuning": 0.0, "final": 0.0})
            row[part] += spent
    names = ["task", "method", "budget", "copy", "exploration"]
    index = pd.MultiIndex.from_tuples(rows, names=names)
    return pd.DataFrame(list(rows.values()), index=index)


def main() -> None:
    """Run the sweep; the exit status is 1 if a run failed, and the rest is kept."""
    parser = argparse.ArgumentParser(description="Tune and compare the methods on every problem.")
    parser.add_argument("tasks", nargs="*", default=list(TUNED))
    parser.add_argument("--folder", type=Path, help="of the records")
    parser.add_argument("--runs", type=Path, default=Path("_build/sweep"), help="of single runs")
    add_engine_options(parser)
    parser.add_argument("--device", default="cpu", help="where to train")
    wanted = parser.parse_args()
    if unknown := set(wanted.tasks) - set(TUNED):
        parser.error(f"unknown tasks {sorted(unknown)}; there are {list(TUNED)}")
    # The records of the book hold all problems: a part of them must not take their place.
    part = set(wanted.tasks) != set(TUNED)
    folder = wanted.folder or (wanted.runs / "some-problems" if part else Path("book/data"))
    options = engine_options(parser, wanted)
    failed: dict[str, str] = {}
    spent: dict[Run, float] = {}

    def run(runs: Sequence[Run]) -> dict[Run, pd.DataFrame]:
        outcome = execute(runs, folder=wanted.runs, report=tqdm.write, progress="sweep", **options)
        failed.update({one.name: error for one, error in outcome.failed.items()})
        for one in outcome.tables:
            record = wanted.runs / f"{one.name}.json"
            spent[one] = json.loads(record.read_text("utf-8"))["seconds"]
        return outcome.tables

    try:
        tables = sweep(wanted.tasks, run, wanted.device)
    except (ImportError, OSError) as error:
        finish(failed | {"the sweep": str(error)})
    if spent:
        tables["sweep-seconds"] = _seconds(spent)
    # The seconds of all runs, including those of earlier calls.
    seconds = sum(spent.values()) / wanted.workers
    configuration: dict[str, Any] = {
        "seed": list(FINAL_SEEDS),
        "copies": {str(budget): count for budget, count in COPIES.items()},
        "steps": {name: TASKS[name].steps for name in wanted.tasks},
        "rates": {name: list(TASKS[name].rates) for name in wanted.tasks},
        "workers": wanted.workers,
        "device": wanted.device,
        "failed": sorted(failed),
    }
    for name, table in tables.items():
        records.write(
            name,
            table,
            configuration=configuration,
            seconds=seconds,
            checkout=describe_checkout(SOURCES),
            folder=folder,
        )
        print(f"wrote {folder / name}")
    print(f"{len(spent)} runs, {seconds:.0f} s with {wanted.workers} workers")
    finish(failed)
