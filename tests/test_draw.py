"""Exact draws: probabilities, uniform numbers, the category of each, and the law at every size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import distribution, elsewhere, generator, normal
from torch import Tensor

import ils
from ils import draw

LAST = 1 - 2**-53  # the largest float64 below one
# Sizes on both sides of each change of method: one scan, then blocks, even or with a rest.
SIZES = [3, 10, 64, 65, 100, 511, 512, 1000, 65_537, 70_000, 1_000_000]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(4,), (3, 15), (1000, 3), (1000, 15), (1000, 16), (2, 2, 600)])
def test_probabilities(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """The softmax, in float32 for the half types, by whichever way; the logits stay as they are."""
    logits = (3 * normal(*shape)).to(dtype)
    before = logits.clone()
    found = draw.probabilities(logits)
    wide = dtype if dtype in (torch.float32, torch.float64) else torch.float32
    assert found.dtype == wide
    assert torch.equal(logits, before)
    tolerance = 8 * torch.finfo(wide).eps
    torch.testing.assert_close(
        found.double(), logits.double().softmax(-1), rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize("categories", [3, 15, 16])
def test_probabilities_of_far_rows(categories: int) -> None:
    """Each row by its own largest entry, whatever axes there are: no overflow, nothing lost."""
    logits = normal(10, 100, categories)
    far = logits + torch.tensor([-2000.0, 0.0, 2000.0]).repeat(334)[:1000].view(10, 100, 1)
    found = draw.probabilities(far)
    torch.testing.assert_close(found, far.softmax(-1), rtol=1e-14, atol=1e-15)


def test_inverse_cdf_by_hand() -> None:
    """The category in whose interval the number falls, the lower end included."""
    probs = torch.tensor([[0.25, 0.0, 0.5, 0.25], [0.0, 1.0, 1.0, 2.0]])
    for number, found in ((0.0, [0, 1]), (0.25, [2, 2]), (0.5, [2, 3]), (0.75, [3, 3])):
        assert draw.inverse_cdf(probs, torch.full((2,), number)).tolist() == found
    below = torch.full((2,), LAST, dtype=torch.float64)
    assert draw.inverse_cdf(probs, below).tolist() == [3, 3]
    ends = torch.tensor([0.25, 0.5], dtype=torch.float64)
    assert draw.inverse_cdf(probs, ends.nextafter(torch.zeros_like(ends))).tolist() == [0, 2]
    one, again = (draw.draw_index(probs / 4, generator(1)) for _ in range(2))
    assert one.shape == (2,)
    assert torch.equal(one, again)
    assert torch.equal(one, draw.draw_indices(probs / 4, generator(1), 1)[..., 0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weight_zero_is_never_returned(dtype: torch.dtype) -> None:
    """Neither u = 0 nor the largest u below one names a category of weight zero."""
    for seed in range(50):
        probs = distribution(7, seed=seed).to(dtype)
        probs[[0, 1, 4, 6]] = 0
        for u in (0.0, 2**-60, 0.5, LAST):
            index = int(draw.inverse_cdf(probs, torch.tensor(u, dtype=torch.float64)))
            assert index in (2, 3, 5)
        assert int(draw.inverse_cdf(probs, torch.tensor(0.0))) == 2
        assert int(draw.inverse_cdf(probs, torch.tensor(LAST, dtype=torch.float64))) == 5


def test_weights_need_not_sum_to_one() -> None:
    """A factor on the weights changes no draw, be it huge or tiny."""
    probs = distribution(200, 5, seed=1)
    uniform = torch.rand(200, generator=generator(2), dtype=torch.float64)
    expected = draw.inverse_cdf(probs, uniform)
    for factor in (2.0**-900, 0.25, 2.0**900):
        assert torch.equal(draw.inverse_cdf(factor * probs, uniform), expected)


def test_sums_are_taken_in_float64() -> None:
    """A category too small for a sum in float32 has its interval, in short rows and long ones."""
    for rows in (1, 5000):
        weights = torch.tensor([1.0, 2.0**-26]).expand(rows, 2)
        number = torch.full((rows,), 1 - 2.0**-30, dtype=torch.float64)
        assert (draw.inverse_cdf(weights, number) == 1).all()
        assert (torch.func.vmap(draw.inverse_cdf)(weights, number) == 1).all()


def test_product_that_rounds_up() -> None:
    """Where u times the sum rounds to the sum itself, the last category with weight is named."""
    smallest = 2.0**-1074
    for weights, last in (([1, 0], 0), ([0, 1, 0, 0], 1), ([2, 1, 0], 1)):
        probs = smallest * torch.tensor(weights, dtype=torch.float64)
        assert float(probs.sum()) * LAST == float(probs.sum())
        assert int(draw.inverse_cdf(probs, torch.tensor(LAST, dtype=torch.float64))) == last


@pytest.mark.parametrize(
    ("categories", "width"),
    [(65, 32), (100, 32), (500, 32), (1000, 40), (10_000, 80), (32_000, 128), (50_257, 128),
     (65_536, 128), (65_537, 1024), (100_000, 400), (1_000_000, 1000)],
)  # fmt: skip
def test_width_of_the_blocks(categories: int, width: int) -> None:
    """A divisor with the fewest steps over blocks and within one, or a fixed width with a rest."""
    assert draw.block_width(categories) == width


@pytest.mark.parametrize("categories", [5, 100, 1000])
def test_rows_that_lie_across_memory(categories: int) -> None:
    """Transposed distributions give the draws of a copy in order, and no warning."""
    probs = distribution(categories, 8, seed=7)
    probs = (probs / probs.sum(0)).mT
    index = draw.draw_index(probs, generator(8))
    assert torch.equal(index, draw.draw_index(probs.contiguous(), generator(8)))


@pytest.mark.parametrize("source", [None, 1])
def test_uniform_numbers(source: int | None) -> None:
    """In float64, on the device of the rows, one a draw or two, from the given generator."""
    rows = torch.zeros(4, 100)

    def numbers(rows: Tensor, points: int) -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            return draw.uniforms(rows, None if source is None else generator(source), points)

    for width, points, shape in ((5, 1, (4, 1)), (64, 2, (4, 2)), (65, 1, (4, 1, 2))):
        found = numbers(rows[:, :width], points)
        assert found.shape == shape
        assert found.dtype == torch.float64
        assert torch.equal(found, torch.rand(shape, generator=generator(1), dtype=torch.float64))
        with elsewhere():
            assert torch.equal(found, numbers(rows[:, :width], points))
    assert draw.uniforms(rows.to("meta"), None, 1).device.type == "meta"


def test_one_scan_or_two_levels() -> None:
    """Up to 64 categories, and where 32 categories or fewer come upon a draw."""
    for categories, points, scan in (
        (64, 1, True),
        (65, 1, False),
        (65, 2, False),
        (65, 3, True),
        (96, 3, False),
        (95, 3, True),
    ):
        assert draw.one_scan(categories, points) is scan


def test_random_numbers_of_the_estimators() -> None:
    """PyTorch's exponential and uniform numbers; drawn in float64, so that none is zero."""
    like = torch.zeros(1, dtype=torch.float32)
    numbers = draw.exponential((1000, 3), like, generator(1))
    assert numbers.min() > 0
    wide = torch.empty(1000, 3, dtype=torch.float64).exponential_(generator=generator(1))
    assert torch.equal(numbers, wide.float())
    assert torch.equal(draw.exponential((1000, 3), like.double(), generator(1)), wide)
    half = draw.exponential((100000,), like.half(), generator(2))
    assert half.dtype == torch.float16
    assert float(half.min()) >= torch.finfo(torch.float16).tiny
    even = draw.uniform((1000, 3), like, generator(1))
    assert torch.equal(even, torch.rand(1000, 3, generator=generator(1)))
    with elsewhere():
        assert torch.equal(numbers, draw.exponential((1000, 3), like, generator(1)))
        assert torch.equal(even, draw.uniform((1000, 3), like, generator(1)))
    z = draw.one_hot(torch.tensor([2, 0]), torch.ones(2, 3).half())
    assert torch.equal(z, torch.tensor([[0, 0, 1], [1, 0, 0]]).half())


@pytest.mark.parametrize("categories", [c for c in SIZES if c <= 1000])
def test_measure_of_each_category(categories: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With whole numbers as weights, an even grid of uniforms names each as often as it weighs."""
    weights = torch.randint(0, 6, (categories,), generator=generator(3))
    weights[[0, -1]] = 0
    weights[1] = 7
    total = int(weights.sum())
    grid = (2 * torch.arange(total, dtype=torch.float64) + 1) / (2 * total)
    numbers = grid
    if not draw.one_scan(categories, 1):
        width = draw.block_width(categories)
        # A second number finds the place within the block that the first one finds.
        block = torch.arange(categories) // width
        sums = torch.zeros(int(block[-1]) + 1).index_add_(0, block, weights.float()).long()
        inside = torch.cat([torch.arange(int(n)) for n in sums])
        second = (2 * inside.double() + 1) / (2 * sums.repeat_interleave(sums))
        numbers = torch.stack([grid, second], -1)
    wanted = torch.arange(categories).repeat_interleave(weights)
    for dtype in (torch.float32, torch.float64):
        # A point a row, by one scan or in blocks; and all points of one row, by one scan.
        monkeypatch.setattr(torch, "rand", lambda shape, **_: numbers.reshape(shape))
        index = draw.draw_indices(weights.to(dtype).expand(total, -1), None, 1)
        assert torch.equal(index.squeeze(-1), wanted)
        monkeypatch.setattr(torch, "rand", lambda shape, **_: grid.reshape(shape))
        assert torch.equal(draw.draw_indices(weights.to(dtype), None, total), wanted)


@pytest.mark.parametrize("categories", [70_000, 1_000_000])
def test_every_category_can_be_drawn(categories: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far below the rounding of the sum of the row, each category still has its place."""
    probs = torch.full((categories,), 1e-9)
    probs[0] = 1
    width = draw.block_width(categories)
    wanted = torch.randint(1, categories, (3000,), generator=generator(4))
    wanted = torch.cat([wanted, torch.arange(width, categories, width)[:300]])
    wanted = torch.cat([wanted, wanted[-300:] + width - 1, torch.tensor([1, categories - 1])])
    wanted = wanted.clamp(max=categories - 1)
    block, place = wanted // width, wanted % width
    sizes = torch.full((categories // width,), width)
    if categories % width:
        sizes = torch.cat([sizes, torch.tensor([categories % width])])
    mass = sizes.double() * float(probs[1])
    mass[0] += 1 - float(probs[1])
    first = (mass.cumsum(0) - mass / 2)[block] / mass.sum()
    before = place.double() * float(probs[1])
    before[block == 0] += 1 - float(probs[1])  # all wanted places come after that of the first
    second = (before + probs[wanted].double() / 2) / mass[block]
    numbers = torch.stack([first, second], -1)
    for part in torch.arange(len(wanted)).split(2000):
        monkeypatch.setattr(torch, "rand", lambda shape, p=part, **_: numbers[p].reshape(shape))
        assert torch.equal(draw.draw_indices(probs, None, len(part)), wanted[part])
    # One scan in float32 reaches next to none of them.
    assert len(np.unique(probs.numpy().cumsum(dtype=np.float32))) < 0.1 * categories


def holes(categories: int, dtype: torch.dtype) -> Tensor:
    """Weights with zeros at both ends, in whole blocks and within others."""
    weights = normal(categories, seed=7).exp().to(dtype)
    weights[torch.rand(categories, generator=generator(8)) < 0.4] = 0
    weights[: categories // 4] = 0
    weights[categories // 2 : categories // 2 + categories // 3] = 0
    weights[-categories // 10 :] = 0
    weights[categories // 3] = 1
    return weights


@pytest.mark.parametrize("categories", [8, *SIZES])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_extreme_uniforms(
    categories: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither 0 nor the largest number below 1, at any level, names a category of weight zero."""
    extremes = torch.tensor([0.0, 2.0**-53, 0.5, LAST], dtype=torch.float64)
    info = torch.finfo(dtype)
    scales = [1.0, info.tiny, info.smallest_normal * info.eps * 4, info.max * 1e-3 / categories]
    rows = torch.stack([holes(categories, dtype) * scale for scale in scales])
    first = [int(row.nonzero()[0]) for row in rows]
    last = [int(row.nonzero()[-1]) for row in rows]

    def drawn(numbers: Tensor, points: int) -> Tensor:
        monkeypatch.setattr(torch, "rand", lambda shape, **_: numbers[: shape[-1]].expand(shape))
        index = draw.draw_indices(rows, None, points)
        assert (rows.gather(-1, index) > 0).all()
        return index

    # One number, or one for the block and one within it; then one for each of many points.
    for pair in torch.cartesian_prod(extremes, extremes):
        found = drawn(pair[:1] if draw.one_scan(categories, 1) else pair, 1)[:, 0].tolist()
        assert found == first or pair.max() > 0
        assert found == last or pair.min() < LAST
    many = categories // 32 + 1
    assert draw.one_scan(categories, many)
    for number in extremes:
        found = drawn(number.expand(many), many)
        assert torch.equal(found, found[:, :1].expand_as(found))
        assert found[:, 0].tolist() == first or number > 0
        assert found[:, 0].tolist() == last or number < LAST


def test_never_drawn() -> None:
    """In a hundred million draws no category of probability zero comes up, masked or underflown."""
    total = 0
    for categories, rows, draws, calls in (
        (8, 5, 1_000_000, 18),
        (64, 5, 980_000, 2),
        (100, 50_000, 3, 1),
        (1000, 1000, 30, 1),
        (1000, 10, 2000, 1),
    ):
        own = generator(categories)
        logits = normal(rows, categories, seed=9).float()
        logits[torch.rand(rows, categories, generator=own) < 0.3] = -torch.inf
        logits[torch.rand(rows, categories, generator=own) < 0.2] = -200.0
        logits[:, 2] = 0
        mask = torch.rand(rows, categories, generator=own) < 0.2
        mask[:, 2] = False
        never = (logits.masked_fill(mask, -torch.inf).softmax(-1) == 0).flatten()
        assert 0.3 < never.double().mean() < 0.8
        offset = categories * torch.arange(rows)
        for _ in range(calls):
            index = ils.sample_index(logits, mask=mask, draws=draws, generator=own)
            counts = torch.bincount(index.add_(offset).flatten(), minlength=rows * categories)
            assert not counts[never].any()
            assert counts[~never].any()
            total += index.numel()
    assert total == 100_000_000
