"""A digest follows what decides a job's numbers and nothing else; the commit is the folder's."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import __main__ as command
from lab.benchmarks.vae_sweep import RECORDED
from lab.run import checkout

ROOT = Path(__file__).resolve().parents[3]
ROOTS = {"ils": ROOT / "ils", "lab": ROOT / "book" / "lab"}


def forget() -> None:
    """What is found in files is kept for the life of a process, but files change here."""
    for kept in (checkout._path, checkout.imported, checkout.digest):
        kept.cache_clear()


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Copies of both packages, of which digests are taken."""
    skipped = shutil.ignore_patterns("__pycache__")
    for name, folder in ROOTS.items():
        shutil.copytree(folder, tmp_path / name, ignore=skipped)
        monkeypatch.setitem(checkout.ROOTS, name, tmp_path / name)
    forget()
    yield tmp_path
    forget()


TOY, QUALITY, FAMILIES, SWEEP = (
    "lab.toy.experiment",
    "lab.methods.quality",
    "lab.beyond.families.quality",
    "lab.benchmarks.studies",
)


@pytest.mark.parametrize(
    ("file", "old", "new", "touched"),
    [
        ("ils/simplex.py", "positive = x.clamp(min=0)", "positive = x.abs()", "all"),
        ("ils/estimators/antithetic.py", "return", "return 0 *", {QUALITY, SWEEP}),
        ("ils/velocity.py", "return", "return 0 *", {FAMILIES}),
        ("lab/problems/toy.py", "eps=1e-8", "eps=1e-7", {TOY}),
        ("lab/training/train.py", "value=1 - slow", "value=1", {SWEEP}),
        ("ils/estimators/evaluation.py", "return 0\n", "return 1\n", {QUALITY, SWEEP}),
        # What only refuses: the words, a condition, a handler, a check, the check itself.
        ("ils/checks.py", "got NaN", "got one that is NaN", set()),
        (
            "ils/simplex.py",
            "    positive =",
            "    if x.dim() > 9:\n        raise ValueError\n    positive =",
            set(),
        ),
        ("ils/checks.py", "if not 0 < value", "if not 1 < value", set()),
        (
            "ils/checks.py",
            "    if type(value) is int:",
            "    check_sign(value)\n    if type(value) is int:",
            set(),
        ),
        ("ils/operator.py", "    check_one_hot(", "    check_index(", set()),
        # A comment, a sentence, a figure, the kernel.
        ("ils/simplex.py", "\n\n\n", "\n\n\n# More.\n", set()),
        ("ils/simplex.py", '"""', '"""More. ', set()),
        ("lab/toy/figures.py", "def ", "def also_", set()),
        ("lab/show/style.py", "WIDTH = 7.0", "WIDTH = 8.0", set()),
        ("ils/kernel/build.py", "def ", "def also_", set()),
    ],
)
def test_a_change_touches_its_jobs(
    copies: Path, file: str, old: str, new: str, touched: set[str] | str
) -> None:
    modules = {TOY, QUALITY, FAMILIES, SWEEP}
    before = {module: checkout.digest(module) for module in modules}
    text = (copies / file).read_text()
    assert old in text
    (copies / file).write_text(text.replace(old, new, 1))
    forget()
    after = {module: checkout.digest(module) for module in modules}
    assert {m for m in modules if after[m] != before[m]} == (
        modules if touched == "all" else touched
    )


def test_a_move_is_a_change(copies: Path) -> None:
    """The same contents under another name are other sources."""
    before = checkout.digest(TOY)
    (copies / "lab/problems/toy.py").rename(copies / "lab/problems/toys.py")
    for path in (copies / "lab").rglob("*.py"):
        path.write_text(path.read_text().replace("lab.problems.toy ", "lab.problems.toys "))
    forget()
    assert "lab.problems.toys" in checkout.imported(TOY)
    assert checkout.digest(TOY) != before


def test_modules_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run may be defined anywhere: its own file counts, and of what it imports that is ours."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "elsewhere.py").write_text("import json\nimport ils\n\nuse = ils.sum_normalize\n")
    forget()
    assert list(checkout.imported("elsewhere"))[:2] == ["elsewhere", "ils.checks"]
    assert "ils.simplex" in checkout.imported("elsewhere")
    assert "ils.velocity" not in checkout.imported("elsewhere")
    with pytest.raises(ValueError, match=r"module: expected one with a file, got 'nowhere'"):
        checkout.digest("nowhere")


def test_every_record_has_its_module() -> None:
    """The table names all records of the book, and modules that exist."""
    known = command.modules()
    there = {path.name.removesuffix(".json") for path in (ROOT / "book" / "data").glob("*.json")}
    assert there <= set(known)
    assert set(known) - there <= WAITING
    assert all(len(checkout.digest(module)) == 64 for module in known.values())


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    command = ["git", *identity, *arguments]
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "repository" / "lab"
    folder.mkdir(parents=True)
    for name in ("__init__.py", "draw.py"):
        (folder / name).write_text(name)
    return folder


def test_commit(package: Path) -> None:
    """None without a repository that holds the package; marked if the package differs from it."""
    repository = package.parent
    assert checkout.commit(package) is None
    git(repository, "init", "--quiet")
    (repository / "README").write_text("before")
    git(repository, "add", "README")
    git(repository, "commit", "--quiet", "-m", "one")
    assert checkout.commit(package) is None  # it lies in a checkout that does not hold it
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "two")
    head = git(repository, "rev-parse", "HEAD")
    assert checkout.commit(package) == head
    (repository / "README").write_text("after")
    assert checkout.commit(package) == head
    (package / "draw.py").write_text("another")
    assert checkout.commit(package) == f"{head}-dirty"


def test_no_git(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert checkout.commit(package) is None


# The VAEs of real size take days, and their records come as they end.
WAITING = set(RECORDED)


def test_records_are_current() -> None:
    """Of all others ``make results``, ``make bench`` and their like have nothing to make anew."""
    states = command.states(ROOT / "book" / "data")
    assert {name for name, state in states.items() if state != "current"} <= WAITING
