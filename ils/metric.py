r"""Metrics of the step: from the pulled-back gradient to the direction in which the draw moves.

A *metric* is a function ``metric(delta, probs)`` of the pulled-back gradient and of ``pi``, both
``(..., K)``.  Steepest descent in another metric is another direction; on the logits' Fisher
information it is weighted by the probabilities, so that a category moves in proportion to how
likely it is.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["euclidean", "fisher"]


def euclidean(delta: Tensor, probs: Tensor) -> Tensor:
    """The pulled-back gradient unchanged, ``Delta_k``: the note's step.

    Args:
        delta: the pulled-back gradient, ``(..., K)``.
        probs: ``pi``; not used.

    Returns:
        ``delta`` itself, ``(..., K)``.

    Raises:
        Nothing: it returns what it is given.

    Example:
        >>> import torch
        >>> from ils.metric import euclidean
        >>> euclidean(torch.tensor([0.0, 2.0]), torch.tensor([0.25, 0.75]))
        tensor([0., 2.])

    Source: Shliselberg (2019), Algorithm 1.
    """
    return delta


def fisher(delta: Tensor, probs: Tensor) -> Tensor:
    """Weighted by the probabilities, ``pi_k Delta_k``: steepest descent with ``sum x_k^2 / pi_k``.

    With the mass kept and the gradient centred this is ReinMax, see :func:`ils.estimators.reinmax`.

    Args:
        delta: the pulled-back gradient, ``(..., K)``.
        probs: ``pi``, ``(..., K)``.

    Returns:
        ``(..., K)``, in the units of ``delta``; zero where the probability is.

    Raises:
        RuntimeError: the shapes do not broadcast.

    Example:
        >>> import torch
        >>> from ils.metric import fisher
        >>> fisher(torch.tensor([0.0, 2.0]), torch.tensor([0.25, 0.75]))
        tensor([0.0000, 1.5000])

    Source: the natural gradient, Amari (1998), here for the draw; this report.
    """
    return probs * delta
