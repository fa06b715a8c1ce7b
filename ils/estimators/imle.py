"""I-MLE: the difference of two perturbed most likely categories."""

from __future__ import annotations

from torch import Tensor

from ils.checks import check_positive
from ils.estimators.estimator import Estimator, Formula
from ils.estimators.evaluation import Loss, value_and_gradient
from ils.estimators.randomness import Gumbel
from ils.relaxation import hardened

__all__ = ["implicit_mle"]


def _formula(logits: Tensor, noise: Tensor, loss: Loss, *, step_size: float) -> Tensor:
    z = hardened(logits + noise)
    _, grad = value_and_gradient(loss, z, logits)
    return (z - hardened(logits - step_size * grad + noise)) / step_size


def implicit_mle(*, step_size: float) -> Estimator:
    r"""I-MLE: ``[a(theta) - a(theta - lambda g)] / lambda``, ``a(x) = onehot argmax(x + G)``.

    ``z = a(theta)`` is the draw.  The target has the logits ``theta - lambda g(z)``, with the
    same Gumbel noise: for one categorical variable its perturb-and-MAP draw is exact.

    *Approximates* the gradient of ``E[L]`` *with* the difference between the model and a target one
    step away in the logits; *requires* the derivative of the loss; **biased**.  One evaluation an
    estimate.

    Args:
        step_size: ``lambda > 0``, in units of one over the gradient of the loss.  The published
            code does not divide by it.

    Returns:
        An :class:`Estimator`: ``(D, *logits.shape)`` for logits ``(*batch, *variables, K)``.

    Raises:
        TypeError, ValueError: ``step_size`` is not a positive finite number; at a call, as
            :class:`Estimator`.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> generator = torch.Generator().manual_seed(0)
        >>> estimator = ils.estimators.implicit_mle(step_size=0.5)
        >>> estimator(torch.zeros(3), loss, draws=5, generator=generator).shape
        torch.Size([5, 3])

    Source: Niepert, Minervini and Franceschi (2021), and the authors' published code.
    """
    check_positive("step_size", step_size)

    return Estimator(
        name="I-MLE",
        formula=Formula(_formula, step_size=step_size),
        randomness=Gumbel(),
        evaluations=1,
        biased=True,
        differentiates=True,
    )
