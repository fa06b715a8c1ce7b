"""Gradient estimators under one signature: ``estimator(logits, z, loss) -> estimates``.

``z`` holds draws, ``(D, n, K)`` (or ``(D, K)``); the result is one estimate of the gradient of
``E[loss]`` for the logits a draw, of the same shape.  See :mod:`ils.exact`.
"""

from ils.estimators.gumbel import gumbel_softmax, gumbel_softmax_vjp
from ils.estimators.intermediate import intermediate_loss_sampling
from ils.estimators.score_function import score_function
from ils.estimators.straight_through import straight_through

__all__ = [
    "gumbel_softmax",
    "gumbel_softmax_vjp",
    "intermediate_loss_sampling",
    "score_function",
    "straight_through",
]
