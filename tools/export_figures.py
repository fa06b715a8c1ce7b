"""Export the published figures of executed notebooks: SVG, PDF, PNG, a thumbnail and CSV of each.

Usage: ``python tools/export_figures.py FOLDER NOTEBOOK ...``

Nothing is computed: drawing and data stand in the notebooks' outputs (``lab.show.publish``), and
the other forms are made of the drawing.  A figure without data, or whose drawing belongs to other
data, is refused by name.  Files of figures that exist no longer are removed.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vl_convert
from PIL import Image

__all__ = ["Published", "export", "published"]

_DOTS, _FEWER_DOTS = 200, 45


@dataclass(frozen=True)
class Published:
    """A figure as it stands in a notebook: drawing and data."""

    name: str
    svg: str
    csv: str


def published(notebook: Path) -> Iterator[Published]:
    """The figures of a notebook, in their order.

    Raises:
        ValueError: a figure has no drawing or no data, or the two do not belong together.
    """
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        name = cell["metadata"].get("mystnb", {}).get("figure", {}).get("name")
        if name:
            yield _checked(notebook.name, name, cell["outputs"])


def _checked(notebook: str, name: str, outputs: list[dict[str, Any]]) -> Published:
    said = f"{notebook}, {name}"
    bundles = [o["data"] for o in outputs if "image/svg+xml" in o.get("data", {})]
    if len(bundles) != 1:
        raise ValueError(f"{said}: expected one drawing, found {len(bundles)}; run `make run`")
    if "text/csv" not in bundles[0]:
        raise ValueError(f"{said}: the drawing has no data beside it; run `make run`")
    svg, csv = ("".join(bundles[0][kind]) for kind in ("image/svg+xml", "text/csv"))
    named = re.search(r"<dc:identifier>sha256:(\w+)</dc:identifier>", svg)
    if named is None or named[1] != hashlib.sha256(csv.encode()).hexdigest():
        raise ValueError(f"{said}: drawing and data do not belong together; run `make run`")
    return Published(name, svg, csv)


def export(figure: Published, folder: Path) -> None:
    """Write the files of a figure; where its drawing is there already, the rest is too."""
    stem = folder / figure.name
    drawing = stem.with_suffix(".svg")
    stem.with_suffix(".csv").write_text(figure.csv, encoding="utf-8", newline="\n")
    if drawing.exists() and drawing.read_text(encoding="utf-8") == figure.svg:
        return
    drawing.unlink(missing_ok=True)
    # The converter's inch has 72 units without a name, or 96 points.
    plain = re.sub(r'(width|height)="([\d.]+)pt"', r'\1="\2"', figure.svg, count=2)
    stem.with_suffix(".pdf").write_bytes(vl_convert.svg_to_pdf(plain))
    for path, dots in ((f"{stem}.png", _DOTS), (f"{stem}-small.png", _FEWER_DOTS)):
        picture = Image.open(io.BytesIO(vl_convert.svg_to_png(plain, ppi=dots)))
        picture.convert("RGB").save(path)  # nothing shines through: three fifths of the bytes less
    drawing.write_text(figure.svg, encoding="utf-8", newline="\n")  # last: it says that all is done


def main(folder: Path, notebooks: list[Path]) -> int:
    try:
        figures = [figure for notebook in notebooks for figure in published(notebook)]
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    names = {figure.name for figure in figures}
    for path in folder.iterdir():
        if path.stem.removesuffix("-small") not in names:
            path.unlink()
    with ProcessPoolExecutor() as pool:
        for done in [pool.submit(export, figure, folder) for figure in figures]:
            done.result()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]))
