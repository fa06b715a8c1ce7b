"""Write what the explorers of the book are given: empty Bokeh plots, and the plane's numbers.

Usage: ``python tools/explorer.py FOLDER``.

A page that is opened from disk cannot fetch JSON, so each file is a script with one assignment. The
plots are described here, with the library that also draws them in the browser; the pages fill in
data and colours. A model with the tag ``line_color:mean`` has its ``line_color`` set to the colour
``--explorer-mean`` of explorer.css, in the theme that is on.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from bokeh.embed import json_item
from bokeh.models import (
    BasicTicker,
    ColumnDataSource,
    FixedTicker,
    HoverTool,
    Label,
    NumeralTickFormatter,
    Range1d,
    Span,
    TapTool,
)
from bokeh.plotting import figure

from lab.bias_variance import plane
from lab.methods.catalogue import FAMILIES, METHODS
from lab.problems.enumerable import KINDS, SCALES, SHAPES
from lab.run import records
from lab.show.looks import FAMILY_LOOKS

DATA = Path(__file__).resolve().parent.parent / "book" / "data"
ALL = "all"
DIGITS = 3


# --- the plane ---------------------------------------------------------------------------------


def plane_data() -> dict[str, Any]:
    """Names, and bias and noise of every method and setting: of each cell, and pooled by scale.

    The page pools over what is not chosen.  Over everything the record itself pools the instances.
    """
    parts = [records.read(name, folder=DATA) for name in ("quality-pathwise", "quality-score")]
    table = pd.concat([part.table for part in parts])
    number = {method.name: place for place, method in enumerate(METHODS)}
    pairs = list(plane.points(table).index)
    cells = table.drop(index=ALL, level="kind").assign(
        evaluations=[
            METHODS[number[name]].make(setting).evaluations
            for name, setting, *_ in table.drop(index=ALL, level="kind").index
        ]
    )
    cells["noise"] = cells["deviation"] * cells["evaluations"] ** 0.5
    return {
        "families": [
            {"name": name, "marker": look.bokeh, "colour": look.variable}
            for name, look in FAMILY_LOOKS.items()
        ],
        "methods": [
            {
                "name": method.name,
                "family": list(FAMILIES).index(method.family),
                "option": method.option,
                "standard": method.default,
            }
            for method in METHODS
        ],
        "kinds": [ALL, *KINDS],
        "shapes": [ALL, *(f"{n} x {categories}" for n, categories in SHAPES)],
        "scales": [ALL, *SCALES],
        "settings": [[number[name], _rounded(setting)] for name, setting in pairs],
        "pooled": {s: _columns(plane.points(table, s), pairs) for s in (ALL, *SCALES)},
        "cells": {
            "|".join(cell): _columns(part.droplevel(["kind", "shape", "scale"]), pairs)
            for cell, part in cells.groupby(level=["kind", "shape", "scale"], sort=False)
        },
    }


def _columns(found: pd.DataFrame, pairs: list[Any]) -> list[list[float | None]]:
    """Bias and noise in the order of the pairs; None where a method does not serve."""
    rows = found.reindex(pairs)
    return [
        [None if pd.isna(value) else _rounded(value) for value in rows[column]]
        for column in ("bias", "noise")
    ]


def _rounded(value: float) -> float:
    # A sum of many terms that cancel is not exactly zero.
    short = float(f"{value:.{DIGITS}g}") if abs(value) > 1e-9 else 0.0
    return int(short) if short.is_integer() else short


# --- the plots ---------------------------------------------------------------------------------


def _plot(**options: Any) -> Any:
    """A plot without tools, whose ink follows the theme."""
    plot = figure(
        sizing_mode="stretch_width",
        toolbar_location=None,
        tools="",
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        min_border_right=12,
        # A finger on the plot scrolls the page.
        stylesheets=[".bk-events { touch-action: pan-y !important; }"],
        **options,
    )
    for axis in plot.axis:
        axis.tags = [
            "axis_label_text_color:text",
            "major_label_text_color:text",
            "axis_line_color:line",
            "major_tick_line_color:line",
            "minor_tick_line_color:line",
        ]
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size = axis.major_label_text_font_size = "13px"
    for grid in plot.grid:
        grid.tags = ["grid_line_color:line"]
        grid.grid_line_alpha = 0.35
    return plot


def _label(value: float) -> str:
    """A number on a logarithmic axis: 0.01, 3 · 10⁻⁵."""
    if value >= 1e-3:
        return f"{value:g}"
    digit, power = f"{value:.0e}".split("e")
    raised = f"10⁻{'⁰¹²³⁴⁵⁶⁷⁸⁹'[-int(power)]}"
    return raised if digit == "1" else f"{digit} · {raised}"


def curve_plot() -> Any:
    """The divergence against the step, and its value at the limit."""
    plot = _plot(
        height=280,
        x_axis_label="step",
        y_axis_label="divergence, nats per category",
        y_axis_type="log",
        x_range=Range1d(0, 100, name="steps"),
        y_range=Range1d(1e-5, 1, name="divergences"),
    )
    ticks = [float(f"{digit}e{power}") for power in range(-9, 2) for digit in (1, 3)]
    plot.yaxis.ticker = plot.ygrid.ticker = FixedTicker(ticks=ticks)
    plot.yaxis.major_label_overrides = {tick: _label(tick) for tick in ticks}
    plot.xaxis.ticker = plot.xgrid.ticker = BasicTicker(desired_num_ticks=3)
    plot.xaxis.formatter = NumeralTickFormatter(format="0,0")
    source = ColumnDataSource({"x": [], "y": []}, name="curve")
    plot.line("x", "y", source=source, line_width=2, tags=["line_color:mean"], name="curve line")
    plot.add_layout(
        Span(
            dimension="width",
            line_width=2,
            line_dash="dashed",
            name="limit",
            tags=["line_color:bias"],
        )
    )
    return plot


def bars_plot() -> Any:
    """The truth, the model and the limit of one problem, category by category."""
    plot = _plot(
        height=240,
        x_axis_label="category",
        y_axis_label="probability",
        x_range=Range1d(0.4, 5.6),
        y_range=Range1d(0, 1, name="probabilities"),
    )
    plot.xgrid.visible = False
    plot.xaxis.ticker = FixedTicker(ticks=[1, 2, 3, 4, 5])
    columns = {name: [] for name in ("left", "middle", "right", "truth", "model", "limit")}
    source = ColumnDataSource(columns, name="bars")
    looks = {
        "truth": ("left", "text", {}),
        "model": ("middle", "mean", {}),
        "limit": ("right", "bias", {"hatch_pattern": "right_diagonal_line", "fill_alpha": 0.15}),
    }
    for name, (x, colour, look) in looks.items():
        bars = plot.vbar(x=x, top=name, width=0.24, bottom=0, source=source, line_width=1.5, **look)
        bars.glyph.tags = [
            f"{part}_color:{colour}" for part in ("line", "fill", *(["hatch"] if look else []))
        ]
    return plot


def plane_plot() -> Any:
    """Bias and noise of every method; the ticks come with the data."""
    plot = _plot(
        height=430,
        x_axis_label="bias, relative to the gradient",
        y_axis_label="noise of one evaluation, relative",
        x_range=Range1d(0, 1, name="biases"),
        y_range=Range1d(0, 1, name="noises"),
    )
    for axis, grid, name in zip(plot.axis, plot.grid, ("bias axis", "noise axis"), strict=True):
        axis.ticker = grid.ticker = FixedTicker(ticks=[])
        axis.name = name
        axis.minor_tick_line_color = None
        axis.tags = [tag for tag in axis.tags if not tag.startswith("minor")]
    empty: dict[str, list[Any]] = {"x": [], "y": []}
    front = ColumnDataSource(dict(empty), name="front")
    plot.line("x", "y", source=front, line_width=6, line_alpha=0.5, tags=["line_color:line"])
    rest = ColumnDataSource({**empty, "colour": []}, name="rest")
    plot.scatter("x", "y", source=rest, size=3.5, color="colour", alpha=0.6)
    points = ColumnDataSource({**empty, "colour": [], "marker": [], "row": []}, name="points")
    shown = plot.scatter("x", "y", source=points, size=11, color="colour", marker="marker")
    shown.nonselection_glyph = shown.selection_glyph = None
    chosen = ColumnDataSource(dict(empty), name="chosen")
    ring = plot.scatter("x", "y", source=chosen, size=20, fill_color=None, line_width=2.5)
    ring.glyph.tags = ["line_color:text"]
    label = Label(
        x=0,
        y=0,
        text="",
        name="label",
        visible=False,
        text_font_size="14px",
        padding=4,
        tags=[
            "text_color:text",
            "background_fill_color:ground",
            "border_line_color:line",
        ],
    )
    plot.add_layout(label)
    plot.add_tools(HoverTool(renderers=[shown], tooltips=None), TapTool(renderers=[shown]))
    return plot


def scripts() -> dict[str, Any]:
    """What each file gives, by its name: ``ilsExplorer.given.toy`` and ``.plane``."""
    return {
        "toy": {"plots": {"curve": json_item(curve_plot()), "bars": json_item(bars_plot())}},
        "plane": {"plots": {"plane": json_item(plane_plot())}, **plane_data()},
    }


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, given in scripts().items():
        text = json.dumps(given, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        script = f"((globalThis.ilsExplorer ??= {{}}).given ??= {{}}).{name} = {text};\n"
        (folder / f"explorer-{name}.js").write_text(script, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
