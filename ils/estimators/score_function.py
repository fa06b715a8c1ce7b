"""The score-function estimator (REINFORCE, likelihood ratio)."""

from __future__ import annotations

from torch import Tensor

from ils.estimators.estimator import Estimator
from ils.estimators.evaluation import Loss, like_draws, value
from ils.estimators.randomness import Draw

__all__ = ["score_function"]


def score_function(*, baseline: float | Tensor = 0.0) -> Estimator:
    r"""REINFORCE: ``(z - pi) (L(z) - b)``, the gradient of the log-probability times the loss.

    *Approximates* the gradient of ``E[L]`` *with* draws of it; *requires* the value of the loss;
    **unbiased** for any constant ``b``.  One evaluation an estimate.

    Args:
        baseline: ``b``, in the units of the loss; a tensor broadcasts against ``(D, *batch)``.

    Source: Glynn (1990); Williams (1992).
    """

    def formula(logits: Tensor, z: Tensor, loss: Loss) -> Tensor:
        advantage = value(loss, z, logits) - baseline
        return (z - logits.softmax(-1)) * like_draws(advantage, z)

    return Estimator(
        name="REINFORCE",
        formula=formula,
        randomness=Draw(),
        evaluations=1,
        biased=False,
        differentiates=False,
    )
