"""Estimators by a step to a target: Intermediate Loss Sampling and the SPIGOT family."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ils.checks import check_positive
from ils.estimators.estimator import Estimator, biased, documented
from ils.estimators.evaluation import Loss, value_and_gradient
from ils.estimators.randomness import Deterministic, Draw
from ils.metric import euclidean
from ils.relaxation import hardened
from ils.simplex import project_simplex, sum_normalize
from ils.target import intermediate_target, logits_gradient

__all__ = ["at_argmax", "at_mean", "intermediate_loss_sampling", "spigot", "spigot_ce", "spigot_eg"]


def _intermediate(
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


@documented
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
        per_step: divide by ``alpha``: the estimate, else without units, then has those of the loss,
            and, if centred, a limit for ``alpha -> 0``.  The division amplifies the rounding error
            of the target, which is that of 1: keep the step well above it.

    Raises:
        TypeError, ValueError: ``step_size`` is not a positive finite number.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.intermediate_loss_sampling(step_size=0.05)
        >>> ils.exact.moments(estimator, loss, torch.zeros(3)).bias
        tensor([ 1.8111,  0.9667, -2.7778])

    Source: Shliselberg (2019), Algorithm 1.
    """
    check_positive("step_size", step_size)
    return biased(
        "ILS",
        Draw(),
        _intermediate,
        step_size=step_size,
        normalizer=normalizer,
        metric=metric,
        gradient=gradient,
        keep_mass=keep_mass,
        per_step=per_step,
    )


def at_argmax(logits: Tensor, noise: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """The likeliest category, one-hot, for each entry of the noise, and ``dL/dz`` there."""
    top = hardened(logits).expand(len(noise), *logits.shape)
    return top, value_and_gradient(loss, top, logits)[1]


def at_mean(logits: Tensor, noise: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """The mean ``pi`` for each entry of the noise, and the derivative of the loss there."""
    probs = logits.softmax(-1).expand(len(noise), *logits.shape)
    return probs, value_and_gradient(loss, probs, logits)[1]


def _spigot(
    logits: Tensor,
    noise: Tensor,
    loss: Loss,
    *,
    at: Callable[[Tensor, Tensor, Loss], tuple[Tensor, Tensor]],
    step_size: float,
    per_step: bool,
) -> Tensor:
    point, grad = at(logits, noise, loss)
    stepped = (point - step_size * grad).masked_fill(logits.isneginf(), -float("inf"))
    estimate = point - project_simplex(stepped)
    return estimate / step_size if per_step else estimate


@documented
def spigot(*, step_size: float, per_step: bool = False) -> Estimator:
    r"""SPIGOT: ``e - mu``, ``mu = project(e - gamma g(e))``, ``e`` the likeliest category.

    The projection is the Euclidean one onto the simplex.  The centred, projected ILS estimate
    with the likeliest category in place of a draw.

    *Approximates* the gradient of ``L`` at the most likely category, not of ``E[L]``, *with* a
    target one projected step away; *requires* the derivative of the loss; **biased**.  Nothing is
    random.  One evaluation an estimate.

    Args:
        step_size: ``gamma > 0``, in units of one over the gradient of the loss.
        per_step: divide by ``gamma``: the estimate, else without units, then has those of the loss.
            This amplifies the rounding error of the target, which is that of 1: keep the step well
            above it.

    Raises:
        TypeError, ValueError: ``step_size`` is not a positive finite number.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.spigot(step_size=0.5)
        >>> ils.exact.moments(estimator, loss, torch.tensor([0.0, 0.5, 1.0])).bias
        tensor([ 0.5873,  1.6954, -2.2826])

    Source: Peng, Thomson and Smith (2018); Mihaylova, Niculae and Martins (2020), and their
    published code.
    """
    check_positive("step_size", step_size)
    return biased(
        "SPIGOT", Deterministic(), _spigot, at=at_argmax, step_size=step_size, per_step=per_step
    )


@documented
def spigot_ce(*, step_size: float, per_step: bool = False) -> Estimator:
    r"""SPIGOT-CE: ``pi - mu``, ``mu = project(pi - gamma g(pi))``.

    The gradient for the logits of the cross-entropy between the target ``mu`` and ``pi``.

    *Approximates* the gradient of ``E[L]`` *with* a target one projected step away from the mean;
    *requires* the derivative of the loss at ``pi``, inside the simplex; **biased**.  Nothing is
    random.  One evaluation an estimate.

    Args:
        step_size: ``gamma > 0``, in units of one over the gradient of the loss.
        per_step: divide by ``gamma``: the estimate, else without units, then has those of the loss.
            This amplifies the rounding error of the target, which is that of 1: keep the step well
            above it.

    Raises:
        TypeError, ValueError: ``step_size`` is not a positive finite number.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.spigot_ce(step_size=0.5)
        >>> ils.exact.moments(estimator, loss, torch.zeros(3)).bias
        tensor([ 1.3333,  1.3333, -2.6667])

    Source: Mihaylova, Niculae and Martins (2020), and their published code, which takes the
    derivative at ``pi``.
    """
    check_positive("step_size", step_size)
    return biased(
        "SPIGOT-CE", Deterministic(), _spigot, at=at_mean, step_size=step_size, per_step=per_step
    )


def _spigot_eg(
    logits: Tensor, noise: Tensor, loss: Loss, *, step_size: float, per_step: bool
) -> Tensor:
    probs, grad = at_mean(logits, noise, loss)
    estimate = probs - (logits - step_size * grad).softmax(-1)
    return estimate / step_size if per_step else estimate


@documented
def spigot_eg(*, step_size: float, per_step: bool = False) -> Estimator:
    r"""SPIGOT-EG: ``pi - mu``, ``mu = softmax(log pi - gamma g(pi))``.

    An exponentiated-gradient step in place of SPIGOT-CE's projected one.  Divided by ``gamma`` it
    tends to ``J g(pi)`` for ``gamma -> 0``: straight-through with the derivative at the mean.

    *Approximates* the gradient of ``E[L]`` *with* a target one multiplicative step away from the
    mean; *requires* the derivative of the loss at ``pi``, inside the simplex; **biased**.  Nothing
    is random.  One evaluation an estimate.

    Args:
        step_size: ``gamma > 0``, in units of one over the gradient of the loss.
        per_step: divide by ``gamma``: the estimate, else without units, then has those of the loss.
            This amplifies the rounding error of the target, which is that of 1: keep the step well
            above it.

    Raises:
        TypeError, ValueError: ``step_size`` is not a positive finite number.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.spigot_eg(step_size=0.5)
        >>> ils.exact.moments(estimator, loss, torch.zeros(3)).bias
        tensor([ 1.4225,  1.2450, -2.6675])

    Source: Mihaylova, Niculae and Martins (2020), and their published code.
    """
    check_positive("step_size", step_size)
    return biased("SPIGOT-EG", Deterministic(), _spigot_eg, step_size=step_size, per_step=per_step)
