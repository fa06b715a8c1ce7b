"""What the page of estimators adds to the code is complete and true."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from _ext.estimator_index import FIRST, checked_in, needs
from lab.methods.catalogue import Method
from lab.show.equations import EQUATIONS

ROOT = Path(__file__).resolve().parents[2]


def test_every_estimator_has_an_equation() -> None:
    """And no other."""
    assert set(EQUATIONS) == set(FIRST)


@pytest.mark.parametrize("method", FIRST.values(), ids=lambda method: method.factory)
def test_row_tells_the_truth(method: Method) -> None:
    """The file of tests names it; the derivative is taken inside the simplex only where told."""
    assert method.factory in (ROOT / checked_in(method)).read_text(encoding="utf-8")
    estimator, logits = method.make(method.default), torch.zeros(1, 2 if method.binary else 3)
    inside = False

    def watched(z: Tensor) -> Tensor:
        nonlocal inside
        inside |= z.requires_grad and bool((z.detach() * (1 - z.detach())).any())
        return (z.cumsum(-1) ** 2).sum((-1, -2))

    estimator(logits, watched, draws=5, batch_dims=0)
    assert inside == any("inside" in need for need in needs(method, estimator))
