"""The sources of the book: notebooks are executed and honest, pages point at things that exist.

nbval compares what a notebook shows with what it computes, as ``tools/outputs.py`` says; but a
notebook that was stripped of its outputs passes it, and so does one that shows only what is not
compared. The tests here close those gaps.
"""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from _ext.statements import KINDS, STATEMENT, TEST
from tools.browser import ROOT, toc_documents

BOOK = ROOT / "book"
README = ROOT / "README.md"
NOTEBOOKS = sorted(BOOK.glob("*.ipynb"))
TO_TRY = sorted((BOOK / "try").glob("*.ipynb"))
PAGES = sorted(BOOK.glob("*.md"))
MOST_LINES = 15
# The one definition that is shown: this code is what its page is about.
SHOWN = ("method.ipynb", "class IntermediateLossSampling(torch.autograd.Function):", 20)
# What the book shows, and tools/outputs.py compares: neither pixels nor what needs a program.
GLUED = "application/papermill.record/text/plain"
KINDS_OF_OUTPUT = {"text/plain", "text/html", "image/svg+xml", "text/csv", GLUED}

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
each_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)


@cache
def cells(path: Path) -> list[dict[str, Any]]:
    """All cells, with their sources joined; empty code cells are left out."""
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for cell in found:
        cell["source"] = "".join(cell["source"])
    return [cell for cell in found if cell["source"].strip() or cell["cell_type"] != "code"]


def code_cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in cells(path) if cell["cell_type"] == "code"]


def outputs(path: Path) -> list[dict[str, Any]]:
    return [output for cell in code_cells(path) for output in cell["outputs"]]


def tree(source: str) -> ast.Module:
    """The syntax of a cell; magics and shell lines are not Python and become ``pass``."""
    return ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.M))


def called(source: str) -> set[str]:
    """The names of the functions called in a cell."""
    calls = [node.func for node in ast.walk(tree(source)) if isinstance(node, ast.Call)]
    return {getattr(f, "attr", None) or getattr(f, "id", "") for f in calls}


# --- notebooks are executed, in order, and show what nbval compares --------------------------


@each_notebook
def test_executed_once_from_top_to_bottom(path: Path) -> None:
    counts = [cell["execution_count"] for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1)), "run `make run`"


@each_notebook
def test_cells_that_display_have_outputs(path: Path) -> None:
    assert outputs(path), "a notebook without any output shows nothing"
    for cell in code_cells(path):
        body = tree(cell["source"]).body
        # A call may return None and show nothing; any other final expression is shown.
        last = body[-1] if body else None
        shows = isinstance(last, ast.Expr) and not isinstance(last.value, ast.Call | ast.Constant)
        if shows or called(cell["source"]) & {"print", "display", "publish", "glue"}:
            assert cell["outputs"], f"no output: {cell['source']}"


@each_notebook
def test_no_output_that_nbval_does_not_see(path: Path) -> None:
    for output in outputs(path):
        assert output["output_type"] != "error"
        assert output.get("name") != "stderr", "a warning was printed; mend its cause"
        assert set(output.get("data", {})) <= KINDS_OF_OUTPUT, "show text, HTML or SVG instead"


@each_notebook
def test_nothing_is_hidden_from_nbval(path: Path) -> None:
    hiding = {"nbval-skip", "nbval-ignore-output", "nbval-raises-exception", "raises-exception"}
    for cell in code_cells(path):
        assert not hiding & set(cell["metadata"].get("tags", []))
        assert not re.search(r"#\s*(NBVAL|PYTEST_VALIDATE)_", cell["source"])


@pytest.mark.parametrize("path", [*NOTEBOOKS, *TO_TRY], ids=lambda path: path.name)
def test_cells_are_short_and_define_nothing(path: Path) -> None:
    for cell in code_cells(path):
        lines = [line.strip() for line in cell["source"].splitlines()]
        count = sum(bool(line) and not line.startswith("#") for line in lines)
        shown = (path.name, lines[0]) == SHOWN[:2]
        assert count <= (SHOWN[2] if shown else MOST_LINES), f"{count} lines: {cell['source']}"
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        found = [n for n in ast.walk(tree(cell["source"])) if isinstance(n, kinds)]
        assert shown or not found, f"definitions belong in book/lab: {cell['source']}"


@each_notebook
def test_carries_no_traces_of_a_run(path: Path) -> None:
    """Times, versions and missing ids would make a second run differ from the first."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert notebook["metadata"]["kernelspec"]["name"] == "python3", "run `make run`"
    assert "version" not in notebook["metadata"].get("language_info", {})
    assert all("id" in cell and "execution" not in cell["metadata"] for cell in notebook["cells"])


# --- figures ---------------------------------------------------------------------------------


def published(source: str) -> str:
    """The name given to ``publish(figure, name, frame)``."""
    calls = [n for n in ast.walk(tree(source)) if isinstance(n, ast.Call)]
    (call,) = [c for c in calls if "publish" in (getattr(c.func, "id", ""), *attribute(c.func))]
    return ast.literal_eval(call.args[1])


def attribute(function: ast.expr) -> tuple[str, ...]:
    return (function.attr,) if isinstance(function, ast.Attribute) else ()


@each_notebook
def test_figures_are_named_and_captioned(path: Path) -> None:
    for cell in code_cells(path):
        metadata = cell["metadata"].get("mystnb", {})
        if "publish" not in called(cell["source"]):
            assert "figure" not in metadata, f"a figure must be published: {cell['source']}"
            continue
        figure = metadata.get("figure", {})
        name, caption = figure.get("name", ""), figure.get("caption", "")
        assert name.startswith("fig-"), f"no figure name in the metadata: {cell['source']}"
        assert published(cell["source"]) == name
        assert caption.strip(), f"{name} has no caption"
        kinds = [kind for output in cell["outputs"] for kind in output.get("data", {})]
        assert kinds.count("image/svg+xml") == 1, f"{name} must show exactly one SVG"
        assert kinds.count("text/csv") == 1, f"{name} must have its data beside it"


def test_the_picture_of_the_readme_is_the_figure_of_the_notebook() -> None:
    (name,) = re.findall(r"!\[[^]]+\]\(book/assets/(fig-[\w-]+)\.svg\)", README.read_text("utf-8"))
    picture = (BOOK / "assets" / f"{name}.svg").read_text(encoding="utf-8")
    svgs = [
        "".join(o["data"]["image/svg+xml"])
        for p in NOTEBOOKS
        for o in outputs(p)
        if "data" in o and "image/svg+xml" in o["data"]
    ]
    assert picture.rstrip() in [svg.rstrip() for svg in svgs], "run `make run`"


# --- the table of contents -------------------------------------------------------------------


def test_contents_and_files_agree() -> None:
    listed = {ROOT / document for document in toc_documents()}
    written = {path.with_suffix("") for path in [*NOTEBOOKS, *PAGES]}
    assert listed == written
    settings = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    assert (settings["format"], settings["root"]) == ("jb-book", "book/index")


# --- numbers in prose ------------------------------------------------------------------------

GLUE = re.compile(r"\{glue(?::\w+)?\}\s*`([^`]+)`|\{glue(?::\w+)?\}[ \t]+(\S+)")


def prose(path: Path) -> str:
    """The Markdown of a page or of a notebook."""
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    return "\n\n".join(cell["source"] for cell in cells(path) if cell["cell_type"] == "markdown")


def glued(path: Path) -> set[str]:
    """The keys that a notebook's outputs record."""
    records = [output.get("metadata", {}).get("scrapbook", {}) for output in outputs(path)]
    return {record["name"] for record in records if "name" in record}


def shown(path: Path) -> set[tuple[Path, str]]:
    """The notebook and the key of each number that a page takes from an output."""
    found = set()
    for match in GLUE.finditer(prose(path)):
        document, _, key = (match[1] or match[2]).rpartition("::")
        # A format may follow a colon, as in key:.3f or key:s.
        found.add((path.parent / document if document else path, key.split(":", 1)[0]))
    return found


@pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS], ids=lambda path: path.name)
def test_glued_keys_exist(path: Path) -> None:
    for source, key in shown(path):
        assert source.suffix == ".ipynb", f"{key}: name the notebook, as in nb.ipynb::key:s"
        assert source.is_file(), f"{key}: no notebook {source.name}"
        assert key in glued(source), f"{source.name} glues no key {key}"


def test_glued_keys_are_shown() -> None:
    known = set().union(*map(shown, [*PAGES, *NOTEBOOKS]))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, keys in re.findall(r"`(book/[\w-]+\.ipynb)` <!-- (.*?) -->", readme):
        known |= {(ROOT / name, key) for key in keys.split()}
    unused = {(path.name, key) for path in NOTEBOOKS for key in glued(path)}
    unused -= {(path.name, key) for path, key in known}
    assert not unused, "no page shows them"


FENCE = re.compile(r"\s*(`{3,}|~{3,}|:{3,})\s*(\{(code|math|bibliography)[^}]*\}|\{)?(.*)")
# What else may hold a typed number: mathematics, code, addresses, quotations, options of a
# directive, and a line with a comment that says why: <!-- typed: a setting, not a result -->.
EXEMPT = re.compile(
    r"""
      \$\$.*?\$\$
    | \\begin\{(?P<env>\w+\*?)\}.*?\\end\{(?P=env)\}
    | ^[^\n]*<!--\s*typed:[^\n]*$
    | <!--.*?-->
    | ^\s*>[^\n]*$
    | ^\s*:\w+:[^\n]*$
    | (?P<ticks>`+)[^`]+(?P=ticks)
    | (?<!\\)\$[^$]+\$
    | \]\([^)\s]*\)
    | <?https?://\S+
    """,
    re.M | re.S | re.X,
)
DECIMAL = re.compile(r"(?<![\w.:/-])\d*\.\d+(?:e[-+]?\d+)?(?![\w.])|(?<![\w.])\d+e-?\d+\b")


def without_code(text: str) -> str:
    """The text without fenced code and mathematics; the bodies of directives are prose."""
    kept: list[str] = []
    directives: list[str] = []
    code = ""
    for line in text.splitlines():
        fence = FENCE.match(line)
        bare = fence is not None and not fence[2] and not fence[4].strip()
        if fence and code:
            code = "" if bare and fence[1].startswith(code) else code
        elif fence and bare and directives and fence[1].startswith(directives[-1]):
            directives.pop()
        elif fence and fence[2] and not fence[3]:
            directives.append(fence[1])
        elif fence:
            code = fence[1]
        elif not code:
            kept.append(line)
    return "\n".join(kept)


def typed_numbers(text: str) -> list[str]:
    """Decimals in the prose, which should come out of a notebook by glue."""
    return DECIMAL.findall(EXEMPT.sub(" ", without_code(text)))


@pytest.mark.parametrize(
    "path", [*NOTEBOOKS, *TO_TRY, BOOK / "index.md", BOOK / "claims.md"], ids=lambda path: path.name
)
def test_measured_numbers_are_not_typed(path: Path) -> None:
    assert not typed_numbers(prose(path)), "glue what was measured; see CONTRIBUTING.md"


def test_the_search_for_typed_numbers_finds_them() -> None:
    text = "\n".join(
        [
            "The floor is 0.0019, or .03, or 1e-3.",
            "| verdict | 2.5 |",
            "> Quoted: 0.1 and",
            "$x = 0.2$, `0.3`, {glue:text}`a.ipynb::k:s`",
            "$$",
            "0.4",
            "$$",
            "```python",
            "0.5",
            "```",
            "```{note}",
            "0.6 is prose.",
            "```",
            "So is 0.8, between directives.",
            "```{math}",
            ":label: eq-x",
            "0.9",
            "```",
            "step size 0.7 <!-- typed: a setting -->",
        ]
    )
    assert typed_numbers(text) == ["0.0019", ".03", "1e-3", "2.5", "0.6", "0.8"]


# --- propositions and their tests ------------------------------------------------------------


@cache
def names_of_tests(path: Path) -> set[str]:
    """The test functions of a file, those in classes included."""
    if not path.is_file():
        return set()
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {n.name for n in nodes if isinstance(n, ast.FunctionDef) and n.name.startswith("test")}


@each_page
def test_each_statement_names_a_test_that_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    opened = re.findall(rf"^[ \t]*(?:`{{3,}}|:{{3,}})\{{prf:(?:{KINDS})\}}", text, re.M)
    statements = list(STATEMENT.finditer(text))
    assert len(opened) == len(statements), "a statement is indented, or its fence is not closed"
    for statement in statements:
        what = f"{statement['kind']} {statement['title'].strip()}"
        assert re.search(r"^:label:[ \t]*\S+", statement["body"], re.M), f"{what} has no label"
        links = TEST.findall(statement["body"] + statement["after"])
        assert links, f"{what} names no test, as in `tests/test_x.py::test_name`"
        for file, name in links:
            assert name in names_of_tests(ROOT / file), f"{what}: there is no {file}::{name}"


def test_sorting_is_stable() -> None:
    """Ties would come in another order on another processor."""
    for path in [*NOTEBOOKS, *(ROOT / "book" / "lab").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        stable = re.findall(r"""\.sort_values\([^\n]*kind=\\?"stable""", text)
        assert len(stable) == text.count(".sort_values("), path
