"""Sphinx: a number of the text with its interval, ``0.0020 [0.0018, 0.0022]``, is marked.

``book/assets/symbols.js`` then shows plus or minus, and the interval in a tooltip; without it, and
on paper, the brackets stay.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from sphinx.application import Sphinx

__all__ = ["half_width", "marked", "setup"]

_NUMBER = r"(-?\d+(?:\.\d+)?)"
_GLUED = re.compile(
    rf'<table\b.*?</table>|<span class="pasted-text">{_NUMBER} \[{_NUMBER}, {_NUMBER}\]</span>',
    re.S,
)


def half_width(mean: str, low: str, high: str) -> str | None:
    """The larger half of the interval; none if the smaller is shorter by more than a fifth."""
    below, above = Decimal(mean) - Decimal(low), Decimal(high) - Decimal(mean)
    larger = max(below, above)
    return f"{larger:f}" if 5 * abs(above - below) <= larger > 0 else None


def marked(body: str) -> str:
    """The HTML of a page's content; tables stay, and so does what plus or minus would distort."""

    def mark(match: re.Match[str]) -> str:
        mean, low, high = match.groups()
        if mean is None or (half := half_width(mean, low, high)) is None:
            return match[0]
        return (  # what is glued is a mean with the 95% interval of lab.show.intervals
            f'<span class="pasted-text interval" data-half="{half}" data-tip="95% interval {low} '
            f'to {high}">{mean}<span> [{low}, {high}]</span></span>'
        )

    return _GLUED.sub(mark, body)


def _mark(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    if "body" in context:
        context["body"] = marked(context["body"])


def setup(app: Sphinx) -> dict[str, Any]:
    """Mark the intervals of each page before it is written."""
    app.connect("html-page-context", _mark)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
