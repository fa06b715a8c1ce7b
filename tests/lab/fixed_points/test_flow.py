"""The corrected flow, with targets that are fixed and with targets that move, in float64.

After each check stands a statement that is false in one place, which the same check refuses.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from cases import close, distribution, normal
from torch import Tensor

from ils import exact
from ils import metric as metrics
from ils.target import intermediate_target
from lab.fixed_points import flow
from lab.optimality.experiment import fisher

DOUBLE = torch.float64
Metric = Callable[[Tensor, Tensor], Tensor]


def chain(categories: int, seed: int, sharp: float = 3.0) -> Tensor:
    return (sharp * normal(categories, categories, seed=seed)).softmax(-1)


def rate(function: exact.Loss, probs: Tensor, transition: Tensor) -> float:
    """How fast a function of the distribution rises along the flow."""
    leaf = probs.clone().requires_grad_()
    (slope,) = torch.autograd.grad(function(leaf), leaf)
    return float(slope @ flow.drift(probs, transition))


@pytest.mark.parametrize("categories", [2, 3, 4, 6, 12])
def test_the_potential_falls_along_the_corrected_flow(categories: int) -> None:
    """Its rate is minus the Dirichlet form of pi / mu over the sum of pi / mu, never positive."""
    for seed in range(100):
        transition = chain(categories, seed)
        probs = (2 * normal(categories, seed=seed + 1)).softmax(-1)
        mu = flow.stationary(transition)
        assert close(mu @ transition, mu)
        ratio = probs / mu
        form = mu[:, None] * transition * (ratio[:, None] - ratio) ** 2 / 2
        found = rate(lambda p, t=transition: flow.potential(p, t), probs, transition)
        wanted = -float(form.sum() / ratio.sum())
        assert abs(found - wanted) < 1e-9 * (1 + abs(wanted))
        assert wanted < 0
        assert float(flow.potential(probs, transition)) > 0
        assert abs(float(flow.potential(mu, transition))) < 1e-12


def test_the_divergence_from_the_stationary_distribution_can_rise() -> None:
    """The chain of the example: KL(mu || pi) rises where the potential falls."""
    e = 2 / 49
    transition = torch.tensor([[0, 1, 0], [0, 1 - e, e], [e, 0, 1 - e]], dtype=DOUBLE)
    mu = torch.tensor([0.02, 0.49, 0.49], dtype=DOUBLE)
    assert close(flow.stationary(transition), mu)
    probs = torch.tensor([0.07, 0.66, 0.27], dtype=DOUBLE)
    divergence = rate(lambda p: (mu * (mu / p).log()).sum(), probs, transition)
    assert abs(divergence - 0.00087) < 1e-5
    assert abs(rate(lambda p: flow.potential(p, transition), probs, transition) + 0.026) < 2e-4


def follow(probs: Tensor, transition: Tensor, time: float, size: float = 0.2) -> Tensor:
    """Small steps of the logits, by Heun's rule."""
    logits = probs.log()
    for _ in range(int(time / size)):
        first = logits.softmax(-1) @ transition - logits.softmax(-1)
        ahead = (logits + size * first).softmax(-1)
        logits = logits + size * (first + ahead @ transition - ahead) / 2
    return logits.softmax(-1)


@pytest.mark.parametrize("categories", [3, 5])
def test_the_corrected_flow_finds_the_stationary_distribution(categories: int) -> None:
    """From starts near each corner; with a chain in two pieces the end depends on the start."""
    for seed in range(3):
        transition = chain(categories, seed, sharp=1.0)
        starts = torch.eye(categories, dtype=DOUBLE) * 0.999 + 0.001 / categories
        ends = follow(starts, transition, 1000)
        assert close(ends, flow.stationary(transition).expand_as(ends), 1e-6)
    pieces = torch.tensor([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]], dtype=DOUBLE)
    ends = follow(distribution(2, 3, seed=1), pieces, 1000)
    assert not close(ends[0], ends[1], 1e-2)


def test_rates_near_the_stationary_distribution() -> None:
    """The nonzero eigenvalues of F (T' - I) at mu are those of diag(mu) (T - I)."""
    for seed in range(50):
        transition = chain(4, seed)
        mu, away = flow.stationary(transition), transition - torch.eye(4, dtype=DOUBLE)
        near = torch.linalg.eigvals(fisher(mu) @ away.T)
        slowed = torch.linalg.eigvals(torch.diag(mu) @ away)
        # The polynomials, as eigenvalues have no order.
        powers = [[(v**n).sum().real for n in range(1, 5)] for v in (near, slowed)]
        assert close(torch.stack(powers[0]), torch.stack(powers[1]), 1e-10)
        assert near.real.max() < 1e-9
        assert sorted(near.real.tolist())[-2] < 0
        # False: those of T - I.
        assert abs(float(torch.linalg.eigvals(away).sum().real - powers[0][0])) > 1e-3


def cycle(x: Tensor) -> Tensor:
    """A loss that is zero at all three draws, and slopes down from each to the next alone."""
    return -(x**2 * x.roll(-1, -1)).sum(-1)


def targets(probs: Tensor, metric: Metric = metrics.fisher, step: float = 0.4) -> Tensor:
    corners = torch.eye(3, dtype=DOUBLE).requires_grad_()
    (slopes,) = torch.autograd.grad(cycle(corners).sum(), corners)
    return intermediate_target(
        torch.eye(3, dtype=DOUBLE),
        slopes,
        step_size=step,
        probs=probs.expand(3, 3),
        metric=metric,
        keep_mass=True,
    )


def test_targets_of_the_cycle() -> None:
    """The example's matrix; the velocity pi_k (pi_(k-1) - pi_(k+1)); only the uniform rests."""
    probs = torch.tensor([0.5, 0.3, 0.2], dtype=DOUBLE)
    wanted = torch.tensor([[0.88, 0.12, 0], [0, 0.92, 0.08], [0.2, 0, 0.8]], dtype=DOUBLE)
    assert close(targets(probs), wanted)
    for probs in distribution(20, 3, seed=2):
        for step in (0.1, 1.0):
            moved = probs @ targets(probs, step=step) - probs
            assert close(moved, step * probs * (probs.roll(1) - probs.roll(-1)))
            # The product of the masses is kept by the one flow, not by the other.
            assert abs(float((moved / probs).sum())) < 1e-12
            assert abs(float((flow.drift(probs, targets(probs)) / probs).sum())) > 1e-6
            # Turned round in time by exchanging two categories; not by turning all three.
            mirror, turn = probs[[1, 0, 2]], probs[[1, 2, 0]]
            drift = flow.drift(probs, targets(probs))
            assert close(flow.drift(mirror, targets(mirror)), -drift[[1, 0, 2]])
            assert not close(flow.drift(turn, targets(turn)), -drift[[1, 2, 0]], 1e-6)


@pytest.mark.parametrize("corrected", [True, False])
def test_moving_targets_can_go_round_for_ever(corrected: bool) -> None:
    """Both flows come back to their start, near and far; with fixed targets neither does."""

    def velocity(probs: Tensor, metric: Metric) -> Tensor:
        if metric is metrics.fisher:
            moved = 0.4 * probs * (probs.roll(1, -1) - probs.roll(-1, -1))
        else:
            moved = probs @ fixed - probs
        mean = (probs * moved).sum(-1, keepdim=True)
        return probs * (moved - mean) if corrected else moved

    fixed = targets(torch.full((3,), 1 / 3, dtype=DOUBLE), metrics.euclidean)
    start = torch.tensor([[0.4, 0.35, 0.25], [0.8, 0.15, 0.05]], dtype=DOUBLE)
    for metric in (metrics.fisher, metrics.euclidean):
        probs, far, size = start, [], 0.1
        for _ in range(6000):
            # Runge and Kutta's rule.
            one = velocity(probs, metric)
            two = velocity(probs + size / 2 * one, metric)
            three = velocity(probs + size / 2 * two, metric)
            four = velocity(probs + size * three, metric)
            probs = probs + size / 6 * (one + 2 * two + 2 * three + four)
            far.append((probs - start).norm(dim=-1))
        distance = torch.stack(far)
        away = (distance > 0.1).cumsum(0) > 0
        returned = distance.where(away, distance.new_tensor(1.0)).amin(0)
        assert (distance.amax(0) > 0.1).all()
        # False: they go round with fixed targets, too.
        assert (returned < 2e-3).all() == (metric is metrics.fisher)
