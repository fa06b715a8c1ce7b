"""For pytest: nbval compares the outputs of notebooks as numbers, drawings and text.

Another processor rounds otherwise, so outputs that agree need not be the same characters.  What is
compared, by the kind of output:

*Text* (streams, results, tables, HTML, what is glued and its name): the same but for white space
and decimals.  Two decimals agree when they differ by at most one unit in the last digit that either
shows; whole numbers, and everything that is no number (``nan`` and ``inf`` too), must be the same.

*Data of a figure* (CSV): the same rows and columns; numbers agree to ``RELATIVE`` of themselves or
to ``OF_LARGEST`` of the largest in their column.

*Drawings* (SVG): the same elements, labels, styles and colours in the same order; coordinates agree
to ``PIXELS``.  Identifiers, which are digests of coordinates, need only be used alike.  A drawing
belongs to its data: it carries their digest.

A wrong formula moves numbers further than that; ``tests/book/test_guard.py`` shows how little
suffices.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree

import pytest

__all__ = ["data_differ", "drawings_differ", "outputs_differ", "texts_differ"]

RELATIVE = 1e-5
OF_LARGEST = 1e-7
PIXELS = 0.02

# Colours come first, and digits inside a word are part of it: neither is a number.
_TOKEN = re.compile(
    r"""
      (?P<word> \#[0-9a-fA-F]+ | [^\W\d][\w]* )
    | (?P<number> (?:(?<![\w.)\]])[-+−])? (?:\d+\.?\d*|\.\d+) (?:[eE][-+]?\d+)? )
    | (?P<other> \S )
    """,
    re.X,
)
_WHOLE = re.compile(r"[-+−]?\d+")


def _tokens(text: str) -> list[tuple[bool, str]]:
    """Words, numbers and signs in their order; whether each is a number."""
    return [(match["number"] is not None, match[0]) for match in _TOKEN.finditer(text)]


def _decimal(text: str) -> Decimal:
    return Decimal(text.replace("−", "-"))


def _printed_alike(a: str, b: str) -> bool:
    """Whether two numbers differ by at most a unit in the last digit that either shows."""
    if a == b:
        return True
    if _WHOLE.fullmatch(a) and _WHOLE.fullmatch(b):
        return False
    first, second = _decimal(a), _decimal(b)
    unit = min(Decimal(1).scaleb(int(x.as_tuple().exponent)) for x in (first, second))
    return abs(first - second) <= unit


def texts_differ(ref: str, new: str) -> str | None:
    """What differs in text, or nothing."""
    before, after = _tokens(ref), _tokens(new)
    for (is_number, a), (too, b) in zip(before, after, strict=False):
        if not (_printed_alike(a, b) if is_number and too else a == b):
            return f"{a!r} became {b!r}"
    if len(before) != len(after):
        return f"{len(before)} words and numbers became {len(after)}"
    return None


def _value(text: str) -> float | None:
    """A finite number, or nothing."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def data_differ(ref: str, new: str) -> str | None:
    """What differs in two tables of CSV, or nothing."""
    before, after = (list(csv.reader(io.StringIO(text))) for text in (ref, new))
    if [len(row) for row in before] != [len(row) for row in after]:
        return f"{len(before)} rows became {len(after)}, or a row has other cells"
    largest: dict[int, float] = defaultdict(float)
    for row in before:
        for column, cell in enumerate(row):
            largest[column] = max(largest[column], abs(_value(cell) or 0))
    for place, (one, two) in enumerate(zip(before, after, strict=True)):
        for column, (a, b) in enumerate(zip(one, two, strict=True)):
            if a == b:
                continue
            x, y = _value(a), _value(b)
            if x is None or y is None:
                return f"row {place}, column {before[0][column]!r}: {a!r} became {b!r}"
            allowed = max(RELATIVE * max(abs(x), abs(y)), OF_LARGEST * largest[column])
            if abs(x - y) > allowed:
                return f"row {place}, column {before[0][column]!r}: {a} became {b}"
    return None


# Of the elements that Matplotlib writes.
_COORDINATES = {"d", "transform", "x", "y", "width", "height", "viewBox"}
_REFERENCE = re.compile(r"url\(#([^)]+)\)|^#(.+)$", re.S)
_IDENTIFIER = "{http://purl.org/dc/elements/1.1/}identifier"
_HREF = "{http://www.w3.org/1999/xlink}href"


class _Names(dict[str, str]):
    """Identifiers by the order in which they occur."""

    def __missing__(self, key: str) -> str:
        self[key] = f"name-{len(self)}"
        return self[key]


def _parts(svg: str) -> Iterator[tuple[str, str, str]]:
    """Everything in a drawing: where it stands, of what kind it is, and its text."""
    builder = ElementTree.TreeBuilder(insert_comments=True)
    root = ElementTree.fromstring(svg, ElementTree.XMLParser(target=builder))
    names = _Names()

    def renamed(match: re.Match[str]) -> str:
        return "reference " + names[match[1] or match[2]]

    for element in root.iter():
        tag = element.tag if isinstance(element.tag, str) else "comment"
        if tag == _IDENTIFIER:
            continue
        yield tag, "same", tag
        yield tag, "text", (element.text or "").strip()
        for key, value in sorted(element.attrib.items()):
            where = f"{tag.rpartition('}')[2]}, {key}"
            if key == "id":
                yield where, "same", names[value]
            elif key == _HREF and value.startswith("data:"):
                yield where, "same", value
            elif key in _COORDINATES:
                yield where, "coordinates", value
            else:
                yield where, "same", _REFERENCE.sub(renamed, value)


def _moved(ref: str, new: str) -> str | None:
    """What differs in coordinates, or nothing."""
    before, after = _tokens(ref), _tokens(new)
    if len(before) != len(after):
        return f"{len(before)} coordinates became {len(after)}"
    for (is_number, a), (too, b) in zip(before, after, strict=True):
        alike = is_number and too and abs(_decimal(a) - _decimal(b)) <= Decimal(str(PIXELS))
        if a != b and not alike:
            return f"{a} became {b}"
    return None


def drawings_differ(ref: str, new: str) -> str | None:
    """What differs in two drawings in SVG, or nothing."""
    before, after = list(_parts(ref)), list(_parts(new))
    for (where, kind, a), (there, too, b) in zip(before, after, strict=False):
        if (where, kind) != (there, too):
            return f"{where} became {there}"
        compare = {"coordinates": _moved, "text": texts_differ}.get(kind, _unequal)
        if a != b and (said := compare(a, b)):
            return f"{where}: {said}"
    if len(before) != len(after):
        return f"{len(before)} elements and attributes became {len(after)}"
    return None


def _unequal(ref: str, new: str) -> str | None:
    return None if ref == new else f"{ref[:80]!r} became {new[:80]!r}"


def _belong_together(bundle: Mapping[str, Any]) -> str | None:
    """What is wrong with a drawing and its data, or nothing."""
    svg, data = bundle.get("image/svg+xml"), bundle.get("text/csv")
    if svg is None and data is None:
        return None
    if svg is None or data is None:
        return "a drawing without data, or data without a drawing"
    digest = hashlib.sha256(data.encode()).hexdigest()
    return None if digest in svg else "drawing and data do not belong together"


_COMPARE = {"image/svg+xml": drawings_differ, "text/csv": data_differ}
_NOT_SEEN = ("image/png", "image/jpeg", "text/latex")


def _flat(outputs: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """All outputs of a cell by their kind, in their order."""
    found: dict[str, list[Any]] = defaultdict(list)
    for output in outputs:
        if output["output_type"] == "stream":
            found[output["name"]].append(output["text"])
        elif output["output_type"] == "error":
            found["error"].append(f"{output['ename']}: {output['evalue']}")
        else:
            if "scrapbook" in output["metadata"]:
                found["name of what is glued"].append(output["metadata"]["scrapbook"]["name"])
            for kind, value in output["data"].items():
                if kind not in _NOT_SEEN:
                    found[kind].append(value)
    return found


def outputs_differ(
    ref: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]]
) -> str | None:
    """What differs in the outputs of a cell, committed and computed, or nothing."""
    ref, new = list(ref), list(new)
    for whose, outputs in (("committed", ref), ("computed", new)):
        for output in outputs:
            if said := _belong_together(output.get("data", {})):
                return f"{whose}: {said}"
    before, after = _flat(ref), _flat(new)
    if before.keys() != after.keys():
        return f"outputs of kinds {sorted(before)} became {sorted(after)}"
    # Data before drawings: they say more plainly what differs.
    for kind in sorted(before, reverse=True):
        if len(before[kind]) != len(after[kind]):
            return f"{kind}: {len(before[kind])} outputs became {len(after[kind])}"
        for one, two in zip(before[kind], after[kind], strict=True):
            as_text = _COMPARE.get(kind, texts_differ)
            compare = as_text if isinstance(one, str) and isinstance(two, str) else None
            if one != two and (said := compare(one, two) if compare else f"{one} became {two}"):
                return f"{kind}: {said}"
    return None


def _compare_outputs(cell: Any, test: Any, ref: Any, skip_compare: Any = None) -> bool:
    """In place of the method of nbval's cells, with the same arguments."""
    said = outputs_differ(ref, test)
    cell.comparison_traceback = [said or ""]
    return said is None


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Put the comparison into nbval, where it runs."""
    if config.pluginmanager.hasplugin("nbval"):
        from nbval.plugin import IPyNbCell

        IPyNbCell.compare_outputs = _compare_outputs
