r"""Gradients for the rates of Poisson draws: plain functions of a loss, the rates and the draws.

Each returns a surrogate, of which only the gradient is used: for the rates it is the method's
estimate, for downstream parameters the gradient of the mean loss at the draws.  Draws are
``(D, ..., n)``, rates ``(..., n)``, losses map draws to ``(D, ...)``, surrogates are ``(...)``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ils import velocity

__all__ = [
    "COUNTS",
    "any_distribution",
    "arrivals",
    "differences",
    "ils",
    "leave_one_out",
    "log_prob",
    "pathwise",
    "relaxed",
    "straight_through",
    "truncated",
]

COUNTS = 24
"""How many counts the relaxation knows, from 0; what lies beyond has the place of the last."""

Loss = Callable[[Tensor], Tensor]
Velocity = Callable[[Tensor, Tensor], Tensor]


def ils(z: Tensor, rate: Tensor) -> Tensor:
    """``(1 + z / rate) / 2``, of :func:`ils.velocity.poisson`."""
    return velocity.poisson(z, rate)


def straight_through(z: Tensor, rate: Tensor) -> Tensor:
    """``1``: the draw moves as its mean does."""
    return torch.ones_like(z + rate)


def any_distribution(z: Tensor, rate: Tensor) -> Tensor:
    """``(1 + (z - rate)^2 / rate) / 2``: half of straight-through, half of score times error."""
    return (1 + (z - rate) ** 2 / rate) / 2


def pathwise(loss: Loss, rate: Tensor, z: Tensor, velocity: Velocity) -> Tensor:
    """The gradient ``velocity(z, rate) * d loss / dz`` at the draws."""
    moved = velocity(z, rate.detach()) * (rate - rate.detach())
    return loss(z + moved).mean(0)


def leave_one_out(loss: Loss, rate: Tensor, z: Tensor) -> Tensor:
    """Score function; the baseline of a draw is the mean loss of the others.  Unbiased.

    Args:
        loss: of the draws.
        rate: of the draws.
        z: at least two draws.
    """
    values = loss(z)
    fixed = values.detach()
    advantage = (fixed - fixed.mean(0)) * (len(z) / (len(z) - 1))
    return (values + advantage * log_prob(z, rate).sum(-1)).mean(0)


def differences(loss: Loss, rate: Tensor, z: Tensor) -> Tensor:
    """``loss(z + e_j) - loss(z)`` for each rate.  Unbiased, with ``n + 1`` evaluations a draw.

    The derivative of the distribution function of a Poisson draw is minus its probability, so that
    the general gradient of one-dimensional draws is this difference.
    """
    steps = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
    steps = steps.reshape(-1, *[1] * (z.dim() - 1), z.shape[-1])
    values = loss(z)
    with torch.no_grad():
        after = loss((z + steps).flatten(0, 1)).unflatten(0, (z.shape[-1], len(z)))
        slope = (after - values).movedim(0, -1)
    return (values + (slope * rate).sum(-1)).mean(0)


def log_prob(z: Tensor, rate: Tensor) -> Tensor:
    """``z log(rate) - rate - log(z!)``, elementwise."""
    return torch.xlogy(z, rate) - rate - torch.lgamma(z + 1)


def truncated(rate: Tensor, counts: int = COUNTS) -> Tensor:
    """Log-probabilities of the counts from 0, ``(..., counts)``; the last stands for the rest."""
    known = log_prob(torch.arange(counts - 1, dtype=rate.dtype), rate.unsqueeze(-1))
    # Not below the rounding of the sum, as its logarithm is differentiated.
    rest = (1 - known.exp().sum(-1, keepdim=True)).clamp(min=torch.finfo(rate.dtype).eps)
    return torch.cat([known, rest.log()], -1)


def relaxed(loss: Loss, rate: Tensor, gumbels: Tensor, temperature: float) -> Tensor:
    """Generalised Gumbel-Softmax: counts weighted by relaxed indicators, without a hard draw.

    Args:
        loss: at numbers that need not be whole.
        rate: of the draws.
        gumbels: standard Gumbel noise ``(D, ..., n, counts)``.
        temperature: of the softmax.
    """
    counts = gumbels.shape[-1]
    weights = ((truncated(rate, counts) + gumbels) / temperature).softmax(-1)
    return loss(weights @ torch.arange(counts, dtype=rate.dtype)).mean(0)


def arrivals(loss: Loss, rate: Tensor, exponentials: Tensor, temperature: float) -> Tensor:
    """Counts as events of a Poisson process before time 1, each counted by a soft indicator.

    Args:
        loss: at numbers that need not be whole.
        rate: of the draws.
        exponentials: standard exponential noise ``(D, ..., n, events)``, between the events.
        temperature: of the sigmoid, in units of that time.
    """
    times = exponentials.cumsum(-1) / rate.unsqueeze(-1)
    return loss(((1 - times) / temperature).sigmoid().sum(-1)).mean(0)
