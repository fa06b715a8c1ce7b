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
# What is folded away, code and its outputs, and what is the same on every page.
_LEFT_OUT = re.compile(
    r"<(script|style|details|pre|button)\b.*?</\1>"
    r"|<table[^>]*\bdataframe\b.*?</table>"
    r'|<a class="headerlink".*?</a>|<p class="(?:reading-time|figure-links)\b.*?</p>',
    re.S,
)
_FORMULA = re.compile(r'<(span|div) class="[^"]*\bmath\b[^>]*>(.*?)</\1>', re.S)
_WITHIN = re.compile(r"</?(?:a|abbr|b|code|em|i|span|strong|sub|sup)\b[^>]*>")
_TAG = re.compile(r"<(?!/?section\b)[^>]*>")


def _read(formula: re.Match[str]) -> str:
    """A formula that is read as it is written, and of others an ellipsis."""
    tex = re.sub(r"\\[()]", "", formula[2]).strip()
    return "…" if re.search(r"[\\{}^_$]", tex) else tex


def reduced(page: str) -> str:
    """The words of a page, in its sections: the search shows those of the one that it found."""
    found = _ARTICLE.search(page)
    if not found:
        return ""
    text = _WITHIN.sub("", _FORMULA.sub(_read, _LEFT_OUT.sub(" ", found[0])))
    return " ".join(_TAG.sub(" ", text).split())


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
