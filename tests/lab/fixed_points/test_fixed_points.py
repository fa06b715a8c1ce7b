"""Where estimators come to rest on the toy: closed forms, and the flows that lead there."""

from __future__ import annotations

import pytest
import torch
from cases import close

from ils import estimators, exact
from lab.fixed_points import experiment as fp
from lab.run import records

SCALE = 1 / (fp.SIZE * fp.EPS)


def softmax_jacobian(probs: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    return probs * (vector - (probs * vector).sum(-1, keepdim=True))


def case(seed: int = 1, count: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    return fp.problems(seed, count)


def test_toy_loss_is_the_notes() -> None:
    """Its mean is the note's objective up to what does not depend on the model."""
    p, start = case()
    slope = exact.gradient(fp.toy_loss(p), start)
    cost = -torch.log1p(torch.tensor(1 / fp.EPS)) * p / fp.SIZE
    assert close(slope, softmax_jacobian(start.softmax(-1), cost), 1e-8)


def test_straight_through_climbs_a_concave_function() -> None:
    """Its mean is -c J grad V, V = sum p (pi - pi^2 / 2), up to the guard."""
    p, start = case()
    probs = start.softmax(-1)
    mean = exact.moments(estimators.straight_through(), fp.toy_loss(p), start).mean
    expected = -SCALE * softmax_jacobian(probs, p * (1 - probs))
    assert close(mean / SCALE, expected / SCALE, 1e-7)
    assert (mean / SCALE).abs().max() > 0.01


def test_straight_through_limit() -> None:
    """The closed form maximises V over the simplex: equal slopes where mass is, lower where not."""
    p, start = case(2, 100)
    rest = fp.straight_through_limit(p)
    assert close(rest.sum(-1), torch.ones(100, dtype=p.dtype))
    slope = p * (1 - rest)
    inside = rest > 0
    level = slope.masked_fill(~inside, -torch.inf).amax(-1, keepdim=True)
    assert close(slope[inside], level.expand_as(slope)[inside])
    assert (slope <= level + 1e-12).all()
    assert (~inside).any()
    model, _ = fp.flow(estimators.straight_through(), p[:10], start[:10], steps=3000)
    assert (model - rest[:10]).abs().max() < 0.02
    assert (start.softmax(-1)[:10] - rest[:10]).abs().amax(-1).min() > 0.04


def test_reinmax_follows_the_exact_gradient_there() -> None:
    """Its mean is the exact gradient times a number, up to the guard; so it collapses."""
    p, start = case()
    loss = fp.toy_loss(p)
    mean = exact.moments(estimators.reinmax(), loss, start).mean
    expected = -SCALE / 2 * softmax_jacobian(start.softmax(-1), p)
    assert close(mean / SCALE, expected / SCALE, 1e-7)
    factor = SCALE * fp.SIZE / 2 / float(torch.log1p(torch.tensor(1 / fp.EPS)))
    slope = exact.gradient(loss, start)
    assert float(mean.norm() / slope.norm()) == pytest.approx(factor, rel=1e-5)
    model, _ = fp.flow(estimators.reinmax(), p[:5], start[:5], steps=3000)
    assert (model - fp.ascent_limit(p[:5])).abs().max() < 0.05


def test_small_fisher_step_is_reinmax_there() -> None:
    """Every category looks better than the draw, so nothing is clamped and the identity holds."""
    p, start = case()
    loss = fp.toy_loss(p)
    step = fp.FLOWS["ILS, Fisher, small step"]
    mean = exact.moments(step, loss, start).mean
    twice = 2 * exact.moments(estimators.reinmax(), loss, start).mean * fp.EPS * fp.SIZE
    assert close(mean, twice, 1e-12)
    assert mean.abs().max() > 1e-3


def test_darn_climbs_a_convex_function() -> None:
    """Its mean is -c J grad U, U = sum p pi^2 / 2: the rest point 1/p repels, corners attract."""
    p, start = case()
    probs = start.softmax(-1)
    loss = fp.toy_loss(p)
    mean = exact.moments(estimators.darn(), loss, start).mean
    assert close(mean / SCALE, -softmax_jacobian(probs, p * probs), 1e-7)
    rest = (1 / p) / (1 / p).sum(-1, keepdim=True)
    there = exact.moments(estimators.darn(), loss, rest.log()).mean
    assert (there / SCALE).abs().max() < 1e-7
    pushed = rest.clone()
    pushed[:, 0] *= 1.01
    pushed = pushed / pushed.sum(-1, keepdim=True)
    away = exact.moments(estimators.darn(), loss, pushed.log()).mean
    assert (away[:, 0] < 0).all()  # descent raises what was raised
    model, _ = fp.flow(estimators.darn(), p[:5], start[:5], steps=3000)
    assert (model.amax(-1) > 0.98).all()


def test_flow_finds_the_markov_limit() -> None:
    """For a form of ILS the flow ends at the stationary distribution of its targets."""
    p, start = case(3, 5)
    model, left = fp.flow(fp.FLOWS["ILS, mass kept, small step"], p, start, steps=3000)
    assert close(model, p, 1e-3)
    assert (left < 1e-2).all()
    assert (start.softmax(-1) - p).abs().max() > 0.05


def test_ladder_loss_is_the_bounds() -> None:
    """The expected loss of the mean of n draws is the ladder's bound, by enumeration."""
    p, start = case(4, 3)
    n = 3
    repeated = start.unsqueeze(-2).expand(-1, n, -1)
    found = exact.expectation(fp.ladder_loss(p), repeated)
    known = (p * (p + fp.EPS).log()).sum(-1) / fp.SIZE
    bound = fp._bound(p, start.softmax(-1), n) * p.shape[-1] / fp.SIZE
    assert close(found + known, bound, 1e-10)


def test_records_can_be_recomputed(tmp_path: object) -> None:
    """First steps of the simulation and one method of the ladder are what the records hold."""
    folder = records.FOLDER if records.FOLDER.is_absolute() else records.Path("book/data")
    again = fp.simulate_flows(stop=20)
    record = records.read("fixed-simulated", folder)
    assert records.difference(record, again) < 1e-6
