"""Figures of the chapter "Fixed points"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from lab.show.looks import looks

__all__ = ["flows", "ladder", "repaired"]


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


def repaired(
    rests: pd.DataFrame, unrepaired: pd.Series, ends: pd.DataFrame, axes: Sequence[Axes]
) -> Sequence[Axes]:
    """The repaired toy: where exact flows end, and what each method reaches with draws.

    Args:
        rests: the mean divergence at the rest points, index ``n``, a column a method.
        unrepaired: that at the minimiser with the note's guard, index ``n``.
        ends: columns ``draws``, ``method``, ``mean``, ``low``, ``high``.
        axes: two.
    """
    for name, look in looks(list(rests)).items():
        axes[0].plot(rests.index, rests[name], label=name, markersize=4, **look.line)
    label = "exact gradient,\nthe note's guard"
    axes[0].plot(unrepaired.index, unrepaired, color="0.6", lw=1, label=label)
    axes[0].set_xscale("log")
    axes[0].set_xticks(rests.index, [str(n) for n in rests.index])
    axes[0].minorticks_off()
    axes[0].set_xlabel("number of draws, n")
    axes[0].set_ylabel("divergence where the exact flow ends")
    axes[0].legend(loc="lower left")
    names = list(dict.fromkeys(ends["method"]))
    groups = list(ends.groupby("draws"))
    colors = sns.color_palette("colorblind", len(groups))
    for place, ((n, part), color, marker) in enumerate(zip(groups, colors, "os", strict=True)):
        rows = part.set_index("method").loc[names]
        height = [k + 0.2 * (place - 0.5) for k in range(len(names))]
        axes[1].hlines(height, rows["low"], rows["high"], color=color, linewidth=1.2)
        axes[1].scatter(rows["mean"], height, s=18, color=color, marker=marker, label=f"n = {n}")
    axes[1].set_yticks(range(len(names)), names)
    axes[1].yaxis.tick_right()
    axes[1].invert_yaxis()
    axes[1].set_xlabel("divergence with draws, nats / K")
    axes[1].grid(axis="x", color="0.9")
    axes[1].legend(loc="best")
    axes[0].set_yscale("log")
    axes[0].set_ylim(bottom=float(rests.min(axis=None)) / 1000)  # room for the legend
    axes[1].set_xscale("log")
    return axes
