"""`make setup`: refused before anything is fetched, or done; never half done.

make itself runs, on a copy of what it needs. In place of venv and pip stand two short scripts, so
that nothing is fetched and a set-up takes a tenth of a second.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tools import environment

ROOT = Path(__file__).resolve().parents[2]

# `python -m venv FOLDER` makes an environment whose Python notes what pip is called for. It fails
# if there is a file "offline", and says that it is another Python if there is a file "other".
VENV = f"""
import pathlib, sys

PYTHON = '''#!/bin/sh
case "$*" in
  "-m pip"*) echo pip >> log; test ! -e offline ;;
  *base_prefix*) if test -e other; then echo another; else exec {sys.executable} "$@"; fi ;;
  *) exec {sys.executable} "$@" ;;
esac
'''

if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    (folder / "bin").mkdir(parents=True)
    (folder / "pyvenv.cfg").touch()
    python = folder / "bin" / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    with open("log", "a") as log:
        log.write("venv\\n")
"""

GOOD: dict[str, Any] = {
    "version": (3, 11, 0),
    "implementation": "CPython",
    "free_threaded": False,
    "system": "Linux",
    "machine": "x86_64",
    "libc": ("glibc", "2.28"),
    "macos": "",
}
MAC: dict[str, Any] = {"system": "Darwin", "machine": "arm64", "libc": ("", ""), "macos": "15.0"}


@pytest.mark.parametrize(
    "differences",
    [{}, {"version": (3, 14, 2)}, {"machine": "aarch64", "libc": ("glibc", "2.41")}, MAC],
)
def test_what_is_claimed_is_admitted(differences: dict[str, Any]) -> None:
    assert environment.refusal(**{**GOOD, **differences}) is None


@pytest.mark.parametrize(
    ("differences", "reason"),
    [
        ({"version": (2, 7, 18)}, "CPython 3.11 to 3.14 is needed, this is CPython 2.7.18"),
        ({"version": (3, 10, 13)}, "CPython 3.11 to 3.14 is needed, this is CPython 3.10.13"),
        ({"version": (3, 15, 0)}, "for which the pinned torch has no wheel"),
        ({"implementation": "PyPy"}, "this is PyPy 3.11.0"),
        ({"free_threaded": True}, "free-threaded"),
        ({"system": "Windows"}, "Linux or macOS is needed, this is Windows"),
        ({"machine": "32 bits"}, "none for 32 bits"),
        ({"libc": ("", "")}, "glibc 2.28, this is another C library"),
        ({"libc": ("glibc", "2.17")}, "glibc 2.28, this is glibc 2.17"),
        ({**MAC, "machine": "x86_64"}, "has wheels for arm64, none for x86_64"),
        ({**MAC, "macos": "14.7.1"}, "macOS 15 or newer is needed, this is 14.7.1"),
    ],
)
def test_what_cannot_work_is_refused(differences: dict[str, Any], reason: str) -> None:
    assert reason in (environment.refusal(**{**GOOD, **differences}) or "")


class Checkout:
    """A copy of what set-up reads, and the folder of modules that come first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tools").mkdir(parents=True)
        (folder / "first").mkdir()
        for name in ("Makefile", "tools/environment.py"):
            shutil.copy(ROOT / name, folder / name)
        for name in ("requirements.lock", "pyproject.toml"):
            (folder / name).touch()
        (folder / "first" / "venv.py").write_text(VENV)

    def make(self, *settings: str) -> subprocess.CompletedProcess[str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return subprocess.run(
            ["make", "setup", *settings],
            cwd=self.folder,
            env={**kept, "PYTHONPATH": "first"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def log(self) -> list[str]:
        """What was called since the last question."""
        path = self.folder / "log"
        lines = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkout")


THIS = f"PYTHON={sys.executable}"
WHOLE = ["venv", "pip", "pip"]


def refused(checkout: Checkout, reason: str, *settings: str) -> None:
    ran = checkout.make(*settings)
    assert ran.returncode
    assert reason in ran.stdout
    assert not checkout.log()


def test_an_old_python_is_refused_first(checkout: Checkout) -> None:
    (checkout.folder / "first" / "sitecustomize.py").write_text(
        "import sys\nsys.version_info = (3, 10, 4, 'final', 0)\n"
    )
    refused(checkout, "CPython 3.11 to 3.14 is needed, this is CPython 3.10.4", THIS)
    assert not (checkout.folder / ".venv").exists()


def test_without_ensurepip_it_is_refused_first(checkout: Checkout) -> None:
    (checkout.folder / "first" / "ensurepip.py").write_text(
        "raise ModuleNotFoundError(name='ensurepip')\n"
    )
    refused(checkout, "has no ensurepip, without which no environment can be made", THIS)
    assert not (checkout.folder / ".venv").exists()


@pytest.mark.parametrize("folder", ["a b", "", "/a b/v"])
def test_a_folder_with_a_space_is_refused(checkout: Checkout, folder: str) -> None:
    refused(checkout, f'VENV="{folder}" must be one path without a space', f"VENV={folder}")


def test_a_checkout_with_a_space_is_refused(tmp_path: Path) -> None:
    refused(Checkout(tmp_path / "a b"), f'"{tmp_path}/a b", has a space', THIS)


def test_done_once(checkout: Checkout) -> None:
    for settings, called in (([THIS], WHOLE), ([], []), ([THIS], [])):
        assert not checkout.make(*settings).returncode
        assert checkout.log() == called


def test_a_failure_leaves_nothing_that_counts(checkout: Checkout) -> None:
    (checkout.folder / "offline").touch()
    for _ in range(2):
        assert checkout.make(THIS).returncode
        assert checkout.log() == ["venv", "pip"]
        assert not (checkout.folder / ".venv" / ".installed").exists()
    (checkout.folder / ".venv" / "half").touch()
    (checkout.folder / "offline").unlink()
    ran = checkout.make(THIS)
    assert "made anew: its last set-up did not finish" in ran.stdout
    assert checkout.log() == WHOLE
    assert not (checkout.folder / ".venv" / "half").exists()
    assert not (checkout.folder / ".venv" / ".unfinished").exists()


def test_a_new_lock_is_installed_into_what_stands(checkout: Checkout) -> None:
    assert not checkout.make(THIS).returncode
    checkout.log()
    later = (checkout.folder / ".venv" / ".installed").stat().st_mtime + 1
    os.utime(checkout.folder / "requirements.lock", (later, later))
    (checkout.folder / "offline").touch()
    assert checkout.make(THIS).returncode
    assert checkout.log() == ["pip"]
    # Even if the old lock comes back: what was begun with the new one did not finish.
    os.utime(checkout.folder / "requirements.lock", (1, 1))
    (checkout.folder / "offline").unlink()
    assert not checkout.make(THIS).returncode
    assert checkout.log() == WHOLE


def test_another_python_makes_it_anew_if_it_is_asked_for(checkout: Checkout) -> None:
    assert not checkout.make(THIS).returncode
    checkout.log()
    (checkout.folder / "other").touch()
    assert not checkout.make().returncode
    assert checkout.log() == []
    ran = checkout.make(THIS)
    assert "made anew: it has another Python" in ran.stdout
    assert checkout.log() == WHOLE


def test_what_make_did_not_make_is_not_removed(checkout: Checkout) -> None:
    assert not checkout.make(THIS).returncode
    (checkout.folder / ".venv" / ".made").unlink()
    (checkout.folder / "other").touch()
    checkout.log()
    refused(checkout, "It was not made by make", THIS)
    assert (checkout.folder / ".venv" / "pyvenv.cfg").exists()
    refused(checkout, "first is there, and is no environment", THIS, "VENV=first")
    assert (checkout.folder / "first" / "venv.py").exists()


NEWER = (
    *(
        r"^\.(ONESHELL|SHELLFLAGS|RECIPEPREFIX|EXTRA_PREREQS|NOTINTERMEDIATE)",
        r"\$\((file|let|guile|intcmp) ",
    ),
    *(r"^[\w.-]+ *(!|::+)=", r"^(undefine|private|load|-load) ", r"&::?( |$)", r"--output-sync"),
    # Without .SHELLFLAGS the status of a pipe is that of its last command.
    r"pipefail",
)


def test_make_3_81_can_read_it() -> None:
    """macOS ships GNU make 3.81: nothing that came later may be used."""
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    code = [line for line in lines if not line.startswith("#")]
    assert not [line for line in code for pattern in NEWER if re.search(pattern, line)]
