"""Figures of the chapter "Beyond categorical, in numbers"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.ticker import FormatStrFormatter, NullLocator

from lab.show.looks import looks

__all__ = ["LETTERS", "by_step", "dots", "fields", "winners"]

LETTERS = {
    "ils.distributions": "I",
    "straight-through": "s",
    "any distribution": "a",
    "Gumbel-Softmax, .5": "h",
    "Gumbel-Softmax, 1": "g",
    "order 2": "2",
    "order 3": "3",
    "order 4": "4",
    "pathwise": "P",
    "differences": "D",
    "leave-one-out, 2": "l",
    "leave-one-out, 8": "L",
}
_DASHES = [(1, 0), (5, 2), (2, 1.5), (6, 2, 1, 2)]


def fields(curves: pd.DataFrame, titles: Sequence[str], axes: Sequence[Axes]) -> Sequence[Axes]:
    """The law of a draw, and how fast it moves with the parameter.

    Args:
        curves: columns ``setting``, ``z``, ``law`` (scaled to 1), ``exact``,
            ``ils.distributions``, ``straight-through``.
        titles: the settings, one an axes.
        axes: as many.
    """
    styles = looks(["ils.distributions", "straight-through"])
    for ax, title in zip(axes, titles, strict=True):
        part = curves[curves["setting"] == title]
        top = float(part[["exact", "ils.distributions"]].max().max())
        low = min(0.0, float(part[["exact", "ils.distributions"]].min().min()))
        law = low + part["law"] * (top - low)
        ax.fill_between(part["z"], low, law, color="0.9", lw=0, label="law of the draw")
        ax.plot(part["z"], part["exact"], color="0.5", lw=3, alpha=0.5, label="exact")
        for name, look in styles.items():
            ax.plot(part["z"], part[name], color=look.colour, dashes=look.dashes, label=name)
        ax.set_title(title, fontsize="medium")
        ax.set_xlabel("draw")
    axes[0].set_ylabel("velocity")
    _legend_below(axes[0])
    return axes


def _legend_below(ax: Axes) -> None:
    """One legend for the whole figure, of the lines of one of its axes."""
    handles, labels = ax.get_legend_handles_labels()
    ax.figure.legend(
        handles, labels, loc="outside lower center", ncols=4, fontsize="small", frameon=False
    )


def dots(table: pd.DataFrame, methods: Sequence[str], axes: Sequence[Axes]) -> Sequence[Axes]:
    """Bias and noise of methods, a row a setting.

    Args:
        table: index (setting, method), columns as of ``families.quality.summarise``.
        methods: which.
        axes: two that share their rows.
    """
    settings = list(dict.fromkeys(table.index.get_level_values("setting")))
    styles = looks(methods)
    for ax, measure, floor in zip(axes, ("bias", "noise"), (1e-3, 0.3), strict=True):
        for place, (name, look) in enumerate(styles.items()):
            rows = table.xs(name, level="method").reindex(settings)
            height = np.arange(len(settings)) + 0.7 * (place / max(1, len(methods) - 1) - 0.5)
            # Zeros are drawn at the left edge.
            ends = [rows[f"{measure}{end}"].clip(lower=floor) for end in ("_low", "_high", "")]
            ax.hlines(height, ends[0], ends[1], color=look.colour, linewidth=1)
            ax.scatter(ends[2], height, s=14, label=name, **look.points)
        ax.set_xscale("log")
        ax.set_xlabel(f"{measure} / gradient")
        ax.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_yticks(range(len(settings)), settings)
        ax.grid(axis="x", color="0.9")
    axes[0].invert_yaxis()
    axes[1].set_xticks([0.3, 1, 3])
    _legend_below(axes[1])
    return axes


def by_step(table: pd.DataFrame, limits: Mapping[str, float], axes: np.ndarray) -> np.ndarray:
    """Bias above, noise below, over the step size; a column a setting.

    Args:
        table: of ``families.steps.by_step``.
        limits: the bias of the limit that ``ils.distributions`` takes, by setting.
        axes: two rows, a column a setting.
    """
    settings = list(dict.fromkeys(table.index.get_level_values("setting")))
    variants = list(dict.fromkeys(table.index.get_level_values("variant")))
    colors = dict(zip(variants, sns.color_palette("colorblind", len(variants)), strict=True))
    dashes = dict(zip(variants, _DASHES, strict=True))
    for column, setting in zip(axes.T, settings, strict=True):
        for ax, measure in zip(column, ("bias", "noise"), strict=True):
            for variant, part in table.loc[setting].groupby(level="variant", sort=False):
                curve = part.droplevel("variant")[measure]
                name = str(variant)
                ax.plot(curve.index, curve, color=colors[name], dashes=dashes[name], label=name)
            ax.set_xscale("log")
            ax.set_yscale("log")
        column[0].axhline(limits[setting], color="0.4", lw=0.8)
        column[0].set_ylim(0.01, 3)
        column[1].set_ylim(0.3, 1000)
        column[0].set_title(setting, fontsize="small")
        column[1].set_xlabel("step size")
    axes[0, 0].set_ylabel("bias")
    axes[1, 0].set_ylabel("noise")
    # No setting has all variants: the first axes gets the rest, without points.
    present = {line.get_label() for line in axes[0, 0].get_lines()}
    for name in [name for name in variants if name not in present]:
        axes[0, 0].plot([], [], color=colors[name], dashes=dashes[name], label=name)
    _legend_below(axes[0, 0])
    return axes


def winners(table: pd.DataFrame, ax: Axes) -> Axes:
    """A letter a cell: the method of least error.

    Args:
        table: index (setting, kind), a column a number of evaluations, names of methods.
        ax: the axes.
    """
    wide = table.unstack("kind")
    kinds = list(dict.fromkeys(table.index.get_level_values("kind")))
    counts = list(table.columns)
    settings = list(dict.fromkeys(table.index.get_level_values("setting")))
    wide = wide.loc[settings, [(count, kind) for kind in kinds for count in counts]]
    groups = {
        "ils.distributions": 0,
        "leave-one-out, 8": 2,
        "leave-one-out, 2": 2,
        "differences": 2,
    }
    shade = wide.map(lambda name: groups.get(name, 1)).to_numpy()
    shades = ListedColormap([sns.color_palette("colorblind")[1], "0.93", "0.78"])
    ax.imshow(shade, cmap=shades, vmin=0, vmax=2, aspect="auto")
    for row, column in np.ndindex(shade.shape):
        name = wide.iloc[row, column]
        weight = "bold" if name == "ils.distributions" else "normal"
        ax.text(column, row, LETTERS[name], ha="center", va="center", weight=weight, fontsize=8)
    ax.set_yticks(range(len(settings)), settings)
    labels = [f"{count:,}" for count in counts] * len(kinds)
    ax.set_xticks(range(wide.shape[1]), labels, rotation=90)
    for place, kind in enumerate(kinds):
        middle = (place + 0.5) * len(counts) - 0.5
        ax.text(middle, -0.8, kind, ha="center", va="bottom")
        if place:
            ax.axvline(place * len(counts) - 0.5, color="white", lw=4)
    ax.set_xlabel("evaluations of the loss")
    ax.tick_params(length=0)
    return ax
