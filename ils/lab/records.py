"""Records of long runs: a table, and beside it how it came about.

A record ``name`` is two files: ``name.csv.gz``, the table, and ``name.json``, its configuration,
versions, machine and time.  Each is written whole or not at all.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import ils

__all__ = ["FOLDER", "Record", "difference", "read", "write"]

FOLDER = Path("data")
"""Where notebooks find records: they run in the folder ``book``."""

_DIGITS = 7


@dataclass(frozen=True)
class Record:
    """A table and its provenance."""

    table: pd.DataFrame
    provenance: Mapping[str, Any]

    def describe(self) -> str:
        """One line for the reader: when, how long, on what."""
        about = self.provenance
        return (
            f"{about['name']}: seed {about['configuration']['seed']}, "
            f"{about['seconds']:.0f} s on {about['date']}, torch {about['versions']['torch']}"
        )


def write(
    name: str,
    table: pd.DataFrame,
    *,
    configuration: Mapping[str, Any],
    seconds: float,
    folder: Path = FOLDER,
) -> None:
    """Write a record; numbers keep seven digits.

    Args:
        name: file name without ending.
        table: index and columns are kept.
        configuration: everything that decides the numbers, the seed among it.
        seconds: wall time of the run.
        folder: where to.

    Raises:
        ValueError: a level of the index has no name; it could not be read back.
    """
    if None in table.index.names:
        raise ValueError(f"table: expected names for the index, got {list(table.index.names)}")
    provenance = {
        "name": name,
        "configuration": dict(configuration),
        "index": list(table.index.names),
        "rows": len(table),
        "digits": _DIGITS,
        "seconds": round(seconds, 1),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {
            "ils": ils.__version__,
            "numpy": np.__version__,
            "pandas": pd.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "machine": {"system": platform.system(), "processor": platform.machine()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    data, about = folder / f"{name}.csv.gz", folder / f"{name}.json"
    # A fixed time stamp inside the archive: the same numbers give the same bytes.
    table.to_csv(
        _partial(data),
        float_format=f"%.{_DIGITS}g",
        compression={"method": "gzip", "mtime": 0},
    )
    _partial(about).write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")
    os.replace(_partial(data), data)
    os.replace(_partial(about), about)


def read(name: str, folder: Path = FOLDER) -> Record:
    """Read a record.

    Raises:
        FileNotFoundError: there is none; the message says how to make it.
    """
    data, about = folder / f"{name}.csv.gz", folder / f"{name}.json"
    if not (data.exists() and about.exists()):
        command = "make bench" if name.startswith("bench-") else "make results"
        raise FileNotFoundError(f"no record {name!r} in {folder}: `{command}` makes it")
    provenance = json.loads(about.read_text(encoding="utf-8"))
    table = pd.read_csv(data, index_col=provenance["index"])
    if all(str(column).isdigit() for column in table.columns):
        table.columns = table.columns.astype(int)
    return Record(table=table, provenance=provenance)


def difference(record: Record, again: pd.DataFrame) -> float:
    """Largest difference, relative to the record's largest entry, on the shared rows and columns.

    Raises:
        ValueError: the recomputed table is empty or has rows or columns that the record lacks, or
            an entry of either is not finite.
    """
    known = again.index.isin(record.table.index).all() and again.columns.isin(record.table).all()
    if again.empty or not known:
        raise ValueError(
            "again: expected rows and columns of the record, got some that it does not hold"
        )
    shared = record.table.loc[again.index, again.columns]
    if not (np.isfinite(shared).to_numpy().all() and np.isfinite(again).to_numpy().all()):
        raise ValueError("again: expected finite numbers in it and in the record, got others")
    distance = (shared - again).abs().to_numpy().max()
    return float(distance / shared.abs().to_numpy().max())


def _partial(path: Path) -> Path:
    return path.with_name("partial-" + path.name)
