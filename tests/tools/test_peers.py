"""``make peers``: what fails with our classes alone, and has no reason, makes the command fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tools import peers

ROOT = Path(__file__).resolve().parents[2]

SUITE = """
import unittest

import torch.distributions as theirs


def ours():
    return theirs.Bernoulli.__module__.startswith("ils")


class TestDistributions(unittest.TestCase):
    def test_passes(self):
        assert theirs.Bernoulli(0.5).sample().item() in (0, 1)

    def test_ours_alone(self):
        assert not ours()

    def test_both(self):
        assert False

    def test_skipped(self):
        self.skipTest("nothing to see")

    def test_mode(self):
        assert not ours()
"""


def unpacked(folder: Path) -> None:
    start = folder / "pytorch-1" / "test" / "distributions"
    start.mkdir(parents=True)
    (start / "test_distributions.py").write_text(SUITE)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    env = os.environ | {"PYTHONPATH": path, "ILS_KERNEL": "0", "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "tools/peers.py", *arguments]
    return subprocess.run(line, cwd=ROOT, env=env, text=True, capture_output=True, check=False)


def test_a_suite(tmp_path: Path) -> None:
    unpacked(tmp_path)
    done = command(str(tmp_path))
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "  with its own classes: 3 passed, 1 failed, 1 skipped" in lines
    assert "  with ours: 1 passed, 3 failed, 1 skipped" in lines
    found = {
        line.split("::")[-1].split(":")[0]: line.split(": ", 1)[1]
        for line in lines
        if line.startswith("    ") and "::" in line
    }
    wanted = {
        "test_ours_alone": "UNEXPLAINED",
        "test_both": "fails with its own classes too",
        "test_mode": "knows discrete distributions by PyTorch's own classes",
    }
    assert found == wanted
    assert "Pyro, enumeration: no tests/infer/test_enum.py" in lines


def test_nothing_to_run(tmp_path: Path) -> None:
    done = command(str(tmp_path))
    assert done.returncode == 2
    assert done.stdout.count(": no ") == len(peers.SUITES)


def test_make_asks_for_a_folder(tmp_path: Path) -> None:
    """Without PEERS nothing runs; the environment is as if it were installed already."""
    (tmp_path / ".installed").touch()
    line = ["make", "--no-print-directory", "-o", str(tmp_path / ".installed"), "peers"]
    line += [f"VENV={tmp_path}", "PEERS="]
    done = subprocess.run(line, cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 2
    assert "PEERS: name a folder with unpacked sources of PyTorch, of Pyro, or both" in done.stderr


def test_compared() -> None:
    """A reason holds for each case of a test; where no test ran, or all pass, it is told."""
    name = next(iter(peers.EXPECTED))
    own = {"m::a": "passed", f"m.{name}": "passed", f"m.{name}[1-2]": "passed"}
    lines, unexplained = peers.compared(own, dict.fromkeys(own, "failed"))
    assert unexplained == ["m::a"]
    assert all(line.endswith(peers.EXPECTED[name]) for line in lines[3:])
    assert len(lines) == 5
    assert peers.compared(own, {})[1] == ["no test ran"]
    assert peers.compared(own, own)[1] == []


def test_find(tmp_path: Path) -> None:
    assert peers.find(tmp_path, "tests/infer/test_enum.py", 2) is None
    deep = tmp_path / "a" / "b" / "tests" / "infer"
    near = tmp_path / "c" / "tests" / "infer"
    for folder in (deep, near):
        folder.mkdir(parents=True)
        (folder / "test_enum.py").touch()
    assert peers.find(tmp_path, "tests/infer/test_enum.py", 2) == tmp_path / "c"
    assert peers.find(tmp_path / "a", "tests/infer/test_enum.py", 0) == deep
