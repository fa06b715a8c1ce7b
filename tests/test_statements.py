"""The numbered statements beside false variants of them, which the same check must refuse.

A check returns how far a statement is from holding: the residual of an equation, or by how much a
bound is broken.  Its arguments are the parts of the statement that could be otherwise (a constant,
a sign, a condition); their defaults are those of the book.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import close, eye, normal
from torch import Tensor

import ils
from _ext import statements
from ils import exact
from ils.estimators import (
    Estimator,
    darn,
    reinmax,
    straight_through,
    sum_and_sample,
    unordered_set,
    zgr,
)
from ils.metric import euclidean, fisher
from ils.rules import DARN, Limit, Note, ReinMax, Rule, Step, StraightThrough
from ils.target import direction, intermediate_target

ROOT = Path(__file__).resolve().parents[1]
Grad = Callable[[Tensor], Tensor]


@dataclass
class Check:
    """A statement, its residual, and the arguments that make it false."""

    label: str
    residual: Callable[..., float]
    tolerance: float
    false: dict[str, dict[str, Any]] = field(default_factory=dict)


CHECKS: list[Check] = []


def states(label: str, tolerance: float = 1e-10, **false: dict[str, Any]) -> Callable[..., Any]:
    """Enter a residual and the false variants of its statement into the table."""

    def enter(residual: Callable[..., float]) -> Callable[..., float]:
        CHECKS.append(Check(label, residual, tolerance, false))
        return residual

    return enter


def largest(x: Tensor) -> float:
    return float(x.abs().max())


K = 4
THETA = normal(K, seed=1)
PI = THETA.softmax(-1)
GRADS = normal(K, K, seed=6)  # the gradient at each draw, row by row
SLOPE = normal(K, seed=3)  # that of a linear loss
MEAN = float(PI @ SLOPE)
F = torch.diag(PI) - torch.outer(PI, PI)
CORNERS = eye(K)
EXACT = PI * (SLOPE - MEAN)  # the gradient of the expected linear loss


def updates(rule: Rule, grads: Tensor = GRADS) -> Tensor:
    """What a rule hands on after each draw."""
    return rule.gradient(grads, CORNERS, THETA.expand(K, K))


def targets(grads: Tensor = GRADS, step: float = 0.3, **options: Any) -> Tensor:
    """The target after each draw."""
    probs = PI.expand(K, K)
    return intermediate_target(CORNERS, grads, step_size=step, probs=probs, **options)


def gradient_of(loss: Grad, z: Tensor) -> Tensor:
    leaf = z.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf).sum(), leaf)[0]


# --- The construction


@states("prop-draw", reachable={"strict": False})
def draw(strict: bool = True) -> float:
    """The measure of the numbers that name each category, the ends of the intervals counted."""
    probs = torch.tensor([0.0, 0.25, 0.0, 0.5, 0.25], dtype=torch.float64)
    total = probs.cumsum(0)
    u = torch.arange(16, dtype=torch.float64)[:, None] / 16
    named = (total > u * total[-1]) if strict else (total >= u * total[-1])
    law = torch.nn.functional.one_hot(named.double().argmax(-1), 5).double().mean(0)
    return largest(law - probs)


def squared(x: Tensor) -> Tensor:
    """Onto the simplex, smooth, and every corner stays."""
    return x**2 / (x**2).sum(-1, keepdim=True)


def kinked_elsewhere(x: Tensor) -> Tensor:
    """Smooth at the first corner alone."""
    return torch.where(x[..., :1] > 0.5, squared(x), ils.sum_normalize(x))


@states(
    "prop-no-smooth",
    leaves_the_simplex={"h": lambda x: x / x.sum(-1, keepdim=True)},
    moves_the_corner={"h": lambda x: x.softmax(-1)},
)
def no_smooth(h: Grad = squared) -> float:
    """The Jacobian at the corners."""
    each = [torch.autograd.functional.jacobian(h, corner) for corner in CORNERS]
    return max(largest(jacobian) for jacobian in each)


@states("prop-no-smooth", one_corner_is_not_enough={"h": kinked_elsewhere})
def no_smooth_mean(h: Grad = squared) -> float:
    """The mean of the update of Algorithm 1, and its distance from pi - z."""
    delta = torch.stack(
        [
            torch.autograd.functional.jacobian(h, corner).T @ grad
            if h is squared or i == 0
            else grad - grad[i]
            for i, (corner, grad) in enumerate(zip(CORNERS, GRADS, strict=True))
        ]
    )
    update = PI - h(CORNERS - 0.3 * delta)
    return max(largest(PI @ update), largest(update - (PI - CORNERS)))


@states(
    "prop-direction",
    less_the_mean={"weights": PI},
    nothing_taken_off={"weights": torch.zeros_like(PI)},
)
def sum_direction(weights: Tensor | None = None) -> float:
    """Delta_k = g_k - g_i."""
    drawn = GRADS.diagonal() if weights is None else GRADS @ weights
    return largest(direction(CORNERS, GRADS, normalizer=ils.sum_normalize) - GRADS + drawn[:, None])


@states("prop-sum", sign={"sign": -1.0}, divided_by_one={"power": 0}, clamped_sum={"kept": True})
def sum_target(sign: float = 1.0, power: int = 1, kept: bool = False) -> float:
    """<g, pi_D - z> = -alpha |Delta|^2 / S of the unclamped target."""
    delta = GRADS - GRADS.diagonal()[:, None]
    moved = targets(normalizer=ils.sum_normalize_unclamped) - CORNERS
    share = 1 - 0.3 * (delta.clamp(max=0) if kept else delta).sum(-1)
    expected = -sign * 0.3 * (delta**2).sum(-1) / share**power
    return largest((GRADS * moved).sum(-1) - expected)


@states(
    "prop-project",
    larger_constant={"constant": 1.1},
    division_by_the_sum={"normalizer": ils.sum_normalize},
)
def project(constant: float = 1.0, normalizer: Any = ils.project_simplex) -> float:
    """By how much <g, pi_D - z> exceeds -|pi_D - z|^2 / alpha."""
    moved = targets(step=0.05, normalizer=normalizer) - CORNERS
    excess = (GRADS * moved).sum(-1) + constant * (moved**2).sum(-1) / 0.05
    return float(excess.clamp(min=0).max())


@states("prop-gradient", without_the_sum={"power": 0}, sign={"sign": -1.0})
def intermediate_loss(power: int = 1, sign: float = 1.0) -> float:
    """The derivative of -sum_k q_k log pi_k is pi sum_k q_k - q, for any q."""
    q, theta = normal(K, seed=4), THETA.clone().requires_grad_()
    (found,) = torch.autograd.grad(-(q * theta.log_softmax(-1)).sum(), theta)
    return largest(found - sign * (PI * q.sum() ** power - q))


@states("prop-natural", target_off_the_simplex={"total": 2.0}, sign={"sign": -1.0})
def natural(total: float = 1.0, sign: float = 1.0) -> float:
    """F (-pi_D / pi) = pi - pi_D."""
    q = total * normal(K, seed=5).softmax(-1)
    return largest(F @ (-q / PI) - sign * (PI - q))


@states("prop-natural", tolerance=1e-5, of_the_true_gradient={"natural": False})
def natural_step(natural: bool = True) -> float:
    """A step of size eta moves pi by eta (pi_D - pi), to first order."""
    q, eta = normal(K, seed=5).softmax(-1), 1e-7
    gradient = -q / PI if natural else PI - q
    moved = ((THETA - eta * gradient).softmax(-1) - PI) / eta
    return largest(moved - (q - PI))


@states("prop-natural", one_power={"power": 1}, of_the_true_gradient={"natural": False})
def natural_variance(power: int = 2, natural: bool = True) -> float:
    """The variance of entry k of -pi_D / pi is that of pi_D over pi_k^2."""
    target = targets()
    spread = PI @ (target - PI @ target) ** 2
    each = -target / PI if natural else PI - target
    return largest(PI @ (each - PI @ each) ** 2 - spread / PI**power)


@states("prop-centred", cubes={"power": 3}, largest={"power": math.inf})
def centred(power: float = 2) -> float:
    """E |pi - z|^2 = 1 - |pi|^2."""
    wanted = PI.max() if power == math.inf else (PI**power).sum()
    return float((PI @ ((PI - CORNERS) ** 2).sum(-1) - 1 + wanted).abs())


@states(
    "prop-scale",
    mass_free={"options": {"normalizer": ils.sum_normalize_unclamped}},
    clamped={"options": {"normalizer": ils.sum_normalize, "keep_mass": True}},
    not_centred={"centre": False},
)
def linear_step(options: dict[str, Any] | None = None, centre: bool = True) -> float:
    """Twice the gradient is twice the update: unclamped, mass kept, centred; at a long step."""
    chosen = options or {"normalizer": ils.sum_normalize_unclamped, "keep_mass": True}
    origin = CORNERS if centre else PI.expand(K, K)
    one, two = (origin - targets(f * GRADS, 2.0, **chosen) for f in (1, 2))
    return largest(two - 2 * one)


@states("prop-scale", above_the_threshold={"share": 1.2}, not_centred={"centre": False})
def projected_step(share: float = 1.0, centre: bool = True) -> float:
    """The projected update is homogeneous up to alpha (g_i - mean over the face) = 1."""
    worst = 0.0
    for i in range(K):
        # The face: the draw, and the categories that are better than its mean.
        order = [i, *sorted((k for k in range(K) if k != i), key=lambda k: float(GRADS[i, k]))]
        size = max(
            (n for n in range(2, K + 1) if GRADS[i, order[n - 1]] < GRADS[i, order[:n]].mean()),
            default=1,
        )
        excess = float(GRADS[i, i] - GRADS[i, order[:size]].mean())
        if excess <= 0:
            continue
        at = share / excess
        origin = CORNERS[i] if centre else PI
        options = {"normalizer": ils.project_simplex}
        far, near = (origin - targets(GRADS, s, **options)[i] for s in (at, at / 2))
        worst = max(worst, largest(far - 2 * near))
    assert (GRADS.diagonal() > GRADS.amin(-1)).any()
    return worst


@states("prop-scale", other_sum={"free": True}, without_a_sum={"power": 0})
def clamped_kept_step(free: bool = False, power: int = 1) -> float:
    """Clamped, mass kept: -alpha (-Delta_k)_+ / (1 + alpha sum of what is worse)."""
    delta = GRADS - GRADS.diagonal()[:, None]
    moved = CORNERS - targets(step=0.05, normalizer=ils.sum_normalize, keep_mass=True)
    worse = (delta.clamp(max=0).abs() if free else delta.clamp(min=0)).sum(-1, keepdim=True)
    expected = delta.clamp(max=0) * 0.05 / (1 + 0.05 * worse) ** power
    return largest((moved - expected)[CORNERS == 0])


RISING = GRADS[0].sort().values
FALLING, MIXED = RISING.flip(0), RISING.roll(-1)
EVEN = RISING - (RISING.sum() - K * RISING[0]) * CORNERS[-1]


@states(
    "prop-scale",
    above_the_threshold={"share": 1.2},
    better_though_clamped={"clamped": MIXED},
    worse_though_clamped_and_kept={"kept": MIXED},
    not_clamped_with_a_sum={"free": RISING},
)
def homogeneous_cases(
    share: float = 1.0, clamped: Tensor = RISING, kept: Tensor = FALLING, free: Tensor = EVEN
) -> float:
    """Where the other forms are homogeneous after all, at a draw of the first category.

    Not clamped, mass free: rises that sum to zero. Clamped, mass free: none better. Clamped, mass
    kept: none better; or none worse, up to alpha sum (-Delta)_+ = 1.
    """
    draw = CORNERS[0]
    limit = share / float((kept[0] - kept).clamp(min=0).sum())
    cases = (
        (free, 0.3, {"normalizer": ils.sum_normalize_unclamped}),
        (clamped, 0.3, {"normalizer": ils.sum_normalize}),
        (kept, limit, {"normalizer": ils.sum_normalize, "keep_mass": True}),
        (RISING, 0.3, {"normalizer": ils.sum_normalize, "keep_mass": True}),
    )
    worst = 0.0
    for slope, step, options in cases:
        far, near = (
            draw - intermediate_target(draw, slope, step_size=s, probs=PI, **options)
            for s in (step, step / 2)
        )
        worst = max(worst, largest(far - 2 * near))
    return worst


@states(
    "prop-scale",
    tolerance=1e-5,
    the_scale_enters={"factor": 3.0, "step": 1.0},
    the_clamp_left_out={"normalizer": ils.project_simplex},
)
def saturated(factor: float = 3.0, step: float = 1e7, normalizer: Any = ils.sum_normalize) -> float:
    """The limit of the clamped target at long steps: (-Delta)_+ over its sum."""
    better = (GRADS.diagonal()[:, None] - GRADS).clamp(min=0)
    total = better.sum(-1, keepdim=True)
    limit = torch.where(total > 0, better / total, CORNERS)
    return largest(targets(factor * GRADS, step, normalizer=normalizer) - limit)


@states("prop-markov", transposed={"transpose": True}, sign={"sign": -1.0})
def expected_update(transpose: bool = False, sign: float = 1.0) -> float:
    """E[pi - pi_D] = pi - pi T."""
    matrix = targets()
    mean = PI @ updates(Note(0.3))
    return largest(mean - sign * (PI - PI @ (matrix.T if transpose else matrix)))


@states("prop-markov", tolerance=1e-5, of_the_true_gradient={"natural": False})
def expected_flow(natural: bool = True) -> float:
    """The expected step of the note's gradient moves pi by eta (pi T - pi), to first order."""
    matrix, eta = targets(), 1e-7
    mean = PI @ (-matrix / PI if natural else PI - matrix)
    return largest(((THETA - eta * mean).softmax(-1) - PI) / eta - (PI @ matrix - PI))


# --- The estimators


def formula_of(estimator: Estimator, degree: int = 3) -> Tensor:
    loss = lambda z: (z @ SLOPE) ** degree  # noqa: E731
    return estimator.formula(THETA, CORNERS, loss)


@states("prop-zgr", thirds={"share": 1 / 3}, other_temperature={"temperature": 2.0})
def half_the_sum(share: float = 0.5, temperature: float = 1.0) -> float:
    """ReinMax is half of straight-through plus DARN, and ZGR, at every draw."""
    found = formula_of(reinmax(temperature=temperature))
    sum_of_both = formula_of(straight_through()) + formula_of(darn())
    return max(largest(found - share * sum_of_both), largest(found - formula_of(zgr())))


def bias(estimator: Estimator, loss: Grad, logits: Tensor = THETA) -> Tensor:
    return exact.moments(estimator, loss, logits).bias


@states(
    "prop-second-order",
    cubic={"degree": 3},
    straight_through={"estimator": straight_through()},
    darn={"estimator": darn()},
    warm={"estimator": reinmax(temperature=1.5)},
)
def quadratic(degree: int = 2, estimator: Estimator = reinmax()) -> float:  # noqa: B008
    """No bias for a quadratic loss of one variable."""
    return largest(bias(estimator, lambda z: (z @ SLOPE - 0.2) ** degree))


@states("prop-second-order", a_sixth={"constant": 1 / 6}, sign={"constant": -1 / 12})
def cubic(constant: float = 1 / 12) -> float:
    """For a cubic loss the bias is pi_k sum_i pi_i L''' / 12."""
    third = 6 * (SLOPE[:, None] - SLOPE) ** 3
    return largest(bias(reinmax(), lambda z: (z @ SLOPE) ** 3) - constant * PI * (third @ PI))


def wave(z: Tensor) -> Tensor:
    return torch.sin(z @ (1.3 * SLOPE) + 0.4)


@states(
    "prop-second-order", smaller={"constant": 1 / 30}, more_probable={"power": 2}, tolerance=1e-12
)
def bound(constant: float = 1 / 12, power: int = 1) -> float:
    """By how much the bias of entry k exceeds M pi_k (1 - pi_k) / 12; for two kinds of loss.

    The second is the cubic that rises along one coordinate alone and whose slope at every corner is
    zero: its bias attains the bound.
    """
    most = 0.0
    # Along i -> k the third derivative of the wave is at most the cube of the rise.
    rise = float((1.3 * (SLOPE[:, None] - SLOPE)).abs().max())
    step = lambda z: z[..., 0] ** 2 * (3 - 2 * z[..., 0]) / 12  # noqa: E731
    for loss, third in ((wave, rise**3), (step, 1.0)):
        share = PI * (1 - PI) if power == 1 else PI**2 * (1 - PI)
        excess = bias(reinmax(), loss).abs() - constant * third * share
        most = max(most, float((excess if loss is wave else excess[:1]).max()))
    return max(most, 0.0)


@states("prop-first-order", quadratic={"degree": 2}, warm={"temperature": 2.0})
def linear(degree: int = 1, temperature: float = 1.0) -> float:
    """Straight-through and DARN have no bias for a linear loss."""
    loss = lambda z: (z @ SLOPE) ** degree  # noqa: E731
    both = (straight_through(temperature=temperature), darn())
    return max(largest(bias(estimator, loss)) for estimator in both)


@states("prop-first-order", cubic={"degree": 3}, equal={"sign": 1.0})
def opposite(degree: int = 2, sign: float = -1.0) -> float:
    """For a quadratic loss the bias of the one is minus that of the other."""
    loss = lambda z: (z @ SLOPE) ** degree  # noqa: E731
    return largest(bias(straight_through(), loss) - sign * bias(darn(), loss))


class Chain:
    """Draws that depend on each other: the logits of each are a matrix times the one before."""

    def __init__(self, depth: int, categories: int = 3, scale: float = 1.0, seed: int = 0) -> None:
        self.logits = normal(categories, seed=seed)
        self.maps = [
            scale * normal(categories, categories, seed=seed + 1 + i) for i in range(depth - 1)
        ]
        self.slope = normal(categories, seed=seed + 99)

    def value(self, x: Tensor, start: int = 0) -> Tensor:
        """E[L] given the draw ``x`` before the map ``start``, extended to all vectors smoothly."""
        for i, matrix in enumerate(self.maps[start:], start):
            probs = (x @ matrix.T).softmax(-1)
            corners = eye(len(self.slope))
            return probs @ self.value(corners, i + 1)
        return x @ self.slope

    def exact(self) -> Tensor:
        """The gradient for the first logits."""
        leaf = self.logits.clone().requires_grad_()
        mean = leaf.softmax(-1) @ self.value(eye(len(leaf)))
        return torch.autograd.grad(mean, leaf)[0]

    def mean(self, rule: Rule) -> Tensor:
        """The mean of what the operator hands to the first logits, over all draws of all."""
        size = len(self.slope)
        total = torch.zeros_like(self.logits)
        for drawn in torch.cartesian_prod(*[torch.arange(size)] * (len(self.maps) + 1)).view(
            -1, len(self.maps) + 1
        ):
            leaf = self.logits.clone().requires_grad_()
            logits, chance = leaf, 1.0
            z = leaf
            for index, matrix in zip(drawn, [*self.maps, None], strict=True):
                chance = chance * float(logits.detach().softmax(-1)[index])
                z = ils.differentiable_draw(logits, eye(size)[index], rule=rule)
                logits = logits if matrix is None else matrix @ z
            (found,) = torch.autograd.grad(z @ self.slope, leaf)
            total = total + chance * found
        return total

    def mean_by_levels(self, rule: Rule) -> Tensor:
        """The same, draw by draw from the last: a rule is linear in the gradient after a draw."""
        size = len(self.slope)
        corners = eye(size)
        grads = self.slope.expand(size, size)  # after each draw, row by row
        for matrix in reversed(self.maps):
            rows = []
            for corner in corners:
                logits = matrix @ corner
                each = rule.gradient(grads, corners, logits.expand(size, size))
                rows.append(logits.softmax(-1) @ each @ matrix)
            grads = torch.stack(rows)
        each = rule.gradient(grads, corners, self.logits.expand(size, size))
        return self.logits.softmax(-1) @ each


def trapezium(chain: Chain) -> Tensor:
    """pi_k sum_i pi_i Q_ik for the smooth extension of E[L | z]."""
    corners, probs = eye(len(chain.slope)), chain.logits.softmax(-1)
    slopes = gradient_of(chain.value, corners)  # at e_i, row by row
    along = slopes - slopes.diagonal()[:, None]  # <slope at e_i, e_k - e_i>
    return probs * ((along.T - along) / 2 @ probs)


@states(
    "prop-dependent",
    no_bias={"without_bias": True},
    first_order={"rule": StraightThrough()},
    darn={"rule": DARN()},
)
def dependent(rule: Rule = ReinMax(), without_bias: bool = False) -> float:  # noqa: B008
    """Of two draws the mean for the first is the trapezium on E[L | z], and not the gradient."""
    chain = Chain(2, seed=200)
    wanted = chain.exact() if without_bias else trapezium(chain)
    return largest(chain.mean(rule) - wanted)


@states("prop-dependent", three={"depth": 3})
def dependent_depth(depth: int = 2) -> float:
    """With three draws the bias of the second enters too."""
    chain = Chain(depth, seed=200)
    return largest(chain.mean(ReinMax()) - trapezium(chain))


def relative_bias(depth: int, rule: Rule) -> float:
    """The median over chains of the bias for the first logits, in units of the gradient."""
    chains = [Chain(depth, seed=1000 * (1 + seed)) for seed in range(60)]
    apart = [(c.mean_by_levels(rule) - c.exact()).norm() / c.exact().norm() for c in chains]
    return float(torch.stack(apart).median())


def test_dependent_draws() -> None:
    """If the logits of a second draw depend on the first, a linear loss has a bias; alone, none."""
    for seed in range(5):
        chain = Chain(2, seed=200 + 10 * seed)
        wanted, mean = chain.exact(), chain.mean(ReinMax())
        assert close(mean, trapezium(chain))
        assert (mean - wanted).norm() > 0.02 * wanted.norm()
        longer = Chain(3, seed=200 + 10 * seed)
        assert close(longer.mean(ReinMax()), longer.mean_by_levels(ReinMax()))
        # Of the last draw nothing depends: its own logits get the exact gradient.
        alone = Chain(1, seed=200 + 10 * seed)
        assert close(alone.mean(ReinMax()), alone.exact())


def test_dependence_grows_with_depth() -> None:
    """The longer a chain of dependent draws, the larger the median bias for the first."""
    for rule in (ReinMax(), StraightThrough()):
        found = [relative_bias(depth, rule) for depth in range(1, 6)]
        assert found[0] < 1e-12
        assert found[1] > 0.05
        assert found == sorted(found)


@states("prop-cold", whole={"constant": 1.0}, one_sided={"drawn": False})
def cold(constant: float = 0.5, drawn: bool = True) -> float:
    """The mean Jacobian of cold Gumbel-Rao takes g to ZGR."""
    worst = 0.0
    for i, found in enumerate(formula_of(zgr(), 1)):
        apart = CORNERS[i] - CORNERS
        left = apart if drawn else -CORNERS
        jacobian = constant * torch.einsum("k,ka,kb->ab", PI, left, apart)
        worst = max(worst, largest(jacobian @ SLOPE - found))
    return worst


@states("prop-antithetic", tolerance=1e-5, smaller_piece={"piece": min}, whole={"constant": 1.0})
def antithetic(piece: Callable[..., float] = max, constant: float = 0.5) -> float:
    """Given that the pair differs, the mean of |u - 1/2| is half of max(p, 1 - p)."""
    p, u = 0.3, (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    apart = (u < p) != (1 - u < p)
    return abs(float((u - 0.5).abs()[apart].mean()) - constant * piece(p, 1 - p))


@states(
    "prop-unordered",
    equally_likely_orders={"weighted": False},
    one_order={"average": False},
    one_baseline={"baseline": True},
)
def without_the_order(weighted: bool = True, average: bool = True, baseline: bool = False) -> float:
    """A set of three states gives the mean of sum-and-sample over its orders, by their chances."""
    ordered = sum_and_sample(samples=3, baseline=False)
    noise, weights = ordered.randomness.support(THETA, 0)
    estimates = ordered.formula(THETA, noise, wave)
    found = unordered_set(samples=3, baseline=baseline).formula(THETA, noise, wave)
    worst, members = 0.0, noise.sum(1)  # a set by its members
    for one in members.unique(dim=0):
        here = (members == one).all(-1)
        assert int(here.sum()) == 6
        share = weights[here] if weighted else torch.full_like(weights[here], 1.0)
        mean = share @ estimates[here] / share.sum() if average else estimates[here]
        worst = max(worst, largest(found[here] - mean))
    return worst


@states("prop-unordered", at_most_half={"share": 0.5}, not_smaller={"less": sum_and_sample})
def variance_without_the_order(share: float = 1.0, less: Any = unordered_set) -> float:
    """By how much the variance without the order exceeds that with it."""
    more = unordered_set if less is sum_and_sample else sum_and_sample
    low, high = (
        float(exact.moments(make(samples=3, baseline=False), wave, THETA).variance)
        for make in (less, more)
    )
    return max(low - share * high, 0.0)


# --- The operator


@states("prop-two-levels", one_number={"independent": False}, equal_blocks={"weighted": False})
def two_levels(independent: bool = True, weighted: bool = True) -> float:
    """The law of a draw of a block, then of a category in it, with two uniform numbers."""
    probs = torch.tensor([1, 1, 3, 3], dtype=torch.float64) / 8
    blocks = probs.view(2, 2)
    mass = blocks.sum(-1) if weighted else torch.full((2,), 0.5, dtype=torch.float64)
    u = (torch.arange(64, dtype=torch.float64) + 0.5) / 64
    v = u if independent else None
    law = torch.zeros(4, dtype=torch.float64)
    for first in u:
        block = int(first >= mass[0])
        inner = blocks[block] / blocks[block].sum()
        for second in u if v is not None else first[None]:
            law[2 * block + int(second >= inner[0])] += 1
    return largest(law / law.sum() - probs)


# --- The relatives


def per_step(grads: Tensor = GRADS, step: float = 0.3, **options: Any) -> Tensor:
    chosen = {"normalizer": ils.sum_normalize_unclamped, "metric": fisher, "keep_mass": True}
    return (CORNERS - targets(grads, step, **(chosen | options))) / step


@states(
    "prop-fisher-reinmax",
    euclidean={"options": {"metric": euclidean}},
    mass_free={"options": {"keep_mass": False}},
    clamped={"options": {"normalizer": ils.sum_normalize}},
    once={"factor": 1.0},
)
def fisher_reinmax(options: dict[str, Any] | None = None, factor: float = 2.0) -> float:
    """The unclamped, mass-keeping step in the Fisher metric, over alpha, is twice ReinMax."""
    return largest(per_step(**(options or {})) - factor * updates(ReinMax()))


@states(
    "prop-clamped-fisher",
    tolerance=1e-5,
    both_ends={"clamp": False},
    euclidean={"metric": euclidean},
)
def clamped_flow(clamp: bool = True, metric: Any = fisher) -> float:
    """The mean is sum_ij pi_i pi_j (g_i - g_j)_+ (e_i - e_j) at small steps."""
    rise = GRADS.diagonal()[:, None] - GRADS
    flow = PI[:, None] * PI * (rise.clamp(min=0) if clamp else rise)
    expected = flow.sum(1) - flow.sum(0)
    found = PI @ per_step(step=1e-7, normalizer=ils.sum_normalize, metric=metric)
    return largest(found - expected)


@states("prop-imle", tolerance=1e-5, one_probability={"power": 0}, either_way={"clamp": False})
def small_imle(power: int = 1, clamp: bool = True) -> float:
    """Of two categories the second argmax differs with probability lambda pi_0 pi_1 (g_0 - g_1)_+.

    Both are drawn with the same noise: the first wins as long as its lead, a logistic number, is
    above its lead in logits.
    """
    lead, step = torch.tensor(0.7, dtype=torch.float64), 1e-7
    worst = 0.0
    for rise in (0.8, -0.8):
        # First 0, then 1.
        chance = (torch.sigmoid(lead) - torch.sigmoid(lead - step * rise)).clamp(min=0) / step
        share = torch.sigmoid(lead) * torch.sigmoid(-lead) ** power
        worst = max(worst, float((chance - share * (max(rise, 0.0) if clamp else rise)).abs()))
    return worst


@states(
    "prop-spigot",
    not_centred={"rule": Note(0.3, normalizer=ils.project_simplex)},
    division={"rule": Note(0.3, centred=True)},
)
def spigot(rule: Rule = Note(0.3, normalizer=ils.project_simplex, centred=True)) -> float:  # noqa: B008
    """e - P(e - gamma g), with the draw for e, is the centred, projected step."""
    return largest(CORNERS - ils.project_simplex(CORNERS - 0.3 * GRADS) - updates(rule))


@states("prop-spigot-eg", tolerance=1e-5, half={"constant": 0.5}, at_a_draw={"mean": False})
def spigot_eg(constant: float = 1.0, mean: bool = True) -> float:
    """(pi - softmax(theta - gamma g)) / gamma tends to J g, with g at the mean."""
    g = gradient_of(wave, PI)
    moved = (PI - (THETA - 1e-7 * g).softmax(-1)) / 1e-7
    return largest(moved - constant * F @ (g if mean else gradient_of(wave, CORNERS[0])))


@states("prop-natural-plane", a_category_of_probability_zero={"zero": True})
def natural_plane(zero: bool = False) -> float:
    """F^+ F g = g - mean g, for pi > 0."""
    probs = PI.clone()
    probs[0] = 0.0 if zero else probs[0]
    probs = probs / probs.sum()
    matrix = torch.diag(probs) - torch.outer(probs, probs)
    inverse = torch.linalg.pinv(matrix, rtol=1e-12, hermitian=True)
    return largest(inverse @ matrix @ SLOPE - (SLOPE - SLOPE.mean()))


@states(
    "prop-natural-plane",
    the_plane={"share": 0.0},
    other_mean={"swapped": True},
)
def kept_mean(share: float = 1.0, swapped: bool = False) -> float:
    """The mean of the mass-keeping step is g_k - <pi, g> - K pi_k (mean g - g_k)."""
    first, second = (SLOPE.mean(), MEAN) if swapped else (MEAN, SLOPE.mean())
    wanted = SLOPE - first - share * K * PI * (second - SLOPE)
    return largest(PI @ per_step(SLOPE.expand(K, K), metric=euclidean) - wanted)


@states("prop-natural-plane", once={"factor": 1.0}, three_categories={"count": 3})
def kept_pair(factor: float = 2.0, count: int = 2) -> float:
    """Of two categories the mass-keeping step is twice the natural gradient, at every draw."""
    slope, corners = SLOPE[:count], eye(count)
    step = direction(corners, slope.expand(count, -1), keep_mass=True)
    return largest(step - factor * (slope - slope.mean()))


@states("prop-natural-plane", tolerance=1e-5, the_plane={"cone": False})
def tangent_cone(cone: bool = True) -> float:
    """(z - pi_D) / alpha of the projected step tends to minus the projection of -g on the cone."""
    found = (CORNERS - targets(step=1e-7, normalizer=ils.project_simplex)) / 1e-7
    worst = 0.0
    for i in range(K):
        wanted, inside = -GRADS[i], torch.ones(K, dtype=torch.bool)
        for _ in range(K):
            # Entries but that of the draw must not fall: those that would are held at zero.
            shifted = torch.where(inside, wanted - wanted[inside].mean(), 0.0)
            falls = (shifted < 0) & (torch.arange(K) != i) & cone
            if not falls.any():
                break
            inside &= ~falls
        worst = max(worst, largest(found[i] + shifted))
    return worst


# --- Beyond categories


@states("prop-kl-target", other_sign={"sign": 1.0}, without_the_width={"sign": 0.0})
def kl_target(sign: float = -1.0) -> float:
    """For a normal the width w of the target adds -w^2 / sigma^3 to the point's gradient."""
    sigma = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    normal_law = torch.distributions.Normal
    mu, point, width = (torch.tensor(x, dtype=torch.float64) for x in (0.3, 1.1, 0.6))
    wanted = torch.distributions.kl_divergence(normal_law(point, width), normal_law(mu, sigma))
    (whole,) = torch.autograd.grad(wanted, sigma)
    (alone,) = torch.autograd.grad(-normal_law(mu, sigma).log_prob(point), sigma)
    return float((whole - alone - sign * width**2 / sigma.detach() ** 3).abs())


@states("prop-mixed", tolerance=1e-5, sign={"sign": -1.0}, metric_left_out={"power": 0})
def small_step(sign: float = 1.0, power: int = 1) -> float:
    """Of a gamma draw (s(z) - s(z - alpha M g)) / alpha tends to d/da d/dz log p M g = M g / z."""
    a = torch.full((5,), 1.4, dtype=torch.float64, requires_grad=True)
    z, g = normal(5, seed=50).exp(), normal(5, seed=51)
    metric, alpha = z.sqrt(), 1e-7

    def score(at: Tensor) -> Tensor:
        law = torch.distributions.Gamma(a, torch.tensor(0.7, dtype=torch.float64))
        return torch.autograd.grad(law.log_prob(at).sum(), a)[0]

    found = (score(z) - score(z - alpha * metric * g)) / alpha
    return largest(found - sign * metric**power * g / z)


def gaussian(points: int = 4001) -> tuple[Tensor, Tensor]:
    """Nodes and weights for the standard normal law."""
    nodes = torch.linspace(-12, 12, points, dtype=torch.float64)
    weights = torch.exp(-(nodes**2) / 2)
    return nodes, weights / weights.sum()


@states("prop-location-scale", twice_the_correction={"share": 1.0}, once={"factor": 1.0})
def location_scale(share: float = 0.5, factor: float = 2.0) -> float:
    """For the scale of a normal: 2 / sigma^2 (E[eps g] - alpha / (2 sigma) E[g^2])."""
    eps, weights = gaussian()
    sigma, alpha = 0.8, 0.3
    z, g = 0.2 + sigma * eps, torch.sin(2 * eps) + 0.4
    score = lambda x: (x - 0.2) ** 2 / sigma**3 - 1 / sigma  # noqa: E731
    found = weights @ (score(z) - score(z - alpha * g)) / alpha
    first, second = weights @ (eps * g), weights @ g**2
    return float((found - factor / sigma**2 * (first - share * alpha / sigma * second)).abs())


def poisson(rate: float = 1.7) -> tuple[Tensor, Tensor]:
    """Counts and their probabilities."""
    z = torch.arange(80, dtype=torch.float64)
    return z, torch.exp(z * math.log(rate) - rate - torch.lgamma(z + 1))


@states("prop-natural-families", not_divided={"power": 0}, cubic={"degree": 3})
def natural_families(power: int = 1, degree: int = 1) -> float:
    """With M = V the mean parameter gets g: the exact gradient for an affine loss."""
    rate = 1.7
    z, p = poisson(rate)
    wanted = p @ ((z / rate - 1) * z**degree)
    g = degree * z ** (degree - 1)
    return float((p @ (rate * g) / rate**power - wanted).abs())


@states(
    "prop-stein",
    sixth={"constant": 1 / 6},
    sign={"constant": -1 / 12},
    without_the_variance={"variance": 1.0},
)
def stein(constant: float = 1 / 12, variance: float = 1.7) -> float:
    """For a cubic loss of a Poisson draw the bias for eta is V L''' / 12."""
    rate = 1.7
    z, p = poisson(rate)
    wanted = p @ ((z - rate) * z**3)
    return float((p @ ((rate + z) / 2 * 3 * z**2) - wanted - constant * variance * 6).abs())


@states("prop-stein", straight_through={"share": 0.0}, cubic={"degree": 3}, mass={"share": 1.0})
def stein_quadratic(share: float = 0.5, degree: int = 2) -> float:
    """M is half the mean square of the jumps up and down: exact for a quadratic loss."""
    rate = 1.7
    z, p = poisson(rate)
    metric = (1 - share) * rate + share * z
    return float((p @ (metric * degree * z ** (degree - 1)) - p @ ((z - rate) * z**degree)).abs())


@states("prop-galerkin", one_moment={"slope": 0.0}, other_shape={"shift": 2.0})
def galerkin(slope: float = 1.0, shift: float = 1.0) -> float:
    """The velocity of a gamma draw, z / (2a) [3 - b z / (a + 1)], is exact for z and z^2."""
    a, b = 1.4, 0.7
    first, second, third = a / b, a * (a + 1) / b**2, a * (a + 1) * (a + 2) / b**3
    one = (3 * first - slope * b * second / (a + shift)) / (2 * a)
    two = 2 * (3 * second - slope * b * third / (a + shift)) / (2 * a)
    return max(abs(one - 1 / b), abs(two - (2 * a + 1) / b**2))


@states("prop-any", cubic={"degree": 3}, whole={"constant": 1.0}, mean_at_zero={"about": 0.0})
def any_distribution(degree: int = 2, constant: float = 0.5, about: float = 1.0) -> float:
    """Half of the slope of the mean and of the score times the deviation."""
    rate = 1.7
    z, p = poisson(rate)
    score, g = z / rate - 1, degree * z ** (degree - 1)
    found = p @ (constant * (1 + score * (z - about * rate)) * g)
    return float((found - p @ (score * z**degree)).abs())


@states("prop-support", squared={"power": 2}, at_one={"at": 1})
def stopping(power: int = 1, at: int = 0) -> float:
    """Stopping at the bound takes p(0) (g(0))_+ / 2 from the mean for a Poisson draw's rate."""
    rate = 1.7
    z, p = poisson(rate)
    g, alpha = torch.cos(z), 1e-3
    moved = z - alpha * (rate + z) / 2 * g
    lost = p @ ((moved.clamp(min=0) - moved) / (alpha * rate))
    return float((lost - 0.5 * p[at] ** power * g[at].clamp(min=0)).abs())


@states(
    "prop-mixture",
    cubic={"degree": 3},
    whole={"constant": 1.0},
    the_drawn_one_keeps_its_mass={"loses": 0.0},
)
def mixture(degree: int = 2, constant: float = 0.5, loses: float = 1.0) -> float:
    """Three components, each of two points: the mean over all for the logits of the weights."""
    points, chances = normal(3, 2, seed=40), normal(3, 2, seed=41).softmax(-1)
    w = normal(3, seed=42).softmax(-1)
    found = torch.zeros(3, dtype=torch.float64)
    for places in torch.cartesian_prod(*[torch.arange(2)] * 3):
        z = points[torch.arange(3), places]
        chance = chances[torch.arange(3), places].prod()
        for i in range(3):
            moved = constant * w * degree * z[i] ** (degree - 1) * (z - z[i])
            found = found + chance * w[i] * (moved - loses * moved.sum() * eye(3)[i])
    losses = (chances * points**degree).sum(-1)
    return largest(found - w * (losses - w @ losses))


# --- The scale of the loss


@states(
    "prop-invariant",
    note={"rule": Note(0.4, centred=True)},
    fisher_mass_free={"rule": Note(0.4, metric=fisher, centred=True)},
    additive={"power": 0},
)
def homogeneous(rule: Rule = Step(0.4), power: int = 1) -> float:  # noqa: B008
    """U(c g) = c U(g)."""
    return largest(updates(rule, 7 * GRADS) - 7.0**power * updates(rule))


@states("prop-invariant", relative={"rule": Step(0.4)}, note={"rule": Note(0.4, centred=True)})
def additive(rule: Rule = Limit()) -> float:  # noqa: B008
    """The limit is linear: U(g + g') = U(g) + U(g')."""
    other = normal(K, K, seed=26)
    return largest(updates(rule, GRADS + other) - updates(rule) - updates(rule, other))


@states("prop-invariant", tolerance=1e-12, absolute={"relative": False}, half={"most": 0.2})
def bounded(relative: bool = True, most: float = 0.4) -> float:
    """No entry of the draw moves by more than the size 0.4, before h."""
    delta = direction(CORNERS, 3 * GRADS, normalizer=ils.sum_normalize)
    scale = delta.abs().amax(-1, keepdim=True) if relative else 1.0
    # The rule and the target of this step are one.
    target = ils.sum_normalize(CORNERS - 0.4 * delta / scale)
    if relative:
        rule = updates(Step(0.4, metric=euclidean), 3 * GRADS)
        assert largest(rule - scale / 0.4 * (CORNERS - target)) < 1e-12
    return max(0.0, largest(0.4 * delta / scale) - most)


def small(normalizer: Any = ils.sum_normalize, metric: Any = fisher) -> Step:
    return Step(1e-7, normalizer=normalizer, metric=metric)


@states(
    "prop-invariant",
    tolerance=1e-5,
    euclidean={"metric": euclidean},
    between={"metric": lambda delta, probs: probs.sqrt() * delta},
    unclamped_once={"normalizer": ils.sum_normalize_unclamped},
    projected={"normalizer": ils.project_simplex},
)
def clamped_mean(metric: Any = fisher, normalizer: Any = ils.sum_normalize) -> float:
    """For a linear loss the clamped relative rule has the exact mean, in the Fisher metric."""
    return largest(PI @ updates(small(normalizer, metric), SLOPE.expand(K, K)) - EXACT)


@states("prop-invariant", euclidean={"metric": euclidean}, twice={"factor": 2.0})
def limit_mean(metric: Any = fisher, factor: float = 1.0) -> float:
    """For a linear loss the limit rule has the exact mean, in the Fisher metric alone."""
    return largest(PI @ updates(Limit(metric), SLOPE.expand(K, K)) - factor * EXACT)


@states("prop-invariant", tolerance=1e-5, once={"factor": 1.0}, clamped={"h": ils.sum_normalize})
def unclamped_limit(factor: float = 2.0, h: Any = ils.sum_normalize_unclamped) -> float:
    """The unclamped relative rule tends to twice the limit rule, in every metric."""
    return max(
        largest(updates(small(h, metric)) - factor * updates(Limit(metric)))
        for metric in (fisher, euclidean)
    )


@states("prop-invariant", the_probability_once={"share": 0.0}, fisher_weights={"flat": False})
def limit_mean_by_weights(share: float = 1.0, flat: bool = True) -> float:
    """With M = diag(w): sum_i (w_k pi_i + w_i pi_k) (g_k - g_i) / 2; here w = 1."""
    w = torch.ones_like(PI) if flat else PI
    weights = (torch.outer(w, PI) + share * torch.outer(PI, w)) / 2
    wanted = (weights * (SLOPE[:, None] - SLOPE)).sum(-1)
    return largest(PI @ updates(Limit(euclidean), SLOPE.expand(K, K)) - wanted)


# --- The tests


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: f"{c.label}-{c.residual.__name__}")
def test_true_as_stated(check: Check) -> None:
    """As the book states it, the residual of each statement is below its tolerance."""
    assert check.residual() <= check.tolerance


VARIANTS = [(check, name) for check in CHECKS for name in check.false]


@pytest.mark.parametrize(
    ("check", "name"), VARIANTS, ids=lambda x: x if isinstance(x, str) else x.label
)
def test_false_variants_are_refused(check: Check, name: str) -> None:
    """With another constant or sign, or a condition less, the same residual is far above it."""
    assert check.residual(**check.false[name]) > 1e-3
    assert check.tolerance < 1e-4


def test_every_check_has_a_false_variant() -> None:
    """No statement stands in the table without a variant that it refuses."""
    assert all(check.false for check in CHECKS)
    assert len({check.residual.__name__ for check in CHECKS}) == len(CHECKS)


# In a test: a comment before what must fail, or a table of what must.
REFUSES = re.compile(r"# False\b.*(?:\n.*){1,8}?\bassert\b|\bFALSE_[A-Z]+\b")


def refused_elsewhere(statement: statements.Statement) -> bool:
    """Whether a test that a statement names holds a false variant against it."""
    sources = (statements.check(ROOT / file, name).source for file, name in statement.tests)
    return any(map(REFUSES.search, sources))


def test_every_statement_has_a_false_variant() -> None:
    """Each numbered statement of the book is in the table, or a test that it names refuses one."""
    book = [one for chapter in statements.chapters(ROOT) for one in chapter.statements]
    table = {check.label for check in CHECKS}
    assert table <= {one.label for one in book}
    assert not [one.label for one in book if one.label not in table and not refused_elsewhere(one)]
    # False: that every test counts.
    assert not refused_elsewhere(
        statements.Statement("", "", (("tests/test_statements.py", "test_true_as_stated"),))
    )
