"""One call of a contestant, as it is timed and as its memory is counted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ils import kernel
from lab.speed.contestants import Timed

__all__ = ["SHAPES", "TYPES", "Call", "block", "call", "copy", "inputs", "modes"]

SHAPES = ((64, 10), (1024, 10), (4096, 32), (256, 1000), (64, 10_000), (8, 100_000), (1, 1_000_000))
"""The grid, as (batch, categories)."""

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Call = Callable[[], object]


def inputs(shape: tuple[int, int], dtype: torch.dtype, seed: int) -> tuple[Tensor, Tensor]:
    """Logits that want a gradient, and the weights of the loss."""
    generator = torch.Generator().manual_seed(seed)
    x, w = torch.randn(2, *shape, generator=generator).to(dtype)
    return x.clone().requires_grad_(), w.clone()


def call(one: Timed, x: Tensor, w: Tensor, compiled: bool = False) -> Call:
    """Forward, loss and backward of one contestant: returns the gradient for the logits."""
    operator = one.prepare(x)

    def loss(x: Tensor, w: Tensor) -> Tensor:
        return (operator(x) * w).sum()

    # For its very shape: sizes that are known at compile time decide how loops are split.
    run = torch.compile(loss, dynamic=False) if compiled else loss
    return lambda: torch.autograd.grad(run(x, w), x)[0]


def block(name: str) -> contextlib.AbstractContextManager[Any]:
    """The block in which a mode is run: without the kernel, except for the mode of that name."""
    return contextlib.nullcontext() if name == "kernel" else kernel.disabled()


def modes() -> tuple[str, ...]:
    """The modes that need no compiler: the kernel's only where it is built."""
    return ("eager", "kernel") if kernel.available() else ("eager",)


def copy(entries: int, dtype: torch.dtype) -> Call:
    """A copy that reads and writes what any operator must: twice the entries each."""
    source = torch.ones(2 * entries, dtype=dtype)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)
