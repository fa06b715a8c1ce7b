"""Sphinx: leave out the icons that no page shows; they are three quarters of what a page weighs.
A page without a grid or a card leaves out their style too, and one of code those links back to the
reference that lead nowhere.

The theme ships all of Font Awesome twice, as a script that draws the icons and as rules for a font
that the script makes needless.  Of both only what the pages and the theme's own scripts name is
kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from sphinx.application import Sphinx

__all__ = ["lead_back", "lighter_page", "lighter_script", "lighter_style", "named_icons", "setup"]

ICON = re.compile(
    r"""
      (?P<quote>"?)(?P<name>[a-z0-9-]+)(?P=quote)
      :\[ \d+, \d+, \[(?P<others>[^\]]*)\], "[0-9a-f]+", (?:"[^"]*" | \["[^"]*","[^"]*"\]) \] ,?
    """,
    re.X,
)
RULE = re.compile(r"(?:\.fa-[a-z0-9-]+::?(?:before|after),?)+\{[^{}]*\}")
NAMED = re.compile(r"\bfa-([a-z0-9-]+)")
BACK = re.compile(r'<a class="viewcode-back" href="([^"#]*)#([^"]*)">[^<]*</a>\n?')
DESIGN = re.compile(r"<link[^>]*\bsphinx-design\.min\.css[^>]*>\n?")


def named_icons(texts: Iterable[str]) -> set[str]:
    """What stands after ``fa-`` in pages and scripts: icons, and a few words that are none."""
    return {name for text in texts for name in NAMED.findall(text)}


def lighter_script(script: str, names: set[str]) -> str:
    """The script without the icons that have none of the names; an icon can have several."""

    def kept(match: re.Match[str]) -> str:
        return (
            match[0] if {match["name"], *re.findall(r'"([^"]+)"', match["others"])} & names else ""
        )

    return ICON.sub(kept, script)


def lighter_style(style: str, names: set[str]) -> str:
    """The style without the rules for icons that have none of the names."""
    return RULE.sub(lambda match: match[0] if named_icons([match[0]]) & names else "", style)


def lighter_page(page: str) -> str:
    """The page without the style of grids and cards, if it has none."""
    return page if re.search(r'class="[^"]*\bsd-', page) else DESIGN.sub("", page)


@cache
def _ids(page: Path) -> set[str]:
    return set(re.findall(r'\bid="([^"]*)"', page.read_text("utf-8"))) if page.is_file() else set()


def lead_back(text: str, page: Path) -> str:
    """The page of code without those links back that lead nowhere."""
    return BACK.sub(lambda m: m[0] if m[2] in _ids((page.parent / m[1]).resolve()) else "", text)


def _lighten(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    site = Path(app.outdir)
    scripts, static = site / "_static" / "scripts", site / "_static"
    icons = scripts / "fontawesome.js"
    style = static / "styles" / "pydata-sphinx-theme.css"
    theme = [path for path in scripts.glob("*.js") if path != icons]
    names = named_icons(p.read_text("utf-8") for p in [*site.rglob("*.html"), *theme])
    for page in site.rglob("*.html"):
        page.write_text(lead_back(lighter_page(page.read_text("utf-8")), page), "utf-8")
    icons.write_text(lighter_script(icons.read_text("utf-8"), names), "utf-8")
    style.write_text(lighter_style(style.read_text("utf-8"), names), "utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Lighten the site once it is written."""
    app.connect("build-finished", _lighten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
