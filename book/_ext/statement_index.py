"""Sphinx: ways between the propositions of the book, their tests, and the code, in all directions.

- The directive ``statement-index`` lists by chapter the numbered statements that are proved, those
  that are conjectured, the claims that are refuted, or the tests named elsewhere; with each the
  tests that it names: what each says, what of the package it calls, and its source.
- On every page a literal ``tests/x.py::name`` becomes a link to that list, and one that names
  something of the package, such as ``ils.sample``, a link to the reference.
- An entry of the reference ends with the statements whose tests call it.

Everything comes from the sources, so nothing can be forgotten; ``tests/book/test_reading.py`` holds
the pages to that.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode
from sphinx.writers.html5 import HTML5Translator

# Sphinx puts the folder of this file on the path, and not the one above.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from _ext.statements import TEST, Chapter, anchor, chapters, check

__all__ = ["setup"]

INDEX = "book/statements"
Row = tuple[str, tuple[tuple[str, str], ...]]
OF_THE_PACKAGE = re.compile(r"(ils(?:\.\w+)+)(?:\(.*\))?", re.S)


# --- the page --------------------------------------------------------------------------------


def told(text: str) -> Iterator[nodes.Node]:
    """The docstring of a test: its code is code, and the labels of statements are links."""
    for piece in re.split(r"(``[^`]+``|\bprop-[a-z-]*[a-z])", text):
        if piece.startswith("``"):
            yield nodes.literal("", piece.strip("`"))
        elif piece.startswith("prop-"):
            yield referred(piece)
        else:
            yield nodes.Text(piece)


def referred(label: str) -> pending_xref:
    """What ``{prf:ref}`` makes."""
    to = {"refdomain": "prf", "reftype": "ref", "reftarget": label}
    inner = nodes.inline("", label)
    return pending_xref("", inner, **to, refexplicit=False, refwarn=True)


def proved(chapter: Chapter) -> Iterator[Row]:
    """With the way to the proofs that stand elsewhere."""
    for one in chapter.statements:
        if one.kind != "conjecture":
            proof = f" ([proof]({one.proof}))" if one.proof else ""
            yield f"**{{prf:ref}}`{one.label}`** {one.title}{proof}", one.tests


def conjectured(chapter: Chapter) -> Iterator[Row]:
    for one in chapter.statements:
        if one.kind == "conjecture":
            yield f"**{{prf:ref}}`{one.label}`** {one.title}. The evidence:", one.tests


def refuted(chapter: Chapter) -> Iterator[Row]:
    for one in chapter.refuted:
        by = f"{one.by}." if one.by else "the tests."
        stop = "" if one.quotation.endswith((".", "!", "?", "…")) else "."
        yield f"**{{ref}}`Claim <{one.label}>`** “{one.quotation}”{stop} Refuted by {by}", one.tests


def elsewhere(chapter: Chapter) -> Iterator[Row]:
    if chapter.others:
        yield f"In {{doc}}`{chapter.file.stem}`", tuple(chapter.others)


PARTS = {part.__name__: part for part in (proved, conjectured, refuted, elsewhere)}


class StatementIndex(SphinxDirective):
    """One part of the list: a section a chapter, and in it an entry a statement or claim."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        root, part = Path(self.env.srcdir), self.arguments[0]
        # The first time that the page has a chapter, or a test, has its address.
        shown = self.env.temp_data.setdefault("statement-index", set())
        found = []
        for chapter in chapters(root):
            self.env.note_dependency(str(chapter.file))
            address = f"statements-{chapter.file.stem}"
            ids = [f"{address}-{part}" if address in shown else address]
            section = nodes.section("", nodes.title("", chapter.title), ids=ids)
            for heading, tests in PARTS[part](chapter):
                box = nodes.container("", classes=["statement"])
                self.state.nested_parse(StringList([heading], source="statement-index"), 0, box)
                section += box
                for test in tests:
                    self.env.note_dependency(str(root / test[0]))
                    section += self._entry(root, *test, again=test in shown)
                    shown.add(test)
            if len(section) > 1:
                found.append(section)
                shown.add(address)
        return found

    def _entry(self, root: Path, file: str, name: str, *, again: bool) -> nodes.Node:
        test = check(root / file, name)
        literal = nodes.literal("", f"{file}::{name}")
        line = nodes.paragraph("", "", literal, nodes.Text(": "), *told(test.says))
        box = nodes.container("", line, classes=["statement-test"])
        if again:  # its name is a link to the first time
            return box
        literal["unlinked"] = True
        box["ids"] = [anchor(file, name)]
        box += calls("", "", called=test.calls)
        lines = test.source.count("\n") + 1
        opening = f'<details class="d-print-none"><summary>Source, {lines} lines</summary>'
        box += nodes.raw("", opening, format="html")
        box += nodes.literal_block(test.source, test.source, language="python")
        box += nodes.raw("", "</details>", format="html")
        return box


class calls(nodes.paragraph):
    """What a test calls; filled in when the entries of the reference are known."""


# --- links on all pages ----------------------------------------------------------------------


def listed(app: Sphinx) -> set[str]:
    """The anchors of all tests on the page of statements."""
    if not hasattr(app, "_ils_anchors"):
        root = Path(app.srcdir)
        app._ils_anchors = {  # type: ignore[attr-defined]
            anchor(*test) for chapter in chapters(root) for test in chapter.tests()
        }
    return app._ils_anchors  # type: ignore[attr-defined]


def thing(name: str) -> object | None:
    """What a dotted name stands for, if it has an identity: numbers and strings have none."""
    try:
        found = resolve_name(name)
    except (ImportError, AttributeError, ValueError):
        return None
    return found if isinstance(found, ModuleType) or hasattr(found, "__qualname__") else None


def entries(app: Sphinx) -> dict[int, str]:
    """The names in the reference, by the identity of what they name; the shortest first."""
    if not hasattr(app, "_ils_entries"):
        known = app.env.domains["py"].objects  # type: ignore[attr-defined]
        names = sorted((n for n in known if n.startswith("ils.")), key=len, reverse=True)
        app._ils_entries = {id(thing(n)): n for n in names if thing(n)}  # type: ignore[attr-defined]
    return app._ils_entries  # type: ignore[attr-defined]


def entry(app: Sphinx, name: str) -> str | None:
    """The name by which the reference has what ``name`` names, or None."""
    if name in app.env.domains["py"].objects:  # type: ignore[attr-defined]
        return name
    found = thing(name)
    return entries(app).get(id(found)) if found is not None else None


def to_reference(
    app: Sphinx, here: str, name: str, literal: nodes.literal
) -> nodes.reference | None:
    target = entry(app, name)
    if target is None:
        return None
    to = app.env.domains["py"].objects[target]  # type: ignore[attr-defined]
    assert app.builder is not None
    return make_refnode(app.builder, here, to.docname, to.node_id, literal, target)


def link(app: Sphinx, doctree: nodes.document, here: str) -> None:
    """Make links of the literals that name a test or something of the package."""
    for node in list(doctree.findall(nodes.literal)):
        parent = node.parent
        while parent is not None and not isinstance(
            parent, nodes.title | nodes.reference | nodes.literal_block
        ):
            parent = parent.parent
        if parent is not None or node.get("unlinked"):
            continue
        text = node.astext()
        test, name = TEST.fullmatch(f"`{text}`"), OF_THE_PACKAGE.fullmatch(text)
        new: nodes.reference | None = None
        if test and anchor(test[1], test[2]) in listed(app):
            target = anchor(test[1], test[2])
            new = make_refnode(app.builder, here, INDEX, target, node.deepcopy())
        elif name:
            new = to_reference(app, here, name[1], node.deepcopy())
        if new is not None:
            new["classes"] += ["to-code"]
            node.replace_self(new)
    for node in list(doctree.findall(calls)):
        names = dict.fromkeys(filter(None, (entry(app, name) for name in node["called"])))
        found = [to_reference(app, here, name, nodes.literal("", name)) for name in sorted(names)]
        for number, new in enumerate(filter(None, found)):
            node += nodes.Text(", " if number else "Calls ")
            new["classes"] += ["to-code"]
            node += new
        if not found:
            node.parent.remove(node)


def callers(app: Sphinx) -> dict[int, list[str]]:
    """The labels of the statements whose tests call a thing, by its identity."""
    if not hasattr(app, "_ils_callers"):
        root, found = Path(app.srcdir), {}
        for chapter in chapters(root):
            for statement in chapter.statements:
                for file, name in statement.tests:
                    for used in map(thing, check(root / file, name).calls):
                        labels = found.setdefault(id(used), []) if used is not None else []
                        if statement.label not in labels:
                            labels.append(statement.label)
        app._ils_callers = found  # type: ignore[attr-defined]
    return app._ils_callers  # type: ignore[attr-defined]


def end_entry(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """End an entry of the reference with the statements whose tests call it."""
    labels = callers(app).get(id(obj), []) if what in ("function", "class") else []
    if labels:
        roles = ", ".join(f":prf:ref:`{label}`" for label in labels)
        lines += ["", f"Called in the tests of {roles}.", ""]


def visit_calls(self: HTML5Translator, node: calls) -> None:
    """Open the line of what a test calls."""
    self.body.append(self.starttag(node, "p"))


def depart_calls(self: HTML5Translator, node: calls) -> None:
    """Close it."""
    self.body.append("</p>\n")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive and the links."""
    app.add_directive("statement-index", StatementIndex)
    app.add_node(calls, html=(visit_calls, depart_calls))
    app.connect("doctree-resolved", link)
    # After napoleon, which would take the line for a part of the last section.
    app.connect("autodoc-process-docstring", end_entry, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
