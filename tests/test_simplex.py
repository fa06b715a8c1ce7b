"""Maps onto the simplex: their values, and the derivative at a corner that stands in for none."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable

import pytest
import torch
from cases import close, distribution, draws, eye, needs_no_defaults, normal
from rules import NORMALIZERS
from torch import Tensor

import ils
from ils.metric import euclidean, fisher
from ils.rules import Note, Step
from ils.simplex import pullback

each_normalizer = pytest.mark.parametrize("normalizer", NORMALIZERS, ids=repr)


def _by_weights(weights: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: weights(x) / weights(x).sum(-1, keepdim=True)


def smooth_maps(categories: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """Maps into the simplex that are smooth at the corners and keep them."""
    mixing = normal(categories, categories, seed=91)
    return {
        "squares": _by_weights(lambda x: x**2),
        "fourth powers": _by_weights(lambda x: x**4),
        "cosines": _by_weights(lambda x: 1 - x.cos()),
        "squares of the direction": lambda x: (x / x.norm(dim=-1, keepdim=True)) ** 2,
        "mixed squares": _by_weights(lambda x: x**2 * (x @ mixing).exp()),
        "softmax of logarithms": lambda x: torch.softmax((x**2 + 1e-300).log(), -1),
        "cubes of the size": _by_weights(lambda x: (x**2) ** 1.5),
    }


@pytest.mark.parametrize("categories", [2, 3, 6])
def test_no_smooth_normaliser(categories: int) -> None:
    """A smooth map into the simplex has no slope at a corner; the given maps pay another price."""
    corners = eye(categories)
    grad = normal(categories, categories, seed=1)
    nearby = corners + 0.1 * normal(20, categories, categories, seed=2)
    for name, h in smooth_maps(categories).items():
        assert close(h(corners), corners), name
        assert h(nearby).min() >= 0, name
        assert close(h(nearby).sum(-1), torch.ones(20, categories)), name
        for corner in corners:
            jacobian = torch.autograd.functional.jacobian(h, corner)
            assert close(jacobian, torch.zeros_like(jacobian)), name
        assert close(pullback(h, corners, grad), torch.zeros_like(grad)), name
        # Away from a corner the same maps do have a slope: the zero is no artefact.
        assert pullback(h, nearby[0], grad).abs().max() > 1e-3, name
        # What is left of the update is noise that does not know the loss.
        logits = normal(categories, categories, seed=3).requires_grad_()
        z = ils.differentiable_draw(logits, corners, rule=Note(0.5, normalizer=h))
        (update,) = torch.autograd.grad((z * grad).sum(), logits)
        assert close(update, logits.detach().softmax(-1) - corners), name
        # Centred, nothing is left, in any metric and however the step is measured.
        for metric, relative in itertools.product((euclidean, fisher), (False, True)):
            step = {"normalizer": h, "metric": metric}
            rule = Step(0.5, **step) if relative else Note(0.5, centred=True, **step)
            z = ils.differentiable_draw(logits, corners, rule=rule)
            (update,) = torch.autograd.grad((z * grad).sum(), logits)
            assert close(update, torch.zeros_like(update)), name

    # A linear map that keeps a corner and the sum leaves the simplex unless its slope is zero.
    for seed in range(20):
        slope = normal(categories, categories, seed=100 + seed)
        slope = slope - slope.mean(0)
        lowest = [
            float((corners[0] + sign * 1e-3 * slope[:, j]).min())
            for j in range(categories)
            for sign in (-1, 1)
        ]
        assert min(lowest) < -1e-6

    for normalizer in NORMALIZERS:
        assert pullback(normalizer, corners, grad).abs().max() > 0.1, normalizer
    step = 1e-3
    for i, k in itertools.permutations(range(categories), 2):
        ahead, behind = corners[i] + step * corners[k], corners[i] - step * corners[k]
        # The unclamped map is smooth, and leaves the simplex.
        assert ils.sum_normalize_unclamped(behind)[k] < -0.5 * step
        # The others stay and have a kink: a differentiable map has opposite slopes.
        for normalizer, entry in ((ils.sum_normalize, 1.0), (ils.project_simplex, 0.5)):
            forth = (normalizer(ahead) - corners[i]) / step
            back = (normalizer(behind) - corners[i]) / step
            assert normalizer(ahead).min() >= 0
            assert normalizer(behind).min() >= 0
            assert close(forth, entry * (corners[k] - corners[i]), 2 * step)
            assert close(back, torch.zeros(categories), 1e-12)


@pytest.mark.parametrize("categories", [1, 2, 3, 7])
def test_direction_of_sum_normalize(categories: int) -> None:
    """The direction is the gradient relative to the drawn category, as autograd has it."""
    grad = normal(categories, categories, seed=4)
    ones = torch.ones(categories, dtype=torch.float64)
    for i, corner in enumerate(eye(categories)):
        jacobian = torch.autograd.functional.jacobian(lambda x: x / x.sum(), corner)
        assert close(jacobian, eye(categories) - torch.outer(corner, ones))
        for normalizer in (ils.sum_normalize, ils.sum_normalize_unclamped):
            delta = pullback(normalizer, corner, grad[i])
            assert close(delta, jacobian.T @ grad[i])
            assert close(delta, grad[i] - grad[i, i])
            assert delta[i] == 0
            assert close(pullback(normalizer, corner, grad[i] + 17.5), delta)
            assert close(pullback(normalizer, corner, ones), torch.zeros(categories))
        assert close(pullback(lambda x: x / x.sum(), corner, grad[i]), jacobian.T @ grad[i])


@pytest.mark.parametrize("categories", [1, 2, 3, 7])
def test_direction_of_the_projection(categories: int) -> None:
    """The direction is the gradient within the plane of the simplex, and ignores constants."""
    z, grad = draws(30, categories, seed=5), normal(30, categories, seed=6)
    delta = pullback(ils.project_simplex, z, grad)
    plane = eye(categories) - 1 / categories
    assert close(delta, grad @ plane)
    assert close(delta.sum(-1), torch.zeros(30))
    assert close(pullback(ils.project_simplex, z, grad + 17.5), delta)


def test_sum_normalised_maps() -> None:
    """Positive parts over their sum, and the note's form; -inf gets nothing in both."""
    x = torch.tensor([[1.0, 3.0, -2.0, -torch.inf], [0.0, 0.5, 0.5, -1.0]])
    before = x.clone()
    assert ils.sum_normalize(x).tolist() == [[0.25, 0.75, 0, 0], [0, 0.5, 0.5, 0]]
    assert ils.sum_normalize_unclamped(x[:1]).tolist() == [[0.5, 1.5, -1, 0]]
    assert torch.equal(x, before)


@each_normalizer
def test_corners_and_distributions_are_kept(normalizer: ils.Normalizer) -> None:
    """A one-hot vector is kept to the bit, another distribution to rounding."""
    for categories in (1, 2, 3, 5, 40, 300, 319, 1000):
        corners = eye(categories)[[0, categories // 2, -1]]
        assert torch.equal(normalizer(corners), corners)
    q = distribution(50, 6, seed=7)
    assert close(normalizer(q), q)


def nearest(x: Tensor) -> Tensor:
    """The projection onto the simplex by bisection in float64, as it is defined."""
    x = x.double()
    low, high = x.amax(-1, keepdim=True) - 1, x.amax(-1, keepdim=True)
    for _ in range(80):
        middle = (low + high) / 2
        above = (x - middle).clamp(min=0).sum(-1, keepdim=True) > 1
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return (x - low).clamp(min=0)


# Up to 15 sorted, up to 255 in one piece, and then in blocks: of a divisor of the length where
# there is a good one, else with a short last block.
LENGTHS = [1, 2, 3, 15, 16, 17, 100, 255, 256, 257, 260, 263, 318, 319, 320, 384, 1021, 1024, 4099]


@pytest.mark.parametrize("categories", LENGTHS)
@pytest.mark.parametrize("spread", [1e-3, 0.1, 1.0, 30.0])
def test_projection_of_long_rows(categories: int, spread: float) -> None:
    """The nearest distribution, with few categories in its support or all of them."""
    for shape in ((), (1,), (3,), (2, 3)):
        x = spread * normal(*shape, categories, seed=categories)
        before = x.clone()
        found = ils.project_simplex(x)
        assert close(found, nearest(x), 1e-12)
        assert torch.equal(x, before)
        assert close(ils.project_simplex(x + 1000), found, 1e-12)
        # The support in the last places, where a last block is short.
        rising = x.sort(-1).values
        assert close(ils.project_simplex(rising), nearest(rising), 1e-12)
        if categories > 2:
            x[..., 1:-1:2] = -torch.inf
            assert close(ils.project_simplex(x), nearest(x), 1e-12)


@pytest.mark.parametrize("categories", [3, 40, 300, 319])
def test_projection_of_edges(categories: int) -> None:
    """Ties share, an empty batch stays empty, half types are as exact without values to look at."""
    level = torch.zeros(2, categories, dtype=torch.float64)
    assert close(ils.project_simplex(level), level + 1 / categories, 1e-12)
    for shape in ((0,), (0, 2), (2, 0)):
        empty = torch.zeros(*shape, categories)
        assert ils.project_simplex(empty).shape == empty.shape
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        x = normal(2, categories, seed=1).to(dtype)
        before = x.clone()
        found = ils.project_simplex(x)
        assert found.dtype == dtype
        assert torch.equal(x, before)
        assert close(found.double(), nearest(x), 4 * torch.finfo(dtype).eps)
        # Where values cannot be looked at, rows of any length are sorted.
        batched = torch.func.vmap(ils.project_simplex)(x)
        assert batched.dtype == dtype
        assert close(batched.double(), nearest(x), 4 * torch.finfo(dtype).eps)


def test_half_types_are_projected_in_float32() -> None:
    """A cumulative sum of thousands of float16 numbers would be off by more than an entry."""
    x = (1e-3 * normal(1, 3000, seed=2)).half()
    found = ils.project_simplex(x)
    assert abs(float(found.double().sum()) - 1) < 1e-3
    assert close(torch.func.vmap(ils.project_simplex)(x), found, 1e-6)


@pytest.mark.parametrize("categories", [3, 15, 16, 100, 1100])
@pytest.mark.parametrize("poison", [torch.nan, torch.inf], ids=str)
def test_projection_of_what_is_not_finite(poison: float, categories: int) -> None:
    """A row that holds NaN or +inf has no nearest distribution: NaN throughout; others have."""
    x = normal(4, categories, seed=42)
    wanted = ils.project_simplex(x)
    x[2, 1] = poison
    for found in (ils.project_simplex(x), torch.func.vmap(ils.project_simplex)(x)):
        assert found[2].isnan().all()
        assert close(found[[0, 1, 3]], wanted[[0, 1, 3]])


@each_normalizer
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision(normalizer: ils.Normalizer, dtype: torch.dtype) -> None:
    """Values keep their type and agree with float64 to a few units in the last place."""
    for categories in (3, 2000):
        x = (0.2 * normal(5, categories, seed=10)).to(dtype)
        x[:, 0] = 1 + x.clamp(min=0).sum(-1)  # a sum that no rounding can bring near zero
        y = normalizer(x)
        assert y.dtype == dtype
        expected = normalizer(x.double())
        assert close(y.double(), expected, 8 * torch.finfo(dtype).eps * float(expected.abs().max()))


def test_projection_of_huge_entries() -> None:
    """Large numbers neither overflow nor lose the sum."""
    x = torch.tensor([[1e30, 1e30, -1e30], [6e4, -6e4, 0.0], [0.3, 1e-30, 0.3]])
    expected = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.4333333, 0.1333333, 0.4333333]])
    assert close(ils.project_simplex(x), expected, 1e-6)


def square(x: Tensor) -> Tensor:
    """A normaliser of one's own."""
    return x.square() / x.square().sum(-1, keepdim=True)


def nothing(z: Tensor, grad: Tensor) -> Tensor:
    """Its derivative at a corner."""
    return torch.zeros_like(grad)


def test_normalizer() -> None:
    """Name, docstring, parts, call, and what a copy or a pickle of one is."""
    mine = ils.Normalizer("square", square, nothing)
    assert repr(mine) == "ils.square"
    assert mine.__name__ == "square"
    assert mine.__doc__ == square.__doc__
    assert (mine.h, mine.vjp) == (square, nothing)
    x = normal(2, 3)
    assert torch.equal(mine(x), square(x))
    for again in (copy.copy(mine), copy.deepcopy(mine), pickle.loads(pickle.dumps(mine))):
        assert type(again) is ils.Normalizer
        assert again is not mine
        assert (again.__name__, again.h, again.vjp) == ("square", square, nothing)
    # Under the name of a given one, one's own is still one's own.
    other = pickle.loads(pickle.dumps(ils.Normalizer("sum_normalize", square, nothing)))
    assert other.h is square


@pytest.mark.parametrize("name", ["sum_normalize", "sum_normalize_unclamped", "project_simplex"])
def test_given_normalizers(name: str) -> None:
    """Each prints its name, and is itself after copying and pickling."""
    given = getattr(ils, name)
    assert repr(given) == f"ils.{name}"
    for again in (copy.deepcopy(given), pickle.loads(pickle.dumps(given))):
        assert again is given


def test_pullback_of_functions() -> None:
    """A normaliser's own derivative, or autograd's; a function that changes the shape is named."""
    z, grad = draws(4, 3), normal(4, 3, seed=1)
    mine = ils.Normalizer("square", square, lambda z, grad: 2 * grad)
    assert torch.equal(pullback(mine, z, grad), 2 * grad)
    assert torch.equal(pullback(lambda x: 3 * x, z, grad), 3 * grad)
    expected = r"^normalizer: its output: expected shape \(4, 3\), got \(4, 2\)$"
    with pytest.raises(ValueError, match=expected):
        pullback(lambda x: x[..., :2], z, grad)


def test_device_and_type_of_projections() -> None:
    """Nothing that is made on the way falls back on the default device or type."""
    short, long = distribution(4).float(), normal(2, 263).float()
    assert needs_no_defaults(
        lambda: [
            ils.project_simplex(short),
            ils.project_simplex(long),
            torch.func.vmap(ils.project_simplex)(short.expand(2, 4)),
        ]
    )
