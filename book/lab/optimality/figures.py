"""Figures of the chapter "How good can one draw be?"."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

__all__ = ["against_bound", "depth", "flow_drawings", "flow_table", "noise", "two_draws"]


def against_bound(table: pd.DataFrame, ax: Axes) -> Axes:
    """Biases of one entry against its probability.

    Args:
        table: of :func:`lab.optimality.experiment.worst_table`.
        ax: the axes.
    """
    colors = sns.color_palette("colorblind")
    styles = {
        "lower bound": {"color": "0.2", "linestyle": "-"},
        "ReinMax, worst loss": {"color": colors[0], "linestyle": "none", "marker": "o"},
        "electrical flow, worst loss": {"color": colors[1], "linestyle": "--", "marker": "s"},
        "ReinMax, random cubic losses": {"color": "0.55", "linestyle": "none", "marker": "."},
    }
    for what, style in styles.items():
        rows = table[table["what"] == what]
        ax.plot(rows["probability"], rows["bias"], label=what, markersize=4.5, **style)
    ax.set_xlabel(r"probability $\pi_k$ of the category")
    ax.set_ylabel("bias of entry k, over M")
    ax.set_ylim(0, None)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


def flow_table(flows: dict[str, Sequence[Sequence[float]]]) -> pd.DataFrame:
    """What is sent along each edge, once each, in the direction in which it is positive.

    Args:
        flows: for each name an antisymmetric matrix, from row to column.
    """
    rows = [
        (name, a + 1, c + 1, float(amount))
        for name, flow in flows.items()
        for a, row in enumerate(flow)
        for c, amount in enumerate(row)
        if amount > 1e-12
    ]
    return pd.DataFrame(rows, columns=["flow", "from", "to", "amount"])


def flow_drawings(
    table: pd.DataFrame, probs: Sequence[float], target: int, axes: Sequence[Axes]
) -> Sequence[Axes]:
    """Arrows as wide as what they carry, between discs as large as the probabilities.

    Args:
        table: of :func:`flow_table`.
        probs: of the categories.
        target: the category to which all flows.
        axes: one for each flow.
    """
    turn = 2 * math.pi / len(probs)
    places = [(math.cos(turn * k + 2.4), math.sin(turn * k + 2.4)) for k in range(len(probs))]
    most = table["amount"].max()
    colors = sns.color_palette("colorblind")
    for ax, (name, rows) in zip(axes, table.groupby("flow", sort=False), strict=True):
        for start, end, amount in rows[["from", "to", "amount"]].itertuples(index=False):
            a, c = places[start - 1], places[end - 1]
            width = 0.5 + 6 * amount / most
            arrow = {"arrowstyle": "-|>", "color": colors[0], "lw": width, "shrinkA": 15}
            ax.annotate("", c, a, arrowprops={**arrow, "shrinkB": 17, "mutation_scale": 9 + width})
            middle = (0.42 * c[0] + 0.58 * a[0], 0.42 * c[1] + 0.58 * a[1])
            box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
            ax.text(*middle, f"{amount:.3f}", ha="center", va="center", fontsize=7, bbox=box)
        for k, (place, prob) in enumerate(zip(places, probs, strict=True)):
            face = "0.75" if k == target else "white"
            ax.scatter(*place, s=350 + 900 * prob, facecolor=face, edgecolor="0.2", zorder=3)
            ax.text(*place, f"{prob:g}", ha="center", va="center", fontsize=8, zorder=4)
        ax.set_title(str(name))
        ax.set_xlim(-1.4, 1.4)
        ax.set_ylim(-1.4, 1.4)
        ax.set_aspect("equal")
        ax.axis("off")
    return axes


def noise(table: pd.DataFrame, limits: dict[int, float], ax: Axes) -> Axes:
    """Ratio of second moments against the mass of all categories but one.

    Args:
        table: of :func:`lab.optimality.experiment.noise_table`.
        limits: for each number of categories what its curve tends to.
        ax: the axes.
    """
    colors = sns.color_palette("colorblind")
    dashes = ["-", "--", ":", "-."]
    for place, (count, rows) in enumerate(table.groupby("categories", sort=False)):
        look = {"color": colors[place], "linestyle": dashes[place]}
        ax.plot(rows["rest"], rows["ratio"], label=f"K = {count}", **look)
        ax.plot(rows["rest"].min(), limits[int(count)], marker="<", color=colors[place])  # pyright: ignore[reportArgumentType]
    ax.axhline(0.75, color="0.6", linewidth=0.8)
    ax.set_xscale("log")
    ax.set_xlabel("mass of all categories but the likeliest")
    ax.set_ylabel("mean square over ReinMax's")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


def depth(table: pd.DataFrame, axes: Sequence[Axes]) -> Sequence[Axes]:
    """Relative bias, with its quartiles, and relative noise against the number of draws.

    Args:
        table: of :func:`lab.optimality.experiment.growth`.
        axes: two.
    """
    colors = sns.color_palette("colorblind")
    looks = {
        "logits": {"color": colors[1], "linestyle": "-", "marker": "s"},
        "probabilities": {"color": colors[0], "linestyle": "--", "marker": "o"},
    }
    bias, noise_axes = axes
    for link, rows in table.groupby("link", sort=False):
        look = {**looks[str(link)], "label": f"{link} mixed", "markersize": 4.5}
        bias.plot(rows["draws"], rows["median"], **look)
        bias.fill_between(
            rows["draws"], rows["low"], rows["high"], color=look["color"], alpha=0.2, lw=0
        )
        noise_axes.plot(rows["draws"], rows["noise"], **look)
    bias.set_ylabel("bias over gradient")
    noise_axes.set_ylabel("std. deviation over gradient")
    noise_axes.set_yscale("log")
    for ax in axes:
        ax.set_xticks(sorted(set(table["draws"])))
        ax.set_xlabel("draws in the chain")
    bias.legend(loc="upper left")
    return axes


def two_draws(tables: Sequence[pd.DataFrame], axes: Sequence[Axes]) -> Sequence[Axes]:
    """Variances of the estimators of two draws, each against the first column of its table.

    Args:
        tables: of :func:`lab.optimality.several.curvature_table` and ``variables_table``.
        axes: as many.
    """
    colors = sns.color_palette("colorblind")
    # Biased without values; unbiased with values.
    styles = {
        "ReinMax": {"color": colors[0], "marker": "o", "linestyle": "-"},
        "ReinMax, control variate": {"color": colors[1], "marker": "s", "linestyle": "-"},
        "trapezium": {"color": colors[2], "marker": "^", "linestyle": "-"},
        "leave-one-out": {"color": colors[2], "marker": "v", "linestyle": "--"},
        "ReinMax, corrected": {"color": colors[0], "marker": "D", "linestyle": "--"},
        "control variate, corrected": {"color": colors[1], "marker": "P", "linestyle": "--"},
        "double control variates": {"color": "0.35", "marker": "X", "linestyle": ":"},
    }
    for table, ax in zip(tables, axes, strict=True):
        axis = table.columns[0]
        for name, style in styles.items():
            rows = table[table["estimator"] == name]
            ax.plot(rows[axis], rows["variance"], markersize=4, label=name, **style)
        ax.set_yscale("log")
    axes[0].set_ylabel("variance over squared gradient")
    axes[0].set_xscale("log")
    axes[0].set_xlabel("curvature of the loss")
    axes[1].set_xlabel("variables")
    axes[1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return axes
