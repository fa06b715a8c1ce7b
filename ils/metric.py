r"""In which metric the draw is moved: from the derivative to the direction of the step.

A *metric* is a function ``metric(delta, probs)`` of the pulled-back gradient and of ``pi``, both
``(..., K)``.  Steepest descent in another metric is another direction; on the logits' Fisher
information it is weighted by the probabilities, so that a category moves in proportion to how
likely it is.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["euclidean", "fisher"]


def euclidean(delta: Tensor, probs: Tensor) -> Tensor:
    """The direction as it is, ``Delta_k``: the note's step."""
    return delta


def fisher(delta: Tensor, probs: Tensor) -> Tensor:
    """Weighted by the probabilities, ``pi_k Delta_k``: steepest descent with ``sum x_k^2 / pi_k``.

    With the mass kept and the gradient centred this is ReinMax, see :func:`ils.estimators.reinmax`.
    """
    return probs * delta
