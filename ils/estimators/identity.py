"""The identity in place of the derivative of the argmax."""

from __future__ import annotations

from torch import Tensor

from ils.estimators.estimator import Estimator, Formula
from ils.estimators.evaluation import Loss
from ils.estimators.randomness import Deterministic
from ils.estimators.spigot import at_argmax
from ils.rules import Identity

__all__ = ["identity"]


def _formula(logits: Tensor, noise: Tensor, loss: Loss) -> Tensor:
    top, grad = at_argmax(logits, noise, loss)
    return Identity().gradient(grad, top, logits)


def identity() -> Estimator:
    r"""Identity: ``g - mean(g)`` at the likeliest category.

    Forward the argmax, backward its derivative replaced by the identity and projected onto the
    changes of the logits that matter (a constant added to all does not).

    *Approximates* the gradient of ``L`` at the most likely category, not of ``E[L]``; *requires*
    the derivative of the loss; **biased**.  Nothing is random.  One evaluation an estimate.

    Returns:
        An :class:`Estimator`: ``(D, *logits.shape)`` for logits ``(*batch, *variables, K)``.

    Raises:
        TypeError, ValueError: at a call, as :class:`Estimator`.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.identity()
        >>> ils.exact.moments(estimator, loss, torch.zeros(3)).bias
        tensor([-0.6667,  0.3333,  0.3333])

    Source: Sahoo et al. (2023), with the projection onto the mean-free cost vectors.
    """

    return Estimator(
        name="identity",
        formula=Formula(_formula),
        randomness=Deterministic(),
        evaluations=1,
        biased=True,
        differentiates=True,
    )
