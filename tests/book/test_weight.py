"""What a page weighs, and that the icons which are left out are not missed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from _ext.lighter import lead_back, lighter_page, lighter_script, lighter_style, named_icons
from tools.browser import SITE, View, opened, toc_documents, window

pytestmark = pytest.mark.usefixtures("built_site")

MOST = 2 * 2**20
LOADED = re.compile(r'<(?:script|img|link)\b[^>]*?\b(?:src|href)="([^"#?]+)', re.S)
PASSIVE = re.compile(r'<link\b[^>]*rel="(?:next|prev|index|search|author|canonical)"[^>]*>', re.S)


def weight(page: Path) -> int:
    """Bytes on disk of a page and what it loads, without MathJax."""
    text = page.read_text(encoding="utf-8")
    scripted = re.sub(r"<noscript>.*?</noscript>", "", PASSIVE.sub("", text), flags=re.S)
    names = set(LOADED.findall(scripted))
    files = {(page.parent / name).resolve() for name in names if "://" not in name}
    assert all(file.is_file() for file in files)
    return len(text.encode()) + sum(f.stat().st_size for f in files if "tex-svg" not in f.name)


@pytest.mark.parametrize("document", toc_documents())
def test_no_page_is_heavy(document: str) -> None:
    assert weight(SITE / f"{document}.html") < MOST


def test_icons_are_there(browser: Browser) -> None:
    """Each icon of the page is drawn, in the open navigation of a narrow window too."""
    for view in (View(1280, "light"), View(390, "dark")):
        with (
            window(browser, view) as context,
            opened(context, SITE / "book" / "toy.html") as (page, _),
        ):
            page.wait_for_selector("svg.svg-inline--fa", state="attached")
            paths = page.locator("svg.svg-inline--fa").evaluate_all(
                "icons => icons.map(i => i.querySelector('path')?.getAttribute('d')?.length ?? 0)"
            )
            assert len(paths) > 5
            assert min(paths) > 20
            assert page.locator("i[class*='fa-']").count() == 0


def test_what_is_left_out() -> None:
    """An icon stays if one of its names is used; what is no icon stays."""
    script = 'a={house:[5,5,[127,"home"],"f015","M1 2"],"x-ray":[5,5,[],"f497",["M1","M2"]]};b=1'
    assert lighter_script(script, {"home"}) == 'a={house:[5,5,[127,"home"],"f015","M1 2"],};b=1'
    assert lighter_script(script, {"x-ray"}) == 'a={"x-ray":[5,5,[],"f497",["M1","M2"]]};b=1'
    assert lighter_script(script, set()) == "a={};b=1"
    style = '.fa{a:b}.fa-house:before,.fa-home:before{content:"\\f015"}.fa-x:before{content:"x"}p{}'
    assert lighter_style(style, {"home"}) == (
        '.fa{a:b}.fa-house:before,.fa-home:before{content:"\\f015"}p{}'
    )
    assert named_icons(['<i class="fa-solid fa-sun">', "icon('fa-moon')"]) == {
        "solid",
        "sun",
        "moon",
    }
    link = '<link rel="stylesheet" href="../_static/sphinx-design.min.css?v=1" />\n'
    assert lighter_page(f"{link}<p class='x'>sd-card</p>") == "<p class='x'>sd-card</p>"
    card = f'{link}<div class="a sd-card">'
    assert lighter_page(card) == card


def test_links_back_that_lead_nowhere_are_left_out(tmp_path: Path) -> None:
    """Those to an entry stay, those to none and to no page go."""
    (tmp_path / "reference.html").write_text('<dt id="ils.sample">', "utf-8")
    link = '<a class="viewcode-back" href="../{}.html#ils.{}">[docs]</a>\n'
    page = tmp_path / "_modules" / "operator.html"
    kept = link.format("reference", "sample") + "<span>code</span>"
    dead = link.format("reference", "other") + link.format("none", "sample")
    assert lead_back(dead + kept, page) == kept
