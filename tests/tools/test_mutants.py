"""The record of mutation testing: the score that is asked for, and a reason for every survivor."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
RECORD = (TESTS / "mutants.md").read_text(encoding="utf-8")
ROWS = [
    (name, int(mutants), int(killed), int(equivalent))
    for name, mutants, killed, equivalent in re.findall(
        r"^\| `(ils[\w.]*)` \| (\d+) \| (\d+) \| (\d+) ", RECORD, re.M
    )
]


def test_score() -> None:
    """Of the mutants that are not equivalent at least 95 of 100 are killed, in every module."""
    mutants, killed, equivalent = (sum(row[i] for row in ROWS) for i in (1, 2, 3))
    assert f"**{killed} of {mutants - equivalent} killed: " in RECORD
    assert equivalent < 0.05 * mutants
    assert not [name for name, n, killed, same in ROWS if killed < 0.95 * (n - same)]


def test_every_module_is_there() -> None:
    """Each module with functions of its own was mutated, but the laboratory and the kernel."""
    package = TESTS.parent / "ils"
    folders = (package, package / "distributions", package / "estimators")
    wanted = {
        ".".join(path.relative_to(package.parent).with_suffix("").parts)
        for folder in folders
        for path in folder.glob("*.py")
        if path.stem != "__init__"
    }
    assert {name for name, *_ in ROWS if not name.endswith("__init__")} == wanted


def test_survivors_are_explained() -> None:
    """No survivor is listed without a reason, and every reason says something."""
    assert "not explained" not in RECORD
    listed = sum(1 for line in RECORD.splitlines() if re.match(r"\| `[^`]+` \| ``", line))
    assert listed == sum(mutants - killed for _, mutants, killed, _ in ROWS)
    reasons = tomllib.loads((TESTS / "mutants.toml").read_text(encoding="utf-8"))["survivor"]
    for entry in reasons:
        assert set(entry) <= {"where", "was", "now", "why"}
        assert re.compile(entry["where"])
        assert len(entry["why"]) > 20
