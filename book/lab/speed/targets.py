"""What is asked of speed and memory, as ratios within one process, and whether it is met."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from lab.speed.contestants import FORMS, GUMBEL, TEN_LINES
from lab.speed.cost import SHAPES, cell, shape_text

__all__ = ["TARGETS", "Target", "check", "count", "misses", "summary"]

_NOWHERE = float("nan")


@dataclass(frozen=True)
class Target:
    """What is asked in float32, with two threads: a ratio of at most ``asked`` at every shape.

    Attributes:
        name: as in the tables.
        quantity: ``time`` of a call, or ``memory`` at its peak.
        mode: of the contestant; ``against`` is always eager and in PyTorch.
        contestant: of :mod:`lab.speed.contestants`.
        against: likewise.
        asked: the largest ratio that is allowed.
    """

    name: str
    quantity: str
    mode: str
    contestant: str
    against: str
    asked: float


_DEFAULT = next(iter(FORMS))

TARGETS = (
    *(
        Target(f"{mode}, over {title}", "time", mode, _DEFAULT, against, 1.0)
        for mode in ("eager", "kernel")
        for title, against in (("the ten lines", TEN_LINES), ("hard Gumbel", GUMBEL))
    ),
    *(
        Target(f"memory, {name}", "memory", "eager", name, GUMBEL, 0.6)
        for name in FORMS
        if name != "ILS, centred"
    ),
)


def check(grid: pd.DataFrame, memory: pd.DataFrame) -> pd.DataFrame:
    """Every target on every shape: ``asked``, ``measured`` (NaN: not measured), ``met``.

    Args:
        grid, memory: the tables of the records.

    Returns:
        index: target, batch, categories.
    """
    tables = {"time": cell(grid)["median"], "memory": memory.xs("float32", level="dtype")["peak"]}
    rows = []
    for target in TARGETS:
        table = tables[target.quantity]
        for shape in SHAPES:
            measured = _value(table, (*shape, target.mode, target.contestant))
            measured = measured / _value(table, (*shape, "eager", target.against))
            if target.quantity == "memory":
                measured = round(measured, 2)  # the few bytes of a scalar shall not decide
            rows.append((target.name, *shape, target.asked, measured, measured <= target.asked))
    columns = ["target", "batch", "categories", "asked", "measured", "met"]
    return pd.DataFrame(rows, columns=columns).set_index(columns[:3])


def _value(column: pd.Series, place: tuple[int, int, str, str]) -> float:
    return float(column.loc[place]) if place in column.index else _NOWHERE


def summary(checked: pd.DataFrame) -> pd.DataFrame:
    """One row a target and one column a shape: the ratio, and a mark where it is missed."""
    texts = {}
    for (target, batch, categories), row in checked.iterrows():
        name = f"{target} (≤ {row['asked']:g})"
        mark = "" if row["met"] else "\N{NO-BREAK SPACE}✗"
        missing = row["measured"] != row["measured"]
        texts[name, shape_text(batch, categories)] = (
            "–" if missing else f"{row['measured']:.2f}{mark}"
        )
    table = pd.Series(texts).unstack()
    order = [shape_text(*shape) for shape in SHAPES]
    return table.reindex(index=list(dict.fromkeys(name for name, _ in texts)), columns=order)


def misses(checked: pd.DataFrame) -> list[str]:
    """One line for each target that was measured and missed, with how much is lacking."""
    return [
        f"{target}, {shape_text(batch, categories)}: {row['measured']:.2f}, "
        f"asked at most {row['asked']:g}, {row['measured'] / row['asked'] - 1:.0%} over"
        for (target, batch, categories), row in checked.iterrows()
        if row["measured"] > row["asked"]
    ]


def count(checked: pd.DataFrame, prefix: str) -> tuple[int, int]:
    """How many of the targets whose name starts so are met, and how many were measured."""
    names = checked.index.get_level_values("target")
    part = checked[names.str.startswith(prefix) & checked["measured"].notna()]
    return int(part["met"].sum()), len(part)
