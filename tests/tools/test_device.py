"""``make device``, tried on the CPU: what it checks, what it writes, and what is left of a part."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import ils
from lab.run import records
from tools import device

CPU = torch.device("cpu")
LEVELS = ["dtype", "threads", "batch", "categories", "mode", "contestant"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grid of two shapes, few turns, and no compiler."""
    monkeypatch.setattr(device, "SHAPES", ((4, 5), (2, 70)))
    monkeypatch.setattr(device, "REPEATS", 3)
    monkeypatch.setattr(device, "TURN", 0.0)
    monkeypatch.setattr(device, "COMPILED", ())


@pytest.mark.unmoved
@pytest.mark.usefixtures("small")
def test_all_three_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All checks pass, the loss falls, and the records are read as those of the laboratory."""
    with torch.random.fork_rng():
        assert device.main(["--device", "cpu", "--minutes", "1", "--out", str(tmp_path)]) == 0
    assert "failed: nothing" in capsys.readouterr().out
    checks = records.read("device-checks", tmp_path)
    assert set(checks.table.index) == set(device.CHECKS)
    assert checks.table["passed"].all()
    assert checks.provenance["configuration"]["device"] == "cpu"
    assert checks.provenance["configuration"]["processor"]
    assert checks.provenance["versions"]["torch"] == torch.__version__
    loss = records.read("device-training", tmp_path).table["loss"]
    assert loss.iloc[-1] < loss.iloc[0]
    grid = records.read("device-grid", tmp_path).table
    assert list(grid.index.names) == LEVELS
    assert set(grid.index.get_level_values("contestant")) == set(device.EAGER)
    assert len(grid) == 2 * len(device.EAGER)
    assert (grid["low"] <= grid["median"]).all()
    assert not list(tmp_path.glob("partial-*"))


@pytest.mark.usefixtures("small")
def test_what_is_cut_short_leaves_what_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When time is over in the middle of a part, its rows and those before it are there."""
    monkeypatch.setattr(device, "CHECKS", {"one": lambda _: True, "two": lambda _: time.sleep(60)})
    started = time.perf_counter()
    with torch.random.fork_rng():
        assert device.main(["--device", "cpu", "--minutes", "0.02", "--out", str(tmp_path)]) == 3
    assert time.perf_counter() - started < 30
    assert records.read("device-checks", tmp_path).table.index.tolist() == ["one"]


def test_time_that_is_over_is_no_error_of_a_compiler() -> None:
    """What catches every error does not catch it."""

    def compiler() -> None:
        try:
            time.sleep(10)
        except Exception:
            pytest.fail("caught")

    with pytest.raises(device.OutOfTime), device.at_most(0.05):
        compiler()


@pytest.mark.unmoved
@pytest.mark.parametrize("name", device.CHECKS)
def test_checks_see_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each check fails with an operator that is wrong in what it looks at."""
    if name == "gradient of the CPU":
        other = ils.differentiable_draw
        monkeypatch.setattr(ils, "differentiable_draw", lambda logits, z: other(2 * logits, z))
    elif name == "law of the draw":
        index = ils.sample_index
        monkeypatch.setattr(ils, "sample_index", lambda x, draws: index(0.9 * x, draws=draws))
    elif name == "rows that are no logits":
        monkeypatch.setattr(ils, "sample", lambda logits: logits)
    else:
        sample = ils.sample
        monkeypatch.setattr(ils, "sample", lambda logits, **_: sample(logits))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        assert not device.CHECKS[name](CPU)


@pytest.mark.parametrize("status", ["error", "failed"])
def test_what_fails_is_told(status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that is false, or that raises, is recorded, and the exit status is 1."""

    def check(_: torch.device) -> bool:
        if status == "error":
            raise RuntimeError("broken")
        return False

    monkeypatch.setattr(device, "CHECKS", {"one": check})
    monkeypatch.setattr(device, "training", lambda *_: True)
    monkeypatch.setattr(device, "grid", lambda *_: True)
    assert device.main(["--device", "cpu", "--out", str(tmp_path)]) == 1
    row = records.read("device-checks", tmp_path).table.loc["one"]
    assert not row["passed"]
    assert ("broken" in str(row["said"])) == (status == "error")


def test_nothing_but_torch_is_needed() -> None:
    """The script imports none of the packages of the laboratory."""
    code = "import sys, tools.device; print(sorted({'pandas', 'scipy', 'joblib', "
    code += "'matplotlib', 'pytest', 'sklearn'} & set(sys.modules)))"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == "[]"
