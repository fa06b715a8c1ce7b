"""What runs the code at hand, eager PyTorch, a compiler or a transform, and on what device.

The one place that asks.  What differs for one of them asks here: whether values may be looked at,
and which of two equal ways is the quicker.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch._subclasses import FakeTensor

__all__ = ["SHORT_ROW", "compiling", "eager", "holds_values", "may_look", "plain_on_cpu"]

SHORT_ROW = 8 if torch.backends.cpu.get_cpu_capability() == "AVX2" else 16
"""Rows of fewer entries do not fill a vector of the processor."""


def eager() -> bool:
    """Whether no compiler, no trace and no transform of ``torch.func`` is at work."""
    # A trace would keep for good what holds of its own values.
    return not (torch.compiler.is_compiling() or _transforms_active() or _tracing())


def compiling() -> bool:
    """Whether ``torch.compile`` or ``torch.export`` is at work."""
    return torch.compiler.is_compiling()


def holds_values(tensor: Tensor) -> bool:
    """Whether a tensor has values that can be looked at, and not a shape alone."""
    return eager() and not tensor.is_meta and not isinstance(tensor, FakeTensor)


def may_look(tensor: Tensor) -> bool:
    """Whether looking at values is allowed and makes nothing wait."""
    return tensor.is_cpu and holds_values(tensor)


def plain_on_cpu(tensor: Tensor) -> bool:
    """Whether a tensor is nothing but numbers in the memory of the CPU; ask :func:`eager` too."""
    return tensor.is_cpu and type(tensor) in _PLAIN and tensor.layout == torch.strided


_PLAIN = (Tensor, torch.nn.Parameter)
_tracing: Callable[[], bool] = torch.jit.is_tracing  # pyright: ignore[reportPrivateImportUsage]
# PyTorch has no public name for the question; without an answer, take the careful way.
_transforms_active: Callable[[], bool] = getattr(
    torch._C,  # pyright: ignore[reportPrivateUsage]
    "_are_functorch_transforms_active",
    lambda: True,
)
