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
from lab.search.protocol import DESIGN, FINAL, choice, finals, progress, tuned
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
    spent: dict[str, float] = {}

    def run(runs: Sequence[Training]) -> Mapping[Training, pd.DataFrame]:
        outcome = execute(runs, folder=wanted.runs, report=tqdm.write, progress="search", **options)
        if outcome.failed:
            finish({one.name: error for one, error in outcome.failed.items()})
        for one in outcome.tables:
            record = wanted.runs / f"{one.name}.json"
            spent[one.name] = json.loads(record.read_text("utf-8"))["seconds"]
        return {one: outcome.tables[one] for one in runs}

    try:
        swept = records.read("sweep-final", wanted.folder).table
        design = tuned(CANDIDATES, DESIGN, run)
        found = progress(design, swept)
        kept = dict.fromkeys((CANDIDATES[0], choice(found), choice(found, steady=True)))
        chosen = tuned(list(kept), FINAL, run)
        tables = dict(zip(RECORDED, (design, chosen, finals(chosen, run)), strict=True))
    except (ImportError, OSError) as error:
        finish({"the search": str(error)})
    for name, table in tables.items():
        records.write(
            name,
            table,
            configuration={"seed": list(FINAL_SEEDS), "design": DESIGN, "final": FINAL},
            seconds=sum(spent.values()) / wanted.workers,
            checkout=describe_checkout(SOURCES),
            folder=wanted.folder,
        )
        print(f"wrote {wanted.folder / name}")
    finish({})
