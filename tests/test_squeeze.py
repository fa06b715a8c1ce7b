"""The squeeze and its ladder against enumeration, and fixed points against their definition."""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import Any

import pytest
import torch
from cases import close, distribution, eye, needs_no_defaults, normal
from hypothesis import given, settings
from hypothesis import strategies as st
from ladder_minimiser import half_count, minimiser_of, slope
from torch import Tensor

import ils
from ils.estimators import intermediate_loss_sampling
from ils.squeeze import gap, jensen_bound, kl, stationary, transition

EPSILONS = (1e-8, 1e-3, 0.5)


def bound_by_enumeration(p: Tensor, q: Tensor, n: int, eps: float) -> Tensor:
    """Mean of the divergence from the average of n draws, over all sequences of draws."""
    total = torch.zeros(p.shape[:-1], dtype=torch.float64)
    for sequence in itertools.product(range(q.shape[-1]), repeat=n):
        mean = eye(q.shape[-1])[list(sequence)].mean(0)
        total = total + q[..., list(sequence)].prod(-1) * kl(p, mean, eps=eps)
    return total


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_short_types(dtype: torch.dtype) -> None:
    """Divergences, bounds and fixed points are those in float64, rounded once."""
    p = torch.tensor([0.5, 0.25, 0.25, 0.0], dtype=dtype)
    q = torch.tensor([0.25, 0.5, 0.125, 0.125], dtype=dtype)
    close_to = {"rtol": torch.finfo(dtype).eps, "atol": 0.0}
    for eps, (a, b) in itertools.product((1e-300, 1e-8, 1e-3), ((p, q), (q, p))):
        for function, options in [(kl, {}), *((jensen_bound, {"n": n}) for n in (1, 100, 5000))]:
            found = function(a, b, eps=eps, **options)
            wanted = function(a.double(), b.double(), eps=eps, **options)
            assert found.dtype == dtype
            torch.testing.assert_close(found.double(), wanted, **close_to)
    matrix = torch.tensor([[0.5, 0.5, 0.0], [0.3, 0.6, 0.1], [0.7, 0.1, 0.2]], dtype=dtype)
    found = stationary(matrix)
    assert found.dtype == dtype
    rows = matrix.double() / matrix.double().sum(-1, keepdim=True)
    torch.testing.assert_close(
        found.double(), stationary(rows), rtol=0, atol=4 * torch.finfo(dtype).eps
    )


def test_without_a_guard_many_draws_are_infinite_too() -> None:
    """Also where the probability that a category never comes rounds to zero."""
    for dtype in (torch.float32, torch.float64):
        half = torch.tensor([0.5, 0.5], dtype=dtype)
        assert jensen_bound(half, half, n=5000, eps=0).isposinf()
    certain = torch.tensor([1.0, 0.0])
    assert jensen_bound(certain, certain, n=5000, eps=0) == 0


def test_empty_batches() -> None:
    """No rows, no results."""
    rows = torch.zeros(0, 3)
    assert kl(rows, rows).shape == gap(rows, rows, eps=0.1).shape == (0,)
    assert stationary(torch.zeros(0, 2, 2)).shape == (0, 2)
    assert stationary(torch.zeros(4, 2, 2, device="meta")).shape == (4, 2)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    seed=st.integers(0, 2**31),
    categories=st.integers(1, 5),
    eps=st.sampled_from(EPSILONS),
    sharpness=st.sampled_from([0.1, 1.0, 8.0]),
)
def test_squeeze_inequality(seed: int, categories: int, eps: float, sharpness: float) -> None:
    """The divergence is at most its mean over draws, which the closed form gives exactly."""
    p = distribution(4, categories, seed=seed)
    q = (sharpness * normal(4, categories, seed=seed + 1)).softmax(-1)
    low = kl(p, q, eps=eps)
    for n in (1, 2, 3):
        bound = jensen_bound(p, q, n=n, eps=eps)
        assert close(bound, bound_by_enumeration(p, q, n, eps), 1e-12)
        assert (low <= bound + 1e-13).all()
        assert close(gap(p, q, n=n, eps=eps), bound - low)
    mean = sum(q[:, k] * kl(p, eye(categories)[k], eps=eps) for k in range(categories))
    assert close(jensen_bound(p, q, eps=eps), mean, 1e-12)


def test_squeeze_without_a_guard() -> None:
    """With eps = 0 the divergence is finite and the bound infinite, except at a shared corner."""
    p, q = distribution(10, 4, seed=1), distribution(10, 4, seed=2)
    assert close(kl(p, q), (p * (p / q).log()).sum(-1))
    assert (kl(p, q) > 0).all()
    for n in (1, 2, 7):
        assert torch.isposinf(jensen_bound(p, q, n=n, eps=0.0)).all()
        assert close(jensen_bound(eye(4), eye(4), n=n, eps=0.0), torch.zeros(4))


def test_kl_with_zeros() -> None:
    """A category that p lacks costs nothing; one that q lacks costs what the guard allows."""
    p = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)
    assert float(kl(p, p)) == 0.0
    assert float(kl(p, torch.tensor([0.25, 0.25, 0.5]).double())) == pytest.approx(math.log(2))
    assert float(kl(p, eye(3)[0])) == math.inf
    eps = 1e-6
    expected = math.log(0.5 + eps) - 0.5 * (math.log(1 + eps) + math.log(eps))
    assert float(kl(p, eye(3)[0], eps=eps)) == pytest.approx(expected, abs=1e-14)
    assert kl(p, distribution(2, 5, 3, seed=3)).shape == (2, 5)


@pytest.mark.parametrize("categories", [2, 3, 6])
@pytest.mark.parametrize("eps", EPSILONS)
def test_bound_is_tight_only_at_corners(categories: int, eps: float) -> None:
    """The gap is nothing at the corners and at least a half the draw's variance inside."""
    p = distribution(categories, seed=4)
    for n in (1, 3):
        at_corners = gap(p, eye(categories), n=n, eps=eps)
        assert close(at_corners, torch.zeros(categories), 1e-13)
        for sharpness in (0.3, 1.0, 5.0):
            q = (sharpness * normal(200, categories, seed=5)).softmax(-1)
            found = gap(p, q, n=n, eps=eps)
            # The logarithm's second derivative on [eps, 1 + eps] is below -1 / (1 + eps)^2.
            least = (p * q * (1 - q)).sum(-1) / (2 * n * (1 + eps) ** 2)
            assert (found >= least - 1e-13).all()
            assert (found > 0).all()
        # On an edge of the simplex too, where all but two categories are never drawn.
        edge = torch.zeros(categories, dtype=torch.float64)
        edge[[0, -1]] = torch.tensor([0.999, 0.001], dtype=torch.float64)
        assert gap(p, edge, n=n, eps=eps) > 1e-6
    q = distribution(50, categories, seed=6)
    brackets = (q + eps).log() - q * math.log(1 + eps) - (1 - q) * math.log(eps)
    assert close(gap(p, q, eps=eps), (p * brackets).sum(-1))


@pytest.mark.parametrize("categories", [2, 3, 6])
@pytest.mark.parametrize("eps", EPSILONS)
def test_bound_is_minimised_by_collapse(categories: int, eps: float) -> None:
    """The bound is affine with slope p, least at the corner of p's largest entry, not at p."""
    p = distribution(categories, seed=7)
    slope = math.log(1 + 1 / eps)
    constant = (p * (p + eps).log()).sum() - math.log(eps)
    q = torch.cat(
        [eye(categories), distribution(300, categories, seed=8), p[None], p.new_ones(1, categories)]
    )
    q = q / q.sum(-1, keepdim=True)
    bound = jensen_bound(p, q, eps=eps)
    assert close(bound, constant - slope * (q @ p))
    best = int(p.argmax())
    assert int(bound.argmin()) == best
    others = torch.cat([bound[:best], bound[best + 1 :]])
    margin = slope * float(p.max() - p.sort().values[-2])
    nearest = bound[best] + margin * (1 - q[:, best])
    assert (others > bound[best]).all()
    assert (bound >= nearest - 1e-12).all()  # it rises at least so fast away from the corner
    excess = jensen_bound(p, p, eps=eps) - bound[best]
    assert close(excess, slope * (p.max() - (p**2).sum()))
    assert excess > 0.01
    # The divergence itself has its minimum elsewhere, at least while the guard is small.
    if eps < p.min():
        assert kl(p, p, eps=eps) < kl(p, eye(categories)[best], eps=eps) - 0.01


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(
    seed=st.integers(0, 2**31),
    categories=st.integers(1, 6),
    eps=st.sampled_from(EPSILONS),
    sharpness=st.sampled_from([0.1, 1.0, 8.0]),
)
def test_ladder_is_monotone(seed: int, categories: int, eps: float, sharpness: float) -> None:
    """Each draw more brings the bound down, and never below the divergence."""
    p = distribution(5, categories, seed=seed)
    q = (sharpness * normal(5, categories, seed=seed + 1)).softmax(-1)
    rungs = torch.stack([jensen_bound(p, q, n=n, eps=eps) for n in range(1, 31)])
    falls = -rungs.diff(dim=0)
    assert (falls >= -1e-12).all()
    assert (rungs[-1] >= kl(p, q, eps=eps) - 1e-12).all()
    if categories > 1 and sharpness == 1.0:
        assert (falls > 0).all()


LIMITS = {
    "true": lambda q, eps: 0.5 * q * (1 - q) / (q + eps) ** 2,
    "no half": lambda q, eps: q * (1 - q) / (q + eps) ** 2,
    "variance q": lambda q, eps: 0.5 * q / (q + eps) ** 2,
    "one power": lambda q, eps: 0.5 * q * (1 - q) / (q + eps),
    "a percent more": lambda q, eps: 0.505 * q * (1 - q) / (q + eps) ** 2,
}


def falls_like_one_over_n(p: Tensor, q: Tensor, eps: float, name: str) -> bool:
    """Whether n times the gap nears the named limit, with an error that falls like 1/n."""
    limit = (p * LIMITS[name](q, eps)).sum(-1)
    errors = [
        (n * gap(p, q, n=n, eps=eps) / limit - 1).abs().max().item() for n in (300, 1000, 10_000)
    ]
    return (
        errors[0] < 0.05
        and errors[1] < 0.35 * errors[0]  # 0.30 for an error of 1/n
        and errors[2] < 0.11 * errors[1]  # 0.10
        and errors[2] < 2e-3
    )


@pytest.mark.parametrize("eps", [0.5, 1e-2, 1e-8])
def test_gap_of_the_ladder(eps: float) -> None:
    """The gap times n tends to the delta method's constant, with an error like 1/n."""
    p = distribution(6, 3, seed=9)
    q = 0.1 + 0.7 * distribution(6, 3, seed=10)  # no entry below a tenth
    assert falls_like_one_over_n(p, q, eps, "true")
    # False: another constant, variance or power.
    for name in LIMITS.keys() - {"true"}:
        assert not falls_like_one_over_n(p, q, eps, name), name


def most_of_the_bound(eps: float) -> float:
    """The largest gap over log(1 + 1 / (2 eps sqrt n)), the bound for every model."""
    certain = torch.tensor([1 - 1e-6, 1e-6], dtype=torch.float64)
    first = torch.linspace(0, 1, 201, dtype=torch.float64)[1:]
    models = torch.stack([first, 1 - first], -1)
    spread = (8 * normal(100, 2, seed=11)).softmax(-1)
    return max(
        float((gap(certain, q, n=n, eps=eps) / math.log1p(0.5 / eps / math.sqrt(n))).max())
        for n in (1, 2, 5, 30, 400)
        for q in (models, spread)
    )


@pytest.mark.parametrize(
    ("eps", "factor"), [(0.5, 0.2), (1e-2, 0.5), (1e-8, 0.8)], ids=["large", "middle", "note"]
)
def test_uniform_bound_of_the_gap(eps: float, factor: float) -> None:
    """The gap is at most log(1 + 1 / (2 eps sqrt n)) for every model, and may come near it."""
    assert most_of_the_bound(eps) <= 1
    assert most_of_the_bound(eps) > factor  # so that the bound times this factor is false
    # The Lipschitz bound 1 / (2 eps sqrt n) follows from it.
    assert math.log1p(0.5 / eps) < 0.5 / eps


def test_bound_is_a_bernstein_polynomial() -> None:
    """The bound's derivative in one entry is that of the Bernstein polynomial of -log(. + eps)."""
    p, q = distribution(5, seed=20), distribution(5, seed=21)
    for n, eps in ((2, 1e-8), (7, 1e-2), (40, 1e-8)):
        leaf = q.clone().requires_grad_()
        (grad,) = torch.autograd.grad(jensen_bound(p, leaf, n=n, eps=eps), leaf)
        assert close(grad / (-p * slope(q, n, eps)), torch.ones(5), 1e-9)
        assert not close(grad / (-p * slope(q, n + 1, eps)), torch.ones(5), 1e-3)


guarded = partial(jensen_bound, eps=1e-3)

FALSE_STATEMENTS = {
    "squeeze: the other way round": lambda p, q: gap(p, q, eps=1e-3) <= 1e-12,
    "squeeze: a lower bound by half": lambda p, q: guarded(p, q) <= 0.5 * kl(p, q, eps=1e-3),
    "ladder: it rises": lambda p, q: guarded(p, q, n=3) >= guarded(p, q, n=2) + 1e-12,
    "ladder: it halves": lambda p, q: gap(p, q, n=2, eps=1e-3) <= 0.5 * gap(p, q, eps=1e-3) - 1e-12,
    "collapse: slope log(1/eps)": lambda p, q: (
        (
            guarded(p, q, eps=0.5) - guarded(p, p, eps=0.5) - math.log(2) * ((p - q) * p).sum(-1)
        ).abs()
        <= 1e-12
    ),
    "collapse: the excess is p_m - |p|": lambda p, q: (
        (
            guarded(p, p)
            - guarded(p, eye(4)[p.argmax(-1)])
            - math.log(1001) * (p.amax(-1) - p.norm(dim=-1))
        ).abs()
        <= 1e-12
    ),
}


@pytest.mark.parametrize("name", FALSE_STATEMENTS)
def test_false_statements_are_refused(name: str) -> None:
    """Statements on the bound with a sign, a constant or an order changed fail on most problems."""
    p, q = distribution(50, 4, seed=22), distribution(50, 4, seed=23)
    assert FALSE_STATEMENTS[name](p, q).double().mean() < 0.1


def test_conditions_of_the_squeeze_are_needed() -> None:
    """Without p > 0 the gap may vanish off the corners; with a tie the minimiser is not unique."""
    # False: tight at the corners only, whatever p.
    p = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    edge = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)
    assert float(gap(p, edge, eps=1e-3)) == pytest.approx(0, abs=1e-14)
    tied = torch.tensor([0.4, 0.4, 0.2], dtype=torch.float64)
    low = jensen_bound(tied, eye(3)[0], eps=1e-3)
    assert close(jensen_bound(tied, edge, eps=1e-3), low)
    assert close(jensen_bound(tied, eye(3)[1], eps=1e-3), low)
    # With eps above the least entry the formula of the minimiser leaves the simplex.
    small = torch.tensor([0.7, 0.25, 0.05], dtype=torch.float64)
    assert ((1 + 3 * 0.1) * small - 0.1).min() < 0
    # False: with eps, too, the minimiser is the truth.
    goal = (1 + 3 * 0.01) * small - 0.01
    assert kl(small, goal, eps=0.01) < kl(small, small, eps=0.01) - 1e-5


def bound_by_counts(p: Tensor, q: Tensor, n: int, eps: float) -> Tensor:
    """The bound for three categories by enumeration of all counts with their multinomial law."""
    total = torch.zeros((), dtype=torch.float64)
    for i in range(n + 1):
        for j in range(n + 1 - i):
            count = (i, j, n - i - j)
            ways = math.factorial(n) // math.prod(math.factorial(k) for k in count)
            mean = torch.tensor(count, dtype=torch.float64) / n
            log = ((p + eps).log() - (mean + eps).log()) @ p
            total = total + ways * q[0] ** i * q[1] ** j * q[2] ** count[2] * log
    return total


def test_minimiser_by_enumeration() -> None:
    """By enumeration of multinomial counts, the model found by bisection is least and at rest."""
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    for n, eps in ((4, 1e-8), (25, 1e-8)):
        found = minimiser_of(p, n, eps)
        leaf = found.clone().requires_grad_()
        lowest = bound_by_counts(p, leaf, n, eps)
        assert close(lowest.detach(), jensen_bound(p, found, n=n, eps=eps), 1e-10)
        (grad,) = torch.autograd.grad(lowest, leaf)
        inside = found > 1e-9
        assert (grad[inside] - grad[inside].mean()).abs().max() < 1e-6 * grad.abs().max()
        assert (grad >= grad[inside].mean() - 1e-6 * grad.abs().max()).all()
        assert (jensen_bound(p, distribution(300, 3, seed=24), n=n, eps=eps) >= lowest).all()


def half_count_errors(rounds: tuple[int, ...], **options: Any) -> list[float]:
    """The largest error of the half count, or a false variant, at the minimiser with n draws."""
    p = torch.tensor([0.4, 0.35, 0.25], dtype=torch.float64)
    return [
        float((minimiser_of(p, n, 1e-12) - half_count(p, n, **options)).abs().max()) for n in rounds
    ]


def test_half_count() -> None:
    """The minimiser is (p + 1/(2n)) / (1 + K/(2n)) up to O(1/n^2), once no category is missed."""
    first, second = half_count_errors((150, 300))
    assert first < 10 / 150**2
    assert second < 0.3 * first  # a quarter for an error of 1/n^2
    # The guard adds an error of its own order, and no more.
    p = torch.tensor([0.4, 0.35, 0.25], dtype=torch.float64)
    for eps in (1e-3, 1e-4):
        shift = (minimiser_of(p, 300, eps) - half_count(p, 300)).abs().max()
        assert 0.1 * eps < shift < 3 * eps + 2 * second


@pytest.mark.parametrize(
    "options",
    [{"count": 1.0}, {"count": 0.0}, {"count": -0.5}, {"count": 0.45}, {"normalised": False}],
    ids=["one count", "no count", "minus a half", "a little less", "not normalised"],
)
def test_false_counts_are_refused(options: Any) -> None:
    """Another pseudo-count, or none, leaves an error that falls like 1/n only."""
    first, second = half_count_errors((150, 300), **options)
    # False: a quarter of the error with twice the draws.
    assert second > 0.35 * first


def test_half_count_needs_its_condition() -> None:
    """With few draws a category can be missed, and the minimiser is not near the half count."""
    p = torch.tensor([0.4, 0.35, 0.2, 0.05], dtype=torch.float64)
    for n in (5, 20):
        apart = (minimiser_of(p, n, 1e-8) - half_count(p, n)).abs().max()
        assert apart > 0.02
    # At 100 draws the error is larger than the half count itself, at 200 a small part of it.
    far, near = (n * (minimiser_of(p, n, 1e-8) - half_count(p, n)).abs().max() for n in (100, 200))
    assert far > 0.5 > 4 * near
    assert minimiser_of(p, 3, 1e-8).min() < 1e-6  # dropped
    assert minimiser_of(p, 20, 1e-8)[-1] > 1.8 * half_count(p, 20)[-1]  # raised far more


@pytest.mark.parametrize("eps", [1e-8, 1e-2])
def test_minimiser_of_the_ladder(eps: float) -> None:
    """With more draws the minimiser of the bound nears that of the divergence, which is p."""
    p = torch.tensor([0.45, 0.3, 0.15, 0.1], dtype=torch.float64)
    goal = (1 + 4 * eps) * p - eps
    # Not monotone in between: for eps = 1e-8 the minimiser at n = 5 lies nearer than at n = 20.
    rounds = (2, 20, 100, 1000)
    models = [minimiser_of(p, n, eps) for n in rounds]
    distances = [float(kl(goal, model)) for model in models]
    assert distances == sorted(distances, reverse=True)
    assert distances[0] > 0.01
    # The distance falls like n^-2, the model's error like 1/n.
    assert distances[-1] < 1e-5
    assert (models[-1] - goal).abs().max() < 2e-3
    # It is the lowest of many models, and the divergence is least at the goal.
    others = distribution(500, 4, seed=12)
    for n, model in zip(rounds, models, strict=True):
        lowest = jensen_bound(p, model, n=n, eps=eps)
        assert (jensen_bound(p, others, n=n, eps=eps) >= lowest).all()
    assert (kl(p, others, eps=eps) >= kl(p, goal, eps=eps)).all()
    assert kl(p, goal, eps=eps) <= kl(p, p, eps=eps)


def test_bound_broadcasts() -> None:
    """Batches of p and of models broadcast, and give what each pair gives alone."""
    p, q = distribution(5, 1, 3, seed=15), distribution(2, 3, seed=16)
    together = jensen_bound(p, q, n=4, eps=1e-3)
    assert together.shape == (5, 2)
    for i, j in itertools.product(range(5), range(2)):
        assert close(together[i, j], jensen_bound(p[i, 0], q[j], n=4, eps=1e-3))


@pytest.mark.parametrize("categories", [2, 3, 6])
@pytest.mark.parametrize("normalizer", [ils.sum_normalize, ils.project_simplex], ids=repr)
@pytest.mark.parametrize("keep_mass", [False, True])
def test_expected_update_vanishes_at_the_stationary_distribution(
    categories: int, normalizer: ils.Normalizer, keep_mass: bool
) -> None:
    """The mean update is pi - pi T: zero at the stationary distribution and nowhere else."""
    mixing = normal(categories, categories, seed=17)
    mixing = 0.2 * (mixing + mixing.T) + 2 * torch.diag(1 + distribution(categories, seed=18))
    options = {"step_size": 0.3, "normalizer": normalizer, "keep_mass": keep_mass}

    def loss(z: Tensor) -> Tensor:
        """Random, and such that after each draw every other category looks better."""
        return ((z @ mixing) * z).sum(-1) / 2

    def targets(z: Tensor) -> Tensor:
        leaf = z.clone().requires_grad_()
        (grad,) = torch.autograd.grad(loss(leaf).sum(), leaf)
        return ils.target.intermediate_target(z, grad, **options)

    matrix = transition(targets, categories)
    assert matrix.shape == (categories, categories)
    assert close(matrix.sum(-1), torch.ones(categories))
    assert torch.matrix_power(matrix, categories).min() > 0  # irreducible
    rest = stationary(matrix)
    assert rest.min() > 0
    assert close(rest.sum(), torch.ones(()))
    assert close(rest @ matrix, rest)

    estimator = intermediate_loss_sampling(**options)

    def mean_update(probs: Tensor) -> Tensor:
        return ils.exact.moments(estimator, loss, probs.log()).mean

    assert close(mean_update(rest), torch.zeros(categories))
    for seed in range(10):
        probs = distribution(categories, seed=100 + seed)
        update = mean_update(probs)
        assert close(update, probs - probs @ matrix)
        distance = float((probs - rest).abs().max())
        assert distance > 1e-3
        assert update.abs().max() > 1e-3 * distance
    # The only solution: one singular value is zero, and the flow goes there from every corner.
    singular = torch.linalg.svdvals(matrix - eye(categories))
    assert singular[-1] < 1e-12
    assert singular[-2] > 1e-3
    flow = torch.linalg.matrix_exp(3000 * (matrix - eye(categories)))
    assert close(flow, rest.expand(categories, -1), 1e-9)
    # What moves so is the model under the note's gradient in expectation; not under the true one.
    theta, eta = normal(categories, seed=50), 1e-6
    probs = theta.softmax(-1)
    wanted = probs @ matrix - probs
    for gradient, follows in (
        (ils.target.probs_gradient, True),
        (ils.target.logits_gradient, False),
    ):
        each = gradient(matrix, probs.expand_as(matrix), eye(categories))
        moved = ((theta - eta * (probs @ each)).softmax(-1) - probs) / eta
        # 1e-6: the guard of the note's gradient, and the second order of the step.
        assert close(moved, wanted, 1e-5) == follows


def test_rounding_of_long_rows_is_forgiven() -> None:
    """Rows sum to 1 up to K eps / 2, beside the relative 1e-5 that allclose allows."""
    matrix = torch.full((1, 1, 1000, 1000), 1e-3)
    assert close(stationary(matrix * (1 + 6e-5)).sum(-1), torch.ones(1, 1), 1e-5)
    with pytest.raises(ValueError, match="expected rows that sum to 1"):
        stationary(matrix * (1 + 1.5e-4))


def test_stationary_of_a_known_chain() -> None:
    """A hand-made asymmetric chain, batches of it, and one with a transient state."""
    matrix = torch.tensor(
        [[0.5, 0.5, 0.0], [0.0, 0.75, 0.25], [1.0, 0.0, 0.0]], dtype=torch.float64
    )
    expected = torch.tensor([2.0, 4.0, 1.0], dtype=torch.float64) / 7
    assert close(stationary(matrix), expected)
    assert close(stationary(matrix.expand(2, 5, 3, 3)), expected.expand(2, 5, 3))
    # A permutation, which has no limit but a stationary distribution.
    cycle = eye(4)[[1, 2, 3, 0]]
    assert close(stationary(cycle), torch.full((4,), 0.25).double())
    transient = torch.tensor([[0.9, 0.1], [0.0, 1.0]], dtype=torch.float64)
    assert close(stationary(transient), eye(2)[1])
    assert close(stationary(torch.ones(1, 1)), torch.ones(1))


def test_several_recurrent_classes_have_no_single_answer() -> None:
    """Where the stationary distribution is not unique an error is raised."""
    matrix = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.0, 0.5], [0.0, 0.0, 1.0]]).double()
    for reducible in (matrix, eye(2)):
        with pytest.raises(torch.linalg.LinAlgError):
            stationary(reducible)


HALF = torch.tensor([0.5, 0.5])


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (torch.tensor([[0.5, 0.5], [0.25, 0.5]]), ValueError, r"sums from 0\.75 to 1"),
        (torch.tensor([torch.nan, 0.5]), ValueError, "nan"),
        (torch.tensor(1.0), ValueError, r"got shape \(\)"),
        ([0.5, 0.5], TypeError, "got list"),
    ],
)
def test_bad_input(value: Any, error: type[Exception], message: str) -> None:
    """What is no distribution is refused, by the argument's name and with what came."""
    for function, other in ((kl, "q"), (jensen_bound, "probs"), (gap, "probs")):
        with pytest.raises(error, match=rf"^p: .*{message}"):
            function(value, HALF, eps=1e-8)
        with pytest.raises(error, match=rf"^{other}: .*{message}"):
            function(HALF, value, eps=1e-8)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n": 0}, ValueError, "n: expected at least 1, got 0"),
        ({"n": 2.0}, TypeError, "n: expected an integer, got float"),
        ({"n": True}, TypeError, "n: .* got bool"),
        ({"eps": -1e-9}, ValueError, "eps: .* got -1e-09"),
        ({"eps": math.inf}, ValueError, "eps: .* got inf"),
        ({"eps": None}, TypeError, "eps: .* got NoneType"),
    ],
    ids=str,
)
def test_bad_input_numbers(options: Any, error: type[Exception], message: str) -> None:
    """A count below one, a negative guard, and what is no such number are refused."""
    for call in (jensen_bound, gap):
        with pytest.raises(error, match=f"^{message}"):
            call(HALF, HALF, **({"eps": 1e-8} | options))
    if "n" in options:
        with pytest.raises(error, match=message.replace("n:", "^categories:", 1)):
            transition(lambda z: z, options["n"])
    else:
        with pytest.raises(error, match=f"^{message}"):
            kl(HALF, HALF, **options)


def test_float32_distributions_are_accepted() -> None:
    """Rounding of a softmax in float32 is no reason to refuse, for long rows either."""
    for categories in (2, 1000, 50_000):
        probs = normal(4, categories, seed=19).float().softmax(-1)
        assert kl(probs, probs).abs().max() < 1e-4


def test_stationary_refusals() -> None:
    """Square, of numbers with a fraction, and of rows that sum to one up to 1e-5."""
    for shape in ((), (2,), (2, 3), (2, 2, 3)):
        with pytest.raises(ValueError, match=r"^matrix: expected shape \(\.\.\., K, K\), got \("):
            stationary(torch.ones(shape) / 2)
    for bad in (torch.eye(2).long(), "eye"):
        with pytest.raises(TypeError, match=r"^matrix: .* got "):
            stationary(bad)
    with pytest.raises(ValueError, match=r"^matrix: .* nan"):
        stationary(torch.tensor([[0.5, 0.5], [torch.nan, 1.0]]))
    good = distribution(3, 3)
    for off in (2e-6, -2e-6, 1.5e-5, -1.5e-5):
        stationary(good + off / 3)
    for off in (4e-5, -4e-5, 0.5):
        with pytest.raises(
            ValueError, match=r"^matrix: expected rows that sum to 1, got sums from"
        ):
            stationary(good + off / 3)


def test_device_and_type() -> None:
    """Nothing that is made on the way falls back on the default device or type."""
    p, matrix = distribution(4).float(), distribution(3, 3).float()
    assert needs_no_defaults(lambda: [jensen_bound(p, p, n=3, eps=0.1), stationary(matrix)])
