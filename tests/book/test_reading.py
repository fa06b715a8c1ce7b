"""Aids to the reader: ways between statements, tests and code; boxes; search; symbols."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import quote

import pytest
from browsers import bring_into_view, in_both_browsers
from bs4 import BeautifulSoup, Tag
from docutils import nodes
from playwright.sync_api import Browser, Page

from _ext.previews import previews
from _ext.reading_time import LOOKED_UP, WORDS_A_DISPLAY, WORDS_A_FORMULA, words
from _ext.search_texts import reduced
from _ext.statements import TEST, anchor, chapters, check, other_tests, prose, refuted, statements
from _ext.symbols import Atom, atoms, known, table, used
from tools.browser import ROOT, SITE, View, opened, toc_documents, window

DOCUMENTS = toc_documents()
STATEMENTS = SITE / "book" / "statements.html"

each_document = pytest.mark.parametrize("document", DOCUMENTS)
on_the_site = pytest.mark.usefixtures("built_site")


def source(document: str) -> Path:
    return next(f for s in ("md", "ipynb") if (f := ROOT / f"{document}.{s}").exists())


@cache
def article(page: Path) -> Tag:
    html = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    found = html.select_one("article.bd-article")
    assert found is not None
    return found


def hrefs(tag: Tag) -> list[str]:
    return [str(link["href"]) for link in tag.find_all("a", href=True)]


# --- statements, tests and code ----------------------------------------------------------------


EXAMPLE = """
```{prf:lemma} A $\\theta$
:label: lem-a

Body.
```

```{prf:proof}
Clear.
```

Test: `tests/test_a.py::test_one`, `tests/test_a.py::test_two`

## Next

`tests/test_a.py::test_three`
"""


def test_statements_have_a_kind_a_proof_and_tests_up_to_the_next_heading() -> None:
    (found,) = statements(EXAMPLE)
    assert (found.label, found.title) == ("lem-a", "A $\\theta$")
    assert (found.kind, found.proof) == ("lemma", "")
    assert found.tests == (("tests/test_a.py", "test_one"), ("tests/test_a.py", "test_two"))
    assert other_tests(EXAMPLE) == [("tests/test_a.py", "test_three")]
    (elsewhere,) = statements(
        EXAMPLE.replace("```{prf:proof}", "The [proof](b.md#c).\n\n```python")
    )
    assert elsewhere.proof == "b.md#c"
    (nowhere,) = statements(EXAMPLE.replace("prf:proof", "note").replace("lemma", "conjecture"))
    assert (nowhere.kind, nowhere.proof) == ("conjecture", None)


CLAIMS = """
(claim-a)=
> It always
> holds.

**Does not hold**, see {prf:ref}`prop-b`.

Refuted by: {prf:ref}`prop-a` and {doc}`c`,
`tests/test_a.py::test_one`

(claim-b)=
> This is left open.

> Another claim.

Refuted by: `tests/test_a.py::test_two`
"""


def test_a_refuted_claim_names_what_refutes_it() -> None:
    (found,) = refuted(CLAIMS)
    assert (found.label, found.quotation) == ("claim-a", "It always holds.")
    assert found.by == "{prf:ref}`prop-a` and {doc}`c`"
    assert found.tests == (("tests/test_a.py", "test_one"),)
    assert other_tests(CLAIMS) == [("tests/test_a.py", "test_two")]


def test_what_is_proved_conjectured_and_refuted() -> None:
    """A proof, evidence, or what refutes: each is there, and not in name only."""
    book = list(chapters(ROOT))
    known = {one.label for chapter in book for one in chapter.statements}
    for one in (one for chapter in book for one in chapter.statements):
        assert one.tests, one.label
        assert (one.proof is None) == (one.kind == "conjecture"), one.label
        if one.proof:
            file, _, place = one.proof.partition("#")
            sections = re.split(r"^## ", prose(ROOT / "book" / file), flags=re.M)
            (proof,) = (s for s in sections if nodes.make_id(s.split("\n")[0]) == place)
            assert f"*Of {{prf:ref}}`{one.label}`.*" in proof
    claims = [claim for chapter in book for claim in chapter.refuted]
    assert len({claim.label for claim in claims}) == len(claims) > 5
    for claim in claims:
        labels = re.findall(r"\{prf:ref\}`([^`]+)`", claim.by)
        notebooks = re.findall(r"\{doc\}`([^`]+)`", claim.by)
        assert set(labels) <= known, claim.label
        assert all((ROOT / "book" / f"{name}.ipynb").exists() for name in notebooks), claim.label
        assert all(check(ROOT / file, name).says for file, name in claim.tests), claim.label
        assert labels or notebooks or claim.tests, claim.label


@each_document
def test_every_quotation_has_a_verdict(document: str) -> None:
    """Refuted is what does not hold, or only under a condition that the quotation does not name."""
    text = prose(source(document))
    verdicts = re.findall(r"(\(claim-[\w-]+\)=\n)?((?:^>.*\n)+)\n\*\*([^*]+)\*\*", text, re.M)
    assert len(verdicts) == len(re.findall(r"(?:^>.*\n)+", text, re.M))
    assert len(verdicts) > 10 or document != "book/claims"
    for label, quotation, verdict in verdicts:
        false = verdict.startswith(("Does not hold", "Holds only under a condition"))
        assert false or re.match(r"Holds\b|The inequality holds", verdict), quotation
        assert bool(label) == false, quotation
    assert len(refuted(text)) == sum(bool(label) for label, *_ in verdicts)


def test_what_a_test_says_and_calls(tmp_path: Path) -> None:
    file = tmp_path / "test_a.py"
    file.write_text(
        "import ils\n"
        "from ils.squeeze import kl as divergence\n\n"
        "def helper():\n    return divergence, helper()\n\n"
        "class TestA:\n"
        "    @mark\n"
        "    def test_one(self):\n"
        '        """It holds\n        always.\n\n        More.\n        """\n'
        "        helper(ils.sample(torch.ones(2)))\n",
        encoding="utf-8",
    )
    found = check(file, "test_one")
    assert found.says == "It holds always."
    assert found.source.startswith("@mark\ndef test_one(self):")
    assert sorted(found.calls) == ["ils.sample", "ils.squeeze.kl"]


@on_the_site
@each_document
def test_every_statement_is_listed_with_its_tests(document: str) -> None:
    index = article(STATEMENTS)
    page = article(SITE / f"{document}.html")
    for claim in refuted(prose(source(document))):
        (link,) = index.select(
            f'#refuted .statement strong a[href="{Path(document).name}.html#{claim.label}"]'
        )
        assert page.find(id=claim.label)
        for file, name in claim.tests:
            assert index.find(id=anchor(file, name))
    for statement in statements(prose(source(document))):
        part = "conjectured" if statement.kind == "conjecture" else "proved"
        (link,) = index.select(
            f'.statement strong a[href="{Path(document).name}.html#{statement.label}"]'
        )
        assert link.find_parent("section", id=part)
        if statement.proof:
            assert statement.proof.replace(".md", ".html") in hrefs(link.find_parent("p"))
        assert re.fullmatch(
            r"(Proposition|Lemma|Corollary|Theorem|Conjecture) (?:[A-Z]\.)?[\d.]+", link.text
        )
        for file, name in statement.tests:
            entry = index.find(id=anchor(file, name))
            assert isinstance(entry, Tag)
            assert f"{file}::{name}" in entry.text
            block = entry.select_one("details.d-print-none pre")
            assert block is not None
            assert block.text.rstrip() == check(ROOT / file, name).source.rstrip(), "run make book"
            (function,) = ast.parse(block.text).body
            assert isinstance(function, ast.FunctionDef)
            assert function.name == name
            said = (ast.get_docstring(function) or "").split()
            assert said, f"{file}::{name} does not say what it tests"


@on_the_site
@in_both_browsers
def test_the_source_that_an_address_leads_to_is_open(browser: Browser) -> None:
    """On arrival, and after a link within the page; all others are folded."""
    opens = (
        "[...document.querySelectorAll('.statement-test details[open]')].map(d => d.parentNode.id)"
    )
    first, second = (
        anchor("tests/test_target.py", name)
        for name in ("test_projected_target", "test_centred_gradient")
    )
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto(f"{STATEMENTS.as_uri()}#{first}")
    assert page.evaluate(opens) == [first]
    page.evaluate("id => location.hash = id", second)
    page.wait_for_function(f"{opens}.length === 2")
    assert set(page.evaluate(opens)) == {first, second}
    context.close()


@on_the_site
@each_document
def test_names_of_tests_lead_to_the_list(document: str) -> None:
    """Each name of a test in a chapter, and none is left without its link."""
    page = article(SITE / f"{document}.html")
    for code in page.select("code.literal"):
        found = TEST.fullmatch(f"`{code.text}`")
        if found and document != "book/statements":
            assert code.parent is not None
            assert code.parent.name == "a", f"{code.text} is no link"
            assert code.parent["href"] == f"statements.html#{anchor(found[1], found[2])}"


@on_the_site
def test_names_of_the_package_lead_to_the_reference() -> None:
    def target(document: str, name: str) -> set[str]:
        page = article(SITE / "book" / f"{document}.html")
        codes = [code for code in page.select("code.literal") if code.text == name]
        links = [code.parent for code in codes if code.parent and code.parent.name == "a"]
        assert links
        return {str(link["href"]) for link in links}

    assert target("construction", "ils.sample") == {"reference.html#ils.sample"}
    assert target("notation", "ils.simplex.pullback") == {"reference.html#ils.simplex.pullback"}
    assert target("statements", "ils.squeeze.kl") == {"reference.html#ils.squeeze.kl"}
    links = [a for d in DOCUMENTS for a in article(SITE / f"{d}.html").select("a.to-code")]
    assert len(links) > 300
    assert not [a for a in links if a.find_parent(["h1", "h2", "h3", "h4", "pre"])]
    # And back, to the statements.
    entry = article(SITE / "book" / "reference.html").find(id="ils.squeeze.jensen_bound")
    assert isinstance(entry, Tag)
    assert entry.parent is not None
    assert "squeeze-proofs.html#prop-ladder" in hrefs(entry.parent)


# --- the head of a chapter ---------------------------------------------------------------------


@on_the_site
@each_document
def test_chapter_begins_with_what_can_be_read_in_a_minute(document: str) -> None:
    page = article(SITE / f"{document}.html")
    box = page.select_one("h1 + div.tip.admonition, h1 + p.reading-time + div.tip.admonition")
    assert box is not None, "no box below the title"
    heading = box.select_one(".admonition-title")
    assert heading is not None
    assert heading.text in {"In one minute", "Verdict"}
    length = len(box.text.split())
    assert 10 < length < 200, f"{length} words are not read in a minute"


@on_the_site
@each_document
def test_reading_time(document: str) -> None:
    page = article(SITE / f"{document}.html")
    lines = page.select("h1 + p.reading-time")
    if document.startswith(LOOKED_UP):
        assert not lines
        return
    (line,) = lines
    found = re.fullmatch(r"(1 minute|\d+ minutes) to read(, without code and outputs)?", line.text)
    assert found
    assert bool(found[2]) == bool(page.select(".cell_input, .cell_output"))
    time = int(found[1].split()[0])
    # All that is on the page, code and outputs among it, takes longer; no page is a book.
    assert 1 <= time <= max(1, len(page.text.split()) / 200 + 1)
    assert time <= 20, "split the chapter"


def test_words_are_those_of_prose() -> None:
    cell = nodes.container("", classes=["cell_output"])
    cell += [
        nodes.paragraph("", "an output"),
        nodes.figure("", nodes.caption("", "Three words here")),
    ]
    section = nodes.section(
        "",
        nodes.paragraph("", "Four words and ", nodes.math("", "x + y"), nodes.Text(" more")),
        nodes.math_block("", "x = y"),
        nodes.literal_block("", "code = 1"),
        nodes.comment("", "a comment"),
        cell,
    )
    assert words(section) == 4 + WORDS_A_FORMULA + WORDS_A_DISPLAY + 3


# --- symbols -------------------------------------------------------------------------------------

NOTATION = table((ROOT / "book" / "notation.md").read_text(encoding="utf-8"))


def named(tex: str, chapter: str = "construction") -> list[str]:
    """The symbols of a formula, as the table has them."""
    return [NOTATION[n].tex[0] for n in used(tex, known(NOTATION, chapter))]


@pytest.mark.parametrize(
    ("tex", "expected"),
    [
        (r"\pi - \pi_D", [r"\pi", r"\pi_D"]),
        (r"\pi_{D,k}", [r"\pi_D"]),
        (r"\pi_{D}^\top g", ["g", r"\pi_D"]),
        (r"\Delta_k = g_k - g_i", ["g", r"\Delta"]),
        (r"J_h(z)^\top", ["z", "h", "J_h(z)"]),
        (r"\hat p_i", ["p"]),
        (r"\bar h + h' + z'", []),
        (r"g_i - \bar g", ["g", r"\bar g"]),
        (r"\mathrm{KL}(p) + \text{logits } g \operatorname{n}", ["g", "p"]),
        (r"\mathbb E L_I", ["L_I"]),
        (r"L_n \le L_{n+1}", ["n", "L_n"]),
        (r"\sum_{k \in K} x^{T}", ["K", "T"]),
        (r"\alphabet \piper", []),
        (r"\nabla_\theta", [r"\theta"]),
    ],
)
def test_symbols_of_a_formula(tex: str, expected: list[str]) -> None:
    assert named(tex) == expected


def test_a_letter_can_mean_something_else_in_a_chapter() -> None:
    numbers = [known(NOTATION, name)[Atom("", r"\tau", "")] for name in ("toy", "beyond")]
    toy, beyond = (NOTATION[number].meaning for number in numbers)
    assert "temperature" in toy
    assert "diffusion" in beyond
    names = {chapter for symbol in NOTATION for chapter in symbol.chapters}
    assert names <= {Path(document).name for document in DOCUMENTS}


def test_tables_of_symbols_can_be_read() -> None:
    assert len(NOTATION) > 40
    for symbol in NOTATION:
        assert symbol.meaning
        assert "{" not in re.sub(r"\$[^$]*\$", "", symbol.meaning), "a role is no plain text"
        assert symbol.tex
        assert all(next(atoms(tex), None) for tex in symbol.tex)


@on_the_site
@each_document
def test_symbols_of_the_page_are_listed(document: str) -> None:
    """Those that the formulas have, and no others; what a row says of a page is found there."""
    page = article(SITE / f"{document}.html")
    marked = {name for math in page.select(".math") for name in math.get("class") or ()}
    wanted = {name for name in marked if name.startswith("symbol-")}
    listed = [name for term in page.select(".symbols dt") for name in term.get("class") or ()]
    assert sorted(listed) == sorted(wanted)
    assert len(page.select(".tip + details.symbols")) == bool(wanted)
    own = [n for n, symbol in enumerate(NOTATION) if Path(document).name in symbol.chapters]
    assert {f"symbol-{n}" for n in own} <= wanted


@pytest.fixture(params=[View(1280, "light"), View(390, "dark")], ids=str)
def construction(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    with (
        window(browser, request.param) as context,
        opened(context, SITE / "book" / "construction.html") as (page, report),
    ):
        yield page
        assert not report.errors


@on_the_site
@in_both_browsers
def test_formulas_tell_their_symbols(construction: Page) -> None:
    page, tip = construction, construction.locator("#symbol-tip")
    formula = page.locator(".tip .math").first
    bring_into_view(formula)
    height = page.evaluate("document.documentElement.scrollHeight")
    page.clock.install()  # the page waits a little before it shows and hides
    formula.hover()
    page.clock.run_for(1000)
    tip.wait_for()
    assert tip.get_attribute("role") == "tooltip"
    assert formula.get_attribute("aria-describedby") == "symbol-tip"
    assert "distribution that is drawn from" in tip.inner_text()
    assert "intermediate target" in tip.inner_text()
    assert tip.locator("dt svg").count() == 2
    assert tip.locator("a, [tabindex]").count() == 0
    tip.hover()
    page.clock.run_for(1000)
    assert tip.is_visible(), "it stays while it is pointed at"
    page.locator("article h1").hover()
    page.clock.run_for(1000)
    assert tip.count() == 0
    formula.hover()
    page.clock.run_for(1000)
    tip.wait_for()
    page.keyboard.press("Escape")
    assert tip.count() == 0
    assert formula.get_attribute("aria-describedby") is None
    formula.click()  # as a tap does
    assert tip.is_visible()
    page.locator("article h1").click()
    assert tip.count() == 0
    assert page.evaluate("document.documentElement.scrollHeight") == height


@on_the_site
def test_tooltips_stay_in_the_window(construction: Page) -> None:
    page = construction
    size = page.viewport_size
    assert size is not None
    formulas = page.locator('.math[class*="symbol-"]')
    for number in range(0, formulas.count(), 9):
        bring_into_view(formulas.nth(number), "end")  # scrolling hides a tooltip
        formulas.nth(number).dispatch_event("click")
        box = page.locator("#symbol-tip").bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["y"] >= 0
        assert box["x"] + box["width"] <= size["width"]
        assert box["y"] + box["height"] <= size["height"]
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


@on_the_site
def test_the_list_of_symbols_is_the_way_by_keyboard(construction: Page) -> None:
    page = construction
    assert page.locator("mjx-container[tabindex='0']").count() < 10, "too many tab stops"
    summary = page.locator("details.symbols summary")
    summary.focus()
    page.keyboard.press("Enter")
    page.locator("details.symbols dd").first.wait_for()
    assert page.locator("details.symbols dt svg").first.bounding_box()


IN_WINDOW = """formula => {
  const {top, bottom} = formula.getBoundingClientRect();
  return bottom > 0 && top < innerHeight; }"""
BESIDE = f"""formula => {{
  const tip = document.querySelector('#symbol-tip')?.getBoundingClientRect();
  const {{top, bottom}} = formula.getBoundingClientRect();
  return tip?.height && ({IN_WINDOW})(formula) && (tip.top > top || tip.bottom < bottom); }}"""


@on_the_site
@in_both_browsers
def test_formulas_that_scroll_are_reached_by_keyboard(browser: Browser) -> None:
    with (
        window(browser, View(390, "light")) as context,
        opened(context, SITE / "book" / "toy.html") as (page, _),
    ):
        wide = page.locator('.math[class*="symbol-"] > mjx-container[tabindex="0"]')
        wide.first.wait_for()
        scrolls = "all => all.every(f => f.scrollWidth > f.clientWidth)"
        assert wide.evaluate_all(scrolls)
        page.keyboard.press("Tab")  # from now on the browser shows what has the focus
        for start in ("0", "document.body.scrollHeight"):
            page.evaluate(f"scrollTo({{top: {start}, behavior: 'instant'}})")
            assert not wide.last.evaluate(IN_WINDOW)
            wide.last.focus()  # which scrolls the page
            page.wait_for_function(BESIDE, arg=wide.last.element_handle())
            page.keyboard.press("Tab")
            page.locator(".math[aria-describedby]").wait_for(state="detached")


def test_previews_can_stand_a_second_time_on_a_page() -> None:
    page = r"""<article><section id="s"><span id="l"></span><h2>Head<a class="headerlink">#</a></h2>
    <p>See <a href="x">it</a>.</p><p>More.</p></section>
    <div class="proof" id="prop-a"><p>Title</p>
    <section id="c"><p class="symbol-3 math">\\(x\\label{e}\\)</p></section></div>
    <figure id="fig-a"><img src="../a.svg" alt="A"><figcaption><p><span>Figure 1</span> <span>One.
    Two. Three.</span></p></figcaption></figure></article>""".replace("\\\\", "\\")
    found = dict(previews(page))
    assert found["s"] == found["l"] == "<p>Head</p><p>See it.</p>"
    assert found["prop-a"] == r'<p>Title</p><div><p class="math">\(x\)</p></div>'
    assert "a.svg" in found["fig-a"]
    assert "Three" not in found["fig-a"]
    assert not [html for html in found.values() if "id=" in html or "<a" in html]


@on_the_site
@in_both_browsers
@pytest.mark.parametrize("hover", [True, False])
def test_links_show_what_they_lead_to(construction: Page, hover: bool) -> None:
    page, tip = construction, construction.locator("#symbol-tip")
    keys = set(page.evaluate("Object.keys(PREVIEWS)"))
    links = page.locator("article a.internal[href*='#']:not(.to-code, .headerlink)")
    root = page.evaluate("new URL(document.documentElement.dataset.content_root, location).href")
    shown = [
        n for n in range(links.count()) if links.nth(n).evaluate("a => a.href")[len(root) :] in keys
    ]
    assert shown
    link = links.nth(shown[0])
    bring_into_view(link)
    if hover:
        link.hover()
    else:
        page.keyboard.press("Tab")  # from now on the browser shows what has the focus
        link.focus()
    tip.wait_for()
    assert tip.get_attribute("role") == "tooltip"
    assert link.get_attribute("aria-describedby") == "symbol-tip"
    assert tip.inner_text().strip()
    assert tip.locator("a, [tabindex], [id]:not(mjx-container *)").count() == 0
    page.keyboard.press("Escape")
    assert tip.count() == 0


# --- code ----------------------------------------------------------------------------------------


@on_the_site
@in_both_browsers
def test_code_of_figures_waits_behind_one_switch(browser: Browser) -> None:
    with (
        window(browser, View(390, "dark")) as context,
        opened(context, SITE / "book" / "bias-variance.html") as (page, report),
    ):
        plumbing = page.locator("details.hide.above-input")
        taught = page.locator(".cell:not(.tag_hide-input) .cell_input")
        switch = page.locator("button.code-switch")
        seen = "all => all.filter(one => one.checkVisibility()).length"
        assert plumbing.count() > 3
        for shown in (False, True, False):
            assert plumbing.evaluate_all(seen) == shown * plumbing.count()
            assert plumbing.locator("pre").evaluate_all(seen) == shown * plumbing.count()
            assert taught.evaluate_all(seen) == taught.count() > 1
            switch.focus()
            page.keyboard.press("Enter")
        assert not report.errors


# --- search --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def search(browser: Browser) -> Iterator[Page]:
    with (
        window(browser, View(1280, "light")) as context,
        opened(context, SITE / "search.html") as (page, report),
    ):
        yield page
        assert not report.errors
        assert not report.requests


def ask(page: Page, query: str) -> None:
    page.goto(f"{(SITE / 'search.html').as_uri()}?q={quote(query)}")
    page.wait_for_function(
        "document.querySelector('#search-results .search-summary')?.textContent.includes('found')"
    )


@on_the_site
@in_both_browsers
@pytest.mark.parametrize(
    ("query", "chapters"),
    [
        ("ReinMax", ["estimators", "relatives", "fixed-points"]),
        ("pi_D", ["method", "notation"]),
        ("intermediate target", ["construction", "reference"]),
        ("Gumbel-Softmax", ["operator", "reference-estimators", "toy"]),
        ("birth-death", ["beyond"]),
        ("natural gradient", ["construction"]),
        ("jensen_bound", ["notation", "reference"]),
        ("which estimator should I use", ["estimators", "operator", "benchmarks-evidence"]),
    ],
)
def test_search_finds(search: Page, query: str, chapters: list[str]) -> None:
    ask(search, query)
    results = "links => links.map(link => link.getAttribute('href'))"
    found = search.locator("#search-results li a").evaluate_all(results)
    pages = list(dict.fromkeys(address.split("#")[0].split("?")[0] for address in found))
    assert {f"book/{name}.html" for name in chapters} <= set(pages[:8]), pages


@on_the_site
@in_both_browsers
def test_results_have_excerpts(search: Page) -> None:
    """From disk too, and of the section that was found."""
    ask(search, "intermediate target")
    results = search.locator("#search-results li")
    excerpts = search.locator("#search-results li p.context").all_inner_texts()
    assert len(excerpts) > 0.5 * results.count() > 2
    assert any("intermediate target" in excerpt for excerpt in excerpts)


def test_the_words_of_a_page_for_the_search() -> None:
    page = (
        '<head><title>T</title></head><article class="bd-article"><section id="a"><h1>One'
        '<a class="headerlink" href="#a">#</a></h1><script>x < 1</script>'
        '<p class="reading-time">1 minute</p><details><summary>More</summary><p>more</p></details>'
        '<pre>code</pre><table border="1" class="dataframe"><td>1</td></table>'
        '<p>two&amp; (<a href="b.html">three</a>, <span class="symbol-1 math">\\(k\\)</span>, '
        '<span class="math">\\(\\pi\\)</span>)</p></section></article>'
    )
    assert reduced(page) == '<section id="a"> One two&amp; (three, k, …) </section>'
