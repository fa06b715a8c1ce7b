"""What the tests in a browser share: which run in Firefox too, scrolling, and axe-core."""

from __future__ import annotations

from importlib.resources import files

import pytest
from playwright.sync_api import Locator, Page

from tools.browser import View

WIDE, NARROW = View(1280, "light"), View(390, "dark")

# In this order everywhere, so that pytest can group the tests of a module by browser.
in_both_browsers = pytest.mark.parametrize("browser", ["chromium", "firefox"], indirect=True)


def bring_into_view(locator: Locator, block: str = "center") -> None:
    """At once, although the theme scrolls smoothly; the page has heard of it when this returns."""
    locator.evaluate(
        """(node, block) => new Promise(done => {
          node.scrollIntoView({block, behavior: 'instant'});
          requestAnimationFrame(done);  // comes after the events of scrolling, however late
        })""",
        block,
    )


# --- axe-core --------------------------------------------------------------------------------

AXE = files("axe_playwright_python").joinpath("axe.min.js")
# MathJax's drawings have a text beside them.  What repeats in one look, rows of a long table and
# words of a program, is looked at in part, and whole on a page that has both.
REPEATED = ["mjx-container", ".highlight", "tbody tr:nth-child(n+6)", "dl.py > dt"]
WHOLE = "book/operator"
RUN = """excluded => axe.run(
  {exclude: excluded.map(selector => [selector])},
  {resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']}
)"""


def violations(page: Page, excluded: list[str]) -> list[str]:
    """What is serious or critical, with an example each."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate(RUN, excluded)["violations"]
    return [
        f"{rule['id']}, {len(rule['nodes'])} times: {rule['nodes'][0]['html'][:200]}; "
        f"{rule['nodes'][0]['failureSummary']}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]
