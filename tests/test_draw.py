"""Exact draws: the inverse of the cumulative sum, interval by interval."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from cases import distribution, generator
from hypothesis import given, settings
from hypothesis import strategies as st

from ils.draw import block_width, draw_index, inverse_cdf, one_hot

LAST = 1 - 2**-53  # the largest float64 below one


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(weights=st.lists(st.integers(0, 64), min_size=1, max_size=12).filter(any))
def test_measure_of_each_category(weights: list[int]) -> None:
    """On an even grid of uniforms each category comes up exactly as often as its weight says."""
    total = sum(weights)
    # The middles of an even grid of total cells: no point lies at an interval's end.
    uniform = torch.tensor(
        [float(Fraction(2 * j + 1, 2 * total)) for j in range(total)], dtype=torch.float64
    )
    probs = torch.tensor(weights, dtype=torch.float64) / total
    index = inverse_cdf(probs.expand(total, -1), uniform)
    assert torch.bincount(index, minlength=len(weights)).tolist() == weights
    assert (index.diff() >= 0).all()


def test_ends_of_the_intervals() -> None:
    """Intervals hold their left end and not their right one."""
    probs = torch.tensor([0.25, 0.0, 0.5, 0.125, 0.125, 0.0], dtype=torch.float64)
    ends = torch.tensor([0.25, 0.75, 0.875], dtype=torch.float64)
    below = ends.nextafter(torch.zeros_like(ends))
    assert inverse_cdf(probs.expand(3, -1), ends).tolist() == [2, 3, 4]
    assert inverse_cdf(probs.expand(3, -1), below).tolist() == [0, 2, 3]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weight_zero_is_never_returned(dtype: torch.dtype) -> None:
    """Neither u = 0 nor the largest u below one names a category of weight zero."""
    for seed in range(50):
        probs = distribution(7, seed=seed).to(dtype)
        probs[[0, 1, 4, 6]] = 0
        for u in (0.0, 2**-60, 0.5, LAST):
            index = int(inverse_cdf(probs, torch.tensor(u, dtype=torch.float64)))
            assert index in (2, 3, 5)
        assert int(inverse_cdf(probs, torch.tensor(0.0))) == 2
        assert int(inverse_cdf(probs, torch.tensor(LAST, dtype=torch.float64))) == 5


def test_weights_need_not_sum_to_one() -> None:
    """A factor on the weights changes no draw, be it huge or tiny."""
    probs = distribution(200, 5, seed=1)
    uniform = torch.rand(200, generator=generator(2), dtype=torch.float64)
    expected = inverse_cdf(probs, uniform)
    for factor in (2.0**-900, 0.25, 2.0**900):
        assert torch.equal(inverse_cdf(factor * probs, uniform), expected)


def test_long_rows_are_summed_in_double() -> None:
    """Among a million float32 weights the index is the place of u, to one."""
    size = 1_000_000
    probs = torch.full((size,), 0.1)  # not a dyadic number: a float32 sum would drift
    uniform = torch.tensor([0.1, 0.5, 0.9, LAST], dtype=torch.float64)
    index = inverse_cdf(probs.expand(4, -1), uniform)
    assert ((index - uniform * size).abs() <= 1.001).all()


def test_small_weights_after_a_large_one() -> None:
    """Float32 weights far below the rounding of their float32 sum keep their intervals."""
    probs = torch.full((1001,), 1e-9)
    probs[0] = 1
    total = probs.double().sum()
    middles = 1 + (torch.arange(1000, dtype=torch.float64) + 0.5) * 1e-9
    index = inverse_cdf(probs.expand(1000, -1), middles / total)
    assert index.tolist() == [*range(1, 1001)]


def test_product_that_rounds_up() -> None:
    """Where u times the sum rounds to the sum itself, the last category with weight is named."""
    smallest = 2.0**-1074
    for weights, last in (([1, 0], 0), ([0, 1, 0, 0], 1), ([2, 1, 0], 1)):
        probs = smallest * torch.tensor(weights, dtype=torch.float64)
        assert float(probs.sum()) * LAST == float(probs.sum())
        assert int(inverse_cdf(probs, torch.tensor(LAST, dtype=torch.float64))) == last


@pytest.mark.parametrize("batch", [(), (0,), (3,), (2, 0, 3), (4, 5)])
def test_shapes(batch: tuple[int, ...]) -> None:
    """One index a row for any batch, and one-hot rows of the type of the pattern."""
    probs = distribution(*batch, 6, seed=3)
    index = draw_index(probs, generator(4))
    assert index.shape == batch
    assert index.dtype == torch.int64
    z = one_hot(index, probs.half())
    assert z.shape == probs.shape
    assert z.dtype == torch.float16
    assert torch.equal(z.sum(-1), torch.ones(batch, dtype=torch.float16))
    if index.numel():
        assert torch.equal(z.argmax(-1), index)


def test_draws_agree_with_numpy() -> None:
    """Given the same uniforms, numpy's search in the cumulative sum finds the same categories."""
    probs = distribution(9, seed=5)
    index = draw_index(probs.expand(1000, -1), generator(6))
    uniform = torch.rand(1000, dtype=torch.float64, generator=generator(6)).numpy()
    cumulative = np.cumsum(probs.numpy())
    expected = np.searchsorted(cumulative, uniform * cumulative[-1], side="right")
    assert index.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("categories", "width"),
    [(65, 32), (100, 32), (500, 32), (1000, 40), (10_000, 80), (32_000, 128), (50_257, 128),
     (65_536, 128), (65_537, 1024), (100_000, 400), (1_000_000, 1000)],
)  # fmt: skip
def test_width_of_the_blocks(categories: int, width: int) -> None:
    """A divisor with the fewest steps over blocks and within one, or a fixed width with a rest."""
    assert block_width(categories) == width
    least = 32 if categories <= 65_536 else 256
    divisors = [w for w in range(least, 4 * least + 1) if categories % w == 0 and w % 8 == 0]
    steps = [categories // w + w for w in divisors]
    assert not divisors or categories // width + width == min(steps)


@pytest.mark.parametrize("categories", [5, 100, 1000])
def test_rows_that_lie_across_memory(categories: int) -> None:
    """Transposed distributions give the draws of a copy in order, and no warning."""
    probs = distribution(categories, 8, seed=7)
    probs = (probs / probs.sum(0)).mT
    index = draw_index(probs, generator(8))
    assert torch.equal(index, draw_index(probs.contiguous(), generator(8)))
