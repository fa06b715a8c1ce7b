"""The repaired toy: half a count as the guard, and where estimators then come to rest."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from cases import close
from ladder_minimiser import half_count, minimiser_of
from torch import Tensor

from ils import estimators, exact
from lab.fixed_points import experiment as fp
from lab.fixed_points import repaired
from lab.run import records

P = torch.tensor([0.4, 0.35, 0.25], dtype=torch.float64)
GRADIENT, REINMAX, STRAIGHT = repaired.SLOPES
THREE = {
    GRADIENT: estimators.score_function(),
    REINMAX: estimators.reinmax(),
    STRAIGHT: estimators.straight_through(),
}


def variation(p: Tensor, model: Tensor) -> Tensor:
    """The distance in total variation."""
    return (p - model).abs().sum(-1) / 2


def leading(p: Tensor) -> Tensor:
    """``1 / p_k - p_k sum_j 1 / p_j``, to which the errors of second order are proportional."""
    return 1 / p - p * (1 / p).sum(-1, keepdim=True)


@cache
def errors(method: str, counts: float, *, goal: str = "truth") -> tuple[float, float]:
    """The largest error of the rest point with 150 and with 300 draws, ``counts`` as the guard."""
    found = []
    for n in (150, 300):
        wanted = P if goal == "truth" else half_count(P, n)
        found.append(float((repaired.limit(P, n, method, eps=counts / n) - wanted).abs().max()))
    return found[0], found[1]


def test_minimiser_of_the_repaired_toy() -> None:
    """With half a count as the guard the minimiser is 2 / (n min p)^2 from p at most."""
    for p in (repaired.problems(5)[0], fp.problems(5)[0]):
        for n in (5, 10, 20, 50, 100):
            bound = 2 / (n * p.amin(-1)) ** 2
            model = repaired.limit(p, n, GRADIENT, iterations=2000)
            assert (variation(p, model) <= bound).all()
        assert (bound < 1).double().mean() > 0.6
    # Without the least entry, or with the third power, the bound is false.
    p = repaired.problems(5)[0]
    assert (variation(p, repaired.limit(p, 20, GRADIENT)) > 2 / 20**2).double().mean() > 0.5
    p = torch.tensor([0.3, 0.7], dtype=torch.float64)
    assert variation(p, repaired.limit(p, 2000, GRADIENT)) > 2 / (2000 * 0.3) ** 3
    first, second = errors(GRADIENT, 0.5)
    assert second < 0.26 * first  # a quarter for an error of 1/n^2
    for n in (150, 300):
        model = repaired.limit(P, n, GRADIENT)
        assert close(n * n * (model - P), leading(P) / 12, 3 / n)


@pytest.mark.parametrize("counts", [0.0, 0.25, 0.45, 0.55, 1.0])
def test_other_guards_are_refused(counts: float) -> None:
    """Another number of counts as the guard leaves an error that falls like 1/n only."""
    first, second = errors(GRADIENT, max(counts, 1e-9))
    assert second > 0.4 * first
    # The error is half a count less the guard, in each category.
    shifted = half_count(P, 300, count=0.5 - counts)
    model = repaired.limit(P, 300, GRADIENT, eps=max(counts, 1e-9) / 300)
    assert (model - shifted).abs().max() < 2e-5


@pytest.mark.parametrize(
    ("method", "factor"), [(GRADIENT, 1 / 6), (GRADIENT, 1 / 24), (REINMAX, 1 / 12)]
)
def test_other_constants_are_refused(method: str, factor: float) -> None:
    """Another constant of the second order misses the minimiser by much more than 1/n^3."""
    model = repaired.limit(P, 300, method)
    # False: these factors in place of 1/12, and of 1/4 for ReinMax.
    assert not close(300**2 * (model - P), leading(P) * factor, 6 / 300)


def test_limit_is_the_minimiser() -> None:
    """The iteration finds what bisection of the conditions finds, here and for a small guard."""
    p, _ = repaired.problems(6, 3)
    for n, eps in ((10, 1 / 20), (20, 1e-3), (20, 1e-8)):
        assert close(repaired.limit(p, n, GRADIENT, eps=eps), minimiser_of(p, n, eps), 1e-10)
    p = torch.tensor([0.5, 0.3, 0.18, 0.02], dtype=torch.float64)
    assert repaired.limit(p, 20, GRADIENT)[-1] < 1e-12  # rarer than 1 / (20 log 3): dropped
    assert repaired.limit(p, 100, GRADIENT)[-1] > 0.015
    # The models of the book's example, with the note's guard and with half a count.
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    examples = ((1e-8, 3, [0.450, 0.303, 0.247]), (1 / 40, 4, [0.4996, 0.3005, 0.1999]))
    for eps, digits, model in examples:
        found = minimiser_of(p, 20, eps)
        assert [round(x, digits) for x in found.tolist()] == model


@pytest.mark.parametrize("n", [2, 3])
def test_means_on_the_repaired_toy(n: int) -> None:
    """The means of the exact gradient, of ReinMax and of straight-through, by enumeration."""
    p, start = repaired.problems(7, 4)
    p, start = p[:, :3] / p[:, :3].sum(-1, keepdim=True), start[:, :3]
    probs, repeated = start.softmax(-1), start.unsqueeze(-2).expand(-1, n, -1)
    means = {}
    for name, estimator in THREE.items():
        mean = exact.moments(estimator, repaired.loss(p), repeated).mean.sum(-2)
        slopes = p * repaired.slope(probs, n, name) / fp.SIZE
        means[name] = -probs * (slopes - (probs * slopes).sum(-1, keepdim=True))
        assert close(mean, means[name], 1e-12)
    # They are not each other's.
    assert (means[GRADIENT] - means[REINMAX]).abs().max() > 1e-4
    assert (means[STRAIGHT] - means[REINMAX]).abs().max() > 1e-4


def test_rest_points_on_the_repaired_toy() -> None:
    """ReinMax rests three times as far as the minimiser, straight-through half a count off."""
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    for name, digits, example in (
        (GRADIENT, 5, [0.49997, 0.3, 0.20003]),
        (REINMAX, 5, [0.49991, 0.3, 0.20009]),
        (STRAIGHT, 4, [0.4974, 0.3005, 0.2021]),
    ):
        found = repaired.limit(p, 100, name)
        assert [round(x, digits) for x in found.tolist()] == example
    assert [round(x, 4) for x in half_count(p, 100).tolist()] == [0.4975, 0.3005, 0.2020]
    model = repaired.limit(P, 300, REINMAX)
    assert close(300**2 * (model - P), leading(P) / 4, 0.05)
    first, second = errors(REINMAX, 0.5)
    assert second < 0.26 * first
    # Straight-through: of first order from the truth, of second from the half count.
    first, second = errors(STRAIGHT, 0.5)
    assert second > 0.45 * first
    first, second = errors(STRAIGHT, 0.5, goal="half count")
    assert second < 0.27 * first


def test_order_turns_on_the_repaired_toy() -> None:
    """ReinMax ends below the minimiser at n = 20, where its rest point is nearer, not at n = 50."""
    folder = records.FOLDER if records.FOLDER.is_absolute() else records.Path("book/data")
    table = records.read("fixed-repaired", folder).table["divergence"].unstack("method")
    p, start = repaired.problems(repaired.SEEDS["final"])
    begun = float(fp.divergence(p, start.softmax(-1)).mean())
    for n, below in ((20, True), (50, False)):
        floor = fp.divergence(p, repaired.limit(p, n, GRADIENT)).mean()
        assert (table.loc[n, REINMAX].mean() < floor) == below
        assert begun > table.loc[n].mean().max() > 20 * table.loc[n, REINMAX].mean()
