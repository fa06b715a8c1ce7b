"""The flow of the corrected gradient, and what falls along it."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["drift", "potential", "stationary"]


def stationary(transition: Tensor) -> Tensor:
    """The distribution with ``mu T = mu`` of an irreducible chain, ``(K,)``."""
    away = transition.T - torch.eye(len(transition), dtype=transition.dtype)
    right = torch.zeros(len(transition) + 1, dtype=transition.dtype)
    right[-1] = 1
    return torch.linalg.lstsq(torch.cat([away, torch.ones_like(away[:1])]), right).solution


def drift(probs: Tensor, transition: Tensor) -> Tensor:
    """``F (pi T - pi)``: the velocity of the distribution."""
    step = probs @ transition - probs
    return probs * (step - (probs * step).sum(-1, keepdim=True))


def potential(probs: Tensor, transition: Tensor) -> Tensor:
    """Log of the arithmetic over the geometric mean of ``pi_k / mu_k``; it falls along the flow."""
    ratio = probs / stationary(transition)
    return ratio.mean(-1).log() - ratio.log().mean(-1)
