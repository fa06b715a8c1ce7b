"""The map of related methods: the point stepped from against the kind of step."""

from __future__ import annotations

from textwrap import fill

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes

from lab.relatives.experiment import POINTS, RELATIVES, STEPS

__all__ = ["family_map"]


def family_map(ax: Axes) -> Axes:
    """Place every relative in a grid; ours filled, limits of small steps in italics.

    Args:
        ax: the axes, about twice as wide as high.
    """
    colors = sns.color_palette("colorblind")
    for row, step in enumerate(STEPS):
        for column, point in enumerate(POINTS):
            found = [one for one in RELATIVES if (one.step, one.point) == (step, point)]
            names = [f"{one.name} ({one.year})" if one.year < 2026 else one.name for one in found]
            names = [fill(name, 24) for name in names]
            heights = np.array([0.27 + 0.16 * name.count("\n") for name in names])
            places = row - heights.sum() / 2 + heights.cumsum() - heights / 2
            for one, name, place in zip(found, names, places, strict=True):
                ax.text(
                    column,
                    place,
                    name,
                    ha="center",
                    va="center",
                    fontsize="small",
                    style="italic" if one.limit else "normal",
                    color="white" if one.ours else "black",
                    bbox={
                        "boxstyle": "round,pad=0.25",
                        "facecolor": colors[0] if one.ours else "0.94",
                        "edgecolor": "none",
                    },
                )
    ax.set_xlim(-0.5, len(POINTS) - 0.5)
    ax.set_ylim(len(STEPS) - 0.4, -0.6)
    ax.set_xticks(range(len(POINTS)), [f"from the {point}" for point in POINTS])
    ax.set_yticks(range(len(STEPS)), [text.replace(", ", ",\n") for text in STEPS.values()])
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    for edge in range(1, len(STEPS)):
        ax.axhline(edge - 0.5, color="0.85", linewidth=0.8, zorder=0)
    for edge in range(1, len(POINTS)):
        ax.axvline(edge - 0.5, color="0.85", linewidth=0.8, zorder=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax
