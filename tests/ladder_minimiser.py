"""The minimiser of the ladder's bound by bisection, without the package and without descent."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["half_count", "minimiser_of", "slope"]


def slope(x: Tensor, n: int, eps: float) -> Tensor:
    """``d/dx E[log(B / n + eps)]`` for ``B ~ Binomial(n, x)``: it falls as ``x`` grows."""
    count = torch.arange(n, dtype=torch.float64)
    size = torch.tensor(float(n - 1), dtype=torch.float64)
    choose = (size + 1).lgamma() - (count + 1).lgamma() - (size - count + 1).lgamma()
    q = x.unsqueeze(-1)
    mass = (choose + torch.special.xlogy(count, q) + torch.special.xlog1py(size - count, -q)).exp()
    return n * (mass * torch.log1p(1 / (count + n * eps))).sum(-1)


def minimiser_of(p: Tensor, n: int, eps: float) -> Tensor:
    """Where ``p_k slope(x_k)`` is one level in all categories with mass, and lower in others.

    These are the conditions of Karush, Kuhn and Tucker; the bound is convex, so that they suffice.

    Args:
        p: the truths, ``(..., K)``, all entries positive.
        n: the number of draws, at least 2.
        eps: the guard.
    """

    def model(level: Tensor) -> Tensor:
        """The model at each level, ``(levels, ..., K)``."""
        low = torch.zeros(torch.broadcast_shapes(level.shape, p.shape), dtype=torch.float64)
        high = torch.ones_like(low)
        for _ in range(50):
            middle = (low + high) / 2
            above = p * slope(middle, n, eps) > level
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        return (low + high) / 2

    # The level lies between the least and the greatest slope there is; 16 parts at a time.
    ends = torch.tensor([1.0, 0.0], dtype=torch.float64)
    least, greatest = slope(ends, n, eps).log().tolist()
    floor = least + p.amin(-1, keepdim=True).log()
    width = greatest - floor
    parts = torch.arange(1, 16, dtype=torch.float64).reshape(-1, *[1] * p.dim())
    for _ in range(13):
        width = width / 16
        full = model((floor + parts * width).exp()).sum(-1, keepdim=True) > 1
        floor = floor + width * full.sum(0)
    found = model((floor + width / 2).exp().unsqueeze(0)).squeeze(0)
    return found / found.sum(-1, keepdim=True)


def half_count(p: Tensor, n: int, *, count: float = 0.5, normalised: bool = True) -> Tensor:
    """``(p + count / n) / (1 + K count / n)``; half a count is the book's statement."""
    raised = p + count / n
    return raised / (1 + p.shape[-1] * count / n) if normalised else raised
