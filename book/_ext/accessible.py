"""Sphinx: small repairs of what the theme and its extensions leave inaccessible.

- an output that scrolls can be reached, and scrolled, by the keyboard;
- the bibliography is no list to a screen reader whose items are no items.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

__all__ = ["repaired", "setup"]

_CELL = r'<div class="cell[^"]*\btag_output_scroll\b[^"]*">'
_SCROLLS = re.compile(rf'({_CELL}.*?<div class="cell_output[^"]*")(?=>)', re.S)


def repaired(body: str) -> str:
    """The HTML of a page's content, mended."""
    body = _SCROLLS.sub(r'\1 tabindex="0" role="group" aria-label="Output"', body)
    return body.replace('<div role="list" class="citation-list">', '<div class="citation-list">')


def _mend(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    if "body" in context:
        context["body"] = repaired(context["body"])


def setup(app: Sphinx) -> dict[str, Any]:
    """Mend each page before it is written."""
    app.connect("html-page-context", _mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
