"""Categorical draws by inversion, and the uniform and exponential numbers of the package."""

from __future__ import annotations

import torch
from torch import Tensor

from ils.execution import SHORT_ROW, eager

__all__ = [
    "draw_index",
    "draw_indices",
    "exponential",
    "inverse_cdf",
    "one_hot",
    "probabilities",
    "uniform",
    "uniforms",
]

# Up to this many categories one scan of the row finds the draw; above, blocks come first.
_ONE_SCAN = 64


def probabilities(logits: Tensor) -> Tensor:
    """Softmax of the last axis, in float32 for the half types: the law of the draw."""
    if logits.dtype in (torch.float16, torch.bfloat16):
        return logits.softmax(-1, dtype=torch.float32)
    # eager() before numel(): a compiler would make a program for either answer about the size.
    if logits.shape[-1] < SHORT_ROW and eager() and logits.is_cpu and logits.numel() > 2048:
        # PyTorch's softmax works row by row: slow for many rows shorter than a vector register.
        weights = (logits - logits.amax(-1, keepdim=True)).exp_()
        return weights.div_(weights.sum(-1, keepdim=True))
    return logits.softmax(-1)


def inverse_cdf(probs: Tensor, uniform: Tensor) -> Tensor:
    r"""Index of the category in whose interval of the cumulative sum a uniform number falls.

    ``index = min {k : sum_{j <= k} p_j > u * sum_j p_j}``, summed in float64: a float32 sum over
    a million categories is off by a percent.

    Args:
        probs: weights of at least 0, ``(..., K)``, with a positive sum.
        uniform: numbers in ``[0, 1)``, ``(...)``.

    Returns:
        int64, ``(...)``.  A category of weight zero is never returned.
    """
    return _search(probs, uniform.double().unsqueeze(-1).contiguous()).squeeze(-1)


def draw_index(probs: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One drawn category for each row ``(..., K)`` of distributions, by :func:`draw_indices`."""
    return draw_indices(probs, generator, 1).squeeze(-1)


def draw_indices(probs: Tensor, generator: torch.Generator | None, points: int) -> Tensor:
    r"""Draw categories from each row of distributions, exactly.

    Up to 64 categories, or for so many draws that a scan of the row costs less, by
    :func:`inverse_cdf` of one uniform number in float64.  Else in two levels: a block of neighbours
    by its sum, then a category within the block by a second uniform number.  The first level
    rounds a block's sum to the precision of ``probs``, as softmax rounded each entry; no category
    becomes unreachable, as in a long scan in float32.

    Args:
        probs: distributions, ``(..., K)``.
        generator: source of the uniform numbers.
        points: how many draws a row.

    Returns:
        int64, ``(..., points)``.  A category of probability zero is never drawn; for a row that
        holds NaN the index is ``K`` or more.
    """
    numbers = uniforms(probs, generator, points)
    scan = one_scan(probs.shape[-1], points)
    return _search(probs, numbers) if scan else _draw_in_blocks(probs, numbers)


def uniforms(rows: Tensor, generator: torch.Generator | None, points: int) -> Tensor:
    """Uniform numbers, in float64, for draws from rows ``(..., K)``: ``(..., points[, 2])``."""
    shape = (*rows.shape[:-1], points)
    if not one_scan(rows.shape[-1], points):
        shape = (*shape, 2)
    if generator is None:  # passed on, even None would make a compiler fix the sizes
        return torch.rand(shape, dtype=torch.float64, device=rows.device)
    return torch.rand(shape, dtype=torch.float64, device=rows.device, generator=generator)


def one_scan(categories: int, points: int) -> bool:
    """Whether a draw takes one uniform number and a scan of the row, not two and two levels."""
    return categories <= _ONE_SCAN or points * 32 > categories


def _search(weights: Tensor, uniform: Tensor) -> Tensor:
    """Category of each of the points ``(..., n)`` in rows of weights ``(..., K)``; K if NaN."""
    if not eager():
        cumulative = weights.cumsum(-1, dtype=torch.float64)
    else:
        # In place: the memory of a second array of doubles would cost more than the sums.
        if weights.dtype != torch.float64 and weights.is_contiguous():
            wide = weights.double()
        else:
            wide = weights.to(torch.float64, copy=True, memory_format=torch.contiguous_format)
        cumulative = wide.cumsum_(-1)
    total = cumulative[..., -1:]
    point = uniform * total
    if weights.dtype == torch.float64:
        # For subnormal sums u * total can round up to total, whose interval is empty; one step
        # below is the last category that has weight.  A sum of shorter numbers is never subnormal.
        point = torch.minimum(point, total.nextafter(torch.zeros_like(total)))
    return torch.searchsorted(cumulative, point, right=True)


def block_width(categories: int) -> int:
    """How many categories a block of :func:`_draw_in_blocks` has; the last one may have fewer."""
    least = 32 if categories <= 65536 else 256
    whole = [width for width in range(least, 4 * least + 1, 8) if categories % width == 0]
    if whole:
        return min(whole, key=lambda width: categories // width + width)
    return 32 if categories < 512 else 128 if categories <= 65536 else 1024


def _draw_in_blocks(probs: Tensor, uniform: Tensor) -> Tensor:
    """Draw ``(..., n)`` by a block, then within it, from uniform numbers ``(..., n, 2)``."""
    categories = probs.shape[-1]
    width = block_width(categories)
    short = -categories % width
    if short:
        probs = torch.nn.functional.pad(probs, (0, short))
    blocks = probs.unflatten(-1, (-1, width))
    # For a row that holds NaN the index is out of range: use any block, as all of them hold NaN.
    block = _search(blocks.sum(-1), uniform[..., 0]).clamp(max=blocks.shape[-2] - 1)
    inside = blocks.gather(-2, block.unsqueeze(-1).expand(*block.shape, width))
    return block * width + _search(inside, uniform[..., 1:]).squeeze(-1)


def one_hot(index: Tensor, like: Tensor) -> Tensor:
    """One-hot rows, exactly 0 and 1, of the shape, type and device of ``like``."""
    return torch.zeros_like(like).scatter_(-1, index.unsqueeze(-1), 1)


def exponential(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard exponential numbers, drawn in float64 and never zero, in the type of ``like``."""
    numbers = torch.empty(shape, dtype=torch.float64, device=like.device)
    smallest = torch.finfo(like.dtype).tiny
    return numbers.exponential_(generator=generator).clamp(min=smallest).to(like.dtype)


def uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Numbers in ``[0, 1)``, in the type of ``like``."""
    return torch.rand(shape, dtype=like.dtype, device=like.device, generator=generator)
