"""Sphinx: the directive ``figure-index``, which lists every figure of the book to be cited.

For each figure that a notebook publishes: its number, a thumbnail, its caption, its exports, the
cell that drew it, and a BibTeX entry; below the figure itself, links to these.  Everything comes
from the notebooks, so nothing can be forgotten; ``tests/book/test_figures_page.py`` holds it to
that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

__all__ = ["Drawn", "bibtex", "drawn", "setup", "title"]

EXPORTS = ("svg", "pdf", "png", "csv")


@dataclass(frozen=True)
class Drawn:
    """A figure as its notebook has it.

    Attributes:
        notebook: the stem of the file.
        name: the anchor, and the name of the exports.
        caption: Markdown.
        alt: what is seen.
        source: of the cell that draws it.
    """

    notebook: str
    name: str
    caption: str
    alt: str
    source: str


def drawn(notebook: Path) -> Iterator[Drawn]:
    """The figures of a notebook, in their order."""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        shown = cell["metadata"].get("mystnb", {})
        if "name" in shown.get("figure", {}):
            yield Drawn(
                notebook.stem,
                shown["figure"]["name"],
                shown["figure"]["caption"],
                shown["image"]["alt"],
                "".join(cell["source"]),
            )


def title(notebook: Path) -> str:
    """The first heading of a notebook."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return re.search(r"^# (.+)$", text, re.M)[1]  # type: ignore[index]


def bibtex(figure: Drawn, *, author: str, book: str, year: str, version: str) -> str:
    """An entry to cite a figure by; the title is the first sentence of the caption."""
    plain = re.sub(r"[*`]|\{[a-z:]+\}", "", figure.caption)
    first = re.split(r"(?<=[a-z\d)$%])\. ", plain, maxsplit=1)[0].rstrip(".")
    first = re.sub(r"(?<!\\)([%&#])", r"\\\1", first)  # in LaTeX a comment, a column, a parameter
    return "\n".join(
        [
            f"@misc{{ils-{figure.name},",
            f"  title        = {{{first}}},",
            f"  author       = {{{{{author}}}}},",
            f"  year         = {{{year}}},",
            f"  howpublished = {{Figure {figure.name} of: {book}}},",
            f"  note         = {{Version {version}, figures/{figure.name}.svg, CC BY 4.0}},",
            "}",
        ]
    )


class FigureIndex(SphinxDirective):
    """A section a notebook, and in it an entry a figure."""

    def run(self) -> list[nodes.Node]:
        folder = Path(self.env.doc2path(self.env.docname)).parent
        found = []
        for docname in self._in_order(folder):
            notebook = folder / f"{docname}.ipynb"
            figures = list(drawn(notebook)) if notebook.exists() else []
            if figures:
                self.env.note_dependency(str(notebook))
                heading = nodes.title("", title(notebook))
                section = nodes.section("", heading, ids=[f"figures-{notebook.stem}"])
                for figure in figures:
                    section += self._parsed(self._entry(figure))
                found.append(section)
        return found

    def _in_order(self, folder: Path) -> list[str]:
        """Documents of the book in the order of its contents."""
        toc = (folder.parent / "_toc.yml").read_text(encoding="utf-8")
        return re.findall(r"file: book/([\w-]+)", toc)

    def _entry(self, figure: Drawn) -> str:
        name, config = figure.name, self.config
        links = exports(name)
        cite = bibtex(
            figure,
            author=config.author,
            book=config.html_title,
            year=config.copyright,
            version=version("ils"),
        )
        return f"""
**{{numref}}`{name}`** {figure.caption}

```{{raw}} html
<p class="figure-index" id="cite-{name}">
<a href="../figures/{name}.svg"><img src="../figures/{name}-small.png"
 alt="{figure.alt.replace('"', "&quot;")}"></a>
<span class="d-print-none">Address: <a href="{figure.notebook}.html#{name}"><code>{name}</code></a>.
Download: {links}</span></p>
```

````{{admonition}} Citation and code
:class: dropdown d-print-none

```bibtex
{cite}
```

```python
{figure.source}
```
````
"""

    def _parsed(self, text: str) -> list[nodes.Node]:
        box = nodes.container()
        self.state.nested_parse(StringList(text.splitlines(), source="figure-index"), 0, box)
        return box.children


def exports(name: str) -> str:
    """Links to the files of a figure, as HTML."""
    return " ".join(
        f'<a href="../figures/{name}.{kind}" download>{kind.upper()}</a>' for kind in EXPORTS
    )


def _linked(app: Sphinx, doctree: nodes.document) -> None:
    """Below each figure of a notebook: its files, and where it is cited."""
    for figure in doctree.findall(nodes.figure):
        for name in figure["ids"]:
            if name.startswith("fig-"):
                text = (
                    f'<p class="figure-links d-print-none">{exports(name)} '
                    f'<a href="figures.html#cite-{name}">cite</a></p>'
                )
                figure += nodes.raw("", text, format="html")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive, and the links below figures."""
    app.add_directive("figure-index", FigureIndex)
    app.connect("doctree-read", _linked)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
