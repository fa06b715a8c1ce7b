"""ReinMax of several draws, each with the derivative at the others as control variate."""

from __future__ import annotations

from torch import Tensor

from ils.estimators import Estimator
from ils.estimators.estimator import biased
from ils.estimators.evaluation import Loss, value_and_gradient
from ils.estimators.randomness import Draws
from ils.relaxation import tempered
from ils.rules import ReinMax

__all__ = ["mean_of_reinmax", "reinmax_of_several"]


def mean_of_reinmax(grad: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """The mean over draws of ReinMax's estimate from a derivative that does not depend on them."""
    probs, warm = logits.softmax(-1), tempered(logits, temperature).softmax(-1)
    mean, warm_mean = ((p * grad).sum(-1, keepdim=True) for p in (probs, warm))
    return warm * (grad - (warm_mean + mean) / 2) - probs * (warm_mean - mean) / 2


def _formula(logits: Tensor, z: Tensor, loss: Loss, *, temperature: float) -> Tensor:
    _, grad = value_and_gradient(loss, z, logits)
    others = (grad.sum(1, keepdim=True) - grad) / (z.shape[1] - 1)
    own = ReinMax(temperature).gradient(grad - others, z, logits)
    return (mean_of_reinmax(others, logits, temperature) + own).mean(1)


def reinmax_of_several(samples: int, temperature: float = 1.0) -> Estimator:
    r"""The mean over draws of ``F h_s + R(z_s) (g_s - h_s)``, ``h_s`` the mean of the other ``g``.

    ``R(z) g`` is ReinMax's estimate and ``F g`` its mean over draws.  *Biased* as ReinMax, of which
    it has the mean; for a linear loss its variance is zero.  ``samples`` evaluations an estimate.

    Args:
        samples: at least 2.
        temperature: as in :class:`ils.rules.ReinMax`.

    Source: this report, chapter "Several draws".
    """
    made = biased("ReinMax, control variate", Draws(samples), _formula, temperature=temperature)
    return Estimator(made.name, made.formula, made.randomness, samples, True, True)
