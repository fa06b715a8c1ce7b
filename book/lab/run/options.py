"""What the commands that run sweeps share: the options of the engine, and how they end."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Mapping
from typing import Any, NoReturn

from lab.run import pools

__all__ = ["add_engine_options", "engine_options", "finish"]

_NAMES = ("workers", "engine", "address", "fresh")


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Workers, engine, address and whether records are kept."""
    parser.add_argument("--workers", type=int, default=2, help="runs under way at once")
    parser.add_argument("--engine", choices=pools.ENGINES, default="processes")
    parser.add_argument("--address", metavar="HOST:PORT", help="of a dask scheduler")
    parser.add_argument("--fresh", action="store_true", help="make what is there anew")


def engine_options(parser: argparse.ArgumentParser, wanted: argparse.Namespace) -> dict[str, Any]:
    """These options as arguments of :func:`lab.run.engine.execute`."""
    if wanted.engine == "dask" and not wanted.address:
        parser.error("--engine dask needs --address HOST:PORT")
    return {name: getattr(wanted, name) for name in _NAMES}


def finish(failed: Mapping[str, str]) -> NoReturn:
    """Say what failed and why; the exit status is 1 if anything did."""
    for name, error in failed.items():
        print(f"failed: {name}\n{textwrap.indent(error, '    ')}", file=sys.stderr)
    sys.exit(1 if failed else 0)
