"""Figures of the chapter "The construction in numbers"."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from lab.show.looks import looks

__all__ = ["noise", "overview", "scale", "targets", "temperature"]

# Corners of the triangle: category 1 at the left, 2 at the right, 3 on top.
_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
_LOOKS = ("solid", "dashed", "dotted", "dashdot")
_MARKS = ("o", "s", "^", "D")


_BOXES = (
    ("logits\n$\\theta$", 0.0, 1.0),
    ("distribution\n$\\pi$", 1.0, 1.0),
    ("draw\n$z$", 2.0, 1.0),
    ("loss\n$L(z)$", 3.0, 1.0),
    ("gradient\n$g = \\partial L / \\partial z$", 3.0, 0.0),
    ("step\n$z - \\alpha\\Delta$", 2.0, 0.0),
    ("target\n$\\pi_D$", 1.0, 0.0),
    ("gradient for\nthe logits\n$\\pi - \\pi_D$", 0.0, 0.0),
)


def overview(points: pd.DataFrame, axes: Sequence[Axes]) -> Sequence[Axes]:
    """Overview of the method: its forward and backward pass, and its points on the simplex.

    Args:
        points: index ``distribution``, ``draw``, ``step``, ``target``; a column a category, of
            three; each row sums to one.
        axes: two, for the passes and for the triangle.
    """
    way, triangle = axes
    for place, (text, x, y) in enumerate(_BOXES):
        box = {"boxstyle": "round,pad=0.4", "edgecolor": "0.3", "facecolor": "1" if y else "0.92"}
        way.text(x, y, text, ha="center", va="center", fontsize=8, bbox=box)
        if place:
            x0, y0 = _BOXES[place - 1][1:]
            gap = 0.36 * np.sign([x - x0, y - y0]) * [1, 0.72]
            arrow = {"arrowstyle": "->", "color": "0.3", "linestyle": "-" if y else "--"}
            way.annotate("", (x - gap[0], y - gap[1]), (x0 + gap[0], y0 + gap[1]), arrowprops=arrow)
    way.text(1.5, 1.42, "forward: an exact draw", ha="center", fontsize=8)
    way.text(1.5, -0.5, "backward: the intermediate loss", ha="center", fontsize=8)
    way.set_xlim(-0.5, 3.5)
    way.set_ylim(-0.6, 1.5)
    way.axis("off")
    triangle.plot(*np.vstack([_CORNERS, _CORNERS[:1]]).T, color="0.4", linewidth=1)
    at = {name: row.to_numpy() @ _CORNERS for name, row in points.iterrows()}
    colors = sns.color_palette("colorblind")
    pulls = [("draw", "step", colors[0], "-"), ("step", "target", colors[3], ":")]
    for start, end, color, look in [*pulls, ("distribution", "target", colors[2], "--")]:
        arrow = {"arrowstyle": "->", "color": color, "linestyle": look, "linewidth": 1.6}
        triangle.annotate("", at[end], at[start], arrowprops=arrow)
    names = {"distribution": "$\\pi$", "draw": "$z$", "step": "$z - \\alpha\\Delta$"}
    names["target"] = "$\\pi_D$"
    offsets = {"distribution": (-4, 9), "draw": (-12, -4), "step": (4, 9), "target": (-14, -8)}
    for (name, label), marker in zip(names.items(), "oDxs", strict=True):
        triangle.plot(*at[name], marker, color="0.2", markersize=5)
        triangle.annotate(
            label, at[name], textcoords="offset points", xytext=offsets[name], ha="center"
        )
    triangle.set_aspect("equal")
    triangle.axis("off")
    return axes


def targets(paths: pd.DataFrame, axes: Sequence[Axes]) -> Sequence[Axes]:
    """Paths of the target as the step grows, one triangle a form of the step.

    Args:
        paths: from :func:`lab.construction.experiment.target_paths`, three categories.
        axes: one for each form.
    """
    colors = sns.color_palette("colorblind", 3)
    for ax, (form, part) in zip(axes, paths.groupby("form", sort=False), strict=True):
        ax.plot(*np.vstack([_CORNERS, _CORNERS[:1]]).T, color="0.4", linewidth=1)
        for drawn, path in part.groupby("drawn"):
            points = path[[f"category {k}" for k in (1, 2, 3)]].to_numpy() @ _CORNERS
            look = {"linestyle": _LOOKS[drawn - 1], "marker": _MARKS[drawn - 1]}
            away = points - _CORNERS[drawn - 1]
            poles = np.flatnonzero((away[1:] * away[:-1]).sum(-1) < 0) + 1  # through infinity
            line = np.insert(points, poles, np.nan, axis=0)
            ax.plot(*line.T, color=colors[drawn - 1], linestyle=look["linestyle"])
            ax.plot(
                *points[:: max(1, len(points) // 6)].T,
                color=colors[drawn - 1],
                linestyle="none",
                marker=look["marker"],
                markersize=4,
            )
            ax.plot([], [], color=colors[drawn - 1], label=f"category {drawn} was drawn", **look)
        for k, (x, y) in enumerate(_CORNERS):
            ax.annotate(
                f"{k + 1}",
                (x, y),
                textcoords="offset points",
                xytext=[(-9, -9), (13, 3), (0, 6)][k],
                ha="center",
            )
        ax.set_title(form)
        ax.set_aspect("equal")
        ax.set_xlim(-0.45, 1.45)
        ax.set_ylim(-0.46, 1.15)
        ax.axis("off")
    return axes


def noise(summary: pd.DataFrame, axes: Sequence[Axes]) -> Sequence[Axes]:
    """Noise and direction against the step: left the noise, right the cosine.

    Args:
        summary: index (form, gradient, step_size), columns ``noise`` and ``cosine``, each with
            ``mean``, ``low`` and ``high``.
        axes: two.
    """
    colors = sns.color_palette("colorblind", 4)
    groups = summary.groupby(level=["form", "gradient"], sort=False)
    for position, ((form, gradient), part) in enumerate(groups):
        steps = part.index.get_level_values("step_size")
        for ax, quantity in zip(axes, ("noise", "cosine"), strict=True):
            curve = part[quantity]
            ax.plot(
                steps,
                curve["mean"],
                color=colors[position],
                linestyle=_LOOKS[position],
                marker=_MARKS[position],
                markersize=4,
                label=f"{form}, {gradient}",
            )
            ax.fill_between(steps, curve["low"], curve["high"], color=colors[position], alpha=0.2)
    for ax, label in zip(
        axes, ("standard deviation / length of mean", "cosine with exact gradient"), strict=True
    ):
        ax.set_xscale("log")
        ax.set_xlabel("step size")
        ax.set_ylabel(label)
    axes[0].set_yscale("log")
    axes[1].set_ylim(0, 1)
    return axes


def scale(table: pd.DataFrame, ax: Axes) -> Axes:
    """Length of the update against the factor on the loss.

    Args:
        table: from :func:`lab.construction.experiment.scale`.
        ax: the axes.
    """
    for name, look in looks(table["estimator"]).items():
        part = table[table["estimator"] == name]
        ax.plot(part["factor"], part["length"], markersize=4, label=name, **look.line)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("factor on the loss")
    ax.set_ylabel("length of the mean update,\nrelative to factor 1")
    ax.legend()
    return ax


def temperature(table: pd.DataFrame, ax: Axes) -> Axes:
    """The trade-off of Gumbel-Softmax against its temperature.

    Args:
        table: from :func:`lab.construction.experiment.temperature`.
        ax: the axes.
    """
    labels = {
        "noise": "noise of the gradient, relative",
        "bias": "bias of the gradient, relative",
        "largest": "largest entry of the sample (1: a draw)",
    }
    for position, (column, label) in enumerate(labels.items()):
        ax.plot(
            table["temperature"],
            table[column],
            linestyle=_LOOKS[position],
            marker=_MARKS[position],
            markersize=4,
            label=label,
        )
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("temperature")
    ax.legend()
    return ax
