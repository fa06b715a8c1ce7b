r"""Exact expectations, and the exact quality of a gradient estimator, by enumeration.

``n`` independent categorical variables with ``K`` categories have ``K**n`` joint states; a loss
is a function of the one-hot states.  Everything here is a finite sum, so nothing is random.

An *estimator* is a function ``estimator(logits, z, loss)`` that returns one gradient estimate for
the logits for each draw: ``z`` is ``(D, n, K)``, the result has the same shape, and ``loss`` maps
``(D, n, K)`` to ``(D,)``.  Axis ``n`` may be missing (one variable: ``logits`` is ``(K,)``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ils.checks import check_logits

__all__ = ["Estimator", "Loss", "Moments", "expectation", "gradient", "moments", "states"]

Loss = Callable[[Tensor], Tensor]
Estimator = Callable[[Tensor, Tensor, Loss], Tensor]

_MOST_STATES = 2**22


def states(logits: Tensor) -> Tensor:
    """All joint one-hot states, ``(K**n, n, K)``; for logits ``(K,)``, ``(K, K)``.

    Args:
        logits: ``(n, K)`` or ``(K,)``; only shape, type and device are used.

    Raises:
        ValueError: ``logits`` has another number of axes, or there are more than 2**22 states.
    """
    check_logits(logits)
    if logits.dim() > 2:
        raise ValueError(f"logits: expected shape (n, K) or (K,), got {tuple(logits.shape)}")
    categories = logits.shape[-1]
    corners = torch.eye(categories, dtype=logits.dtype, device=logits.device)
    if logits.dim() == 1:
        return corners
    variables = logits.shape[0]
    if categories**variables > _MOST_STATES:
        raise ValueError(
            f"logits: expected at most {_MOST_STATES} joint states, got {categories}**{variables}"
        )
    index = torch.cartesian_prod(*[torch.arange(categories)] * variables)
    return corners[index.reshape(-1, variables).to(logits.device)]


def _weights(logits: Tensor, z: Tensor) -> Tensor:
    """Probability of each joint state, ``(D,)``."""
    chosen = (logits.softmax(-1) * z).sum(-1)
    return chosen if logits.dim() == 1 else chosen.prod(-1)


def expectation(loss: Loss, logits: Tensor) -> Tensor:
    r"""``E_{z ~ softmax(theta)}[L(z)] = sum_z pi(z) L(z)``; differentiable in the logits.

    Args:
        loss: maps states ``(D, n, K)`` (or ``(D, K)``) to values ``(D,)``.
        logits: ``(n, K)`` or ``(K,)``.

    Returns:
        A scalar in the units of the loss.

    Example:
        >>> import torch, ils
        >>> ils.exact.expectation(lambda z: z[:, 0], torch.zeros(4))
        tensor(0.2500)
    """
    z = states(logits)
    return (_weights(logits, z) * _values(loss, z)).sum()


def _values(loss: Loss, z: Tensor) -> Tensor:
    values = loss(z)
    if values.shape != z.shape[:1]:
        raise ValueError(
            f"loss: expected one value a state, shape {tuple(z.shape[:1])}, got "
            f"{tuple(values.shape)}"
        )
    return values


def gradient(loss: Loss, logits: Tensor) -> Tensor:
    """Exact gradient of :func:`expectation` for the logits, of the shape of ``logits``."""
    leaf = logits.detach().clone().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(expectation(loss, leaf), leaf)[0]


@dataclass(frozen=True)
class Moments:
    """Exact quality of an estimator; all sums run over all entries of the logits.

    Attributes:
        gradient: the exact gradient of the expected loss.
        mean: the expectation of the estimate.
        bias: ``mean - gradient``.
        variance: trace of the covariance of one estimate.
        cosine: of the angle between ``mean`` and ``gradient`` (NaN if either is zero).
    """

    gradient: Tensor
    mean: Tensor
    bias: Tensor
    variance: Tensor
    cosine: Tensor


def moments(estimator: Estimator, loss: Loss, logits: Tensor) -> Moments:
    """Mean, bias, variance and cosine of an estimator, by enumeration of all draws.

    Args:
        estimator: see the head of this module; :mod:`ils.estimators` holds some.
        loss: maps states to values, differentiable where the estimator needs it.
        logits: ``(n, K)`` or ``(K,)``.

    Raises:
        ValueError: the estimator returns another shape than the draws have.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> quality = ils.exact.moments(ils.estimators.score_function, loss, torch.zeros(3))
        >>> bool(quality.bias.abs().max() < 1e-6)
        True
    """
    z = states(logits)
    weights = _weights(logits, z).detach()
    estimates = estimator(logits.detach(), z, loss).detach()
    if estimates.shape != z.shape:
        raise ValueError(
            f"estimator: expected one estimate a draw, shape {tuple(z.shape)}, got "
            f"{tuple(estimates.shape)}"
        )
    weights = weights.reshape(-1, *[1] * logits.dim())
    mean = (weights * estimates).sum(0)
    exact = gradient(loss, logits)
    return Moments(
        gradient=exact,
        mean=mean,
        bias=mean - exact,
        variance=(weights * (estimates - mean) ** 2).sum(),
        cosine=(mean * exact).sum() / (mean.norm() * exact.norm()),
    )
