"""``python -m lab search``: try the candidates for a default, choose, and measure the choice.

Each run has a record of its own in a scratch folder, so that an interrupted search resumes.  Needs
the record ``sweep-final``, for where runs begin.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from lab.run import records
from lab.run.checkout import describe_checkout
from lab.run.engine import execute
from lab.run.options import add_engine_options, engine_options, finish
from lab.search.candidates import CANDIDATES
from lab.search.protocol import (
    BUDGETS,
    DESIGN,
    FINAL,
    choice,
    choice_with_values,
    finals,
    progress,
    tuned,
    tuned_with_values,
)
from lab.search.values import WITH_VALUES
from lab.training.protocol import FINAL_SEEDS, Training

__all__ = ["RECORDED", "SOURCES", "main"]

SOURCES = "lab.search.search"
"""The module whose sources, with all that it imports, decide the numbers."""

RECORDED = ("search-design", "search-chosen", "search-final")
"""The records: of all candidates, of those that were kept, and of the final runs of these."""


def main() -> None:
    """Run the search; the exit status is 1 if a run failed, and nothing is chosen then."""
    parser = argparse.ArgumentParser(description="Search for a better default.")
    parser.add_argument("--folder", type=Path, default=Path("book/data"), help="of the records")
    parser.add_argument("--runs", type=Path, default=Path("_build/search"), help="of single runs")
    add_engine_options(parser)
    wanted = parser.parse_args()
    options = engine_options(parser, wanted)
    spent: list[float] = []  # seconds of the runs of each stage

    def run(runs: Sequence[Training]) -> Mapping[Training, pd.DataFrame]:
        outcome = execute(runs, folder=wanted.runs, report=tqdm.write, progress="search", **options)
        if outcome.failed:
            finish({one.name: error for one, error in outcome.failed.items()})
        names = (wanted.runs / f"{one.name}.json" for one in outcome.tables)
        spent[-1] += sum(json.loads(name.read_text("utf-8"))["seconds"] for name in names)
        return {one: outcome.tables[one] for one in runs}

    try:
        swept = records.read("sweep-final", wanted.folder).table
        spent.append(0.0)
        design = tuned(CANDIDATES, DESIGN, run)
        found = progress(design, swept)
        kept = dict.fromkeys((CANDIDATES[0], choice(found), choice(found, steady=True)))
        seeing = tuned(WITH_VALUES, DESIGN, run, BUDGETS[:1])
        best = choice_with_values(progress(seeing, swept))
        design = pd.concat([design, seeing])
        spent.append(0.0)
        chosen = pd.concat([tuned(list(kept), FINAL, run), tuned_with_values(best, run)])
        spent.append(0.0)
        final = finals(chosen, run)
    except (ImportError, OSError) as error:
        finish({"the search": str(error)})
    stages = zip(RECORDED, (design, chosen, final), spent, strict=True)
    for name, table, seconds in stages:
        seed = list(FINAL_SEEDS) if table is final else "those of the tuning, from 1"
        records.write(
            name,
            table,
            configuration={"seed": seed, "design": DESIGN, "final": FINAL},
            seconds=seconds / wanted.workers,
            checkout=describe_checkout(SOURCES),
            folder=wanted.folder,
        )
        print(f"wrote {wanted.folder / name}")
    finish({})
