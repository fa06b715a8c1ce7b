"""Figures of experiment 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lab.show.looks import looks

__all__ = ["controlled", "fair", "levels", "panels", "swapped", "sweep"]

_MARKS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h")


# Divergences below this are drawn at it: some methods reach rounding error.
_FLOOR = 1e-5


def panels(curves: pd.DataFrame, axes: np.ndarray) -> np.ndarray:
    """Six panels as in the note: one setting each, on its own random problems.

    Args:
        curves: one row a setting, one column a step.
        axes: two rows of three.
    """
    for ax, (name, curve) in zip(axes.flat, curves.iterrows(), strict=True):
        ax.plot(curve.index, curve, color=looks([str(name)])[str(name)].colour, linewidth=1)
        ax.set_title(str(name).replace(", ", "\n", 1))
        ax.set_ylim(bottom=0)
        ax.set_xticks([0, 25_000, 50_000], ["0", "25,000", "50,000"])
    for ax in axes[-1]:
        ax.set_xlabel("step")
    for ax in axes[:, 0]:
        ax.set_ylabel("divergence, nats / K")
    return axes


def swapped(ends: pd.DataFrame, own: Mapping[str, int], ax: Axes) -> Axes:
    """Where each setting ends on each of the six groups; its own panel's group is ringed.

    Args:
        ends: one row a setting, one column a group.
        own: the group of each setting's panel.
        ax: the axes.
    """
    for position, group in enumerate(ends.columns):
        ax.plot(
            ends[group],
            range(len(ends)),
            linestyle="none",
            marker=_MARKS[position],
            markersize=6,
            label=f"problems {group + 1}",
        )
    for row, setting in enumerate(ends.index):
        ax.plot(
            ends.loc[setting, own[setting]],
            row,
            "o",
            markersize=13,
            markerfacecolor="none",
            markeredgecolor="black",
        )
    ax.set_yticks(range(len(ends)), ends.index)
    ax.invert_yaxis()
    ax.set_xscale("log")
    ax.set_xlabel("divergence over the last 10,000 steps, nats / K")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def controlled(bands: pd.DataFrame, limits: Mapping[str, float], ax: Axes) -> Axes:
    """Mean curves with bands; the computed limit of each setting as a line of the same colour.

    Args:
        bands: from :func:`lab.show.intervals.band`.
        limits: mean divergence at the fixed point, for the settings that have one to draw.
        ax: the axes.
    """
    names = list(dict.fromkeys(bands.index.get_level_values(0)))
    for position, (name, look) in enumerate(looks(names).items()):
        curve, marks = bands.loc[name], {"markevery": (3 * position % 7, 8), "markersize": 4}
        ax.plot(curve.index, curve["mean"], label=name, **look.line, **marks)
        ax.fill_between(curve.index, curve["low"], curve["high"], color=look.colour, alpha=0.2)
        if name in limits:
            ax.axhline(limits[name], color=look.colour, linewidth=0.8, alpha=0.8)
    ax.set_xscale("symlog", linthresh=1)
    ax.set_yscale("log")
    ax.set_xlabel("step")
    ax.set_ylabel("divergence, nats / K")
    ax.legend(handlelength=3.5)
    return ax


def sweep(ends: pd.DataFrame, axes: Sequence[Axes]) -> Sequence[Axes]:
    """Divergence at the end against the learning rate: left constant, right decaying.

    Args:
        ends: columns ``method``, ``schedule``, ``rate``, ``end``.
        axes: two.
    """
    styles = looks(ends["method"].unique())
    for ax, (schedule, part) in zip(axes, ends.groupby("schedule", sort=False), strict=True):
        for method, curve in part.groupby("method", sort=False):
            ax.plot(
                curve["rate"],
                curve["end"].clip(lower=_FLOOR),
                markersize=4,
                label=method,
                **styles[str(method)].line,
            )
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_title(f"{schedule} learning rate")
        ax.set_xlabel("learning rate")
    axes[0].set_ylabel("divergence at the end, nats / K")
    return axes


def fair(bands: pd.DataFrame, ax: Axes) -> Axes:
    """Mean curves at each method's best learning rate.

    Args:
        bands: from :func:`lab.show.intervals.band`.
        ax: the axes.
    """
    names = list(dict.fromkeys(bands.index.get_level_values(0)))
    for position, (name, look) in enumerate(looks(names).items()):
        curve = bands.loc[name]
        ax.plot(
            curve.index,
            curve["mean"].clip(lower=_FLOOR),
            markersize=4,
            markevery=(3 * position % 7, 8),
            label=name,
            **look.line,
        )
    ax.set_xscale("symlog", linthresh=1)
    ax.set_yscale("log")
    ax.set_xlabel("step")
    ax.set_ylabel("divergence, nats / K")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), handlelength=3.5)
    return ax


def levels(times: pd.DataFrame, ax: Axes) -> Axes:
    """Steps to reach a level, one row a method; a method that never does has no mark.

    Args:
        times: one row a method, one column a level.
        ax: the axes.
    """
    for position, level in enumerate(times.columns):
        ax.plot(
            times[level],
            range(len(times)),
            linestyle="none",
            marker=_MARKS[position],
            markersize=6,
            label=f"below {level:g}",
        )
    ax.set_yticks(range(len(times)), times.index)
    ax.invert_yaxis()
    ax.set_xscale("log")
    ax.set_xlabel("steps to the level")
    ax.legend()
    return ax
