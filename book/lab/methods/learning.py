"""Estimators with learnt state, prepared for the measurements of the suite."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ils import estimators, exact
from ils.estimators import Estimator
from lab.problems.enumerable import Problem

__all__ = [
    "QuadraticSurrogate",
    "as_it_is",
    "with_baseline_at_rest",
    "with_step_adapted",
    "with_surrogate_fitted",
]


def as_it_is(estimator: Estimator, problem: Problem) -> Estimator:
    """The estimator, unchanged: nothing is learnt."""
    return estimator


def with_baseline_at_rest(estimator: Any, problem: Problem) -> Estimator:
    """The running baseline at the mean loss of each instance, its fixed point."""
    estimator.baseline.value = exact.expectation(problem.loss, problem.logits)
    return estimator


def with_step_adapted(estimator: Any, problem: Problem) -> Estimator:
    """Adaptive I-MLE after 200 calls on all instances, with a step that adapts a tenth a call."""
    estimator.step.update = 0.05
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        estimator(problem.logits, problem.loss, generator=generator)
    return estimator


class QuadraticSurrogate:
    """``c(y) = <a, y> + y^T B y`` with ``a`` and ``B`` of each instance, zero at first."""

    def __init__(self, problem: Problem) -> None:
        instances, n, categories = problem.logits.shape
        size = n * categories
        self.a = torch.zeros(instances, size, dtype=torch.float64, requires_grad=True)
        self.b = torch.zeros(instances, size, size, dtype=torch.float64, requires_grad=True)

    def __call__(self, y: Tensor) -> Tensor:
        """Values ``(D, instances)`` at ``(D, instances, n, K)``."""
        x = y.flatten(-2)
        return (x * (self.a + torch.einsum("bij,dbj->dbi", self.b, x))).sum(-1)


def with_surrogate_fitted(estimator: Estimator, problem: Problem) -> Estimator:
    """RELAX with a quadratic surrogate after 100 Adam steps on the variance of 8 draws."""
    surrogate = QuadraticSurrogate(problem)
    fitted = estimators.relax(surrogate)
    optimizer = torch.optim.Adam([surrogate.a, surrogate.b], lr=0.05)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        optimizer.zero_grad()
        estimates = fitted(problem.logits, problem.loss, draws=8, generator=generator)
        # Instances share nothing, so each is as if fitted alone.
        (estimates**2).sum().backward()
        optimizer.step()
    for parameter in (surrogate.a, surrogate.b):
        parameter.requires_grad_(False)
    return fitted
