"""The files of figures come out of committed notebooks, and nothing is computed for them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pikepdf
import pytest
from PIL import Image

from tools.browser import ROOT
from tools.export_figures import export, main, published

NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
SMALL = ROOT / "book" / "invariance.ipynb"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_figures_of_the_book_are_whole(notebook: Path) -> None:
    """Each has its drawing and the data that belong to it."""
    for figure in published(notebook):
        assert figure.csv.count("\n") > 1


def test_files(tmp_path: Path) -> None:
    """Vector and pixels have the size and the colours of the drawing, and what is old goes."""
    (tmp_path / "fig-gone.svg").write_text("")
    (tmp_path / "fig-gone-small.png").write_text("")
    assert main(tmp_path, [SMALL]) == 0
    (figure,) = published(SMALL)
    names = {f"{figure.name}{end}" for end in (".svg", ".pdf", ".png", ".csv", "-small.png")}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert (tmp_path / f"{figure.name}.svg").read_text(encoding="utf-8") == figure.svg
    assert (tmp_path / f"{figure.name}.csv").read_text(encoding="utf-8") == figure.csv
    size = [float(x) for x in re.findall(r' (?:width|height)="([\d.]+)pt"', figure.svg)]
    with pikepdf.open(tmp_path / f"{figure.name}.pdf") as pdf:
        (page,) = pdf.pages
        box = [float(x) for x in page.mediabox]
    assert box[2:] == pytest.approx(size, rel=0.01)
    for end, dots in ((".png", 200), ("-small.png", 45)):
        with Image.open(tmp_path / f"{figure.name}{end}") as picture:
            assert picture.mode == "RGB"
            assert picture.size == pytest.approx([x * dots / 72 for x in size], abs=2)
            darkest, lightest = picture.convert("L").getextrema()
            assert darkest < 100
            assert lightest == 255


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    """Another drawing is; an export that broke off has no drawing, and is begun anew."""
    (figure,) = published(SMALL)
    export(figure, tmp_path)
    pdf, svg = (tmp_path / f"{figure.name}.{kind}" for kind in ("pdf", "svg"))
    pdf.write_bytes(b"kept")
    export(figure, tmp_path)
    assert pdf.read_bytes() == b"kept"
    svg.unlink()
    export(figure, tmp_path)
    assert pdf.read_bytes() != b"kept"


def changed(folder: Path, change: Any) -> Path:
    """The notebook after a change of the output that shows its figure."""
    notebook = json.loads(SMALL.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if "image/svg+xml" in output.get("data", {}):
                change(output["data"])
    path = folder / "changed.ipynb"
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.pop("image/svg+xml"), "expected one drawing, found 0"),
        (lambda data: data.pop("text/csv"), "the drawing has no data beside it"),
        (lambda data: data["text/csv"].append("9,9\n"), "do not belong together"),
        (lambda data: data.update({"image/svg+xml": "<svg/>"}), "do not belong together"),
    ],
)
def test_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, message: str
) -> None:
    """What is wrong is named with notebook and figure, and nothing is written."""
    path = changed(tmp_path, change)
    folder = tmp_path / "figures"
    assert main(folder, [path]) == 1
    said = capsys.readouterr().err
    assert "changed.ipynb, fig-loss-factor" in said
    assert message in said
    assert not folder.exists()
