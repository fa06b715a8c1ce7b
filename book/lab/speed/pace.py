"""``python -m lab pace``: time and memory of a training step, and what batching saves.

Part of ``make bench``: on a quiet machine, and with one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch

from lab.methods.annealed import Annealed
from lab.run import records
from lab.run.checkout import describe_checkout
from lab.run.machine import describe_machine
from lab.speed.footprint import peak
from lab.training.contestants import budgets
from lab.training.protocol import method_of, methods
from lab.training.task import Stream
from lab.training.tasks import TASKS
from lab.training.train import Adam, gradients

__all__ = ["PARTS", "SOURCES", "batching", "main", "step_of", "steps"]

SOURCES = "lab.speed.pace"
"""The module whose sources, with all that it imports, decide what is timed."""

_ROUNDS = 31
_MEASURED = ("vae-8x16", "experts")
_BATCHED = ("bits", "experts", "codebook", "vae-8x4", "vae-10x30")


def step_of(
    task_name: str, method: str, setting: float, runs: int, budget: int = 1
) -> Callable[[], None]:
    """A training step of so many runs, to be called again and again."""
    task = TASKS[task_name]
    stream = Stream(range(runs))
    generator = torch.Generator().manual_seed(0)
    parameters = {name: p.requires_grad_() for name, p in task.start(stream).items()}
    optimizer = Adam(parameters, torch.full((runs,), 1e-3), dict(task.fixed_rates))
    made, draws = method_of(task, method, setting, budget)
    if isinstance(made, Annealed):
        made = made.at(0.5)

    def step() -> None:
        batch = task.batch(parameters, stream, generator)
        optimizer.step(gradients(task, made, parameters, batch, generator, draws))

    return step


def _interleaved(calls: dict[tuple, Callable[[], None]], rounds: int) -> dict[tuple, float]:
    """Median seconds of each call, in turns, so that a disturbance affects all alike."""
    seconds: dict[tuple, list[float]] = {key: [] for key in calls}
    for one in [*calls.values()] * 3:  # the first calls take longer
        one()
    for _ in range(rounds):
        for key, one in calls.items():
            one()  # what ran before has left the caches to itself
            start = time.perf_counter()
            one()
            seconds[key].append(time.perf_counter() - start)
    return {key: statistics.median(values) for key, values in seconds.items()}


def steps(task_name: str, runs: int = 10) -> pd.DataFrame:
    """Milliseconds and peak megabytes of a step with each method, at its middle setting."""
    task = TASKS[task_name]
    calls = {}
    for name, method in methods(task).items():
        setting = method.settings[len(method.settings) // 2]
        least = 1 if name in task.own else budgets(name, task)[0]
        calls[task_name, name] = step_of(task_name, name, setting, runs, least)
    seconds = _interleaved(calls, _ROUNDS)
    rows = {
        key: {"milliseconds": 1e3 * seconds[key], "megabytes": peak(one) / 2**20}
        for key, one in calls.items()
    }
    index = pd.MultiIndex.from_tuples(rows, names=["task", "method"])
    return pd.DataFrame(list(rows.values()), index=index)


def batching(
    names: Sequence[str], counts: Sequence[int] = (1, 10, 24), method: str = "ReinMax (default)"
) -> pd.DataFrame:
    """Milliseconds of a step of one run and of several, and how much faster a run becomes."""
    calls = {(name, count): step_of(name, method, 0.0, count) for name in names for count in counts}
    seconds = _interleaved(calls, _ROUNDS)
    rows = {
        (name, count): {
            "milliseconds": 1e3 * found,
            "speed-up": count * seconds[name, 1] / found,
        }
        for (name, count), found in seconds.items()
    }
    index = pd.MultiIndex.from_tuples(rows, names=["task", "runs"])
    return pd.DataFrame(list(rows.values()), index=index)


PARTS: dict[str, Callable[[], pd.DataFrame]] = {
    "bench-steps": lambda: pd.concat([steps(task) for task in _MEASURED]),
    "bench-batching": lambda: batching(_BATCHED),
}


def main() -> None:
    """Write the records ``bench-steps`` and ``bench-batching``."""
    parser = argparse.ArgumentParser(description="Time the training steps of the sweep.")
    parser.add_argument("--folder", type=Path, default=Path("book/data"))
    folder = parser.parse_args().folder
    torch.set_num_threads(1)
    checkout = describe_checkout(SOURCES)
    configuration = {"seed": 0, "rounds": _ROUNDS, "threads": 1, "machine": describe_machine()}
    for name, table in PARTS.items():
        start = time.perf_counter()
        found = table()
        seconds = time.perf_counter() - start
        records.write(
            name,
            found,
            configuration=configuration,
            seconds=seconds,
            checkout=checkout,
            folder=folder,
        )
