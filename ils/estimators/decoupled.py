"""Straight-through Gumbel-Softmax with two temperatures."""

from __future__ import annotations

from torch import Tensor

from ils.checks import check_positive
from ils.estimators.estimator import Estimator, Formula
from ils.estimators.evaluation import Loss, value_and_gradient
from ils.estimators.randomness import Gumbel
from ils.relaxation import hardened, tempered
from ils.rules import Decoupled

__all__ = ["decoupled_straight_through_gumbel"]


def _formula(
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

    Returns:
        An :class:`Estimator`: ``(D, *logits.shape)`` for logits ``(*batch, *variables, K)``.

    Raises:
        TypeError, ValueError: a temperature is not a positive finite number; at a call, as
            :class:`Estimator`.

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

    return Estimator(
        name="decoupled straight-through Gumbel",
        formula=Formula(
            _formula,
            forward_temperature=forward_temperature,
            backward_temperature=backward_temperature,
        ),
        randomness=Gumbel(),
        evaluations=1,
        biased=True,
        differentiates=True,
    )
