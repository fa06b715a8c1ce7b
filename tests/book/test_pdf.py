"""The PDF of the book: joined from the pages of the site, and held against them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from bs4 import BeautifulSoup, Tag
from pypdf import PdfReader
from pypdf.generic import DictionaryObject

from tools.browser import SITE, find_chromium, toc_documents
from tools.pdf import MARK, TARGET, WORK, attach, citation, dated, licence
from tools.single_page import KEPT, LONGEST, BrokenLinks, joined, slug

DOCUMENTS = toc_documents()

# --- joining pages -------------------------------------------------------------------------


def page(body: str) -> str:
    return f'<html><body><article class="bd-article">{body}</article></body></html>'


def join(pages: dict[str, str]) -> BeautifulSoup:
    html = joined(
        list(pages),
        lambda name: page(pages[name]),
        title="A <title>",
        language="en-GB",
        front="",
        head="",
        site="../html",
    )
    return BeautifulSoup(html, "html.parser")


ONE = '<h1>One</h1><section id="a"><h2>Part</h2><p>{}</p></section>'
TWO = '<h1>Two</h1><p id="a">{}</p><p id="b"></p>'


def hrefs(element: Tag | None) -> list[str]:
    assert element is not None
    return [str(link["href"]) for link in element.find_all("a", href=True)]


@pytest.mark.parametrize(
    ("page", "address", "expected"),
    [
        ("one", "#a", "#one:a"),
        ("one", "#", "#one"),
        ("sub/one", "two.html", "#sub-two"),
        ("one", "sub/two.html#b", "#sub-two:b"),
        ("one", "sub/two.html#step=1&rate=2", "#sub-two"),
        ("one", "../book/sub/two.html#b", "#sub-two:b"),
        ("one", "https://example.org/two.html#b", "https://example.org/two.html#b"),
    ],
)
def test_links_follow_their_targets(page: str, address: str, expected: str) -> None:
    pages = {f"book/{page}": ONE.format(f'<a href="{address}">x</a>'), "book/sub/two": TWO}
    assert hrefs(join(pages).find(id=page.replace("/", "-"))) == [expected]


def test_link_to_a_file_of_the_site_becomes_text() -> None:
    soup = join({"book/one": ONE.format('see <a href="../figures/f.svg">the file</a>')})
    chapter = soup.find(id="one")
    assert isinstance(chapter, Tag)
    assert hrefs(chapter) == []
    assert "see the file" in chapter.get_text()


def test_link_without_a_target_is_refused() -> None:
    with pytest.raises(BrokenLinks, match="#two:nowhere has no target"):
        join({"book/one": ONE.format('<a href="two.html#nowhere">x</a>'), "book/two": TWO})


def test_equal_ids_are_told_apart() -> None:
    soup = join({"book/one": ONE, "book/two": TWO + '<p id="a">a second, as in a proof</p>'})
    ids = [str(element["id"]) for element in soup.find_all(id=True)]
    assert sorted(ids) == ["one", "one:a", "two", "two:a", "two:b"]


def test_contents_name_chapters_and_sections() -> None:
    contents = join({"book/one": ONE, "book/two": TWO}).nav
    assert hrefs(contents) == ["#one", "#one:a", "#two"]
    assert contents is not None
    assert contents.get_text(" ", strip=True) == "Contents Overview Part Two"


def test_figures_are_listed_by_their_first_sentence() -> None:
    figure = (
        '<figure id="f"><img src="f.svg"><figcaption>'
        '<span class="caption-number">Figure 1.1 </span>'
        '<span class="caption-text">As in <a href="#a">this</a> of Liu et al. '
        r"\(p &lt; 1\). More.</span></figcaption></figure>"
    )
    figures = join({"book/one": ONE + figure}).find_all("nav")[1]
    assert hrefs(figures) == ["#one:f"]
    assert plain(figures.get_text()) == plain(
        r"Figures Figure 1.1 As in this of Liu et al. \(p < 1\)"
    )


def test_folded_source_goes_and_folded_text_stays() -> None:
    body = (
        '<details class="hide above-input"><summary>Show</summary><pre>secret</pre></details>'
        "<details><summary>More</summary><p>told</p></details><button>Copy</button>"
        "<noscript><p>still</p></noscript><script>moving()</script><div hidden>stage</div>"
        "<button data-state='a=1' disabled>named</button>"
    )
    chapter = join({"book/one": ONE.format("") + body}).find(id="one")
    assert isinstance(chapter, Tag)
    text = chapter.get_text()
    assert "told" in text
    assert "still" in text
    assert "<strong>named</strong>" in str(chapter), "what the text then speaks of"
    assert not [word for word in ("secret", "Copy", "moving", "stage") if word in text]


@pytest.mark.parametrize("lines", [LONGEST, LONGEST + 1])
def test_long_output_is_cut_and_says_so(lines: int) -> None:
    output = "\n".join(f"line {number}" for number in range(1, lines + 1))
    body = ONE.format("") + f'<div class="cell_output"><pre>{output}\n</pre></div>'
    chapter = join({"book/one": body}).find(id="one")
    assert isinstance(chapter, Tag)
    assert (f"line {KEPT + 1}" in chapter.get_text()) == (lines == LONGEST)
    left = f"{lines - KEPT} of {lines} lines are left out here; book/one.html of the site"
    assert (left in chapter.get_text()) == (lines > LONGEST)


def test_images_are_those_of_the_site() -> None:
    soup = join({"book/one": ONE.format('<img src="../_images/f.svg" alt="f">')})
    assert soup.img is not None
    assert soup.img["src"] == "../html/_images/f.svg"


def test_long_names_can_break() -> None:
    names = "<code>ils.sample</code><code>tests/test_x.py::test_yz</code>"
    soup = join({"book/one": ONE.format(names)})
    short, long = soup.find_all("code")
    assert not short.find_all("wbr")
    assert long.get_text() == "tests/test_x.py::test_yz"
    assert len(long.find_all("wbr")) == 5


def test_the_link_is_written_once(tmp_path: Path) -> None:
    (tmp_path / "book").mkdir()
    files = [tmp_path / "index.html", tmp_path / "book" / "one.html"]
    for file in files:
        file.write_text("<p>CC BY. <!-- pdf --></p>", encoding="utf-8")
    (tmp_path / "bare.html").write_text("<p></p>", encoding="utf-8")
    for _ in range(2):
        assert attach(tmp_path, tmp_path / "r.pdf") == 2
    found = [
        hrefs(BeautifulSoup(file.read_text(encoding="utf-8"), "html.parser")) for file in files
    ]
    assert found == [["r.pdf"], ["../r.pdf"]]


def test_date_of_the_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert dated().isoformat() == "1970-01-02"


# --- the PDF -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pdf() -> PdfReader:
    if not TARGET.exists():
        if find_chromium() is None and os.environ.get("CI") != "true":
            pytest.skip("no Chromium found to print with")
        pytest.fail(f"there is no {TARGET.name} in _build/html: run make pdf", pytrace=False)
    return PdfReader(TARGET)


@pytest.fixture(scope="module")
def texts(pdf: PdfReader) -> list[str]:
    return [page.extract_text() for page in pdf.pages]


@pytest.fixture(scope="module")
def places(pdf: PdfReader) -> dict[str, int]:
    """The page of every named destination, counted from 0; None for one that is lost."""
    found = pdf.named_destinations.items()
    return {name.removeprefix("/"): pdf.get_destination_page_number(to) for name, to in found}


@pytest.fixture(scope="module")
def source() -> BeautifulSoup:
    """The page that was printed."""
    return BeautifulSoup((WORK / "report.html").read_text(encoding="utf-8"), "html.parser")


@cache
def article(document: str) -> Tag:
    """An article of the site, without what is for clicking."""
    html = (SITE / f"{document}.html").read_text(encoding="utf-8")
    found = BeautifulSoup(html, "html.parser").select_one("article.bd-article")
    assert found is not None
    for element in found.select("a.headerlink, .toctree-wrapper, .d-print-none"):
        element.decompose()
    return found


def plain(text: str) -> str:
    """Text without spaces, which are uncertain in a PDF."""
    return re.sub(r"\s+", "", text)


def chapter_title(document: str) -> str:
    heading = article(document).h1
    assert heading is not None
    return "Overview" if document == DOCUMENTS[0] else plain(heading.get_text())


def outline(pdf: PdfReader, nodes: list | None = None, depth: int = 0) -> Iterator[tuple]:
    """Depth, title without spaces, and page from 0, of every entry."""
    for node in pdf.outline if nodes is None else nodes:
        if isinstance(node, list):
            yield from outline(pdf, node, depth + 1)
        else:
            yield depth, plain(str(node.title)), pdf.get_destination_page_number(node)


def annotations(pdf: PdfReader) -> Iterator[DictionaryObject]:
    for page in pdf.pages:
        for annotation in page.get("/Annots", []):
            if annotation.get_object().get("/Subtype") == "/Link":
                yield annotation.get_object()


def test_pages(pdf: PdfReader, texts: list[str]) -> None:
    assert 100 < len(pdf.pages) < 400
    assert {(round(p.mediabox.width), round(p.mediabox.height)) for p in pdf.pages} <= {
        (595, 842),
        (594, 841),
        (596, 842),
    }
    assert TARGET.stat().st_size < 20e6
    # The number of each page but the first is printed on it.
    numbered = [re.search(rf"(?:^|\n){n}(?:\n|$)", text) for n, text in enumerate(texts, 1)]
    assert not [n for n, found in enumerate(numbered, 1) if (found is None) != (n == 1)]


def test_cover_says_what_this_is(texts: list[str]) -> None:
    cited = citation()
    for said in (
        cited["title"],
        *(author["name"] for author in cited["authors"]),
        f"Version {cited['version']}",
        licence(),
    ):
        assert plain(said) in plain(texts[0])
    assert re.search(r"\d{1,2} [A-Z][a-z]+ 20\d\d", texts[0])


def test_outline_has_every_chapter_in_order_and_every_section(pdf: PdfReader) -> None:
    found = list(outline(pdf))
    top = [title for depth, title, _ in found if depth == 0]
    assert top == ["Contents", "Figures", *map(chapter_title, DOCUMENTS)]
    headings = [
        plain(heading.get_text())
        for document in DOCUMENTS
        for heading in article(document).find_all(["h2", "h3"])
    ]
    assert len(headings) > 100
    assert not set(headings) - {title for _, title, _ in found}


def test_chapters_begin_a_page(pdf: PdfReader, texts: list[str]) -> None:
    begun = [(title, page) for depth, title, page in outline(pdf) if depth == 0]
    for title, page_number in begun[2:]:
        # Before it come the running head, which is the title too, and the number of the page.
        text = plain(texts[page_number])
        assert text.startswith((f"{title}{page_number + 1}{title}", f"{page_number + 1}{title}"))
    pages = [page_number for _, page_number in begun]
    assert pages == sorted(set(pages))


def test_contents_give_the_right_pages(texts: list[str], places: dict[str, int]) -> None:
    first = places[slug(DOCUMENTS[0])]
    lines = [plain(line) for text in texts[1:first] for line in text.split("\n")]
    for document in DOCUMENTS:
        assert f"{chapter_title(document)}{places[slug(document)] + 1}" in lines


def test_internal_links_lead_somewhere(
    pdf: PdfReader, places: dict[str, int], source: BeautifulSoup
) -> None:
    found = {str(a["/Dest"]).removeprefix("/") for a in annotations(pdf) if "/Dest" in a}
    wanted = {address[1:] for address in hrefs(source) if address.startswith("#")}
    assert len(wanted) > 200
    assert found == wanted
    assert not {name for name in found if places.get(name) is None}


def test_every_link_of_the_site_is_kept(pdf: PdfReader, source: BeautifulSoup) -> None:
    """Links to chapters and out; those to other files of the site are text in the PDF."""
    outside, inside = set(), 0
    for document in DOCUMENTS:
        for link in article(document).select("a[href]:not(details.hide *, [hidden] *)"):
            parts = urlsplit(str(link["href"]))
            if parts.scheme:
                outside.add(str(link["href"]))
            else:
                path = os.path.normpath((Path(document).parent / parts.path).as_posix())
                inside += not parts.path or path.removesuffix(".html") in DOCUMENTS
    assert {a["/A"]["/URI"] for a in annotations(pdf) if "/A" in a} == outside
    chapters = source.select(".chapter a[href^='#']")
    assert len(chapters) == inside


def test_nothing_is_unresolved(texts: list[str]) -> None:
    broken = re.compile(
        r"\?\?|Math input error|\{(?:glue|numref|prf:ref|eq|cite|doc)\}|glue:|\\\(|<wbr|"
        r"Show code cell"
    )
    assert not [(n, found[0]) for n, text in enumerate(texts, 1) for found in broken.finditer(text)]


def test_every_number_of_the_site_is_there(
    texts: list[str], places: dict[str, int], source: BeautifulSoup
) -> None:
    """Of figures, tables, propositions and equations: on the pages of their chapter."""
    starts = [places[slug(document)] for document in DOCUMENTS]
    numbers = 0
    for document, begin, end in zip(DOCUMENTS, starts, [*starts[1:], len(texts)], strict=True):
        text = plain(" ".join(texts[begin:end]))
        for number in article(document).select(".caption-number, .eqno"):
            assert plain(number.get_text()) in text
            numbers += 1
    assert numbers > 80
    assert len(source.select(".eqno")) > 5


def test_bibliography(texts: list[str], places: dict[str, int]) -> None:
    text = plain(" ".join(texts[places["references"] :]))
    labels = [plain(label.get_text()) for label in article("book/references").select("span.label")]
    assert len(labels) > 50
    assert not [label for label in labels if label not in text]


def test_metadata(pdf: PdfReader) -> None:
    cited = citation()
    assert pdf.metadata is not None
    assert pdf.metadata.title == cited["title"]
    assert pdf.metadata.author == ", ".join(author["name"] for author in cited["authors"])
    assert pdf.metadata.creation_date is not None
    root = pdf.root_object
    assert root["/Lang"] == "en-GB"
    assert root["/PageMode"] == "/UseOutlines"
    assert root["/ViewerPreferences"]["/DisplayDocTitle"]


def test_fonts_are_embedded(pdf: PdfReader) -> None:
    names = set()
    for page in pdf.pages:
        for font in page["/Resources"].get("/Font", {}).values():
            font = font.get_object()
            if font["/Subtype"] == "/Type3":
                continue  # its letters are drawings, within
            descended = font.get("/DescendantFonts", [font])[0].get_object()
            descriptor = descended["/FontDescriptor"]
            assert {"/FontFile", "/FontFile2", "/FontFile3"} & set(descriptor), font["/BaseFont"]
            names.add(str(font["/BaseFont"]))
    assert any("STIXGeneral-Regular" in name for name in names), "another font took its place"


def test_tagged_with_names_of_formulas_and_pictures(pdf: PdfReader, source: BeautifulSoup) -> None:
    assert pdf.root_object["/MarkInfo"]["/Marked"]
    named, kinds = set(), set()
    waiting = [pdf.root_object["/StructTreeRoot"]]
    while waiting:
        node = waiting.pop().get_object()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, DictionaryObject):
            kinds.add(node.get("/S"))
            if "/Alt" in node:
                named.add(plain(str(node["/Alt"])))
            waiting += [node["/K"]] if "/K" in node else []
    assert {"/H1", "/H2", "/P", "/Table", "/TH", "/TD", "/L", "/Link", "/Figure"} <= kinds
    pictures = {plain(str(image["alt"])) for image in source.find_all("img")}
    assert not pictures - named
    formulas = {plain(span.get_text()[2:-2]) for span in source.select("span.math")}
    assert len(formulas) > 200
    assert not formulas - named


def test_figures_are_drawn_not_scanned(pdf: PdfReader, source: BeautifulSoup) -> None:
    """Only what is of pixels on the site, such as a thumbnail or a heat map, may be so here."""
    images = sum(
        thing.get_object()["/Subtype"] == "/Image"
        for page in pdf.pages
        for thing in page["/Resources"].get("/XObject", {}).values()
    )
    shown = [(WORK / str(image["src"])).resolve() for image in source.find_all("img")]
    drawings = [path for path in shown if path.suffix == ".svg"]
    inside = sum(path.read_text(encoding="utf-8").count("<image") for path in drawings)
    assert len(drawings) >= 40
    assert images <= len(shown) - len(drawings) + inside


def test_site_links_to_it(pdf: PdfReader) -> None:
    for document in DOCUMENTS:
        text = (SITE / f"{document}.html").read_text(encoding="utf-8")
        (mark,) = MARK.findall(text)
        (address,) = hrefs(BeautifulSoup(mark, "html.parser"))
        assert (SITE / f"{document}.html").parent.joinpath(address).resolve() == TARGET.resolve()
