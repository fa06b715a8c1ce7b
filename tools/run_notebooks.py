"""Execute notebooks and write their outputs, so that running them twice gives the same bytes.

Usage: ``python tools/run_notebooks.py NOTEBOOK ...``

Each notebook runs in its own folder, with the kernel of the Python that runs this script. What
differs between runs without meaning anything (times, versions of the kernel, splits of a stream)
is stripped.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

# Sums in another order differ in the last bit, and so may a printed digit.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
# Without "version", which would change with the patch release of whoever ran the notebook.
LANGUAGE_INFO = {
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "pygments_lexer": "ipython3",
}


def read(path: Path) -> NotebookNode:
    """The notebook, with an id on each cell that is the same at every reading."""
    # Not converted while reading: nbformat would invent random ids for cells without one.
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    if notebook.nbformat != 4:
        sys.exit(f"{path}: expected notebook format 4, found {notebook.nbformat}")
    notebook.nbformat_minor = 5
    taken = {cell.get("id") for cell in notebook.cells}
    fresh = (f"cell-{i}" for i in range(len(notebook.cells) * 2 + 1))
    for cell in notebook.cells:
        if "id" not in cell:
            cell["id"] = next(name for name in fresh if name not in taken)
    return notebook


def normalise(notebook: NotebookNode) -> None:
    """Strip in place what differs between runs without meaning anything."""
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": KERNELSPEC, "language_info": LANGUAGE_INFO}
        | {k: v for k, v in notebook.metadata.items() if k not in ("kernelspec", "language_info")}
    )
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # time stamps


def run(path: Path, timeout: int) -> str | None:
    """Execute one notebook; return the error of the cell that failed, if one did."""
    notebook = read(path)
    before = path.read_text(encoding="utf-8")
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        coalesce_streams=True,
        # Errors only: each kernel would warn that its local sockets are not encrypted.
        extra_arguments=["--log-level=40"],
    )
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        return str(error)
    normalise(notebook)
    nbformat.validate(notebook)
    after = nbformat.writes(notebook) + "\n"
    if after != before:  # an unchanged file keeps its date, and make rests
        path.write_text(after, encoding="utf-8")
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks at a time (default: 2)")
    parser.add_argument("--timeout", type=int, default=600, help="seconds a cell (default: 600)")
    options = parser.parse_args()

    paths = [path.resolve() for path in options.notebooks]
    work = partial(run, timeout=options.timeout)
    failed = False
    with ProcessPoolExecutor(max_workers=options.jobs) as pool:
        for path, error in zip(options.notebooks, pool.map(work, paths), strict=True):
            print(f"{path}: {'failed' if error else 'done'}", flush=True)
            if error:
                failed = True
                print(error, file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
