"""IndeCateR by enumeration: no bias, what it is a mean of, and how often it evaluates."""

from __future__ import annotations

import pytest
import torch
from cases import close, cubic_loss, eye, normal
from torch import Tensor

from ils import exact
from ils.estimators import leave_one_out, score_function
from lab.methods.indecater import indecater
from lab.training.task import Stream
from lab.training.tasks import TASKS
from lab.training.train import gradients

each_shape = pytest.mark.parametrize("shape", [(4,), (1, 3), (3, 2), (2, 3, 3), (2, 2, 2, 2)])


def case(shape: tuple[int, ...], seed: int = 1) -> tuple[Tensor, exact.Loss, int]:
    """Logits, a loss of all axes but the first of more than two, and how many variables."""
    own = shape[1:] if len(shape) > 2 else shape
    loss = cubic_loss(normal(*own, seed=seed + 1), len(own))
    return normal(*shape, seed=seed), loss, torch.Size(own[:-1]).numel()


@each_shape
def test_no_bias(shape: tuple[int, ...]) -> None:
    """The mean over all draws is the gradient; of one variable every draw gives it."""
    logits, loss, variables = case(shape)
    found = exact.moments(indecater(variables, shape[-1]), loss, logits)
    assert found.bias.abs().max() < 1e-12 * (1 + found.gradient.abs().max())
    assert found.gradient.abs().max() > 0.1
    # False: of several variables too.
    assert bool((found.variance < 1e-12).all()) is (variables == 1)


def test_it_is_the_mean_of_reinforce_given_the_others() -> None:
    """Variable by variable, and so its variance is not larger, for any baseline."""
    logits, loss, _ = case((2, 3))
    z = eye(3)
    for other in range(3):
        pairs = torch.stack([z, z[other].expand(3, 3)], 1)
        found = indecater(2, 3).formula(logits, pairs, loss)[:, 0]
        for baseline in (0.0, 2.0):
            plain = score_function(baseline=baseline).formula(logits, pairs, loss)[:, 0]
            wanted = logits[0].softmax(-1) @ plain
            assert close(found, wanted.expand(3, 3), 1e-12)
            # False: it is that of every draw.
            assert not close(found, plain, 1e-2)
    least = exact.moments(indecater(2, 3), loss, logits).variance
    for more in (score_function(baseline=2.0), leave_one_out()):
        assert least < exact.moments(more, loss, logits).variance


def test_calls_and_masks() -> None:
    """As many evaluations as said, none of a masked category, whose estimate is zero."""
    logits, plain, _ = case((2, 2, 3))
    logits[:, 0, 1] = -torch.inf
    seen = 0

    def loss(z: Tensor) -> Tensor:
        nonlocal seen
        seen += len(z)
        assert not z[..., 0, 1].any()
        return plain(z)

    estimator = indecater(2, 3)
    found = estimator(logits, loss, draws=5, generator=torch.Generator().manual_seed(1))
    assert seen == 5 * estimator.evaluations == 30
    assert not found[:, :, 0, 1].any()
    moments = exact.moments(estimator, plain, logits)
    assert moments.bias.abs().max() < 1e-12


@pytest.mark.parametrize("name", ["bits", "bandit", "experts", "polynomial-2-p2"])
def test_where_it_is_the_exact_gradient(name: str) -> None:
    """Of one variable, or of several whose loss is a sum, at every draw."""
    task = TASKS[name]
    stream, noise = Stream([1, 2]), torch.Generator().manual_seed(0)
    parameters = task.start(stream)
    batch = task.batch(parameters, stream, noise)
    batch = batch and type(batch)(*(x.double() for x in batch))
    parameters = {n: p.double().requires_grad_() for n, p in parameters.items()}
    own = task.own["exact gradient"].objective(parameters, batch, 0.0).sum()
    # What lies behind the draw learns at the draw.
    before = [n for n in parameters if n not in task.decoder]
    wanted = torch.autograd.grad(own, [parameters[n] for n in before])
    estimator = indecater(task.variables, task.categories)
    # False: so is leave-one-out.
    for method, same in ((estimator, True), (leave_one_out(), False)):
        found = gradients(task, method, parameters, batch, noise)
        pairs = zip(before, wanted, strict=True)
        assert all(close(found[n], one, 1e-10) for n, one in pairs) is same
