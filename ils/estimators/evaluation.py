"""Values and gradients of a downstream loss at many draws, and which axes it sums over.

A loss maps draws ``(D, *batch, *variables, K)`` to values ``(D, *batch)``: their shape decides
which axes of the logits count problems, and which the variables of one problem.  So a loss that
sums or averages over examples makes one problem of them all, and estimates from its values vary
about as many times more as there are examples: return one value an example, and average the
estimates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from ils.checks import check_count
from ils.execution import holds_values

__all__ = [
    "Loss",
    "batch_dims",
    "check_batch_dims",
    "event_sum",
    "like_draws",
    "value",
    "value_and_gradient",
    "value_with_graph",
    "widened",
    "with_batch",
]

Loss = Callable[[Tensor], Tensor]


def value(loss: Loss, z: Tensor, logits: Tensor) -> Tensor:
    """Values of the loss at draws, ``(*lead, *batch)``, detached from the graph.

    Args:
        loss: see the head of this module.
        z: ``(*lead, *logits.shape)`` with at least one leading axis; the loss sees one.
        logits: ``(*batch, *variables, K)``; only the shape and the type are used.

    Raises:
        TypeError, ValueError: the loss returns something else than one value a draw and problem.
    """
    return value_with_graph(loss, z, logits).detach()


def value_with_graph(loss: Loss, z: Tensor, logits: Tensor) -> Tensor:
    """The same as :func:`value`, differentiable in what the loss depends on."""
    lead = z.shape[: z.dim() - logits.dim()]
    values = _checked(loss(z.reshape(lead.numel(), *logits.shape)), lead.numel(), logits)
    return values.reshape(*lead, *values.shape[1:])


def value_and_gradient(loss: Loss, z: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Values ``(*lead, *batch)`` and ``g = dL/dz``, of the shape of ``z``; draws do not interact.

    A masked category has the gradient zero, whatever the loss.  Where the value or any other entry
    of the gradient is not finite, the gradient of that draw and problem is NaN throughout, so that
    no bounded step hides it; no other draw or problem is affected.

    Raises:
        TypeError, ValueError: as :func:`value`, and where the loss has no derivative.
    """
    leaf = z.detach().clone().requires_grad_()
    with torch.enable_grad():
        values = value_with_graph(loss, leaf, logits)
        grad = None
        if values.requires_grad:
            (grad,) = torch.autograd.grad(values.sum(), leaf, allow_unused=True)
        # A graph can be that of other things than the draw alone.
        if grad is None:
            raise ValueError("loss: expected a function that can be differentiated in the draw")
    values, grad = values.detach(), grad.masked_fill(logits.isneginf(), 0)
    spoilt = ~(values.isfinite() & grad.isfinite().flatten(values.dim()).all(-1))
    return values, grad.masked_fill(like_draws(spoilt, z), torch.nan)


def widened(logits: Tensor, loss: Loss) -> tuple[Tensor, Loss]:
    """The problem in float32, for logits of a half type; the loss gets draws of their own type.

    Probabilities, noise and differences of losses lose too much in a half type.
    """
    if logits.dtype not in (torch.float16, torch.bfloat16):
        return logits, loss
    return logits.float(), lambda z: loss(z.to(logits.dtype))


def check_batch_dims(batch_dims: int | None, logits: Tensor) -> int | None:
    """Refuse what is no number of leading axes of the logits."""
    if batch_dims is None:
        return None
    if isinstance(batch_dims, bool) or batch_dims != 0:
        check_count("batch_dims", batch_dims)
    if batch_dims >= logits.dim():
        raise ValueError(
            f"batch_dims: expected at most {logits.dim() - 1} for logits of shape "
            f"{tuple(logits.shape)}, got {batch_dims}"
        )
    return int(batch_dims)


def with_batch(loss: Loss, logits: Tensor, batch_dims: int | None) -> Loss:
    """The loss, with a check for one value a draw and entry of so many leading axes."""
    if batch_dims is None:
        return loss

    def held(z: Tensor) -> Tensor:
        values = _checked(loss(z), len(z), logits)
        if values.dim() != 1 + batch_dims:
            raise ValueError(
                f"loss: expected one value a draw and problem, shape "
                f"{(len(z), *logits.shape[:batch_dims])}, got {tuple(values.shape)}"
            )
        return values

    return held


def batch_dims(loss: Loss, logits: Tensor, *, evaluate: bool = True) -> int:
    """How many leading axes of the logits count problems, by the shape of the loss's values.

    The loss is called with one-hot draws that have a shape and no values (a ``FakeTensor``):
    nothing is evaluated, and no running statistic moves.

    Args:
        loss: see the head of this module.
        logits: ``(*batch, *variables, K)``; only shape, type and device are used.
        evaluate: whether a loss that looks at values is evaluated at one draw.

    Raises:
        TypeError, ValueError: as :func:`value`; the loss looks at values, and must not.
    """
    if logits.dim() == 1:
        return 0
    if holds_values(logits):
        try:
            # Two, as batch normalisation refuses one.
            values = _without_values(loss, logits, 2)
        except Exception as error:
            if not evaluate:
                raise ValueError(
                    "batch_dims: expected the number of leading axes that count problems, as the "
                    "loss cannot be called with draws that have a shape and no values"
                ) from error
        else:
            return _checked(values, 2, logits).dim() - 1
    with torch.no_grad():
        return _checked(loss(_first(logits, 1)), 1, logits).dim() - 1


def _first(logits: Tensor, count: int) -> Tensor:
    """Draws of the first category throughout, ``(count, *logits.shape)``."""
    z = torch.zeros((count, *logits.shape), dtype=logits.dtype, device=logits.device)
    z[..., 0] = 1
    return z


def _without_values(loss: Loss, logits: Tensor, count: int) -> Tensor:
    """What the loss returns for draws without values; tensors that it writes to do not change."""
    fake = FakeTensorMode()

    class Hidden(TorchDispatchMode):
        """Tensors with values are taken for their shapes, before anything is written to them."""

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            def hidden(x: Tensor) -> Tensor:
                return x if isinstance(x, FakeTensor) else fake.from_tensor(x)

            args, kwargs = tree_map_only(Tensor, hidden, (args, kwargs or {}))
            return func(*args, **kwargs)

    with torch.no_grad(), fake, Hidden():
        return loss(_first(logits, count))


def like_draws(values: Tensor, z: Tensor) -> Tensor:
    """Values ``(*lead, *batch)`` with axes of length one appended, to broadcast against draws."""
    return values.reshape(*values.shape, *[1] * (z.dim() - values.dim()))


def event_sum(x: Tensor, values: Tensor) -> Tensor:
    """Sum over variables and categories, ``(*lead, *batch, *variables, K)`` to that of values."""
    return x.flatten(values.dim()).sum(-1)


def _checked(values: Tensor, count: int, logits: Tensor) -> Tensor:
    if not isinstance(values, Tensor):
        raise TypeError(f"loss: expected a torch.Tensor, got {type(values).__name__}")
    if values.is_complex():
        raise TypeError(f"loss: expected real values, got {values.dtype}")
    batch = logits.shape[: max(values.dim() - 1, 0)]
    if values.dim() > logits.dim() or values.shape != (count, *batch):
        raise ValueError(
            f"loss: expected one value a draw, shape ({count},) or ({count}, *batch) with leading "
            f"axes of {tuple(logits.shape[:-1])}, and no mean over draws or problems, got "
            f"{tuple(values.shape)}"
        )
    # Differences of losses are taken in the type of the logits, or in a wider one.
    return values.to(torch.promote_types(values.dtype, logits.dtype))
