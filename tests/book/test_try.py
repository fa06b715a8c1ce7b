"""The notebooks to try: one for each chapter of evidence, short, and true as it is delivered.

An experiment is three cells: a question, a cell that begins with the values to change, and what to
look for.  The metadata of the cell hold another value for each of these (``try``), and what must
be true of its outcome as long as nothing is changed (``holds``), in the words of Python.
"""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import pytest
import torch
from test_notebooks import cells, code_cells, each_notebook, prose

from tools.browser import ROOT, toc_documents

TRY = ROOT / "book" / "try"
NOTEBOOKS = sorted(TRY.glob("*.ipynb"))
MARK = "# Change these:"
LINK = re.compile(r"\{download\}`[^`<]+ <(try/[\w-]+\.ipynb)>`")
SECTION = "## Try it yourself\n"

# Of memory and time, where jitter has its part.
MEASURING = {"try-speed"}

each_try = pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=[pytest.mark.unmoved] * (p.stem in MEASURING)) for p in NOTEBOOKS],
    ids=lambda path: path.stem,
)


def evidence() -> list[Path]:
    """The notebooks of the contents that lead with a box and show figures, but for the tables."""
    names = [name for name in toc_documents() if not name.endswith("-tables")]
    listed = [(ROOT / name).with_suffix(".ipynb") for name in names]
    return [
        path
        for path in listed
        if path.is_file()
        and re.search(r"\{admonition\} (Verdict|In one minute)", prose(path))
        and any("figure" in cell["metadata"].get("mystnb", {}) for cell in code_cells(path))
    ]


def experiments(path: Path) -> list[dict[str, Any]]:
    """The cells that hold values to change."""
    return [cell for cell in code_cells(path) if cell["source"].startswith(MARK)]


def values(source: str) -> dict[str, ast.Assign]:
    """The assignments between the mark and the first empty line, by the name assigned to."""
    block = source.split("\n\n", 1)[0]
    found = {}
    for node in ast.parse(block).body:
        assert isinstance(node, ast.Assign), f"not an assignment: {ast.unparse(node)}"
        (name,) = node.targets
        assert isinstance(name, ast.Name)
        ast.literal_eval(node.value)  # what a reader changes is a plain value
        found[name.id] = node
    return found


def changed(source: str, name: str, value: object) -> str:
    """The cell with another value for one name."""
    node = values(source)[name]
    lines = source.splitlines()
    lines[node.lineno - 1 : node.end_lineno] = [f"{name} = {value!r}"]
    return "\n".join(lines)


# --- what is written -------------------------------------------------------------------------


@pytest.mark.parametrize("path", evidence(), ids=lambda path: path.stem)
def test_each_chapter_of_evidence_ends_with_experiments(path: Path) -> None:
    *_, last = cells(path)
    assert last["cell_type"] == "markdown"
    assert last["source"].startswith(SECTION), "the last section is to be 'Try it yourself'"
    (link,) = LINK.findall(last["source"])
    assert path.parent / link in NOTEBOOKS
    assert "`make lab`" in last["source"]
    questions = re.findall(r"^\d\. (.+)$", last["source"], re.M)
    assert len(questions) == 3
    assert all(question.endswith("?") for question in questions)
    assert f"`{path.stem}`" in cells(path.parent / link)[0]["source"]


def test_each_notebook_belongs_to_a_chapter() -> None:
    links = [link for path in evidence() for link in LINK.findall(prose(path))]
    assert len(links) == len(set(links)) >= 12
    assert {ROOT / "book" / link for link in links} == set(NOTEBOOKS)
    assert not [document for document in toc_documents() if document.startswith("book/try/")]


@each_notebook
def test_nothing_stands_after_the_experiments(path: Path) -> None:
    sections = [cell for cell in cells(path) if cell["source"].startswith(SECTION)]
    assert not sections or sections == [cells(path)[-1]]


@each_try
def test_is_as_committed_without_a_run(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert text == nbformat.writes(notebook) + "\n"
    assert "version" not in notebook.metadata.language_info
    for cell in code_cells(path):
        assert not cell["outputs"], "clear all outputs before you commit"
        assert cell["execution_count"] is None
        assert set(cell["metadata"]) <= {"try", "holds"}
    assert [cell["id"] for cell in json.loads(text)["cells"]] == [
        f"{path.stem}-{k:02d}" for k in range(1, len(notebook.cells) + 1)
    ]


@each_try
def test_three_experiments(path: Path) -> None:
    heading, setup, *rest = cells(path)
    assert heading["source"].startswith("# Try it yourself: ")
    assert setup["cell_type"] == "code"
    assert MARK not in setup["source"]
    assert [cell["cell_type"] for cell in rest] == ["markdown", "code", "markdown"] * 3
    for number, (question, cell, answer) in enumerate(
        zip(rest[::3], rest[1::3], rest[2::3], strict=True), 1
    ):
        assert question["source"].startswith(f"## {number}. ")
        assert question["source"].endswith("? Guess first.")
        assert cell in experiments(path)
        assert answer["source"].startswith("**What to look for.** ")
        names = set(values(cell["source"]))
        assert 1 <= len(names) <= 4
        assert set(cell["metadata"]["try"]) == names, "name another value for each"


@each_try
def test_needs_no_file(path: Path) -> None:
    """It runs wherever it was saved to."""
    for cell in code_cells(path):
        assert not re.search(r"\bopen\(|\bPath\(|\bread\w*\(|data/", cell["source"])


def test_a_changed_value_takes_the_place_of_one() -> None:
    source = f"{MARK}\na = 1\nb = [\n    2,\n]\n\nprint(a, b)"
    assert changed(source, "b", [3]) == f"{MARK}\na = 1\nb = [3]\n\nprint(a, b)"
    with pytest.raises(ValueError, match="malformed"):
        values(f"{MARK}\na = range(3)\n\n")


# --- what happens ----------------------------------------------------------------------------


@pytest.fixture
def _no_trace() -> Iterator[None]:
    """No window, figure, style, variable or type of numbers is left for other tests."""
    plt.switch_backend("Agg")
    kind = torch.get_default_dtype()
    with mpl.rc_context(), patch.dict(os.environ):
        yield
    plt.close("all")
    torch.set_default_dtype(kind)


def run(source: str, space: dict[str, Any], path: Path) -> None:
    # An object of the cell's own, so that an error shows whose it is.
    exec(compile(source, str(path), "exec"), space)
    plt.close("all")


@each_try
@pytest.mark.usefixtures("_no_trace")
def test_as_delivered_it_runs_and_shows_what_it_says(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space: dict[str, Any] = {}
    for cell in code_cells(path):
        run(cell["source"], space, path)
        if cell in experiments(path):
            assert capsys.readouterr().out.strip(), "it shows no number"
        for claim in cell["metadata"].get("holds", []):
            assert eval(claim, space), claim


@each_try
@pytest.mark.usefixtures("_no_trace")
def test_each_value_can_be_changed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One at a time, each experiment without the ones before it."""
    setup: dict[str, Any] = {}
    run(code_cells(path)[0]["source"], setup, path)
    for cell in experiments(path):
        for name, value in cell["metadata"]["try"].items():
            assert value != ast.literal_eval(values(cell["source"])[name].value)
            run(changed(cell["source"], name, value), dict(setup), path)
            assert capsys.readouterr().out.strip()
