"""The straight-through estimator."""

from __future__ import annotations

from ils.estimators.estimator import Estimator
from ils.estimators.from_rule import from_rule
from ils.rules import StraightThrough

__all__ = ["straight_through"]


def straight_through(*, temperature: float = 1.0) -> Estimator:
    r"""Straight-through: ``J g / tau``, ``J`` the softmax Jacobian at ``theta / tau``.

    ``p * (g - <p, g>) / tau`` with ``p = softmax(theta / tau)`` and ``g = dL/dz`` at the draw
    ``z ~ softmax(theta)``.

    *Approximates* the gradient of ``E[L]`` *with* the loss linearised at the draw; *requires* the
    derivative of the loss; **biased**, exact for a linear loss at ``tau = 1``.  One evaluation an
    estimate.

    Args:
        temperature: ``tau > 0`` of the backward pass; the draw itself has temperature 1.

    Returns:
        An :class:`Estimator`: ``(D, *logits.shape)`` for logits ``(*batch, *variables, K)``.

    Raises:
        TypeError, ValueError: ``temperature`` is not a positive finite number; at a call, as
            :class:`Estimator`.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.straight_through()
        >>> ils.exact.moments(estimator, loss, torch.zeros(3)).bias
        tensor([-0.0741,  0.4815, -0.4074])

    Source: Bengio, Leonard and Courville (2013), here with the softmax Jacobian; the temperature
    as in Liu et al. (2023).
    """
    return from_rule(StraightThrough(temperature), name="straight-through")
