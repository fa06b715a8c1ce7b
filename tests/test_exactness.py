"""The forward pass is exact: the law of the draw, and what must never be drawn, at every size."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from cases import generator, normal
from scipy import stats
from torch import Tensor

import ils
from ils import draw
from ils.draw import draw_indices, one_scan

# Every test of a law fails by chance once in a million runs with new seeds.
ERROR_RATE = 1e-6
LAST = 1 - 2**-53  # the largest float64 below one
# Sizes on both sides of each change of method: one scan, then blocks, even or with a rest.
SIZES = [3, 10, 64, 65, 100, 511, 512, 1000, 65_537, 70_000, 1_000_000]
AT_ONCE = 20_000


def p_value(counts: Tensor, law: Tensor) -> float:
    """Chi-square p-value of counts against their law."""
    expected = law / law.sum() * counts.sum()
    assert expected.min() > 5
    return float(stats.chisquare(counts.double().numpy(), expected.numpy()).pvalue)


def groupings(categories: int) -> dict[str, Tensor]:
    """Few groups of categories, each an aspect in which a long draw could go wrong."""
    place = torch.arange(categories)
    if categories <= 100:
        return {"category": place}
    width = draw.block_width(categories)
    return {
        "stretch": place * 64 // categories,
        "remainder": place % 61,
        "place in a block": place % width // (width // 32),
    }


def p_values(index: Tensor, law: Tensor) -> dict[str, float]:
    """One p-value a grouping."""
    found = {}
    for name, group in groupings(len(law)).items():
        size = int(group.max()) + 1
        expected = torch.zeros(size, dtype=torch.float64).index_add_(0, group, law)
        found[name] = p_value(torch.bincount(group[index], minlength=size), expected)
    return found


def many_draws(logits: Tensor, size: int, seed: int, *, in_blocks: bool) -> Tensor:
    """Independent draws of one distribution, some at a time: few a row, in blocks, or many."""
    own, categories = generator(seed), len(logits)
    points = min(AT_ONCE, max(categories // 32, 1)) if in_blocks else AT_ONCE
    rows = max(1, 4000 // points) if in_blocks else 1
    assert one_scan(categories, points) != in_blocks
    parts = [
        ils.sample_index(logits.expand(rows, -1), draws=points, generator=own).flatten()
        for _ in range(0, size, rows * points)
    ]
    return torch.cat(parts)


LAWS = [
    *itertools.product([3, 10, 65, 512, 1000], [torch.float32, torch.bfloat16, torch.float16]),
    (70_000, torch.float16),
    (1_000_000, torch.float32),
]
# Each way that a row of the size can be drawn.
LAWS_BY_WAY = [
    (*case, in_blocks)
    for case, in_blocks in itertools.product(LAWS, (False, True))
    if (not one_scan(case[0], 1) if in_blocks else one_scan(case[0], AT_ONCE))
]


@pytest.mark.parametrize(("categories", "dtype", "in_blocks"), LAWS_BY_WAY, ids=str)
def test_law(categories: int, dtype: torch.dtype, in_blocks: bool) -> None:
    """The law is the softmax of the logits as they are; odds that are off by a tenth are seen."""
    logits = normal(categories, seed=1).clamp(-2, 2).to(dtype)
    size = 100_000 if categories <= 1000 else 60_000
    law = logits.double().softmax(-1)
    index = many_draws(logits, size, seed=2, in_blocks=in_blocks)
    for grouping, p in p_values(index, law).items():
        assert p > ERROR_RATE, grouping
    for grouping, group in groupings(categories).items():
        tilt = torch.where(group % 2 == 0, 0.05, -0.05).double()
        assert p_values(index, (law.log() + tilt).softmax(-1))[grouping] < ERROR_RATE, grouping


@pytest.mark.parametrize("categories", [c for c in SIZES if c <= 1000])
def test_measure_of_each_category(categories: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With whole numbers as weights, an even grid of uniforms names each as often as it weighs."""
    weights = torch.randint(0, 6, (categories,), generator=generator(3))
    weights[[0, -1]] = 0
    weights[1] = 7
    total = int(weights.sum())
    grid = (2 * torch.arange(total, dtype=torch.float64) + 1) / (2 * total)
    width = block_width(categories)
    numbers = grid
    if width:
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
        index = draw_indices(weights.to(dtype).expand(total, -1), None, 1)
        assert torch.equal(index.squeeze(-1), wanted)
        monkeypatch.setattr(torch, "rand", lambda shape, **_: grid.reshape(shape))
        assert torch.equal(draw_indices(weights.to(dtype), None, total), wanted)


def block_width(categories: int) -> int:
    """Width of the blocks of a row, as many as the second number chooses from; 0 for one scan."""
    asked: list[tuple[int, ...]] = []
    rand = torch.rand

    def spy(shape: tuple[int, ...], **options: object) -> Tensor:
        asked.append(shape)
        return rand(shape, dtype=torch.float64, generator=generator(0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", spy)
        draw_indices(torch.ones(categories), None, 1)
        if len(asked[0]) == 1:
            return 0
        # The first block and, within it, the last place.
        ends = torch.tensor([0.0, LAST], dtype=torch.float64)
        patch.setattr(torch, "rand", lambda shape, **_: ends.reshape(shape))
        return 1 + int(draw_indices(torch.ones(categories), None, 1))


@pytest.mark.parametrize("categories", [70_000, 1_000_000])
def test_every_category_can_be_drawn(categories: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far below the rounding of the sum of the row, each category still has its place."""
    probs = torch.full((categories,), 1e-9)
    probs[0] = 1
    width = block_width(categories)
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
        assert torch.equal(draw_indices(probs, None, len(part)), wanted[part])
    # One scan in float32 reaches next to none of them.
    assert len(np.unique(probs.numpy().cumsum(dtype=np.float32))) < 0.1 * categories


def test_a_scan_in_float32_would_be_found_out() -> None:
    """Of a million small categories together the share is right, where a float32 scan errs."""
    size, share = 60_000, 0.1
    probs = torch.full((1_000_000,), share / 999_999)
    probs[0] = 1 - share
    slack = 5 * (share * (1 - share) / size) ** 0.5  # an error of five deviations: 6e-7
    index = many_draws(probs.log(), size, seed=5, in_blocks=True)[:size]
    assert abs(float((index > 0).double().mean()) - share) < slack
    assert len(index[index > 0].unique()) > 0.99 * int((index > 0).sum())
    scan = torch.from_numpy(probs.numpy().cumsum(dtype=np.float32))
    uniform = torch.rand(size, generator=generator(6)) * scan[-1]
    naive = torch.searchsorted(scan, uniform, right=True)
    assert abs(float((naive > 0).double().mean()) - share) > 2 * slack


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
        index = draw_indices(rows, None, points)
        assert (rows.gather(-1, index) > 0).all()
        return index

    # One number, or one for the block and one within it; then one for each of many points.
    for pair in torch.cartesian_prod(extremes, extremes):
        found = drawn(pair if block_width(categories) else pair[:1], 1)[:, 0].tolist()
        assert found == first or pair.max() > 0
        assert found == last or pair.min() < LAST
    many = categories // 32 + 1
    assert one_scan(categories, many)
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
