"""Show a figure in a notebook, and save it where the environment asks for it.

The SVG that is shown is the same, byte for byte, on every run: no date, no random identifiers, a
fixed box.  With ``ILS_FIGURES`` naming a folder, ``name.svg``, ``.pdf``, ``.png``, a thumbnail
``name-small.png`` and the data ``.csv`` are written there; ``make figures`` does this for the site.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import display
from matplotlib.figure import Figure

from ils.lab.legible import told_by_colour_alone

__all__ = ["publish"]

_NO_DATE = {"Date": None, "Creator": None}


def publish(figure: Figure, name: str, data: pd.DataFrame) -> None:
    """Show a figure as SVG; save it with its data if ``ILS_FIGURES`` is set.

    Args:
        figure: closed afterwards; refused if its legend or a colour map tells by colour alone.
        name: the anchor of the figure, ``fig-...``.
        data: what is drawn.
    """
    if not name.startswith("fig-"):
        raise ValueError(f"name: expected 'fig-...', got {name!r}")
    if problems := told_by_colour_alone(figure):
        raise ValueError(f"{name}: " + "; ".join(problems))
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=_NO_DATE)
    if folder := os.environ.get("ILS_FIGURES"):
        stem = Path(folder) / name
        stem.parent.mkdir(parents=True, exist_ok=True)
        stem.with_suffix(".svg").write_text(buffer.getvalue(), encoding="utf-8")
        figure.savefig(stem.with_suffix(".pdf"), metadata={"CreationDate": None})
        figure.savefig(stem.with_suffix(".png"), dpi=200)
        figure.savefig(stem.with_name(f"{name}-small.png"), dpi=45)
        data.to_csv(stem.with_suffix(".csv"), float_format="%.7g")
    plt.close(figure)
    display({"image/svg+xml": buffer.getvalue(), "text/plain": f"<figure {name}>"}, raw=True)
