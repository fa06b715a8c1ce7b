"""Join the pages of the built site into one HTML page, of which `tools/pdf.py` prints the PDF.

The pages as built, and not another run of Sphinx: so figures, equations, propositions and
citations have the very numbers of the site. What joining needs is done here: the frame of each
page goes, ids are made unique by the name of their chapter (`prop-draw` in `construction.html`
becomes `construction:prop-draw`), and links follow them. A link that leads nowhere is an error.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag

# Of the page, not of the text: what a reader clicks on, and the folded source of a cell.
FRAME = (
    "script, link, canvas, iframe, form, button:not([data-state]), input, select, "
    "[hidden], .d-print-none, a.headerlink, a:has(> .viewcode-link), .toctree-wrapper, "
    "details.hide.above-input, details.hide summary"
)
# Of an output with more lines, or a table with more rows, this many are printed.
LONGEST, KEPT = 60, 40
# A name with fewer letters than this stays in one line.
LONG_NAME = 24

PAGE = """\
<!DOCTYPE html>
<html lang="{language}" data-theme="light">
<head>
<meta charset="utf-8">
<title>{title}</title>
{head}
</head>
<body>
{body}
</body>
</html>
"""


class BrokenLinks(ValueError):
    """Links of the joined page that have no target in it."""


@dataclass
class Chapter:
    """An article of the site, ready to be joined; ``sections`` are ids and titles."""

    document: str
    article: Tag
    title: Tag
    sections: list[tuple[str, Tag]]

    @property
    def slug(self) -> str:
        return slug(self.document)


def slug(document: str) -> str:
    """The name of a chapter in ids: ``construction`` for ``book/construction``."""
    return document.removeprefix("book/").replace("/", "-")


def read_chapter(html: str, document: str, documents: Iterable[str], site: str) -> Chapter:
    """The article of a built page; ``site`` is the way from the joined page to the site."""
    article = BeautifulSoup(html, "html.parser").select_one("article.bd-article")
    heading = article.h1 if article else None
    if article is None or heading is None:
        raise ValueError(f"{document}: expected an article with a heading, found none")
    for element in article.select(FRAME):
        if not element.decomposed:
            element.decompose()
    for still in article.find_all("noscript"):
        still.unwrap()  # what stands there for a reader without scripts serves on paper too
    for button in article.find_all("button"):  # a name of what the text then speaks of
        button.name, button.attrs = "strong", {}
    for details in article.find_all("details"):
        details["open"] = ""
    for code in article.find_all("code"):
        soften(code)
    shorten(article, document)
    rewrite(article, document, set(documents), site)
    sections = [
        (str(section["id"]), title)
        for section in article.select("section[id]")
        if (title := section.find("h2", recursive=False))
    ]
    return Chapter(document, article, heading, sections)


def shorten(article: Tag, document: str) -> None:
    """Cut, in place, outputs that on the site scroll, with a note that says where all is."""
    for output in article.select(".cell_output"):
        for pre in output.find_all("pre"):
            lines = pre.get_text().rstrip("\n").split("\n")
            if len(lines) > LONGEST:
                pre.string = "\n".join(lines[:KEPT])
                pre.insert_after(note(f"{len(lines) - KEPT} of {len(lines)} lines", document))
        for table in output.find_all("table"):
            rows = table.select("tbody tr")
            if len(rows) > LONGEST:
                for row in rows[KEPT:]:
                    row.decompose()
                table.insert_after(note(f"{len(rows) - KEPT} of {len(rows)} rows", document))


def soften(code: Tag) -> None:
    """Let long names break, in place, after a dot, a slash, a colon or an underscore."""
    if len(code.get_text()) < LONG_NAME:
        return
    for text in code.find_all(string=re.compile(r"[./:_]\w")):
        pieces = re.split(r"(?<=[./:_])(?=\w)", str(text))
        for piece in pieces[:-1]:
            text.insert_before(piece, Tag(name="wbr", can_be_empty_element=True))
        text.replace_with(pieces[-1])


def note(what: str, document: str) -> Tag:
    text = f"{what} are left out here; {document}.html of the site shows all."
    made = BeautifulSoup(f'<p class="left-out">{text}</p>', "html.parser").p
    assert made is not None
    return made


def rewrite(article: Tag, document: str, documents: set[str], site: str) -> None:
    """Make ids, links and the addresses of images those of the joined page, in place."""
    prefix = slug(document)
    seen: set[str] = set()
    for element in article.find_all(id=True):
        own = str(element["id"])
        if element.find_parent(class_="text_html"):
            continue  # the styles of a data frame name its cells by random ids
        # A browser goes to the first of several; sphinx-proof calls every proof "proof".
        if own in seen:
            del element["id"]
        else:
            element["id"] = f"{prefix}:{own}"
        seen.add(own)

    folder = posixpath.dirname(document)
    for link in article.find_all("a", href=True):
        address = str(link["href"])
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            continue
        target = document
        if parts.path:
            path = posixpath.normpath(posixpath.join(folder, unquote(parts.path)))
            target = path.removesuffix(".html")
        if target not in documents:
            link.unwrap()  # to a file of the site that is no chapter
            continue
        fragment = unquote(parts.fragment)
        if "=" in fragment:  # what an explorer is set to, which paper cannot show
            fragment = ""
        link["href"] = f"#{slug(target)}" + (f":{fragment}" if fragment else "")

    for image in article.find_all(src=True):
        if not urlsplit(str(image["src"])).scheme:
            path = posixpath.normpath(posixpath.join(folder, str(image["src"])))
            image["src"] = f"{site}/{path}"
        image.attrs.pop("loading", None)


def contents(chapters: list[Chapter]) -> str:
    """Lists of chapters and figures; `tools/pdf.py` fills in the pages, once they are known."""

    def entry(target: object, text: str, level: int) -> str:
        return (
            f'<li class="level-{level}"><a href="#{escape(str(target))}"><span>{text}</span>'
            f'<span class="page" data-target="{escape(str(target))}"></span></a></li>'
        )

    def listed(title: str, entries: Iterable[str]) -> str:
        return f'<nav class="contents"><h1>{title}</h1><ul>{"".join(entries)}</ul></nav>'

    items, figures = [], []
    for chapter in chapters:
        items.append(entry(chapter.slug, chapter.title.decode_contents().strip(), 1))
        for target, title in chapter.sections:
            items.append(entry(target, title.decode_contents().strip(), 2))
        for figure in chapter.article.select("figure[id]:has(.caption-number)"):
            figures.append(entry(figure["id"], caption(figure), 2))
    return listed("Contents", items) + (listed("Figures", figures) if figures else "")


def caption(figure: Tag) -> str:
    """The number of a figure and the first sentence of its caption."""
    number, text = figure.select_one(".caption-number"), figure.select_one(".caption-text")
    pieces = [f"{number.get_text().strip()}  " if number else ""]
    for child in text.children if text else ():
        if isinstance(child, Tag):
            pieces.append(child.get_text() if child.name == "a" else str(child))
            continue
        first, *rest = re.split(r"(?<!et al)\. ", str(child), maxsplit=1)
        pieces.append(escape(first))
        if rest:
            break
    return "".join(pieces).rstrip(". ")


def joined(
    documents: list[str],
    read: Callable[[str], str],
    *,
    title: str,
    language: str,
    front: str,
    head: str,
    site: str,
) -> str:
    """The whole book as one page: ``front``, contents, and the page ``read`` of each document.

    Raises `BrokenLinks` if a link has no target.
    """
    chapters = [read_chapter(read(name), name, documents, site) for name in documents]
    # The first page of the site bears the title of the book, which here stands on the cover.
    chapters[0].title.string = "Overview"
    body = [front, contents(chapters)]
    pages = []
    for number, chapter in enumerate(chapters):
        name = f"chapter-{number}"
        running = chapter.title.get_text().replace("\\", r"\\").replace('"', r"\"").strip()
        pages.append(f'@page {name} {{ @top-left {{ content: "{running}" }} }}')
        body.append(
            f'<div class="chapter" id="{chapter.slug}" style="page: {name}">'
            f"{chapter.article.decode_contents()}</div>"
        )
    style = "<style>\n" + "\n".join(pages).replace("<", r"\3c ") + "\n</style>"
    page = PAGE.format(
        language=language, title=escape(title), head=f"{head}\n{style}", body="\n".join(body)
    )
    check(page)
    return page


def check(page: str) -> None:
    """Raise `BrokenLinks` unless ids are unique and every link within the page has its target."""
    soup = BeautifulSoup(page, "html.parser")
    ids = Counter(str(element["id"]) for element in soup.find_all(id=True))
    wrong = [f"#{name} is there {count} times" for name, count in ids.items() if count > 1]
    for link in soup.find_all("a", href=True):
        address = str(link["href"])
        if address.startswith("#") and address[1:] not in ids:
            wrong.append(f"{address} has no target")
    if wrong:
        raise BrokenLinks("; ".join(wrong))
