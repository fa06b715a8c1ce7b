"""Figures of the chapter "The construction in numbers"."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

__all__ = ["noise", "scale", "targets", "temperature"]

# Corners of the triangle: category 1 at the left, 2 at the right, 3 on top.
_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
_LOOKS = ("solid", "dashed", "dotted", "dashdot")
_MARKS = ("o", "s", "^", "D")


def targets(paths: pd.DataFrame, axes: Sequence[Axes]) -> Sequence[Axes]:
    """Paths of the target as the step grows, one triangle a form of the step.

    Args:
        paths: from :func:`ils.lab.construction.target_paths`, three categories.
        axes: one for each form.
    """
    colors = sns.color_palette("colorblind", 3)
    for ax, (form, part) in zip(axes, paths.groupby("form", sort=False), strict=True):
        ax.plot(*np.vstack([_CORNERS, _CORNERS[:1]]).T, color="0.4", linewidth=1)
        for drawn, path in part.groupby("drawn"):
            points = path[[f"category {k}" for k in (1, 2, 3)]].to_numpy() @ _CORNERS
            look = {"linestyle": _LOOKS[drawn - 1], "marker": _MARKS[drawn - 1]}
            ax.plot(*points.T, color=colors[drawn - 1], linestyle=look["linestyle"])
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
                xytext=[(-9, -9), (9, -9), (0, 6)][k],
                ha="center",
            )
        ax.set_title(form)
        ax.set_aspect("equal")
        ax.set_xlim(-0.45, 1.45)
        ax.set_ylim(-0.35, 1.15)
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
        table: from :func:`ils.lab.construction.scale`.
        ax: the axes.
    """
    for position, (name, part) in enumerate(table.groupby("estimator", sort=False)):
        ax.plot(
            part["factor"],
            part["length"],
            linestyle=_LOOKS[position],
            marker=_MARKS[position],
            markersize=4,
            label=name,
        )
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("factor on the loss")
    ax.set_ylabel("length of the mean update,\nrelative to factor 1")
    ax.legend()
    return ax


def temperature(table: pd.DataFrame, ax: Axes) -> Axes:
    """The trade of Gumbel-Softmax against its temperature.

    Args:
        table: from :func:`ils.lab.construction.temperature`.
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
