"""The digest follows what decides numbers and nothing else; the commit is the package's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lab.run import checkout

SOURCES = (
    "__init__.py",
    "draw.py",
    "distributions/counts.py",
    "estimators/arm.py",
    "lab/toy.py",
    "lab/families/fields.py",
    "lab/models/rates.py",
    "lab/sweep/train.py",
    "lab/sweep/tasks/parity.py",
)
OTHERS = ("lab/figures/toy.py", "kernel/build.py", "kernel/kernel.cpp", "py.typed", "lab/notes.md")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "repository" / "ils"
    for name in (*SOURCES, *OTHERS):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


@pytest.mark.parametrize("name", [*SOURCES, *OTHERS])
def test_digest(package: Path, name: str) -> None:
    before = checkout.digest(package)
    assert len(before) == 64
    (package / name).write_text("another")
    assert (checkout.digest(package) != before) == (name in SOURCES)
    (package / name).write_text(name)
    assert checkout.digest(package) == before
    (package / name).unlink()
    assert (checkout.digest(package) != before) == (name in SOURCES)


def test_digest_of_a_move(package: Path) -> None:
    """The same contents under another name are other sources."""
    before = checkout.digest(package)
    (package / "draw.py").rename(package / "drawn.py")
    assert checkout.digest(package) != before


def test_digest_of_this_package() -> None:
    described = checkout.describe_checkout()
    assert set(described) == {"commit", "sources"}
    assert all(list(checkout.PACKAGE.glob(pattern)) for pattern in checkout.PATTERNS)


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    command = ["git", *identity, *arguments]
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


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
