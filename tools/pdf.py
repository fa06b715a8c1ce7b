"""Print the built site as one PDF, and link to it from the footer of every page.

Usage: ``python tools/pdf.py``, or ``make pdf``.

The pages are joined (see `tools/single_page.py`), typeset by the site's own MathJax and printed
by Chromium, twice: the first print tells on which page each entry of the contents stands. What
Chromium leaves out, such as the author, is added to the file afterwards.
"""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from html import escape
from io import BytesIO
from pathlib import Path

import matplotlib
import yaml
from pikepdf import Dictionary, Name, Object, ObjectStreamMode, Pdf
from playwright.sync_api import Browser, Page

# Run as a script, this file has its own folder on the path and not the root.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.browser import ROOT, SITE, chromium, find_chromium, toc_documents
from tools.single_page import joined

WORK = ROOT / "_build" / "pdf"
TARGET = SITE / "ils-report.pdf"

# In the extra_footer of _config.yml; the link stands behind it. It is written here, not there,
# because a site without the PDF must not link to it.
MARK = re.compile(r"<!-- pdf -->(?:<a [^>]*>[^<]*</a>\.)?")
LINK = '<!-- pdf --><a href="{address}">The book as PDF</a>.'

# From matplotlib, which the book needs anyway: every machine then prints the same letters.
FONTS = {
    ("STIXGeneral", "normal", "normal"): "STIXGeneral",
    ("STIXGeneral", "normal", "italic"): "STIXGeneralItalic",
    ("STIXGeneral", "bold", "normal"): "STIXGeneralBol",
    ("STIXGeneral", "bold", "italic"): "STIXGeneralBolIta",
    ("DejaVu Sans Mono", "normal", "normal"): "DejaVuSansMono",
    ("DejaVu Sans Mono", "bold", "normal"): "DejaVuSansMono-Bold",
    ("DejaVu Sans Mono", "normal", "italic"): "DejaVuSansMono-Oblique",
}


def dated() -> datetime.date:
    """The date of the sources: SOURCE_DATE_EPOCH, else that of the last commit, else today."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch:
        return datetime.datetime.fromtimestamp(int(epoch), datetime.UTC).date()
    asked = ["git", "-C", str(ROOT), "log", "-1", "--format=%cs"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
        return datetime.date.fromisoformat(said)
    except (OSError, subprocess.CalledProcessError, ValueError):
        return datetime.datetime.now(datetime.UTC).date()


def citation() -> dict:
    return yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def settings() -> dict:
    return yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))


def licence() -> str:
    """What the footer of the site says."""
    return re.sub(r"<.*?>", "", settings()["html"]["extra_footer"]).strip()


def cover(cited: dict, date: datetime.date) -> str:
    authors = ", ".join(author["name"] for author in cited["authors"])
    return (
        '<div class="cover">'
        f'<p class="title">{escape(cited["title"])}</p>'
        f'<p class="authors">{escape(authors)}</p>'
        f"<p>Version {escape(str(cited['version']))}</p>"
        f"<p>{date.day} {date:%B %Y}</p>"
        f'<p class="licence">{escape(licence())}</p>'
        "</div>"
    )


def head(page: str) -> str:
    """Style sheets, fonts, and MathJax as ``page`` of the site sets it up."""
    mathjax = re.search(r"window\.MathJax = (\{.*?\})</script>", page)
    if mathjax is None:
        raise ValueError("expected the settings of MathJax in the page, found none")
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    faces = "\n".join(
        f'@font-face {{ font-family: "{family}"; font-weight: {weight}; font-style: {style}; '
        f'src: url("{(folder / f"{file}.ttf").as_uri()}"); }}'
        for (family, weight, style), file in FONTS.items()
    )
    return f"""\
<style>
{faces}
</style>
<link rel="stylesheet" href="../html/_static/pygments.css">
<link rel="stylesheet" href="../../tools/print.css">
<script src="../../tools/print.js"></script>
<script>
window.MathJax = {mathjax[1]};
Object.assign(window.MathJax.options ??= {{}}, {{
  enableMenu: false, enableAssistiveMml: false, menuOptions: {{settings: {{assistiveMml: false}}}},
}});
window.MathJax.svg = {{fontCache: 'none'}};
</script>
<script defer src="../html/_static/tex-svg-full.js"></script>"""


def write_page(target: Path) -> None:
    """The book as one page, joined from the built site."""

    def read(document: str) -> str:
        return (SITE / f"{document}.html").read_text(encoding="utf-8")

    documents = toc_documents()
    cited = citation()
    page = joined(
        documents,
        read,
        title=cited["title"],
        language=settings()["sphinx"]["config"]["language"].replace("_", "-"),
        front=cover(cited, dated()),
        head=head(read(documents[0])),
        site="../html",
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page, encoding="utf-8")


def pages_of(content: bytes) -> dict[str, int]:
    """The number of the page, from 1, of every named destination."""
    with Pdf.open(BytesIO(content)) as pdf:
        number = {page.objgen: count for count, page in enumerate(pdf.pages, start=1)}
        return {
            name.removeprefix("/"): number[place[0].objgen]
            for name, place in pdf.Root.Dests.items()
        }


def printed(browser: Browser, file: Path) -> tuple[bytes, list[str]]:
    """The PDF of a page, with page numbers in its contents; and its headings."""

    def to_pdf(page: Page) -> bytes:
        return page.pdf(prefer_css_page_size=True, outline=True, tagged=True, print_background=True)

    # As wide as the text of a printed page, so that what fits here fits there.
    width = round((210 - 2 * 22) / 25.4 * 96)
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.set_default_timeout(120_000)
    page.emulate_media(media="print", color_scheme="light")
    page.goto(file.as_uri(), wait_until="load")
    page.evaluate("() => MathJax.startup.promise")
    page.evaluate("() => Promise.all([...document.images].map(image => image.decode()))")
    page.evaluate("() => document.fonts.ready.then(() => null)")
    if "Math input error" in page.inner_text("body"):
        raise ValueError(f"{file}: MathJax could not read a formula")
    page.evaluate("nameFormulas()")
    wide = page.evaluate("fit()")
    if wide:
        raise ValueError(f"{file}: too wide for the paper, even in small letters: {wide}")
    page.evaluate("pages => number(pages)", pages_of(to_pdf(page)))
    return to_pdf(page), page.evaluate("headings()")


def outline_items(parent: Object) -> Iterator[Object]:
    """The entries of an outline, each before those below it."""
    entry = parent.get("/First")
    while entry is not None:
        yield entry
        yield from outline_items(entry)
        entry = entry.get("/Next")


def finish(content: bytes, headings: list[str], target: Path) -> int:
    """Write the PDF with what Chromium leaves out; return how many pages it has.

    That is the author and the subject, how a reader is to open the file, and compression.
    """
    cited = citation()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    day = f"D:{dated():%Y%m%d}000000Z"
    with Pdf.open(BytesIO(content)) as pdf:
        for name, value in {
            "Title": cited["title"],
            "Author": ", ".join(author["name"] for author in cited["authors"]),
            "Subject": f"{project['description']}. Version {cited['version']}",
            "Keywords": ", ".join(cited["keywords"]),
            "Creator": "Jupyter Book, Chromium",
            "CreationDate": day,
            "ModDate": day,
        }.items():
            pdf.docinfo[f"/{name}"] = value
        pdf.Root.PageMode = Name.UseOutlines
        pdf.Root.ViewerPreferences = Dictionary(DisplayDocTitle=True)
        entries = list(outline_items(pdf.Root.Outlines))
        for entry, heading in zip(entries, headings, strict=True):
            entry.Title = heading  # Chromium 150 writes each piece of it twice
            # Folded, the outline shows the chapters; whole, it is longer than the contents.
            if entry.get("/Count", 0) > 0:
                entry.Count = -entry.Count
        pdf.save(target, object_stream_mode=ObjectStreamMode.generate, deterministic_id=True)
        return len(pdf.pages)


def attach(site: Path, target: Path) -> int:
    """Put a link to the PDF into the footer of every page, once; return in how many it stands."""
    linked = 0
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        address = os.path.relpath(target, page.parent).replace(os.sep, "/")
        changed, found = MARK.subn(LINK.format(address=address), text)
        linked += bool(found)
        if changed != text:
            page.write_text(changed, encoding="utf-8")
    return linked


def main() -> None:
    executable = find_chromium()
    if executable is None:
        sys.exit("no Chromium found: install the package chromium, or Google Chrome")
    start = time.monotonic()
    source = WORK / "report.html"
    write_page(source)
    with chromium(executable) as browser:
        pages = finish(*printed(browser, source), TARGET)
    if not attach(SITE, TARGET):
        sys.exit("no page has the mark of the link: is it in the extra_footer of _config.yml?")
    size = TARGET.stat().st_size / 1e6
    took = time.monotonic() - start
    print(f"{TARGET}: {pages} pages, {size:.1f} MB, in {took:.0f} seconds")


if __name__ == "__main__":
    main()
