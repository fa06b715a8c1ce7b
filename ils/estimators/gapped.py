"""The gapped straight-through estimator."""

from __future__ import annotations

from ils.estimators.estimator import Estimator
from ils.estimators.from_rule import from_rule
from ils.rules import Gapped

__all__ = ["gapped_straight_through"]


def gapped_straight_through(*, temperature: float = 1.0, gap: float | None = 1.0) -> Estimator:
    r"""Gapped straight-through: ``J_tau(theta + m_1 - m_2) g`` with a fixed shift of the logits.

    ``m_1`` lifts the drawn category ``i`` to the largest logit, ``m_1,i = max theta - theta_i``;
    ``m_2`` lowers every other one until it is at least ``gap`` below,
    ``m_2,k = max(theta_k - max theta + gap, 0)``.  It stands in for the mean of the Gumbel noise
    given the draw, without its variance.  The shifts are not differentiated.

    *Approximates* the gradient of ``E[L]`` *with* the loss linearised at the draw and the Jacobian
    of the shifted softmax; *requires* the derivative of the loss; **biased**, for a linear loss
    too.  One evaluation an estimate.

    Args:
        temperature: ``tau > 0`` of the backward pass.
        gap: in units of the logits; ``None`` for ``-log(1 - pi_i) / pi_i``, the mean distance
            of the largest perturbed logit from the second largest, given the draw.

    Returns:
        An :class:`Estimator`: ``(D, *logits.shape)`` for logits ``(*batch, *variables, K)``.

    Raises:
        TypeError, ValueError: ``temperature`` or ``gap`` is not a positive finite number; at a
            call, as :class:`Estimator`.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.gapped_straight_through()
        >>> ils.exact.moments(estimator, loss, torch.zeros(3)).bias
        tensor([ 0.2353,  0.3273, -0.5626])

    Source: Fan et al. (2022), as in the authors' published code.
    """
    return from_rule(Gapped(temperature, gap), name="gapped straight-through")
