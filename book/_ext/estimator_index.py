"""Sphinx: the directive ``estimator-index``, a table a family with a row an estimator.

Names, families and sources are those of the catalogue; what an estimator needs, how often it calls
the loss and whether it is biased come from the estimator and its docstring; formulas from
:mod:`lab.show.equations`.  Everything comes from the code, so nothing can be forgotten.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

# Sphinx puts the folder of this file on the path, and not the one above.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ils import estimators
from ils.estimators import Estimator
from lab.methods.catalogue import FAMILIES, METHODS, Method
from lab.show.equations import EQUATIONS

__all__ = ["FIRST", "checked_in", "needs", "setup", "tables"]

FIRST = {method.factory: method for method in reversed(METHODS)}
"""Of the forms of each estimator the first, which stands for it."""


def needs(method: Method, estimator: Estimator) -> list[str]:
    """What an estimator takes of the loss, and of the variable."""
    docstring = getattr(estimators, method.factory).__doc__ or ""
    inside = " inside" if "inside the simplex" in docstring else ""
    return [
        *([] if estimator.biased else ["values"]),
        *([f"derivative{inside}"] if estimator.differentiates else []),
        *(["$K = 2$"] if method.binary else []),
    ]


def checked_in(method: Method) -> str:
    """The file that tests an estimator has the name of its module."""
    module = getattr(estimators, method.factory).__module__.rpartition(".")[2]
    return f"tests/estimators/test_{module}.py"


def tables() -> Iterator[str]:
    """The lines of the page."""
    for family, title in FAMILIES.items():
        found = [m for m in METHODS if m.family == family and FIRST[m.factory] is m]
        yield from (f"## {title[0].upper()}{title[1:]}", "")
        yield from ("| Method | Estimate | Needs | Calls | Biased |", "|---|---|---|---|---|")
        for method in found:
            estimator = method.make(method.default)
            name = f"[{method.name}](#ils.estimators.{method.factory})"
            biased = "yes" if estimator.biased else "no"
            cells = (
                f"{name} {{cite}}`{','.join(method.source)}`",
                EQUATIONS[method.factory],
                ", ".join(needs(method, estimator)),
                str(estimator.evaluations),
                f"[{biased}](bias-variance.ipynb#every-method)",
            )
            yield f"| {' | '.join(cells)} |"
        files = dict.fromkeys(map(checked_in, found))
        yield from ("", f"Tests: {', '.join(f'`{file}`' for file in files)}.", "")


class EstimatorIndex(SphinxDirective):
    """A section a family."""

    def run(self) -> list[nodes.Node]:
        box = nodes.Element()
        lines = StringList(list(tables()), source="estimator-index")
        self.state.nested_parse(lines, 0, box, match_titles=True)
        return box.children


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("estimator-index", EstimatorIndex)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
