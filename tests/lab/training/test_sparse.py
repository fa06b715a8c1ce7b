"""SparseMixer by enumeration, in float64: every draw and factor, on any loss and in the problem."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from cases import close, normal
from torch import Tensor

from ils import exact
from lab.training.task import Parameters, Stream
from lab.training.tasks.experts import Experts
from lab.training.tasks.sparse import FORMS, SparseExperts, multiplier

TASK = SparseExperts()
POWERS: dict[int, Callable[[Tensor], Tensor]] = {
    power: lambda s, power=power: (s - 0.3) ** power + 0.5 * s for power in (1, 2, 3, 4)
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("power", POWERS)
def test_rule(name: str, power: int) -> None:
    """The midpoint rule is exact for quadratics, Heun's for cubics, and neither for more."""
    form, g = FORMS[name], POWERS[power]
    logits, outputs = normal(5, seed=1).requires_grad_(), normal(5, seed=2) * 3
    probs = logits.softmax(-1)
    found = torch.zeros(5, dtype=torch.float64)
    for low, weight in ((True, form.share), (False, 1 - form.share)):
        factor = multiplier(form, probs, torch.full((5,), low))
        objective = (probs.detach() * g(factor * outputs)).sum()
        found += weight * torch.autograd.grad(objective, logits, retain_graph=True)[0]
    # The second version estimates the draw's part alone: the factor is held constant.
    held = probs if name == "SparseMixer" else probs.detach()
    wanted = torch.autograd.grad((probs * g(held * outputs)).sum(), logits)[0]
    assert close(found, wanted, 1e-10) is (power <= (2 if name == "SparseMixer" else 3))
    assert close(found, wanted, 1e-3) is (power <= (2 if name == "SparseMixer" else 3))


def one_example() -> tuple[Parameters, tuple[Tensor, Tensor], Tensor]:
    """Parameters of three runs in float64, one example of each, and its probabilities."""
    stream = Stream([1, 2, 3])
    parameters = {n: p.double().requires_grad_() for n, p in TASK.start(stream).items()}
    batch = TASK.batch(parameters, stream, torch.Generator().manual_seed(0))
    x, y = batch.x[:, :1].double(), batch.y[:, :1].double()
    probs = TASK.logits(parameters, batch._replace(x=x)).squeeze(-2).softmax(-1)
    return parameters, (x, y), probs


@pytest.mark.parametrize("name", FORMS)
def test_expected_gradient(name: str) -> None:
    """In the problem, over all draws and factors: exact up to what the likeliest expert is given.

    The loss is quadratic, so the rules are exact; the likeliest expert's slope at the end in place
    of the rule adds its squared output times the derivative of its probability.
    """
    form = FORMS[name]
    parameters, (x, y), probs = one_example()
    batch = TASK.batch(parameters, Stream([1, 2, 3]), torch.Generator())
    bounds = probs.detach().cumsum(-1)
    middles = bounds - probs.detach() / 2
    router = [parameters[n] for n in TASK.decoder if n.startswith("router")]
    found = [torch.zeros_like(p) for p in router]
    for expert in range(TASK.categories):
        for coin, weight in ((form.share / 2, form.share), ((1 + form.share) / 2, 1 - form.share)):
            given = batch._replace(x=x, y=y, uniform=middles[..., expert], coin=y * 0 + coin)
            objective = TASK.own[name].objective(parameters, given, 0.0)
            weighted = (weight * probs[:, 0, expert].detach() * objective).sum()
            for total, grad in zip(found, torch.autograd.grad(weighted, router), strict=True):
                total += grad
    outputs = TASK._outputs(parameters, x)[1]
    errors = (outputs - y.unsqueeze(-1)) ** 2
    held = errors if name == "SparseMixer" else errors.detach()
    likeliest = probs.argmax(-1, keepdim=True)
    extra = (outputs.detach() ** 2 * probs).gather(-1, likeliest)
    penalty = TASK.penalty(parameters, batch, TASK.logits(parameters, batch._replace(x=x)))
    assert penalty is not None
    plain = (probs * held).sum() + penalty.sum()
    wanted = torch.autograd.grad(plain + extra.sum(), router, retain_graph=True)
    unmoved = torch.autograd.grad(plain, router)
    assert all(close(*pair, 1e-10) for pair in zip(found, wanted, strict=True))
    # False: without what the likeliest expert is given.
    assert not all(close(*pair, 1e-3) for pair in zip(found, unmoved, strict=True))


def test_the_drawn_expert_alone() -> None:
    """No other has a gradient; that of the drawn one has the lower factor or its probability."""
    parameters, (x, y), probs = one_example()
    batch = TASK.batch(parameters, Stream([1, 2, 3]), torch.Generator().manual_seed(5))
    given = batch._replace(x=x, y=y, uniform=batch.uniform[:, :1], coin=batch.coin[:, :1])
    probs = probs.detach()[:, 0]
    drawn = (probs.cumsum(-1) > given.uniform.double()).double().argmax(-1)
    runs = torch.arange(3)
    for name, form in FORMS.items():
        objective = TASK.own[name].objective(parameters, given, 0.0)
        (grad,) = torch.autograd.grad(objective.sum(), parameters["experts.bias"])
        weight, bias = (parameters[f"experts.{kind}"].detach() for kind in ("weight", "bias"))
        low = (given.coin[:, 0] < form.share) & (drawn != probs.argmax(-1))
        assert low.any()
        assert not low.all()
        factor = probs[runs, drawn] * (1 - low.double() * (1 - form.low))
        output = (x[:, 0] * weight[runs, :, drawn]).sum(-1) + bias[runs, drawn]
        wanted = torch.zeros_like(grad)
        wanted[runs, drawn] = 2 * factor * (factor * output - y[:, 0])
        assert close(grad, wanted, 1e-10)


def test_measure() -> None:
    """The expectation over the experts, and the likeliest, with the plain probability."""
    stream = Stream([1, 2])
    parameters = TASK.start(stream)
    found = TASK.evaluate(parameters, "test")
    batch = TASK.batch(parameters, stream, torch.Generator().manual_seed(0))
    logits = TASK.logits(parameters, batch)
    expected = exact.expectation(lambda z: TASK.loss(parameters, batch, z), logits).mean(-1)
    penalty = TASK.penalty(parameters, batch, logits)
    objective = TASK.own["exact gradient"].objective(parameters, batch, 0.0)
    torch.testing.assert_close(objective, expected + penalty)
    # With a router that is certain it is the same model as with the output alone.
    assert not torch.allclose(
        found[TASK.measure], Experts().evaluate(parameters, "test")[TASK.measure]
    )
    parameters["router2.bias"][:, 3] = 1e3
    found, other = (task.evaluate(parameters, "test") for task in (TASK, Experts()))
    for name in other:
        torch.testing.assert_close(found[name], other[name])
