"""Exploration as a term of its own, apart from the estimator of the gradient.

*Entropy*: the objective less ``weight`` times the mean entropy of a variable's distribution, by the
exact gradient; the weight falls linearly to zero at the end of the training, so that the objective
is the stated one there.

*Tempered draws*: draws from ``softmax(logits / temperature)``, each with the ratio of its
probabilities as a weight, for the encoder and for what lies behind the draw: the objective stays
the stated one, and rare categories are drawn more often.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ils import differentiable_draw
from ils.draw import draw_index, one_hot
from ils.estimators import Estimator
from ils.rules import Rule
from lab.methods.annealed import Annealed
from lab.training.task import Parameters, Task
from lab.training.train import Objective, estimated

__all__ = ["with_entropy", "with_tempered_draws"]


def with_entropy(
    task: Task, method: Estimator | Objective, draws: int, weight: float
) -> Annealed[Objective]:
    """A method whose objective has an entropy term that fades.

    Args:
        task: the problem.
        method: an estimator or an objective.
        draws: how many estimates are averaged.
        weight: of the mean entropy of a variable, in the units of the loss, at the first step.
    """

    def at(part: float) -> Objective:
        def objective(parameters: Parameters, batch: Any, generator: torch.Generator) -> Tensor:
            found = (
                estimated(task, method, parameters, batch, generator, draws)
                if isinstance(method, Estimator)
                else method(parameters, batch, generator)
            )
            log_probs = task.logits(parameters, batch).log_softmax(-1)
            entropy = -(log_probs.exp() * log_probs).sum(-1)
            return found - weight * (1 - part) * entropy.flatten(1).mean(-1)

        return objective

    return Annealed(at)


def with_tempered_draws(task: Task, rule: Rule, temperature: float) -> Objective:
    """A rule at draws of another temperature, with their weights.

    Args:
        task: the problem.
        rule: makes the gradient for the logits.
        temperature: of the draws; above 1 they are nearer to even.
    """

    def objective(parameters: Parameters, batch: Any, generator: torch.Generator) -> Tensor:
        logits = task.logits(parameters, batch)
        warm = (logits.detach() / temperature).expand(task.draws, *logits.shape)
        z = one_hot(draw_index(warm.softmax(-1), generator), torch.empty_like(warm))
        ratio = logits.detach().log_softmax(-1) - warm.log_softmax(-1)
        weights = (ratio * z).sum((-2, -1)).exp()
        behind = {n: p if n in task.decoder else p.detach() for n, p in parameters.items()}
        drawn = differentiable_draw(logits, z, rule=rule)
        losses = weights * task.loss(behind, batch, drawn)
        extra = task.penalty(parameters, batch, logits)
        found = losses.mean(0).reshape(len(logits), -1).mean(-1)
        return found if extra is None else found + extra

    return objective
