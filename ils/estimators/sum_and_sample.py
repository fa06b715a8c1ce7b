"""Sum-and-sample: some states summed exactly, one drawn for the rest."""

from __future__ import annotations

from torch import Tensor

from ils.estimators.distinct import DistinctDraws, log_probability
from ils.estimators.estimator import Estimator, Formula
from ils.estimators.evaluation import Loss, like_draws, value
from ils.estimators.leave_one_out import check_samples

__all__ = ["sum_and_sample"]


def _formula(logits: Tensor, z: Tensor, loss: Loss, *, baseline: bool) -> Tensor:
    losses = value(loss, z, logits)
    probs = log_probability(logits, z, losses.dim() - 2).exp()
    advantage = losses
    if baseline:
        mean = (_weights(probs[:, :-1]) * losses[:, :-1]).sum(1, keepdim=True)
        advantage = losses - mean
    weight = _weights(probs) * advantage
    return (like_draws(weight, z) * (z - logits.softmax(-1))).sum(1)


def sum_and_sample(*, samples: int = 2, baseline: bool = True) -> Estimator:
    r"""Sum-and-sample: ``sum_{j<k} p(s_j) h(s_j) + (1 - sum_{j<k} p(s_j)) h(s_k)``.

    ``s_1, ..., s_k`` are joint states drawn one after the other without replacement, and
    ``h(s) = (z_s - pi) (L(z_s) - B)``: all but the last are summed with their probabilities, and
    the last stands for everything else.  ``B`` is the same estimate of the mean loss from the
    first ``k - 1`` states.

    *Approximates* the gradient of ``E[L]`` *with* ``samples`` different states; *requires* values
    of the loss; **unbiased**.  ``samples`` evaluations an estimate.

    Args:
        samples: ``k``, at least 2, at most the number of joint states.
        baseline: whether to subtract ``B``.

    Returns:
        An :class:`Estimator`: ``(D, *logits.shape)`` for logits ``(*batch, *variables, K)``.

    Raises:
        TypeError, ValueError: ``samples`` is less than 2, or at a call more than there are states;
            at a call, as :class:`Estimator`.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.sum_and_sample()
        >>> bool(ils.exact.moments(estimator, loss, torch.zeros(3)).bias.abs().max() < 1e-5)
        True

    Source: Kool, van Hoof and Welling (2020), the stochastic form, as in the authors' published
    code; with the likeliest states in place of drawn ones Liang et al. (2018).
    """
    samples = check_samples(samples)

    return Estimator(
        name="sum-and-sample",
        formula=Formula(_formula, baseline=baseline),
        randomness=DistinctDraws(samples),
        evaluations=samples,
        biased=False,
        differentiates=False,
    )


def _weights(probs: Tensor) -> Tensor:
    """The probabilities, the last one replaced by what the others leave over (axis 1)."""
    weights = probs.clone()
    weights[:, -1] = 1 - probs[:, :-1].sum(1)
    return weights
