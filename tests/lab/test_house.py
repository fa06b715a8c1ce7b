"""Imports run one way: from chapters down to the package, which needs none of them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def floors(top: str) -> list[set[str]]:
    """The rooms of package or laboratory from the bottom, as CONTRIBUTING.md has them."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.split(f"| of `{top}` |")[1].split("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return [{f"{top}.{name}" for name in re.findall(r"`(\w+)`", row)} for row in reversed(rows)]


# Those of one floor do not know of each other.
FLOORS = [*floors("ils"), *floors("lab"), {"lab.jobs"}, {"lab.__main__"}]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# It verifies what it has built.
UPWARDS = {("ils.kernel.build", "ils.fast")}


def module(path: Path) -> str:
    """The name under which a file is imported."""
    base = ROOT / "book" if (ROOT / "book") in path.parents else ROOT
    return ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    """The modules of the package and of the laboratory that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                place = ROOT.joinpath(*(("book",) * (node.module.split(".")[0] == "lab")))
                full = place.joinpath(*node.module.split("."), alias.name)
                inner = full.with_suffix(".py").exists() or full.is_dir()
                found.add(f"{node.module}.{alias.name}" if inner else node.module)
    return {name for name in found if name.split(".")[0] in ("ils", "lab")}


def room(name: str) -> str:
    return ".".join(name.split(".")[:2])


LAB = sorted((ROOT / "book" / "lab").rglob("*.py"))
PACKAGE = sorted((ROOT / "ils").rglob("*.py"))


def test_the_package_knows_nothing_of_the_laboratory() -> None:
    for path in PACKAGE:
        assert not [name for name in imports(path) if name.startswith("lab")], path
    # Every room has a floor.
    assert {room(module(path)) for path in [*PACKAGE, *LAB]} - {"ils", "lab"} == set(FLOOR)


@pytest.mark.parametrize("path", [*PACKAGE, *LAB], ids=module)
def test_imports_run_downwards(path: Path) -> None:
    mine = room(module(path))
    for name in imports(path) if mine in FLOOR else ():  # the head of a package gathers its own
        theirs = room(name)
        if theirs in FLOOR and theirs != mine and (module(path), name) not in UPWARDS:
            assert FLOOR[theirs] < FLOOR[mine], f"{module(path)} imports {name}"


def cycle(arrows: dict[str, set[str]]) -> list[str]:
    """What remains when modules that import nothing of the rest are taken away, in turns."""
    left = {name: set(targets) & set(arrows) for name, targets in arrows.items()}
    while free := [name for name, targets in left.items() if not targets & set(left)]:
        for name in free:
            del left[name]
    return sorted(left)


def test_no_cycle() -> None:
    """Among the modules of the package and of the laboratory; a package's head gathers its own."""
    files = {module(path): path for path in [*PACKAGE, *LAB]}
    heads = {name for name, path in files.items() if path.name == "__init__.py"} - {"ils.kernel"}
    arrows = {name: imports(path) - heads for name, path in files.items() if name not in heads}
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]
    assert cycle(arrows) == []
