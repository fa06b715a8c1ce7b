"""MuProp: a Taylor expansion at the mean as control variate."""

from __future__ import annotations

from torch import Tensor

from ils.estimators.estimator import Estimator, Formula
from ils.estimators.evaluation import Loss, event_sum, like_draws, value, value_and_gradient
from ils.estimators.randomness import Draw
from ils.relaxation import softmax_vjp

__all__ = ["muprop"]


def _formula(logits: Tensor, z: Tensor, loss: Loss) -> Tensor:
    probs = logits.softmax(-1).expand_as(z)
    losses = value(loss, z, logits)
    at_mean, grad = value_and_gradient(loss, probs, logits)
    rest = losses - at_mean - event_sum(grad * (z - probs), losses)
    return (z - probs) * like_draws(rest, z) + softmax_vjp(probs, grad)


def muprop() -> Estimator:
    r"""MuProp: ``(z - pi) [L(z) - L(pi) - <g(pi), z - pi>] + J g(pi)``.

    The loss is expanded at the mean ``pi``, which does not depend on the draw; the mean of the
    expansion's own estimate is added back exactly.

    *Approximates* the gradient of ``E[L]`` *with* a draw of it; *requires* values of the loss and
    its derivative at ``pi``, inside the simplex; **unbiased**.  Two evaluations an estimate.

    Returns:
        An :class:`Estimator`: ``(D, *logits.shape)`` for logits ``(*batch, *variables, K)``.

    Raises:
        TypeError, ValueError: at a call, as :class:`Estimator`.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.muprop()
        >>> bool(ils.exact.moments(estimator, loss, torch.zeros(3)).bias.abs().max() < 1e-5)
        True

    Source: Gu et al. (2016), with the softmax Jacobian in place of a sigmoid's.
    """

    return Estimator(
        name="MuProp",
        formula=Formula(_formula),
        randomness=Draw(),
        evaluations=2,
        biased=False,
        differentiates=True,
    )
