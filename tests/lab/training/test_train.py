"""The trainer: its gradients against autograd and enumeration, its optimiser against PyTorch's."""

from __future__ import annotations

import copy
from typing import Any

import pandas as pd
import pytest
import torch
from cases import normal
from torch import Tensor

from ils import estimators, exact
from ils.estimators.estimator import Estimator
from ils.estimators.randomness import Draw
from lab.methods.annealed import Annealed
from lab.training.protocol import Entry, Training, entries, method_of
from lab.training.task import Parameters, Stream, Task, linear
from lab.training.tasks import PUBLISHED, TASKS
from lab.training.tasks.autoencoder import Autoencoder
from lab.training.tasks.experts import Experts
from lab.training.tasks.sparse import SparseExperts
from lab.training.train import Adam, gradients, train

SMALL = Autoencoder(3, 2, widths=(5,), examples=4)


def begun(task: Task, seeds: tuple[int, ...] = (1, 2)) -> tuple[Parameters, Any, torch.Generator]:
    """Parameters in float64, and a batch."""
    stream, generator = Stream(seeds), torch.Generator().manual_seed(0)
    parameters = {n: p.double().requires_grad_() for n, p in task.start(stream).items()}
    batch = task.batch(parameters, stream, generator)
    make = getattr(type(batch), "_make", tuple)
    return parameters, make(x.double() for x in batch), generator


def fixed(estimator: Estimator, z: Tensor) -> Estimator:
    """The estimator at draws ``(D, *logits.shape)`` that are given."""

    class Given:
        joint = False

        def sample(self, *_: object) -> Tensor:
            return z

    return Estimator(
        estimator.name, estimator.formula, Given(), 1, estimator.biased, estimator.differentiates
    )


@pytest.mark.parametrize(
    "task", [SMALL, Experts(), SparseExperts()], ids=["vae", "experts", "experts-sparse"]
)
def test_expected_gradient(task: Task) -> None:
    """Over all draws an unbiased method has the gradient of the exact objective.

    For every parameter: those before the draw by the estimator, those after it by the loss.
    """
    parameters, batch, generator = begun(task)
    objective = task.own["exact gradient"].objective(parameters, batch, 0.0)
    wanted = torch.autograd.grad(objective.sum(), list(parameters.values()))
    logits = task.logits(parameters, batch).detach()
    probs = logits.softmax(-1)
    found = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for z in exact.states(logits[0, 0]):
        every = z.expand_as(logits).unsqueeze(0)
        # Weights of the state differ from example to example: put them into the loss.
        weight = (probs * z).sum(-1).prod(-1)
        weighted = _Weighted(task, weight)
        method = fixed(estimators.score_function(), every)
        for name, grad in gradients(weighted, method, parameters, batch, generator).items():
            found[name] += grad
    penalty = task.penalty(parameters, batch, task.logits(parameters, batch))
    rest = torch.autograd.grad(penalty.sum(), list(parameters.values()), allow_unused=True)
    for name, exactly, extra in zip(parameters, wanted, rest, strict=True):
        expected = exactly if extra is None else exactly - extra
        torch.testing.assert_close(found[name], expected, rtol=1e-9, atol=1e-10)


class _Weighted(Task):
    """A task whose loss is weighted example by example, and which has no penalty."""

    def __init__(self, task: Task, weight: Tensor) -> None:
        self.task, self.weight = task, weight
        self.draws, self.decoder = 1, task.decoder

    def logits(self, parameters: Parameters, batch: Any) -> Tensor:
        return self.task.logits(parameters, batch)

    def loss(self, parameters: Parameters, batch: Any, z: Tensor) -> Tensor:
        return self.weight * self.task.loss(parameters, batch, z)


def test_pathwise_gradient() -> None:
    """Straight-through by the trainer is straight-through by autograd, in a single pass."""
    parameters, batch, generator = begun(SMALL)
    logits = SMALL.logits(parameters, batch)
    z = Draw().sample(logits.detach(), 1, torch.Generator().manual_seed(3), 0)
    probs = logits.softmax(-1)
    attached = (z[0] - probs).detach() + probs
    objective = SMALL.loss(parameters, batch, attached.unsqueeze(0)).mean((0, -1))
    objective = objective + SMALL.penalty(parameters, batch, logits)
    wanted = torch.autograd.grad(objective.sum(), list(parameters.values()))
    method = fixed(estimators.straight_through(), z)
    found = gradients(SMALL, method, parameters, batch, generator)
    for name, expected in zip(parameters, wanted, strict=True):
        torch.testing.assert_close(found[name], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["straight-through", "REINFORCE", "REBAR", "Gumbel-Softmax"])
def test_gradient_behind_the_draw(name: str) -> None:
    """The decoder learns from the hard draws an estimator evaluates; from relaxed ones if none."""
    parameters, batch, generator = begun(SMALL)
    seen: list[Tensor] = []

    class Watched(Autoencoder):
        def loss(self, parameters: Parameters, batch: Any, z: Tensor) -> Tensor:
            seen.append(z.detach())
            return super().loss(parameters, batch, z)

    task = Watched(3, 2, widths=(5,), examples=4)
    made, draws = method_of(task, name, 1.0, 4)
    found = gradients(task, made, parameters, batch, generator, draws)
    hard = [z for z in seen if bool(((z == 0) | (z == 1)).all())]
    at = hard[0] if hard else seen[0]
    assert bool(hard) == (name != "Gumbel-Softmax")
    leaves = [parameters[n] for n in task.decoder]
    objective = Autoencoder.loss(task, parameters, batch, at).mean((0, -1)).sum()
    wanted = torch.autograd.grad(objective, leaves)
    for name_, expected in zip(task.decoder, wanted, strict=True):
        torch.testing.assert_close(found[name_], expected, rtol=1e-9, atol=1e-12)


def test_adam() -> None:
    """Each run of the batch follows PyTorch's Adam at its own rate; fixed rates hold for all."""
    start = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rates = torch.tensor([0.1, 0.01, 0.3], dtype=torch.float64)
    mine = {"a": start.clone(), "b": start.clone()}
    optimizer = Adam(mine, rates, {"b": 0.05})
    theirs = [{n: p.clone().requires_grad_() for n in "ab"} for p in start]
    others = [
        torch.optim.Adam([{"params": p["a"], "lr": float(rate)}, {"params": p["b"], "lr": 0.05}])
        for p, rate in zip(theirs, rates, strict=True)
    ]
    for step in range(20):
        optimizer.step({n: torch.sin(p + step) for n, p in mine.items()})
        for run, other in zip(theirs, others, strict=True):
            for p in run.values():
                p.grad = torch.sin(p.detach() + step)
            other.step()
    for n, found in mine.items():
        wanted = torch.stack([run[n].detach() for run in theirs])
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=0)


def test_runs_share_nothing() -> None:
    """A run's data and start are those of its seed, whatever else is in the batch."""
    task = TASKS["experts"]
    alone, together = Stream([5]), Stream([4, 5, 4])
    first, second = task.start(alone), task.start(together)
    assert all(torch.equal(first[name][0], second[name][1]) for name in first)
    assert all(torch.equal(second[name][0], second[name][2]) for name in first)
    one, several = (task.batch({}, s, torch.Generator()) for s in (alone, together))
    assert torch.equal(one.x[0], several.x[1])
    assert torch.equal(several.y[0], several.y[2])
    assert not torch.equal(several.y[0], several.y[1])


@pytest.mark.parametrize("name", ["experts", "control"])
def test_a_failing_run_leaves_the_others(name: str) -> None:
    """A run that explodes ends without a measure, and its neighbour as if it had been alone."""
    task, method = TASKS[name], estimators.identity()
    options = {"seeds": [1], "steps": 30, "split": "validation", "records": 1}
    rate = task.rates[0]
    table = train(task, method, learning_rates=[1e38, rate], **options)
    other = train(task, method, learning_rates=[1.0, rate], **options)
    assert table.xs(1e38, level="learning_rate").isna().iloc[-1].all()
    fine = table.xs(rate, level="learning_rate")
    assert fine.notna().all(axis=None)
    pd.testing.assert_frame_equal(fine.iloc[:1], other.xs(rate, level="learning_rate").iloc[:1])


def test_layers() -> None:
    """A layer for each run, on examples and on draws of examples."""
    x, weight, bias = normal(5, 2, 6, 3, seed=1), normal(2, 3, 4, seed=2), normal(2, 4, seed=3)
    parameters = {"a.weight": weight, "a.bias": bias}
    wanted = torch.stack([x[:, r] @ weight[r] + bias[r] for r in range(2)], 1)
    torch.testing.assert_close(linear(parameters, "a", x), wanted)
    torch.testing.assert_close(linear(parameters, "a", x[0]), wanted[0])


@pytest.mark.parametrize("name", [name for name in TASKS if name not in PUBLISHED])
def test_every_method_takes_a_step(name: str) -> None:
    """Finite gradients of the parameters' shapes, for as many evaluations as the budget says."""
    task, seen = TASKS[name], []

    def loss(parameters: Parameters, batch: Any, z: Tensor) -> Tensor:
        seen.append(len(z))
        return type(task).loss(task, parameters, batch, z)

    watched = copy.copy(task)
    object.__setattr__(watched, "loss", loss)
    stream, generator = Stream([1, 2]), torch.Generator().manual_seed(0)
    parameters = {n: p.requires_grad_() for n, p in task.start(stream).items()}
    for entry in entries([name]):
        batch = task.batch(parameters, stream, generator)
        made, draws = entry.at(entry.settings[0])
        made = made.at(0.5) if isinstance(made, Annealed) else made
        seen.clear()
        found = gradients(watched, made, parameters, batch, generator, draws)
        assert found, entry
        for parameter, grad in found.items():
            assert grad.shape == parameters[parameter].shape, entry
            assert grad.isfinite().all(), entry
        # The loss of a subset is given, and FSQ has no codes.
        given = {"b"} if name == "subset" else {"codes"} if entry.method == "FSQ" else set()
        assert set(found) == set(parameters) - given, entry
        if entry.method not in task.own:
            total = task.draws * entry.budget
            # REBAR has three an estimate, which do not fill four or sixteen.
            assert sum(seen) == (total - total % 3 if entry.method == "REBAR" else total), entry


def test_own_measure() -> None:
    """A method with a forward pass of its own is measured by it."""
    task = TASKS["codebook"]
    evaluate = task.own["FSQ"].evaluate
    assert evaluate is not None
    wanted = evaluate(task.start(Stream([1])), "test")[task.measure]
    table = Training(Entry("codebook", "FSQ"), 0.0, (0.01,), (1,), 0, "test", records=1)()
    assert table[task.measure].iloc[0] == pytest.approx(float(wanted))
