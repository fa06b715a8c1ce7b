"""Zeros whose vector-Jacobian product is the identity: they give a draw a velocity."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ils.autograd import refuse_derivative
from ils.execution import compiling

__all__ = ["tangent"]


def tangent(parameter: Tensor) -> Tensor:
    r"""Zeros of the shape of a parameter ``theta``, with the identity as Jacobian.

    ``z + v * tangent(theta)`` is the draw ``z``, to the last bit where ``v`` is finite, and has the
    derivative ``v`` for ``theta``.  The resulting gradient is an estimate and the derivative of no
    function, so a second derivative raises a ``RuntimeError``.

    Args:
        parameter: floating point, of any shape.
    """
    # torch.compile cannot trace an autograd function that defines jvp.
    return (_Tangent if compiling() else _Both).apply(parameter)


class _Tangent(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(parameter: Tensor) -> Tensor:
        return torch.zeros_like(parameter)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (parameter,) = ctx.saved_tensors
        if torch.is_grad_enabled() and not compiling():
            return refuse_derivative(grads[0], parameter)
        return grads[0]


class _Both(_Tangent):
    """The same, with a forward-mode derivative."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Any:
        return tangents[0].clone()
