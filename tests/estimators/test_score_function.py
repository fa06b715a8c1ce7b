"""The score function, its baselines, and what the baseline learns."""

from __future__ import annotations

import math

import pytest
import torch
from cases import close, cubic_loss, draws, generator, normal
from torch import Tensor

from ils import exact
from ils.estimators import leave_one_out, score_function, score_function_running
from ils.estimators.score_function import RunningBaseline

each_shape = pytest.mark.parametrize("shape", [(5,), (3, 4), (1, 2)], ids=str)


def loss(z: Tensor) -> Tensor:
    weights = normal(*z.shape[1:], seed=1)
    return ((z * weights).flatten(1).sum(-1) - 0.4) ** 3 + 5


@each_shape
@pytest.mark.parametrize("baseline", [0.0, 2.5])
def test_score_function(shape: tuple[int, ...], baseline: float) -> None:
    """Each estimate is the advantage times autograd's gradient of the draw's log-probability."""
    logits, z = normal(*shape, seed=2), draws(20, *shape, seed=3)
    found = score_function(baseline=baseline).formula(logits, z, loss)
    for one, estimate in zip(z, found, strict=True):
        leaf = logits.clone().requires_grad_()
        (score,) = torch.autograd.grad((leaf.log_softmax(-1) * one).sum(), leaf)
        assert close(estimate, score * (loss(one[None]) - baseline))


def test_leave_one_out_by_hand() -> None:
    """Each draw against the mean loss of the others."""
    logits, loss = normal(2, 3, seed=11), cubic_loss(normal(2, 3, seed=61), 2)
    z = draws(6, 4, 2, 3, seed=12)
    found = leave_one_out(samples=4).formula(logits, z, loss)
    for each, estimate in zip(z, found, strict=True):
        values = loss(each)
        total = torch.zeros(2, 3, dtype=torch.float64)
        for s in range(4):
            rest = torch.cat([values[:s], values[s + 1 :]]).mean()
            total += (each[s] - logits.softmax(-1)) * (values[s] - rest) / 4
        assert close(estimate, total)


# --- running baselines


def test_running_baseline() -> None:
    """The baseline of a call is that from before it; afterwards it has moved towards the losses."""
    logits = normal(3, 4, seed=5)
    estimator = score_function_running(decay=0.75)
    assert estimator.baseline.value == 0
    seen = []

    def watched(z: Tensor) -> Tensor:
        seen.append(loss(z))
        return seen[-1]

    for call in range(4):
        before = estimator.baseline.value
        estimates = estimator(logits, watched, draws=8, generator=generator(call))
        plain = score_function(baseline=before)(logits, loss, draws=8, generator=generator(call))
        assert close(estimates, plain)
        mean = float(seen[-1].mean())
        after = mean if call == 0 else 0.75 * before + 0.25 * mean
        assert estimator.baseline.value == pytest.approx(after)
    assert exact.moments(estimator, loss, logits).bias.abs().max() < 1e-10
    assert estimator.baseline.value == pytest.approx(after)  # enumeration leaves it alone


def test_running_baselines_side_by_side() -> None:
    """With a baseline for each entry of an axis, models do not learn from one another."""
    logits = normal(2, 3, 4, seed=5)
    together = score_function_running(own_dims=1)
    alone = RunningBaseline(own_dims=1)

    def losses(z: Tensor) -> Tensor:
        """One value a draw and problem, problems ``(2, 3)``; the second model's are larger."""
        return torch.tensor([[1.0], [100.0]]) * (z * torch.arange(4.0)).sum(-1)

    for call in range(3):
        before = together.baseline.value
        estimates = together(logits, losses, draws=8, generator=generator(call))
        plain = score_function(baseline=before)(logits, losses, draws=8, generator=generator(call))
        assert torch.equal(estimates, plain)
        alone.update(losses(score_function().randomness.sample(logits, 8, generator(call), 0)))
        assert torch.equal(together.baseline.value, alone.value)
    assert together.baseline.value.shape == (2, 1)


NAN, INF = math.nan, math.inf
# Leading axes with an average of their own; losses call by call, and the averages after each.
FINITE: dict[str, tuple[int, list[tuple[list, float | list]]]] = {
    "one for all": (
        0,
        [([[1.0, INF], [3.0, NAN]], 2.0), ([[NAN, NAN], [NAN, NAN]], 2.0), ([[4, 4], [4, 4]], 3.0)],
    ),
    "one for all, of one axis": (0, [([NAN, 2.0, 4.0], 3.0)]),
    "one a problem": (
        1,
        [
            ([[1.0, INF], [3.0, NAN]], [2.0, 0.0]),
            ([[NAN, NAN], [NAN, NAN]], [2.0, 0.0]),
            ([[4, 4], [4, 4]], [3.0, 2.0]),
        ],
    ),
    "one a row of problems": (
        1,
        [
            ([[[1.0, 3.0], [2.0, 2.0]], [[5.0, 7.0], [4.0, 4.0]]], [[4.0], [3.0]]),
            ([[[NAN, 6.0], [NAN, INF]], [[10.0, -INF], [NAN, NAN]]], [[6.0], [3.0]]),
            ([[[NAN, 8.0], [1.0, 1.0]], [[NAN, NAN], [1.0, 1.0]]], [[7.0], [2.0]]),
        ],
    ),
}


@pytest.mark.parametrize("case", FINITE)
def test_a_baseline_skips_what_is_not_finite(case: str) -> None:
    """Each average moves half the way to the mean of its finite losses, and rests without any."""
    own_dims, calls = FINITE[case]
    baseline = RunningBaseline(0.5, own_dims=own_dims)
    for losses, found in calls:
        baseline.update(torch.tensor(losses))
        assert torch.equal(torch.as_tensor(baseline.value), torch.tensor(found))
