"""Which sources a record was made from: a digest of them, and the git commit where there is one."""

from __future__ import annotations

import functools
import hashlib
import subprocess
from pathlib import Path

__all__ = ["commit", "describe_checkout", "digest"]

PACKAGE = Path(__file__).resolve().parent.parent

# Those that decide numbers.  Figures only draw them, and the kernel is turned off in long runs.
PATTERNS = (
    "*.py",
    "distributions/*.py",
    "estimators/*.py",
    "lab/*.py",
    "lab/families/*.py",
    "lab/models/*.py",
    "lab/sweep/**/*.py",
)


def digest(package: Path = PACKAGE) -> str:
    """SHA-256 of the names and contents of the sources that decide numbers."""
    told = hashlib.sha256()
    for path in sorted({path for pattern in PATTERNS for path in package.glob(pattern)}):
        content = path.read_bytes()
        told.update(f"{path.relative_to(package).as_posix()}\0{len(content)}\0".encode())
        told.update(content)
    return told.hexdigest()


def commit(package: Path = PACKAGE) -> str | None:
    """The commit that is checked out, with ``-dirty`` if the package differs from it.

    None where git is missing, or does not hold the package: it may be installed into an
    environment that lies in some other checkout.
    """
    held = _git(package, "ls-files", "__init__.py")
    found = _git(package, "rev-parse", "HEAD") if held else None
    if not found:
        return None
    return found + ("-dirty" if _git(package, "status", "--porcelain", "--", ".") else "")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        ran = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return ran.stdout.strip()


@functools.cache
def describe_checkout() -> dict[str, str | None]:
    """Commit and digest, as they were when this process first asked: what it runs does not change.

    Returns:
        ``commit`` and ``sources``.
    """
    return {"commit": commit(), "sources": digest()}
