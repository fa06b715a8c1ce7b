"""How outputs of notebooks are compared: what another processor may change, and what it may not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from lab.show import publish as published
from tools.browser import ROOT
from tools.outputs import data_differ, drawings_differ, outputs_differ, texts_differ

# --- text ------------------------------------------------------------------------------------


SAME_TEXT = [
    ("The floor is 0.0019.", "The floor is 0.0020."),
    ("-0.0000", "0.0000"),
    ("x  9.99\ny 10.00", "x 10.00\ny 10.00"),  # a column becomes wider
    ("1.234e-05", "1.235e-05"),
    ("9.99e-06", "1e-05"),
    ("0.25", "0.2499999"),  # trailing zeros are not shown
    ("[1.25, 3.50]", "[1.24, 3.51]"),
    ("nan inf -inf", "nan inf -inf"),
    ("<td>0.12</td>", "<td>0.13</td>"),
    ("−0.12", "-0.12"),
]
OTHER_TEXT = [
    ("0.0019", "0.0021"),  # two units
    ("0.02", "-0.02"),
    ("0.01", "-0.01"),
    ("x-0.5", "x+0.5"),
    ("1,024 runs", "1,025 runs"),  # whole numbers are counted
    ("step 0.25", "step 0.2412345"),
    ("1.234e-05", "1.234e-04"),
    ("0.5", "nan"),
    ("1.0", "inf"),
    ("a 1.0\nb 2.0", "a 1.0"),  # a row is missing
    ("ReinMax 1.0", "DARN 1.0"),
    ("True", "False"),
    ("color: #1e5000", "color: #2e5000"),  # no number with an exponent
    ("float64", "float32"),
    ("0.5 and 0.5", "0.5, and 0.5"),
    ("50%", "51%"),
]


def judged(same: list[Any], other: list[Any]) -> Any:
    """Cases that pass, and those that are refused."""
    rows = [(case, True) for case in same] + [(case, False) for case in other]
    return pytest.mark.parametrize(("case", "passes"), rows, ids=repr)


@judged(SAME_TEXT, OTHER_TEXT)
def test_text(case: tuple[str, str], passes: bool) -> None:
    """A unit of the last digit and white space pass; another digit, sign, word or row does not."""
    for ref, new in (case, case[::-1]):
        assert (texts_differ(ref, new) is None) is passes


# --- data of figures -------------------------------------------------------------------------

TABLE = "method,value,noise\nILS,1.000000,1e-18\nDARN,250.0000,3.0\nexact,,nan\n"


SAME_DATA = [
    ("1.000000", "1.000009"),
    ("1.000000", "1"),
    ("1e-18", "-2.7e-18"),
    ("250.0000", "250.002"),
]
OTHER_DATA = [
    ("1.000000", "1.000100"),
    ("1.000000", "-1.000000"),
    ("250.0000", "nan"),
    ("nan", "0"),
    ("nan", ""),
    ("250.0000", "inf"),
    ("1e-18", "1e-06"),
    ("ILS", "ILS, centred"),
    ("value", "values"),
    ("DARN,250.0000,3.0\n", ""),
    (",noise\n", ",noise,more\n"),
    (",3.0", ""),
]


@judged(SAME_DATA, OTHER_DATA)
def test_data(case: tuple[str, str], passes: bool) -> None:
    """A hundred-thousandth of a number, or a ten-millionth of the largest in its column, passes."""
    changed = TABLE.replace(*case)
    for ref, new in ((TABLE, changed), (changed, TABLE)):
        assert (data_differ(ref, new) is None) is passes


# --- drawings --------------------------------------------------------------------------------


def bundle(monkeypatch: pytest.MonkeyPatch, **changed: Any) -> dict[str, str]:
    """What a notebook shows of a small figure."""
    values = {"y": [0.1, 0.4, 0.2], "label": "ILS", "color": "#1f77b4", "width": 1.5, "marker": "o"}
    values |= changed
    shown: list[dict[str, str]] = []
    monkeypatch.setattr(published, "display", lambda data, raw: shown.append(data))
    figure, ax = plt.subplots(figsize=(3, 2))
    style = {"color": values["color"], "linewidth": values["width"], "marker": values["marker"]}
    ax.plot(values["y"], label=values["label"], **style)
    ax.set_xlim(0, 2)
    ax.set_ylim(0, 1)
    ax.legend(frameon=False)
    published.publish(figure, "fig-x", pd.DataFrame({"y": values["y"]}))
    return shown[0]


OTHER_DRAWINGS = [
    {"y": [0.1, 0.4, 0.201]},
    {"y": [0.1, 0.4, 0.2, 0.3]},
    {"label": "ILs"},
    {"color": "#1f77b5"},
    {"width": 1.6},
    {"marker": "s"},
]


@judged([{"y": [0.1, 0.4, 0.2 + 1e-13]}, {"y": [0.1, 0.4, 0.20005]}], OTHER_DRAWINGS)
def test_drawings(monkeypatch: pytest.MonkeyPatch, case: dict[str, Any], passes: bool) -> None:
    """Points may move by a fiftieth of a pixel, and identifiers change; all else is refused."""
    one, two = (bundle(monkeypatch, **changed)["image/svg+xml"] for changed in ({}, case))
    for ref, new in ((one, two), (two, one)):
        assert (drawings_differ(ref, new) is None) is passes


def test_pictures_in_drawings() -> None:
    """An image inside a drawing is compared by its bytes."""
    svg = '<svg xmlns:xlink="x"><image xlink:href="data:image/png;base64,AAAA"/></svg>'
    svg = svg.replace('"x"', '"http://www.w3.org/1999/xlink"')
    assert drawings_differ(svg, svg) is None
    assert drawings_differ(svg, svg.replace("AAAA", "AAAB"))


# --- outputs of a cell -----------------------------------------------------------------------


def shown(data: dict[str, str], name: str | None = None) -> dict[str, Any]:
    metadata = {"scrapbook": {"name": name}} if name else {}
    return {"output_type": "display_data", "data": data, "metadata": metadata}


def test_outputs_of_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """All kinds in their order; which kind stands before another does not matter."""
    stream = {"output_type": "stream", "name": "stdout", "text": "mean 0.25\n"}
    glued = shown({"application/papermill.record/text/plain": "'0.5'"}, "share")
    figure = shown(bundle(monkeypatch))
    ref = [stream, glued, figure]
    assert outputs_differ(ref, [figure, glued, stream | {"text": "mean 0.26\n"}]) is None
    for new in (
        [stream, glued],
        [glued, figure],
        [stream, glued, glued, figure],
        [stream, shown(glued["data"], "chance"), figure],
        [stream | {"name": "stderr"}, glued, figure],
        [stream | {"text": "mean 0.28\n"}, glued, figure],
        [stream, shown({"application/papermill.record/text/plain": "'0.7'"}, "share"), figure],
        [stream, glued, shown(bundle(monkeypatch, y=[0.1, 0.4, 0.3]))],
    ):
        assert outputs_differ(ref, new)
        assert outputs_differ(new, ref)


def test_a_drawing_belongs_to_its_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Either without the other, or with those of another figure, is refused on both sides."""
    whole, other = bundle(monkeypatch), bundle(monkeypatch, y=[0.1, 0.4, 0.2 + 1e-9])
    assert published.digest(whole["text/csv"]) in whole["image/svg+xml"]
    plain = [shown(whole)]
    for wrong in (
        {k: v for k, v in whole.items() if k != "text/csv"},
        {k: v for k, v in whole.items() if k != "image/svg+xml"},
        whole | {"text/csv": whole["text/csv"].replace("0.4", "0.5")},
        whole | {"image/svg+xml": bundle(monkeypatch, y=[0.2, 0.4, 0.2])["image/svg+xml"]},
    ):
        assert "committed" in (outputs_differ([shown(wrong)], plain) or "")
        assert "computed" in (outputs_differ(plain, [shown(wrong)]) or "")
    assert outputs_differ(plain, [shown(other)]) is None


# --- in nbval --------------------------------------------------------------------------------


def run_nbval(folder: Path, source: str, text: str) -> subprocess.CompletedProcess[str]:
    """nbval, with the comparison of this tree, on a notebook of one cell."""
    output = {"output_type": "stream", "name": "stdout", "text": text}
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "execution_count": 1}
    cell |= {"source": source, "outputs": [output]}
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [cell]}
    (folder / "one.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    options = ["--nbval", "--nbval-current-env", "-p", "no:xdist", "-p", "no:cacheprovider"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tools.outputs", *options, "--rootdir", ".", "."],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_nbval_compares_so(tmp_path: Path) -> None:
    """A unit of the last digit passes in nbval, and two are reported with both numbers."""
    assert run_nbval(tmp_path, "print(f'{0.25:.2f}')", "0.24\n").returncode == 0
    ran = run_nbval(tmp_path, "print(f'{0.25:.2f}')", "0.23\n")
    assert ran.returncode == 1
    assert "stdout: '0.23' became '0.25'" in ran.stdout
