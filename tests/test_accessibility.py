"""Every page by axe-core, in a real browser: no serious violation, in light and in dark."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext

from _ext.accessible import repaired
from tools.browser import SITE, VIEWS, opened, toc_documents, window

pytestmark = pytest.mark.usefixtures("built_site")

AXE = files("axe_playwright_python").joinpath("axe.min.js")
# One wide and light, one narrow and dark.
SEEN = [view for view in VIEWS if str(view) in ("1280-light", "390-dark")]
# MathJax's drawings have a text beside them.  What repeats in one look, rows of a long table and
# words of a program, is looked at in part, and whole on a page that has both.
REPEATED = ["mjx-container", ".highlight", "tbody tr:nth-child(n+6)", "dl.py > dt"]
WHOLE = "book/operator"
RUN = """excluded => axe.run(
  {exclude: excluded.map(selector => [selector])},
  {resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']}
)"""


# Of module scope, so that the pages of a view share a window.
@pytest.fixture(scope="module", params=SEEN, ids=str)
def seen(browser: Browser, request: pytest.FixtureRequest) -> Iterator[BrowserContext]:
    with window(browser, request.param) as context:
        yield context


def violations(page: Any, excluded: list[str]) -> list[str]:
    """What is serious or critical, with an example each."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate(RUN, excluded)["violations"]
    return [
        f"{rule['id']}, {len(rule['nodes'])} times: {rule['nodes'][0]['html'][:200]}; "
        f"{rule['nodes'][0]['failureSummary']}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("document", toc_documents())
def test_no_serious_violation(seen: BrowserContext, document: str) -> None:
    """axe-core finds nothing serious on the page."""
    with opened(seen, SITE / f"{document}.html") as (page, _):
        assert not violations(page, REPEATED[: 1 if document == WHOLE else None])


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
