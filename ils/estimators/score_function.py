"""The score-function estimator (REINFORCE, likelihood ratio)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

__all__ = ["score_function"]


def score_function(logits: Tensor, z: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    r"""``(z - pi) L(z)``: the loss times the gradient of the log-probability.

    *Approximates* the gradient of ``E[L]``; *requires* the value of the loss; **unbiased**.  One
    evaluation an estimate.  No baseline.

    Args:
        logits: ``(n, K)`` or ``(K,)``.
        z: one-hot draws, ``(D, n, K)`` or ``(D, K)``.
        loss: maps draws to values ``(D,)``.

    Returns:
        Estimates, of the shape of ``z``, in the units of the loss.

    Source: Glynn (1990); Williams (1992).
    """
    values = loss(z).reshape(-1, *[1] * (z.dim() - 1))
    return (z - logits.softmax(-1)) * values
