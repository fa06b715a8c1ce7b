"""Tables from the records of :mod:`lab.speed.bench`: ratios, limits, curves."""

from __future__ import annotations

import pandas as pd

from lab.speed.calls import SHAPES
from lab.speed.contestants import GUMBEL, LOSS

__all__ = [
    "COPY",
    "LARGE_COPY",
    "SHAPES",
    "against",
    "bandwidth",
    "cell",
    "growth_curves",
    "modes",
    "multiples",
    "over_limit",
    "ratio_curves",
    "shape_text",
    "span",
    "times",
    "traffic",
]

COPY = "a copy of as many bytes"
LARGE_COPY = "a large copy"

BYTES = {"float32": 4, "bfloat16": 2}


def cell(grid: pd.DataFrame, dtype: str = "float32", threads: int = 2) -> pd.DataFrame:
    """The rows of one type and number of threads; index: batch, categories, mode, contestant."""
    return grid.xs((dtype, threads), level=("dtype", "threads"))


def against(
    rows: pd.DataFrame, name: str = GUMBEL, mode: str = "eager", column: str = "median"
) -> pd.Series:
    """Times as fast as one contestant in the same cell: its median over that of each row.

    Args:
        rows: with the levels ``mode`` and ``contestant``.
        name, mode: what is compared with.
        column: what is compared.
    """
    base = rows[column].xs((mode, name), level=("mode", "contestant"))
    return base.reindex(rows.index.droplevel(["mode", "contestant"])).to_numpy() / rows[column]


def multiples(memory: pd.DataFrame, column: str = "peak") -> pd.Series:
    """Bytes in units of the logits' own."""
    entries = _level(memory, "batch") * _level(memory, "categories")
    return memory[column] / (entries * _level(memory, "dtype").map(BYTES))


def traffic(batch: int, categories: int, dtype: str = "float32") -> int:
    """Bytes that any operator must move: logits, draw, its gradient, the logits' gradient."""
    return 4 * batch * categories * BYTES[dtype]


def bandwidth(grid: pd.DataFrame, dtype: str = "float32", threads: int = 2) -> float:
    """Bytes a second of the large copy, reads and writes both counted."""
    rows = cell(grid, dtype, threads).xs(("eager", LARGE_COPY), level=("mode", "contestant"))
    ((batch, categories),) = rows.index
    return traffic(batch, categories, dtype) / float(rows["median"].iloc[0])


def over_limit(grid: pd.DataFrame, dtype: str = "float32", threads: int = 2) -> pd.DataFrame:
    """Time of each operator, without that of the loss, over that of the traffic alone.

    Returns:
        index: batch, categories, mode, contestant.  Columns: ``memory``, over the bytes divided by
        the large copy's bandwidth; ``copy``, over a copy of as many bytes, wherever they lie.
    """
    rows = cell(grid, dtype, threads)
    rows = rows[~rows.index.isin([LARGE_COPY], level="contestant")]
    speed = bandwidth(grid, dtype, threads)
    places = rows.index.droplevel(["mode", "contestant"])
    loss, copy = (
        rows["median"].xs(("eager", name), level=("mode", "contestant")).reindex(places).to_numpy()
        for name in (LOSS, COPY)
    )
    own = rows["median"] - loss
    limit = pd.Series([traffic(b, k, dtype) / speed for b, k in places], index=rows.index)
    found = pd.DataFrame({"memory": own / limit, "copy": own / copy})
    return found[~found.index.isin([LOSS, COPY], level="contestant")]


def _level(table: pd.DataFrame, name: str) -> pd.Series:
    return pd.Series(table.index.get_level_values(name), index=table.index)


# --- for the page ----------------------------------------------------------------------------


def shape_text(batch: int, categories: int) -> str:
    """As in ``4,096 × 32``."""
    return f"{batch:,} × {categories:,}"


def times(rows: pd.DataFrame) -> pd.DataFrame:
    """Microseconds a call, median and quartiles as text, one column a shape.

    Args:
        rows: of :func:`cell`.
    """
    texts = [f"{m * 1e6:,.0f} [{a * 1e6:,.0f}, {b * 1e6:,.0f}]" for m, a, b in _quartiles(rows)]
    return _by_shape(pd.Series(texts, index=rows.index))


def modes(grid: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    """Times as fast as the hard Gumbel-Softmax, eager, with as many threads and the same type.

    Args:
        grid: the table of the record.
        names: contestants.

    Returns:
        index: contestant, mode, type, threads; one column a shape.
    """
    parts = {}
    for dtype, threads in dict.fromkeys(zip(*_levels(grid, "dtype", "threads"), strict=True)):
        rows = cell(grid, dtype, threads)
        found = against(rows)[rows.index.isin(names, level="contestant")]
        parts[dtype, threads] = _by_shape(found.map("{:.2g}".format))
    joined = pd.concat(parts, names=["dtype", "threads"])
    return joined.reorder_levels(["contestant", "mode", "dtype", "threads"]).sort_index()


def ratio_curves(rows: pd.DataFrame, picked: dict[str, tuple[str, str]]) -> pd.DataFrame:
    """Times as fast as the hard Gumbel-Softmax's median: at the median and the quartiles.

    Args:
        rows: of :func:`cell`.
        picked: mode and contestant by the name to show; those that are not there are left out.

    Returns:
        index: name, shape.  Columns: ``ratio``, ``low``, ``high``.
    """
    base = rows["median"].xs(("eager", GUMBEL), level=("mode", "contestant"))
    found = []
    for name, (mode, contestant) in picked.items():
        for shape in SHAPES:
            place = (*shape, mode, contestant)
            if place in rows.index:
                own = rows.loc[place]
                values = [base.loc[shape] / own[column] for column in ("median", "high", "low")]
                found.append((name, shape_text(*shape), *values))
    columns = ["name", "shape", "ratio", "low", "high"]
    return pd.DataFrame(found, columns=columns).set_index(columns[:2])


def growth_curves(
    growth: pd.DataFrame, picked: dict[str, tuple[str, str]], bandwidth: float
) -> pd.DataFrame:
    """Seconds of a call in the three sweeps, and of the memory traffic alone.

    Args:
        growth: the table of the record.
        picked: mode and contestant by the name to show; those that are not there are left out.
        bandwidth: bytes a second.

    Returns:
        index: panel, name, x; column ``seconds``.
    """
    found = []
    for title, sweep, fixed in (
        ("a million entries", "categories", None),
        ("10 categories", "batch", 10),
        ("100 categories", "batch", 100),
    ):
        part = growth.loc[sweep]
        part = part if fixed is None else part.xs(fixed, level="categories", drop_level=False)
        for name, (mode, contestant) in picked.items():
            if (mode, contestant) in part.index.droplevel(["batch", "categories"]):
                curve = part["median"].xs((mode, contestant), level=("mode", "contestant"))
                found += [(title, name, b, k, v) for (b, k), v in curve.items()]
        places = dict.fromkeys(part.index.droplevel(["mode", "contestant"]))
        limit = "traffic of the memory"
        found += [(title, limit, b, k, traffic(b, k) / bandwidth) for b, k in places]
    table = pd.DataFrame(found, columns=["panel", "name", "batch", "categories", "seconds"])
    first = table["panel"] == "a million entries"
    table["x"] = table["categories"].where(first, table["batch"])
    return table.set_index(["panel", "name", "x"])[["seconds"]]


def span(ratios: pd.Series, mode: str, name: str) -> tuple[float, float]:
    """The least and the largest over the shapes.

    Args:
        ratios: of :func:`against`.
        mode, name: of whom.
    """
    own = ratios.xs((mode, name), level=("mode", "contestant"))
    return float(own.min()), float(own.max())


def _quartiles(rows: pd.DataFrame) -> list[tuple[float, float, float]]:
    return list(rows[["median", "low", "high"]].itertuples(index=False, name=None))


def _levels(table: pd.DataFrame, *names: str) -> list[pd.Index]:
    return [table.index.get_level_values(name) for name in names]


def _by_shape(column: pd.Series) -> pd.DataFrame:
    """One row a contestant and mode, one column a shape of the grid, in its order."""
    table = column.unstack(["batch", "categories"])
    table = table[[shape for shape in SHAPES if shape in table.columns]]
    table.columns = [shape_text(*shape) for shape in table.columns]
    table = table.swaplevel().dropna(how="all").fillna("–")
    order = ("eager", "compiled", "kernel")
    return table.sort_index(level="mode", key=lambda modes: modes.map(order.index), kind="stable")
