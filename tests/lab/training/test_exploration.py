"""Exploration as a term of its own: by hand, and by enumeration."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import generator, normal
from torch import Tensor

from ils import estimators
from ils.estimators import from_rule
from ils.rules import ReinMax, StraightThrough
from lab.training import exploration
from lab.training.exploration import with_entropy, with_tempered_draws
from lab.training.task import Stream
from lab.training.tasks import TASKS
from lab.training.train import estimated, gradients


def begun(name: str, count: int = 1) -> tuple:
    task = TASKS[name]
    stream = Stream(range(1, 1 + count))
    parameters = {n: p.double().requires_grad_() for n, p in task.start(stream).items()}
    return task, parameters, task.batch(parameters, stream, generator())


def test_the_entropy_fades() -> None:
    """Its weight is whole at the first step, half in the middle and nothing at the end."""
    task, parameters, batch = begun("bits", 3)
    parameters = {"logits": normal(3, 4, 1, 2, seed=1).requires_grad_()}
    method = with_entropy(task, estimators.reinmax(), 1, 0.7)

    def value(part: float) -> torch.Tensor:
        return method.at(part)(parameters, batch, generator(5))

    plain = estimated(task, estimators.reinmax(), parameters, batch, generator(5), 1)
    probs = parameters["logits"].softmax(-1)
    entropy = -(probs * probs.log()).sum(-1).mean((1, 2))
    torch.testing.assert_close(value(1.0), plain)
    torch.testing.assert_close(value(0.0), plain - 0.7 * entropy)
    torch.testing.assert_close(value(0.5), plain - 0.35 * entropy)


def test_tempered_draws_at_temperature_one_are_plain_draws() -> None:
    """The same gradient as without weights, number for number, of the same draws."""
    task, parameters, batch = begun("bits", 2)
    rule = StraightThrough(2.0)
    tempered = with_tempered_draws(task, rule, 1.0)
    found = gradients(task, tempered, parameters, batch, generator(1))
    wanted = gradients(task, from_rule(rule), parameters, batch, generator(1), 1)
    torch.testing.assert_close(found["logits"], wanted["logits"])


def test_tempered_draws_keep_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Summed over both draws with their tempered probabilities: the exact gradient of one bit.

    ReinMax is exact for its parabola; without the weights the sum is another one.
    """
    task = TASKS["bits"]
    logits = torch.tensor([[0.0, 1.0], [2.0, 0.0], [0.3, 0.0], [0.0, 0.0]], dtype=torch.float64)
    logits = logits.reshape(1, 4, 1, 2)
    exact = gradient(task.own["exact gradient"].objective, logits, None, 0.0)
    temperature = 3.0
    warm = (logits / temperature).softmax(-1)
    objective = with_tempered_draws(task, ReinMax(), temperature)
    found, unweighted = torch.zeros_like(logits), torch.zeros_like(logits)
    for k in range(2):
        index = torch.full((1, *logits.shape[:-1]), k)
        monkeypatch.setattr(exploration, "draw_index", lambda *_, index=index: index)
        part = gradient(objective, logits, None, torch.Generator())
        found += warm[..., k : k + 1] * part
        unweighted += warm[..., k : k + 1] ** 2 / logits.softmax(-1)[..., k : k + 1] * part
    torch.testing.assert_close(found, exact, rtol=1e-12, atol=1e-14)
    assert float((unweighted - exact)[:, :2].abs().min()) > 1e-3


def gradient(objective: Any, logits: Tensor, *rest: Any) -> Tensor:
    """Of an objective, for logits that are the parameters."""
    leaf = logits.clone().requires_grad_()
    (found,) = torch.autograd.grad(objective({"logits": leaf}, *rest).sum(), leaf)
    return found
