"""A draw forward, a surrogate gradient backward: straight-through, ReinMax and its relatives."""

from __future__ import annotations

import math

from torch import Tensor

from ils.estimators.estimator import Estimator, Formula, biased, documented
from ils.estimators.evaluation import Loss, value_and_gradient
from ils.estimators.from_rule import from_rule
from ils.estimators.randomness import Draw, Draws
from ils.estimators.score_function import check_samples
from ils.relaxation import softmax_vjp
from ils.rules import DARN, MVE, Gapped, ReinMax, ReinMaxControlVariate, Rule, StraightThrough

__all__ = [
    "darn",
    "gapped_straight_through",
    "mve",
    "reinmax",
    "reinmax_control_variate",
    "straight_through",
    "zgr",
]


@documented
def straight_through(*, temperature: float = 1.0) -> Estimator:
    r"""Straight-through: ``J g / tau``, ``J`` the softmax Jacobian at ``theta / tau``.

    ``p * (g - <p, g>) / tau`` with ``p = softmax(theta / tau)`` and ``g = dL/dz`` at the draw
    ``z ~ softmax(theta)``.

    *Approximates* the gradient of ``E[L]`` *with* the loss linearised at the draw; *requires* the
    derivative of the loss; **biased**, exact in expectation at ``tau = 1`` for a loss linear in
    each of several independent variables.  One evaluation an estimate.

    Args:
        temperature: ``tau > 0`` of the backward pass; the draw itself has temperature 1.

    Raises:
        TypeError, ValueError: ``temperature`` is not a positive finite number.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.straight_through()
        >>> ils.exact.moments(estimator, loss, torch.zeros(3)).bias
        tensor([-0.0741,  0.4815, -0.4074])

    Source: Bengio, Leonard and Courville (2013), here with the softmax Jacobian; the temperature
    as in Liu et al. (2023).
    """
    return from_rule(StraightThrough(temperature), name="straight-through")


@documented
def reinmax(*, temperature: float = 1.0) -> Estimator:
    r"""ReinMax: ``2 m (g - <m, g>) - pi (g - <pi, g>) / 2``, ``2 m = softmax(theta / tau) + z``.

    At ``tau = 1`` this is ``[pi_k (g_k - g_i) + z_k (g_i - <pi, g>)] / 2`` after a draw of ``i``:
    half of straight-through plus DARN, and half of the centred, mass-keeping ILS step in the
    Fisher metric, for any step size.

    *Approximates* the gradient of ``E[L]`` *with* Heun's rule (the trapezium) along the segments
    between the categories; *requires* the derivative of the loss; **biased**, exact in
    expectation at ``tau = 1`` for a loss that is quadratic in each of several *independent*
    variables with the others held.  One evaluation an estimate.

    Args:
        temperature: ``tau > 0`` inside ``m``; the draw itself has temperature 1.  Other than 1,
            there is a bias for a linear loss too; the authors' code refuses less than 1.

    Raises:
        TypeError, ValueError: ``temperature`` is not a positive finite number.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.reinmax()
        >>> bool(ils.exact.moments(estimator, loss, torch.zeros(3)).bias.abs().max() < 1e-5)
        True

    Source: Liu et al. (2023), as in the authors' published code.
    """
    return from_rule(ReinMax(temperature), name="ReinMax")


def _of_several(logits: Tensor, z: Tensor, loss: Loss, *, rule: Rule) -> Tensor:
    _, grad = value_and_gradient(loss, z, logits)
    # To a rule, what comes before the axes of the logits are draws: those of an estimate alone.
    grad, z = grad.movedim(1, 0), z.movedim(1, 0)
    return rule.gradient(grad, z, logits.expand(z.shape[1:])).mean(0)


@documented
def reinmax_control_variate(*, samples: int = 2, temperature: float = 1.0) -> Estimator:
    r"""ReinMax, control variate: the mean over draws of ``F h_s + R(z_s) (g_s - h_s)``.

    ``R(z) g`` is ReinMax's estimate, ``F g`` its mean over the draw, and ``h_s`` the mean of the
    derivatives at the other draws.  :class:`ils.rules.ReinMaxControlVariate` does the same in
    :func:`ils.sample` with ``draws=samples``.

    *Approximates* the gradient of ``E[L]`` *with* ReinMax, of which it has the mean; *requires* the
    derivative of the loss; **biased**, exact in expectation at ``tau = 1`` for a loss that is
    quadratic in each of several *independent* variables with the others held; without variance for
    a linear loss.  ``samples`` evaluations an estimate.

    Args:
        samples: number of draws, at least 2.
        temperature: ``tau > 0``, as in :func:`reinmax`.

    Raises:
        TypeError, ValueError: ``samples`` is not an integer of at least 2; ``temperature`` is not a
            positive finite number.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: z @ torch.tensor([0.0, 3.0, 6.0])
        >>> ils.estimators.reinmax_control_variate()(torch.zeros(3), loss)
        tensor([[-1.,  0.,  1.]])

    Source: this report, chapter "What do several draws add?".
    """
    samples = check_samples(samples)
    formula = Formula(_of_several, rule=ReinMaxControlVariate(temperature))
    name = "ReinMax, control variate"
    return Estimator(name, formula, Draws(samples), samples, biased=True, differentiates=True)


def _zgr(logits: Tensor, z: Tensor, loss: Loss) -> Tensor:
    _, grad = value_and_gradient(loss, z, logits)
    probs = logits.softmax(-1)
    taylor = (z - probs) * ((z - probs) * grad).sum(-1, keepdim=True)
    return (softmax_vjp(probs, grad) + taylor) / 2


@documented
def zgr() -> Estimator:
    r"""ZGR: half of straight-through plus DARN, ``[J g + (z - pi) <g, z - pi>] / 2``.

    The limit of Gumbel-Rao for infinitely many conditional samples and ``tau -> 0``.  Equal to
    ReinMax at temperature 1, draw by draw.

    *Approximates* the gradient of ``E[L]`` *with* the trapezium rule; *requires* the derivative of
    the loss; **biased**, exact in expectation for a loss that is quadratic in each of several
    independent variables with the others held.  One evaluation an estimate.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.zgr()
        >>> bool(ils.exact.moments(estimator, loss, torch.zeros(3)).bias.abs().max() < 1e-5)
        True

    Source: Shekhovtsov (2023), as in the author's published code.
    """
    return biased("ZGR", Draw(), _zgr)


@documented
def darn() -> Estimator:
    r"""DARN: ``(z - pi) <g, z - pi>``, variable by variable, ``g = dL/dz`` at the draw.

    The score function with the baseline ``L(z) - <g, z - pi>``, the first-order Taylor expansion
    of the loss about the draw, at the mean.  It depends on the draw, and so gives a bias.

    *Approximates* the gradient of ``E[L]`` *with* the loss linearised at the draw; *requires* the
    derivative of the loss; **biased**, exact in expectation for a loss that is linear in each of
    several independent variables with the others held; for one that is quadratic in each, its bias
    is minus that of straight-through.  One evaluation an estimate.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.darn()
        >>> ils.exact.moments(estimator, loss, torch.zeros(3)).bias
        tensor([ 0.0741, -0.4815,  0.4074])

    Source: Gregor et al. (2014); named so, and extended to categories, by Gu et al. (2016).
    """
    return from_rule(DARN(), name="DARN")


@documented
def mve(*, tau: float = math.inf) -> Estimator:
    r"""MVE: of least variance, from straight-through (``tau = 0``) to exactness (``tau = inf``).

    Among the estimators that are linear in ``g = dL/dz`` at the draw and exact for a linear loss,
    the one with the least sum of noise, the mean square of the estimate for a ``g`` of covariance
    one, and ``tau / 2`` times the squared bias, summed over the losses ``z_i z_j``.  The formula
    stands in :class:`ils.rules.MVE`.

    *Approximates* the gradient of ``E[L]`` *with* the derivative at the draw; *requires* the
    derivative of the loss; **biased**, exact in expectation for a loss that is linear in each of
    several independent variables with the others held, and at ``tau = inf`` for one that is
    quadratic in each.  One evaluation an estimate, and ``K^3`` operations a variable.

    Args:
        tau: from 0 to ``math.inf``.

    Raises:
        TypeError, ValueError: ``tau`` is not a number of at least zero.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.mve()
        >>> bool(ils.exact.moments(estimator, loss, torch.zeros(3)).bias.abs().max() < 1e-5)
        True

    Source: Hooper and Shekhovtsov (2026), as in the authors' published code; what it minimises
    was found from that code, and is tested.
    """
    return from_rule(MVE(tau), name="MVE")


@documented
def gapped_straight_through(*, temperature: float = 1.0, gap: float | None = 1.0) -> Estimator:
    r"""Gapped straight-through: ``J_tau(theta + m_1 - m_2) g`` with a fixed shift of the logits.

    ``m_1`` lifts the drawn category ``i`` to the largest logit, ``m_1,i = max theta - theta_i``;
    ``m_2`` lowers every other one until it is at least ``gap`` below,
    ``m_2,k = max(theta_k - max theta + gap, 0)``.  It stands in for the mean of the Gumbel noise
    given the draw, without its variance.  The shifts are not differentiated.

    *Approximates* the gradient of ``E[L]`` *with* the loss linearised at the draw and the Jacobian
    of the shifted softmax; *requires* the derivative of the loss; **biased**, for a linear loss
    too.  One evaluation an estimate.

    Args:
        temperature: ``tau > 0`` of the backward pass.
        gap: in units of the logits; ``None`` for ``-log(1 - pi_i) / pi_i``, the mean distance
            of the largest perturbed logit from the second largest, given the draw.

    Raises:
        TypeError, ValueError: ``temperature`` or ``gap`` is not a positive finite number.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.gapped_straight_through()
        >>> ils.exact.moments(estimator, loss, torch.zeros(3)).bias
        tensor([ 0.2353,  0.3273, -0.5626])

    Source: Fan et al. (2022), as in the authors' published code.
    """
    return from_rule(Gapped(temperature, gap), name="gapped straight-through")
