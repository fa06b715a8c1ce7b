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
from lab.training.protocol import DEFAULT

__all__ = [
    "budgets",
    "chances",
    "exploration",
    "frontier",
    "grid",
    "images",
    "learning",
    "quality",
    "sizes",
]


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
    null: Mapping[str, float],
) -> Sequence[Axes]:
    """Learning curves of some methods with 95% bands, one panel a problem.

    Args:
        curves: by the title of the problem, index (method, seed), a column a twentieth.
        names: methods to draw.
        axes: one a problem.
        optima: the least value of the measure, by title, where it is known.
        null: by title, the largest difference of means that luck alone has made; drawn around the
            end of the default method.
    """
    styles = _styles(names, 5)
    for ax, (title, table) in zip(axes, curves.items(), strict=True):
        kept = table[table.index.get_level_values("method").isin(names)]
        found = band(kept.dropna(), by="method")
        for name in names:
            if name not in found.index.get_level_values("method"):
                continue
            curve = found.loc[name].drop(0)  # beside where all begin they could not be told apart
            ax.plot(curve.index / 20, curve["mean"], label=name, **styles[name], linewidth=1.2)
            ax.fill_between(
                curve.index / 20,
                curve["low"],
                curve["high"],
                color=styles[name]["color"],
                alpha=0.2,
                linewidth=0,
            )
        middle = found.loc[DEFAULT, "mean"].iloc[-1]
        ax.axhspan(middle - null[title], middle + null[title], color="0.88", linewidth=0, zorder=0)
        if optima.get(title) is not None:
            ax.axhline(optima[title], color="0.45", linewidth=0.8, zorder=0)
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
        annot_kws={"fontsize": 7},
        cbar=False,
        linewidths=0.4,
        ax=ax,
    )
    shown = table.to_numpy().ravel()
    for text, value in zip(ax.texts, shown[~np.isnan(shown)], strict=True):
        text.set_color("white" if value < 0.45 else "black")
    ax.set_xlabel("")
    ax.set_ylabel("")
    ax.tick_params(length=0, labelsize=7)
    ax.set_xticklabels(ax.get_xticklabels(), rotation=60, ha="right", rotation_mode="anchor")
    return ax


def budgets(table: pd.DataFrame, null: Mapping[int, float], axes: Sequence[Axes]) -> None:
    """Progress of methods, a panel a budget: at all steps, and at the same number of evaluations.

    Args:
        table: index (method, budget); columns ``steps`` and ``total``, each with ``mean``, ``low``
            and ``high``.
        null: by budget, the largest difference that luck alone has made; drawn around the value of
            the default method.
        axes: one a budget.
    """
    names = list(table.index.get_level_values("method").unique())
    height = np.arange(len(names))
    for ax, (budget, most) in zip(axes, null.items(), strict=True):
        part = table.xs(budget, level="budget").reindex(names)
        middle = part.loc[DEFAULT, ("steps", "mean")]
        ax.axvspan(middle - most, middle + most, color="0.88", linewidth=0, zorder=0)
        for column, face in {"steps": "C0", "total": "white"}.items():
            if budget > 1 or column == "steps":
                one = part[column]
                ax.hlines(height, one["low"], one["high"], color="C0", linewidth=1.2)
                ax.scatter(one["mean"], height, s=20, facecolor=face, edgecolor="C0", zorder=3)
        ax.set_title(f"{budget} a step", fontsize=9)
        ax.set_yticks(height, names, fontsize=8)
        ax.grid(axis="x", color="0.92")
    axes[0].invert_yaxis()


def chances(
    tables: Mapping[str, pd.DataFrame], null: Sequence[float], axes: Sequence[Axes]
) -> None:
    """Probabilities of improvement with their intervals; one half is a tie.

    Args:
        tables: by title, a row a method: ``mean``, ``low``, ``high``.
        null: what entries of one method have among each other, panel by panel, at most.
        axes: one a table.
    """
    every = [name for table in tables.values() for name in table.index]
    names = list(dict.fromkeys(every))
    for ax, (title, table), most in zip(axes, tables.items(), null, strict=True):
        table = table.reindex(names)
        height = np.arange(len(names))
        ax.axvspan(1 - most, most, color="0.85", linewidth=0, zorder=0)
        ax.axvline(0.5, color="0.6", linewidth=1, zorder=0)
        ax.hlines(height, table["low"], table["high"], color="C0", linewidth=1.5)
        ax.scatter(table["mean"], height, s=16, color="C0")
        ax.set_yticks(height, names, fontsize=8)
        ax.set_xlim(0, 1)
        ax.set_title(title, fontsize=9)
        ax.grid(axis="x", color="0.92")
    axes[0].invert_yaxis()


def exploration(
    tables: Mapping[str, pd.DataFrame], null: Mapping[str, float], axes: Sequence[Axes]
) -> None:
    """Final measures of methods with and without an exploration of their own: quartiles of runs.

    Args:
        tables: by title of the problem: index (method, exploration), a column a seed.
        null: by title, the largest difference of means that luck alone has made.
        axes: one a problem.
    """
    kinds = {"none": "o", "entropy": "s", "tempered draws": "^"}
    names = list(dict.fromkeys(name for t in tables.values() for name, _ in t.index))
    for ax, (title, table) in zip(axes, tables.items(), strict=True):
        for place, (kind, mark) in enumerate(kinds.items()):
            part = table[table.index.get_level_values("exploration") == kind]
            part = part.droplevel("exploration").reindex(names).T.quantile([0.25, 0.5, 0.75])
            height = np.arange(len(names)) + 0.24 * (place - 1)
            ax.hlines(height, part.loc[0.25], part.loc[0.75], color=f"C{place}", linewidth=1.2)
            ax.scatter(part.loc[0.5], height, s=15, color=f"C{place}", marker=mark, label=kind)
            if kind == "none":
                middle = part.loc[0.5].get(DEFAULT, np.nan)
                band = (middle - null[title], middle + null[title])
                ax.axvspan(*band, color="0.85", linewidth=0, zorder=0)
        ax.set_title(title, fontsize=8.5)
        ax.tick_params(axis="x", labelsize=7)
        ax.set_yticks(np.arange(len(names)), names, fontsize=8)
        ax.grid(axis="x", color="0.92")
    axes[0].invert_yaxis()
    handles, labels = axes[0].get_legend_handles_labels()
    axes[0].figure.legend(
        handles, labels, title="exploration", loc="outside lower center", ncols=3, fontsize=8
    )


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
        name = " · ".join(map(str, key))
        name = "original" if name.startswith("original") else name  # of no kind
        ax.text(-2, side / 2 + 1, name, ha="right", va="center", fontsize=7.5)
    return figure


def sizes(tables: Mapping[str, pd.DataFrame], limits: tuple[float, float], figure: Figure) -> None:
    """Differences from the default at several sizes: ours with intervals, and the published ones.

    Args:
        tables: by title, a row a method, with ``difference``, ``difference ±`` and ``theirs``,
            missing where there is none; all with the same rows.
        limits: of the axis; what lies beyond has an arrow at its end.
        figure: empty.
    """
    low, high = limits
    axes = figure.subplots(1, len(tables), sharex=True, sharey=True)
    for ax, (title, table) in zip(axes, tables.items(), strict=True):
        height = np.arange(len(table))
        middle, wide = table["difference"], table["difference ±"]
        ax.axvline(0, color="0.6", linewidth=1, zorder=0)
        ax.hlines(height, (middle - wide).clip(low), (middle + wide).clip(upper=high), color="C0")
        ax.scatter(middle.where(middle <= high), height, s=18, color="C0", zorder=3)
        for place in height[(middle > high).to_numpy()]:
            ax.scatter(high, place, s=30, color="C0", marker=">", clip_on=False)
        ax.scatter(table["theirs"], height, s=30, facecolor="none", edgecolor="C1", marker="D")
        ax.set_title(title, fontsize=9)
        ax.set_xlim(low, high)
        ax.set_yticks(height, table.index, fontsize=8)
        ax.tick_params(axis="x", labelsize=7.5)
        ax.grid(axis="x", color="0.92")
    axes[0].invert_yaxis()
    figure.supxlabel("nats behind the default", fontsize=9)


def frontier(
    table: pd.DataFrame, entries: pd.DataFrame, named: Mapping[str, str], ax: Axes
) -> Axes:
    """Two measures of candidates against each other, more being better in both.

    Args:
        table: a row a candidate: ``x``, ``y``, its ``temperature``, and whether it ``fades``.
        entries: ``x`` and ``y`` of entries of one method, which differ by luck.
        named: what stands beside a candidate, by its name.
        ax: the axes.
    """
    for place, (temperature, every) in enumerate(table.groupby("temperature")):
        for fades, part in every.groupby("fades"):
            ax.scatter(
                part["x"],
                part["y"],
                s=34,
                marker="os^D"[place],
                facecolor="none" if fades else f"C{place}",
                edgecolor=f"C{place}",
                label=f"temperature {temperature:g}" + ", fading" * bool(fades),
            )
    ax.scatter(
        entries["x"], entries["y"], marker="x", s=24, color="0.35", label="the default, by luck"
    )
    for name, text in named.items():
        x, y = table.loc[name, ["x", "y"]]
        ax.annotate(text, (x, y), (-5, 5), textcoords="offset points", ha="right", fontsize=8)
    ax.grid(color="0.92")
    ax.legend(loc="lower left", fontsize=7.5)
    return ax
