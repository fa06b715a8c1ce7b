"""Run a sweep: a list of frozen configurations, each of which makes a table and becomes a record.

A run is a frozen dataclass that can be pickled and hashed::

    @dataclass(frozen=True)
    class Training:
        method: str
        seed: int

        @property
        def name(self) -> str:  # of its record, unique in the sweep
            return f"training-{self.method}-{self.seed}"

        def __call__(self) -> pd.DataFrame: ...

:func:`execute` hands runs to processes of this machine, or to the workers of a dask scheduler.
Each has one thread and the pure form, and a run takes its randomness from generators of its own:
so the tables are the same, bit for bit, however many workers there are, on processors of one kind.
A run is on disk as soon as it ends, and is not run again while its configuration and the sources
stay what they were.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from lab.run import pools, records
from lab.run.checkout import describe_checkout
from lab.run.runs import (
    Checkouts,
    Ended,
    Run,
    check,
    configuration_of,
    find,
    module_of,
    work,
    write,
)

__all__ = ["Outcome", "Run", "configuration_of", "execute", "find"]


@dataclass(frozen=True)
class Outcome:
    """What became of the runs of a sweep, in their order.

    Attributes:
        tables: as they stand in the records, whether run now or before.
        failed: the error of each run that made none.
    """

    tables: dict[Run, pd.DataFrame]
    failed: dict[Run, str]


def execute(
    runs: Sequence[Run],
    *,
    folder: Path,
    workers: int = 2,
    engine: str = "processes",
    address: str | None = None,
    progress: str | None = None,
    fresh: bool = False,
    report: Callable[[str], None] | None = None,
) -> Outcome:
    """Run what has no record yet, and read what has one.

    A run that raises is tried once more by its worker.  Those under way when a worker dies are
    tried once more when all others have ended, one at a time, so that none suffers from another.
    What fails twice is reported, and the others go on.  If this function is interrupted, the
    records of the runs that have ended are there.

    Args:
        runs: of different names.
        folder: of the records.  Processes write there themselves; from dask, whose workers may
            be elsewhere, tables come back and are written here.
        workers: how many runs are under way at once.
        engine: ``processes``, or ``dask``.
        address: of the dask scheduler, ``HOST:PORT``.
        progress: title of a progress bar; it shows in a terminal only.
        fresh: run all, records or not.
        report: called with a line for each run.

    Raises:
        ValueError: names that are no file names or not unique, no workers, or an unknown engine.
        TypeError: a configuration that cannot be written as JSON.
        ImportError: dask is asked for and not installed.
        OSError: no scheduler answers at the address, or it has had no worker for a minute.
    """
    # Workers may have another working folder.
    folder, unique = folder.resolve(), list(dict.fromkeys(runs))
    check(unique)
    if engine not in pools.ENGINES:
        raise ValueError(f"engine: expected one of {pools.ENGINES}, got {engine!r}")
    if engine == "dask" and not address:
        raise ValueError("address: expected that of a dask scheduler, HOST:PORT, got none")
    if workers < 1:
        raise ValueError(f"workers: expected at least 1, got {workers}")
    checkouts = {module: describe_checkout(module) for module in set(map(module_of, unique))}
    sweep = _Sweep(folder, report or (lambda line: None), checkouts)
    known = {} if fresh else {run: record for run in unique if (record := find(run, folder))}
    for run, record in known.items():
        sweep.tables[run] = record.table
        sweep.report(f"{run.name}: in {folder} already")
    todo = sorted((run for run in unique if run not in known), key=_cost, reverse=True)
    open_pool = functools.partial(pools.open_pool, engine, address=address)
    # Processes write for themselves: what they have finished does not depend on the caller.
    job = functools.partial(
        work, folder=folder if engine == "processes" else None, checkouts=checkouts, fresh=fresh
    )
    with tqdm(
        total=len(unique),
        initial=len(known),
        desc=progress,
        disable=True if progress is None else None,
        smoothing=0,
    ) as bar:
        suspects = sweep.run(deque(todo), job, open_pool, workers, bar)
        lost = sweep.run(deque(suspects), job, open_pool, 1, bar)
        for run, error in lost.items():
            sweep.fail(run, error, bar)
    return Outcome(
        tables={run: sweep.tables[run] for run in unique if run in sweep.tables},
        failed={run: sweep.failed[run] for run in unique if run in sweep.failed},
    )


class _Sweep:
    """Collects what ends."""

    def __init__(self, folder: Path, report: Callable[[str], None], checkouts: Checkouts) -> None:
        self.folder, self.report, self.checkouts = folder, report, checkouts
        self.tables: dict[Run, pd.DataFrame] = {}
        self.failed: dict[Run, str] = {}

    def run(
        self,
        waiting: deque[Run],
        job: Callable[[Run], Ended],
        open_pool: Callable[..., Any],
        limit: int,
        bar: tqdm[Any],
    ) -> dict[Run, str]:
        """Run all that wait, with a new pool whenever one breaks; what was lost, and why."""
        lost: dict[Run, str] = {}
        while waiting:
            before = len(waiting)
            with open_pool(workers=min(limit, before)) as pool:
                for run, future in pools.as_they_end(waiting, job, pool, limit):
                    if (error := _loss(future)) is None:
                        self.take(run, future.result(), bar)
                    else:
                        lost[run] = error
            if len(waiting) == before:
                raise RuntimeError(f"{pool.name}: takes no job")
        return lost

    def take(self, run: Run, ended: Ended, bar: tqdm[Any]) -> None:
        """Write what the worker has not written, and read the record."""
        if ended.error is not None:
            self.fail(run, ended.error, bar)
            return
        try:
            if ended.table is not None:
                checkout = self.checkouts[module_of(run)]
                write(run, ended.table, ended.seconds, self.folder, checkout)
            table = records.read(run.name, self.folder).table
        except (OSError, TypeError, ValueError) as error:
            self.fail(run, f"{type(error).__name__}: {error}", bar)
            return
        self.tables[run] = table
        self.report(f"{run.name}: {len(table)} rows in {ended.seconds:.0f} s")
        bar.update()

    def fail(self, run: Run, error: str, bar: tqdm[Any]) -> None:
        self.failed[run] = error
        # The last line of a traceback is the exception; a lost run has no traceback.
        line = error.splitlines()[-1 if error.startswith("Traceback") else 0]
        self.report(f"{run.name}: failed, {line}")
        bar.set_postfix(failed=len(self.failed), refresh=False)
        bar.update()


def _loss(future: Future[Any]) -> str | None:
    """Why a job was lost although it raised nothing itself; an interrupt is raised again."""
    if future.cancelled():
        return "cancelled by the scheduler"
    error = future.exception()
    if isinstance(error, KeyboardInterrupt):
        raise error
    return None if error is None else f"{type(error).__name__}: {error}"


def _cost(run: Run) -> float:
    return float(getattr(run, "cost", 0.0))
