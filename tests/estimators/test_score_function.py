"""The score function, its baselines, and what the baseline learns."""

from __future__ import annotations

import pytest
import torch
from cases import close, draws, generator, normal
from torch import Tensor

from ils import exact
from ils.estimators import score_function, score_function_running
from ils.estimators.score_function import RunningBaseline

SHAPES = [(5,), (3, 4), (1, 2)]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


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


@each_shape
@pytest.mark.parametrize("baseline", [0.0, 5.0, -40.0])
def test_unbiased(shape: tuple[int, ...], baseline: float) -> None:
    """No constant baseline moves the mean; the value of the mean loss lowers the variance."""
    logits = normal(*shape, seed=4)
    quality = exact.moments(score_function(baseline=baseline), loss, logits)
    assert quality.bias.abs().max() < 1e-10
    best = exact.moments(score_function(baseline=exact.expectation(loss, logits)), loss, logits)
    assert best.variance < exact.moments(score_function(), loss, logits).variance


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
    shared = score_function_running()

    def losses(z: Tensor) -> Tensor:
        """One value a draw and problem, problems ``(2, 3)``; the second model's are larger."""
        return torch.tensor([[1.0], [100.0]]) * (z * torch.arange(4.0)).sum(-1)

    for call in range(3):
        before = together.baseline.value
        estimates = together(logits, losses, draws=8, generator=generator(call))
        plain = score_function(baseline=before)(logits, losses, draws=8, generator=generator(call))
        assert torch.equal(estimates, plain)
        shared(logits, losses, draws=8, generator=generator(call))
        for model in range(2):
            alone = RunningBaseline()
            alone.value, alone.seen = (float(before[model]), True) if call else (0.0, False)
            z = score_function().randomness.sample(logits, 8, generator(call), 0)
            alone.update(losses(z)[:, model])
            assert float(together.baseline.value[model]) == pytest.approx(alone.value)
    assert together.baseline.value.shape == (2, 1)
    assert isinstance(shared.baseline.value, float)
    for bad, error in ((-1, ValueError), (1.0, TypeError)):
        with pytest.raises(error, match=r"^own_dims"):
            score_function_running(own_dims=bad)


@pytest.mark.parametrize(
    ("decay", "error"), [(1.0, ValueError), (-0.1, ValueError), ("0.9", TypeError)]
)
def test_bad_decay(decay: object, error: type[Exception]) -> None:
    """A weight of the past outside [0, 1) is refused by name."""
    with pytest.raises(error, match="decay"):
        score_function_running(decay=decay)
