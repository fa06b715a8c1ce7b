"""Details of the estimators: masks as absences, ties, flat losses, baselines, longer samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import close, generator, normal
from test_signatures import SAID, factory
from torch import Tensor

import ils
from ils import exact
from ils.estimators import randomness as kinds
from ils.estimators.antithetic import Uniform, antithetic_pair, stick_logits
from ils.estimators.evaluation import batch_dims
from ils.estimators.perturbation import AdaptiveStep
from ils.estimators.without_replacement import DistinctDraws, _given_maximum

INF = float("inf")
WEIGHTS = normal(3, 2, seed=5)

BY_CATEGORY = [
    name
    for name, (_, said, _) in SAID.items()
    if isinstance(said[1], kinds.Draw | kinds.Gumbel | kinds.Deterministic | kinds.Exponential)
]


def without(noise: Any, place: int) -> Any:
    """Noise of four categories without that of one of them."""
    if isinstance(noise, tuple):
        return tuple(without(part, place) for part in noise)
    kept = [k for k in range(4) if k != place]
    return noise[..., kept] if noise.shape[-1] == 4 else noise


@pytest.mark.parametrize("name", BY_CATEGORY)
@pytest.mark.parametrize("place", [0, 2, 3])
def test_a_masked_category_is_as_if_it_were_not_there(name: str, place: int) -> None:
    """With the same noise for the others, the estimates are those of the smaller problem."""
    logits, weights = normal(3, 4, seed=1), normal(3, 4, seed=2)
    logits[:, place] = -INF
    kept = [k for k in range(4) if k != place]

    def loss_of(weights: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda z: ((z * weights).sum((-1, -2)) - 0.4) ** 3

    required = SAID[name][0]
    noise = factory(name)(**required).randomness.sample(logits, 20, generator(3), 0)
    surrogates = (
        {"surrogate": lambda y, w=w: (y * w).sum((-1, -2)) ** 2} if "surrogate" in required else {}
        for w in (weights, weights[:, kept])
    )
    found, smaller = (factory(name)(**{**required, **surrogate}) for surrogate in surrogates)
    full = found.formula(logits, noise, loss_of(weights))
    part = smaller.formula(logits[:, kept], without(noise, place), loss_of(weights[:, kept]))
    assert not full[..., place].any()
    assert close(full[..., kept], part, 1e-10)
    if not isinstance(found.randomness, kinds.Deterministic):
        assert part.any()


@pytest.mark.parametrize("samples", [2, 3])
@pytest.mark.parametrize("name", ["sum_and_sample", "unordered_set", "leave_one_out"])
def test_baselines_take_a_constant_away(name: str, samples: int) -> None:
    """Of a loss that is the same everywhere every single estimate is zero, with a baseline."""
    logits = normal(2, 3, seed=1)
    found = factory(name)(samples=samples)(
        logits, lambda z: 3 + 0 * z.sum((-1, -2)), draws=20, generator=generator(2)
    )
    assert close(found, torch.zeros_like(found), 1e-12)
    if name != "leave_one_out":
        bare = factory(name)(samples=samples, baseline=False)
        bare = bare(logits, lambda z: 3 + 0 * z.sum((-1, -2)), draws=20, generator=generator(2))
        assert bare.abs().max() > 1e-2


def test_sum_and_sample_of_two_by_hand() -> None:
    """The first state has no advantage over itself; the second stands for all the rest."""
    logits, weights = normal(3, seed=1), normal(3, seed=2)
    estimator = ils.estimators.sum_and_sample()
    z = estimator.randomness.sample(logits, 10, generator(4), 0)
    p = logits.softmax(-1)
    first, second = z[:, 0], z[:, 1]
    rest = 1 - first @ p
    by_hand = (rest * (second @ weights - first @ weights)).unsqueeze(-1) * (second - p)
    assert close(estimator.formula(logits, z, lambda z: z @ weights), by_hand, 1e-12)


def test_sum_and_sample_of_three_by_hand() -> None:
    """The baseline is the same estimate of the mean loss, by the first two states."""
    logits, weights = normal(4, seed=1), normal(4, seed=2)
    estimator = ils.estimators.sum_and_sample(samples=3)
    z = estimator.randomness.sample(logits, 10, generator(4), 0)
    p = logits.softmax(-1)
    chances, losses = (z @ p).unbind(1), (z @ weights).unbind(1)
    mean = chances[0] * losses[0] + (1 - chances[0]) * losses[1]
    shares = (chances[0], chances[1], 1 - chances[0] - chances[1])
    by_hand = sum(
        (share * (loss - mean)).unsqueeze(-1) * (z[:, place] - p)
        for place, (share, loss) in enumerate(zip(shares, losses, strict=True))
    )
    assert close(estimator.formula(logits, z, lambda z: z @ weights), by_hand, 1e-12)


@pytest.mark.parametrize("name", ["leave_one_out", "double_control_variate", "unordered_set"])
def test_three_samples_are_unbiased(name: str) -> None:
    """More draws than the least possible; for the control variate that changes its mean's scale."""
    logits, weights = normal(2, 2, seed=1), normal(2, 2, seed=2)
    loss = lambda z: ((z * weights).sum((-1, -2)) - 0.4) ** 3  # noqa: E731
    quality = exact.moments(factory(name)(samples=3), loss, logits)
    assert quality.bias.abs().max() < 1e-10


def test_adaptive_step() -> None:
    """Up below the target, down at it and above, never below zero; the running mean of changes."""
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


@pytest.mark.parametrize("symmetric", [False, True])
def test_adaptive_step_counts_problems_as_estimates(symmetric: bool) -> None:
    """Each problem of a batch is an estimate, and a loss that is flat at a draw gives zero."""
    estimator = ils.estimators.adaptive_implicit_mle(symmetric=symmetric)
    logits = normal(2, 3, seed=1)
    found = estimator(logits, lambda z: 0 * z.sum(-1), draws=5, generator=generator(1))
    assert not found.any()
    assert estimator.step.changes == 0.9
    again = ils.estimators.adaptive_implicit_mle(initial_step=3.0, symmetric=symmetric)
    found = again(logits, lambda z: 5 * z[..., 0], draws=50, generator=generator(1))
    assert found.any()
    expected = 0.9 + 0.1 * float(found.count_nonzero()) / 100
    assert abs(again.step.changes - expected) < 1e-12


def test_certain_stays_certain() -> None:
    """A uniform number of exactly zero draws no category of probability zero, in either draw."""
    logits = torch.tensor([-INF, INF])
    for number in (0.0, 0.5, 1 - 2.0**-24):
        for draw in antithetic_pair(logits, torch.full((2,), number)):
            assert draw.tolist() == [0, 1]
    assert stick_logits(torch.tensor([-INF, 0.0, -INF])).tolist() == [-INF, INF]


def test_grid_of_uniform_numbers_gives_both_laws() -> None:
    """On the grid of the numbers both draws of a pair have the stated probability exactly."""
    numbers = torch.arange(8).double() / 8
    for p in (0.25, 0.5, 0.625):
        logits = torch.tensor(p, dtype=torch.float64).logit().expand(8)
        pair = antithetic_pair(logits, numbers)
        if float(logits[0].sigmoid()) == p:
            assert [float(draw.mean()) for draw in pair] == [p, p]


def test_too_few_states_in_one_problem() -> None:
    """One problem of the batch with a single state is enough to refuse."""
    logits = torch.tensor([[0.0, -INF, -INF], [0.0, 1.0, 2.0]])
    with pytest.raises(ValueError, match=r"^samples: .*got 2 for 1 states of positive prob"):
        DistinctDraws(2).sample(logits, 3, generator(1), 1)
    with pytest.raises(ValueError, match=r"^samples: .*got 4 for 3 states$"):
        DistinctDraws(4).support(logits, 1)


def test_children_of_dead_parents() -> None:
    """No child has a chance if the parent has none, or if no child has one itself."""
    dead = torch.tensor([-INF, -INF])
    for gumbel, maximum in ((dead, 0.0), (torch.tensor([0.0, 1.0]), -INF), (dead, -INF)):
        found = _given_maximum(gumbel, torch.tensor([maximum]))
        assert found.tolist() == [-INF, -INF]
    found = _given_maximum(torch.tensor([0.5, -INF, 1.0]), torch.tensor([3.0]))
    assert found[2] == 3
    assert found[1] == -INF
    assert found[0] < 3


def test_gap_of_an_almost_certain_draw() -> None:
    """Where the drawn probability rounds to one the estimate is tiny and not zero."""
    logits = torch.tensor([40.0, 0.0], dtype=torch.float64)
    z = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    estimator = ils.estimators.gapped_straight_through(gap=None)
    found = float(estimator.formula(logits, z, lambda z: z[..., 0])[0, 1])
    assert found == pytest.approx(-math.exp(-40), rel=1e-6, abs=0)


def test_nodes_of_uniform_numbers() -> None:
    """One node a piece, or two; each stick with its own, in a batch too."""
    logits = normal(2, 3, 2, seed=1)
    for linear, count in ((False, 3), (True, 6)):
        numbers, weights = Uniform(linear=linear).support(logits, 1)
        assert numbers.shape == (count**3, 2, 3, 1)
        assert weights.shape == (count**3, 2)
        for problem in range(2):
            alone, mass = Uniform(linear=linear).support(logits[problem], 0)
            assert close(numbers[:, problem], alone, 0)
            assert close(weights[:, problem], mass, 1e-15)


@pytest.mark.parametrize("name", SAID)
def test_loss_is_called_no_more_than_said(name: str) -> None:
    """A call shows the loss as many draws as are said, and no more."""
    logits = normal(3, 2, seed=1)
    points = 0

    def counted(z: Tensor) -> Tensor:
        nonlocal points
        points += len(z)
        return (z * WEIGHTS).sum((-1, -2)) ** 2

    estimator = factory(name)(**SAID[name][0])
    estimator(logits, counted, draws=4, generator=generator(1), batch_dims=0)
    assert points == 4 * estimator.evaluations


def test_states_are_those_of_each_problem() -> None:
    """All three states of each problem of a batch: the estimates are the exact gradients."""
    logits, weights = normal(2, 3, seed=1), normal(2, 3, seed=2)

    def loss(z: Tensor) -> Tensor:
        return (z * weights).sum(-1) ** 2

    for make in (ils.estimators.unordered_set, ils.estimators.sum_and_sample):
        found = make(samples=3)(logits, loss, draws=5, generator=generator(1))
        assert close(found, exact.gradient(loss, logits).expand(5, 2, 3), 1e-12)


def test_axes_are_asked_for_at_a_draw() -> None:
    """The loss is shown a one-hot draw, of a single category too."""
    for shape, dims in (((2, 3), 1), ((2, 1), 1), ((4,), 0)):

        def loss(z: Tensor, dims: int = dims) -> Tensor:
            assert ((z == 0) | (z == 1)).all()
            assert (z.sum(-1) == 1).all()
            return z.sum(tuple(range(1 + dims, z.dim())))

        assert batch_dims(loss, normal(*shape)) == dims
