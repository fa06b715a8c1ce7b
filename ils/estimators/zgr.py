"""ZGR: the zero-temperature limit of Gumbel-Rao."""

from __future__ import annotations

from torch import Tensor

from ils.estimators.estimator import Estimator, Formula
from ils.estimators.evaluation import Loss, value_and_gradient
from ils.estimators.randomness import Draw
from ils.relaxation import softmax_vjp

__all__ = ["zgr"]


def _formula(logits: Tensor, z: Tensor, loss: Loss) -> Tensor:
    _, grad = value_and_gradient(loss, z, logits)
    probs = logits.softmax(-1)
    taylor = (z - probs) * ((z - probs) * grad).sum(-1, keepdim=True)
    return (softmax_vjp(probs, grad) + taylor) / 2


def zgr() -> Estimator:
    r"""ZGR: half of straight-through plus DARN, ``[J g + (z - pi) <g, z - pi>] / 2``.

    The limit of Gumbel-Rao for infinitely many conditional samples and ``tau -> 0``.  Equal to
    ReinMax at temperature 1, draw by draw.

    *Approximates* the gradient of ``E[L]`` *with* the trapezium rule; *requires* the derivative of
    the loss; **biased**, exact in expectation for a loss that is quadratic in each variable with
    the others held.  One evaluation an estimate.

    Returns:
        An :class:`Estimator`: ``(D, *logits.shape)`` for logits ``(*batch, *variables, K)``.

    Raises:
        TypeError, ValueError: at a call, as :class:`Estimator`.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.zgr()
        >>> bool(ils.exact.moments(estimator, loss, torch.zeros(3)).bias.abs().max() < 1e-5)
        True

    Source: Shekhovtsov (2023), as in the author's published code.
    """

    return Estimator(
        name="ZGR",
        formula=Formula(_formula),
        randomness=Draw(),
        evaluations=1,
        biased=True,
        differentiates=True,
    )
