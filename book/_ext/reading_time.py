"""Sphinx: below the title of each chapter, how long it takes to read.

Words of prose at 200 a minute; a formula counts as a few words, code and outputs as none, which the
line says where there are any.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

__all__ = ["LOOKED_UP", "minutes", "setup", "words"]

WORDS_A_MINUTE = 200
WORDS_A_FORMULA = 3
WORDS_A_DISPLAY = 12

# Nobody reads these from top to bottom.
LOOKED_UP = ("book/figures", "book/statements", "book/reference", "book/references")
PASSED_OVER = (
    nodes.literal_block,
    nodes.raw,
    nodes.comment,
    nodes.image,
    nodes.target,
    addnodes.desc,
)


def is_cell(node: nodes.Node) -> bool:
    """Whether a node holds the input or the output of a notebook's cell."""
    return isinstance(node, nodes.Element) and bool(
        {"cell_input", "cell_output"} & set(node["classes"])
    )


def words(node: nodes.Node) -> int:
    """The length of what stands in a node, in words."""
    if isinstance(node, PASSED_OVER):
        return 0
    if isinstance(node, nodes.Text):
        return len(node.split())
    if isinstance(node, nodes.math):
        return WORDS_A_FORMULA
    if isinstance(node, nodes.math_block):
        return WORDS_A_DISPLAY
    # The figures that a notebook's cells draw have captions to be read.
    if is_cell(node):
        return sum(words(caption) for caption in node.findall(nodes.caption))
    return sum(map(words, node.children))


def minutes(document: nodes.document) -> int:
    """How long it takes to read, at least one."""
    return max(1, round(words(document) / WORDS_A_MINUTE))


def insert(app: Sphinx, document: nodes.document) -> None:
    """Put the line below the title."""
    title = next(document.findall(nodes.title), None)
    if title is None or app.env.docname.startswith(LOOKED_UP):
        return
    time = minutes(document)
    text = f"{time} minute{'s' if time > 1 else ''} to read"
    if next(document.findall(is_cell), None):
        text += ", without code and outputs"
    line = nodes.paragraph("", text, classes=["reading-time", "d-print-none"])
    title.parent.insert(title.parent.index(title) + 1, line)


def setup(app: Sphinx) -> dict[str, Any]:
    """Time each chapter when it has been read."""
    app.connect("doctree-read", insert)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
