"""What the tests in a browser share: which run in Firefox too, and how a page is scrolled."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator

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
