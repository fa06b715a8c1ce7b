"""The page of what to use where: each line of code in its table gives logits a gradient."""

from __future__ import annotations

import re

import pytest
import torch

import ils
from tools.browser import ROOT

PAGE = (ROOT / "book" / "which-estimator.md").read_text("utf-8")
CODE = re.findall(r"^\|[^|]*\| `([^`|]+)` \|", PAGE, re.M)


def loss(z: torch.Tensor) -> torch.Tensor:
    weights = torch.arange(1.0, z.shape[-1] + 1)
    return (z @ weights - 1.2) ** 2


def test_every_row_has_code() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    assert len(CODE) == len(rows) - 2 > 8


@pytest.mark.parametrize("code", CODE)
def test_the_code_gives_a_gradient(code: str) -> None:
    torch.manual_seed(0)
    four, two = (torch.zeros(64, k, requires_grad=True) for k in (4, 2))
    names = {"ils": ils, "torch": torch, "logits": four, "two_logits": two, "loss": loss}
    names |= {"table": torch.randn(4, 3), "values": torch.arange(4.0)}
    found = eval(code, names)
    one_hot = found.shape[-1:] == (4,) and "rsample" not in code
    (loss(found) if one_hot else found).sum().backward()
    gradient = two.grad if "two_logits" in code else four.grad
    assert gradient is not None
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0
