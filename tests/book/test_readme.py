"""The front page: its numbers are those of the notebooks, its example runs, its names exist."""

from __future__ import annotations

import json
import pkgutil
import re
from pathlib import Path

import pytest
import torch

from tools.browser import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| [^|]+ \| ([^|]+) \| `(book/[\w-]+\.ipynb)` <!-- ([\w ]+) --> \|$", re.M)
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def glued(path: Path) -> dict[str, str]:
    """What a notebook's outputs record, by key."""
    outputs = [
        output
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        for output in cell.get("outputs", [])
        if "scrapbook" in output.get("metadata", {})
    ]
    key = "application/papermill.record/text/plain"
    return {o["metadata"]["scrapbook"]["name"]: "".join(o["data"][key]) for o in outputs}


def wrong(text: str) -> list[str]:
    """The results of the table that are not, number by number, what their notebooks glue."""
    found = []
    for result, path, keys in ROW.findall(text):
        values = glued(ROOT / path)
        if NUMBER.findall(result) != NUMBER.findall(" ".join(values[key] for key in keys.split())):
            found.append(result)
    return found


def test_each_result_is_a_notebooks() -> None:
    """All rows of the table name their keys, and no digit of a result can change unseen."""
    table = README.partition("## Some results")[2].partition("##")[0]
    rows = ROW.findall(table)
    assert len(rows) == table.count("\n| ") - 1 > 4
    assert wrong(README) == []
    for result, _, _ in rows:
        last = NUMBER.findall(result)[-1]
        changed = result.replace(last, f"{last[:-1]}{(int(last[-1]) + 1) % 10}")
        assert wrong(README.replace(f"| {result} |", f"| {changed} |")) == [changed]


@pytest.mark.parametrize("seed", range(8))
def test_example(seed: int) -> None:
    """The lines as they stand: the gradient after the draw is ReinMax's, by its formula."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    logits = torch.tensor([0.2, -0.5, 1.0], dtype=torch.float64, requires_grad=True)
    slope = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    names = {"logits": logits, "loss": lambda z: (slope * z).sum()}
    torch.manual_seed(seed)
    exec(code, names)
    z, p = names["z"].detach(), logits.detach().softmax(0)
    assert sorted(z.tolist()) == [0, 0, 1]
    # Half of p (g - g_z), and for the drawn category half of g_z - <p, g> more.
    expected = (p * (slope - z @ slope) + z * (z @ slope - p @ slope)) / 2
    torch.testing.assert_close(logits.grad, expected)


def test_names_exist() -> None:
    names = set(re.findall(r"`(?:rule=)?(ils(?:\.\w+)+)", README)) - {"ils.pyro"}
    assert len(names) > 5
    for name in names:
        pkgutil.resolve_name(name)
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    asked = set(re.findall(r"(?:`|^)make ([a-z-]+)", README, re.M))
    assert asked - {"help"} <= set(targets)
    paths = re.findall(r"`((?:book|tests|tools|ils)/[\w./-]*|[A-Z][\w.-]+)`", README)
    assert [path for path in paths if not (ROOT / path).exists()] == []
