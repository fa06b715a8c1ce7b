"""How the length of an update depends on a factor of the loss."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from lab.show.looks import looks

__all__ = ["length_by_factor"]


def length_by_factor(table: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the length for each unit of the factor, a line a rule.

    Args:
        table: from :func:`lab.invariance.experiment.by_factor`.
        ax: the axes.
    """
    for place, (name, look) in enumerate(looks(table).items()):
        marks = {"markevery": (place % 4, 4)}
        ax.plot(table.index, table[name], label=name, **look.line, **marks)
    ax.set_xscale("log")
    ax.set_xlabel("factor of the loss")
    ax.set_yscale("log")
    ax.set_ylabel("length of the update / factor")
    ax.legend(fontsize="small")
    return ax
