"""Sphinx: what the links of a page lead to, for ``book/assets/symbols.js`` to preview.

Of a statement the title and the text, of a figure its picture and the first sentence of its
caption, of a section its heading and first paragraph, of a citation the entry. A browser refuses
to fetch other pages from disk, hence a script. Another one, ``places.js``, says on which page each
of them stands, for addresses of the time before it moved.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bs4 import BeautifulSoup, Tag
from sphinx.application import Sphinx

from _ext.reading_time import LOOKED_UP

__all__ = ["previews", "setup"]

_TARGETS = "div.proof[id], figure[id], div.citation[id], article section[id]"
_SENTENCE = re.compile(r"(?<=[a-z\d)%>])\. ")
_LABEL = re.compile(r"\\(?:label|tag)\{[^}]*\}")


def _parts(target: Tag) -> list[Tag]:
    """Those parts of a target that its preview shows."""
    if target.name == "section":
        return target.select(":scope > h1, :scope > h2, :scope > h3, :scope > p")[:2]
    if target.name == "figure":
        return target.select("img, figcaption p")[:2]
    return target.select(":scope > p, :scope > section, :scope > .label")


def _plain(part: Tag) -> str:
    """A copy that can stand a second time on a page: read, not operated."""
    copy = BeautifulSoup(str(part), "html.parser")
    for extra in copy.select("a.headerlink, script, style, button"):
        extra.decompose()
    for tag in copy.find_all(True):
        names = [n for n in tag.get("class") or [] if not n.startswith("symbol-")]
        tag.attrs = {k: tag[k] for k in ("src", "alt") if tag.get(k)}
        if names:
            tag["class"] = " ".join(names)
        if tag.name == "a":
            tag.unwrap()
        elif re.fullmatch("h[1-6]|section", tag.name):  # no heading, no landmark
            tag.name = "p" if tag.name != "section" else "div"
    return _LABEL.sub("", str(copy).strip())


def previews(page: str) -> Iterator[tuple[str, str]]:
    """The anchors of a page, and the HTML that is shown of each."""
    html = BeautifulSoup(page, "html.parser")
    for target in html.select(_TARGETS):
        parts = [_plain(part) for part in _parts(target)]
        if target.name == "figure" and parts:
            first, *rest = _SENTENCE.split(parts[-1], maxsplit=1)
            parts[-1] = str(BeautifulSoup(first + "." * bool(rest), "html.parser"))
        ids = [target["id"], *(span["id"] for span in target.select(":scope > span[id]"))]
        for name in ids if parts else []:
            yield str(name), "".join(parts)


def _links(page: str, name: str) -> Iterator[str]:
    """Where the links of a page lead, as addresses from the root."""
    html = BeautifulSoup(page, "html.parser")
    for link in html.select("article a.internal[href*='#']"):
        path, _, anchor = str(link["href"]).partition("#")
        found = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
        yield f"{found if path else f'{name}.html'}#{anchor}"


def _previewed(app: Sphinx, name: str) -> bool:
    # Lists are looked up and not read, and explorers weigh enough.
    return name in app.env.found_docs and not name.startswith((*LOOKED_UP, "book/explore-"))


def _load(app: Sphinx, name: str, *_: object) -> None:
    if _previewed(app, name):
        app.add_js_file(f"previews/{posixpath.basename(name)}.js", 400, loading_method="defer")


def _write(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    site = Path(app.outdir)
    pages = {name: (site / f"{name}.html").read_text("utf-8") for name in app.env.found_docs}
    every = {f"{name}.html#{a}": html for name in pages for a, html in previews(pages[name])}
    (site / "_static" / "previews").mkdir(exist_ok=True)
    times = Counter(address.partition("#")[2] for address in every)
    places = {a: page for page, a in (key.split("#", 1) for key in every) if times[a] == 1}
    script = f"globalThis.PLACES = {json.dumps(places)};\n"
    (site / "_static/previews/places.js").write_text(script, "utf-8")
    for name, page in pages.items():
        if _previewed(app, name):
            shown = {key: every[key] for key in _links(page, name) if key in every}
            script = f"globalThis.PREVIEWS = {json.dumps(shown, ensure_ascii=False)};\n"
            (site / f"_static/previews/{posixpath.basename(name)}.js").write_text(script, "utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the previews of each page's links once the site is written."""
    app.connect("html-page-context", _load)
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
