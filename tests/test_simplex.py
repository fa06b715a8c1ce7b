"""Maps onto the simplex: their values, and the derivative at a corner that stands in for none."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable

import pytest
import torch
from cases import close, distribution, draws, eye, normal
from hypothesis import given, settings
from hypothesis import strategies as st
from rules import NORMALIZERS
from torch import Tensor

import ils
from ils.metric import euclidean, fisher
from ils.rules import Note, Step
from ils.simplex import pullback

ONTO = [ils.sum_normalize, ils.project_simplex]

each_normalizer = pytest.mark.parametrize("normalizer", NORMALIZERS, ids=repr)
each_onto = pytest.mark.parametrize("normalizer", ONTO, ids=repr)


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


def projection_by_supports(x: Tensor) -> Tensor:
    """Nearest distribution to each row: try every support, keep the nearest feasible point."""
    categories = x.shape[-1]
    best, nearest = torch.full_like(x, torch.nan), torch.full_like(x[..., 0], torch.inf)
    for inside in itertools.product([False, True], repeat=categories):
        if not any(inside):
            continue
        mask = torch.tensor(inside)
        excess = (x[..., mask].sum(-1, keepdim=True) - 1) / mask.sum()
        candidate = torch.where(mask, x - excess, 0)
        distance = ((candidate - x) ** 2).sum(-1)
        better = (candidate >= 0).all(-1) & (distance < nearest)
        best = torch.where(better[..., None], candidate, best)
        nearest = torch.where(better, distance, nearest)
    return best


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


@each_onto
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    seed=st.integers(0, 2**31),
    categories=st.integers(1, 40),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_values_lie_on_the_simplex(
    normalizer: ils.Normalizer, seed: int, categories: int, scale: float
) -> None:
    """Every value is a distribution, equal entries stay equal and order is kept."""
    x = scale * normal(4, 3, categories, seed=seed)
    x[..., seed % categories] = x[..., seed % categories].abs() + 1e-9
    y = normalizer(x)
    assert y.shape == x.shape
    assert y.min() >= 0
    assert close(y.sum(-1), torch.ones(4, 3))
    order = x.argsort(-1)
    assert (y.gather(-1, order).diff(dim=-1) >= 0).all()


@each_normalizer
def test_corners_and_distributions_are_kept(normalizer: ils.Normalizer) -> None:
    """A one-hot vector is kept to the bit, another distribution to rounding."""
    for categories in (1, 2, 5, 1000):
        assert torch.equal(normalizer(eye(categories)[:9]), eye(categories)[:9])
    q = distribution(50, 6, seed=7)
    assert close(normalizer(q), q)


def test_projection_is_the_nearest_point() -> None:
    """The projection agrees with a search through all supports, and ignores a constant."""
    for categories in (1, 2, 3, 5):
        for scale in (0.1, 1.0, 10.0):
            x = scale * normal(40, categories, seed=8)
            expected = projection_by_supports(x)
            assert close(ils.project_simplex(x), expected)
            assert close(ils.project_simplex(x + 3.25), expected)


@each_normalizer
def test_masked_entries_get_no_mass(normalizer: ils.Normalizer) -> None:
    """An entry of -inf gets exactly nothing; the others are what they are without it."""
    x = normal(20, 6, seed=9).abs() + 0.1
    masked = x.clone()
    masked[:, [0, 4]] = -torch.inf
    y = normalizer(masked)
    kept = [1, 2, 3, 5]
    assert torch.equal(y[:, [0, 4]], torch.zeros(20, 2, dtype=torch.float64))
    assert close(y[:, kept], normalizer(x[:, kept]))


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


@each_normalizer
def test_normalizer_is_a_value(normalizer: ils.Normalizer) -> None:
    """A normaliser prints its name, carries its docstring, and survives copying and pickling."""
    x, z, grad = normal(4, 3, seed=11).abs(), draws(4, 3, seed=12), normal(4, 3, seed=13)
    assert eval(repr(normalizer)) is normalizer
    assert "Args:" in (normalizer.__doc__ or "")
    for twin in (copy.deepcopy(normalizer), pickle.loads(pickle.dumps(normalizer))):
        assert isinstance(twin, ils.Normalizer)
        assert repr(twin) == repr(normalizer)
        assert torch.equal(twin(x), normalizer(x))
        assert torch.equal(pullback(twin, z, grad), pullback(normalizer, z, grad))


def test_stated_derivative_is_used() -> None:
    """A normaliser's own product is taken where there is one, autograd's otherwise."""
    z, grad = draws(4, 3, seed=12), normal(4, 3, seed=13)
    odd = ils.Normalizer("odd", lambda x: x, lambda z, grad: 2 * grad)
    assert torch.equal(pullback(odd, z, grad), 2 * grad)
    assert torch.equal(pullback(lambda x: 3 * x, z, grad), 3 * grad)
