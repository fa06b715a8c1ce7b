"""The page of all figures: nothing forgotten, everything there to be cited."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from PIL import Image
from pybtex.database import parse_string

from _ext.figure_index import EXPORTS, Drawn, bibtex, drawn, title
from tools.browser import ROOT, SITE

pytestmark = pytest.mark.usefixtures("built_site")

NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
FIGURES = [figure for notebook in NOTEBOOKS for figure in drawn(notebook)]
each_figure = pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)


@pytest.fixture(scope="module")
def page() -> BeautifulSoup:
    return BeautifulSoup(
        (SITE / "book" / "figures.html").read_text(encoding="utf-8"), "html.parser"
    )


def test_every_figure_is_there_once(page: BeautifulSoup) -> None:
    """As many entries as figures, in as many sections as chapters with figures."""
    shown = [Path(image["src"]).stem for image in page.select("p.figure-index img")]
    assert sorted(shown) == sorted(f"{figure.name}-small" for figure in FIGURES)
    assert len(FIGURES) == len({figure.name for figure in FIGURES}) > 30
    sections = {section["id"] for section in page.select("section[id^=figures-]")}
    assert sections == {f"figures-{figure.notebook}" for figure in FIGURES}


@each_figure
def test_entry(page: BeautifulSoup, figure: Drawn) -> None:
    """Number, picture, address, exports, cell and citation of a figure."""
    (image,) = page.select(f'p.figure-index img[src$="/{figure.name}-small.png"]')
    assert image["alt"] == figure.alt
    thumbnail = SITE / "figures" / f"{figure.name}-small.png"
    assert thumbnail.stat().st_size < 80_000
    with Image.open(thumbnail) as opened:
        assert opened.width > 200
    box = image.find_parent("p")
    links = [link["href"] for link in box.select("a")]
    assert f"{figure.notebook}.html#{figure.name}" in links
    assert {f"../figures/{figure.name}.{kind}" for kind in EXPORTS} <= set(links)
    number = box.find_previous_sibling("p").select_one("a.reference")
    assert re.fullmatch(r"Figure (\d+|[A-Z])\.\d+", number.get_text())
    assert number["href"].endswith(f"#{figure.name}")
    details = box.find_next_sibling("div")
    told = details.get_text()
    assert figure.source.strip().splitlines()[-1].strip() in told
    assert f"@misc{{ils-{figure.name}," in told


@each_figure
def test_citation_is_bibtex(figure: Drawn) -> None:
    """A parser of BibTeX reads the entry, and its fields are those of the figure."""
    entry = bibtex(figure, author="The authors", book="The book", year="2026", version="1.2")
    (read,) = parse_string(entry, "bibtex").entries.values()
    assert not re.search(r"(?<!\\)[%&#]", entry)  # which LaTeX would not print
    assert read.fields["year"] == "2026"
    assert figure.name in read.fields["note"]
    assert 10 < len(read.fields["title"]) < 400
    assert "`" not in read.fields["title"]
    assert str(read.persons["author"][0]) == "{The authors}"  # one name, not two


@each_figure
def test_alt_text_says_what_is_seen(figure: Drawn) -> None:
    """Some sentences of its own, and not the caption again."""
    assert len(figure.alt.split()) >= 12
    alike = difflib.SequenceMatcher(None, figure.alt.lower(), figure.caption.lower()).ratio()
    assert alike < 0.6
    assert not re.match(r"(?i)(a |the )?(figure|image|picture|plot|chart) (of|showing)", figure.alt)


def test_titles() -> None:
    """Sections have the titles of their chapters."""
    assert title(ROOT / "book" / "fixed-points-evidence.ipynb") == "Fixed points in numbers"


def test_address_of_a_figure_without_sentence() -> None:
    """A caption of one sentence is the title; roles and marks are left out."""
    figure = Drawn("n", "fig-n", "Only *this* of `ils.sample`. And more.", "alt", "code")
    entry = bibtex(figure, author="A", book="B", year="2026", version="1")
    assert "title        = {Only this of ils.sample}," in entry


@each_figure
def test_links_below_the_figure(figure: Drawn) -> None:
    """Its files, which are whole, and its entry on the page of figures."""
    text = (SITE / "book" / f"{figure.notebook}.html").read_text(encoding="utf-8")
    (box,) = BeautifulSoup(text, "html.parser").select(f"figure#{figure.name} p.figure-links")
    for kind, start in zip(EXPORTS, (b"<", b"%PDF", b"\x89PNG", b""), strict=True):
        content = (SITE / "figures" / f"{figure.name}.{kind}").read_bytes()
        assert content.startswith(start)
        assert content.strip()
    links = [link["href"] for link in box.select("a")]
    wanted = [f"../figures/{figure.name}.{kind}" for kind in EXPORTS]
    assert links == [*wanted, f"figures.html#cite-{figure.name}"]
