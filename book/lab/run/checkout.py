"""Which sources a record was made from: a digest of them, and the git commit where there is one.

The sources of a job are the module that defines it and whatever that module imports, directly or
not, of ``ils`` and of the laboratory.  The digest is of their syntax trees without what decides no
number: comments, docstrings, and what only refuses, as a run that was refused has left no record.
Modules that only draw figures, or are turned off in long runs as the compiled kernel is, are left
out as a whole.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import subprocess
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
def _tree(source: bytes) -> ast.Module:
    """The syntax of a module."""
    return ast.parse(source)


class _Deciding(ast.NodeTransformer):
    """The syntax of what decides numbers: no docstring, no guard, no check without a result."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """The parts first; a body that has become empty passes."""
        super().generic_visit(node)
        if isinstance(node, ast.FunctionDef):
            node.decorator_list = [d for d in node.decorator_list if not _refuses(d)]
        if getattr(node, "body", None) == []:
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Not a docstring, and not a call such as ``check_logits(logits)``."""
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if text or _refuses(node.value) else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.AST] | None:
        """Not a branch that always raises, nor one in which nothing is left."""
        if _raises(node.body):
            return [kept for kept in map(self.visit, node.orelse) if kept is not None]
        self.generic_visit(node)
        empty = isinstance(node.body[0], ast.Pass) and not node.orelse
        return None if empty else node

    def visit_Try(self, node: ast.Try) -> ast.AST | list[ast.AST]:
        """Of one whose handlers all raise, the body alone."""
        self.generic_visit(node)
        plain = not (node.orelse or node.finalbody)
        return node.body if plain and all(_raises(h.body) for h in node.handlers) else node  # type: ignore[return-value]

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        """That it raises, and not with which words."""
        return ast.Raise()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST | None:
        """Not a function that checks and returns nothing."""
        nothing = isinstance(node.returns, ast.Constant) and node.returns.value is None
        return None if nothing and _refuses(node) else self.generic_visit(node)

    def visit_alias(self, node: ast.alias) -> ast.AST | None:
        """Not the import of one."""
        return None if _refuses(node) else node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        """Not an import of nothing else."""
        self.generic_visit(node)
        return node if node.names else None


def _refuses(node: Any) -> bool:
    """Whether a function, a call, a decorator or an import is of a check by its name."""
    node = getattr(node, "func", node)
    name = getattr(node, "name", getattr(node, "id", ""))
    return isinstance(name, str) and name.startswith(("check_", "_check_", "refuse"))


def _raises(body: list[ast.stmt]) -> bool:
    """Whether statements end in ``raise`` and leave in no other way."""
    leaves = ast.Return | ast.Break | ast.Continue
    inside = [part for statement in body for part in ast.walk(statement)]
    return isinstance(body[-1], ast.Raise) and not any(isinstance(part, leaves) for part in inside)


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
        for node in ast.walk(_tree(path.read_bytes())):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return _from(node.module, alias.name)
    return package


@functools.cache
def _asked(source: bytes) -> list[tuple[str, str]]:
    """What a file imports of ours, as package and name; of ``import ils`` the names it uses."""
    tree, asked = _tree(source), []
    whole: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            if node.module.split(".")[0] in ROOTS:
                asked += [(node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in ROOTS and not alias.asname:
                    whole.add(alias.name)
                elif alias.name.split(".")[0] in ROOTS:
                    asked.append((alias.name, ""))
    used = {id(node.value): node for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in whole:
            asked.append((node.id, used[id(node)].attr if id(node) in used else ""))
    return asked


def _direct(path: Path) -> list[str]:
    """The modules of ours that a file imports."""
    asked = _asked(path.read_bytes())
    return [_from(package, name) if name else package for package, name in asked]


@functools.cache
def _deciding(source: bytes) -> str:
    """The syntax of a module without what decides no number."""
    return _told(_Deciding().visit(ast.parse(source)))


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
    waiting = _direct(path)
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
        told.update(f"{name}\0{_deciding(path.read_bytes())}\0".encode())
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
