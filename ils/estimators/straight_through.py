"""The straight-through estimator."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ils.estimators._upstream import upstream_gradient

__all__ = ["straight_through"]


def straight_through(logits: Tensor, z: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    r"""``J_softmax(theta) g = pi * (g - <pi, g>)``, with ``g = dL/dz`` at the draw.

    *Approximates* the gradient of ``E[L]`` by that of ``L`` linearised at the draw; *requires*
    the derivative of the loss; **biased**, exact for a linear loss.  One evaluation an estimate.

    Args:
        logits: ``(n, K)`` or ``(K,)``.
        z: one-hot draws, ``(D, n, K)`` or ``(D, K)``.
        loss: maps draws to values ``(D,)``, differentiable.

    Returns:
        Estimates, of the shape of ``z``, in the units of the loss.

    Source: Bengio, Leonard and Courville (2013), here with the softmax Jacobian.
    """
    probs = logits.softmax(-1)
    grad = upstream_gradient(z, loss)
    return probs * (grad - (probs * grad).sum(-1, keepdim=True))
