"""Leave-one-out with a second control variate, from the gradients at the other draws."""

from __future__ import annotations

from torch import Tensor

from ils.checks import check_not_negative
from ils.estimators.estimator import Estimator, Formula
from ils.estimators.evaluation import Loss, event_sum, like_draws, value_and_gradient
from ils.estimators.leave_one_out import check_samples
from ils.estimators.randomness import Draws
from ils.relaxation import softmax_vjp

__all__ = ["double_control_variate"]


def _formula(logits: Tensor, z: Tensor, loss: Loss, *, samples: int, coefficient: float) -> Tensor:
    losses, grad = value_and_gradient(loss, z, logits)
    probs = logits.softmax(-1)
    others = (grad.sum(1, keepdim=True) - grad) / (samples - 1)
    corrected = losses - coefficient * event_sum(others * (z - probs), losses)
    advantage = (corrected - corrected.mean(1, keepdim=True)) * samples / (samples - 1)
    noisy = ((z - probs) * like_draws(advantage, z)).mean(1)
    return noisy + coefficient * softmax_vjp(probs, grad.mean(1))


def double_control_variate(*, samples: int = 2, coefficient: float = 1.0) -> Estimator:
    r"""Double control variates: ``mean_s (z_s - pi) (f_s - mean of the other f) + c J mean(g)``.

    ``f_s = L(z_s) - c <g_(-s), z_s - pi>`` with ``g_(-s)`` the mean derivative at the other draws:
    a Taylor expansion that does not depend on ``z_s``, whose own mean is added back exactly.

    *Approximates* the gradient of ``E[L]`` *with* ``samples`` draws; *requires* values and the
    derivative of the loss; **unbiased** for every coefficient.  ``samples`` evaluations an
    estimate.

    Args:
        samples: at least 2.
        coefficient: ``c``, at least 0; with 0 this is leave-one-out.  The authors learn it.

    Returns:
        An :class:`Estimator`: ``(D, *logits.shape)`` for logits ``(*batch, *variables, K)``.

    Raises:
        TypeError, ValueError: ``samples`` is less than 2, ``coefficient`` negative or not finite;
            at a call, as :class:`Estimator`.

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

    return Estimator(
        name="double control variates",
        formula=Formula(_formula, samples=samples, coefficient=coefficient),
        randomness=Draws(samples),
        evaluations=samples,
        biased=False,
        differentiates=True,
    )
