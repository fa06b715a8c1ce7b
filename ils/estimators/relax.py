"""RELAX: the score function with any relaxed control variate."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ils.checks import check_positive
from ils.estimators.estimator import Estimator, Formula
from ils.estimators.evaluation import Loss, like_draws, value, value_with_graph
from ils.estimators.randomness import Exponential, Noise
from ils.relaxation import conditional_gumbel, tempered

__all__ = ["relax", "relaxed_control_variate"]


def relaxed_control_variate(
    logits: Tensor, noise: Noise, loss: Loss, surrogate: Loss, temperature: float
) -> Tensor:
    r"""``(z - pi) [L(z) - c(y')] + d c(y) / d theta - d c(y') / d theta``.

    ``y`` is the relaxed sample whose hard form is ``z``; ``y'`` one drawn anew given ``z``, and
    differentiated through that draw.  Differentiable in what ``c`` depends on.
    """
    z, numbers = noise
    with torch.enable_grad():
        leaf = logits.detach().expand_as(z).clone().requires_grad_()
        first = conditional_gumbel(logits, z, numbers[:, 0]).detach()
        # Its Gumbel numbers stay fixed: d(theta + G) / d theta is the identity.  At a masked
        # category both are infinite, and their difference is not a number.
        gumbel = (first - logits).masked_fill(logits.isneginf(), 0)
        free = tempered(leaf + gumbel, temperature).softmax(-1)
        given = tempered(conditional_gumbel(leaf, z, numbers[:, 1]), temperature).softmax(-1)
        at_free, at_given = (value_with_graph(surrogate, y, logits) for y in (free, given))
        (pathwise,) = torch.autograd.grad((at_free - at_given).sum(), leaf, create_graph=True)
        # Independent of the leaf: the estimate must be differentiable in the surrogate alone.
        control = value_with_graph(surrogate, given.detach(), logits)
    losses = value(loss, z, logits)
    score = z - logits.softmax(-1)
    estimate = score * like_draws(losses - control, z) + pathwise
    return estimate if control.requires_grad else estimate.detach()


@dataclass(frozen=True)
class _Relax(Estimator):
    def _handed_on(self, estimates: Tensor) -> Tensor:
        return estimates


def _formula(
    logits: Tensor, noise: Noise, loss: Loss, *, surrogate: Loss, temperature: float
) -> Tensor:
    return relaxed_control_variate(logits, noise, loss, surrogate, temperature)


def relax(surrogate: Loss, *, temperature: float = 1.0) -> Estimator:
    r"""RELAX: ``(z - pi) [L(z) - c(y')] + d c(y) / d theta - d c(y') / d theta``.

    ``y = softmax((theta + G) / tau)`` with the hard form ``z``, and ``y'`` the same with ``G``
    drawn anew given ``z``.  ``c`` is any differentiable function of relaxed samples, such as a
    network.

    *Approximates* the gradient of ``E[L]`` *with* a draw of it; *requires* values of the loss
    at draws alone; **unbiased** for every ``c``.  One evaluation an estimate, and three of
    the surrogate.

    The estimates are differentiable in the parameters of ``c``.  As the mean does not depend on
    them, the gradient of ``(estimate ** 2).sum()`` is an unbiased one of the variance: lower it
    by any optimiser to train ``c``.

    Args:
        surrogate: ``c``, of the same shapes as the loss.
        temperature: ``tau > 0``.

    Returns:
        An :class:`Estimator`: ``(D, *logits.shape)`` for logits ``(*batch, *variables, K)``.

    Raises:
        TypeError, ValueError: ``temperature`` is not a positive finite number; at a call, as
            :class:`Estimator`.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> generator = torch.Generator().manual_seed(0)
        >>> estimator = ils.estimators.relax(loss)
        >>> estimator(torch.zeros(3), loss, draws=5, generator=generator).shape
        torch.Size([5, 3])

    Source: Grathwohl et al. (2018).
    """
    check_positive("temperature", temperature)

    return _Relax(
        name="RELAX",
        formula=Formula(_formula, surrogate=surrogate, temperature=temperature),
        randomness=Exponential(2),
        evaluations=1,
        biased=False,
        differentiates=False,
    )
