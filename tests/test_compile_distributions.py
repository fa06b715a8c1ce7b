"""Distributions whole under ``torch.compile``: apart, as planted errors cannot be compiled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from cases import normal
from drop_in import Family, some_families, update
from rules import rule_of
from torch import Tensor

import ils
from ils import distributions

pytestmark = pytest.mark.unmoved


@pytest.fixture(autouse=True)
def _checks_stay() -> Iterator[None]:
    """PyTorch's compiler turns the checks of distributions off, for the whole process."""
    torch.distributions.Distribution.set_default_validate_args(False)
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


def rows(**given: Any) -> Tensor:
    """Draws of a Categorical with a table."""
    return distributions.Categorical(**given, weight=torch.eye(3).double()).rsample()


def hot(**given: Any) -> Tensor:
    """One-hot draws."""
    return distributions.OneHotCategorical(**given).rsample()


@pytest.mark.parametrize("by", ["probs", "logits"])
@pytest.mark.parametrize("make", [hot, rows])
@pytest.mark.parametrize("step", [None, 0.3])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_categories_compile(make: Any, by: str, step: float | None) -> None:
    """Made inside one graph they draw, with the gradient of the operator after the same draw."""

    def draw(value: Tensor) -> Tensor:
        return make(**{by: value}, rule=rule_of({"step_size": step}), validate_args=False)

    torch.compiler.reset()
    value = normal(50, 3, seed=1)
    value = (value.softmax(-1) if by == "probs" else value).requires_grad_()
    z = torch.compile(draw, backend="aot_eager", fullgraph=True)(value)
    assert torch.equal(z.detach().sum(-1), torch.ones(50).double())
    assert len(z.detach().argmax(-1).unique()) == 3
    q = distributions.OneHotCategorical(**{by: value})
    again = ils.differentiable_draw(q.logits, z.detach(), rule=rule_of({"step_size": step}))
    g = normal(50, 3, seed=2)
    found, wanted = (torch.autograd.grad((x * g).sum(), value)[0] for x in (z, again))
    assert torch.allclose(found, wanted, rtol=1e-10, atol=1e-12)
    assert found.abs().max() > 1e-3
    torch.compiler.reset()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_integers_and_mixtures_compile() -> None:
    """So do a Categorical of integers and a mixture over one, which have no class of a draw."""

    def draw(logits: Tensor) -> tuple[Tensor, Tensor]:
        q = distributions.Categorical(logits=logits, validate_args=False)
        points = distributions.Normal(torch.arange(3.0).double(), torch.ones(3).double())
        mixture = distributions.MixtureSameFamily(q, points, validate_args=False)
        return q.sample(), mixture.rsample()

    torch.compiler.reset()
    logits = normal(50, 3, seed=1).requires_grad_()
    index, z = torch.compile(draw, backend="aot_eager", fullgraph=True)(logits)
    assert sorted(index.unique().tolist()) == [0, 1, 2]
    (found,) = torch.autograd.grad((z**2).sum(), logits)
    assert bool(found.isfinite().all())
    assert found.abs().max() > 1e-3
    torch.compiler.reset()
