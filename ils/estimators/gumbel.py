"""The Gumbel-Softmax relaxation, with its noise as an argument."""

from __future__ import annotations

from torch import Tensor

__all__ = ["gumbel_softmax", "gumbel_softmax_vjp"]


def gumbel_softmax(logits: Tensor, noise: Tensor, temperature: float | Tensor) -> Tensor:
    r"""Relaxed sample ``y = softmax((theta + G) / T)``.

    Args:
        logits: ``theta``, ``(..., K)``.
        noise: ``G``, standard Gumbel numbers, ``(..., K)``.
        temperature: ``T > 0``; a tensor broadcasts.

    Returns:
        Points inside the simplex, ``(..., K)``; one-hot in the limit ``T -> 0``.

    Source: Jang, Gu and Poole (2017); Maddison, Mnih and Teh (2017).
    """
    return ((logits + noise) / temperature).softmax(-1)


def gumbel_softmax_vjp(y: Tensor, grad: Tensor, temperature: float | Tensor) -> Tensor:
    r"""Gradient for the logits through a relaxed sample, ``y * (g - <y, g>) / T``.

    *Approximates* the gradient of ``E[L(z)]``; it is the exact gradient of one relaxed sample's
    loss ``L(y)``; **biased** for ``E[L(z)]``.

    Args:
        y: relaxed samples, ``(..., K)``.
        grad: ``g = dL/dy``, ``(..., K)``.
        temperature: ``T > 0``; a tensor broadcasts.

    Returns:
        ``(..., K)``, in the units of the loss.

    Source: Jang, Gu and Poole (2017); Maddison, Mnih and Teh (2017).
    """
    return y * (grad - (y * grad).sum(-1, keepdim=True)) / temperature
