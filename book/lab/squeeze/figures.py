"""Figures of the chapter "The squeeze in numbers"."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

__all__ = ["collapse", "ladder", "two_categories"]

_LOOKS = ((1, 1), (4, 1.5), (6, 2, 1, 2), (3, 1, 1, 1, 1, 1), (8, 2))


def two_categories(bounds: pd.DataFrame, truth: float, ax: Axes) -> Axes:
    """The divergence and its bounds along all models of two categories, minima marked.

    Args:
        bounds: from :func:`lab.squeeze.ladder.two_categories`.
        truth: the true probability of the first category.
        ax: the axes.
    """
    colors = sns.color_palette("viridis", len(bounds.columns) - 1)
    for position, column in enumerate(bounds.columns[1:]):
        ax.plot(
            bounds.index,
            bounds[column],
            color=colors[position],
            dashes=_LOOKS[position],
            label=f"bound, {column}",
        )
        ax.plot(bounds[column].idxmin(), bounds[column].min(), "o", color=colors[position])
    ax.plot(bounds.index, bounds["KL"], color="black", label="divergence")
    ax.axvline(truth, color="0.6", linewidth=1, zorder=0)
    ax.set_yscale("log")
    ax.set_xlabel("model's probability of the first category")
    ax.set_ylabel("nats")
    ax.legend(loc="lower right", ncols=2)
    return ax


def ladder(gaps: pd.DataFrame, minimisers: pd.DataFrame, axes: Sequence[Axes]) -> Sequence[Axes]:
    """The gap against the number of draws, and the divergence at the bound's minimiser.

    Args:
        gaps: from :func:`lab.squeeze.ladder.gaps`.
        minimisers: index ``n``, columns ``mean``, ``low``, ``high``.
        axes: two.
    """
    axes[0].plot(gaps.index, gaps["gap"], "o-", markersize=4, label="exact")
    axes[0].plot(gaps.index, gaps["delta method"], linestyle="dashed", label="delta method")
    axes[0].set_ylabel("gap at the true model, nats")
    axes[0].legend()
    axes[1].plot(minimisers.index, minimisers["mean"], "s-", markersize=4)
    axes[1].fill_between(minimisers.index, minimisers["low"], minimisers["high"], alpha=0.2)
    axes[1].set_ylabel("divergence at the minimiser, nats")
    for ax in axes:
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel("number of draws, n")
    return axes


def collapse(curves: pd.DataFrame, axes: Sequence[Axes]) -> Sequence[Axes]:
    """What the exact gradient of the bound does: left the bound, right the divergence.

    Args:
        curves: index (measure, step), columns ``mean``, ``low``, ``high``.
        axes: two.
    """
    labels = {"bound": "bound (the objective)", "divergence": "true divergence"}
    for ax, (measure, label) in zip(axes, labels.items(), strict=True):
        curve = curves.loc[measure]
        ax.plot(curve.index, curve["mean"], color="black")
        ax.fill_between(curve.index, curve["low"], curve["high"], color="black", alpha=0.15)
        ax.set_xscale("symlog", linthresh=1)
        ax.set_xlabel("step")
        ax.set_ylabel(f"{label}, nats / K")
        ax.set_ylim(bottom=0)
    return axes
