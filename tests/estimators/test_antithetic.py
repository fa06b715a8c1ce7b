"""ARM, DisARM and its categorical form: the pair of draws, the sticks, and one from another."""

from __future__ import annotations

import pytest
import torch
from cases import close, generator, normal
from factories import cubic_problem as problem

from ils import exact
from ils.estimators import arm, disarm, disarm_categorical
from ils.estimators.antithetic import Uniform, antithetic_pair, stick_logits

INF = float("inf")


def test_disarm_is_arm_given_the_pair() -> None:
    """ARM averaged over the u that make the same pair of draws; hence the smaller variance."""
    logits, loss = problem((1, 2), 7)
    odds = stick_logits(logits)
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    u = u.reshape(-1, 1, 1)
    pair = torch.cat(antithetic_pair(odds, u), -1).squeeze(1)
    single, integrated = (e.formula(logits, u, loss) for e in (arm(), disarm()))
    seen = 0
    for value in pair.unique(dim=0):
        here = (pair == value).all(-1)
        assert close(single[here].mean(0), integrated[here][0], 1e-4)
        seen += 1
    assert seen == 3
    for seed in range(5):
        logits, loss = problem((2, 2), seed)
        assert (
            exact.moments(disarm(), loss, logits).variance
            < exact.moments(arm(), loss, logits).variance
        )


def test_categorical_disarm_of_two_categories_is_disarm() -> None:
    """At every u."""
    logits, loss = problem((3, 2), 8)
    u = torch.rand(200, 3, 1, generator=generator(9), dtype=torch.float64)
    ours = disarm_categorical().formula(logits, u, loss)
    assert close(ours, disarm().formula(logits, u, loss), 1e-12 * (1 + float(ours.abs().max())))


@pytest.mark.parametrize("make", [arm, disarm])
def test_two_categories_alone(make: type) -> None:
    """Variables with another number of categories are refused."""
    with pytest.raises(ValueError, match=r"^logits: expected two categories, got 4"):
        make()(normal(3, 4), lambda z: z.sum((-1, -2)))


def test_stick_breaking_draws_from_the_softmax() -> None:
    """The chance that a stick is the first to break is the probability of its category."""
    logits = normal(5, seed=10)
    p = stick_logits(logits).sigmoid()
    left = torch.cat([torch.ones(1, dtype=p.dtype), (1 - p).cumprod(0)])
    assert close(torch.cat([p, torch.ones(1, dtype=p.dtype)]) * left, logits.softmax(-1))


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


def test_nodes_of_uniform_numbers() -> None:
    """One node a piece, or two; each stick with its own, in a batch too."""
    logits = normal(2, 3, 2, seed=1)
    for linear, count in ((False, 3), (True, 6)):
        numbers, weights = Uniform(linear=linear).support(logits, 1)
        assert numbers.shape == (count**3, 2, 3, 1)
        assert weights.shape == (count**3, 2)
        for item in range(2):
            alone, mass = Uniform(linear=linear).support(logits[item], 0)
            assert close(numbers[:, item], alone, 0)
            assert close(weights[:, item], mass, 1e-15)
