"""``python -m lab COMMAND``: make the records that the book reads, from ``book/data``.

``results``
    the long runs behind the chapters, each where it is not current (:mod:`lab.jobs`);
``sweep``
    the benchmarks: every method on every problem (:mod:`lab.benchmarks.sweep`);
``search``
    the search for a better default (:mod:`lab.search.search`);
``vae``
    VAEs of real size, on images of the reader's (:mod:`lab.benchmarks.vae_sweep`);
``bench``, ``pace``
    times and memory of the operators, and of training steps (:mod:`lab.speed`);
``list``
    every record, and whether it was made from the sources as they are.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lab import jobs
from lab.benchmarks.sweep import SOURCES
from lab.benchmarks.sweep import main as sweep
from lab.benchmarks.vae import Fit
from lab.benchmarks.vae_sweep import RECORDED
from lab.benchmarks.vae_sweep import main as vae
from lab.run import records
from lab.run.checkout import digest
from lab.search import search
from lab.speed import bench, pace

__all__ = ["COMMANDS", "main", "modules", "states"]


def modules() -> dict[str, str]:
    """By record of the book, the module whose sources, with its imports, decide the numbers."""
    swept = ("sweep-tuning", "sweep-final", "sweep-seconds", "vae-quality", "vae-pictures")
    return (
        jobs.modules()
        | dict.fromkeys(swept, SOURCES)
        | dict.fromkeys(search.RECORDED, search.SOURCES)
        | dict.fromkeys(RECORDED, Fit.__module__)
        | dict.fromkeys(bench.PARTS, bench.SOURCES)
        | dict.fromkeys(pace.PARTS, pace.SOURCES)
    )


def states(folder: Path) -> dict[str, str]:
    """The state of each record: ``current``, ``missing`` or ``of other sources``."""
    found: dict[str, str] = {}
    for name, module in sorted(modules().items()):
        try:
            made = records.read(name, folder).provenance.get("sources")
        except (FileNotFoundError, ValueError):
            found[name] = "missing"
        else:
            found[name] = "current" if made == digest(module) else "of other sources"
    return found


def _list() -> None:
    for name, state in states(Path("book/data")).items():
        print(f"{name:25} {state}")


COMMANDS = {
    "results": jobs.main,
    "sweep": sweep,
    "search": search.main,
    "vae": vae,
    "bench": bench.main,
    "pace": pace.main,
    "list": _list,
}


def main() -> None:
    """Run the command that is named, with the arguments behind it."""
    name = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if name not in COMMANDS:
        sys.exit(f"python -m lab: expected one of {', '.join(COMMANDS)}, got {name or 'none'}")
    COMMANDS[name]()


if __name__ == "__main__":
    main()
