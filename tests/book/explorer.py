"""What the tests of the explorers share: a page, and reading numbers off it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page

from tools.browser import SITE, View, opened, window

__all__ = ["SITE", "enter", "explorer_page", "fresh", "number", "shown_numbers"]


def explorer_page(browser: Browser, file: Path) -> Iterator[Page]:
    """A page on which nothing may go wrong.

    Without MathJax, which would take most of the time; Firefox loads it, as there no request of a
    file can be answered by a test.
    """
    with window(browser, View(1280, "light")) as context:
        context.route(
            "**/tex-svg-full.js",
            lambda route: route.fulfill(body="", content_type="text/javascript"),
        )
        with opened(context, file) as (page, report):
            yield page
            assert not report.errors
            assert not report.requests


def fresh(page: Page, state: str = "") -> None:
    """Load the page anew, with a state in its address, so that no test sees what another did."""
    address = page.url.split("#")[0]
    page.goto("about:blank")  # or the page that is left could write its state into the address
    page.goto(address + state, wait_until="load")
    page.wait_for_selector(".explorer[data-ready]")


def enter(page: Page, label: str, text: str) -> None:
    """Type a text in place of what stands there."""
    page.get_by_label(label, exact=True).focus()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.press("Delete")
    page.keyboard.type(text)
    page.keyboard.press("Tab")


def number(page: Page, label: str) -> float:
    """The number beside a slider, with all its digits."""
    control = page.locator(".control", has=page.get_by_label(label, exact=True))
    return float(control.locator("output").get_attribute("data-value") or "nan")


def shown_numbers(page: Page, method: str) -> list[float]:
    """A row of the table, with all digits; the text is the same, rounded."""
    cells = page.locator(f"tr[data-method={method}] td").evaluate_all(
        "cells => cells.map(c => [c.dataset.value, c.textContent])"
    )
    found = [(float(value), text) for value, text in cells if value is not None]
    for value, text in found:
        assert abs(float(text.replace("−", "-")) - value) < 5.01e-4
    return [value for value, _ in found]
