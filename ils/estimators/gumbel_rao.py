"""Gumbel-Rao: straight-through Gumbel-Softmax, averaged over the noise given the draw."""

from __future__ import annotations

from torch import Tensor

from ils.checks import check_count, check_positive
from ils.estimators.estimator import Estimator, Formula
from ils.estimators.evaluation import Loss, value_and_gradient
from ils.estimators.randomness import Exponential, Noise
from ils.rules import GumbelRao

__all__ = ["gumbel_rao"]


def _formula(logits: Tensor, noise: Noise, loss: Loss, *, temperature: float) -> Tensor:
    z, numbers = noise
    _, grad = value_and_gradient(loss, z, logits)
    rule = GumbelRao(temperature, samples=numbers.shape[1])
    return rule.gradient(grad, z, logits, numbers.movedim(1, 0))


def gumbel_rao(*, temperature: float, samples: int = 10) -> Estimator:
    r"""Gumbel-Rao: the mean of ``y_s * (g(z) - <y_s, g(z)>) / tau`` over ``y_s`` given the draw.

    ``y_s = softmax(x_s / tau)`` with perturbed logits ``x_s`` drawn given that their largest entry
    is the drawn one, :func:`ils.relaxation.conditional_gumbel`.  The mean is that of
    straight-through Gumbel-Softmax; the variance is smaller, at the same number of evaluations.

    *Approximates* the gradient of ``E[L]`` *with* the loss linearised at the draw and the mean
    derivative of the relaxed sample; *requires* the derivative of the loss; **biased**.  For
    ``tau -> 0`` its mean given the draw tends to :func:`ils.estimators.zgr`, at the rate ``tau``;
    the variance that remains grows like ``1 / (tau * samples)``.  One evaluation an estimate.

    Args:
        temperature: ``tau > 0``.
        samples: how many conditional samples are averaged.

    Returns:
        An :class:`Estimator`: ``(D, *logits.shape)`` for logits ``(*batch, *variables, K)``.

    Raises:
        TypeError, ValueError: ``temperature`` is not a positive finite number, ``samples`` less
            than 1; at a call, as :class:`Estimator`.

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

    return Estimator(
        name="Gumbel-Rao",
        formula=Formula(_formula, temperature=temperature),
        randomness=Exponential(int(samples)),
        evaluations=1,
        biased=True,
        differentiates=True,
    )
