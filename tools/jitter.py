"""Round otherwise, as another machine would: every result in doubt is moved by one unit.

Run as ``PYTHONSTARTUP`` of a notebook's kernel (IPython reads that variable), or entered by
``tests/conftest.py``: with ``ILS_JITTER`` set to a seed, each number that an operation of PyTorch
computes by a series or by a sum is moved to one of its two neighbours at random.  These are the
operations in whose last bit processors, libraries and orders of summation differ.  A whole number
stays: sums of whole numbers, and the exponential of zero, are exact everywhere.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["MOVED", "Jitter"]

MOVED = frozenset(
    """
    exp expm1 log log1p log2 logaddexp xlogy pow tanh sigmoid softplus sin cos erf erfinv erfc
    lgamma digamma _softmax _log_softmax log_sigmoid_forward logsumexp logcumsumexp
    sum mean var std prod cumsum cumprod linalg_vector_norm norm
    mm bmm addmm baddbmm addbmm addmv mv dot vdot
    _softmax_backward_data _log_softmax_backward_data
    """.split()
)
"""Names in PyTorch's own set of operations, ``aten``."""

_BITS = {torch.float64: torch.int64, torch.float32: torch.int32}


class Jitter(TorchDispatchMode):
    """While it is entered, results of :data:`MOVED` in float32 and float64 are moved."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._generator = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in MOVED or name.removesuffix("_") in MOVED:
            for tensor in result if isinstance(result, tuple | list) else [result]:
                self._move(tensor)
        return result

    def _move(self, x: Any) -> None:
        """Change a tensor in place to neighbours of its entries."""
        if type(x) is not torch.Tensor or x.device.type != "cpu" or x.dtype not in _BITS:
            return
        sides = torch.randint(
            0, 2, x.shape, dtype=torch.int8, generator=self._generator, device="cpu"
        )
        moved = (x.view(_BITS[x.dtype]) + (2 * sides - 1)).view(x.dtype)
        # Neither a whole number nor what is not finite: the remainder of both by one is no number
        # above zero.
        x.copy_(torch.where(x.frac().abs() > 0, moved, x))


if seed := os.environ.get("ILS_JITTER"):
    Jitter(int(seed)).__enter__()
