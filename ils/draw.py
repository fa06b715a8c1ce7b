"""Draws, exponential and uniform numbers: the one place of the package that is random."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["draw_index", "exponential", "inverse_cdf", "one_hot", "uniform"]


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
    cumulative = probs.double().cumsum(-1)
    total = cumulative[..., -1:]
    # For subnormal sums u * total can round up to total, whose interval is empty; one step below
    # is the last category that has weight.
    point = torch.minimum(
        uniform.double().unsqueeze(-1) * total, total.nextafter(torch.zeros_like(total))
    )
    return (cumulative <= point).sum(-1)


def draw_index(probs: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw an index from each row of ``probs``; see :func:`inverse_cdf`."""
    uniform = torch.rand(
        probs.shape[:-1], dtype=torch.float64, device=probs.device, generator=generator
    )
    return inverse_cdf(probs, uniform)


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
