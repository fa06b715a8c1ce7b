"""The wheel: complete, installable with torch alone at its side, and at work there.

The environment is empty but for links to torch and to what torch itself requires, read from the
installed metadata; nothing is fetched.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("ils", "pyproject.toml", "README.md", "LICENSE", "LICENSE-CC-BY-4.0")

# What the experiments and the book need, and the package must not.
ABSENT = (
    *("numpy", "pandas", "scipy", "matplotlib", "seaborn", "tqdm", "IPython", "pytest"),
    *("joblib", "distributed", "dask"),
)

USE = """
import importlib, importlib.util, pathlib, sys, warnings
import torch

warnings.simplefilter("error")  # only now: torch itself warns that there is no NumPy
import ils

assert pathlib.Path(ils.__file__).is_relative_to(sys.prefix), ils.__file__
present = [name for name in {absent} if importlib.util.find_spec(name)]
assert not present, present

for name in ("distributions", "estimators", "exact", "metric", "squeeze", "target"):
    importlib.import_module(f"ils.{{name}}")

logits = torch.zeros(4, 3, requires_grad=True)
z = ils.sample(logits, generator=torch.Generator().manual_seed(0))
assert z.sum(-1).tolist() == [1.0] * 4
(z @ torch.tensor([1.0, 2.0, 4.0])).sum().backward()
assert logits.grad.isfinite().all() and logits.grad.abs().sum() > 0

for rule in (ils.rules.Step(0.5), ils.rules.Note(0.5, normalizer=ils.project_simplex)):
    ils.sample(logits, rule=rule).square().sum().backward()
ils.Sampler()(logits).sum().backward()
ils.embedding(ils.sample_index(logits), torch.ones(3, 2), logits).sum().backward()
ils.distributions.OneHotCategorical(logits=logits).rsample((2,)).sum().backward()

loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
assert ils.estimators.reinmax()(torch.zeros(3), loss, draws=2).shape == (2, 3)
assert ils.exact.moments(ils.estimators.reinmax(), loss, torch.zeros(3)).variance > 0
print("works")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, so that no build folder is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / "sources" / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / "sources" / name)
    command = ["wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    pip(*command, "--wheel-dir", str(folder), str(folder / "sources"))
    (built,) = folder.glob("*.whl")
    return built


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", *arguments], check=True)


def with_requirements(name: str, found: dict[str, Distribution]) -> dict[str, Distribution]:
    """A distribution and all that it requires here, extras left out."""
    if name not in found:
        found[name] = distribution(name)
        for line in found[name].requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                with_requirements(canonicalize_name(requirement.name), found)
    return found


def link(package: Distribution, folder: Path) -> None:
    """Link the top folders and files of an installed distribution into a folder."""
    for top in {file.parts[0] for file in package.files or []} - {"..", "__pycache__"}:
        source, target = Path(str(package.locate_file(top))), folder / top
        if source.exists() and not target.exists():
            target.symlink_to(source)


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds torch, what torch requires, and the wheel."""
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder, with_pip=False, system_site_packages=False)
    (site,) = folder.glob("lib/python*/site-packages")
    packages = with_requirements("torch", {})
    assert not {canonicalize_name(name) for name in ABSENT} & set(packages)
    for package in packages.values():
        link(package, site)
    found = folder / "bin" / "python"
    pip("--python", str(found), "install", "--quiet", "--no-deps", "--no-index", str(wheel))
    return found


def test_wheel_is_complete(wheel: Path) -> None:
    """Every source file of the package is in the wheel, the mark of the types among them."""
    inside = set(zipfile.ZipFile(wheel).namelist())
    kinds = ("*.py", "py.typed", "*.cpp", "*.h")
    there = {path for kind in kinds for path in (ROOT / "ils").rglob(kind)}
    missing = {str(path.relative_to(ROOT)) for path in there} - inside
    assert "ils/py.typed" in inside
    assert not missing
    assert not [name for name in inside if not name.startswith(("ils/", "ils-"))]


def test_wheel_works_with_torch_alone(python: Path) -> None:
    """Installed beside torch alone it imports, draws and differentiates, without a warning."""
    pip("--python", str(python), "check")
    # -I: neither the working folder nor the variables of the environment lend a package.
    command = [str(python), "-I", "-c", USE.format(absent=ABSENT)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=python.parent)
    assert ran.stdout == "works\n", ran.stderr


def test_types_are_complete(python: Path) -> None:
    """To a type checker every public name of the installed package has a type."""
    pytest.importorskip("pyright")
    # pyright resolves imports for the first Python of the path.
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", "pyright", "--verifytypes", "ils", "--ignoreexternal"]
    ran = subprocess.run(
        [*command, "--outputjson"],
        capture_output=True,
        text=True,
        cwd=python.parent,
        env={**os.environ, "PATH": path},
    )
    found = json.loads(ran.stdout)["typeCompleteness"]
    assert found["pyTypedPath"], "py.typed was not found"
    public = [
        symbol
        for symbol in found["symbols"]
        if symbol["isExported"] and not symbol["name"].startswith("lab.")
    ]
    assert len(public) > 100
    assert not [
        (symbol["name"], [note["message"] for note in symbol["diagnostics"]])
        for symbol in public
        if not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"]
    ]
