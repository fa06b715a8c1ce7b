"""Quality of estimates of one gradient: from their moments, or from independent estimates."""

from __future__ import annotations

import torch
from torch import Tensor

from lab.methods.quality import Quality

__all__ = ["from_estimates", "from_moments"]


def from_moments(mean: Tensor, variance: Tensor, gradient: Tensor) -> Quality:
    """Quality where mean and variance are known.

    Args:
        mean: of the estimate, ``(B, m)``.
        variance: trace of its covariance, ``(B,)``.
        gradient: the exact one, ``(B, m)``.
    """
    square = (gradient**2).sum(-1)
    product = (mean * gradient).sum(-1) / square
    return Quality(
        bias_squared=((mean - gradient) ** 2).sum(-1) / square,
        variance=variance / square,
        product=product,
        product_squared=product**2,
        mean_squared=(mean**2).sum(-1) / square,
    )


def from_estimates(estimates: Tensor, gradient: Tensor, *, biased: bool = True) -> Quality:
    """Quality from independent estimates; one that is unbiased is known to have no bias.

    Args:
        estimates: ``(N, B, m)``.
        gradient: the exact one, ``(B, m)``.
        biased: whether the estimates may be.
    """
    count, square = len(estimates), (gradient**2).sum(-1)
    mean = estimates.mean(0)
    variance = ((estimates - mean) ** 2).sum((0, -1)) / (count - 1) / square
    if not biased:
        one = torch.ones_like(square)
        return Quality(torch.zeros_like(square), variance, one, one, one)
    along = (estimates * gradient).sum(-1) / square
    product = along.mean(0)
    return Quality(
        bias_squared=((mean - gradient) ** 2).sum(-1) / square - variance / count,
        variance=variance,
        product=product,
        product_squared=product**2 - along.var(0) / count,
        mean_squared=(mean**2).sum(-1) / square - variance / count,
    )
