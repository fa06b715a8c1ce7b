"""The score-function estimator (REINFORCE, likelihood ratio)."""

from __future__ import annotations

from torch import Tensor

from ils.estimators.estimator import Estimator, Formula
from ils.estimators.evaluation import Loss, like_draws, value
from ils.estimators.randomness import Draw

__all__ = ["score_function"]


def _formula(logits: Tensor, z: Tensor, loss: Loss, *, baseline: float | Tensor) -> Tensor:
    advantage = value(loss, z, logits) - baseline
    return (z - logits.softmax(-1)) * like_draws(advantage, z)


def score_function(*, baseline: float | Tensor = 0.0) -> Estimator:
    r"""REINFORCE: ``(z - pi) (L(z) - b)``, the gradient of the log-probability times the loss.

    *Approximates* the gradient of ``E[L]`` *with* draws of it; *requires* the value of the loss;
    **unbiased** for any constant ``b``.  One evaluation an estimate.

    Args:
        baseline: ``b``, in the units of the loss; a tensor broadcasts against ``(D, *batch)``,
            and gets no gradient.

    Returns:
        An :class:`Estimator`: ``(D, *logits.shape)`` for logits ``(*batch, *variables, K)``.

    Raises:
        TypeError, ValueError: at a call, as :class:`Estimator`.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.score_function()
        >>> bool(ils.exact.moments(estimator, loss, torch.zeros(3)).bias.abs().max() < 1e-5)
        True

    Source: Glynn (1990); Williams (1992).
    """

    return Estimator(
        name="REINFORCE",
        formula=Formula(_formula, baseline=baseline),
        randomness=Draw(),
        evaluations=1,
        biased=False,
        differentiates=False,
    )
