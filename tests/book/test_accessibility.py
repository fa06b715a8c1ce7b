"""What axe-core notices, and the repairs of the theme; test_site.py shows it each page."""

from __future__ import annotations

import pytest
from browsers import violations
from bs4 import BeautifulSoup
from playwright.sync_api import Browser

from _ext.accessible import repaired


def test_axe_would_notice(browser: Browser) -> None:
    """It finds a picture without a text, pale words and a control without a name."""
    page = browser.new_page()
    page.set_content(
        "<html lang='en'><title>x</title><main><img src='x.png'><button></button>"
        "<p style='color:#ccc;background:#fff'>pale</p></main></html>"
    )
    found = " ".join(violations(page, ["mjx-container"]))
    page.close()
    for rule in ("image-alt", "button-name", "color-contrast"):
        assert rule in found


def test_repairs() -> None:
    """Outputs that scroll get a tab stop, others none; the bibliography claims to be no list."""
    cell = '<div class="cell {} docutils"><div class="cell_output docutils container">x</div></div>'
    plain, scrolls = cell.format("tag_hide"), cell.format("tag_output_scroll")
    found = repaired(plain + scrolls + plain)
    assert found.count('tabindex="0"') == 1
    assert found.index("tag_output_scroll") < found.index('tabindex="0"')
    assert repaired('<div role="list" class="citation-list">') == '<div class="citation-list">'


@pytest.mark.parametrize(
    "tag",
    [
        '<span class="symbol-1 math notranslate">\\(k\\)</span>',
        '<code class="literal"><span class="pre">a</span> <span class="pre">b</span></code>',
        '<a href="b.html"><code class="x"><span class="pre">test_long_name</span></code></a>',
    ],
)
def test_punctuation_is_kept(tag: str) -> None:
    """With the formula or the code before it, and no word changes."""
    found = BeautifulSoup(repaired(f"<p>For {tag}), and {tag} alone.</p>"), "html.parser")
    wanted = BeautifulSoup(tag, "html.parser").text
    assert found.text == f"For {wanted}), and {wanted} alone."
    (kept,) = found.select(".kept")
    assert kept.text == f"{wanted}),"
