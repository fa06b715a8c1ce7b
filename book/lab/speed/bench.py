"""``python -m lab bench``: time the operators against each other, and write the records.

One process; all contestants of a cell (a shape, a type, a number of threads) take turns within
each repeat, in a new order each time, so that whatever else the machine does falls on all of them.
A call is forward, the loss ``(z * w).sum()``, and backward.  Nothing is compared here: ratios are
:mod:`lab.speed.cost`, from the records.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ils import kernel
from lab.run import records
from lab.run.checkout import describe_checkout
from lab.run.machine import describe_machine, keep_heap
from lab.speed.calls import TYPES, Call, block, call, copy, inputs, modes
from lab.speed.contestants import CONTESTANTS, GUMBEL
from lab.speed.cost import COPY, LARGE_COPY, SHAPES, shape_text
from lab.speed.footprint import memory

__all__ = ["FULL", "PARTS", "QUICK", "SOURCES", "Plan", "grid", "growth", "main", "timed"]

SOURCES = "lab.speed.bench"
"""The module whose sources, with all that it imports, decide what is timed."""

GROWING = (GUMBEL, "softmax", "ReinMax (default)", "ILS (the note)")
COUNTS = (1, 4, 10, 32, 100, 316, 1000, 3162, 10_000, 31_623, 100_000, 316_228, 1_000_000)
LARGE = (1, 1 << 24)


@dataclass(frozen=True)
class Plan:
    """How thoroughly to measure.

    Attributes:
        repeats: turns of each contestant.
        budget: seconds of one turn, over which as many calls as fit are averaged.
        compiled: cells, as (type, threads), in which contestants are timed compiled too.
        threads: numbers of threads.
        seed: of the logits and of the order of turns.
    """

    repeats: int = 15
    budget: float = 0.02
    compiled: tuple[tuple[str, int], ...] = (("float32", 1), ("float32", 2), ("bfloat16", 2))
    threads: tuple[int, ...] = (1, 2)
    seed: int = 20


FULL = Plan()
QUICK = Plan(repeats=3, budget=0.002, compiled=(("float32", 2),))


def _calls(
    x: Tensor, w: Tensor, chosen: tuple[str, ...], names: tuple[str, ...] = ()
) -> dict[tuple[str, str], Call]:
    """The calls of a cell by mode and contestant, and a copy of the bytes that all must move."""
    found = {
        (mode, one.name): call(one, x, w, compiled=mode == "compiled")
        for mode in chosen
        for one in CONTESTANTS
        if one.fits(x.dtype, mode) and (not names or one.name in names)
    }
    return found | {("eager", COPY): copy(x.numel(), x.dtype)}


# --- time ------------------------------------------------------------------------------------


def timed(calls: Mapping[tuple[str, str], Call], plan: Plan) -> Iterator[dict[str, Any]]:
    """Rows with the median and the quartiles of the seconds of a call.

    What does not compile, for want of a compiler for one, is named and left out.

    Args:
        calls: by mode and name.
        plan: how often, how long, and the seed of the order.
    """
    inner = {}
    for key, function in calls.items():
        try:
            with block(key[0]):
                fastest = min(_seconds(function, 1) for _ in range(4))  # the first ones compile
        except Exception as error:
            if key[0] != "compiled":
                raise
            print(f"left out, {key[1]} does not compile: {error}", flush=True)
            continue
        inner[key] = max(1, min(1000, int(plan.budget / fastest)))
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in inner}
    order, shuffle = list(inner), random.Random(plan.seed).shuffle
    with _no_collection():
        for _ in range(plan.repeats):
            shuffle(order)
            for key in order:
                with block(key[0]):
                    seconds[key].append(_seconds(calls[key], inner[key]))
    for (mode, name), values in seconds.items():
        low, median, high = pd.Series(values).quantile([0.25, 0.5, 0.75])
        row = {"mode": mode, "contestant": name, "median": median, "low": low, "high": high}
        yield row | {"repeats": plan.repeats, "inner": inner[mode, name]}


def _seconds(function: Call, times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        function()
    return (time.perf_counter() - start) / times


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextlib.contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def grid(
    plan: Plan,
    shapes: tuple[tuple[int, int], ...] = SHAPES,
    types: tuple[str, ...] = tuple(TYPES),
) -> pd.DataFrame:
    """Times of all contestants over the grid; index: type, threads, shape, mode, contestant."""
    rows = []
    for dtype in types:
        for threads in plan.threads:
            cell = {"dtype": dtype, "threads": threads}
            compiled = ("compiled",) if (dtype, threads) in plan.compiled else ()
            with _threads(threads):
                for shape in shapes:
                    if compiled:
                        # Each shape is compiled anew, which a function allows a few times only.
                        torch.compiler.reset()
                    x, w = inputs(shape, TYPES[dtype], plan.seed)
                    calls = _calls(x, w, (*modes(), *compiled))
                    place = cell | {"batch": shape[0], "categories": shape[1]}
                    rows += [place | row for row in timed(calls, plan)]
                    print(f"{dtype}, {threads} threads, {shape_text(*shape)}", flush=True)
                place = cell | {"batch": LARGE[0], "categories": LARGE[1]}
                large = {("eager", LARGE_COPY): copy(LARGE[1], TYPES[dtype])}
                rows += [place | row for row in timed(large, plan)]
    index = ["dtype", "threads", "batch", "categories", "mode", "contestant"]
    return pd.DataFrame(rows).set_index(index)


def growth(plan: Plan, largest: int = 1_000_000) -> pd.DataFrame:
    """Times as the categories grow at about a million entries, and as the batch grows."""
    counts = [k for k in COUNTS if 4 <= k <= largest]
    cells = [("categories", max(1, largest // k), k) for k in counts]
    cells += [("batch", b, k) for k in (10, 100) for b in COUNTS if b <= largest // 10]
    rows = []
    with _threads(max(plan.threads)):
        for sweep, batch, categories in cells:
            x, w = inputs((batch, categories), torch.float32, plan.seed)
            place = {"sweep": sweep, "batch": batch, "categories": categories}
            rows += [place | row for row in timed(_calls(x, w, modes(), GROWING), plan)]
            print(f"growing {sweep}: {shape_text(batch, categories)}", flush=True)
    return pd.DataFrame(rows).set_index(["sweep", "batch", "categories", "mode", "contestant"])


# --- the run ---------------------------------------------------------------------------------


PARTS: dict[str, Callable[[Plan], pd.DataFrame]] = {
    "bench-grid": grid,
    "bench-growth": growth,
    "bench-memory": lambda plan: memory(plan.seed),
}


def main() -> None:
    """Measure all parts, or those named, and write their records."""
    parser = argparse.ArgumentParser(description="Measure, and write the records.")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="few repeats, little compiled")
    parser.add_argument("--folder", type=Path, default=Path("book/data"))
    chosen = parser.parse_args()
    if unknown := set(chosen.parts) - set(PARTS):
        parser.error(f"unknown parts {sorted(unknown)}; there are {list(PARTS)}")
    plan = QUICK if chosen.quick else FULL
    common = {"seed": plan.seed, "plan": asdict(plan), "kernel": kernel.available()}
    common |= describe_machine() | {"heap_kept": keep_heap()}
    checkout = describe_checkout(SOURCES)
    for name in chosen.parts or PARTS:
        start = time.perf_counter()
        table = PARTS[name](plan)
        seconds = time.perf_counter() - start
        records.write(
            name,
            table,
            configuration=common,
            seconds=seconds,
            checkout=checkout,
            folder=chosen.folder,
        )
        print(f"{name}: {len(table)} rows in {seconds:.0f} s", flush=True)
