"""ARM: antithetic draws from one uniform number, for binary variables."""

from __future__ import annotations

import torch
from torch import Tensor

from ils.estimators.estimator import Estimator, Formula
from ils.estimators.evaluation import Loss, like_draws, value
from ils.estimators.uniform import Uniform, antithetic_pair, stick_logits

__all__ = ["arm", "as_draws", "check_binary"]


def check_binary(logits: Tensor) -> None:
    """Refuse variables with another number of categories than two."""
    if logits.shape[-1] != 2:
        raise ValueError(f"logits: expected two categories, got {logits.shape[-1]}")


def as_draws(first: Tensor) -> Tensor:
    """One-hot draws ``(..., 2)`` from indicators ``(..., 1)`` of the first category."""
    return torch.cat([first, 1 - first], -1)


def _formula(logits: Tensor, numbers: Tensor, loss: Loss) -> Tensor:
    check_binary(logits)
    first, second = antithetic_pair(stick_logits(logits), numbers)
    difference = value(loss, as_draws(first), logits) - value(loss, as_draws(second), logits)
    slope = like_draws(difference, numbers) * (numbers - 0.5)
    # A draw that is certain has no gradient; its two draws are alike, its u is not one half.
    slope = slope.masked_fill(stick_logits(logits).isinf(), 0)
    return torch.cat([slope, -slope], -1)


def arm() -> Estimator:
    r"""ARM: ``[L(1{u >= 1 - p}) - L(1{u < p})] (u - 1/2)`` for the log-odds of binary variables.

    The log-odds are ``theta_1 - theta_2``; the gradient for ``theta_2`` is minus that for
    ``theta_1``.  All variables are drawn together.

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
        >>> estimator = ils.estimators.arm()
        >>> bool(ils.exact.moments(estimator, loss, torch.zeros(2)).bias.abs().max() < 1e-5)
        True

    Source: Yin and Zhou (2019).
    """

    return Estimator(
        name="ARM",
        formula=Formula(_formula),
        randomness=Uniform(linear=True),
        evaluations=2,
        biased=False,
        differentiates=False,
    )
