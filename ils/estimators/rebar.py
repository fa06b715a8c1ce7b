"""REBAR: the score function with the relaxed loss as control variate."""

from __future__ import annotations

import torch
from torch import Tensor

from ils.checks import check_not_negative, check_positive
from ils.estimators.estimator import Estimator, Formula
from ils.estimators.evaluation import Loss, like_draws, value, value_and_gradient
from ils.estimators.randomness import Exponential, Noise
from ils.relaxation import conditional_gumbel, relaxed_sample_vjp, tempered

__all__ = ["rebar"]


def _formula(
    logits: Tensor, noise: Noise, loss: Loss, *, temperature: float, coefficient: float
) -> Tensor:
    z, numbers = noise
    losses = value(loss, z, logits)
    free = tempered(conditional_gumbel(logits, z, numbers[:, 0]), temperature).softmax(-1)
    _, grad = value_and_gradient(loss, free, logits)
    pathwise = relaxed_sample_vjp(free, grad, temperature)
    with torch.enable_grad():
        leaf = logits.detach().expand_as(z).clone().requires_grad_()
        given = tempered(conditional_gumbel(leaf, z, numbers[:, 1]), temperature).softmax(-1)
        control, grad = value_and_gradient(loss, given, logits)
        (conditional,) = torch.autograd.grad(given, leaf, grad)
    score = z - logits.softmax(-1)
    noisy = score * like_draws(losses - coefficient * control, z)
    return noisy + coefficient * (pathwise - conditional)


def rebar(*, temperature: float = 1.0, coefficient: float = 1.0) -> Estimator:
    r"""REBAR: ``(z - pi) [L(z) - c L(y')] + c dL(y) / d theta - c dL(y') / d theta``.

    ``y = softmax((theta + G) / tau)`` with the hard form ``z``, and ``y'`` the same with ``G``
    drawn anew given ``z``: the relaxed loss is the control variate, and its bias is removed by the
    two pathwise terms.  RELAX with the surrogate ``c L``.

    *Approximates* the gradient of ``E[L]`` *with* a draw of it; *requires* values of the loss
    and its derivative inside the simplex; **unbiased** for every coefficient and temperature.
    Three evaluations an estimate.

    Args:
        temperature: ``tau > 0``.
        coefficient: ``c``, at least 0.  The authors learn both by the variance.

    Returns:
        An :class:`Estimator`: ``(D, *logits.shape)`` for logits ``(*batch, *variables, K)``.

    Raises:
        TypeError, ValueError: ``temperature`` is not a positive finite number, ``coefficient``
            negative or not finite; at a call, as :class:`Estimator`.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> generator = torch.Generator().manual_seed(0)
        >>> estimator = ils.estimators.rebar()
        >>> estimator(torch.zeros(3), loss, draws=5, generator=generator).shape
        torch.Size([5, 3])

    Source: Tucker et al. (2017), appendix on categorical variables; Grathwohl et al. (2018).
    """
    check_positive("temperature", temperature)
    check_not_negative("coefficient", coefficient)

    return Estimator(
        name="REBAR",
        formula=Formula(_formula, temperature=temperature, coefficient=coefficient),
        randomness=Exponential(2),
        evaluations=3,
        biased=False,
        differentiates=True,
    )
