"""Records of long runs: a table and its provenance.

A record ``name`` is two files: ``name.csv.gz``, the table, and ``name.json``, its configuration,
sources, versions, machine and time.  Each is written whole or not at all, the table first: what
makes a record is the second file, which holds the digest and the columns of the table that it
belongs to.  Records made before these were kept are read without that check.
"""

from __future__ import annotations

import datetime
import hashlib
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

__all__ = ["FOLDER", "Record", "agree", "difference", "read", "write"]

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
    checkout: Mapping[str, str | None],
    folder: Path = FOLDER,
) -> None:
    """Write a record; numbers keep seven digits.

    Args:
        name: file name without ending.
        table: index and columns are kept.
        configuration: everything that decides the numbers, the seed among it.
        seconds: wall time of the run.
        folder: where to.
        checkout: commit and digest of the sources, see :func:`lab.run.checkout.describe_checkout`.

    Raises:
        ValueError: a level of the index has no name, or the columns have several levels; it could
            not be read back.
    """
    if None in table.index.names:
        raise ValueError(f"table: expected names for the index, got {list(table.index.names)}")
    if table.columns.nlevels > 1:
        raise ValueError(f"table: expected one level of columns, got {table.columns.nlevels}")
    provenance = {
        "name": name,
        "configuration": dict(configuration),
        "index": list(table.index.names),
        "schema": {str(column): _dtype(table[column]) for column in table.columns},
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
        **checkout,
    }
    # Before the table is written: a configuration that is no JSON must leave no file behind.
    json.dumps(provenance)
    folder.mkdir(parents=True, exist_ok=True)
    data, about = folder / f"{name}.csv.gz", folder / f"{name}.json"
    # A fixed time stamp inside the archive: the same numbers give the same bytes.
    table.to_csv(
        _partial(data),
        float_format=f"%.{_DIGITS}g",
        compression={"method": "gzip", "mtime": 0},
    )
    provenance["sha256"] = _sha256(_partial(data))
    _partial(about).write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")
    os.replace(_partial(data), data)
    os.replace(_partial(about), about)


def read(name: str, folder: Path = FOLDER) -> Record:
    """Read a record.

    Raises:
        FileNotFoundError: there is none; the message says how to make it.
        ValueError: the table is not the one that was described: other bytes, another number of
            rows, or a column that is missing or of another kind.
    """
    data, about = folder / f"{name}.csv.gz", folder / f"{name}.json"
    if not (data.exists() and about.exists()):
        command = "make bench" if name.startswith("bench-") else "make results"
        raise FileNotFoundError(f"no record {name!r} in {folder}: `{command}` makes it")
    provenance = json.loads(about.read_text(encoding="utf-8"))
    if not isinstance(provenance, dict):
        raise ValueError(f"record {name!r}: {about.name} describes no table")
    if "sha256" in provenance and provenance["sha256"] != _sha256(data):
        raise ValueError(f"record {name!r}: {data.name} is not the table that {about.name} is of")
    schema = provenance.get("schema", {})
    text = {column: str for column, dtype in schema.items() if _kind(dtype) == "text"}
    table = pd.read_csv(data, index_col=provenance["index"], dtype=text)
    if len(table) != provenance["rows"]:
        raise ValueError(f"record {name!r}: expected {provenance['rows']} rows, found {len(table)}")
    for column, dtype in schema.items():
        table[column] = _checked(name, table, column, dtype)
    if all(str(column).isdigit() for column in table.columns):
        table.columns = table.columns.astype(int)
    return Record(table=table, provenance=provenance)


def difference(record: Record, again: pd.DataFrame) -> float:
    """Largest difference, relative to the record's largest entry, on the shared rows and columns.

    Raises:
        ValueError: the recomputed table is empty or has rows or columns that the record lacks, or
            an entry of either is not finite.
    """
    shared = _shared(record, again)
    distance = (shared - again).abs().to_numpy().max()
    return float(distance / shared.abs().to_numpy().max())


def agree(record: Record, again: pd.DataFrame, tolerance: float) -> pd.Series:
    """Which rows agree: no entry differs by more than ``tolerance`` times the row's largest.

    For what is chaotic, where a rounding may change one run and leave the others alone.

    Raises:
        ValueError: as :func:`difference`.
    """
    shared = _shared(record, again)
    return (shared - again).abs().max(axis=1) <= tolerance * shared.abs().max(axis=1)


def _shared(record: Record, again: pd.DataFrame) -> pd.DataFrame:
    """The entries of the record that were computed again."""
    known = again.index.isin(record.table.index).all() and again.columns.isin(record.table).all()
    if again.empty or not known:
        raise ValueError(
            "again: expected rows and columns of the record, got some that it does not hold"
        )
    shared = record.table.loc[again.index, again.columns]
    if not (np.isfinite(shared).to_numpy().all() and np.isfinite(again).to_numpy().all()):
        raise ValueError("again: expected finite numbers in it and in the record, got others")
    return shared


def _partial(path: Path) -> Path:
    return path.with_name("partial-" + path.name)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _dtype(column: pd.Series) -> str:
    """The dtype of a column, with one name for text, which has several in pandas."""
    return "str" if pd.api.types.is_string_dtype(column) else str(column.dtype)


def _kind(dtype: Any) -> str:
    """The kind of a dtype, as far as a CSV file distinguishes kinds."""
    kinds = pd.api.types
    if str(dtype) in ("str", "string"):
        return "text"
    dtype = kinds.pandas_dtype(dtype)
    if kinds.is_bool_dtype(dtype):
        return "truth"
    if kinds.is_integer_dtype(dtype):
        return "whole number"
    if kinds.is_float_dtype(dtype):
        return "number"
    return "anything"


def _checked(name: str, table: pd.DataFrame, column: str, dtype: str) -> pd.Series:
    """A column as it was written; a float that happens to be whole is read as an integer."""
    if column not in table:
        raise ValueError(f"record {name!r}: column {column!r} is missing")
    found, expected = _kind(table[column].dtype), _kind(dtype)
    if expected in ("text", "anything"):
        return table[column]
    if len(table) and found != expected and (expected, found) != ("number", "whole number"):
        raise ValueError(f"record {name!r}: column {column!r} should be {dtype}, found {found}")
    return table[column].astype(dtype)
