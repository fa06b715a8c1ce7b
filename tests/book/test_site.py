"""The built site: links, exports of figures, and every page in a browser without a network."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browsers import NARROW, REPEATED, WHOLE, WIDE, in_both_browsers, violations
from playwright.sync_api import Browser, BrowserContext, Page
from sphinx.util.inventory import InventoryFile
from test_docstrings import public_things

from tools.browser import ROOT, SITE, VIEWS, Report, View, opened, show, toc_documents, window

DOCUMENTS = toc_documents()
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))


pytestmark = pytest.mark.usefixtures("built_site")


# --- without a browser ---------------------------------------------------------------------


@dataclass
class Parsed(HTMLParser):
    """The anchors of a page, the addresses it names, and those of them that it loads."""

    ids: set[str] = field(default_factory=set)
    addresses: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids.update(filter(None, (values.get("id"), values.get("name"))))
        named = [value for value in (values.get("href"), values.get("src")) if value]
        self.addresses += named
        if tag != "a":
            self.loaded += named


@cache
def parsed(path: Path) -> Parsed:
    page = Parsed()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def dead_links(page: Path) -> list[str]:
    dead = []
    for address in parsed(page).addresses:
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        if not target.is_file():
            dead.append(f"{address}: no such file")
        # Theme buttons link to "#", which has no fragment and always resolves; what an explorer is
        # set to is no anchor, see test_explorers.py.
        elif target.name.startswith("explore-") and "=" in parts.fragment:
            continue
        elif parts.fragment and unquote(parts.fragment) not in parsed(target).ids:
            dead.append(f"{address}: no such anchor")
    return dead


@pytest.mark.parametrize("document", DOCUMENTS)
def test_internal_links_resolve(document: str) -> None:
    assert not dead_links(SITE / f"{document}.html")


def test_links_of_code_resolve() -> None:
    """Those of the pages of code, of which some lead back to the reference."""
    pages = sorted((SITE / "_modules").rglob("*.html"))
    assert any("#ils." in address for page in pages for address in parsed(page).addresses)
    assert not {page.name: dead for page in pages if (dead := dead_links(page))}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_nothing_loads_from_elsewhere(document: str) -> None:
    """Links may lead out; scripts, styles and images may not come from there."""
    page = parsed(SITE / f"{document}.html")
    assert page.loaded
    assert not [address for address in page.loaded if urlsplit(address).netloc]


@cache
def documented_names() -> set[str]:
    """What the reference documents, as the inventory of the site lists it."""
    with (SITE / "objects.inv").open("rb") as file:
        inventory = InventoryFile.load(file, "", posixpath.join)
    items = getattr(inventory, "data", inventory)
    return {name for kind, names in items.items() if kind.startswith("py:") for name in names}


@pytest.mark.parametrize("name", sorted(set(public_things()) - {"ils.exact.Loss"}))
def test_every_public_name_is_in_the_reference(name: str) -> None:
    """Under its own name, or that of the module in which it is written."""
    thing = public_things()[name]
    own = f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', '')}"
    assert {name, own} & documented_names(), f"add {name} to a page of the reference"


def test_root_leads_to_the_book() -> None:
    text = (SITE / "index.html").read_text(encoding="utf-8")
    assert "book/index.html" in text
    assert 'http-equiv="refresh"' in text.lower()


# --- in a browser --------------------------------------------------------------------------


TOO_WIDE = """() => {
  const limit = document.documentElement.clientWidth;
  return [...document.querySelectorAll('body *')]
    .filter(e => e.getBoundingClientRect().right > limit + 1 && e.offsetParent)
    .slice(0, 8)
    .map(e => e.tagName.toLowerCase() + '.' + (e.getAttribute('class') ?? ''));
}"""


# Tables and outputs that scroll although the margin beside them is free.
# Firefox leaves no room for the bar of a box that scrolls downwards: it takes that of the padding.
CUT = """() => [...document.querySelectorAll(
    '.cell_output > .output, section > .pst-scrollable-table-container')]
  .filter(box => [box, ...box.querySelectorAll('pre')]
    .some(e => e.scrollWidth > e.clientWidth + 16))
  .filter(box => box.getBoundingClientRect().right < document.documentElement.clientWidth - 40)
  .map(box => box.innerText.slice(0, 60))"""

# No font has every weight: for a light one Linux takes an extra-light face.
LIGHT = """() => [...document.querySelectorAll('body *')]
  .filter(e => e.offsetParent && getComputedStyle(e).fontWeight < 400 && e.innerText?.trim())
  .map(e => e.outerHTML.slice(0, 80))"""


def check_loaded(page: Page, report: Report) -> None:
    """Nothing went wrong, nothing was asked of the network, formulas and images are there."""
    assert not page.evaluate(LIGHT)
    assert not report.errors
    assert not report.requests, "the page asks the network"
    formulas = page.locator("span.math, div.math").count()
    typeset = page.locator("mjx-container").count()
    assert typeset >= formulas, f"{formulas} formulas, but only {typeset} typeset"
    assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
    # Sphinx drops a backslash here and there; MathJax then shows its source in red.
    assert "Math input error" not in page.inner_text("body")
    images = page.evaluate(
        "[...document.images].map(i => [i.getAttribute('src'), i.naturalWidth, i.alt])"
    )
    assert not [source for source, width, _ in images if width == 0], "not loaded"
    assert not [source for source, _, alt in images if not (alt or "").strip()], "no alt text"


def check_fits(page: Page, view: View) -> None:
    assert page.evaluate("document.documentElement.dataset.theme") == view.theme
    width, limit = page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert width <= limit + 1, f"the page scrolls sideways; too wide: {page.evaluate(TOO_WIDE)}"
    if view.width >= WIDE.width:
        assert not page.evaluate(CUT)


# To load a page takes longer than all that is asked of it: each is loaded once, and then resized.
# Narrow first: the theme lets what scrolls be reached by keyboard, but a while after a change.
@pytest.fixture(scope="module", params=DOCUMENTS)
def loaded(browser: Browser, request: pytest.FixtureRequest) -> Iterator[tuple[Page, Report]]:
    with (
        window(browser, NARROW) as context,
        opened(context, SITE / f"{request.param}.html") as found,
    ):
        yield found


def test_page_in_the_browser(loaded: tuple[Page, Report]) -> None:
    """It loads without a fault, and fits each width in each theme."""
    page, report = loaded
    check_loaded(page, report)
    for view in sorted(VIEWS, key=lambda view: view.width):
        show(page, view)
        check_fits(page, view)


@pytest.mark.parametrize("view", [NARROW, WIDE], ids=str)
def test_no_serious_violation(loaded: tuple[Page, Report], view: View) -> None:
    """axe-core finds nothing serious on the page."""
    page, _ = loaded
    show(page, view)
    whole = page.url.endswith(f"{WHOLE}.html")
    assert not violations(page, REPEATED[: 1 if whole else None])


# Of a third width, and there alone: Firefox takes twice the time.
MIDDLE = View(768, "light")


@pytest.fixture(scope="module")
def middle_window(browser: Browser) -> Iterator[BrowserContext]:
    with window(browser, MIDDLE) as context:
        yield context


@pytest.mark.parametrize("browser", ["firefox"], indirect=True)
@pytest.mark.parametrize("document", DOCUMENTS)
def test_page_in_firefox(middle_window: BrowserContext, document: str) -> None:
    with opened(middle_window, SITE / f"{document}.html") as (page, report):
        check_loaded(page, report)
        check_fits(page, MIDDLE)


@pytest.mark.parametrize(
    ("old", "now"),
    [
        ("estimators.html#prop-cold", "estimators-proofs.html#prop-cold"),
        ("squeeze.html#prop-ladder", "squeeze-proofs.html#prop-ladder"),
        ("problem.html#no-such-place", "problem.html#no-such-place"),
    ],
)
def test_what_has_moved_is_found(browser: Browser, old: str, now: str) -> None:
    """An address of a statement that stands on another page today leads there."""
    with window(browser, WIDE) as context, context.new_page() as page:
        page.goto(f"{(SITE / 'book').as_uri()}/{old}")
        page.wait_for_function("globalThis.PLACES || document.querySelector(':target')")
        page.wait_for_url(f"**/{now}")


@pytest.mark.parametrize("name", ["index", "construction-evidence", "beyond-models", "method"])
def test_pictures_can_be_read(browser: Browser, name: str) -> None:
    """On a narrow screen their words, of 8 points, are at least 10 pixels high; captions stay."""
    with (
        window(browser, NARROW) as context,
        opened(context, SITE / "book" / f"{name}.html") as (page, _),
    ):
        scales = page.locator("article figure img").evaluate_all(
            "images => images.map(image => image.width / image.naturalWidth)"
        )
        assert min(scales) * 8 * 4 / 3 >= 10
        figure = page.locator("article figure").first
        assert "more-right" in str(figure.get_attribute("class"))
        lefts = "figure => [...figure.children].map(e => e.getBoundingClientRect().left)"
        picture, *caption = figure.evaluate(lefts)
        figure.evaluate("figure => figure.scrollTo(9999, 0)")
        page.wait_for_function("!document.querySelector('article figure.more-right')?.scrollLeft")
        moved, *stays = figure.evaluate(lefts)
        assert moved < picture - 50
        assert stays == pytest.approx(caption, abs=1)


@in_both_browsers
def test_a_first_visit(browser: Browser) -> None:
    """Of a browser that holds no setting of the theme: no fault, and the theme of the system."""
    context = browser.new_context(offline=True, color_scheme="dark")
    with opened(context, SITE / "book" / "index.html") as (page, report):
        assert not report.errors
        dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
        theme = page.evaluate("document.documentElement.dataset.theme")
        assert theme == ("dark" if dark else "light")
    context.close()


FAULTS = """<!doctype html><title>faults</title><img src="https://example.invalid/image.png">
<script>
  console.error("said");
  setTimeout(() => { throw new Error("thrown"); });
  fetch("https://example.invalid/data").catch(() => { document.title = "done"; });
</script>"""


@in_both_browsers
def test_faults_of_a_page_are_noticed(browser: Browser, tmp_path: Path) -> None:
    """What is thrown, what the console is told, and what is asked of the network."""
    file = tmp_path / "faults.html"
    file.write_text(FAULTS, encoding="utf-8")
    with window(browser, View(1280, "light")) as context, opened(context, file) as (page, report):
        page.wait_for_function("document.title === 'done'")
        found = " ".join(report.errors)
        assert "said" in found
        assert "thrown" in found
        assert {url.rpartition("/")[2] for url in report.requests} == {"image.png", "data"}
