"""Gumbel-Softmax, soft and hard."""

from __future__ import annotations

from torch import Tensor

from ils.checks import check_positive
from ils.estimators.estimator import Estimator, Formula
from ils.estimators.evaluation import Loss, value_and_gradient
from ils.estimators.randomness import Gumbel
from ils.relaxation import hardened, relaxed_sample, relaxed_sample_vjp

__all__ = ["gumbel_softmax", "straight_through_gumbel"]


def _soft(logits: Tensor, noise: Tensor, loss: Loss, *, temperature: float) -> Tensor:
    y = relaxed_sample(logits, noise, temperature)
    _, grad = value_and_gradient(loss, y, logits)
    return relaxed_sample_vjp(y, grad, temperature)


def gumbel_softmax(*, temperature: float) -> Estimator:
    r"""Gumbel-Softmax (soft): ``y * (g(y) - <y, g(y)>) / tau``, ``y = softmax((theta + G) / tau)``.

    *Approximates* the gradient of ``E[L]`` *with* that of the relaxed loss ``E[L(y)]``, which it
    estimates without bias; *requires* the loss and its derivative inside the simplex;
    **biased** for ``E[L(z)]``.  One evaluation an estimate.

    Args:
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
        >>> estimator = ils.estimators.gumbel_softmax(temperature=0.5)
        >>> estimator(torch.zeros(3), loss, draws=5, generator=generator).shape
        torch.Size([5, 3])

    Source: Jang, Gu and Poole (2017); Maddison, Mnih and Teh (2017).
    """
    check_positive("temperature", temperature)

    return Estimator(
        name="Gumbel-Softmax",
        formula=Formula(_soft, temperature=temperature),
        randomness=Gumbel(),
        evaluations=1,
        biased=True,
        differentiates=True,
    )


def _hard(logits: Tensor, noise: Tensor, loss: Loss, *, temperature: float) -> Tensor:
    z = hardened(logits + noise)
    _, grad = value_and_gradient(loss, z, logits)
    return relaxed_sample_vjp(relaxed_sample(logits, noise, temperature), grad, temperature)


def straight_through_gumbel(*, temperature: float) -> Estimator:
    r"""Straight-through Gumbel-Softmax: ``y * (g(z) - <y, g(z)>) / tau``, ``z`` the hard ``y``.

    What :func:`torch.nn.functional.gumbel_softmax` does with ``hard=True``.

    *Approximates* the gradient of ``E[L]`` *with* the loss linearised at the draw and the
    derivative of the relaxed sample; *requires* the derivative of the loss; **biased**.  One
    evaluation an estimate.

    Args:
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
        >>> estimator = ils.estimators.straight_through_gumbel(temperature=0.5)
        >>> estimator(torch.zeros(3), loss, draws=5, generator=generator).shape
        torch.Size([5, 3])

    Source: Jang, Gu and Poole (2017), section 2.2.
    """
    check_positive("temperature", temperature)

    return Estimator(
        name="straight-through Gumbel-Softmax",
        formula=Formula(_hard, temperature=temperature),
        randomness=Gumbel(),
        evaluations=1,
        biased=True,
        differentiates=True,
    )
