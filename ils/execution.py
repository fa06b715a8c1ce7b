"""Queries of the execution mode (eager, compiled, traced, transformed) and of the device.

Code that depends on these, because values cannot be read or another path is faster, uses the
functions here and nothing else.
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
    """Whether no compiler, no trace and no transform of ``torch.func`` is active."""
    # A trace would record the branch that the values of its example take.
    return not (torch.compiler.is_compiling() or _transforms_active() or _tracing())


def compiling() -> bool:
    """Whether ``torch.compile`` or ``torch.export`` is active."""
    return torch.compiler.is_compiling()


def holds_values(tensor: Tensor) -> bool:
    """Whether a tensor has values that can be read, and not only a shape."""
    return eager() and not tensor.is_meta and not isinstance(tensor, FakeTensor)


def may_look(tensor: Tensor) -> bool:
    """Whether values can be read without waiting for an accelerator."""
    return tensor.is_cpu and holds_values(tensor)


def plain_on_cpu(tensor: Tensor) -> bool:
    """Whether a tensor is dense, on the CPU, and of no subclass; check :func:`eager` as well."""
    return tensor.is_cpu and type(tensor) in _PLAIN and tensor.layout == torch.strided


_PLAIN = (Tensor, torch.nn.Parameter)
_tracing: Callable[[], bool] = torch.jit.is_tracing  # pyright: ignore[reportPrivateImportUsage]
# PyTorch has no public function for this; without the private one, assume a transform.
_transforms_active: Callable[[], bool] = getattr(
    torch._C,  # pyright: ignore[reportPrivateUsage]
    "_are_functorch_transforms_active",
    lambda: True,
)
