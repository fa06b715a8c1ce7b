"""Values and gradients of a downstream loss at many draws, and which axes it sums over.

A loss maps draws ``(D, *batch, *variables, K)`` to values ``(D, *batch)``: it says itself which
axes of the logits count problems, and which count the variables of one problem.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Loss", "batch_dims", "event_sum", "like_draws", "value", "value_and_gradient"]

Loss = Callable[[Tensor], Tensor]


def value(loss: Loss, z: Tensor, logits: Tensor) -> Tensor:
    """Values of the loss at draws, ``(*lead, *batch)``.

    Args:
        loss: see the head of this module.
        z: ``(*lead, *logits.shape)`` with at least one leading axis; the loss sees one.
        logits: ``(*batch, *variables, K)``; only the shape is used.

    Raises:
        TypeError, ValueError: the loss returns something else than one value a draw and problem.
    """
    lead = z.shape[: z.dim() - logits.dim()]
    values = _checked(loss(z.reshape(-1, *logits.shape)), lead.numel(), logits)
    return values.reshape(*lead, *values.shape[1:])


def value_and_gradient(loss: Loss, z: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Values ``(*lead, *batch)`` and ``g = dL/dz``, of the shape of ``z``; draws do not interact.

    Raises:
        TypeError, ValueError: as :func:`value`, and where the loss has no derivative.
    """
    leaf = z.detach().clone().requires_grad_()
    with torch.enable_grad():
        values = value(loss, leaf, logits)
        if not values.requires_grad:
            raise ValueError("loss: expected a function that can be differentiated in the draw")
        (grad,) = torch.autograd.grad(values.sum(), leaf)
    return values.detach(), grad


def batch_dims(loss: Loss, logits: Tensor) -> int:
    """How many leading axes of the logits count problems: found by calling the loss once."""
    z = torch.zeros_like(logits)
    z[..., 0] = 1
    with torch.no_grad():
        return value(loss, z.unsqueeze(0), logits).dim() - 1


def like_draws(values: Tensor, z: Tensor) -> Tensor:
    """Values ``(*lead, *batch)`` with axes of length one appended, to broadcast against draws."""
    return values.reshape(*values.shape, *[1] * (z.dim() - values.dim()))


def event_sum(x: Tensor, values: Tensor) -> Tensor:
    """Sum over variables and categories, ``(*lead, *batch, *variables, K)`` to that of values."""
    return x.flatten(values.dim()).sum(-1)


def _checked(values: Tensor, count: int, logits: Tensor) -> Tensor:
    if not isinstance(values, Tensor):
        raise TypeError(f"loss: expected a torch.Tensor, got {type(values).__name__}")
    batch = logits.shape[: max(values.dim() - 1, 0)]
    if values.dim() > logits.dim() or values.shape != (count, *batch):
        raise ValueError(
            f"loss: expected one value a draw, shape ({count},) or ({count}, *batch) with leading "
            f"axes of {tuple(logits.shape[:-1])}, got {tuple(values.shape)}"
        )
    return values
