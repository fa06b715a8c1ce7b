"""The targets of speed and memory, set before the measurement, and whether they are met."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from lab.speed.contestants import FORMS, GUMBEL, LOSS, TEN_LINES
from lab.speed.cost import SHAPES, bandwidth, cell, over_limit, shape_text, traffic

__all__ = [
    "RATIOS",
    "TARGETS",
    "Target",
    "asked_of_the_limit",
    "check",
    "count",
    "misses",
    "summary",
    "targets_of",
]

_NOWHERE = float("nan")


@dataclass(frozen=True)
class Target:
    """What was asked for before anything was measured, in float32 on two threads.

    Attributes:
        name: as in the tables.
        quantity: ``speed``, times as fast as ``against``; ``slowdown``, its inverse;
            ``memory``, of the peak of ``against``; ``limit``, time over the traffic limit.
        mode: of the contestant; ``against`` is always eager and in PyTorch.
        contestant: of :mod:`lab.speed.contestants`.
        against: likewise; unused by ``limit``.
        asked: one number a shape of the grid; NaN where nothing was asked.
    """

    name: str
    quantity: str
    mode: str
    contestant: str
    against: str
    asked: tuple[float, ...]

    @property
    def at_least(self) -> bool:
        """Whether more is better."""
        return self.quantity == "speed"


_DEFAULT, _SUM, _, _PROJECTED = FORMS
_KERNEL = (2.5, 4, 10, 18, 18, 22, 20)
_LIMIT = tuple(3.0 if k >= 1000 else _NOWHERE for _, k in SHAPES)

TARGETS = (
    Target("eager, sum-normalised", "speed", "eager", _SUM, GUMBEL, (1.0, 2.2, 6, 10, 15, 16, 13)),
    Target("eager, projected", "speed", "eager", _PROJECTED, GUMBEL, (0.8, 1.3, 3.3, 6, 8, 10, 8)),
    Target("eager, default over sum-normalised", "slowdown", "eager", _DEFAULT, _SUM, (1.1,) * 7),
    *(
        Target(f"memory, {short}", "memory", "eager", name, GUMBEL, (0.6,) * 7)
        for short, name in (
            ("default", _DEFAULT),
            ("sum-normalised", _SUM),
            ("projected", _PROJECTED),
        )
    ),
    Target("kernel, sum-normalised", "speed", "kernel", _SUM, GUMBEL, _KERNEL),
    Target("kernel, default", "speed", "kernel", _DEFAULT, GUMBEL, _KERNEL),
    Target("kernel, sum-normalised, over the limit", "limit", "kernel", _SUM, "", _LIMIT),
    Target("kernel, default, over the limit", "limit", "kernel", _DEFAULT, "", _LIMIT),
)


RATIOS = (
    *(
        target
        for mode in ("eager", "kernel")
        for target in (
            Target(
                f"{mode}, time of the ten lines", "slowdown", mode, _DEFAULT, TEN_LINES, (1.0,) * 7
            ),
            Target(f"{mode}, speed of hard Gumbel", "speed", mode, _DEFAULT, GUMBEL, (1.0,) * 7),
        )
    ),
    *(target for target in TARGETS if target.quantity == "memory"),
)
"""What is asked where the ten lines were timed too: ratios within one process."""


def targets_of(grid: pd.DataFrame) -> tuple[Target, ...]:
    """What a record is held against: the ratios, or, if it lacks the ten lines, what was before."""
    timed = TEN_LINES in grid.index.get_level_values("contestant")
    return RATIOS if timed else TARGETS


def check(grid: pd.DataFrame, memory: pd.DataFrame) -> pd.DataFrame:
    """Every target on every shape: ``asked``, ``measured`` (NaN: not measured), ``met``.

    Args:
        grid, memory: the tables of the records.

    Returns:
        index: target, batch, categories; shapes of which nothing was asked are left out.
    """
    time, peaks = cell(grid), memory.xs("float32", level="dtype")
    limits = over_limit(grid)["memory"]
    rows = []
    for target in targets_of(grid):
        for (batch, categories), asked in zip(SHAPES, target.asked, strict=True):
            place = (batch, categories, target.mode, target.contestant)
            base = (batch, categories, "eager", target.against)
            if asked != asked:
                continue
            if target.quantity == "limit":
                measured = _value(limits, place)
            else:
                table = peaks["peak"] if target.quantity == "memory" else time["median"]
                measured = _value(table, place) / _value(table, base)
                measured = 1 / measured if target.at_least else measured
            if target.quantity == "memory":
                measured = round(measured, 2)  # the few bytes of a scalar shall not decide
            met = measured >= asked if target.at_least else 0 < measured <= asked
            rows.append((target.name, batch, categories, asked, measured, met, target.at_least))
    columns = ["target", "batch", "categories", "asked", "measured", "met", "at_least"]
    return pd.DataFrame(rows, columns=columns).set_index(columns[:3])


def _value(column: pd.Series, place: tuple[int, int, str, str]) -> float:
    return float(column.loc[place]) if place in column.index else _NOWHERE


def summary(checked: pd.DataFrame) -> pd.DataFrame:
    """One row a target and one column a shape: measured, what was asked, and a mark if missed."""
    texts = {}
    for (target, batch, categories), row in checked.iterrows():
        sign = "≥" if row["at_least"] else "≤"
        missing = row["measured"] != row["measured"]
        mark = "" if row["met"] or missing else "\N{NO-BREAK SPACE}✗"
        value = "–" if missing else f"{row['measured']:.2g}"
        if row["measured"] >= 10:
            value = f"{row['measured']:.0f}"
        text = f"{value}{mark} ({sign}{row['asked']:g})"
        texts[target, shape_text(batch, categories)] = text
    table = pd.Series(texts).unstack()
    order = [shape_text(*shape) for shape in SHAPES]
    names = dict.fromkeys(checked.index.get_level_values("target"))
    return table.reindex(index=list(names), columns=[c for c in order if c in table]).fillna("")


def asked_of_the_limit(grid: pd.DataFrame) -> pd.DataFrame:
    """What the targets of speed ask for where rows are long, in units of the traffic limit.

    Returns:
        One row a target, and one for a softmax alone as measured; one column a shape.
    """
    time, measured = cell(grid)["median"], over_limit(grid)["memory"]
    found: dict[str, dict[str, float]] = {}
    for batch, categories in (shape for shape in SHAPES if shape[1] >= 1000):
        place = (batch, categories)
        gumbel, loss = (float(time.loc[(*place, "eager", name)]) for name in (GUMBEL, LOSS))
        limit = traffic(batch, categories) / bandwidth(grid)
        for target in TARGETS:
            if target.quantity == "speed":
                asked = target.asked[SHAPES.index(place)]
                row = found.setdefault(f"asked of {target.name}", {})
                row[shape_text(*place)] = (gumbel / asked - loss) / limit
        softmax = float(measured.loc[(*place, "eager", "softmax")])
        found.setdefault("softmax alone, measured", {})[shape_text(*place)] = softmax
    return pd.DataFrame(found).T


def misses(checked: pd.DataFrame) -> list[str]:
    """One line for each target that was measured and missed, with how much is lacking."""
    lines = []
    for (target, batch, categories), row in checked.iterrows():
        if row["met"] or row["measured"] != row["measured"]:
            continue
        ratio = row["measured"] / row["asked"]
        lacking = 1 - ratio if row["at_least"] else ratio - 1
        side, excess = ("at least", "short") if row["at_least"] else ("at most", "over")
        lines.append(
            f"{target}, {shape_text(batch, categories)}: {row['measured']:.2f}, "
            f"asked {side} {row['asked']:g}, {lacking:.0%} {excess}"
        )
    return lines


def count(checked: pd.DataFrame, prefix: str) -> tuple[int, int]:
    """How many of the targets whose name starts so are met, and how many were measured."""
    names = checked.index.get_level_values("target")
    part = checked[names.str.startswith(prefix) & checked["measured"].notna()]
    return int(part["met"].sum()), len(part)
