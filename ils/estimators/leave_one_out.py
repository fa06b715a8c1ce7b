"""REINFORCE in which each draw's baseline is the mean loss of the others."""

from __future__ import annotations

from torch import Tensor

from ils.checks import check_count
from ils.estimators.estimator import Estimator, Formula
from ils.estimators.evaluation import Loss, like_draws, value
from ils.estimators.randomness import Draws

__all__ = ["check_samples", "leave_one_out"]


def check_samples(samples: int, least: int = 2) -> int:
    """Refuse a number of draws that leaves none for the baseline."""
    check_count("samples", samples)
    if samples < least:
        raise ValueError(f"samples: expected at least {least}, got {samples}")
    return int(samples)


def _formula(logits: Tensor, z: Tensor, loss: Loss, *, samples: int) -> Tensor:
    losses = value(loss, z, logits)
    advantage = (losses - losses.mean(1, keepdim=True)) * samples / (samples - 1)
    return ((z - logits.softmax(-1)) * like_draws(advantage, z)).mean(1)


def leave_one_out(*, samples: int = 2) -> Estimator:
    r"""Leave-one-out: the mean over draws of ``(z_s - pi) (L(z_s) - mean of the other L)``.

    *Approximates* the gradient of ``E[L]`` *with* ``samples`` draws; *requires* values of the loss;
    **unbiased**: the baseline of a draw does not depend on it.  ``samples`` evaluations an
    estimate.

    Args:
        samples: at least 2.

    Returns:
        An :class:`Estimator`: ``(D, *logits.shape)`` for logits ``(*batch, *variables, K)``.

    Raises:
        TypeError, ValueError: ``samples`` is less than 2; at a call, as :class:`Estimator`.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.leave_one_out()
        >>> bool(ils.exact.moments(estimator, loss, torch.zeros(3)).bias.abs().max() < 1e-5)
        True

    Source: Kool, van Hoof and Welling (2019).
    """
    samples = check_samples(samples)

    return Estimator(
        name="leave-one-out",
        formula=Formula(_formula, samples=samples),
        randomness=Draws(samples),
        evaluations=samples,
        biased=False,
        differentiates=False,
    )
