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

ROOT = Path(__file__).resolve().parent.parent
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
    assert PROJECT["project"]["requires-python"] == ">=3.11"
    assert Version(conda()["python"]) >= Version("3.11")


def test_package_requires_torch_alone() -> None:
    unconditional = [r for r in map(Requirement, requires("ils") or []) if r.marker is None]
    assert [requirement.name for requirement in unconditional] == ["torch"]


def test_import_loads_no_plotting() -> None:
    heavy = ("matplotlib", "pandas", "seaborn", "scipy", "IPython", "joblib", "dask", "ils.lab")
    script = f"import sys, ils; print([name for name in {heavy} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
