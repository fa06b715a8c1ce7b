"""Sphinx: the texts of all pages in one script, for excerpts in the results of a search from disk.

There a browser refuses to fetch the pages themselves; ``book/assets/search.js`` takes them from
here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from sphinx.application import Sphinx

__all__ = ["reduced", "setup"]

_ARTICLE = re.compile(r'<article class="bd-article.*?</article>', re.S)
_LEFT_OUT = re.compile(r'<(script|style)\b.*?</\1>|<a class="headerlink".*?</a>', re.S)
_TAG = re.compile(r"<(?!/?section\b)[^>]*>")


def reduced(page: str) -> str:
    """The words of a page, in its sections: the search shows those of the one that it found."""
    found = _ARTICLE.search(page)
    return " ".join(_TAG.sub(" ", _LEFT_OUT.sub("", found[0])).split()) if found else ""


def _write(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    site = Path(app.outdir)
    pages = (site / f"{name}.html" for name in sorted(app.env.found_docs))
    texts = {page.relative_to(site).as_posix(): reduced(page.read_text("utf-8")) for page in pages}
    script = f"globalThis.SEARCH_TEXTS = {json.dumps(texts, ensure_ascii=False)};\n"
    (site / "_static" / "search-texts.js").write_text(script, "utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the texts once the site is written."""
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
