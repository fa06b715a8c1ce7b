"""Where estimators come to rest on the toy: closed forms, and the flows that lead there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from cases import close, normal
from ladder_minimiser import half_count, minimiser_of
from scipy import integrate, special

from ils import estimators, exact
from lab.fixed_points import experiment as fp
from lab.run import records

SCALE = 1 / (fp.SIZE * fp.EPS)


def softmax_jacobian(probs: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    return probs * (vector - (probs * vector).sum(-1, keepdim=True))


def corner_starts(count: int) -> torch.Tensor:
    """Logits far apart: most starts lie near a corner, often a wrong one."""
    return 3 * normal(count, 5, seed=9)


def end_of_flow(slopes: Callable[[np.ndarray], np.ndarray], start: torch.Tensor) -> torch.Tensor:
    """Where ``d theta / dt = J slopes(pi)`` leads from one start, by a stiff solver.

    The steps of :func:`lab.fixed_points.experiment.flow` are fixed: from some starts of the note
    they have not arrived after 3,000.
    """

    def speed(_: float, theta: np.ndarray) -> np.ndarray:
        pi = special.softmax(theta)
        slope = slopes(pi)
        return pi * (slope - (pi * slope).sum())

    options = {"method": "LSODA", "rtol": 1e-8, "atol": 1e-10, "t_eval": [1e12]}
    found = integrate.solve_ivp(speed, (0, 1e12), start.numpy(), **options)
    assert found.success
    return torch.from_numpy(special.softmax(found.y[:, -1]))


def test_toy_loss_is_the_notes() -> None:
    """Its mean is the note's objective up to what does not depend on the model."""
    p, start = fp.problems(1, 20)
    slope = exact.gradient(fp.toy_loss(p), start)
    cost = -torch.log1p(torch.tensor(1 / fp.EPS)) * p / fp.SIZE
    assert close(slope, softmax_jacobian(start.softmax(-1), cost), 1e-8)


FALSE_MEANS = {
    "straight-through": (
        estimators.straight_through,
        lambda p, pi: -p * (1 - pi),
        {
            "V = sum p (pi - pi^2)": lambda p, pi: -p * (1 - 2 * pi),
            "another sign": lambda p, pi: p * (1 - pi),
            "p dropped from the square": lambda p, pi: -(p - pi),
        },
    ),
    "ReinMax": (
        estimators.reinmax,
        lambda p, pi: -p / 2,
        {"twice": lambda p, pi: -p, "another sign": lambda p, pi: p / 2},
    ),
    "DARN": (
        estimators.darn,
        lambda p, pi: -p * pi,
        {
            "U = sum p pi^2": lambda p, pi: -2 * p * pi,
            "another sign": lambda p, pi: p * pi,
            "U = sum p^2 pi^2 / 2": lambda p, pi: -p * p * pi,
        },
    ),
}


def mean_residual(
    estimator: Callable[[], estimators.Estimator],
    slopes: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> float:
    """How far the exact mean is from ``c J slopes``, in units of ``c``, at two kinds of starts."""
    p, start = fp.problems(1, 20)
    worst = 0.0
    for theta in (start, corner_starts(20)):
        mean = exact.moments(estimator(), fp.toy_loss(p), theta).mean
        probs = theta.softmax(-1)
        expected = softmax_jacobian(probs, slopes(p, probs))
        worst = max(worst, float((mean / SCALE - expected).abs().max()))
    return worst


@pytest.mark.parametrize("name", FALSE_MEANS)
def test_false_means_are_refused(name: str) -> None:
    """Means with another constant, sign or power miss the enumerated mean by far more than 1e-7."""
    estimator, true, false = FALSE_MEANS[name]
    assert mean_residual(estimator, true) < 1e-7
    for slopes in false.values():
        assert mean_residual(estimator, slopes) > 1e-3


def test_straight_through_climbs_a_concave_function() -> None:
    """Its mean is -c F grad V, V = sum p (pi - pi^2 / 2), up to the guard, near corners too."""
    assert mean_residual(estimators.straight_through, lambda p, pi: -p * (1 - pi)) < 1e-7


def straight_through_conditions(p: torch.Tensor, rest: torch.Tensor) -> float:
    """How far the slopes ``p (1 - rest)`` are from one level with mass and no more without."""
    slope, inside = p * (1 - rest), rest > 0
    level = slope.masked_fill(~inside, -torch.inf).amax(-1, keepdim=True)
    uneven = (level - slope).masked_fill(~inside, 0)
    return float(torch.maximum(uneven, slope - level).max())


def test_straight_through_limit() -> None:
    """The closed form maximises V, and the flow ends there, also from near a wrong corner."""
    p, start = fp.problems(2, 100)
    rest = fp.straight_through_limit(p)
    assert close(rest.sum(-1), torch.ones(100, dtype=p.dtype))
    assert straight_through_conditions(p, rest) < 1e-12
    assert (rest == 0).any()
    # False variants of the closed form: no clamp, 2 lambda, or p itself.
    for false in (
        (p * (1 - p)) / (p * (1 - p)).sum(-1, keepdim=True),
        (1 - 2 * (1 - rest)).clamp(min=0),
        p,
    ):
        assert straight_through_conditions(p, false) > 0.01
    hard = corner_starts(100)
    assert (hard[:6].softmax(-1) - rest[:6]).abs().amax(-1).min() > 0.04
    for k, first in [*enumerate(hard[:6]), *enumerate(start[:6])]:
        model = end_of_flow(lambda pi, k=k: p[k].numpy() * (1 - pi), first)
        assert (model - rest[k]).abs().max() < 1e-6


def test_straight_through_of_two_categories_rests_at_the_truth() -> None:
    """Two categories: the closed form and the flow's end are p; three: only if p is uniform."""
    for first in (0.3, 0.9):
        p = torch.tensor([first, 1 - first], dtype=torch.float64)
        assert close(fp.straight_through_limit(p), p)
        model = end_of_flow(lambda pi, p=p: p.numpy() * (1 - pi), normal(2, seed=7))
        assert (model - p).abs().max() < 1e-6
    # False: with three categories, too.
    for truth in ([0.4, 0.4, 0.2], [0.5, 0.3, 0.2]):
        p = torch.tensor(truth).double()
        assert straight_through_conditions(p[None], p[None]) > 0.01


def test_straight_through_limit_at_ties() -> None:
    """Equal entries of p end equal, whatever the start, and the least of three may vanish."""
    for truth, expected in (
        ([0.4, 0.4, 0.2], [0.5, 0.5, 0.0]),
        ([1 / 3, 1 / 3, 1 / 3], [1 / 3, 1 / 3, 1 / 3]),
    ):
        p, wanted = torch.tensor(truth).double(), torch.tensor(expected).double()
        rest = fp.straight_through_limit(p)
        assert (rest - wanted).abs().max() < 1e-6
        # At (.4, .4, .2) the absent category has just the level: the flow is slow, as t^(-1/2).
        for first in (torch.zeros(3).double(), torch.tensor([2.0, -1.0, 0.0]).double()):
            model = end_of_flow(lambda pi, p=p: p.numpy() * (1 - pi), first)
            assert (model - wanted).abs().max() < 1e-4


def test_reinmax_follows_the_exact_gradient_there() -> None:
    """Its mean is the exact gradient times a number; with one largest entry it collapses to it."""
    p, start = fp.problems(1, 20)
    loss = fp.toy_loss(p)
    mean = exact.moments(estimators.reinmax(), loss, start).mean
    factor = SCALE * fp.SIZE / 2 / float(torch.log1p(torch.tensor(1 / fp.EPS)))
    slope = exact.gradient(loss, start)
    assert (mean - factor * slope).abs().max() < 1e-5 * mean.abs().max()
    corner, hard = fp.ascent_limit(p), corner_starts(20)
    for k, first in [*enumerate(start[:3]), *enumerate(hard[:3])]:
        model = end_of_flow(lambda pi, k=k: p[k].numpy(), first)
        assert (model - corner[k]).abs().max() < 1e-6


def test_reinmax_at_ties() -> None:
    """Of tied largest entries those with the largest logit win; with uniform p nothing moves."""
    p = torch.tensor([0.4, 0.4, 0.2]).double()
    even = end_of_flow(lambda pi: p.numpy(), torch.zeros(3).double())
    assert (even - torch.tensor([0.5, 0.5, 0.0]).double()).abs().max() < 1e-6
    # Entries that are equal in p only do not share: the first logit of the two decides.
    for first, winner in (([0.3, -0.1, 0.0], 0), ([0.0, 0.1, 3.0], 1)):
        uneven = end_of_flow(lambda pi: p.numpy(), torch.tensor(first).double())
        assert uneven.argmax() == winner
        assert uneven.max() > 0.99
    flat, theta = torch.full((1, 3), 1 / 3).double(), normal(1, 3, seed=5)
    for estimator in (estimators.reinmax(), estimators.score_function()):
        mean = exact.moments(estimator, fp.toy_loss(flat), theta).mean
        assert (mean / SCALE).abs().max() < 1e-7


def test_small_fisher_step_is_reinmax_there() -> None:
    """Every category looks better than the draw, so nothing is clamped and the identity holds."""
    p, start = fp.problems(1, 20)
    loss = fp.toy_loss(p)
    step = fp.FLOWS["ILS, Fisher, small step"]
    mean = exact.moments(step, loss, start).mean
    twice = 2 * exact.moments(estimators.reinmax(), loss, start).mean * fp.EPS * fp.SIZE
    assert close(mean, twice, 1e-12)
    # Half of it is not, nor is a step of 20 times that size, where the draw is clamped.
    assert not close(mean, twice / 2, 1e-4)
    longer = fp._ils(20 * fp.EPS * fp.SIZE, keep_mass=True, metric=fp.fisher)
    long = exact.moments(longer, loss, start).mean
    assert not close(long / long.norm(), twice / twice.norm(), 1e-4)
    assert mean.abs().max() > 1e-3


def test_darn_climbs_a_convex_function() -> None:
    """Its mean is -c F grad U, U = sum p pi^2 / 2: the rest point 1/p repels, corners attract."""
    p, start = fp.problems(1, 20)
    loss = fp.toy_loss(p)
    rest = (1 / p) / (1 / p).sum(-1, keepdim=True)
    there = exact.moments(estimators.darn(), loss, rest.log()).mean
    assert (there / SCALE).abs().max() < 1e-7
    # It repels in every direction: the mean points away from it.
    for direction in normal(8, 1, 5, seed=6):
        pushed = (rest.log() + 0.01 * direction).softmax(-1)
        away = exact.moments(estimators.darn(), loss, pushed.log()).mean
        assert ((away * (pushed - rest)).sum(-1) < 0).all()
    hard = corner_starts(20)
    for k, first in [*enumerate(start[:3]), *enumerate(hard[:3])]:
        model = end_of_flow(lambda pi, k=k: p[k].numpy() * pi, first)
        assert model.max() > 1 - 1e-6
    # Every corner attracts, the unlikeliest too.
    for corner in range(5):
        near = 4 * torch.nn.functional.one_hot(torch.tensor(corner), 5).double()
        model = end_of_flow(lambda pi: p[0].numpy() * pi, near)
        assert model[corner] > 1 - 1e-6


def test_darn_at_ties() -> None:
    """Not every start ends in a corner: equal entries stay equal, and uniform p may rest."""
    for truth, expected in (
        ([0.4, 0.4, 0.2], [0.5, 0.5, 0.0]),
        ([1 / 3, 1 / 3, 1 / 3], [1 / 3, 1 / 3, 1 / 3]),
    ):
        p, wanted = torch.tensor(truth).double(), torch.tensor(expected).double()
        model = end_of_flow(lambda pi, p=p: p.numpy() * pi, torch.zeros(3).double())
        assert (model - wanted).abs().max() < 1e-6
        # The exact mean says the same: equal logits get equal updates.
        zero = torch.zeros(1, 3).double()
        mean = exact.moments(estimators.darn(), fp.toy_loss(p[None]), zero).mean
        assert float((mean[0, 0] - mean[0, 1]).abs()) < 1e-7 * SCALE
        # Next to that start the flow does end in a corner.
        beside = torch.tensor([0.01, 0.0, 0.003]).double()
        assert end_of_flow(lambda pi, p=p: p.numpy() * pi, beside).max() > 1 - 1e-6


def test_flow_finds_the_markov_limit() -> None:
    """For a form of ILS the flow ends at the stationary distribution of its targets."""
    p, start = fp.problems(3, 2)
    model, left = fp.flow(fp.FLOWS["ILS, mass kept, small step"], p, start, steps=300)
    assert close(model, p, 1e-5)
    assert (left < 1e-5).all()
    assert (start.softmax(-1) - p).abs().max() > 0.05


def ladder_residual(size: float = fp.SIZE, draws: int = 3) -> float:
    """How far the enumerated mean loss of three draws is from the bound times ``K / size``.

    ``ladder_loss`` leaves out the loss's constant, sum p log(p + eps) / size.
    """
    p, start = fp.problems(4, 3)
    repeated = start.unsqueeze(-2).expand(-1, 3, -1)
    found = exact.expectation(fp.ladder_loss(p), repeated)
    known = (p * (p + fp.EPS).log()).sum(-1) / fp.SIZE
    bound = fp._bound(p, start.softmax(-1), draws) * p.shape[-1] / size
    return float((found + known - bound).abs().max())


def test_ladder_loss_is_the_bounds() -> None:
    """The expected loss of the mean of n draws is the ladder's bound, by enumeration."""
    assert ladder_residual() < 1e-10
    # False: another factor, or another number of draws.
    assert ladder_residual(size=5) > 0.01
    assert ladder_residual(draws=2) > 0.01


def test_few_draws_are_no_fair_toy() -> None:
    """The minimiser of L_5 is worse than the start, that of L_20 far above the note's floor."""
    p, start = fp.problems(fp.SEEDS["ladder"], 40)
    floor = p * (1 - p)
    floor = fp.divergence(p, floor / floor.sum(-1, keepdim=True)).mean()
    begun = fp.divergence(p, start.softmax(-1)).mean()
    few, twenty, many = (minimiser_of(p, n, fp.EPS) for n in (5, 20, 100))
    assert fp.divergence(p, few).mean() > 1.3 * begun
    assert (few < 1e-6).any(-1).double().mean() > 0.3  # it drops categories
    assert begun > fp.divergence(p, twenty).mean() > 3 * floor
    assert floor > fp.divergence(p, many).mean()
    # Twenty draws shift mass to the unlikely categories; the truth's own bound is higher.
    assert (twenty.amax(-1) < p.amax(-1)).double().mean() > 0.7
    assert (fp._bound(p, twenty, 20) <= fp._bound(p, p, 20)).all()
    # Not yet the regime of the half count, which is as good as the minimiser at 100 draws.
    assert fp.divergence(p, half_count(p, 20)).mean() < 0.3 * fp.divergence(p, twenty).mean()


def test_order_turns_for_the_bound_alone() -> None:
    """At n = 20 leave-one-out has the lowest bound, Gumbel-Softmax the lowest divergences."""
    folder = records.FOLDER if records.FOLDER.is_absolute() else records.Path("book/data")
    table = records.read("fixed-ladder", folder).table.loc[20]
    means = table.groupby(level="method").mean()
    assert means["bound"].idxmin() == "leave-one-out"
    relaxed = ["Gumbel-Softmax, 0.5", "Gumbel-Softmax, 1"]
    assert set(means["divergence"].nsmallest(2).index) == set(relaxed)
    assert means["divergence"]["ReinMax (default)"] > 5 * means["divergence"][relaxed[1]]
    p, _ = fp.problems(fp.SEEDS["ladder"], 100)
    lowest = float(fp.divergence(p, minimiser_of(p, 20, fp.EPS)).mean())
    assert means["divergence"][relaxed[1]] < lowest < means["divergence"]["ReinMax (default)"]
