"""Round otherwise, as another machine would: every result in doubt is moved by one unit.

Run as ``PYTHONSTARTUP`` of a notebook's kernel (IPython reads that variable), or entered by
``tests/conftest.py``: with ``ILS_JITTER`` set to a seed, each number that an operation of PyTorch
computes by a series or by a sum is moved to one of its two neighbours at random.  These are the
operations in whose last bit processors, libraries and orders of summation differ.

What is the same everywhere stays: numbers with half of the digits, such as sums of whole numbers
and the exponential of zero; subnormal numbers, whose sums are exact; a sum in which at most two
numbers are not zero, and a product of matrices in which one is.  Which neighbour it is depends on
the digits and the seed alone.  So, as on a real machine, the same computation gives the same result
in any shape and layout, and a factor of two changes no digit.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["MOVED", "Jitter"]

# fmt: off
MOVED = {
    "exp", "expm1", "log", "log1p", "log2", "logaddexp", "xlogy", "pow", "sin", "cos",
    "tanh", "sigmoid", "softplus", "log_sigmoid_forward", "erf", "erfc", "erfinv",
    "lgamma", "digamma", "_softmax", "_log_softmax", "logsumexp", "logcumsumexp",
    "_softmax_backward_data", "_log_softmax_backward_data",
    "sum", "mean", "var", "std", "norm", "linalg_vector_norm", "prod", "cumsum", "cumprod",
    "mm", "bmm", "addmm", "baddbmm", "addbmm", "mv", "addmv", "dot", "vdot",
}
"""Names in PyTorch's own set of operations, ``aten``."""
# fmt: on

# Integers of the size of each type, an odd factor that spreads their bits, and where digits are.
_BITS = {
    torch.float64: (torch.int64, 0x1E3779B97F4A7C15, 2**52 - 1),
    torch.float32: (torch.int32, 0x1E3779B1, 2**23 - 1),
}


class Jitter(TorchDispatchMode):
    """While it is entered, results of :data:`MOVED` in float32 and float64 are moved."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__.removesuffix("_")
        exact = _exact(name, args, kwargs or {}) if name in MOVED else None
        result = func(*args, **(kwargs or {}))
        if name in MOVED:
            for tensor in result if isinstance(result, tuple | list) else [result]:
                self._move(tensor, exact)
        return result

    def _move(self, x: Any, exact: torch.Tensor | None) -> None:
        """Change a tensor in place to neighbours of its entries, but for those that are exact."""
        if not _serves(x):
            return
        kind, factor, digits = _BITS[x.dtype]
        bits = x.view(kind)
        top = 8 * x.element_size() - 2
        # A constant that depends on the seed, of as many bits.
        key = self._seed * 0x5851F42D4C957F2D % 2 ** (top + 1)
        up = (((bits & digits) ^ key) * factor >> top) & 1
        moved = (bits + 2 * up - 1).view(x.dtype)
        half = 2 ** (digits.bit_length() // 2) - 1
        doubtful = (bits & half).ne(0) & x.isfinite() & (x.abs() >= torch.finfo(x.dtype).tiny)
        if exact is not None:
            doubtful &= ~exact
        x.copy_(torch.where(doubtful, moved, x))


def _serves(x: Any) -> bool:
    return type(x) is torch.Tensor and x.device.type == "cpu" and x.dtype in _BITS


def _exact(name: str, args: tuple[Any, ...], kwargs: Any) -> torch.Tensor | None:
    """Which results are the same in any order of summation; None if no one is."""
    if not _serves(args[0]):
        return None
    there = [x.ne(0).to(x.dtype) for x in args[:2] if isinstance(x, torch.Tensor)]
    if name in ("sum", "cumsum"):
        return getattr(torch, name)(*there, *args[1:], **kwargs) <= 2
    if name in ("mm", "bmm", "mv", "dot"):
        return getattr(torch, name)(*there) <= 1
    if name in ("logsumexp", "logcumsumexp", "prod", "cumprod", "mean") and len(args) > 1:
        dims = args[1] if isinstance(args[1], list | tuple) else [args[1]]
        if all(args[0].dim() and args[0].shape[dim] == 1 for dim in dims):
            return torch.ones((), dtype=torch.bool)
    return None


if __name__ == "__main__" and (seed := os.environ.get("ILS_JITTER")):
    Jitter(int(seed)).__enter__()
