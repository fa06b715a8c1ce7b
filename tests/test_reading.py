"""Aids to the reader: ways between statements, tests and code; boxes; search; symbols."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from bs4 import BeautifulSoup, Tag
from docutils import nodes

from tools.browser import ROOT, SITE, toc_documents
from tools.reading_time import LOOKED_UP, WORDS_A_DISPLAY, WORDS_A_FORMULA, words
from tools.statement_index import TEST, anchor, check, other_tests, prose, statements

DOCUMENTS = toc_documents()
STATEMENTS = SITE / "book" / "statements.html"

each_document = pytest.mark.parametrize("document", DOCUMENTS)
on_the_site = pytest.mark.usefixtures("built_site")


def source(document: str) -> Path:
    return next(f for s in ("md", "ipynb") if (f := ROOT / f"{document}.{s}").exists())


@cache
def article(page: Path) -> Tag:
    html = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    found = html.select_one("article.bd-article")
    assert found is not None
    return found


def hrefs(tag: Tag) -> list[str]:
    return [str(link["href"]) for link in tag.find_all("a", href=True)]


# --- statements, tests and code ----------------------------------------------------------------


EXAMPLE = """
```{prf:lemma} A $\\theta$
:label: lem-a

Body.
```

```{prf:proof}
Clear.
```

Test: `tests/test_a.py::test_one`, `tests/test_a.py::test_two`

## Next

`tests/test_a.py::test_three`
"""


def test_statements_name_the_tests_up_to_the_next_heading() -> None:
    (found,) = statements(EXAMPLE)
    assert (found.label, found.title) == ("lem-a", "A $\\theta$")
    assert found.tests == (("tests/test_a.py", "test_one"), ("tests/test_a.py", "test_two"))
    assert other_tests(EXAMPLE) == [("tests/test_a.py", "test_three")]


def test_what_a_test_says_and_calls(tmp_path: Path) -> None:
    file = tmp_path / "test_a.py"
    file.write_text(
        "import ils\n"
        "from ils.squeeze import kl as divergence\n\n"
        "def helper():\n    return divergence, helper()\n\n"
        "class TestA:\n"
        "    @mark\n"
        "    def test_one(self):\n"
        '        """It holds\n        always.\n\n        More.\n        """\n'
        "        helper(ils.sample(torch.ones(2)))\n",
        encoding="utf-8",
    )
    found = check(file, "test_one")
    assert found.says == "It holds always."
    assert found.source.startswith("@mark\ndef test_one(self):")
    assert sorted(found.calls) == ["ils.sample", "ils.squeeze.kl"]


@on_the_site
@each_document
def test_every_statement_is_listed_with_its_tests(document: str) -> None:
    index = article(STATEMENTS)
    for statement in statements(prose(source(document))):
        (link,) = index.select(f'.statement a[href="{Path(document).name}.html#{statement.label}"]')
        assert re.fullmatch(r"(Proposition|Lemma|Corollary|Theorem|Conjecture) [\d.]+", link.text)
        for file, name in statement.tests:
            entry = index.find(id=anchor(file, name))
            assert isinstance(entry, Tag)
            assert f"{file}::{name}" in entry.text
            block = entry.select_one("details.d-print-none pre")
            assert block is not None
            (function,) = ast.parse(block.text).body
            assert isinstance(function, ast.FunctionDef)
            assert function.name == name
            said = (ast.get_docstring(function) or "").split()
            assert said, f"{file}::{name} does not say what it tests"


@on_the_site
@each_document
def test_names_of_tests_lead_to_the_list(document: str) -> None:
    """Each name of a test in a chapter, and none is left without its link."""
    page = article(SITE / f"{document}.html")
    for code in page.select("code.literal"):
        found = TEST.fullmatch(f"`{code.text}`")
        if found and document != "book/statements":
            assert code.parent is not None
            assert code.parent.name == "a", f"{code.text} is no link"
            assert code.parent["href"] == f"statements.html#{anchor(found[1], found[2])}"


@on_the_site
def test_names_of_the_package_lead_to_the_reference() -> None:
    def target(document: str, name: str) -> set[str]:
        page = article(SITE / "book" / f"{document}.html")
        codes = [code for code in page.select("code.literal") if code.text == name]
        links = [code.parent for code in codes if code.parent and code.parent.name == "a"]
        assert links
        return {str(link["href"]) for link in links}

    assert target("construction", "ils.sample") == {"reference.html#ils.sample"}
    assert target("notation", "ils.simplex.pullback") == {"reference.html#ils.simplex.pullback"}
    assert target("statements", "ils.squeeze.kl") == {"reference.html#ils.squeeze.kl"}


@on_the_site
def test_links_into_the_code_are_many_and_not_in_headings() -> None:
    links = [a for d in DOCUMENTS for a in article(SITE / f"{d}.html").select("a.to-code")]
    assert len(links) > 300
    assert not [a for a in links if a.find_parent(["h1", "h2", "h3", "h4", "pre"])]


@on_the_site
def test_the_reference_leads_back_to_the_statements() -> None:
    entry = article(SITE / "book" / "reference.html").find(id="ils.squeeze.jensen_bound")
    assert isinstance(entry, Tag)
    assert entry.parent is not None
    assert "squeeze.html#prop-ladder" in hrefs(entry.parent)


# --- the head of a chapter ---------------------------------------------------------------------


@on_the_site
@each_document
def test_chapter_begins_with_what_can_be_read_in_a_minute(document: str) -> None:
    page = article(SITE / f"{document}.html")
    box = page.select_one("h1 + div.tip.admonition, h1 + p.reading-time + div.tip.admonition")
    assert box is not None, "no box below the title"
    heading = box.select_one(".admonition-title")
    assert heading is not None
    assert heading.text in {"In one minute", "Verdict"}
    length = len(box.text.split())
    assert 10 < length < 200, f"{length} words are not read in a minute"


@on_the_site
@each_document
def test_reading_time(document: str) -> None:
    page = article(SITE / f"{document}.html")
    lines = page.select("h1 + p.reading-time")
    if document.startswith(LOOKED_UP):
        assert not lines
        return
    (line,) = lines
    found = re.fullmatch(r"(1 minute|\d+ minutes) to read", line.text)
    assert found
    time = int(found[1].split()[0])
    # All that is on the page, code and outputs among it, takes longer; no page is a book.
    assert 1 <= time <= max(1, len(page.text.split()) / 200 + 1)
    assert time <= 20, "split the chapter"


def test_words_are_those_of_prose() -> None:
    cell = nodes.container("", classes=["cell_output"])
    cell += [
        nodes.paragraph("", "an output"),
        nodes.figure("", nodes.caption("", "Three words here")),
    ]
    section = nodes.section(
        "",
        nodes.paragraph("", "Four words and ", nodes.math("", "x + y"), nodes.Text(" more")),
        nodes.math_block("", "x = y"),
        nodes.literal_block("", "code = 1"),
        nodes.comment("", "a comment"),
        cell,
    )
    assert words(section) == 4 + WORDS_A_FORMULA + WORDS_A_DISPLAY + 3
