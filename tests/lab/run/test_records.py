"""Records are written whole, come back as they were, and know where they do not apply."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cases import normal

import ils
from lab.run import records

CONFIGURATION = {"seed": 12, "steps": 3, "rates": [0.1, 1.0]}
CHECKOUT = {"commit": "0" * 40, "sources": "1" * 64}


def curves(seed: int = 1) -> pd.DataFrame:
    """A table such as a simulation gives."""
    names = [["slow", "fast, T = 1"], ["divergence"], [0, 1, 2]]
    index = pd.MultiIndex.from_product(names, names=["setting", "measure", "group"])
    values = normal(6, 4, seed=seed).exp().numpy() * 10.0 ** np.array([0, -9, 3, 12])
    return pd.DataFrame(values, index=index, columns=[0, 1, 10, 100])


def write(folder: Path, table: pd.DataFrame, name: str = "run", **options: Any) -> None:
    arguments: dict[str, Any] = {
        "configuration": CONFIGURATION,
        "seconds": 61.234,
        "checkout": CHECKOUT,
    }
    records.write(name, table, folder=folder, **(arguments | options))


def test_round_trip(tmp_path: Path) -> None:
    """Index, columns and seven digits of every number come back, and what was said of the run."""
    table = curves()
    write(tmp_path / "new" / "folder", table)
    record = records.read("run", tmp_path / "new" / "folder")
    pd.testing.assert_index_equal(record.table.index, table.index)
    assert record.table.columns.tolist() == table.columns.tolist()
    relative = (record.table / table - 1).abs().to_numpy().max()
    assert 0 < relative <= 5.1e-7
    about = record.provenance
    assert about["configuration"] == CONFIGURATION
    assert about["rows"] == 6
    assert about["seconds"] == 61.2
    assert about["schema"] == {str(column): "float64" for column in table.columns}
    assert {name: about[name] for name in ("commit", "sources")} == CHECKOUT
    assert about["versions"]["ils"] == ils.__version__
    assert set(about["versions"]) == {"ils", "numpy", "pandas", "python", "torch"}
    line = record.describe()
    for part in ("run", "seed 12", "61 s", about["date"], about["versions"]["torch"]):
        assert part in line
    # The second file is for people: indented JSON with a line's end.
    text = (tmp_path / "new" / "folder" / "run.json").read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert text.count("\n") > 10


def test_kinds_of_columns(tmp_path: Path) -> None:
    """Numbers that happen to be whole, digits that are text, truth: each comes back as it was."""
    columns = {
        "whole": [1, 2**60 + 1],
        "number": [1.0, 2.0],
        "single": np.array([0.5, 3.0], dtype=np.float32),
        "missing": [np.nan, np.nan],
        "text": ["007", "1"],
        "truth": [True, False],
    }
    table = pd.DataFrame(columns, index=pd.Index([4, 9], name="group"))
    write(tmp_path, table)
    pd.testing.assert_frame_equal(records.read("run", tmp_path).table, table)
    write(tmp_path, table.iloc[:0])
    empty = records.read("run", tmp_path).table
    assert empty.dtypes.tolist() == table.dtypes.tolist()
    assert len(empty) == 0


def change(folder: Path, **entries: Any) -> None:
    """Other provenance; None takes an entry away."""
    about = folder / "run.json"
    changed = json.loads(about.read_text(encoding="utf-8")) | entries
    about.write_text(json.dumps({k: v for k, v in changed.items() if v is not None}))


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"gone": "float64"}, "column 'gone' is missing"),
        ({"method": "float64"}, "column 'method' should be float64, found text"),
        ({"rate": "int64"}, "column 'rate' should be int64, found number"),
        ({"count": "bool"}, "column 'count' should be bool, found whole number"),
        ({"held": "int64"}, "column 'held' should be int64, found truth"),
    ],
)
def test_a_column_that_is_not_what_it_was(
    tmp_path: Path, schema: dict[str, str], message: str
) -> None:
    """It is named, together with what it should be."""
    columns = {"method": ["a", "b"], "rate": [0.1, 3.5], "count": [1, 2], "held": [True, False]}
    write(tmp_path, pd.DataFrame(columns).rename_axis("group"))
    change(tmp_path, schema=schema)
    with pytest.raises(ValueError, match=f"record 'run': {message}"):
        records.read("run", tmp_path)


def test_a_table_that_is_another(tmp_path: Path) -> None:
    """The description is of one table; another one beside it, or half of it, is no record."""
    write(tmp_path, curves())
    other = tmp_path / "other"
    write(other, curves(seed=2))
    table = tmp_path / "run.csv.gz"
    for content in (table.read_bytes()[:-9], b"", (other / "run.csv.gz").read_bytes()):
        table.write_bytes(content)
        with pytest.raises(ValueError, match=r"run.csv.gz is not the table that run.json is of"):
            records.read("run", tmp_path)
    change(tmp_path, sha256=None, rows=5)
    with pytest.raises(ValueError, match="expected 5 rows, found 6"):
        records.read("run", tmp_path)
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(ValueError, match="describes no table"):
        records.read("run", tmp_path)


def test_older_records(tmp_path: Path) -> None:
    """Records made before digests and columns were kept are read as they were then."""
    write(tmp_path, pd.DataFrame({"a": [1.0, 2.0]}).rename_axis("group"))
    change(tmp_path, sha256=None, schema=None, commit=None, sources=None)
    assert records.read("run", tmp_path).table["a"].dtype == np.int64


def test_same_numbers_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table's file holds no date and no path; other numbers give other bytes."""
    write(tmp_path / "one", curves())
    monkeypatch.setattr("time.time", lambda: 4e9)
    write(tmp_path / "two", curves(), seconds=5.0)
    write(tmp_path / "other", curves(seed=2))
    one, two, other = (
        (tmp_path / folder / "run.csv.gz").read_bytes() for folder in ("one", "two", "other")
    )
    assert one == two
    assert one != other
    # A record read and written once more is the same too: seven digits survive.
    write(tmp_path / "again", records.read("run", tmp_path / "one").table)
    again = (tmp_path / "again" / "run.csv.gz").read_bytes()
    assert gzip.decompress(again) == gzip.decompress(one)


@pytest.mark.parametrize("broken", ["table", "provenance"])
def test_interrupted_write_leaves_the_old_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Whichever of the two files fails half-way, both files of the old record are still there."""
    write(tmp_path, curves())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {"run.csv.gz", "run.json"}

    def half(self: Any, path: Any, *args: Any, **options: Any) -> None:
        # Of a table the path is the argument, of a text the object.
        Path(path if broken == "table" else self).write_bytes(b"half")
        raise OSError("disk full")

    owner, name = (pd.DataFrame, "to_csv") if broken == "table" else (Path, "write_text")
    monkeypatch.setattr(owner, name, half)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path, curves(seed=2))
    monkeypatch.undo()
    for name, content in before.items():
        assert (tmp_path / name).read_bytes() == content
    assert records.difference(records.read("run", tmp_path), curves()) < 1e-6
    # A later write succeeds and clears up what was left.
    write(tmp_path, curves(seed=2))
    assert {path.name for path in tmp_path.iterdir()} == set(before)
    assert records.difference(records.read("run", tmp_path), curves(seed=2)) < 1e-6


@pytest.mark.parametrize("missing", ["both", "run.csv.gz", "run.json"])
def test_bad_input_no_record(tmp_path: Path, missing: str) -> None:
    """A record that is not there, or half there, is named together with how to make it."""
    if missing != "both":
        write(tmp_path, curves())
        (tmp_path / missing).unlink()
    with pytest.raises(FileNotFoundError, match=r"'run' in .*make results"):
        records.read("run", tmp_path)


LEVELS = pd.MultiIndex.from_product([["a"], ["b", "c"]])


@pytest.mark.parametrize(
    ("table", "rule", "error", "message"),
    [
        (curves(), object(), TypeError, "not JSON serializable"),
        (pd.DataFrame({"a": [1.0]}), 1, ValueError, "table: expected names"),
        (
            pd.DataFrame([[1.0, 2.0]], columns=LEVELS).rename_axis("group"),
            1,
            ValueError,
            "table: expected one level of columns, got 2",
        ),
    ],
)
def test_what_could_not_be_read_back_is_refused(
    tmp_path: Path, table: pd.DataFrame, rule: object, error: type[Exception], message: str
) -> None:
    """It leaves no record."""
    with pytest.raises(error, match=message):
        write(tmp_path, table, configuration={"seed": 1, "rule": rule})
    assert not list(tmp_path.iterdir())


def test_difference(tmp_path: Path) -> None:
    """The largest difference relative to the largest entry, on the rows and columns given."""
    table = curves() / curves().to_numpy().max()
    write(tmp_path, table)
    record = records.read("run", tmp_path)
    assert records.difference(record, table) < 1e-6
    part = table.iloc[[1, 4], [0, 2]].copy()
    assert records.difference(record, part) < 1e-6
    part.iloc[0, 1] += 0.25 * record.table.iloc[[1, 4], [0, 2]].to_numpy().max()
    assert records.difference(record, part) == pytest.approx(0.25, abs=1e-5)
    part.iloc[0, 1] = np.nan
    with pytest.raises(ValueError, match="finite"):
        records.difference(record, part)
    assert records.difference(record, table.iloc[::-1, ::-1]) < 1e-6
    # What the record does not hold is refused, and so is nothing at all.
    foreign = table.rename(index={"slow": "slower"}, level="setting")
    for again in (foreign, table.rename(columns={10: 11}), table.iloc[:0], table.iloc[:, :0]):
        with pytest.raises(ValueError, match=r"again: expected rows and columns of the record"):
            records.difference(record, again)


def test_agree(tmp_path: Path) -> None:
    """Row by row, in units of the largest entry there; a row of zeros agrees with zeros alone."""
    table = curves()
    table.iloc[4] = 0.0
    write(tmp_path, table)
    record = records.read("run", tmp_path)
    assert records.agree(record, table, 1e-6).tolist() == [True] * 6
    again = table.copy()
    again.iloc[1, 1] *= 1.5  # small beside the row's largest entry
    again.iloc[2, 3] *= 1.0002
    again.iloc[4, 0] = 1e-12
    assert records.agree(record, again, 1e-4).tolist() == [True, True, False, True, False, True]
    assert records.agree(record, again, 1e-3).tolist() == [True] * 4 + [False, True]
    assert records.agree(record, again.iloc[[2]], 1e-4).tolist() == [False]
    with pytest.raises(ValueError, match="expected finite numbers"):
        records.agree(record, again * np.inf, 1e-4)
