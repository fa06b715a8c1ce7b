"""What the tests of the explorers share: reading numbers off a page, and its fallback."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tools.browser import SITE, View, opened, window

__all__ = [
    "SITE",
    "buttons_set_what_their_address_does",
    "enter",
    "explorer_page",
    "fallback_after_a_failure",
    "fallback_is_shown",
    "fresh",
    "labels_missing",
    "number",
    "shown_numbers",
    "text_is_that_of_the_page",
    "turn_dark",
]


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
    page.evaluate(
        "state => history.replaceState(null, '', location.href.split('#')[0] + state)", state
    )
    page.reload(wait_until="load")
    page.wait_for_selector(".explorer[data-ready]")


def enter(page: Page, label: str, text: str) -> None:
    """Type a text in place of what stands there."""
    page.get_by_label(label, exact=True).focus()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.press("Delete")
    page.keyboard.type(text)
    page.keyboard.press("Tab")


def buttons_set_what_their_address_does(page: Page, seen: Callable[[], Any]) -> None:
    """Each button of the text puts its state into the address, which leads to what it shows."""
    found = [seen()]
    for button in page.locator("button[data-state]").all():
        button.click()
        state = f"#{button.get_attribute('data-state')}"
        assert page.evaluate("location.hash") == state
        shown = seen()
        fresh(page, state)
        assert seen() == shown
        assert shown not in found
        found.append(shown)
    assert len(found) > 3


def turn_dark(page: Page, colours: str) -> tuple[Any, Any]:
    """The colours that a script finds in the light theme and, once they change, in the dark."""
    light = page.evaluate(colours)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_function(f"light => JSON.stringify({colours}) !== light", arg=_json(light))
    return light, page.evaluate(colours)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


TEXT_ON_CANVAS = """() => {
  globalThis.fonts = [];
  const own = CanvasRenderingContext2D.prototype.fillText;
  CanvasRenderingContext2D.prototype.fillText = function (...drawn) {
    fonts.push(this.font);
    return own.apply(this, drawn);
  };
}"""
WIDTHS = """families => families.map(family => {
  const brush = document.createElement('canvas').getContext('2d');
  brush.font = `50px ${family}`;
  return brush.measureText('noise of one evaluation').width;
})"""
FAMILY = "node => getComputedStyle(node).fontFamily"


def text_is_that_of_the_page(page: Page, plots: int) -> None:
    """In the pictures too, which are drawn anew in the dark: no serifs, whatever is installed."""
    family = page.locator("article p").first.evaluate(FAMILY)
    assert page.locator(".explorer canvas").count() >= plots
    for text in page.locator(".explorer, .explorer svg text").all():
        assert text.evaluate(FAMILY) == family
    if plots:
        page.evaluate(TEXT_ON_CANVAS)
        page.evaluate("document.documentElement.dataset.theme = 'dark'")
        page.wait_for_function("fonts.length > 0")
        assert {font.split("px ", 1)[1] for font in page.evaluate("fonts")} == {family}
    own, plain, serif = page.evaluate(WIDTHS, [family, "sans-serif", "serif"])
    assert own != pytest.approx(serif, rel=1e-3)
    assert plain != pytest.approx(serif, rel=1e-3), "the machine has no two fonts to tell apart"


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


def labels_missing(page: Page) -> list[str]:
    """The controls without a name, which a reader who cannot see them would not know apart."""
    return page.evaluate("""() => [...document.querySelectorAll(
        '.explorer input, .explorer select, .explorer button, .explorer [tabindex="0"]')]
      .filter(e => !(e.getAttribute('aria-label') || e.labels?.length || e.innerText?.trim()))
      .map(e => e.outerHTML)""")


def fallback_is_shown(browser: Browser, file: Path) -> None:
    """Without scripts the static figure and its sentence are seen, with them the explorer is."""
    for scripts in (False, True):
        context = browser.new_context(
            viewport={"width": 390, "height": 900}, offline=True, java_script_enabled=scripts
        )
        page = context.new_page()
        page.goto(file.as_uri(), wait_until="load")
        if scripts:
            page.wait_for_selector(".explorer[data-ready]")
        static = page.locator(".explorer-static")
        assert static.locator("img").is_visible() is not scripts
        assert static.locator("p").first.is_visible() is not scripts
        assert page.locator(".explorer").is_visible() is scripts
        if not scripts:
            box = static.locator("img").bounding_box()
            assert box is not None
            assert box["width"] > 250
            assert box["height"] > 100
        context.close()


def fallback_after_a_failure(browser: Browser, file: Path, script: str) -> None:
    """The same figure is seen where a script of the page does not arrive whole."""
    with window(browser, View(1280, "light")) as context:
        context.route(
            f"**/{script}", lambda route: route.fulfill(body="", content_type="text/javascript")
        )
        page = context.new_page()
        page.goto(file.as_uri(), wait_until="load")
        page.wait_for_selector(".explorer-static img")
        assert not page.locator(".explorer").is_visible()
