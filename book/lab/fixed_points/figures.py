"""Figures of the chapter "Fixed points"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from lab.show.looks import looks

__all__ = ["flows", "ladder"]


def flows(curves: pd.DataFrame, rests: Mapping[str, float], ax: Axes) -> Axes:
    """Simulated curves with their bands, and where each exact flow ends.

    Args:
        curves: index (method, step), columns ``mean``, ``low``, ``high``.
        rests: the mean divergence at the limit of each method, drawn at the right edge.
        ax: the axes.
    """
    names = list(dict.fromkeys(curves.index.get_level_values(0)))
    for place, (name, look) in enumerate(looks(names).items()):
        curve, marks = curves.loc[name], {"markevery": (place % 5, 5), "markersize": 4}
        ax.plot(curve.index, curve["mean"], label=name, **look.line, **marks)
        ax.fill_between(
            curve.index, curve["low"], curve["high"], color=look.colour, alpha=0.2, lw=0
        )
        ax.plot(1.5 * curve.index[-1], rests[name], linestyle="none", markersize=6, **look.points)
    ax.set_xscale("symlog", linthresh=10)
    ax.set_yscale("log")
    ax.set_xlabel("step")
    ax.set_ylabel("divergence, nats / K")
    ax.set_xticks([0, 10, 100, 1000, 10_000], ["0", "10", "100", "1,000", "10,000"])
    ax.minorticks_off()
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


def ladder(table: pd.DataFrame, axes: Sequence[Axes]) -> Sequence[Axes]:
    """Excess of the bound and the divergence, for each method and number of draws.

    Args:
        table: columns ``draws``, ``method``, ``measure``, ``mean``, ``low``, ``high``.
        axes: two, sharing their vertical axis.
    """
    names = list(dict.fromkeys(table["method"]))
    draws = sorted(set(table["draws"]))
    colors = sns.color_palette("colorblind", len(draws))
    for ax, (measure, part) in zip(axes, table.groupby("measure", sort=False), strict=True):
        for place, (n, color, marker) in enumerate(zip(draws, colors, "os", strict=True)):
            rows = part[part["draws"] == n].set_index("method").loc[names]
            height = [k + 0.2 * (place - 0.5) for k in range(len(names))]
            ax.hlines(height, rows["low"], rows["high"], color=color, linewidth=1.2)
            ax.scatter(rows["mean"], height, s=18, color=color, marker=marker, label=f"n = {n}")
        ax.set_yticks(range(len(names)), names)
        ax.set_xlabel(str(measure))
        ax.grid(axis="x", color="0.9")
    axes[0].invert_yaxis()
    axes[0].legend(loc="best")
    return axes
