"""A trace of ``torch.jit`` draws anew, and takes the branches of the values that it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ils import distributions as dist

Draw = Callable[[Tensor], Tensor]

# A draw of a parameter; the values a trace is made with; others, that take other branches.
CASES: dict[str, tuple[Callable[[Tensor], Any], list[float], list[float]]] = {
    "Bernoulli": (lambda v: dist.Bernoulli(v), [0.3, 0.4], [0.0, 0.9]),
    "Binomial": (lambda v: dist.Binomial(7, v), [0.3, 0.4], [1e-9, 1.0]),
    "Geometric": (lambda v: dist.Geometric(v), [0.3, 0.4], [1e-9, 0.9]),
    "NegativeBinomial": (lambda v: dist.NegativeBinomial(7, v), [0.3, 0.4], [0.0, 0.99]),
    "Poisson": (lambda v: dist.Poisson(v), [1.0, 2.0], [1e-9, 1e14]),
    "Normal": (lambda v: dist.Normal(v, v), [1.0, 2.0], [1e-9, 1e14]),
    "Gamma": (lambda v: dist.Gamma(v, v), [1.0, 2.0], [1e-5, 1e14]),
    "Beta": (lambda v: dist.Beta(v, v), [1.0, 2.0], [1e-5, 0.01]),
    "Dirichlet": (lambda v: dist.Dirichlet(v), [1.0, 2.0], [1e-5, 2e-5]),
    "VonMises": (lambda v: dist.VonMises(v, v), [1.0, 2.0], [1e-3, 1e9]),
    "OneHotCategorical": (lambda v: dist.OneHotCategorical(v), [0.3, 0.4], [0.0, 1.0]),
    "Categorical": (lambda v: dist.Categorical(v, weight=torch.eye(2)), [0.3, 0.4], [0.0, 1.0]),
    "MixtureSameFamily": (
        lambda v: dist.MixtureSameFamily(dist.Categorical(v), dist.Normal(v, v + 1)),
        [0.3, 0.4],
        [0.0, 1.0],
    ),
    "Independent": (lambda v: dist.Independent(dist.Poisson(v), 1), [1.0, 2.0], [1e-9, 1e14]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_seed_is_no_generator(name: str) -> None:
    """Every family says so, with what to write."""
    family, at_first, _ = CASES[name]
    with pytest.raises(TypeError, match=r"^generator: expected a torch\.Generator .*got int"):
        family(torch.tensor(at_first)).rsample((2,), generator=0)


def traced(draw: Draw, example: Tensor) -> Any:
    return torch.jit.trace(draw, (example,), check_trace=False)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_a_trace_draws_what_the_program_draws(name: str) -> None:
    family, at_first, then = CASES[name]

    def draw(value: Tensor) -> Tensor:
        return family(value).rsample((50,))

    found: list[tuple[Tensor, Tensor]] = []
    trace = traced(draw, torch.tensor(at_first))
    assert any(node.isNondeterministic() for node in trace.graph.nodes())
    for run in (draw, trace):
        torch.manual_seed(0)
        value = torch.tensor(then, requires_grad=True)
        z = run(value)
        (grad,) = torch.autograd.grad(z.square().sum(), value)
        found.append((z.detach(), grad))
        again = torch.tensor(at_first)
        assert not torch.equal(run(again), run(again)), "a draw is not made anew"
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.filterwarnings("ignore")
def test_a_trace_of_one_angle_rejects_for_as_long_as_it_takes() -> None:
    def draw(kappa: Tensor) -> Tensor:
        return dist.VonMises(torch.zeros(()), kappa).rsample()

    torch.manual_seed(0)
    run, kappa = traced(draw, torch.tensor(50.0)), torch.tensor(1.0)
    for seed in range(100):
        torch.manual_seed(seed)
        wanted = draw(kappa)
        torch.manual_seed(seed)
        assert run(kappa) == wanted
