"""Numbers with plus or minus, and their intervals on demand."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from browsers import NARROW, REPEATED, WIDE, bring_into_view, in_both_browsers, violations
from bs4 import BeautifulSoup
from playwright.sync_api import Browser

from _ext.intervals import half_width, marked
from tools.browser import ROOT, SITE, View, opened, window


@pytest.mark.parametrize(
    ("mean", "low", "high", "expected"),
    [
        ("0.00196", "0.00178", "0.00214", "0.00018"),
        ("-0.0174", "-0.0181", "-0.0168", "0.0007"),
        ("0.00034", "0.00030", "0.00039", "0.00005"),
        ("98", "96", "100", "2"),
        ("98", "95", "100", None),
        ("0.072", "0.037", "0.117", None),
        ("2.43", "2.42", "2.43", None),
        ("2.43", "2.43", "2.43", None),
    ],
)
def test_half_width(mean: str, low: str, high: str, expected: str | None) -> None:
    """The larger half, unless the other is shorter by more than a fifth."""
    assert half_width(mean, low, high) == expected


def test_what_is_marked() -> None:
    """Of a number in the text the words stay; tables and lopsided intervals stay as they are."""
    glued = '<span class="pasted-text">{}</span>'
    found = marked(f"<p>at {glued.format('-0.02 [-0.07, 0.03]')} nats</p>")
    assert found == (
        '<p>at <span class="pasted-text interval" data-half="0.05" data-tip="95% interval '
        '-0.07 to 0.03">-0.02<span> [-0.07, 0.03]</span></span> nats</p>'
    )
    for text in ("0.00263 [0.00146, 0.00487]", "0.000001 [-2.7e-07, 0.000002]", "12"):
        assert marked(glued.format(text)) == glued.format(text)
    table = f"<table>\n<td>{glued.format('98 [96, 100]')}</td></table>"
    assert marked(table) == table


@pytest.mark.parametrize("notebook", sorted((ROOT / "book").glob("*.ipynb")), ids=lambda p: p.stem)
def test_glued_intervals_are_of_95_per_cent(notebook: Path) -> None:
    """Those that are glued are written by ``Estimate.text``, whose intervals are."""
    for cell in nbformat.read(notebook, as_version=4).cells:
        glued = [
            str(text)
            for output in cell.get("outputs", [])
            for kind, text in output.get("data", {}).items()
            if kind.startswith("application/papermill.record")
        ]
        if re.search(r"\d \[", " ".join(glued)):
            assert ".text(" in cell.source
            assert "[{" not in cell.source


@pytest.mark.usefixtures("built_site")
def test_without_a_script_the_brackets_are_read() -> None:
    """On the pages as they are built, of which the PDF is made."""
    pages = [path.read_text(encoding="utf-8") for path in (SITE / "book").glob("*.html")]
    found = [
        one for page in pages for one in BeautifulSoup(page, "html.parser").select(".interval")
    ]
    assert len(found) > 10
    for one in found:
        text = re.fullmatch(r"(\S+) \[(\S+), (\S+)\]", one.text)
        assert text
        assert one["data-half"] == half_width(*text.groups())
        assert not one.find_parent("table")


@pytest.mark.usefixtures("built_site")
@in_both_browsers
@pytest.mark.parametrize("view", [WIDE, NARROW], ids=str)
def test_a_number_tells_its_interval(browser: Browser, view: View) -> None:
    """To the pointer, the keyboard and the finger; to a screen reader once."""
    with (
        window(browser, view) as context,
        opened(context, SITE / "book" / "experiment-1.html") as (page, report),
    ):
        tip, number = page.locator("#symbol-tip"), page.locator("article .interval").first
        bracket = number.locator("> :last-child")
        half = str(number.get_attribute("data-half"))
        shown = number.locator("[aria-hidden]")
        assert shown.text_content() == f" ± {half}"
        low, high = re.findall(r"[\d.]+", str(bracket.text_content()))
        interval = f"95% interval {low} to {high}"
        heard = number.locator("xpath=..").aria_snapshot()
        assert f"[{low}, {high}]" in heard
        assert "±" not in heard
        bring_into_view(number)
        page.clock.install()  # the page waits a little before it shows and hides
        number.hover()
        page.clock.run_for(1000)
        assert tip.inner_text().strip() == interval
        page.keyboard.press("Escape")
        assert tip.count() == 0
        page.keyboard.press("Tab")  # from now on the browser shows what has the focus
        number.focus()
        assert tip.inner_text().strip() == interval
        assert interval not in page.locator("body").aria_snapshot()
        assert number.get_attribute("aria-describedby") is None
        page.keyboard.press("Escape")
        assert tip.count() == 0
        number.click()  # as a tap does
        assert tip.inner_text().strip() == interval
        page.locator("article h1").click()
        assert tip.count() == 0
        assert not report.errors
        number.click()
        assert not violations(page, REPEATED)  # which asks for what a page on disk may not have


@pytest.mark.usefixtures("built_site")
def test_brackets_are_printed(browser: Browser) -> None:
    """From the page as from the PDF; on the screen they take no room."""
    with (
        window(browser, WIDE) as context,
        opened(context, SITE / "book" / "experiment-1.html") as (page, _),
    ):
        half = page.locator("article .interval > [aria-hidden]").first
        width = "half => half.nextElementSibling.getBoundingClientRect().width"
        assert half.is_visible()
        assert half.evaluate(width) <= 1
        page.emulate_media(media="print")
        half.wait_for(state="hidden")
        assert half.evaluate(width) > 50
