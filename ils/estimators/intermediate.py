"""Intermediate Loss Sampling as an estimator."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ils.checks import check_positive
from ils.estimators.estimator import Estimator, Formula
from ils.estimators.evaluation import Loss, value_and_gradient
from ils.estimators.randomness import Draw
from ils.metric import euclidean
from ils.simplex import sum_normalize
from ils.target import intermediate_target, logits_gradient

__all__ = ["intermediate_loss_sampling"]


def _formula(
    logits: Tensor,
    z: Tensor,
    loss: Loss,
    *,
    step_size: float,
    normalizer: Callable[[Tensor], Tensor],
    metric: Callable[[Tensor, Tensor], Tensor],
    gradient: Callable[[Tensor, Tensor, Tensor], Tensor],
    keep_mass: bool,
    per_step: bool,
) -> Tensor:
    _, grad = value_and_gradient(loss, z, logits)
    probs = logits.softmax(-1).expand_as(z)
    mask = logits.isneginf().expand_as(z)
    target = intermediate_target(
        z,
        grad,
        step_size=step_size,
        normalizer=normalizer,
        metric=metric,
        probs=probs,
        keep_mass=keep_mass,
        mask=mask,
    )
    estimate = gradient(target, probs, z).masked_fill(mask, 0)
    return estimate / step_size if per_step else estimate


def intermediate_loss_sampling(
    *,
    step_size: float,
    normalizer: Callable[[Tensor], Tensor] = sum_normalize,
    metric: Callable[[Tensor, Tensor], Tensor] = euclidean,
    gradient: Callable[[Tensor, Tensor, Tensor], Tensor] = logits_gradient,
    keep_mass: bool = False,
    per_step: bool = False,
) -> Estimator:
    r"""Intermediate Loss Sampling: ``pi - pi_D``, ``pi_D = h(z - alpha M J_h(z)^T g)``.

    *Approximates* no gradient of ``E[L]`` at a finite step: its expectation is ``pi - pi T`` for
    the transition matrix ``T`` whose rows are the targets.  *Requires* the derivative of the
    loss; **biased**.  One evaluation an estimate.

    Args:
        step_size: ``alpha > 0``, in units of one over the gradient of the loss.
        normalizer: the map ``h``.
        metric: ``M``, see :mod:`ils.metric`.
        gradient: one of :func:`ils.target.logits_gradient`, :func:`ils.target.centred_gradient`,
            :func:`ils.target.probs_gradient`.
        keep_mass: see :func:`ils.target.direction`.
        per_step: divide by ``alpha``: the estimate then has the units of the loss, and, if
            centred, a limit for ``alpha -> 0``.  The target is held to the rounding of 1, which is
            divided too: a step must not be as short.

    Returns:
        An :class:`Estimator`: ``(D, *logits.shape)`` for logits ``(*batch, *variables, K)``.

    Raises:
        TypeError, ValueError: ``step_size`` is not a positive finite number; at a call, as
            :class:`Estimator`.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.intermediate_loss_sampling(step_size=0.05)
        >>> ils.exact.moments(estimator, loss, torch.zeros(3)).bias
        tensor([ 1.8111,  0.9667, -2.7778])

    Source: Shliselberg (2019), Algorithm 1.
    """
    check_positive("step_size", step_size)

    return Estimator(
        name="ILS",
        formula=Formula(
            _formula,
            step_size=step_size,
            normalizer=normalizer,
            metric=metric,
            gradient=gradient,
            keep_mass=keep_mass,
            per_step=per_step,
        ),
        randomness=Draw(),
        evaluations=1,
        biased=True,
        differentiates=True,
    )
