"""The page of estimators says of each method what the code says, and links to all of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lab.methods.catalogue import METHODS, Method

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "book" / "estimators.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "book" / "reference-estimators.md").read_text(encoding="utf-8")
ROW = re.compile(
    r"^\| \{py:func\}`[^<]+<ils\.estimators\.(?P<factory>\w+)>` \{cite\}`(?P<source>[^`]+)` \|"
    r"(?P<formula>.+?) \| (?P<needs>[^|]+) \| (?P<calls>\d+) \| \[(?P<biased>yes|no)\]"
    r"\(bias-variance\.ipynb#every-method\) \| `(?P<test>\w+)` \|$",
    re.M,
)
ROWS = {match["factory"]: match for match in ROW.finditer(PAGE)}
FIRST = {method.factory: method for method in reversed(METHODS)}


def test_every_method_has_one_row() -> None:
    """Each factory of the catalogue, once."""
    assert set(ROWS) == set(FIRST)
    assert len(ROW.findall(PAGE)) == len(ROWS)


@pytest.mark.parametrize("method", FIRST.values(), ids=lambda method: method.factory)
def test_row_tells_the_truth(method: Method) -> None:
    """Calls, bias, needs and sources are those of the code; the tests and the entry exist."""
    row, estimator = ROWS[method.factory], method.make(method.default)
    assert int(row["calls"]) == estimator.evaluations
    assert (row["biased"] == "yes") == estimator.biased
    assert ("derivative" in row["needs"]) == estimator.differentiates
    assert ("K = 2" in row["needs"]) == method.binary
    assert set(row["source"].split(",")) >= set(method.source)
    text = (ROOT / "tests" / "estimators" / f"test_{row['test']}.py").read_text(encoding="utf-8")
    assert method.factory in text
    assert f".. autofunction:: ils.estimators.{method.factory}\n" in REFERENCE
