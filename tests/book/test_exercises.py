"""The answers to the exercises, as they stand on their page, recomputed in float64."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
import torch
from cases import close
from torch import Tensor

import ils
from ils import estimators, exact, squeeze
from lab.fixed_points import experiment as fixed
from lab.fixed_points import repaired
from lab.optimality import experiment as opt
from lab.problems import toy
from tools.browser import ROOT

DOUBLE = torch.float64
PAGES = ("construction", "squeeze", "fixed-points", "relatives", "optimality")
NUMBER = re.compile(r"(-?)(?:\\tfrac(\d|\{\d+\})(\d|\{\d+\})|(\d+(?:\.\d+)?))")


def numbers(text: str) -> list[Fraction]:
    """Those of a formula, ``\\tfrac`` included."""
    return [
        (-1 if sign else 1)
        * (Fraction(int(over.strip("{}")), int(under.strip("{}"))) if over else Fraction(plain))
        for sign, over, under, plain in NUMBER.findall(text)
    ]


def answers(page: str) -> list[list[Fraction]]:
    """The numbers of each answer on a chapter, in its order."""
    text = (ROOT / "book" / "teach.md").read_text(encoding="utf-8")
    text = text.partition(f"(exercises-{page})=")[2].partition("\n### ")[2].partition("\n### ")[0]
    found = [numbers(line) for line in re.findall(r"^\*Answer:\* (.*)$", text, re.M)]
    assert (
        len(found) == text.count("{dropdown} Solution") == len(re.findall(r"^\*\*\d\.", text, re.M))
    )
    return found


def agree(said: list[Fraction], computed: Tensor | list[float], within: float = 1e-12) -> bool:
    """Number by number; a decimal is right to its last digit."""
    values = torch.as_tensor(computed, dtype=DOUBLE).flatten().tolist()
    return len(said) == len(values) and all(
        abs(float(a) - b) <= within for a, b in zip(said, values, strict=True)
    )


def vector(*entries: float) -> Tensor:
    return torch.tensor(entries, dtype=DOUBLE)


def eye(count: int) -> Tensor:
    return torch.eye(count, dtype=DOUBLE)


P = vector(0.5, 0.3, 0.2)
GRID = [k / 100 for k in range(101)]


@pytest.mark.parametrize("page", PAGES)
def test_a_changed_answer_is_noticed(page: str) -> None:
    for said in answers(page):
        assert said
        values = [float(x) for x in said]
        assert agree(said, values)
        for k in range(len(values)):
            assert not agree(said, [x + 1e-4 * (i == k) for i, x in enumerate(values)], 5e-5)


def test_construction() -> None:
    """Targets after each draw and their chain; the expected loss is least at a corner."""
    first, second = answers("construction")
    target = ils.target.intermediate_target
    slopes = vector(0.2, -1.0, 0.6)
    chain = squeeze.transition(lambda z: target(z, slopes.expand_as(z), step_size=0.5), 3)
    assert agree(first, [*chain.flatten(), *squeeze.stationary(chain)])

    def loss(z: Tensor) -> Tensor:
        return (z[..., 0] - 0.4) ** 2

    def rest(step: float) -> float:
        z = eye(2).requires_grad_()
        (grad,) = torch.autograd.grad(loss(z).sum(), z)
        return float(squeeze.stationary(target(z.detach(), grad, step_size=step))[0])

    values = [float(exact.expectation(loss, z.log())) for z in (vector(x, 1 - x) for x in GRID)]
    least = GRID[values.index(min(values))]
    assert agree(second[:1], [rest(1.0)])
    # The error of the limit is of the order of the step.
    assert agree(second[1:], [rest(1e-7), least], 1e-6)


def test_squeeze() -> None:
    """The bound at the truth and at the corner; the coefficient of log(eps) is least where told."""
    first, second = answers("squeeze")
    high, low = (squeeze.jensen_bound(P, model, eps=1e-8) for model in (P, vector(1, 0, 0)))
    assert agree(first, [float(high - low)], 5e-5)
    # Two guards tell the coefficient; its slope is the same in every entry at a minimum inside.
    model = vector(*map(float, second)).requires_grad_()
    (slope,) = torch.autograd.grad(
        squeeze.jensen_bound(P, model, n=2, eps=1e-200)
        - squeeze.jensen_bound(P, model, n=2, eps=1e-100),
        model,
    )
    assert close(model.sum(), vector(1.0)[0])
    assert close(slope, slope.mean().expand(3))
    assert not close(2 * P * model, (2 * P * model).mean().expand(3))


def test_fixed_points() -> None:
    """The mean of straight-through vanishes at its answer, the note's at its; errors of limits."""
    first, second = answers("fixed-points")
    p = vector(0.6, 0.3, 0.1)
    through = fixed.straight_through_limit(p)
    assert agree(first, [*through, *toy.sum_normalize_limit(p, 1e3, 1e-12, 1)], 1e-9)
    # By enumeration on the toy's own loss, which leaves a trace of its guard, about 1e-8.
    kept = through[:2].log()
    mean = exact.moments(estimators.straight_through(), fixed.toy_loss(p[:2]), kept).mean
    away = exact.moments(estimators.straight_through(), fixed.toy_loss(p[:2]), kept * 0).mean
    assert mean.abs().max() < 1e-6 * away.abs().max()
    assert p[2] < p[0] * (1 - through[0])  # what the third would gain is less than the slope
    # The error times n^2 is linear in 1/n, but for a smaller remainder: extrapolated to 0.
    for said, name in zip(second, ("exact gradient", "ReinMax (default)"), strict=True):
        near, far = ((repaired.limit(P, n, name) - P)[2] * n**2 for n in (1000, 3000))
        assert abs(float(1.5 * far - 0.5 * near) / (float(said) * 100**2) - 1) < 1e-3


def test_relatives() -> None:
    """Estimates after the first draw, the mean over all, and SPIGOT."""
    first, second = answers("relatives")
    z, grad, probs = vector(1, 0, 0), vector(1, 0, 2), vector(0.5, 0.25, 0.25)
    logits = probs.log()

    def loss(x: Tensor) -> Tensor:
        return x @ grad

    target = ils.target.intermediate_target(
        z, grad, step_size=1.0, metric=ils.metric.fisher, probs=probs, keep_mass=True
    )
    reinmax = estimators.reinmax()
    drawn = reinmax.formula(logits, z[None], loss)[0]
    mean = exact.moments(reinmax, loss, logits).mean
    assert close(mean, exact.gradient(loss, logits))
    assert agree(first, [*drawn, *(z - target), *mean])
    assert agree(second, exact.moments(estimators.spigot(step_size=1.0), loss, logits).mean)


def test_optimality() -> None:
    """Length and mean square of the flows of entry 2; factors of chains of three and two."""
    first, second = answers("optimality")
    probs = vector(0.5, 0.25, 0.25)
    least, direct = opt.electrical_flow(probs), opt.direct_flow(probs)
    bias = opt.worst_bias(least)[1] / opt.worst_bias(direct)[1]
    entry = torch.zeros(3, 1, 1, dtype=DOUBLE)
    entry[1] = 1
    noise = opt.second_moment(least * entry, probs) / opt.second_moment(direct * entry, probs)
    assert agree(first, [float(bias), float(noise)])
    table = torch.tensor([[[0.9, 0.1], [0.1, 0.9]]], dtype=DOUBLE).log()
    factors = []
    for length in (2, 1):
        start, weights = vector(0.3, -0.2)[None], vector(1, 2)[None]
        truth, mean, _ = opt.chain_gradients(
            start, [table] * length, opt.LastDraw(weights), "logits"
        )
        assert close(mean[:, 0] / truth[:, 0], mean[:, 1] / truth[:, 1])
        factors.append(float(mean[0, 0] / truth[0, 0]))
    assert agree(second, factors, 5e-5)
