"""DARN: the score function with a first-order Taylor baseline."""

from __future__ import annotations

from ils.estimators.estimator import Estimator
from ils.estimators.from_rule import from_rule
from ils.rules import DARN

__all__ = ["darn"]


def darn() -> Estimator:
    r"""DARN: ``(z - pi) <g, z - pi>``, variable by variable, ``g = dL/dz`` at the draw.

    The score function with the baseline ``L(z) - <g, z - pi>``, the loss at the mean as seen from
    the draw.  The baseline depends on the draw, and so has a bias.

    *Approximates* the gradient of ``E[L]`` *with* the loss linearised at the draw; *requires* the
    derivative of the loss; **biased**, exact in expectation for a loss that is linear in each
    variable with the others held; for one that is quadratic, its bias is minus that of
    straight-through.  One evaluation an estimate.

    Returns:
        An :class:`Estimator`: ``(D, *logits.shape)`` for logits ``(*batch, *variables, K)``.

    Raises:
        TypeError, ValueError: at a call, as :class:`Estimator`.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.darn()
        >>> ils.exact.moments(estimator, loss, torch.zeros(3)).bias
        tensor([ 0.0741, -0.4815,  0.4074])

    Source: Gregor et al. (2014); named so, and extended to categories, by Gu et al. (2016).
    """
    return from_rule(DARN(), name="DARN")
