"""The gapped straight-through estimator."""

from __future__ import annotations

import torch
from torch import Tensor

from ils.checks import check_positive
from ils.estimators.estimator import Estimator, Formula
from ils.estimators.evaluation import Loss, value_and_gradient
from ils.estimators.randomness import Draw
from ils.estimators.relaxation import softmax_vjp, tempered

__all__ = ["gapped_straight_through"]


def _formula(
    logits: Tensor, z: Tensor, loss: Loss, *, temperature: float, gap: float | None
) -> Tensor:
    _, grad = value_and_gradient(loss, z, logits)
    top = logits.amax(-1, keepdim=True)
    distance = logits - top
    if gap is None:
        kind = torch.finfo(logits.dtype)
        # Off 0 too: an enumeration meets draws of probability zero, and 0 / 0 is not 0 there.
        drawn = (logits.softmax(-1) * z).sum(-1, keepdim=True).clamp(kind.tiny, 1 - kind.eps)
        room = -torch.log1p(-drawn) / drawn
    else:
        room = gap
    shifted = torch.where(z > 0, torch.zeros_like(distance), distance.clamp(max=-room))
    return softmax_vjp(tempered(shifted, temperature).softmax(-1), grad) / temperature


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
    check_positive("temperature", temperature)
    if gap is not None:
        check_positive("gap", gap)

    return Estimator(
        name="gapped straight-through",
        formula=Formula(_formula, temperature=temperature, gap=gap),
        randomness=Draw(),
        evaluations=1,
        biased=True,
        differentiates=True,
    )
