"""The command that makes the records of long runs: what it runs, when, and what it says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from toy_runs import Numbers, attempts, threads

from lab import jobs as results
from lab.beyond.models import parts as models
from lab.run import pools
from lab.run.engine import Outcome, Run, find
from lab.toy import experiment as experiment1

DATA = Path(__file__).resolve().parents[3] / "book" / "data"


def test_a_part_computes_its_table(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pd.DataFrame({"a": [1.0]}, index=pd.Index([0], name="row"))
    monkeypatch.setitem(results.PARTS, "part", (lambda: table, {"seed": 1}))
    assert results.Part("part")() is table
    chosen = (("Gumbel, T = 1", "constant", "end", 0.1),)
    fair: list[Any] = []
    monkeypatch.setattr(experiment1, "fair", lambda *told: fair.append(told) or table)
    assert results.Fair("toy-fair-gumbel", chosen)() is table
    assert fair[0][0] is experiment1.GUMBEL_METHODS
    assert fair[0][1].to_dict("records") == [
        {"method": "Gumbel, T = 1", "schedule": "constant", "purpose": "end", "rate": 0.1}
    ]


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit status of the command, with threads in place of processes."""
    monkeypatch.setattr(pools, "open_pool", threads)
    monkeypatch.setattr(sys, "argv", ["results", *arguments])
    with pytest.raises(SystemExit) as left:
        results.main()
    assert isinstance(left.value.code, int)
    return left.value.code


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A log of two phases; the second needs the record of a run of the first."""
    log = str(tmp_path / "log")

    def after(folder: Path) -> list[Run]:
        if find(Numbers(1, log), folder) is None:
            raise LookupError("needs the first")
        return [Numbers(3, log)]

    def made(*runs: Run) -> Any:
        return lambda folder: list(runs)

    phases = [
        {"first": made(Numbers(1, log)), "bad": made(Numbers(2, log, "raise"))},
        {"after": after},
    ]
    monkeypatch.setattr(results, "phases", lambda: phases)
    return log


def test_phases_run_in_order(
    tmp_path: Path, log: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those named, or all; again it reads what is there, and anew if it is told so."""
    options = ["--folder", str(tmp_path), "--workers", "1"]
    assert call(monkeypatch, "after", "first", *options) == 0
    assert attempts(log) == ["numbers-1", "numbers-3"]
    assert "numbers-3: 200 rows in 0 s" in capsys.readouterr().out
    assert call(monkeypatch, "after", "first", *options) == 0
    assert len(attempts(log)) == 2
    assert f"numbers-3: in {tmp_path} already" in capsys.readouterr().out
    assert call(monkeypatch, "first", *options, "--fresh") == 0
    assert attempts(log) == ["numbers-1", "numbers-3", "numbers-1"]


def test_a_clone_has_nothing_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each committed record has the name, the configuration and the sources of a part as it is."""
    first, second = results.phases()
    assert {*first} == {*results.PARTS, *models.FIRST, "sweep-beginnings"}
    assert {*second} == {*results.AFTER_TUNING, *models.AFTER_TUNING}
    monkeypatch.setattr(results, "execute", lambda *_, **__: Outcome({}, {}))  # else hours begin
    assert call(monkeypatch, "--folder", str(DATA), "--workers", "1") == 0
    told = capsys.readouterr()
    assert told.out == "nothing is to be done: every record is current\n"
    assert told.err == ""


def test_what_fails_is_told(
    tmp_path: Path, log: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which run, why, and an exit status of 1; what the others made is kept."""
    options = ["--folder", str(tmp_path), "--workers", "1"]
    assert call(monkeypatch, "after", *options) == 1
    assert capsys.readouterr().err == "failed: after\n    needs the first\n"
    assert call(monkeypatch, *options) == 1
    told = capsys.readouterr()
    assert told.err.startswith("failed: numbers-2\n    Traceback")
    assert told.err.endswith("ZeroDivisionError: as it was told\n")
    assert "numbers-2: failed, ZeroDivisionError: as it was told" in told.out
    assert find(Numbers(1, log), tmp_path)
    assert find(Numbers(3, log), tmp_path)

    def refuse(*told: Any, **options: Any) -> Any:
        raise ConnectionError("no worker there")

    monkeypatch.setattr(results, "execute", refuse)
    assert call(monkeypatch, "--folder", str(tmp_path)) == 1
    assert capsys.readouterr().err == "failed: all that is left\n    no worker there\n"


def test_bad_arguments(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    refused = {
        "unknown parts ['nothing']; there are ['toy-note', ": ["nothing"],
        "invalid choice: 'threads'": ["--engine", "threads"],
        "--engine dask needs --address HOST:PORT": ["--engine", "dask"],
    }
    for message, arguments in refused.items():
        assert call(monkeypatch, *arguments) == 2
        assert message in capsys.readouterr().err
