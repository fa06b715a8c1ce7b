"""Show a figure in a notebook, and beside it the data that it draws.

A notebook's output then holds all that the book needs: the site shows the SVG, and
``tools/export_figures.py`` makes the other files of a figure from the two.  The SVG carries a
digest of its data, so that a mismatch of drawing and data is detected.
"""

from __future__ import annotations

import hashlib
import io

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import display
from matplotlib.figure import Figure

from lab.show.legible import told_by_colour_alone

__all__ = ["digest", "publish"]


def digest(csv: str) -> str:
    """The digest by which a drawing identifies its data."""
    return "sha256:" + hashlib.sha256(csv.encode()).hexdigest()


def publish(figure: Figure, name: str, data: pd.DataFrame) -> None:
    """Show a figure as SVG, and its data as CSV with seven digits.

    The SVG has no date, no random identifiers and a fixed box, so that two runs give the same.

    Args:
        figure: closed afterwards; refused if its legend or a colour map tells by colour alone.
        name: the anchor of the figure, ``fig-...``.
        data: what is drawn.
    """
    if not name.startswith("fig-"):
        raise ValueError(f"name: expected 'fig-...', got {name!r}")
    if problems := told_by_colour_alone(figure):
        raise ValueError(f"{name}: " + "; ".join(problems))
    csv = data.to_csv(float_format="%.7g", lineterminator="\n")
    about = {"Date": None, "Creator": None, "Identifier": digest(csv)}
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=about)
    plt.close(figure)
    bundle = {"image/svg+xml": buffer.getvalue(), "text/csv": csv, "text/plain": f"<figure {name}>"}
    display(bundle, raw=True)
