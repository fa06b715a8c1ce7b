"""Figures of the chapter "What a draw costs"."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from lab.show.looks import looks

__all__ = ["growth", "memory", "ratios"]

_MARKS = ("o", "s", "^")


def ratios(curves: pd.DataFrame, ax: Axes) -> Axes:
    """Times as fast as the hard Gumbel-Softmax over the grid, with quartiles.

    Args:
        curves: index (name, shape), columns ``ratio``, ``low`` and ``high``; shapes in order.
        ax: the axes.
    """
    names = list(dict.fromkeys(curves.index.get_level_values("name")))
    for name, look in looks(names).items():
        part = curves.loc[name]
        errors = [part["ratio"] - part["low"], part["high"] - part["ratio"]]
        ax.errorbar(
            range(len(part)),
            part["ratio"],
            yerr=errors,
            label=name,
            markersize=4,
            elinewidth=1,
            **look.line,
        )
        ax.set_xticks(range(len(part)), part.index, rotation=20)
    ax.axhline(1, color="0.5", linewidth=1)
    ax.set_yscale("log")
    ax.set_xlabel("batch × categories")
    ax.set_ylabel("times as fast as Gumbel-Softmax, hard")
    ax.figure.legend(loc="outside lower center", ncols=3, fontsize="small")
    return ax


def growth(curves: pd.DataFrame, axes: Sequence[Axes]) -> Sequence[Axes]:
    """Time of a call: as the categories grow at a fixed number of entries, and as the batch grows.

    Args:
        curves: index (panel, name, x), column ``seconds``; the last name is the limit, in grey.
        axes: one a panel.
    """
    panels = list(dict.fromkeys(curves.index.get_level_values("panel")))
    for ax, panel in zip(axes, panels, strict=True):
        part = curves.loc[panel]
        names = list(dict.fromkeys(part.index.get_level_values("name")))
        *methods, limit = names
        for name, look in looks(methods).items():
            curve = part.loc[name, "seconds"]
            ax.plot(curve.index, curve * 1e3, label=name, markersize=3.5, **look.line)
        curve = part.loc[limit, "seconds"]
        ax.plot(curve.index, curve * 1e3, label=limit, color="0.5", linestyle="dotted")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_title(panel)
    axes[0].set_ylabel("milliseconds a call")
    axes[0].set_xlabel("categories")
    for ax in axes[1:]:
        ax.set_xlabel("batch")
    handles, labels = axes[0].get_legend_handles_labels()
    axes[0].figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    return axes


def memory(table: pd.DataFrame, axes: Sequence[Axes]) -> Sequence[Axes]:
    """Peak memory in units of the logits, a row a contestant, a mark a shape.

    Args:
        table: index (dtype, name), columns are shapes.
        axes: one a type, sharing the rows.
    """
    types = list(dict.fromkeys(table.index.get_level_values("dtype")))
    for ax, dtype in zip(axes, types, strict=True):
        part = table.loc[dtype]
        for position, shape in enumerate(part.columns):
            ax.plot(
                part[shape],
                part.index,
                linestyle="none",
                marker=_MARKS[position],
                color=_color(position, len(part.columns)),
                markerfacecolor="none" if position else None,
                markersize=5 + 2 * position,
                label=shape,
            )
        ax.set_xlim(left=0)
        ax.grid(axis="y", color="0.9")
        ax.set_title(dtype)
        ax.set_xlabel("peak / size of the logits")
    axes[0].invert_yaxis()
    handles, labels = axes[-1].get_legend_handles_labels()
    place = {"loc": "outside lower center", "ncols": 3, "fontsize": "small"}
    axes[0].figure.legend(handles, labels, title="batch × categories", **place)
    return axes


def _color(position: int, count: int) -> tuple[float, float, float]:
    return sns.color_palette("colorblind", max(count, 1))[position]
