"""Identity, blackbox, I-MLE and adaptive I-MLE: formulas, the mean of I-MLE, the step learnt."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from cases import close, cubic_loss, derivative, eye, generator, normal
from factories import cubic_problem as problem
from test_intermediate import only
from torch import Tensor

from ils.estimators import adaptive_implicit_mle, blackbox, identity, implicit_mle
from ils.estimators.perturbation import AdaptiveStep
from ils.relaxation import hardened

INF = float("inf")
each_shape = pytest.mark.parametrize("shape", [(5,), (3, 4)], ids=str)


@each_shape
def test_identity(shape: tuple[int, ...]) -> None:
    """The derivative at the likeliest category without its mean over what is not masked."""
    logits, loss = problem(shape, 7)
    grad = derivative(loss, hardened(logits)[None])[0]
    assert close(only(identity(), logits, loss), grad - grad.mean(-1, keepdim=True))


@each_shape
@pytest.mark.parametrize("step_size", [0.1, 1.0, 10.0])
def test_blackbox_and_imle(shape: tuple[int, ...], step_size: float) -> None:
    """Differences of two argmaxes; blackbox is I-MLE without noise."""
    logits, loss = problem(shape, 8)
    noise = normal(20, *shape, seed=9)
    z = hardened(logits + noise)
    moved = hardened(logits + noise - step_size * derivative(loss, z))
    estimator = implicit_mle(step_size=step_size)
    assert close(estimator.formula(logits, noise, loss), (z - moved) / step_size)
    silent = estimator.formula(logits, torch.zeros(1, *shape), loss)[0]
    assert close(only(blackbox(step_size=step_size), logits, loss), silent)


def imle_means(logits: Tensor, grads: Tensor, step_size: float) -> Tensor:
    """Exact mean of I-MLE for one variable; ``grads`` holds g at each draw, row by row.

    Given the draw i, with exponential numbers E = exp(-G) both draws are the argmin of E / weight.
    P(first i, second j) is the integral over r = E_j / E_i of (sum_k max(a_k / a_i, r b_k / b_j))
    ** -2, over the r at which the terms k = i and k = j are 1 and r.
    """
    count = len(logits)
    a, mean = logits.exp(), torch.zeros_like(logits)
    for i in range(count):
        b = (logits - step_size * grads[i]).exp()
        for j in range(count):
            if i == j:
                continue
            low, high = float(a[j] / a[i]), float(b[j] / b[i])
            if high <= low:
                continue
            others = [k for k in range(count) if k not in (i, j)]
            breaks = [float(a[k] * b[j] / (a[i] * b[k])) for k in others]
            points = sorted({low, high, *[r for r in breaks if low < r < high]})
            chance = 0.0
            for left, right in pairwise(points):
                middle, total, slope = (left + right) / 2, 1.0, 1.0
                for k, point in zip(others, breaks, strict=True):
                    if middle < point:
                        total += float(a[k] / a[i])
                    else:
                        slope += float(b[k] / b[j])
                chance += (right - left) / ((total + slope * left) * (total + slope * right))
            mean[i] += chance / step_size
            mean[j] -= chance / step_size
    return mean


def test_imle_mean() -> None:
    """The closed form of I-MLE's mean, within five standard errors of 400,000 estimates.

    Twelve comparisons: a false alarm has a probability below 1e-5.  The largest standard error is
    below a tenth of the largest mean, so that a wrong factor would be seen.
    """
    logits, loss = normal(4, seed=80), cubic_loss(normal(4, seed=81), 1)
    grads = derivative(loss, eye(4))
    for step_size in (0.1, 0.5, 2.0):
        estimator = implicit_mle(step_size=step_size)
        found = estimator(logits, loss, draws=400_000, generator=generator(1))
        error = found.std(0) / len(found) ** 0.5
        mean = imle_means(logits, grads, step_size)
        assert ((found.mean(0) - mean).abs() < 5 * error).all()
        assert error.max() < 0.02 * mean.abs().max()


# --- adaptive I-MLE


@pytest.mark.parametrize("symmetric", [True, False])
def test_adaptive_imle(symmetric: bool) -> None:
    """Two-sided and one-sided differences at a step relative to the logits."""
    logits, loss = problem((3, 4), 10)
    noise = normal(20, 3, 4, seed=11)
    z = hardened(logits + noise)
    grad = derivative(loss, z)
    step = 0.8 * logits.norm() / grad.flatten(1).norm(dim=1)[:, None, None]
    right = hardened(logits + noise - step * grad)
    left = hardened(logits + noise + step * grad) if symmetric else z
    estimator = adaptive_implicit_mle(initial_step=0.8, symmetric=symmetric)
    expected = (left - right) / (step * (2 if symmetric else 1))
    assert close(estimator.formula(logits, noise, loss), expected)


def test_no_square_overflows() -> None:
    """Adaptive I-MLE for losses so steep or flat that the square of the slope is not held."""
    logits = normal(3, 4, seed=1).float()
    weights = normal(3, 4, seed=2).float()
    plain, steep, flat = (
        adaptive_implicit_mle()(
            logits, lambda z, s=s: (z * weights * s).sum((-1, -2)), draws=9, generator=generator(1)
        )
        for s in (1.0, 1e25, 1e-25)
    )
    assert plain.any()
    torch.testing.assert_close(steep / 1e25, plain)
    torch.testing.assert_close(flat / 1e-25, plain)


def test_adaptive_step() -> None:
    """Up below the target, down at it and above, never below zero; only finite changes count."""
    two = torch.ones(2, 1)
    for changes, found in ((0.5, 1.5), (1.0, 0.5), (2.0, 0.5)):
        step = AdaptiveStep(value=1.0, update=0.5, target=1.0, decay=0.5, changes=changes)
        step.observe(two, 2)
        assert step.changes == 0.5 * changes + 0.5
        assert step.value == found
    step = AdaptiveStep(value=0.25, update=0.5, target=1.0, decay=0.5, changes=4.0)
    step.observe(torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 0.0]]), 4)
    assert step.changes == 0.5 * 4 + 0.5 * 0.5
    assert step.value == 0
    step = AdaptiveStep()
    step.observe(torch.tensor([1.0, torch.nan, INF, -INF]), 2)
    assert step.changes == pytest.approx(0.95, rel=1e-12)
    # At a step of zero, which one update reaches, the estimates are zero.
    estimator: Any = adaptive_implicit_mle(initial_step=0.01, update=1.0)
    estimator.step.changes = 100.0
    logits, loss = problem((3, 4), 12)
    estimator(logits, loss, generator=generator(1))
    assert estimator.step.value == 0.0
    assert not estimator(logits, loss, generator=generator(2)).any()


@pytest.mark.parametrize("symmetric", [False, True])
def test_adaptive_step_counts_problems_as_estimates(symmetric: bool) -> None:
    """Each problem of a batch is an estimate, and a loss that is flat at a draw gives zero."""
    estimator = adaptive_implicit_mle(symmetric=symmetric)
    logits = normal(2, 3, seed=1)
    found = estimator(logits, lambda z: 0 * z.sum(-1), draws=5, generator=generator(1))
    assert not found.any()
    assert estimator.step.changes == 0.9
    again = adaptive_implicit_mle(initial_step=3.0, symmetric=symmetric)
    found = again(logits, lambda z: 5 * z[..., 0], draws=50, generator=generator(1))
    assert found.any()
    expected = 0.9 + 0.1 * float(found.count_nonzero()) / 100
    assert abs(again.step.changes - expected) < 1e-12
