"""pyproject.toml, the two locks and environment.yml agree, and the package stays light.

conda is not run by these tests; what they can do is to compare what the three files say.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tools import environment, lock_check

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("requirements.lock", "requirements-notebook.lock")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

# Packages that conda-forge knows by another name, or of which it has a build without CUDA or Qt.
CONDA_NAMES = {"torch": "pytorch-cpu", "matplotlib": "matplotlib-base"}


def direct() -> list[Requirement]:
    """The direct requirements: of the build, of the package and of every extra."""
    project = PROJECT["project"]
    lines = [*PROJECT["build-system"]["requires"], *project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        lines += extra
    found = [Requirement(line) for line in lines]
    return [requirement for requirement in found if requirement.name != "ils"]


def locked(*files: str) -> dict[str, str]:
    """The pins of some locks, of both unless told."""
    texts = [(ROOT / file).read_text(encoding="utf-8") for file in files or LOCKS]
    lines = [line for text in texts for line in text.splitlines()]
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pins}


def conda() -> dict[str, str]:
    """The pins of environment.yml, those under pip included."""
    lines = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    (pip,) = [line["pip"] for line in lines if isinstance(line, dict)]
    pins = {}
    for line in [*(line for line in lines if isinstance(line, str)), *pip]:
        name, *version = re.split("==?", line)
        pins[canonicalize_name(name)] = version[0] if version else ""
    return pins


each_requirement = pytest.mark.parametrize("requirement", direct(), ids=lambda r: r.name)


@each_requirement
def test_lock_satisfies_pyproject(requirement: Requirement) -> None:
    version = locked()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version), f"{requirement} is locked at {version}"


@each_requirement
def test_environment_has_the_locked_version(requirement: Requirement) -> None:
    name = canonicalize_name(requirement.name)
    assert conda()[CONDA_NAMES.get(name, name)] == locked()[name]


def test_environment_holds_nothing_else() -> None:
    names = {canonicalize_name(requirement.name) for requirement in direct()}
    expected = {CONDA_NAMES.get(name, name) for name in names} | {"python", "pip", "e"}
    assert {re.sub(r"^-e.*", "e", name) for name in conda()} == expected


@pytest.mark.parametrize("file", LOCKS)
def test_lock_is_portable(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    pins = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][\w.]*", pin) for pin in pins)


def test_the_environment_does_without_jupyterlab() -> None:
    """`make lab` installs it; its lock repeats nothing, so that no pin can contradict another."""
    first, second = (locked(file) for file in LOCKS)
    assert "jupyterlab" in second
    assert not set(first) & set(second)
    extras = PROJECT["project"]["optional-dependencies"]
    others = [line for name, extra in extras.items() if name != "notebook" for line in extra]
    assert not [line for line in others if "notebook" in line or line.startswith("jupyterlab")]


def test_jupyter_book_is_version_1() -> None:
    assert Version(locked()["jupyter-book"]) < Version("2")


def test_pythons_agree() -> None:
    oldest, newest = map(environment.dotted, (environment.OLDEST, environment.NEWEST))
    assert PROJECT["project"]["requires-python"] == f">={oldest}"
    assert Version(conda()["python"]) >= Version(oldest)
    for file in ("README.md", "CONTRIBUTING.md"):
        assert f"Python {oldest} to {newest}" in (ROOT / file).read_text(encoding="utf-8")


def test_locks_were_checked() -> None:
    """`make lock-check` found wheels of these very pins for all that is claimed."""
    lines = lock_check.RECORD.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.endswith(LOCKS)] == lock_check.digests()
    rows = [line.split() for line in lines if not line.startswith("#") and not line.endswith(LOCKS)]
    targets = [
        (python, *name.split()) for python in lock_check.PYTHONS for name in lock_check.platforms()
    ]
    assert [tuple(row[:3]) for row in rows] == targets
    count = len(lock_check.pins())
    assert {row[3] for row in rows} == {f"{count}/{count}"}


def test_what_lock_check_finds() -> None:
    """A wheel of another platform, of a later patch level or withdrawn is none."""
    tags, _ = lock_check.platforms()["Linux x86_64"]
    accepted = lock_check.supported("3.11.0", tags)

    def said(name: str, needs: str | None = None, yanked: str | bool = False) -> str:
        page = {"files": [{"filename": name, "requires-python": needs, "yanked": yanked}]}
        return lock_check.fault(lock_check.wheels(page, "1.2"), "3.11.0", accepted)

    assert said("a-1.2-py3-none-any.whl", ">=3.11") == ""
    assert said("a-1.2-cp39-abi3-manylinux_2_28_x86_64.whl") == ""
    assert said("a-1.2+cpu-cp311-cp311-manylinux2014_x86_64.whl") == ""
    assert said("a-1.2-py3-none-any.whl", ">=3.11.5") == "needs Python >=3.11.5"
    assert said("a-1.2-py3-none-any.whl", yanked="broken") == "withdrawn: broken"
    for name in ("a-1.2.tar.gz", "a-1.3-py3-none-any.whl", "a-1.2-cp312-cp312-linux_x86_64.whl"):
        assert said(name) == "no wheel"
    for tag in ("manylinux_2_34_x86_64", "musllinux_1_2_x86_64", "macosx_11_0_arm64", "win_amd64"):
        assert said(f"a-1.2-cp311-cp311-{tag}.whl") == "no wheel"


def test_package_requires_torch_alone() -> None:
    unconditional = [r for r in map(Requirement, requires("ils") or []) if r.marker is None]
    assert [requirement.name for requirement in unconditional] == ["torch"]


def test_import_loads_no_plotting() -> None:
    heavy = ("matplotlib", "pandas", "seaborn", "scipy", "IPython", "joblib", "dask", "lab")
    script = f"import sys, ils; print([name for name in {heavy} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
