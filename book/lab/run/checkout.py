"""Which sources a record was made from: a digest of them, and the git commit where there is one.

The sources of a job are the module that defines it and whatever that module imports, directly or
not, of ``ils`` and of the laboratory.  The digest is of their syntax trees without docstrings, so
that neither a comment nor a docstring makes a record out of date, and without modules that only
draw figures or are turned off in long runs, as the compiled kernel is.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ils

__all__ = ["commit", "describe_checkout", "digest", "imported"]

LAB = Path(__file__).resolve().parent.parent
ROOTS = {"ils": Path(ils.__file__).resolve().parent, "lab": LAB}

# None of these decides a number.
_LEFT_OUT = ("ils.kernel", "lab.run", "lab.show", "lab.jobs")


@functools.cache
def _path(module: str) -> Path | None:
    """The file of a module or package of ours."""
    head, *rest = module.split(".")
    if head not in ROOTS:
        return None
    place = ROOTS[head].joinpath(*rest)
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return path
    return None


@functools.cache
def _tree(path: Path) -> ast.Module:
    """The syntax of a module without its docstrings."""
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node, clean=False
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return tree


def _told(value: Any) -> str:
    """A syntax tree as text; empty fields are left out, as later versions of Python have more."""
    if isinstance(value, ast.AST):
        fields = [(name, _told(getattr(value, name, None))) for name in value._fields]
        held = ",".join(f"{name}={text}" for name, text in fields if text not in ("None", "[]"))
        return f"{type(value).__name__}({held})"
    if isinstance(value, list):
        return f"[{','.join(map(_told, value))}]"
    return repr(value)


def _from(package: str, name: str) -> str:
    """The module that defines a name, which is imported from a module or package."""
    if _path(f"{package}.{name}"):
        return f"{package}.{name}"
    path = _path(package)
    if path and path.name == "__init__.py":
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return _from(node.module, alias.name)
    return package


def _direct(path: Path) -> Iterator[str]:
    """The modules of ours that a file imports, and of ``import ils`` those whose names it uses."""
    tree = _tree(path)
    whole: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            if node.module.split(".")[0] in ROOTS:
                yield from (_from(node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in ROOTS and not alias.asname:
                    whole.add(alias.name)
                elif alias.name.split(".")[0] in ROOTS:
                    yield alias.name
    used = {id(node.value): node for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in whole:
            yield _from(node.id, used[id(node)].attr) if id(node) in used else node.id


@functools.cache
def imported(module: str) -> dict[str, Path]:
    """A module, and all of ours that it imports, directly or not: their names and files.

    Raises:
        ValueError: there is no such module, or it has no file.
    """
    path = _path(module)
    if path is None:
        found = importlib.util.find_spec(module)
        if found is None or not found.has_location or not found.origin:
            raise ValueError(f"module: expected one with a file, got {module!r}")
        path = Path(found.origin)
    files = {module: path}
    waiting = list(_direct(path))
    while waiting:
        name = waiting.pop()
        path = _path(name)
        if path and name not in files and not name.startswith(_LEFT_OUT):
            files[name] = path
            waiting += _direct(path)
    return dict(sorted(files.items()))


@functools.cache
def digest(module: str) -> str:
    """SHA-256 of the names and the syntax of a module and of all that it imports of ours."""
    told = hashlib.sha256()
    for name, path in imported(module).items():
        told.update(f"{name}\0{_told(_tree(path))}\0".encode())
    return told.hexdigest()


def commit(folder: Path = LAB) -> str | None:
    """The commit that is checked out, with ``-dirty`` if the folder differs from it.

    None where git is missing, or does not hold the folder: it may be installed into an
    environment that lies in some other checkout.
    """
    held = _git(folder, "ls-files", "__init__.py")
    found = _git(folder, "rev-parse", "HEAD") if held else None
    if not found:
        return None
    return found + ("-dirty" if _git(folder, "status", "--porcelain", "--", ".") else "")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        ran = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return ran.stdout.strip()


_commit = functools.cache(commit)


def describe_checkout(module: str) -> dict[str, str | None]:
    """Commit and digest at the first call in this process, whose loaded code does not change.

    Args:
        module: the one that defines the job.

    Returns:
        ``commit`` and ``sources``.
    """
    return {"commit": _commit(), "sources": digest(module)}
