"""Sphinx: small repairs of what the theme and its extensions leave inaccessible.

- an output that scrolls can be reached, and scrolled, by the keyboard;
- the bibliography is no list to a screen reader whose items are no items;
- what folds the pages of a chapter in the navigation has a name;
- no line begins with the punctuation after a formula or a piece of code.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

__all__ = ["named", "repaired", "setup"]

_CELL = r'<div class="cell[^"]*\btag_output_scroll\b[^"]*">'
_SCROLLS = re.compile(rf'({_CELL}.*?<div class="cell_output[^"]*")(?=>)', re.S)
_FORMULA = r'<span class="[^"]*\bmath\b[^"]*">[^<]*</span>'
_CODE = r'<code class="[^"]*">(?:<span class="pre">[^<]*</span>\s*)+</code>'
_BEFORE = re.compile(rf"((?:{_FORMULA}|<a [^>]*>{_CODE}</a>|{_CODE})[.,;:!?)\]’”]+)")


def repaired(body: str) -> str:
    """The HTML of a page's content, mended."""
    body = _SCROLLS.sub(r'\1 tabindex="0" role="group" aria-label="Output"', body)
    body = _BEFORE.sub(r'<span class="kept">\1</span>', body)
    return body.replace('<div role="list" class="citation-list">', '<div class="citation-list">')


_FOLDED = re.compile(r">([^<>]+)(</a>\s*<details[^>]*>\s*<summary)(?=>)")


def named(navigation: str) -> str:
    """The HTML of the navigation, with a name for what folds the pages of a chapter."""
    return _FOLDED.sub(r'>\1\2 aria-label="Pages of: \1"', navigation)


def _mend(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    if "body" in context:
        context["body"] = repaired(context["body"])
    if (made := context.get("generate_toctree_html")) is not None:
        context["generate_toctree_html"] = lambda *args, **options: named(
            str(made(*args, **options))
        )


def setup(app: Sphinx) -> dict[str, Any]:
    """Mend each page before it is written."""
    # After the theme, whose function for the navigation is there then.
    app.connect("html-page-context", _mend, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
