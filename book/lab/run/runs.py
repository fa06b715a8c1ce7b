"""Runs of a sweep: their protocol, the search for their records, and the job of a worker."""

from __future__ import annotations

import dataclasses
import json
import time
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import pandas as pd
import torch

from ils import kernel
from lab.run import records
from lab.run.checkout import digest

__all__ = [
    "Checkouts",
    "Ended",
    "Run",
    "check",
    "configuration_of",
    "find",
    "module_of",
    "work",
    "write",
]

Checkouts: TypeAlias = Mapping[str, Mapping[str, str | None]]
"""For each module that defines runs, what :func:`lab.run.checkout.describe_checkout` says of it."""


class Run(Protocol):
    """A run of a sweep: a frozen dataclass; runs that are equal are run once.

    Four attributes are optional.  ``cost`` is a relative duration: the longest begin first.
    ``configuration``, a mapping, is recorded in place of the fields.  ``module`` names the module
    whose sources decide the numbers, in place of the one that defines the class.  ``begins``, a
    function of a table, makes the beginning of the run again and says whether the table has it: a
    record of other sources that does is taken over.
    """

    @property
    def name(self) -> str:
        """The name of the record."""
        ...

    def __call__(self) -> pd.DataFrame:
        """The table."""
        ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True)
class Ended:
    """What a worker returns: the table only where the caller writes the record."""

    seconds: float = 0.0
    table: pd.DataFrame | None = None
    error: str | None = None


def configuration_of(run: Run) -> dict[str, Any]:
    """What the record of a run holds as its configuration."""
    told: Mapping[str, Any] | None = getattr(run, "configuration", None)
    return dataclasses.asdict(run) if told is None else dict(told)  # type: ignore[call-overload]


def module_of(run: Run) -> str:
    """The module whose sources, with all that it imports, decide the numbers of a run."""
    return getattr(run, "module", type(run).__module__)


def find(run: Run, folder: Path) -> records.Record | None:
    """The record of a run, if it is whole, of the same configuration and of these sources."""
    try:
        record = records.read(run.name, folder)
        about = record.provenance
        same = _json(about["configuration"]) == _json(configuration_of(run))
        return record if same and about["sources"] == digest(module_of(run)) else None
    except (OSError, EOFError, LookupError, ValueError):
        return None


def work(run: Run, folder: Path | None, checkouts: Checkouts, fresh: bool = False) -> Ended:
    """In a worker: make the table, in two attempts at most, and write it if there is a folder."""
    torch.set_num_threads(1)
    checkout = checkouts[module_of(run)]
    if digest(module_of(run)) != checkout["sources"]:
        return Ended(error="the worker has other sources of ils than the caller")
    error = ""
    for _ in range(2):
        start = time.perf_counter()
        try:
            with kernel.disabled():
                known = None if fresh or folder is None else _of_other_sources(run, folder)
                table = run() if known is None else known.table
            spent = time.perf_counter() - start
            seconds = spent if known is None else float(known.provenance["seconds"])
            if folder is None:
                return Ended(seconds, table)
            write(run, table, seconds, folder, checkout)
            return Ended(seconds)
        except (Exception, SystemExit):
            error = traceback.format_exc().strip()
    return Ended(error=error)


def _of_other_sources(run: Run, folder: Path) -> records.Record | None:
    """A record of this configuration that begins as the present sources make it."""
    begins = getattr(run, "begins", None)
    try:
        record = records.read(run.name, folder)
        same = _json(record.provenance["configuration"]) == _json(configuration_of(run))
    except (OSError, EOFError, LookupError, ValueError):
        return None
    return record if same and begins is not None and begins(record.table) else None


def write(
    run: Run, table: pd.DataFrame, seconds: float, folder: Path, checkout: Mapping[str, str | None]
) -> None:
    """Write the record of a run."""
    records.write(
        run.name,
        table,
        configuration=configuration_of(run),
        seconds=seconds,
        folder=folder,
        checkout=checkout,
    )


def check(runs: Sequence[Run]) -> None:
    """Refuse names that would not do, and configurations that could not be written.

    Raises:
        ValueError: a name that is no file name, or that of two runs.
        TypeError: a configuration that is no JSON.
    """
    names = Counter(run.name for run in runs)
    if twice := sorted(name for name, count in names.items() if count > 1):
        raise ValueError(f"runs: expected different names, got {twice} more than once")
    for run in runs:
        if not run.name or Path(run.name).name != run.name:
            raise ValueError(f"runs: expected a file name, got {run.name!r}")
        _json(configuration_of(run))


def _json(value: Any) -> str:
    """JSON text, equal for values that JSON does not distinguish, such as a tuple and a list."""
    return json.dumps(json.loads(json.dumps(value)), sort_keys=True)
