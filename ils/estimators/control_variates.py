"""The score function with control variates made of gradients: MuProp, REBAR, RELAX, double."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ils.checks import check_not_negative, check_positive
from ils.estimators.estimator import Estimator, Formula, documented, unbiased
from ils.estimators.evaluation import (
    Loss,
    event_sum,
    like_draws,
    value,
    value_and_gradient,
    value_with_graph,
)
from ils.estimators.randomness import Draw, Draws, Exponential, Noise
from ils.estimators.score_function import check_samples
from ils.relaxation import conditional_gumbel, relaxed_sample_vjp, softmax_vjp, tempered

__all__ = ["double_control_variate", "muprop", "rebar", "relax", "relaxed_control_variate"]


def _muprop(logits: Tensor, z: Tensor, loss: Loss) -> Tensor:
    probs = logits.softmax(-1).expand_as(z)
    losses = value(loss, z, logits)
    at_mean, grad = value_and_gradient(loss, probs, logits)
    rest = losses - at_mean - event_sum(grad * (z - probs), losses)
    return (z - probs) * like_draws(rest, z) + softmax_vjp(probs, grad)


@documented
def muprop() -> Estimator:
    r"""MuProp: ``(z - pi) [L(z) - L(pi) - <g(pi), z - pi>] + J g(pi)``.

    The control variate is the Taylor expansion of the loss at the mean ``pi``, which does not
    depend on the draw; its expectation is added back exactly.

    *Approximates* the gradient of ``E[L]`` *with* a draw of it; *requires* values of the loss and
    its derivative at ``pi``, inside the simplex; **unbiased**.  Two evaluations an estimate.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.muprop()
        >>> bool(ils.exact.moments(estimator, loss, torch.zeros(3)).bias.abs().max() < 1e-5)
        True

    Source: Gu et al. (2016), with the softmax Jacobian in place of a sigmoid's.
    """
    return unbiased("MuProp", Draw(), 2, _muprop, differentiates=True)


def _taylor(logits: Tensor, z: Tensor, loss: Loss, *, samples: int, coefficient: float) -> Tensor:
    losses, grad = value_and_gradient(loss, z, logits)
    probs = logits.softmax(-1)
    others = (grad.sum(1, keepdim=True) - grad) / (samples - 1)
    corrected = losses - coefficient * event_sum(others * (z - probs), losses)
    advantage = (corrected - corrected.mean(1, keepdim=True)) * samples / (samples - 1)
    noisy = ((z - probs) * like_draws(advantage, z)).mean(1)
    return noisy + coefficient * softmax_vjp(probs, grad.mean(1))


@documented
def double_control_variate(*, samples: int = 2, coefficient: float = 1.0) -> Estimator:
    r"""Double control variates: ``mean_s (z_s - pi) (f_s - mean of the other f) + c J mean(g)``.

    ``f_s = L(z_s) - c <g_(-s), z_s - pi>`` with ``g_(-s)`` the mean derivative at the other draws:
    a Taylor expansion that does not depend on ``z_s``, whose expectation is added back exactly.

    *Approximates* the gradient of ``E[L]`` *with* ``samples`` draws; *requires* values and the
    derivative of the loss; **unbiased** for every coefficient.  ``samples`` evaluations an
    estimate.

    Args:
        samples: at least 2.
        coefficient: ``c``, at least 0; with 0 this is leave-one-out.  The authors learn it.

    Raises:
        TypeError, ValueError: ``samples`` is less than 2, ``coefficient`` negative or not finite.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.double_control_variate()
        >>> bool(ils.exact.moments(estimator, loss, torch.zeros(3)).bias.abs().max() < 1e-5)
        True

    Source: Titsias and Shi (2022), as in the authors' published code (there with the sign of the
    coefficient turned), extended from binary to categorical variables.
    """
    samples = check_samples(samples)
    check_not_negative("coefficient", coefficient)
    return unbiased(
        "double control variates",
        Draws(samples),
        samples,
        _taylor,
        samples=samples,
        coefficient=coefficient,
        differentiates=True,
    )


def _rebar(
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


@documented
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

    Raises:
        TypeError, ValueError: ``temperature`` is not a positive finite number, ``coefficient``
            negative or not finite.

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
    return unbiased(
        "REBAR",
        Exponential(2),
        3,
        _rebar,
        temperature=temperature,
        coefficient=coefficient,
        differentiates=True,
    )


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


def _relax(
    logits: Tensor, noise: Noise, loss: Loss, *, surrogate: Loss, temperature: float
) -> Tensor:
    return relaxed_control_variate(logits, noise, loss, surrogate, temperature)


@documented
def relax(surrogate: Loss, *, temperature: float = 1.0) -> Estimator:
    r"""RELAX: ``(z - pi) [L(z) - c(y')] + d c(y) / d theta - d c(y') / d theta``.

    ``y = softmax((theta + G) / tau)`` with the hard form ``z``, and ``y'`` the same with ``G``
    drawn anew given ``z``.  ``c`` is any differentiable function of relaxed samples, such as a
    network.

    *Approximates* the gradient of ``E[L]`` *with* a draw of it; *requires* values of the loss
    at draws alone; **unbiased** for every ``c``.  One evaluation an estimate, and three of
    the surrogate.

    The estimates are differentiable in the parameters of ``c``.  As the mean does not depend on
    them, the gradient of ``(estimate ** 2).sum()`` is an unbiased one of the variance: minimise
    it by any optimiser to train ``c``.

    Args:
        surrogate: ``c``, of the same shapes as the loss.
        temperature: ``tau > 0``.

    Raises:
        TypeError, ValueError: ``temperature`` is not a positive finite number.

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
        formula=Formula(_relax, surrogate=surrogate, temperature=temperature),
        randomness=Exponential(2),
        evaluations=1,
        biased=False,
        differentiates=False,
    )
