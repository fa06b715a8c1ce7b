"""Figures of the experiments beyond categories: counts in a VAE, a mixture as a posterior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse

from lab.show.looks import looks

__all__ = ["dots", "learning", "mixtures", "quality"]

_VISIBLE = 0.02


def learning(bands: pd.DataFrame, names: Sequence[str], ax: Axes) -> Axes:
    """Mean curves with their bands.

    Args:
        bands: from :func:`lab.show.intervals.band`, index (method, twentieth of the run).
        names: methods, in the order of the legend.
        ax: the axes.
    """
    for name, look in looks(names).items():
        curve = bands.loc[name]
        ax.plot(curve.index / 20, curve["mean"], label=name, **look.line, markevery=4, markersize=4)
        ax.fill_between(
            curve.index / 20, curve["low"], curve["high"], color=look.colour, alpha=0.2, lw=0
        )
    ax.set_xlabel("part of the run")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    return ax


def quality(table: pd.DataFrame, names: Sequence[str], axes: Sequence[Axes]) -> Sequence[Axes]:
    """Bias, deviation and error at best scale along a training run.

    Args:
        table: the record ``models-counts-quality``.
        names: methods to draw.
        axes: three.
    """
    titles = {"bias": "bias", "deviation": "standard deviation", "error": "error at best scale"}
    for ax, (measure, title) in zip(axes, titles.items(), strict=True):
        wide = table[measure].unstack("method")
        for name, look in looks(names).items():
            ax.plot(wide.index, wide[name], label=name, **look.line, linewidth=1.3, markersize=4)
        ax.set_title(title, fontsize=9)
        ax.tick_params(labelsize=7.5)
        if measure != "bias":  # which, estimated, may be a little below zero
            ax.set_ylim(bottom=0)
    handles, labels = axes[0].get_legend_handles_labels()
    axes[0].figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=8)
    axes[0].figure.supxlabel("training steps", fontsize=9)
    return axes


def dots(tables: Mapping[str, pd.DataFrame], axes: Sequence[Axes]) -> Sequence[Axes]:
    """Means with their intervals, a panel a measure, the methods in one order.

    Args:
        tables: by title; a row a method, ``mean``, ``low``, ``high``.
        axes: one a table.
    """
    for place, (ax, (title, table)) in enumerate(zip(axes, tables.items(), strict=True)):
        height = np.arange(len(table))
        ax.hlines(height, table["low"], table["high"], color="C0", linewidth=1.5)
        ax.scatter(table["mean"], height, s=18, color="C0")
        ax.set_yticks(height, list(table.index) if place == 0 else [""] * len(table), fontsize=8)
        ax.set_title(fill(title, 28), fontsize=9)
        ax.tick_params(labelsize=8)
        ax.grid(axis="both", color="0.92")
        ax.set_xlim(left=-0.03 * ax.get_xlim()[1])  # a point at zero is whole
        ax.invert_yaxis()
    return axes


def mixtures(
    density: pd.DataFrame,
    fits: Mapping[str, pd.DataFrame],
    above: Mapping[str, float],
    axes: Sequence[Axes],
) -> Sequence[Axes]:
    """Contours of the posterior, and the components of a mixture as ellipses of two deviations.

    Args:
        density: of the posterior, index the first mean, columns the second.
        fits: by title; a row a component: ``weight``, ``mean 1``, ``spread 1`` and so on.
        above: by title, the mass where the first mean is the larger.
        axes: one a mixture.
    """
    most = density.to_numpy().max()
    for ax, (title, fit) in zip(axes, fits.items(), strict=True):
        ax.contourf(
            density.index,
            density.columns,
            density.to_numpy().T,
            [0.05 * most, 0.5 * most, most],
            colors=["0.85", "0.65"],
        )
        for _, row in fit.iterrows():
            middle = (row["mean 1"], row["mean 2"])
            ellipse = Ellipse(middle, 4 * row["spread 1"], 4 * row["spread 2"], fill=False)
            alive = row["weight"] > _VISIBLE
            ellipse.set(edgecolor="C0", linewidth=1.2, linestyle="-" if alive else ":")
            ax.add_patch(ellipse)
        ax.text(6.0, 2.6, f"{above[title]:.0%}", fontsize=8)
        ax.text(2.6, 6.0, f"{1 - above[title]:.0%}", fontsize=8)
        ax.set_title(title, fontsize=8)
        ax.tick_params(labelsize=7)
        ax.set_xlim(-0.5, 7.5)
        ax.set_ylim(-0.5, 7.5)
        ax.set_aspect("equal")
    return axes
