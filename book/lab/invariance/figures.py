"""How the length of an update depends on a factor of the loss."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

__all__ = ["length_by_factor"]

_LOOK = ["-", "--", ":", "-.", (0, (5, 1)), (0, (1, 1))]
_MARKERS = ["o", "s", "^", "v", "D", "X"]


def length_by_factor(table: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the length for each unit of the factor, a line a rule.

    Args:
        table: from :func:`lab.invariance.experiment.by_factor`.
        ax: the axes.
    """
    colors = sns.color_palette("colorblind")
    for place, name in enumerate(table):
        ax.plot(
            table.index,
            table[name],
            linestyle=_LOOK[place],
            marker=_MARKERS[place],
            markevery=(place % 4, 4),
            color=colors[place],
            label=name,
        )
    ax.set_xscale("log")
    ax.set_xlabel("factor of the loss")
    ax.set_yscale("log")
    ax.set_ylabel("length of the update / factor")
    ax.legend(fontsize="small")
    return ax
