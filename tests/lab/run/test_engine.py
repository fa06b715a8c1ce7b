"""Sweeps: the same numbers for any workers, nothing lost, nothing twice, and always an end."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from toy_runs import Numbers, attempts, threads

from lab.run import engine, pools, records
from lab.run.engine import execute

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parents[2]


@pytest.fixture
def log(tmp_path: Path) -> str:
    return str(tmp_path / "log")


def numbers(log: str, count: int, **deeds: str) -> list[Numbers]:
    """Runs of which some misbehave: ``two="raise"``."""
    place = {"one": 1, "two": 2, "three": 3}
    told = {place[name]: deed for name, deed in deeds.items()}
    return [Numbers(seed, log, told.get(seed, "")) for seed in range(1, count + 1)]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "open_pool", threads)


@pytest.fixture(scope="module")
def by_one(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, engine.Outcome]:
    """Six runs by one worker."""
    folder = tmp_path_factory.mktemp("one")
    runs = numbers(str(folder / "log"), 6)
    found = execute(runs, folder=folder, workers=1)
    assert list(found.tables) == runs
    return folder, found


def assert_same(one: tuple[Path, engine.Outcome], other: tuple[Path, engine.Outcome]) -> None:
    """The tables of the runs that the other has, and the bytes of their files."""
    tables = {run.name: table for run, table in one[1].tables.items()}
    for run, table in other[1].tables.items():
        pd.testing.assert_frame_equal(tables[run.name], table, check_exact=True)
        file = f"{run.name}.csv.gz"
        assert (one[0] / file).read_bytes() == (other[0] / file).read_bytes()


@pytest.mark.unmoved
def test_any_number_of_workers_gives_the_same_bits(tmp_path: Path, log: str, by_one: Any) -> None:
    """With one worker, with three, and in the caller; each has one thread."""
    runs = numbers(log, 6)[::-1]
    three = execute(runs, folder=tmp_path, workers=3)
    assert list(three.tables) == runs
    assert_same(by_one, (tmp_path, three))
    for run, table in three.tables.items():
        pd.testing.assert_frame_equal(table[["bits"]], run()[["bits"]], check_exact=True)
        assert (table["threads"] == 1).all()


def test_what_is_recorded_is_not_run_again(tmp_path: Path, log: str, quick: None) -> None:
    """Unless its configuration, the sources or the record itself are not what they were."""
    runs = numbers(log, 8)
    first = execute(runs, folder=tmp_path)
    again = execute([*runs, runs[0]], folder=tmp_path)
    assert sorted(attempts(log)) == [run.name for run in runs]
    for run in runs:
        pd.testing.assert_frame_equal(first.tables[run], again.tables[run], check_exact=True)

    abouts = [tmp_path / f"{run.name}.json" for run in runs]
    told = [json.loads(about.read_text()) for about in abouts]
    abouts[0].write_text(json.dumps(told[0] | {"sources": "0" * 64}))
    abouts[1].write_text(json.dumps({k: v for k, v in told[1].items() if k != "sources"}))
    abouts[2].write_text(abouts[2].read_text()[:50])
    abouts[3].write_text("[]")
    abouts[4].unlink()
    table = tmp_path / f"{runs[5].name}.csv.gz"
    table.write_bytes(table.read_bytes()[:-20])
    assert [engine.find(run, tmp_path) is None for run in runs] == [True] * 6 + [False] * 2
    other = dataclasses.replace(runs[6], cost=2.0)
    lines: list[str] = []
    execute([*runs[:6], other, runs[7]], folder=tmp_path, report=lines.append)
    assert sorted(attempts(log)[8:]) == [run.name for run in runs[:7]]
    assert lines[0] == f"{runs[7].name}: in {tmp_path} already"
    assert len(lines) == 8
    assert [engine.find(run, tmp_path) is None for run in runs] == [False] * 6 + [True, False]

    execute(runs[7:], folder=tmp_path, fresh=True)
    assert attempts(log).count(runs[7].name) == 2


def test_a_run_that_raises_is_tried_twice(tmp_path: Path, log: str, quick: None) -> None:
    """Then it is reported, and the others go on."""
    runs = numbers(log, 4, one="raise", two="raise once")
    found = execute(runs, folder=tmp_path)
    assert list(found.failed) == runs[:1]
    assert "ZeroDivisionError: as it was told" in found.failed[runs[0]]
    assert list(found.tables) == runs[1:]
    assert [attempts(log).count(run.name) for run in runs] == [2, 2, 1, 1]
    assert engine.find(runs[0], tmp_path) is None


def test_a_run_that_kills_its_process_harms_no_other(tmp_path: Path, log: str) -> None:
    """It is reported, and all others are there, those that died with it too."""
    runs = numbers(log, 2, one="exit")
    found = execute(runs, folder=tmp_path)
    assert list(found.failed) == runs[:1]
    assert "TerminatedWorkerError" in found.failed[runs[0]]
    assert list(found.tables) == runs[1:]
    assert attempts(log).count(runs[0].name) == 2


def test_a_run_that_dies_once_succeeds(tmp_path: Path, log: str) -> None:
    """And one worker is a process too: what dies there does not take the caller along."""
    runs = numbers(log, 2, one="exit once")
    found = execute(runs, folder=tmp_path, workers=1)
    assert list(found.tables) == runs
    assert attempts(log) == [runs[place].name for place in (0, 1, 0)]


def test_an_interrupt_leaves_what_is_finished(tmp_path: Path, log: str, quick: None) -> None:
    """The sweep continues from there."""
    runs = numbers(log, 3, two="interrupt once")
    with pytest.raises(KeyboardInterrupt):
        execute(runs, folder=tmp_path, workers=1)
    assert [engine.find(run, tmp_path) is not None for run in runs] == [True, False, False]
    found = execute(runs, folder=tmp_path, workers=1)
    assert list(found.tables) == runs
    assert attempts(log) == [runs[place].name for place in (0, 1, 1, 2)]


SWEEP = """
import signal, sys
from pathlib import Path
from toy_runs import Numbers
from lab.run.engine import execute
# Where the tests run in the background, the keyboard is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
log, folder = sys.argv[1:]
runs = [Numbers(1, log), Numbers(2, log, seconds=600.0), Numbers(3, log)]
execute(runs, folder=Path(folder), workers=1)
"""


def wait_for(condition: Callable[[], Any], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.mark.parametrize(("send", "sign"), [(os.kill, signal.SIGKILL), (os.killpg, signal.SIGINT)])
def test_a_sweep_that_was_killed_continues(
    tmp_path: Path, log: str, quick: None, send: Callable[[int, int], None], sign: int
) -> None:
    """Finished records are there, nothing else is, and no worker is left behind."""
    path = os.pathsep.join(map(str, (TESTS, ROOT, ROOT / "book")))
    sweep = subprocess.Popen(
        [sys.executable, "-c", SWEEP, log, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": path},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(lambda: len(attempts(log)) == 2)
        # A signal from the keyboard goes to all processes of the terminal.
        send(sweep.pid, sign)
        assert sweep.wait(30) != 0
        wait_for(lambda: gone(sweep.pid))
    finally:
        if not gone(sweep.pid):
            os.killpg(sweep.pid, signal.SIGKILL)
        sweep.wait()
    runs = numbers(log, 3)
    assert [engine.find(run, tmp_path) is not None for run in runs] == [True, False, False]
    found = execute(runs, folder=tmp_path)
    assert list(found.tables) == runs
    assert [attempts(log).count(run.name) for run in runs] == [1, 2, 1]


def gone(group: int) -> bool:
    with suppress(ProcessLookupError):
        os.killpg(group, 0)
        return False
    return True


def test_the_longest_begin_first(tmp_path: Path, log: str, quick: None) -> None:
    runs = [Numbers(seed, log, cost=cost) for seed, cost in ((1, 1.0), (2, 9.0), (3, 4.0))]
    execute(runs, folder=tmp_path, workers=1)
    assert attempts(log) == [runs[place].name for place in (1, 2, 0)]


def test_progress(tmp_path: Path, log: str, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a terminal a bar with counts, failures and the time that is left; elsewhere nothing."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for screen, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", screen)
        execute(numbers(log, 3, one="raise"), folder=tmp_path / str(shown), progress="sweep")
        text = screen.getvalue()
        assert all(part in text for part in ("sweep: 100%", "3/3", "<00:00", "failed=1")) == shown
    assert text == ""


def test_bad_input(tmp_path: Path, log: str) -> None:
    """Refused before anything runs."""
    run, other = numbers(log, 2)

    @dataclasses.dataclass(frozen=True)
    class Named:
        name: str
        rule: object = None

        def __call__(self) -> pd.DataFrame:
            return other()

    for runs, options, message in (
        ([run, Named(run.name)], {}, "different names, got .'numbers-1'. more than once"),
        ([Named("a/b")], {}, "a file name, got 'a/b'"),
        ([run], {"workers": 0}, "workers: expected at least 1"),
        ([run], {"engine": "threads"}, "engine: expected one of"),
        ([run], {"engine": "dask"}, "address: expected"),
    ):
        with pytest.raises(ValueError, match=message):
            execute(runs, folder=tmp_path, **options)
    with pytest.raises(TypeError, match="not JSON serializable"):
        execute([run, Named("named", rule=object())], folder=tmp_path)
    assert attempts(log) == []


def test_other_sources_are_told(
    tmp_path: Path, log: str, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that would compute something else computes nothing."""
    other = {"commit": None, "sources": "0" * 64}
    monkeypatch.setattr(engine, "describe_checkout", lambda module: other)
    (run,) = numbers(log, 1)
    found = execute([run], folder=tmp_path, workers=1)
    assert "other sources" in found.failed[run]
    assert attempts(log) == []


@dataclasses.dataclass(frozen=True)
class Nameless:
    name: str = "nameless"

    def __call__(self) -> pd.DataFrame:
        return pd.DataFrame({"a": [1.0]})


def test_a_table_that_cannot_be_recorded(tmp_path: Path, quick: None) -> None:
    """It is the run's error, told like any other."""
    found = execute([Nameless()], folder=tmp_path, workers=1)
    assert "expected names for the index" in found.failed[Nameless()]


def test_dask_is_asked_for_only_when_wanted(
    tmp_path: Path, log: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "import sys, lab.run.engine; print({'distributed', 'dask'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"pip install ils\[cluster\]"):
        execute(numbers(log, 1), folder=tmp_path, engine="dask", address="127.0.0.1:9")


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A dask scheduler with two workers, processes of their own, on the loopback."""
    dask = pytest.importorskip("dask")
    distributed = pytest.importorskip("distributed")
    # One death is enough to give a run up; by default it is four.
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            host="127.0.0.1",
            local_directory=str(tmp_path_factory.mktemp("dask")),
        ) as local,
    ):
        yield local


def test_dask_gives_the_same_bits(tmp_path: Path, log: str, scheduler: Any, by_one: Any) -> None:
    """As processes do; what raises or dies is tried again and reported, as there."""
    runs = numbers(log, 6, one="raise", two="exit", three="raise once")
    found = execute(runs, folder=tmp_path, engine="dask", address=scheduler.scheduler_address)
    assert list(found.failed) == runs[:2]
    assert list(found.tables) == runs[2:]
    assert "ZeroDivisionError" in found.failed[runs[0]]
    assert "KilledWorker" in found.failed[runs[1]]
    tried = [attempts(log).count(run.name) for run in runs]
    assert tried[:3] == [2, 2, 2]
    assert_same(by_one, (tmp_path, found))


def test_dask_without_workers_comes_to_an_end(
    tmp_path: Path, log: str, scheduler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "BEAT", 0.05)
    monkeypatch.setattr(pools, "PATIENCE", 0.2)
    scheduler.scale(0)
    wait_for(lambda: not scheduler.scheduler_info["workers"])
    with pytest.raises(OSError, match="no worker at tcp://127"):
        execute(
            numbers(log, 1), folder=tmp_path, engine="dask", address=scheduler.scheduler_address
        )


@dataclasses.dataclass(frozen=True)
class Begun(Numbers):
    """A run that knows its beginning."""

    wrong: bool = False

    def begins(self, table: pd.DataFrame) -> bool:
        """Whether the first row is there."""
        first = super().__call__()["bits"].iloc[0] + self.wrong
        return bool(table["bits"].iloc[0] == first)


@pytest.mark.parametrize(("wrong", "made"), [(False, 1), (True, 2)])
def test_a_record_that_begins_alike_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None, wrong: bool, made: int
) -> None:
    """After a change of the sources the beginning is made again, and only what differs is run."""
    run = Begun(1, str(tmp_path / "log"), wrong=wrong)
    found = execute([run], folder=tmp_path, workers=1)
    for module in ("lab.run.runs", "lab.run.checkout"):
        monkeypatch.setattr(f"{module}.digest", lambda module: "another")
    seconds = records.read(run.name, tmp_path).provenance["seconds"]
    again = execute([run], folder=tmp_path, workers=1)
    pd.testing.assert_frame_equal(found.tables[run], again.tables[run])
    # Each beginning is a line in the log too.
    assert attempts(run.log).count(run.name) == made + 1
    about = records.read(run.name, tmp_path).provenance
    assert about["sources"] == "another"
    assert wrong or about["seconds"] == seconds
    execute([run], folder=tmp_path, workers=1, fresh=True)
    assert attempts(run.log).count(run.name) == made + 2
