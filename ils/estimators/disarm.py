"""DisARM, also called U2G: ARM with the uniform number integrated out."""

from __future__ import annotations

import torch
from torch import Tensor

from ils.estimators.arm import as_draws, check_binary
from ils.estimators.estimator import Estimator, Formula
from ils.estimators.evaluation import Loss, like_draws, value
from ils.estimators.uniform import Uniform, antithetic_pair, stick_logits

__all__ = ["disarm", "disarm_factor"]


def disarm_factor(logits: Tensor, first: Tensor, second: Tensor) -> Tensor:
    r"""``(b - b') sigmoid(|logits|)``: zero where the pair agrees, and with the sign of ``b``."""
    return (first - second) * logits.abs().sigmoid()


def _formula(logits: Tensor, numbers: Tensor, loss: Loss) -> Tensor:
    check_binary(logits)
    odds = stick_logits(logits)
    first, second = antithetic_pair(odds, numbers)
    difference = value(loss, as_draws(first), logits) - value(loss, as_draws(second), logits)
    slope = like_draws(difference, numbers) * disarm_factor(odds, first, second) / 2
    return torch.cat([slope, -slope], -1)


def disarm() -> Estimator:
    r"""DisARM / U2G: ``[L(b) - L(b')] (b - b') sigmoid(|alpha|) / 2`` for the log-odds ``alpha``.

    ``b = 1{u >= 1 - p}`` and ``b' = 1{u < p}`` are an antithetic pair; the estimate is the mean of
    ARM given the pair.

    *Approximates* the gradient of ``E[L]`` *with* two dependent draws; *requires* values of the
    loss; **unbiased**.  Two categories only.  Two evaluations an estimate.

    Returns:
        An :class:`Estimator`: ``(D, *logits.shape)`` for logits ``(*batch, *variables, K)``.

    Raises:
        TypeError, ValueError: at a call, as :class:`Estimator`, and where there are not two
            categories.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0])) ** 2
        >>> estimator = ils.estimators.disarm()
        >>> bool(ils.exact.moments(estimator, loss, torch.zeros(2)).bias.abs().max() < 1e-5)
        True

    Source: Dong, Mnih and Tucker (2020); Yin et al. (2020).
    """

    return Estimator(
        name="DisARM",
        formula=Formula(_formula),
        randomness=Uniform(),
        evaluations=2,
        biased=False,
        differentiates=False,
    )
