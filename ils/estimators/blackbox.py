"""Blackbox differentiation: the argmax of changed logits."""

from __future__ import annotations

from torch import Tensor

from ils.checks import check_positive
from ils.estimators.estimator import Estimator, Formula
from ils.estimators.evaluation import Loss
from ils.estimators.randomness import Deterministic
from ils.estimators.spigot import at_argmax
from ils.relaxation import hardened

__all__ = ["blackbox"]


def _formula(logits: Tensor, noise: Tensor, loss: Loss, *, step_size: float) -> Tensor:
    top, grad = at_argmax(logits, noise, loss)
    return (top - hardened(logits - step_size * grad)) / step_size


def blackbox(*, step_size: float) -> Estimator:
    r"""Blackbox: ``[a(theta) - a(theta - lambda g)] / lambda`` with ``a(x) = onehot argmax(x)``.

    ``g`` is the derivative of the loss at ``a(theta)``.  The estimate is the gradient of a
    piecewise linear interpolation of the loss as a function of the logits.
    I-MLE without noise.

    *Approximates* the gradient of ``L`` at the most likely category, not of ``E[L]``; *requires*
    the derivative of the loss; **biased**.  Nothing is random.  One evaluation an estimate.

    Args:
        step_size: ``lambda > 0``, in units of one over the gradient of the loss.

    Returns:
        An :class:`Estimator`: ``(D, *logits.shape)`` for logits ``(*batch, *variables, K)``.

    Raises:
        TypeError, ValueError: ``step_size`` is not a positive finite number; at a call, as
            :class:`Estimator`.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.blackbox(step_size=0.5)
        >>> ils.exact.moments(estimator, loss, torch.tensor([0.0, 0.5, 1.0])).bias
        tensor([-0.4127,  1.6954, -1.2826])

    Source: Vlastelica et al. (2020), there for a minimum in place of a maximum.
    """
    check_positive("step_size", step_size)

    return Estimator(
        name="blackbox",
        formula=Formula(_formula, step_size=step_size),
        randomness=Deterministic(),
        evaluations=1,
        biased=True,
        differentiates=True,
    )
