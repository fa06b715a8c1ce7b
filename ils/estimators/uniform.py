"""Uniform numbers for antithetic pairs of draws, and the pairs that they make."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ils.draw import uniform

__all__ = ["Uniform", "antithetic_pair", "stick_logits"]

# Two Gauss-Legendre nodes on [0, 1]: exact for polynomials up to the third degree.
_NODES = (0.5 - 0.5 / 3**0.5, 0.5 + 0.5 / 3**0.5)


def stick_logits(logits: Tensor) -> Tensor:
    r"""Logits of "this category, if none before it": ``theta_k - log sum_{j > k} exp theta_j``.

    Args:
        logits: ``(..., K)``.

    Returns:
        ``(..., K - 1)``; ``-inf`` for a masked category, ``+inf`` where only masked ones follow.
    """
    following = logits.flip(-1).logcumsumexp(-1).flip(-1)[..., 1:]
    first = logits[..., :-1]
    return torch.where(first.isneginf(), first, first - following)


def antithetic_pair(logits: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Binary draws from ``u`` and ``1 - u``: ``(u >= 1 - p, u < p)`` with ``p = sigmoid(logits)``.

    As ``u`` can be 0 and cannot be 1, just these two leave what is certain certain.

    Args:
        logits: ``(..., sticks)``.
        numbers: ``u``, uniform on ``[0, 1)``, broadcasts.
    """
    p = logits.sigmoid()
    return (1 - numbers <= p).to(p), (numbers < p).to(p)


@dataclass(frozen=True)
class Uniform:
    """One number in ``[0, 1)`` for each category but the last, ``(D, *batch, *variables, K - 1)``.

    The support cuts ``[0, 1)`` where one of the pair of draws changes, and puts nodes into each
    piece: one, enough for estimates that are constant there, or two, enough for the mean and the
    variance of estimates linear in ``u``.
    """

    linear: bool = False
    joint: bool = False

    def sample(
        self, logits: Tensor, draws: int, generator: torch.Generator | None, batch_dims: int
    ) -> Tensor:
        """Noise for ``draws`` estimates."""
        shape = (draws, *logits.shape[:-1], logits.shape[-1] - 1)
        return uniform(shape, logits, generator)

    def support(self, logits: Tensor, batch_dims: int) -> tuple[Tensor, Tensor]:
        """All noise and its weights."""
        p = stick_logits(logits).sigmoid()
        low, high = torch.minimum(p, 1 - p), torch.maximum(p, 1 - p)
        zero, one = torch.zeros_like(p), torch.ones_like(p)
        pieces = ((zero, low), (low, high), (high, one))
        inner = _NODES if self.linear else (0.5,)
        nodes = torch.stack([a + (b - a) * x for a, b in pieces for x in inner])
        weights = torch.stack([(b - a) / len(inner) for a, b in pieces for _ in inner])
        batch, count = logits.shape[:batch_dims], p.shape[batch_dims:].numel()
        nodes, weights = (x.reshape(len(nodes), *batch, count) for x in (nodes, weights))
        every = torch.arange(len(nodes), device=logits.device)
        index = torch.cartesian_prod(*[every] * count).reshape(-1, count)
        # Number s of every stick, from the nodes of that stick.
        place = index.reshape(-1, *[1] * batch_dims, count).expand(-1, *batch, count)
        found = nodes.gather(0, place).reshape(len(place), *p.shape)
        return found, weights.gather(0, place).prod(-1)
