"""What holds of every explorer: text, theme, names, addresses, and what stands in for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from browsers import bring_into_view, in_both_browsers
from bs4 import BeautifulSoup
from explorer import SITE, explorer_page, fresh
from playwright.sync_api import Browser, Page

from tools.browser import View, opened, window

pytestmark = pytest.mark.usefixtures("built_site")

NAMES = ("simplex", "plane", "toy")


def file(name: str) -> Any:
    return SITE / "book" / f"explore-{name}.html"


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def pages(browser: Browser, name: str) -> Iterator[Page]:
    yield from explorer_page(browser, file(name))


@pytest.fixture
def page(pages: Page) -> Page:
    fresh(pages)
    return pages


def show_dark(page: Page) -> None:
    page.evaluate("document.documentElement.dataset.theme = 'dark'")


MODEL = "Bokeh.documents[0].get_model_by_name"
COLOURS = {
    "plane": f"[...{MODEL}('points').data.colour]",
    "toy": f"[{MODEL}('curve line').glyph.line_color]",
}


@in_both_browsers
@pytest.mark.parametrize("name", COLOURS, indirect=True)
def test_colours_follow_the_theme(page: Page, name: str) -> None:
    colours = COLOURS[name]
    light = page.evaluate(colours)
    show_dark(page)
    written = json.dumps(light, separators=(",", ":"), ensure_ascii=False)
    page.wait_for_function(f"light => JSON.stringify({colours}) !== light", arg=written)
    dark = page.evaluate(colours)
    assert not [colour for colour in light if colour in dark]


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


@in_both_browsers
def test_text_is_that_of_the_page(page: Page, name: str) -> None:
    """In the pictures too, which are drawn anew in the dark: no serifs, whatever is installed."""
    family = page.locator("article p").first.evaluate(FAMILY)
    assert page.locator(".explorer canvas").count() >= NAMES.index(name)
    for text in page.locator(".explorer, .explorer svg text").all():
        assert text.evaluate(FAMILY) == family
    if name != "simplex":
        page.evaluate(TEXT_ON_CANVAS)
        show_dark(page)
        page.wait_for_function("fonts.length > 0")
        assert {font.split("px ", 1)[1] for font in page.evaluate("fonts")} == {family}
    own, plain, serif = page.evaluate(WIDTHS, [family, "sans-serif", "serif"])
    assert own != pytest.approx(serif, rel=1e-3)
    assert plain != pytest.approx(serif, rel=1e-3), "the machine has no two fonts to tell apart"


SHOWN = """() => [...document.querySelectorAll('.explorer [data-value], .explorer .measures')]
  .map(node => JSON.stringify(node.dataset))"""


@in_both_browsers
@pytest.mark.parametrize("name", ["simplex", "plane"], indirect=True)
def test_the_address_holds_the_state(page: Page) -> None:
    """Each button of the text puts its state into the address, which leads to what it shows."""
    found = [page.evaluate(SHOWN)]
    for button in page.locator("button[data-state]").all():
        button.click()
        state = f"#{button.get_attribute('data-state')}"
        assert page.evaluate("location.hash") == state
        shown = page.evaluate(SHOWN)
        fresh(page, state)
        assert page.evaluate(SHOWN) == shown
        assert shown not in found
        found.append(shown)
    assert len(found) > 3


@pytest.mark.parametrize("name", ["simplex", "toy"], indirect=True)
def test_the_plan_of_a_lesson_sets_the_explorer(page: Page, name: str) -> None:
    """Its addresses stay as they are: what cannot be set, or is so from the start, is dropped."""
    plan = BeautifulSoup((SITE / "book" / "teach.html").read_text("utf-8"), "html.parser")
    links = [str(link["href"]) for link in plan.select(f"a[href^='explore-{name}.html#']")]
    assert len(links) == {"simplex": 1, "toy": 3}[name]
    for state in [link.partition(".html")[2] for link in links]:
        fresh(page, state)
        assert page.evaluate("location.hash") == state
    fresh(page, "#step=never")
    assert page.evaluate("location.hash") == ""


STATES = {"simplex": "#step=0.01", "plane": "#loss=linear", "toy": "#step=0.1"}


@in_both_browsers
@pytest.mark.parametrize("width", [1280, 390])
def test_an_address_with_a_state_leads_to_it(browser: Browser, name: str, width: int) -> None:
    """Its upper edge is at the top of the window, with formulas set too; the toy then runs."""
    with window(browser, View(width, "light")) as context:
        page = context.new_page()
        page.goto(file(name).as_uri() + STATES[name])
        page.wait_for_selector(".explorer[data-ready]")
        page.evaluate("() => window.MathJax?.startup?.promise")
        page.evaluate("() => new Promise(requestAnimationFrame)")
        box = page.locator(".explorer").bounding_box()
        assert box is not None
        assert 0 <= box["y"] < 120
        if name == "toy":
            page.wait_for_function("document.querySelector('.readings output').dataset.value > 300")


def test_every_control_has_a_name(page: Page) -> None:
    """A reader who cannot see them would not know them apart."""
    assert not page.evaluate("""() => [...document.querySelectorAll(
        '.explorer input, .explorer select, .explorer button, .explorer [tabindex="0"]')]
      .filter(e => !(e.getAttribute('aria-label') || e.labels?.length || e.innerText?.trim()))
      .map(e => e.outerHTML)""")


@pytest.mark.parametrize("scripts", [False, True])
def test_without_scripts_a_figure_stands_in(browser: Browser, name: str, scripts: bool) -> None:
    """Without them the static figure and its sentence are seen, with them the explorer is."""
    context = browser.new_context(
        viewport={"width": 390, "height": 900}, offline=True, java_script_enabled=scripts
    )
    page = context.new_page()
    page.goto(file(name).as_uri(), wait_until="load")
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


def test_without_the_library_too(browser: Browser) -> None:
    """The same figure is seen where a script of the page does not arrive whole."""
    with window(browser, View(1280, "light")) as context:
        context.route(
            "**/bokeh.min.js", lambda route: route.fulfill(body="", content_type="text/javascript")
        )
        page = context.new_page()
        page.goto(file("toy").as_uri(), wait_until="load")
        page.wait_for_selector(".explorer-static img")
        assert not page.locator(".explorer").is_visible()


def test_the_picture_stays_in_sight_on_a_phone(browser: Browser, name: str) -> None:
    """Below the bar, while the last control is moved that the screen shows beneath it."""
    with window(browser, View(390, "light")) as context, opened(context, file(name)) as (page, _):
        page.set_viewport_size({"width": 390, "height": 844})
        page.wait_for_selector(".explorer[data-ready]")
        control = page.locator(".explorer .controls fieldset, .explorer .control").nth(2)
        bring_into_view(control)
        picture, moved = page.locator(".explorer .stage").bounding_box(), control.bounding_box()
        assert picture is not None
        assert moved is not None
        assert 40 < picture["y"] < 60
        assert picture["y"] + picture["height"] < 500
        assert moved["y"] > 0
