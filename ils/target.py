r"""The intermediate target of a draw, and the gradients of the intermediate loss: pure formulas.

No randomness and no autograd.  Symbols (last axis: the categories): ``z`` one-hot draw, ``grad``
the gradient ``g`` of the downstream loss at ``z``, ``probs`` the distribution ``pi``, ``target``
the distribution ``pi_D``.

The three gradients of ``KL(pi_D || pi)`` take the same arguments, so that one can be passed in
place of another.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ils.checks import check_same_shape
from ils.metric import euclidean
from ils.simplex import pullback, sum_normalize

__all__ = [
    "centred_gradient",
    "direction",
    "intermediate_loss",
    "intermediate_target",
    "logits_gradient",
    "probs_gradient",
]


def direction(
    z: Tensor,
    grad: Tensor,
    *,
    normalizer: Callable[[Tensor], Tensor] = sum_normalize,
    metric: Callable[[Tensor, Tensor], Tensor] = euclidean,
    probs: Tensor | None = None,
    keep_mass: bool = False,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Direction of the step, ``Delta = M J_h(z)^T g`` with the metric ``M``.

    With ``keep_mass`` what leaves the drawn category is what the others gain:
    ``Delta - z * sum(Delta)``, which sums to zero.  For ``sum_normalize`` this is
    ``J_h(z) J_h(z)^T g``, the first-order effect of the step on ``h``.

    Args:
        z: one-hot draws, ``(..., K)``.
        grad: ``dL/dz`` at the draws, ``(..., K)``.
        normalizer: the map ``h``.
        metric: :func:`ils.metric.euclidean` (the note's), :func:`ils.metric.fisher`, or a
            function of the same arguments.
        probs: ``pi``, ``(..., K)``; needed by metrics other than the Euclidean.
        keep_mass: whether the step stays in the plane ``sum(x) = 1``.
        mask: boolean, ``(..., K)``, true where a category cannot be drawn; its entry of ``grad``
            has no influence, and its entry of the result is zero.

    Returns:
        ``Delta``, ``(..., K)``, in the units of ``grad``.

    Raises:
        ValueError: the metric needs ``probs`` and there are none; the normaliser changes the shape.

    Example:
        >>> import torch
        >>> from ils.target import direction
        >>> z, grad = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, -1.0, 2.0])
        >>> direction(z, grad), direction(z, grad, keep_mass=True)
        (tensor([ 0., -1.,  2.]), tensor([-1., -1.,  2.]))

    Source: Shliselberg (2019), Algorithm 1; ``metric`` and ``keep_mass`` are this report's.
    """
    if probs is None and metric is not euclidean:
        raise ValueError("probs: expected the distribution that the metric needs, got None")
    if mask is not None:
        # A masked entry may be anything, infinite too.  Replaced by the mean of the others it does
        # not change their mean: the projection is that of the problem without it.
        allowed = (~mask).sum(-1, keepdim=True)
        mean = grad.masked_fill(mask, 0).sum(-1, keepdim=True) / allowed
        grad = torch.where(mask, mean, grad)
    delta = pullback(normalizer, z, grad)
    if probs is not None:
        delta = metric(delta, probs)
    if mask is not None:
        delta = delta.masked_fill(mask, 0)
    if keep_mass:
        delta = delta - z * delta.sum(-1, keepdim=True)
        if mask is not None:  # zero times a sum that is not finite is NaN
            delta = delta.masked_fill(mask, 0)
    return delta


def intermediate_target(
    z: Tensor,
    grad: Tensor,
    *,
    step_size: float | Tensor,
    normalizer: Callable[[Tensor], Tensor] = sum_normalize,
    metric: Callable[[Tensor, Tensor], Tensor] = euclidean,
    probs: Tensor | None = None,
    keep_mass: bool = False,
    mask: Tensor | None = None,
) -> Tensor:
    r"""The target ``pi_D = h(z - alpha * Delta)``.

    Args:
        z: one-hot draws, ``(..., K)``.
        grad: ``dL/dz`` at the draws, ``(..., K)``.
        step_size: ``alpha > 0``, in units of one over ``grad``; a tensor broadcasts.
        normalizer: the map ``h``.
        metric, probs, keep_mass: see :func:`direction`.
        mask: boolean, ``(..., K)``, true where a category cannot be drawn; such a category gets
            no mass.  The normaliser sees ``-inf`` there.

    Returns:
        ``pi_D``, ``(..., K)``.

    Raises:
        ValueError: the normaliser changes the shape, or the metric lacks ``probs``.

    Example:
        >>> import torch
        >>> from ils.target import intermediate_target
        >>> z, grad = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, -1.0, 2.0])
        >>> intermediate_target(z, grad, step_size=0.25)
        tensor([0.8000, 0.2000, 0.0000])

    Source: Shliselberg (2019), Algorithm 1.
    """
    delta = direction(
        z, grad, normalizer=normalizer, metric=metric, probs=probs, keep_mass=keep_mass, mask=mask
    )
    stepped = z - step_size * delta
    if mask is not None:
        stepped = stepped.masked_fill(mask, -torch.inf)
    target = normalizer(stepped)
    check_same_shape("normalizer: its output", target, stepped)
    return target


def intermediate_loss(target: Tensor, probs: Tensor) -> Tensor:
    r"""The intermediate loss ``KL(pi_D || pi) = sum_k pi_D,k log(pi_D,k / pi_k)``, in nats.

    Args:
        target: ``pi_D``, ``(..., K)``.
        probs: ``pi``, ``(..., K)``.

    Returns:
        ``(...)``; infinite where the target has mass and ``probs`` has none.

    Raises:
        RuntimeError: the shapes do not broadcast.

    Example:
        >>> import torch
        >>> from ils.target import intermediate_loss
        >>> intermediate_loss(torch.tensor([1.0, 0.0]), torch.tensor([0.25, 0.75]))
        tensor(1.3863)

    Source: Shliselberg (2019); the divergence is that of Kullback and Leibler (1951).
    """
    return (torch.special.xlogy(target, target) - torch.special.xlogy(target, probs)).sum(-1)


def logits_gradient(target: Tensor, probs: Tensor, z: Tensor) -> Tensor:
    r"""Gradient of ``KL(pi_D || softmax(theta))`` for the logits, ``pi * sum(pi_D) - pi_D``.

    For a target on the simplex this is ``pi - pi_D``.

    Args:
        target: ``pi_D``, ``(..., K)``.
        probs: ``pi``, ``(..., K)``.
        z: the draws; not used.

    Returns:
        ``(..., K)``, without unit.

    Raises:
        RuntimeError: the shapes do not broadcast.

    Example:
        >>> import torch
        >>> from ils.target import logits_gradient
        >>> z, probs = torch.tensor([1.0, 0.0]), torch.tensor([0.25, 0.75])
        >>> logits_gradient(torch.tensor([0.5, 0.5]), probs, z)
        tensor([-0.2500,  0.2500])

    Source: Shliselberg (2019), Algorithm 1.
    """
    return probs * target.sum(-1, keepdim=True) - target


def centred_gradient(target: Tensor, probs: Tensor, z: Tensor) -> Tensor:
    r"""The part of the gradient that carries the signal, ``z - pi_D``.

    ``pi - pi_D = (pi - z) + (z - pi_D)``, and ``E[pi - z] = 0``: the expectation is that of
    :func:`logits_gradient`.

    Args:
        target: ``pi_D``, ``(..., K)``.
        probs: ``pi``; not used.
        z: one-hot draws, ``(..., K)``.

    Returns:
        ``(..., K)``, without unit.

    Raises:
        RuntimeError: the shapes do not broadcast.

    Example:
        >>> import torch
        >>> from ils.target import centred_gradient
        >>> z, probs = torch.tensor([1.0, 0.0]), torch.tensor([0.25, 0.75])
        >>> centred_gradient(torch.tensor([0.5, 0.5]), probs, z)
        tensor([ 0.5000, -0.5000])

    Source: this report, chapter "The construction".
    """
    return z - target


def probs_gradient(target: Tensor, probs: Tensor, z: Tensor, *, eps: float = 1e-7) -> Tensor:
    r"""Derivative of ``KL(pi_D || pi)`` for the *probabilities*, ``-pi_D / (pi + eps)``.

    The note's code uses this for the logits.  Apart from ``eps`` and a constant added to all
    entries, which softmax ignores, it is the natural gradient for the logits (chapter "The
    construction").

    Args:
        target: ``pi_D``, ``(..., K)``.
        probs: ``pi``, ``(..., K)``.
        z: the draws; not used.
        eps: the note's guard against division by zero.

    Returns:
        ``(..., K)``, without unit.

    Raises:
        RuntimeError: the shapes do not broadcast.

    Example:
        >>> import torch
        >>> from ils.target import probs_gradient
        >>> z, probs = torch.tensor([1.0, 0.0]), torch.tensor([0.25, 0.75])
        >>> probs_gradient(torch.tensor([0.5, 0.5]), probs, z)
        tensor([-2.0000, -0.6667])

    Source: the published code of Shliselberg (2019).
    """
    return -target / (probs + eps)
