r"""Exact expectations, and the exact quality of a gradient estimator, by enumeration.

``n`` independent categorical variables with ``K`` categories have ``K**n`` joint states; a loss
is a function of the one-hot states.  Everything here is a finite sum, so nothing is random.

Logits are ``(*batch, *variables, K)``.  The loss decides which axes are which: it maps states
``(D, *batch, *variables, K)`` to values ``(D, *batch)``, one for each problem of the batch.  A loss
that sums or averages over examples makes one problem of them all; with ``batch_dims``, the number
of leading axes that count problems, it raises.  Half types are computed in float32; the loss gets
states of their own type.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ils.checks import check_logits
from ils.estimators.estimator import Estimator
from ils.estimators.evaluation import (
    Loss,
    check_batch_dims,
    event_sum,
    like_draws,
    value_with_graph,
    widened,
    with_batch,
)
from ils.estimators.evaluation import batch_dims as found_batch_dims
from ils.estimators.randomness import Noise
from ils.states import probability, states

__all__ = ["Loss", "Moments", "expectation", "gradient", "moments", "states"]


def expectation(loss: Loss, logits: Tensor, *, batch_dims: int | None = None) -> Tensor:
    r"""``E_{z ~ softmax(theta)}[L(z)] = sum_z pi(z) L(z)``; differentiable in the logits.

    Args:
        loss: see the head of this module.
        logits: ``(*batch, *variables, K)``.
        batch_dims: how many leading axes of the logits count problems; None to infer it from the
            shape of the loss's values.

    Returns:
        ``(*batch)``, in the units of the loss.

    Raises:
        TypeError, ValueError: ``logits`` as in :func:`ils.sample`; more than 2**22 states; the
            loss returns other shapes.

    Example:
        >>> import torch, ils
        >>> ils.exact.expectation(lambda z: z[:, 0], torch.zeros(4))
        tensor(0.2500)

    Source: the definition, summed over all states.
    """
    check_logits(logits)
    problems, loss = _problems(loss, logits, batch_dims)
    work, wide = widened(logits, loss)
    z = states(work.detach(), problems)
    mean = (probability(work, z, problems) * value_with_graph(wide, z, work)).sum(0)
    return mean.to(logits.dtype)


def _problems(loss: Loss, logits: Tensor, batch_dims: int | None) -> tuple[int, Loss]:
    """How many axes count problems, and the loss with a check that its values agree."""
    check_batch_dims(batch_dims, logits)
    if batch_dims is None:
        return found_batch_dims(loss, logits.detach()), loss
    return batch_dims, with_batch(loss, logits, batch_dims)


def gradient(loss: Loss, logits: Tensor, *, batch_dims: int | None = None) -> Tensor:
    """Exact gradient of :func:`expectation` for the logits.

    Args:
        loss: see the head of this module.
        logits: ``(*batch, *variables, K)``.
        batch_dims: see :func:`expectation`.

    Returns:
        ``(*batch, *variables, K)``, in the units of the loss.

    Raises:
        TypeError, ValueError: as :func:`expectation`.

    Example:
        >>> import torch, ils
        >>> ils.exact.gradient(lambda z: z[:, 0], torch.zeros(4))
        tensor([ 0.1875, -0.0625, -0.0625, -0.0625])

    Source: the derivative of :func:`expectation`, by autograd.
    """
    check_logits(logits)
    leaf = logits.detach().clone().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(expectation(loss, leaf, batch_dims=batch_dims).sum(), leaf)[0]


@dataclass(frozen=True)
class Moments:
    """Exact quality of an estimator; all sums run over all entries of a problem's logits.

    Returned by :func:`moments`, which lists the errors and has an example.

    Attributes:
        gradient: the exact gradient of the expected loss, of the shape of the logits.
        mean: the expectation of the estimate, likewise.
        bias: ``mean - gradient``.
        variance: trace of the covariance of one estimate, ``(*batch)``.
        cosine: of the angle between ``mean`` and ``gradient``, ``(*batch)``; NaN if one is zero.
    """

    gradient: Tensor
    mean: Tensor
    bias: Tensor
    variance: Tensor
    cosine: Tensor


def moments(
    estimator: Estimator,
    loss: Loss,
    logits: Tensor,
    *,
    nodes: tuple[Noise, Tensor] | None = None,
    batch_dims: int | None = None,
) -> Moments:
    """Mean, bias, variance and cosine of an estimator, by enumeration of all its noise.

    Args:
        estimator: see :mod:`ils.estimators`.
        loss: maps states to values, differentiable where the estimator needs it.
        logits: ``(*batch, *variables, K)``.
        nodes: noise, with a leading axis ``S``, and weights ``(S,)`` or ``(S, *batch)`` that sum
            to 1, for estimators whose noise is continuous; the moments are then as exact as this
            quadrature.
        batch_dims: see :func:`expectation`.

    Returns:
        :class:`Moments`, of shapes ``(*batch, *variables, K)`` and ``(*batch)``.

    Raises:
        TypeError, ValueError: as :func:`expectation`; the noise has no finite support and there
            are no nodes; the estimator returns another shape than one estimate a node.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> quality = ils.exact.moments(ils.estimators.score_function(), loss, torch.zeros(3))
        >>> bool(quality.bias.abs().max() < 1e-6)
        True

    Source: the definitions of the moments, summed over all noise.
    """
    check_logits(logits)
    problems, loss = _problems(loss, logits, batch_dims)
    kind = logits.dtype
    logits, loss = widened(logits.detach(), loss)
    exact = gradient(loss, logits, batch_dims=problems)
    noise, weights = nodes or estimator.randomness.support(logits, problems)
    estimates = estimator.formula(logits, noise, loss).detach()
    if estimates.shape != (len(weights), *logits.shape):
        raise ValueError(
            "estimator: expected one estimate a node, shape "
            f"{(len(weights), *logits.shape)}, got {tuple(estimates.shape)}"
        )
    mean = (like_draws(weights, estimates) * estimates).sum(0)
    batch = exact.new_empty(logits.shape[:problems])  # carries the shape of the sums below
    spread = like_draws(weights, estimates) * (estimates - mean) ** 2
    length = (event_sum(mean**2, batch) * event_sum(exact**2, batch)).sqrt()
    return Moments(
        gradient=exact.to(kind),
        mean=mean.to(kind),
        bias=(mean - exact).to(kind),
        variance=event_sum(spread.sum(0), batch).to(kind),
        cosine=(event_sum(mean * exact, batch) / length).to(kind),
    )
