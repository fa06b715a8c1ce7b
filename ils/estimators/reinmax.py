"""ReinMax: straight-through of second order."""

from __future__ import annotations

from ils.estimators.estimator import Estimator
from ils.estimators.from_rule import from_rule
from ils.rules import ReinMax

__all__ = ["reinmax"]


def reinmax(*, temperature: float = 1.0) -> Estimator:
    r"""ReinMax: ``2 m (g - <m, g>) - pi (g - <pi, g>) / 2``, ``2 m = softmax(theta / tau) + z``.

    At ``tau = 1`` this is ``[pi_k (g_k - g_i) + z_k (g_i - <pi, g>)] / 2`` after a draw of ``i``:
    half of straight-through plus DARN, and half of the centred, mass-keeping ILS step in the
    Fisher metric, for any step size.

    *Approximates* the gradient of ``E[L]`` *with* Heun's rule (the trapezium) along the segments
    between the categories; *requires* the derivative of the loss; **biased**, exact in
    expectation at ``tau = 1`` for a loss that is quadratic in each variable with the others held.
    One evaluation an estimate.

    Args:
        temperature: ``tau > 0`` inside ``m``; the draw itself has temperature 1.  Other than 1,
            there is a bias for a linear loss too; the authors' code refuses less than 1.

    Returns:
        An :class:`Estimator`: ``(D, *logits.shape)`` for logits ``(*batch, *variables, K)``.

    Raises:
        TypeError, ValueError: ``temperature`` is not a positive finite number; at a call, as
            :class:`Estimator`.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.reinmax()
        >>> bool(ils.exact.moments(estimator, loss, torch.zeros(3)).bias.abs().max() < 1e-5)
        True

    Source: Liu et al. (2023), as in the authors' published code.
    """
    return from_rule(ReinMax(temperature), name="ReinMax")
