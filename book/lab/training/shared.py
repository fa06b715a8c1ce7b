"""A loss that an estimator differentiates for the draw, and a trainer for its parameters, at once.

An estimator asks for values of the loss, or for its derivative in the draw.  The parameters
behind the draw (a decoder, experts, a codebook) need a gradient at the same draws; taken in a
second pass it would cost every method an evaluation that its users do not pay.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lab.training.task import Parameters, Task

__all__ = ["SharedLoss"]


class _Call:
    """One evaluation: draws, values with their graph, and the gradients if they were taken."""

    def __init__(self, draws: Tensor, values: Tensor) -> None:
        self.draws, self.values = draws, values
        self.found: tuple[Tensor | None, ...] | None = None


class _Values(torch.autograd.Function):
    """The values of a call; backward also takes the gradient for the parameters."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, call: _Call, parameters: list[Tensor]) -> Tensor:
        ctx.call, ctx.parameters = call, parameters
        return call.values.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        call = ctx.call
        at, *rest = torch.autograd.grad(
            call.values,
            [call.draws, *ctx.parameters],
            grad,
            allow_unused=True,
            retain_graph=True,
        )
        # Only a plain sum over the draws is the gradient that the parameters want.
        if call.found is None and bool((grad == 1).all()):
            call.found = tuple(rest)
        return torch.zeros_like(call.draws) if at is None else at, None, None


class SharedLoss:
    """The loss of a task at one batch, for an estimator.

    Args:
        task: its ``loss`` maps draws ``(D, R, *B, n, K)`` to values ``(D, R, *B)``.
        parameters: of all runs; those named in ``task.decoder`` get a gradient.
        batch: what the step sees.
    """

    def __init__(self, task: Task, parameters: Parameters, batch: Any) -> None:
        self._task, self._batch = task, batch
        self._names = list(task.decoder)
        leaves = {name: p.detach() for name, p in parameters.items()}
        self._leaves = leaves | {n: leaves[n].clone().requires_grad_() for n in self._names}
        self._calls: list[_Call] = []

    def __call__(self, z: Tensor) -> Tensor:
        # Without gradients an estimator only asks for the shape of the values.
        if not (self._names and torch.is_grad_enabled()):
            return self._task.loss(self._leaves, self._batch, z)
        with torch.enable_grad():
            inner = z.detach().requires_grad_()
            call = _Call(inner, self._task.loss(self._leaves, self._batch, inner))
        self._calls.append(call)
        if z.requires_grad:
            return _Values.apply(z, call, [self._leaves[name] for name in self._names])
        return call.values.detach()

    def gradients(self) -> Parameters:
        """Of the mean over draws and examples, for the parameters in ``task.decoder``.

        At all one-hot draws that were evaluated; at the relaxed ones if there were no others.
        """
        hard = [call for call in self._calls if _one_hot(call.draws)]
        found: Parameters = {}
        for call in hard or self._calls:
            values = call.values
            # Draws and examples of a run, and evaluations.
            count = values.numel() / values.shape[1] * len(hard or self._calls)
            pairs = zip(self._names, self._taken(call), strict=True)
            for name, grad in ((name, grad) for name, grad in pairs if grad is not None):
                found[name] = found.get(name, 0) + grad / count
        return found

    def _taken(self, call: _Call) -> tuple[Tensor | None, ...]:
        """The gradients of a call, from its backward pass if it had one."""
        if call.found is not None:
            return call.found
        leaves = [self._leaves[name] for name in self._names]
        return torch.autograd.grad(call.values.sum(), leaves, allow_unused=True)


def _one_hot(z: Tensor) -> bool:
    return bool(((z == 0) | (z == 1)).all())
