"""Intermediate Loss Sampling as an estimator."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ils.estimators._upstream import upstream_gradient
from ils.simplex import sum_normalize
from ils.target import intermediate_target, logits_gradient

__all__ = ["intermediate_loss_sampling"]


def intermediate_loss_sampling(
    *,
    step_size: float,
    normalizer: Callable[[Tensor], Tensor] = sum_normalize,
    gradient: Callable[[Tensor, Tensor, Tensor], Tensor] = logits_gradient,
    keep_mass: bool = False,
) -> Callable[[Tensor, Tensor, Callable[[Tensor], Tensor]], Tensor]:
    r"""Make the estimator ``pi - pi_D``, ``pi_D = h(z - alpha J_h(z)^T g)``.

    *Approximates* no gradient of ``E[L]`` at a finite step: its expectation is ``pi - pi T`` for
    the transition matrix ``T`` whose rows are the targets.  *Requires* the derivative of the
    loss; **biased**.  One evaluation an estimate.

    Args:
        step_size: ``alpha > 0``, in units of one over the gradient of the loss.
        normalizer: the map ``h``.
        gradient: one of :func:`ils.target.logits_gradient`, :func:`ils.target.centred_gradient`,
            :func:`ils.target.probs_gradient`.
        keep_mass: see :func:`ils.target.direction`.

    Returns:
        ``estimator(logits, z, loss)``.

    Source: Shliselberg (2019), Algorithm 1.
    """

    def estimator(logits: Tensor, z: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
        target = intermediate_target(
            z,
            upstream_gradient(z, loss),
            step_size=step_size,
            normalizer=normalizer,
            keep_mass=keep_mass,
        )
        return gradient(target, logits.softmax(-1).expand_as(z), z)

    return estimator
