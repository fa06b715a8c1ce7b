"""All joint states of independent categorical variables, and their probabilities."""

from __future__ import annotations

import torch
from torch import Tensor

from ils.checks import check_logits

__all__ = ["probability", "states"]

_MOST_STATES = 2**22


def states(logits: Tensor, batch_dims: int = 0) -> Tensor:
    """All joint one-hot states, ``(K**n, *logits.shape)``.

    ``n`` is the number of variables: the product of the axes between the batch and the categories.
    Problems of a batch share their states; the result is a view that repeats them.

    Args:
        logits: ``(*batch, *variables, K)``; only shape, type and device are used.
        batch_dims: how many leading axes of ``logits`` count problems and not variables.

    Returns:
        ``(K**n, *logits.shape)``, the last variable changing fastest.

    Raises:
        TypeError, ValueError: ``logits`` as in :func:`ils.sample`; ``batch_dims`` is no number of
            leading axes; more than 2**22 states.

    Example:
        >>> import torch, ils
        >>> ils.exact.states(torch.zeros(2, 2)).argmax(-1)
        tensor([[0, 0],
                [0, 1],
                [1, 0],
                [1, 1]])

    Source: the Cartesian product.
    """
    check_logits(logits)
    if not 0 <= batch_dims < logits.dim():
        raise ValueError(
            f"batch_dims: expected from 0 to {logits.dim() - 1} for logits of shape "
            f"{tuple(logits.shape)}, got {batch_dims}"
        )
    batch, variables = logits.shape[:batch_dims], logits.shape[batch_dims:-1]
    categories, count = logits.shape[-1], variables.numel()
    if categories**count > _MOST_STATES:
        raise ValueError(
            f"logits: expected at most {_MOST_STATES} joint states, got {categories}**{count}"
        )
    corners = torch.eye(categories, dtype=logits.dtype, device=logits.device)
    every = torch.arange(categories, device=logits.device)
    # Without variables there is one, empty, state.
    index = torch.cartesian_prod(*[every] * count) if count else every[:0]
    joint = corners[index.reshape(categories**count, count)]
    joint = joint.reshape(categories**count, *[1] * batch_dims, *variables, categories)
    return joint.expand(-1, *batch, *variables, categories)


def probability(logits: Tensor, z: Tensor, batch_dims: int = 0) -> Tensor:
    """Probability of joint states, ``(D, *batch)``; differentiable in the logits.

    Args:
        logits: ``(*batch, *variables, K)``.
        z: one-hot, ``(D, *logits.shape)``.
        batch_dims: as in :func:`states`.

    Returns:
        ``(D, *batch)``.

    Raises:
        RuntimeError: the shapes do not fit.

    Example:
        >>> import torch
        >>> from ils.states import probability, states
        >>> logits = torch.zeros(2, 2)
        >>> probability(logits, states(logits))
        tensor([0.2500, 0.2500, 0.2500, 0.2500])

    Source: independence.
    """
    chosen = (logits.softmax(-1) * z).sum(-1)
    return chosen.flatten(1 + batch_dims).prod(-1) if chosen.dim() > 1 + batch_dims else chosen
