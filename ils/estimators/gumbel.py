"""Estimators from Gumbel noise: Gumbel-Softmax, straight-through, decoupled, Gumbel-Rao."""

from __future__ import annotations

from torch import Tensor

from ils.checks import check_count, check_positive
from ils.estimators.estimator import Estimator, biased, documented
from ils.estimators.evaluation import Loss, value_and_gradient
from ils.estimators.randomness import Exponential, Gumbel, Noise
from ils.relaxation import hardened, relaxed_sample, relaxed_sample_vjp, tempered
from ils.rules import Decoupled, GumbelRao, ReinMaxRao

__all__ = [
    "decoupled_straight_through_gumbel",
    "gumbel_rao",
    "gumbel_softmax",
    "reinmax_rao",
    "straight_through_gumbel",
]


def _soft(logits: Tensor, noise: Tensor, loss: Loss, *, temperature: float) -> Tensor:
    y = relaxed_sample(logits, noise, temperature)
    _, grad = value_and_gradient(loss, y, logits)
    return relaxed_sample_vjp(y, grad, temperature)


@documented
def gumbel_softmax(*, temperature: float) -> Estimator:
    r"""Gumbel-Softmax (soft): ``y * (g(y) - <y, g(y)>) / tau``, ``y = softmax((theta + G) / tau)``.

    *Approximates* the gradient of ``E[L]`` *with* that of the relaxed loss ``E[L(y)]``, which it
    estimates without bias; *requires* the loss and its derivative inside the simplex;
    **biased** for ``E[L(z)]``.  One evaluation an estimate.

    Args:
        temperature: ``tau > 0``.

    Raises:
        TypeError, ValueError: ``temperature`` is not a positive finite number.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> generator = torch.Generator().manual_seed(0)
        >>> estimator = ils.estimators.gumbel_softmax(temperature=0.5)
        >>> estimator(torch.zeros(3), loss, draws=5, generator=generator).shape
        torch.Size([5, 3])

    Source: Jang, Gu and Poole (2017); Maddison, Mnih and Teh (2017).
    """
    check_positive("temperature", temperature)
    return biased("Gumbel-Softmax", Gumbel(), _soft, temperature=temperature)


def _hard(logits: Tensor, noise: Tensor, loss: Loss, *, temperature: float) -> Tensor:
    z = hardened(logits + noise)
    _, grad = value_and_gradient(loss, z, logits)
    return relaxed_sample_vjp(relaxed_sample(logits, noise, temperature), grad, temperature)


@documented
def straight_through_gumbel(*, temperature: float) -> Estimator:
    r"""Straight-through Gumbel-Softmax: ``y * (g(z) - <y, g(z)>) / tau``, ``z`` the hard ``y``.

    What :func:`torch.nn.functional.gumbel_softmax` does with ``hard=True``.

    *Approximates* the gradient of ``E[L]`` *with* the loss linearised at the draw and the
    derivative of the relaxed sample; *requires* the derivative of the loss; **biased**.  One
    evaluation an estimate.

    Args:
        temperature: ``tau > 0``.

    Raises:
        TypeError, ValueError: ``temperature`` is not a positive finite number.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> generator = torch.Generator().manual_seed(0)
        >>> estimator = ils.estimators.straight_through_gumbel(temperature=0.5)
        >>> estimator(torch.zeros(3), loss, draws=5, generator=generator).shape
        torch.Size([5, 3])

    Source: Jang, Gu and Poole (2017), section 2.2.
    """
    check_positive("temperature", temperature)
    return biased("straight-through Gumbel-Softmax", Gumbel(), _hard, temperature=temperature)


def _decoupled(
    logits: Tensor,
    noise: Tensor,
    loss: Loss,
    *,
    forward_temperature: float,
    backward_temperature: float,
) -> Tensor:
    z = hardened(tempered(logits, forward_temperature) + noise)
    _, grad = value_and_gradient(loss, z, logits)
    return Decoupled(backward_temperature).given(grad, logits, noise)


@documented
def decoupled_straight_through_gumbel(
    *, forward_temperature: float = 1.0, backward_temperature: float = 1.0
) -> Estimator:
    r"""Decoupled straight-through Gumbel: ``y * (g(z) - <y, g(z)>) / tau_b``, ``z`` at ``tau_f``.

    Forward, the hard sample ``z = onehot(argmax(theta / tau_f + G))``, a draw from
    ``softmax(theta / tau_f)``; backward, ``y = softmax(theta / tau_b + G)`` with the same noise:
    both temperatures divide the logits alone.  At ``tau_f = tau_b = 1`` this is straight-through
    Gumbel-Softmax at temperature 1.

    *Approximates* the gradient of ``E[L]`` *with* the loss linearised at a draw that is sharper or
    flatter than the model; *requires* the derivative of the loss; **biased**.  One evaluation an
    estimate.

    Args:
        forward_temperature: ``tau_f > 0``.
        backward_temperature: ``tau_b > 0``.

    Raises:
        TypeError, ValueError: a temperature is not a positive finite number.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> generator = torch.Generator().manual_seed(0)
        >>> estimator = ils.estimators.decoupled_straight_through_gumbel()
        >>> estimator(torch.zeros(3), loss, draws=5, generator=generator).shape
        torch.Size([5, 3])

    Source: Shah et al. (2024), from their description of the two passes: with a hard forward pass
    a temperature acts only if it divides the logits and not the noise.  Their second version
    leaves the noise out of the backward pass.
    """
    check_positive("forward_temperature", forward_temperature)
    check_positive("backward_temperature", backward_temperature)
    return biased(
        "decoupled straight-through Gumbel",
        Gumbel(),
        _decoupled,
        forward_temperature=forward_temperature,
        backward_temperature=backward_temperature,
    )


def _gumbel_rao(logits: Tensor, noise: Noise, loss: Loss, *, temperature: float) -> Tensor:
    z, numbers = noise
    _, grad = value_and_gradient(loss, z, logits)
    rule = GumbelRao(temperature, samples=numbers.shape[1])
    return rule.gradient(grad, z, logits, numbers.movedim(1, 0))


@documented
def gumbel_rao(*, temperature: float, samples: int = 10) -> Estimator:
    r"""Gumbel-Rao: the mean of ``y_s * (g(z) - <y_s, g(z)>) / tau`` over ``y_s`` given the draw.

    ``y_s = softmax(x_s / tau)`` with perturbed logits ``x_s``, sampled given that the drawn
    category has the largest, :func:`ils.relaxation.conditional_gumbel`.  The mean is that of
    straight-through Gumbel-Softmax; the variance is smaller, at the same number of evaluations.

    *Approximates* the gradient of ``E[L]`` *with* the loss linearised at the draw and the mean
    derivative of the relaxed sample; *requires* the derivative of the loss; **biased**.  For
    ``tau -> 0`` its mean given the draw tends to :func:`ils.estimators.zgr`, at the rate ``tau``;
    the variance that remains grows like ``1 / (tau * samples)``.  One evaluation an estimate.

    Args:
        temperature: ``tau > 0``.
        samples: how many conditional samples are averaged.

    Raises:
        TypeError, ValueError: ``temperature`` is not a positive finite number, ``samples`` less
            than 1.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> generator = torch.Generator().manual_seed(0)
        >>> estimator = ils.estimators.gumbel_rao(temperature=0.5)
        >>> estimator(torch.zeros(3), loss, draws=5, generator=generator).shape
        torch.Size([5, 3])

    Source: Paulus, Maddison and Krause (2021), equations 9 and 10.  The noise is held when the
    derivative is taken, as their equation 7 has it; through the noise it would have another mean.
    """
    check_positive("temperature", temperature)
    check_count("samples", samples)
    return biased("Gumbel-Rao", Exponential(int(samples)), _gumbel_rao, temperature=temperature)


def _reinmax_rao(logits: Tensor, noise: Noise, loss: Loss, *, temperature: float) -> Tensor:
    z, numbers = noise
    _, grad = value_and_gradient(loss, z, logits)
    rule = ReinMaxRao(temperature, samples=numbers.shape[1])
    return rule.gradient(grad, z, logits, numbers.movedim(1, 0))


@documented
def reinmax_rao(*, temperature: float, samples: int = 10) -> Estimator:
    r"""ReinMax-Rao: ``2 E[J(y) | z] g / tau - J(pi) g / 2``, ``y`` relaxed at ``(pi + z) / 2``.

    ReinMax, in which a mean over relaxed samples given the draw stands for the Jacobian at the
    middle: ``y_s = softmax(x_s / tau)`` with perturbed logits ``x_s`` of ``log((pi + z) / 2)``,
    sampled given that the drawn category has the largest.

    *Approximates* the gradient of ``E[L]`` *with* the loss linearised at the draw; *requires* the
    derivative of the loss; **biased**, for a linear loss too: for ``tau -> 0`` its mean tends to
    half of the gradient.  One evaluation an estimate.

    Args:
        temperature: ``tau > 0``.
        samples: how many conditional samples are averaged.

    Raises:
        TypeError, ValueError: ``temperature`` is not a positive finite number, ``samples`` less
            than 1.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> generator = torch.Generator().manual_seed(0)
        >>> estimator = ils.estimators.reinmax_rao(temperature=0.5)
        >>> estimator(torch.zeros(3), loss, draws=5, generator=generator).shape
        torch.Size([5, 3])

    Source: Wang and Bui (2026); the formula from the code of a repository of its first author,
    ``reinmax_v3`` there, with 100 samples, not from the paper.  ReinMax-CV adds to ReinMax a
    coefficient times the mean Jacobian less that of one relaxed sample.  It is left out: where that
    sample has the noise of the draw, as in published code, the difference has another mean than
    zero; with noise given the draw it only adds variance, as ReinMax is a function of the draw.
    """
    check_positive("temperature", temperature)
    check_count("samples", samples)
    return biased("ReinMax-Rao", Exponential(int(samples)), _reinmax_rao, temperature=temperature)
