"""Distributions whole under ``torch.compile``: apart, as planted errors cannot be compiled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from drop_in import Family, some_families, update
from torch import Tensor

pytestmark = pytest.mark.unmoved


@pytest.fixture(autouse=True)
def _checks_stay() -> Iterator[None]:
    """PyTorch's compiler turns the checks of distributions off, for the whole process."""
    yield
    torch.distributions.Distribution.set_default_validate_args(__debug__)


@some_families("Bernoulli", "Poisson", "NegativeBinomial", "Gamma", "Dirichlet")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_compiles(family: Family) -> None:
    """The draw traces in one graph, and has the gradient of eager code after the same draw."""
    names = list(family.maps)

    def draw(*values: Tensor) -> Tensor:
        return family.ours(**dict(zip(names, values, strict=True)), validate_args=False).rsample()

    torch.compiler.reset()
    leaves = family.leaves(50)
    z = torch.compile(draw, backend="aot_eager", fullgraph=True)(*leaves.values())
    q = family.ours(**leaves)
    assert bool(q.support.check(z.detach()).all())
    assert len(z.detach().unique()) > 1
    wanted = update(q._carry(z.detach()), leaves)
    for name, found in update(z, leaves).items():
        assert torch.allclose(found, wanted[name], rtol=1e-10, atol=1e-12)
    torch.compiler.reset()
