"""Relaxed samples and perturbed logits as formulas, with their noise as an argument."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "LEVEL",
    "conditional_gumbel",
    "hardened",
    "levelled",
    "relaxed_sample",
    "relaxed_sample_vjp",
    "softmax_vjp",
    "tempered",
]

LEVEL = 128.0
"""Logits whose largest is beyond this are moved before anything is added to them."""
_COLD = 0.1
"""Temperatures below this divide differences to the largest entry."""


def levelled(logits: Tensor) -> Tensor:
    """Logits of the same distributions, shifted where they are so large that added noise is lost.

    Rows whose largest entry is of ordinary size stay as they are, to the last bit.
    """
    top = logits.amax(-1, keepdim=True)
    return logits - top.where(top.abs() > LEVEL, 0)


def tempered(scores: Tensor, temperature: float | Tensor) -> Tensor:
    """Scores over a temperature, up to a constant for each row where the temperature is low.

    A large quotient would lose the digits that decide the softmax, or overflow.
    """
    if isinstance(temperature, float) and temperature < _COLD:
        scores = scores - scores.detach().amax(-1, keepdim=True)
    return scores / temperature


def softmax_vjp(probs: Tensor, grad: Tensor) -> Tensor:
    """Jacobian of softmax times a gradient, ``probs * (g - <probs, g>)``, along the last axis."""
    return probs * (grad - (probs * grad).sum(-1, keepdim=True))


def relaxed_sample(logits: Tensor, noise: Tensor, temperature: float | Tensor) -> Tensor:
    r"""Relaxed sample ``y = softmax((theta + G) / T)``.

    Args:
        logits: ``theta``, ``(..., K)``.
        noise: ``G``, standard Gumbel numbers, ``(..., K)``.
        temperature: ``T > 0``; a tensor broadcasts.

    Returns:
        Points inside the simplex, ``(..., K)``; one-hot in the limit ``T -> 0``.

    Source: Jang, Gu and Poole (2017); Maddison, Mnih and Teh (2017).
    """
    return tempered(logits + noise, temperature).softmax(-1)


def relaxed_sample_vjp(y: Tensor, grad: Tensor, temperature: float | Tensor) -> Tensor:
    r"""Gradient for the logits through a relaxed sample, ``y * (g - <y, g>) / T``.

    Args:
        y: relaxed samples, ``(..., K)``.
        grad: ``g = dL/dy``, ``(..., K)``.
        temperature: ``T > 0``; a tensor broadcasts.

    Returns:
        ``(..., K)``, in the units of the loss.

    Source: Jang, Gu and Poole (2017); Maddison, Mnih and Teh (2017).
    """
    return softmax_vjp(y, grad) / temperature


def hardened(scores: Tensor) -> Tensor:
    """One-hot at the largest entry of each row, the first of several; NaN for a row with NaN.

    An exact draw if ``scores`` are logits plus Gumbel noise.
    """
    index = scores.argmax(-1, keepdim=True)
    unknown = scores.isnan().any(-1, keepdim=True)
    return torch.zeros_like(scores).scatter_(-1, index, 1).masked_fill_(unknown, torch.nan)


def conditional_gumbel(logits: Tensor, z: Tensor, exponential: Tensor) -> Tensor:
    r"""Perturbed logits ``theta + G``, given that their largest entry is the drawn one.

    With ``i`` the drawn category and ``E`` standard exponential numbers, the largest is
    ``-log E_i`` and the others are ``-log(E_k / pi_k + E_i)``, all plus ``log sum exp theta``.
    Differentiable in the logits at fixed ``z`` and ``E``.

    Args:
        logits: ``(..., K)``.
        z: one-hot draws, ``(..., K)``; broadcasts.
        exponential: ``E``, ``(..., K)``; broadcasts.

    Returns:
        ``(..., K)``; ``-inf`` where the logits are.

    Source: Maddison, Tarlow and Minka (2014); in this form Paulus, Maddison and Krause (2021).
    """
    log_probs = logits.log_softmax(-1)
    drawn = (z * exponential).sum(-1, keepdim=True)
    # Without a double where, autograd turns the unused infinite branch into NaN.
    possible = ~log_probs.isneginf()
    # On the logarithmic scale: 1 / pi overflows for tiny probabilities.
    rest = -torch.logaddexp(exponential.log() - log_probs.where(possible, 0), drawn.log())
    rest = rest.masked_fill(~possible, -torch.inf)
    return torch.where(z > 0, -drawn.log(), rest) + logits.logsumexp(-1, keepdim=True)
