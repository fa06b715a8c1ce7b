"""Figures of the chapter "Bias and variance"."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from lab.bias_variance.plane import defaults, front
from lab.show.looks import FAMILY_LOOKS, looks

__all__ = ["budgets", "by_scale", "plane"]

_HALO = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5}
_NAME: dict[str, Any] = {"fontsize": 7.5, "va": "center", "bbox": _HALO}
_COLORS = {family: look.colour for family, look in FAMILY_LOOKS.items()}


def plane(found: pd.DataFrame, ax: Axes) -> Axes:
    """The bias-variance plane: every setting faint, defaults marked and named, the front a line.

    Args:
        found: from :func:`lab.bias_variance.plane.points`.
        ax: the axes.
    """
    ax.set_xscale("symlog", linthresh=0.1, linscale=0.6)
    ax.set_yscale("symlog", linthresh=0.1, linscale=0.35)
    ax.set_xlim(-0.025, 22)
    ax.set_ylim(-0.02, 60)
    edge = front(found)
    ax.plot(edge["bias"], edge["noise"], color="0.75", linewidth=5, zorder=0)
    shown = defaults(found)
    for family, part in shown.groupby("family", sort=False):
        color, marker = _COLORS[family], FAMILY_LOOKS[family].mark
        every = found[found["family"] == family]
        ax.scatter(every["bias"], every["noise"], s=5, color=color, alpha=0.5, linewidths=0)
        ax.scatter(part["bias"], part["noise"], s=30, color=color, marker=marker, label=family)
    ax.set_xlabel("bias, relative to the gradient")
    ax.set_ylabel("standard deviation for one evaluation, relative")
    ticks = [0, 0.1, 0.3, 1, 3, 10]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ticks = [*ticks, 30]
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 0.06))
    _name_all(shown, edge, ax)
    return ax


def _name_all(shown: pd.DataFrame, edge: pd.DataFrame, ax: Axes) -> None:
    """Write each name beside its point, where it covers no other name or point, nor the front."""
    ax.figure.draw_without_rendering()
    pixels = ax.transData.transform(shown[["bias", "noise"]].to_numpy())
    taken = [Bbox.from_bounds(x - 7, y - 7, 14, 14) for x, y in pixels]
    corners = ax.transData.transform(edge[["bias", "noise"]].to_numpy())
    for start, end in pairwise(corners):
        along = np.linspace(start, end, 2 + int(np.hypot(*(end - start)) / 4))
        taken += [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in along]
    legend = ax.get_legend()
    if legend is not None:
        taken.append(legend.get_window_extent())
    frame = ax.get_window_extent()
    rows = list(zip(shown.index, shown["bias"], pixels, shown["family"].map(_COLORS), strict=True))
    _name_unbiased([row for row in rows if row[1] == 0], ax, taken)
    for name, bias, (x, y), color in rows:
        if bias == 0:
            continue
        text = ax.text(0, 0, str(name), fontsize=7.5, transform=None)
        size = text.get_window_extent()
        text.remove()
        box, leftward = _free_place((x, y), size, taken, frame)
        taken.append(box)
        anchor = (box.x1 if leftward else box.x0, box.y0 + size.height / 2)
        ends = ax.transData.inverted().transform([(x, y), anchor])
        ax.plot(ends[:, 0], ends[:, 1], color=color, linewidth=0.5, zorder=1)
        at = ax.transAxes.inverted().transform((box.x0, box.y0 + size.height / 2))
        ax.text(at[0], at[1], str(name), transform=ax.transAxes, **_NAME)


def _free_place(point: Any, size: Bbox, taken: list[Bbox], frame: Bbox) -> tuple[Bbox, bool]:
    """The nearest place for a name within the frame that covers nothing, and if it is leftward."""
    found, leftward = size, False
    for radius in range(11, 130, 8):
        for turn in np.arange(0, 2 * np.pi, np.pi / 8):
            leftward = bool(np.cos(turn) < -0.1)
            left = point[0] + radius * np.cos(turn) - (size.width if leftward else 0)
            bottom = point[1] + radius * np.sin(turn) - size.height / 2
            found = Bbox.from_bounds(left, bottom, size.width, size.height)
            inside = frame.x0 < found.x0 and found.x1 < frame.x1
            inside = inside and frame.y0 < found.y0 and found.y1 < frame.y1
            if inside and not any(found.overlaps(other) for other in taken):
                return found, leftward
    return found, leftward


def _name_unbiased(rows: list[Any], ax: Axes, taken: list[Bbox]) -> None:
    """Write the names of methods without bias in a column beside them, above the front."""
    rows = sorted(rows, key=lambda row: row[2][1])
    gap = 13.0 * ax.figure.dpi / 100
    heights = [row[2][1] + gap for row in rows]
    for place in range(1, len(heights)):
        heights[place] = max(heights[place], heights[place - 1] + gap)
    for (name, _, (x, y), color), height in zip(rows, heights, strict=True):
        left = x + 3 * gap
        ends = ax.transData.inverted().transform([(x, y), (left - 2, height)])
        ax.plot(ends[:, 0], ends[:, 1], color=color, linewidth=0.5, zorder=1)
        at = ax.transAxes.inverted().transform((left, height))
        text = ax.text(at[0], at[1], name, transform=ax.transAxes, **_NAME)
        taken.append(text.get_window_extent())


def budgets(errors: pd.DataFrame, names: Sequence[str], ax: Axes) -> Axes:
    """Error against the number of evaluations that are averaged.

    Args:
        errors: from :func:`lab.bias_variance.plane.budget`.
        names: the methods to draw.
        ax: the axes.
    """
    for place, (name, look) in enumerate(looks(names).items()):
        marks = {"markevery": (place % 2, 2), "markersize": 4}
        ax.plot(errors.columns, errors.loc[name], label=name, **look.line, **marks)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("evaluations of the loss that are averaged")
    ax.set_ylabel("relative error")
    ticks = [0.03, 0.1, 0.3, 1, 3]
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


def by_scale(table: pd.DataFrame, axes: Sequence[Axes]) -> Sequence[Axes]:
    """Bias and error at best scale of some methods, for each scale of the logits.

    Args:
        table: columns ``method``, ``scale``, ``measure``, ``value``, ``low``, ``high``.
        axes: two, sharing their vertical axis.
    """
    names = list(dict.fromkeys(table["method"]))
    scales = list(dict.fromkeys(table["scale"]))
    colors = sns.color_palette("colorblind", len(scales))
    for ax, (measure, part) in zip(axes, table.groupby("measure", sort=False), strict=True):
        for place, (scale, color, marker) in enumerate(zip(scales, colors, "osD", strict=True)):
            rows = part[part["scale"] == scale].set_index("method").loc[names]
            height = np.arange(len(names)) + 0.22 * (place - 1)
            ax.hlines(height, rows["low"], rows["high"], color=color, linewidth=1)
            ax.scatter(rows["value"], height, s=14, color=color, marker=marker, label=scale)
        ax.set_yticks(range(len(names)), names)
        ax.set_xlabel(str(measure))
        ax.grid(axis="x", color="0.9")
    axes[0].set_xscale("symlog", linthresh=0.1, linscale=0.4)
    ticks = [0, 0.1, 0.3, 1, 3, 10, 30]
    axes[0].set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes[0].minorticks_off()
    axes[0].set_xlim(left=-0.02)
    axes[1].set_xlim(0, 1.02)
    axes[0].invert_yaxis()
    handles, labels = axes[1].get_legend_handles_labels()
    axes[0].figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return axes
