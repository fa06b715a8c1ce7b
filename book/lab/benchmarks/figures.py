"""Figures of the benchmark chapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab.show.intervals import band
from lab.show.looks import looks

__all__ = ["chances", "grid", "images", "learning", "profile", "quality"]


def _styles(names: Sequence[str], apart: int) -> Mapping[str, dict]:
    """Lines with a mark every so many points, later lines at later points."""
    return {
        name: look.line | {"markevery": (place % apart, apart), "markersize": 4}
        for place, (name, look) in enumerate(looks(names).items())
    }


def learning(
    curves: Mapping[str, pd.DataFrame],
    names: Sequence[str],
    axes: Sequence[Axes],
    optima: Mapping[str, float | None],
) -> Sequence[Axes]:
    """Learning curves of some methods with 95% bands, one panel a problem.

    Args:
        curves: by the title of the problem, index (method, seed), a column a twentieth.
        names: methods to draw.
        axes: one a problem.
        optima: the least value of the measure, by title, where it is known.
    """
    styles = _styles(names, 5)
    for ax, (title, table) in zip(axes, curves.items(), strict=True):
        kept = table[table.index.get_level_values("method").isin(names)]
        found = band(kept.dropna(), by="method")
        for name in names:
            if name not in found.index.get_level_values("method"):
                continue
            curve = found.loc[name]
            ax.plot(curve.index / 20, curve["mean"], label=name, **styles[name], linewidth=1.2)
            ax.fill_between(
                curve.index / 20,
                curve["low"],
                curve["high"],
                color=styles[name]["color"],
                alpha=0.2,
                linewidth=0,
            )
        if optima.get(title) is not None:
            ax.axhline(optima[title], color="0.6", linewidth=0.8, zorder=0)
        ax.set_title(title, fontsize=8.5)
        ax.tick_params(labelsize=7)
        ax.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    handles = {}
    for ax in axes:
        found_handles, labels = ax.get_legend_handles_labels()
        handles |= dict(zip(labels, found_handles, strict=True))
    figure = axes[0].figure
    figure.legend(
        [handles[name] for name in names if name in handles],
        [name for name in names if name in handles],
        loc="outside upper center",
        ncols=3,
        fontsize=8,
    )
    figure.supxlabel("part of the run", fontsize=9)
    return axes


def profile(table: pd.DataFrame, ax: Axes) -> Axes:
    """Share of runs above a level of progress.

    Args:
        table: from :func:`lab.benchmarks.report.profiles`.
        ax: the axes.
    """
    for name, style in _styles(list(table.index), 8).items():
        ax.plot(table.columns, table.loc[name], label=name, **style)
    ax.set_xlabel("progress: 0 at the start, 1 where the best method ends")
    ax.set_ylabel("share of runs above")
    ax.set_ylim(0, 1.02)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    return ax


def grid(table: pd.DataFrame, ax: Axes) -> Axes:
    """Mean progress of every method on every problem, as numbers on colours.

    Args:
        table: a row a method, a column a problem; missing where a method does not serve.
        ax: the axes.
    """
    sns.heatmap(
        table,
        vmin=0,
        vmax=1,
        cmap="cividis",
        annot=True,
        fmt=".2f",
        annot_kws={"fontsize": 5.5},
        cbar=False,
        linewidths=0.4,
        ax=ax,
    )
    ax.set_xlabel("")
    ax.set_ylabel("")
    ax.tick_params(length=0, labelsize=7)
    ax.set_xticklabels(ax.get_xticklabels(), rotation=60, ha="right", rotation_mode="anchor")
    return ax


def chances(table: pd.DataFrame, ax: Axes) -> Axes:
    """Probabilities of improvement with their intervals; one half is a tie.

    Args:
        table: a row a method: ``mean``, ``low``, ``high``.
        ax: the axes.
    """
    height = np.arange(len(table))
    ax.axvline(0.5, color="0.7", linewidth=1, zorder=0)
    ax.hlines(height, table["low"], table["high"], color="C0", linewidth=1.5)
    ax.scatter(table["mean"], height, s=18, color="C0")
    ax.set_yticks(height, list(table.index), fontsize=8)
    ax.set_xlim(0, 1)
    ax.invert_yaxis()
    ax.grid(axis="x", color="0.92")
    return ax


def quality(table: pd.DataFrame, names: Sequence[str], axes: Sequence[Axes]) -> Sequence[Axes]:
    """Bias, deviation and cosine of some methods along a training run.

    Args:
        table: the record ``vae-quality``.
        names: methods to draw.
        axes: three.
    """
    styles = _styles(names, 2)
    titles = {"bias": "bias", "deviation": "standard deviation", "cosine": "cosine"}
    for ax, (measure, title) in zip(axes, titles.items(), strict=True):
        wide = table[measure].unstack("method")
        for name in names:
            ax.plot(wide.index, wide[name], label=name, **styles[name], linewidth=1.3)
        ax.set_title(title, fontsize=9)
        ax.tick_params(labelsize=7.5)
        if measure == "deviation":
            ax.set_yscale("log")
    handles, labels = axes[0].get_legend_handles_labels()
    axes[0].figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=8)
    axes[0].figure.supxlabel("training steps", fontsize=9)
    return axes


def images(table: pd.DataFrame, figure: Figure, shown: int = 10) -> Figure:
    """Digits in rows, a row a method and kind.

    Args:
        table: the record ``vae-pictures``: index (method, kind, image), a column a pixel.
        figure: empty.
        shown: images a row.
    """
    rows = table.groupby(level=["method", "kind"], sort=False)
    axes = figure.subplots(len(rows), 1)
    for ax, (key, part) in zip(axes, rows, strict=True):
        pictures = part.to_numpy()[:shown]
        side = int(np.sqrt(pictures.shape[1]))
        framed = np.pad(pictures.reshape(-1, side, side), ((0, 0), (1, 1), (1, 1)))
        ax.imshow(np.concatenate(list(framed), axis=1), cmap="gray", vmin=0, vmax=1)
        ax.set_axis_off()
        ax.text(-2, side / 2 + 1, " · ".join(map(str, key)), ha="right", va="center", fontsize=7.5)
    return figure
