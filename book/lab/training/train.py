"""Train many runs of one method as one tensor program."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

import ils
from ils.estimators import Estimator
from lab.methods.annealed import Annealed
from lab.training.task import Parameters, Stream, Task

__all__ = ["INDEX", "Adam", "Objective", "estimated", "gradients", "train"]

INDEX = ["learning_rate", "seed", "step"]

_LARGEST = 1e6
"""A run fails when a parameter is larger, or not a number."""

Gradients = dict[str, Tensor]
Objective = Callable[[Parameters, Any, torch.Generator], Tensor]
"""Of parameters, a batch and the source of draws; what it returns, ``(R,)``, is differentiated."""


class Adam:
    """Adam with a learning rate for each run: ``torch.optim.Adam`` has one for all.

    Args:
        parameters: ``(R, ...)`` each; changed in place.
        learning_rates: ``(R,)``.
        fixed: learning rates that hold for a parameter in every run instead.
    """

    _BETAS = (0.9, 0.999)
    _EPS = 1e-8

    def __init__(
        self, parameters: Parameters, learning_rates: Tensor, fixed: dict[str, float]
    ) -> None:
        self.parameters = parameters
        self.rates = {
            name: fixed[name] if name in fixed else learning_rates.view(-1, *[1] * (p.dim() - 1))
            for name, p in parameters.items()
        }
        self.first = {name: torch.zeros_like(p) for name, p in parameters.items()}
        self.second = {name: torch.zeros_like(p) for name, p in parameters.items()}
        self.steps = 0

    def step(self, gradients: Gradients) -> None:
        """Change every parameter that has a gradient."""
        self.steps += 1
        fast, slow = self._BETAS
        for name, grad in gradients.items():
            first = self.first[name].lerp_(grad, 1 - fast)
            second = self.second[name].mul_(slow).addcmul_(grad, grad, value=1 - slow)
            root = (second / (1 - slow**self.steps)).sqrt_().add_(self._EPS)
            change = first / root
            change *= self.rates[name]
            self.parameters[name].data.sub_(change, alpha=1 / (1 - fast**self.steps))


def estimated(
    task: Task,
    method: Estimator,
    parameters: Parameters,
    batch: Any,
    generator: torch.Generator,
    draws: int,
) -> Tensor:
    """The objective ``(R,)``, whose gradient for the logits is the mean of ``draws`` estimates."""
    logits = task.logits(parameters, batch)
    # Parameters before the draw get their gradient from the estimator alone.
    behind = {n: p if n in task.decoder else p.detach() for n, p in parameters.items()}
    losses = ils.surrogate(
        method,
        logits,
        lambda z: task.loss(behind, batch, z),
        draws=draws,
        generator=generator,
        batch_dims=logits.dim() - 2,
    )
    objective = losses.reshape(len(logits), -1).mean(-1)
    extra = task.penalty(parameters, batch, logits)
    return objective if extra is None else objective + extra


def gradients(
    task: Task,
    method: Estimator | Objective,
    parameters: Parameters,
    batch: Any,
    generator: torch.Generator,
    draws: int | None = None,
) -> Gradients:
    """The gradient of each run's objective for its parameters, as a method estimates it.

    Args:
        task: the problem.
        method: an estimator, or an objective to be differentiated as it is.
        parameters, batch: of the step.
        generator: of the draws.
        draws: how many estimates are averaged; those of the problem by default.
    """
    names, values = list(parameters), list(parameters.values())
    if isinstance(method, Estimator):
        objective = estimated(task, method, parameters, batch, generator, draws or task.draws)
    else:
        objective = method(parameters, batch, generator)
    found = torch.autograd.grad(objective.sum(), values, allow_unused=True)
    return {name: g for name, g in zip(names, found, strict=True) if g is not None}


def train(
    task: Task,
    method: Estimator | Objective | Annealed[Estimator | Objective],
    *,
    learning_rates: Sequence[float],
    seeds: Sequence[int],
    steps: int,
    split: str,
    records: int | Collection[int] = 20,
    draws: int | None = None,
    copy: int = 0,
    part: float = 1.0,
    device: str = "cpu",
    look: Callable[[int, Parameters], None] | None = None,
    evaluate: Callable[[Parameters, str], dict[str, Tensor]] | None = None,
) -> pd.DataFrame:
    """Train every seed at every learning rate.

    Args:
        task: the problem.
        method: an estimator, an objective to be differentiated as it is, or one that changes.
        learning_rates: of Adam.
        seeds: of initial parameters and data; shared by all methods.
        steps: how many.
        split: on which examples the measures are taken, ``validation`` or ``test``.
        records: how often they are taken after the start, or after which steps.
        draws: how many estimates are averaged; those of the problem by default.
        copy: a number that changes the draws and nothing else.
        part: of the run after which to end; what is measured until then is the same.
        device: where.
        evaluate: takes the measures, in place of the problem.
        look: called with step and parameters ``(R, ...)`` whenever measures are taken.

    Returns:
        Measures, index (learning rate, seed, step).  A run that fails, because a parameter is not
        a number or beyond a million, has measures that are not a number; the others go on.
    """
    runs = [(rate, seed) for rate in learning_rates for seed in seeds]
    stream = Stream([seed for _, seed in runs], device)
    # Of the draws; it need not be shared, as no two methods use their noise in the same way.
    generator = torch.Generator(device).manual_seed(1_000_003 * (1 + copy) + sum(seeds))
    parameters = {name: p.requires_grad_() for name, p in task.start(stream).items()}
    rates = torch.tensor([rate for rate, _ in runs], device=device)
    optimizer = Adam(parameters, rates, dict(task.fixed_rates))
    if isinstance(records, int):
        records = {round(steps * place / records) for place in range(records + 1)}
    rows: dict[tuple[float, int, int], dict[str, float]] = {}
    lost = torch.zeros(len(runs), dtype=torch.bool, device=device)
    last = round(part * steps)
    for step in range(last + 1):
        if step in records:
            with torch.no_grad():
                measured = (evaluate or task.evaluate)(parameters, split)
            found = {k: v.masked_fill(lost, torch.nan).tolist() for k, v in measured.items()}
            if look is not None:
                look(step, {name: p.detach() for name, p in parameters.items()})
            for place, run in enumerate(runs):
                rows[(*run, step)] = {name: values[place] for name, values in found.items()}
        if step < last:
            batch = task.batch(parameters, stream, generator)
            now = method.at(step / steps) if isinstance(method, Annealed) else method
            optimizer.step(gradients(task, now, parameters, batch, generator, draws))
            lost |= _put_aside(parameters)
    index = pd.MultiIndex.from_tuples(rows, names=INDEX)
    return pd.DataFrame(list(rows.values()), index=index)


@torch.no_grad()
def _put_aside(parameters: Parameters) -> Tensor:
    """Which runs have diverged; their parameters become zero, so that they affect no other run."""
    # False for NaN too; beyond this a network's output overflows within a few layers.
    fine = torch.stack([(p.abs() < _LARGEST).flatten(1).all(-1) for p in parameters.values()])
    fine = fine.all(0)
    if not bool(fine.all()):
        for p in parameters.values():
            p[~fine] = 0
    return ~fine
