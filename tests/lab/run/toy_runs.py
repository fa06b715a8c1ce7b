"""Runs for the tests of sweeps, in a module of their own: workers import it, and nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from lab.run.pools import Pool

__all__ = ["Numbers", "attempts", "threads"]


@contextmanager
def threads(engine: str, workers: int, address: str | None) -> Iterator[Pool]:
    """In place of processes, which take seconds to begin, where those are not the point."""
    assert (engine, address) == ("processes", None)
    with ThreadPoolExecutor(workers) as executor:
        yield Pool(executor, lambda: True, "threads")


@dataclass(frozen=True)
class Numbers:
    """Sums whose last bits depend on their order, with a line in a log for each attempt.

    Attributes:
        seed: of the generator.
        log: a file.
        deed: what happens besides: ``raise``, ``exit`` or ``interrupt``, or one of them ``once``.
        cost: relative.
        seconds: time that passes.
    """

    seed: int
    log: str
    deed: str = ""
    cost: float = 1.0
    seconds: float = 0.0

    @property
    def name(self) -> str:
        return f"numbers-{self.seed}"

    def __call__(self) -> pd.DataFrame:
        with open(self.log, "a") as log:
            log.write(f"{self.name}\n")
        time.sleep(self.seconds)
        what, _, once = self.deed.partition(" ")
        if what and (not once or attempts(self.log).count(self.name) == 1):
            misbehave(what)
        generator = torch.Generator().manual_seed(self.seed)
        values = torch.randn(200, 200, generator=generator)
        values = (values @ values.softmax(-1)).logsumexp(-1).double()
        # Records keep seven digits of a number, but every bit of an integer.
        columns = {"value": values, "bits": values.view(torch.int64)}
        table = pd.DataFrame({name: column.numpy() for name, column in columns.items()})
        return table.assign(threads=torch.get_num_threads()).rename_axis("row")


def misbehave(what: str) -> None:
    if what == "raise":
        raise ZeroDivisionError("as it was told")
    if what == "interrupt":
        raise KeyboardInterrupt
    os._exit(7)


def attempts(log: str | Path) -> list[str]:
    """The names in a log, in the order in which they began."""
    path = Path(log)
    return path.read_text().splitlines() if path.exists() else []
