"""Sphinx: what the symbols of a chapter mean, out of the tables of ``book/notation.md``.

Below the box at the head of a chapter stands a list, folded, of the symbols that its formulas
use; and each formula carries the numbers of its symbols as classes, by which
``book/assets/symbols.js`` shows their meanings when it is pointed at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

__all__ = ["Atom", "Symbol", "atoms", "known", "setup", "table", "used"]

TOKEN = re.compile(r"\\[a-zA-Z]+\*?|\\.|\S")
ACCENTS = {r"\hat", r"\bar", r"\tilde", r"\vec", r"\dot", r"\widehat", r"\overline"}
# Of these the next group holds letters that are no symbols.
WORDS = {
    *(r"\text", r"\textrm", r"\textit", r"\mathrm", r"\operatorname", r"\operatorname*"),
    *(r"\mathbb", r"\mathcal", r"\mathbf", r"\label", r"\tag", r"\begin", r"\end", r"\color"),
}
GREEK = re.compile(
    r"\\(?:var)?(?:alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|pi|rho|"
    r"sigma|tau|phi|chi|psi|omega|Gamma|Delta|Theta|Lambda|Xi|Pi|Sigma|Phi|Psi|Omega)"
)
# A letter with such a subscript is an entry of what the letter stands for.
INDEX = re.compile(r"(?:[bijklm]|\\ell|\d|[-+,])+|\\cdot")


class Atom(NamedTuple):
    """A letter as a formula has it."""

    accent: str
    letter: str
    subscript: str


@dataclass(frozen=True)
class Symbol:
    """A row of a table.

    Attributes:
        tex: one or more letters, as the row has them.
        meaning: text with formulas between dollars.
        code: the name in the code, or nothing.
        chapters: where it means this; everywhere, if empty.
    """

    tex: tuple[str, ...]
    meaning: str
    code: str = ""
    chapters: tuple[str, ...] = ()


# --- reading a formula ---------------------------------------------------------------------------


def group(tokens: list[str], at: int) -> tuple[list[str], int]:
    """The tokens of the argument that begins at ``at``, and where the next one begins."""
    if at >= len(tokens) or tokens[at] != "{":
        return tokens[at : at + 1], at + 1
    depth = 0
    for end in range(at, len(tokens)):
        depth += {"{": 1, "}": -1}.get(tokens[end], 0)
        if depth == 0:
            return tokens[at + 1 : end], end + 1
    return tokens[at + 1 :], len(tokens)


def atoms(tex: str) -> Iterator[Atom]:
    """The letters of a formula, in their order; those with a prime are others, and left out."""
    yield from _atoms(TOKEN.findall(tex))


def _atoms(tokens: list[str]) -> Iterator[Atom]:
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if token in WORDS:
            _, at = group(tokens, at + 1)
            continue
        accent, letter = "", token
        if token in ACCENTS:
            inner, after = group(tokens, at + 1)
            if len(inner) != 1:
                at += 1
                continue
            accent, letter = token, inner[0]
        else:
            after = at + 1
        if not (re.fullmatch("[A-Za-z]", letter) or GREEK.fullmatch(letter)):
            at += 1
            continue
        primed = False
        scripts: dict[str, list[str]] = {}
        while after < len(tokens) and tokens[after] in ("_", "^", "'"):
            if tokens[after] == "'":
                primed, after = True, after + 1
            else:
                mark = tokens[after]
                scripts[mark], after = group(tokens, after + 1)
        primed = primed or scripts.get("^", [""])[:1] == [r"\prime"]
        if not primed:
            yield Atom(accent, letter, "".join(scripts.get("_", [])))
        for inner in scripts.values():
            yield from _atoms(inner)
        at = after


def used(tex: str, numbers: Mapping[Atom, int]) -> list[int]:
    """The numbers of the symbols in a formula, each once, in the order of the table."""
    found = set()
    for atom in atoms(tex):
        first, _, rest = atom.subscript.partition(",")
        if atom in numbers:
            found.add(numbers[atom])
        elif not atom.subscript or INDEX.fullmatch(atom.subscript):
            found.add(numbers.get(atom._replace(subscript=""), -1))
        elif INDEX.fullmatch(rest):
            found.add(numbers.get(atom._replace(subscript=first), -1))
    return sorted(found - {-1})


# --- reading the tables --------------------------------------------------------------------------


def rows(text: str) -> Iterator[dict[str, str]]:
    """The rows of the tables of a page, by the headings of their columns."""
    columns: list[str] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            columns = []
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not columns:
            columns = cells
        elif not re.fullmatch(r"[-:]*", cells[0]):
            yield dict(zip(columns, cells, strict=True))


def table(text: str) -> list[Symbol]:
    """The symbols of the notation, those that mean something in a few chapters after the rest."""
    found = []
    for row in rows(text):
        if "Symbol" in row:
            chapters = re.findall(r"\{doc\}`([\w-]+)`", row.get("Where", ""))
            # What refers to a place in the book does not belong into a few words.
            meaning = re.sub(r",? \{eq\}`[^`]*`", "", row["Meaning"])
            code = re.match(r"`[^`]*`", row.get("In the code", ""))
            tex = re.findall(r"\$([^$]+)\$", row["Symbol"])
            found.append(
                Symbol(tuple(tex), meaning, code[0].strip("`") if code else "", tuple(chapters))
            )
    return found


def known(symbols: list[Symbol], chapter: str) -> dict[Atom, int]:
    """For each letter the number of the symbol that it is in a chapter."""
    found = {}
    for number, symbol in enumerate(symbols):
        if not symbol.chapters or chapter in symbol.chapters:
            for tex in symbol.tex:
                found[next(atoms(tex))] = number
    return found


# --- on the pages --------------------------------------------------------------------------------

NOTATION = "book/notation"
# These show formulas of all chapters, in which a letter need not mean the same.
WITHOUT = (NOTATION, "book/figures", "book/statements", "book/reference")


class SymbolList(nodes.comment):
    """The folded list. A comment to Sphinx, so that a search does not find it on every page."""


def spoken(text: str) -> Iterator[nodes.Node]:
    """Text with formulas between dollars."""
    for number, piece in enumerate(text.split("$")):
        if piece:
            yield nodes.math("", piece) if number % 2 else nodes.Text(piece)


def listed(symbols: list[Symbol], numbers: list[int]) -> SymbolList:
    """The list of some of the symbols, and the way to all."""
    entries = nodes.definition_list()
    for number in numbers:
        symbol = symbols[number]
        term = nodes.term("", classes=[f"symbol-{number}"])
        for place, tex in enumerate(symbol.tex):
            term += [nodes.Text(", ")] * bool(place) + [nodes.math("", tex)]
        meaning = nodes.paragraph("", "", *spoken(symbol.meaning))
        if symbol.code:
            meaning += [nodes.Text("; in the code "), nodes.literal("", symbol.code)]
        entries += nodes.definition_list_item("", term, nodes.definition("", meaning))
    to = {"refdomain": "std", "reftype": "doc", "reftarget": f"/{NOTATION}"}
    way = pending_xref("", nodes.inline("", "All symbols"), **to, refexplicit=True, refwarn=True)
    return SymbolList("", "", entries, nodes.paragraph("", "", way))


def mark(app: Sphinx, document: nodes.document) -> None:
    """Number the symbols of each formula, and list those of the page below its box."""
    name = app.env.docname
    box = next((b for b in document.findall(nodes.admonition) if "tip" in b["classes"]), None)
    if name.startswith(WITHOUT) or box is None:
        return
    file = Path(app.env.doc2path(NOTATION))
    app.env.note_dependency(str(file))
    symbols = table(file.read_text(encoding="utf-8"))
    numbers = known(symbols, name.rpartition("/")[2])
    on_the_page: set[int] = set()
    for kind in (nodes.math, nodes.math_block):
        for formula in document.findall(kind):
            if not isinstance(formula.parent, nodes.title):
                found = used(formula.astext(), numbers)
                formula["classes"] += [f"symbol-{number}" for number in found]
                on_the_page.update(found)
    if on_the_page:
        box.parent.insert(box.parent.index(box) + 1, listed(symbols, sorted(on_the_page)))


def visit_list(self: HTML5Translator, node: SymbolList) -> None:
    """Open the list."""
    self.body.append(
        '<details class="symbols d-print-none"><summary>Symbols on this page</summary>'
    )


def depart_list(self: HTML5Translator, node: SymbolList) -> None:
    """Close it."""
    self.body.append("</details>\n")


def setup(app: Sphinx) -> dict[str, Any]:
    """Mark the formulas of each chapter when it has been read."""
    app.add_node(SymbolList, html=(visit_list, depart_list))
    app.connect("doctree-read", mark)
    app.add_js_file("symbols.js", loading_method="defer")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
