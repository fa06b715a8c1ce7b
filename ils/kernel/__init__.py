r"""The draw and its gradients fused into few passes over memory: optional, for CPUs.

``python -m ils.kernel`` builds it, with a C++ compiler and ninja; :func:`load` finds what was
built.  Without it the package computes the same in PyTorch.  Given the same uniform numbers, the
draws are those of :mod:`ils.draw`, apart from rounding where two intervals meet; the gradients are
those of :mod:`ils.fast`.  ``ILS_KERNEL=0`` in the environment turns it off.

The functions take CPU tensors that hold values, of any strides, categories last, in float64,
float32, bfloat16 or float16.  Check :func:`serves` first: without the kernel they raise.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ils.execution import plain_on_cpu

__all__ = [
    "FISHER_LIMIT",
    "PROJECTED",
    "SUM_NORMALIZED",
    "available",
    "disabled",
    "draw",
    "fisher_limit",
    "library",
    "load",
    "projected",
    "sample",
    "serves",
    "sum_normalized",
]

SOURCE = Path(__file__).with_name("kernel.cpp")
# Not -ffast-math: minus infinity masks a category, and NaN must stay NaN.  The last two are left
# out where the compiler does not know them.
FLAGS = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
FLAGS_IF_KNOWN = ("-march=native", "-fopenmp")

#: The gradients that :func:`sample` knows.
FISHER_LIMIT, SUM_NORMALIZED, PROJECTED = 0, 1, 2


def library() -> Path:
    """Path of the library, built or not; its name has a digest of all that it is built from.

    Raises:
        RuntimeError: there is no folder for it.
    """
    cache = _cache()
    if cache is None:
        raise RuntimeError(
            "ils.kernel: expected a home folder, or another one in TORCH_EXTENSIONS_DIR, got none"
        )
    told = hashlib.sha256()
    for part in (*sorted(SOURCE.parent.glob("*.h")), SOURCE):
        told.update(part.read_bytes())
    torch_build = (torch.__version__, torch.version.git_version, torch.compiled_with_cxx11_abi())
    told.update(repr((FLAGS, FLAGS_IF_KNOWN, torch_build, _processor())).encode())
    return cache / f"ils_kernel_{told.hexdigest()[:16]}" / "ils_kernel.so"


def _cache() -> Path | None:
    """PyTorch's folder of extensions; None for a user without a home folder."""
    told = os.environ.get("TORCH_EXTENSIONS_DIR")
    if told:
        return Path(told)
    cache = os.environ.get("XDG_CACHE_HOME")
    try:
        home = Path(cache) if cache else Path.home() / ".cache"
    except RuntimeError:
        return None
    return home / "torch_extensions"


def _processor() -> str:
    """The processor's features: on a shared disk a library for another processor would crash."""
    if sys.platform == "linux":
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith(("flags", "Features")):
                    return line
    return platform.machine() + platform.processor()


_NAMES = ("draw", "fisher_limit", "sum_normalized", "projected", "sample")
_state: dict[str, Any] = {"asked": False, "operations": None, "off": 0}


def load() -> SimpleNamespace | None:
    """The operations, or None where none are built for this source, PyTorch and processor.

    The first call looks for the library, unless ``ILS_KERNEL=0``; nothing is compiled.
    """
    if not _state["asked"]:
        _state["asked"] = True
        if os.environ.get("ILS_KERNEL", "1") != "0":
            _state["operations"] = _load()
    return _state["operations"]


def _load() -> SimpleNamespace | None:
    try:
        if _cache() is None:
            return None
        path = library()
        if not os.path.isfile(path):  # no error where the folder may not be entered
            return None
        torch.ops.load_library(path)
    except OSError as error:
        warnings.warn(
            f"ils.kernel: cannot be loaded ({error}); `python -m ils.kernel` builds it anew",
            RuntimeWarning,
            stacklevel=4,
        )
        return None
    return SimpleNamespace(**{name: getattr(torch.ops.ils, name).default for name in _NAMES})


def available() -> bool:
    """Whether the kernel is built, loads, and is not turned off."""
    return not _state["off"] and load() is not None


@contextmanager
def disabled() -> Generator[None]:
    """Compute without the kernel inside the block, in every thread."""
    _state["off"] += 1
    try:
        yield
    finally:
        _state["off"] -= 1


def serves(tensor: Tensor) -> bool:
    """Whether the kernel is available and the tensor is dense, on the CPU, and of no subclass.

    The caller checks :func:`ils.execution.eager` as well.
    """
    return plain_on_cpu(tensor) and available()


def _operations() -> SimpleNamespace:
    loaded = load()
    if loaded is None:
        raise RuntimeError("ils.kernel: not built; `python -m ils.kernel` builds it")
    return loaded


def draw(
    logits: Tensor,
    uniform: Tensor,
    keep_probs: bool = True,
    draws: Sequence[int] = (),
    *,
    one_hot: bool = True,
) -> tuple[Tensor | None, Tensor, Tensor | None]:
    r"""Draws of ``softmax(logits)`` by the inverse of its cumulative sum, as :mod:`ils.draw` does.

    Args:
        logits: ``(..., K)``; ``-inf`` masks a category.
        uniform: float64 in ``[0, 1)``, for ``n = prod(draws)`` draws a row: ``(..., n)`` up to 64
            categories, ``(..., n, 2)`` above, for the block and the category within it.
        keep_probs: whether ``pi`` is wanted.
        draws: shape of the draws of each row.
        one_hot: whether one-hot vectors are wanted.

    Returns:
        One-hot draws ``(*draws, ..., K)`` in the type of ``logits``, or None; their indices,
        int64, ``(*draws, ..., 1)``; ``pi``, ``(..., K)``, in float32 for the half types, or None.
        A category of probability zero is never drawn.  Weights below the smallest normal number
        times ``K`` count as zero.

    Raises:
        RuntimeError: a row holds NaN, +inf or only -inf; a shape or type is not the stated one.
    """
    z, at, probs = _operations().draw(logits, uniform, keep_probs, one_hot, draws)
    return z if one_hot else None, at, probs if keep_probs else None


def fisher_limit(grad: Tensor, at: Tensor, probs: Tensor) -> Tensor:
    r"""``pi_k (g_k - g_i) / 2``, and minus their sum for the drawn category ``i``.

    Args:
        grad: ``g``, ``(*draws, ..., K)``; may be infinite or NaN where ``pi`` is zero.
        at: the drawn categories, ``(*draws, ..., 1)``.
        probs: ``pi``, ``(..., K)`` or ``(*draws, ..., K)``.

    Returns:
        The shape of ``grad``, in float64 or float32; zero where ``pi`` is zero.

    Raises:
        RuntimeError: a shape or type is not the stated one.
    """
    return _operations().fisher_limit(grad, at, probs)


def sum_normalized(
    grad: Tensor,
    at: Tensor,
    probs: Tensor | None,
    mask: Tensor | None,
    step: float,
    fisher: bool,
    relative: bool,
    centred: bool,
) -> Tensor:
    r"""``z - h(z - alpha Delta)`` for the sum-normaliser ``h``; see :mod:`ils.fast`.

    Args:
        grad, at, probs: as of :func:`fisher_limit`; ``probs`` is None only if ``centred`` and not
            ``fisher``.
        mask: boolean, of a shape that ``probs`` may have; None, or ignored if ``fisher``, which
            masks where ``pi`` is zero.
        step: ``alpha``.
        fisher: whether ``Delta`` is weighted by ``pi``.
        relative: whether the step is in units of the largest entry of ``Delta``; the result is
            then in the units of ``g``.
        centred: return ``z - pi_D`` in place of ``pi - pi_D``.

    Returns:
        As :func:`fisher_limit`; zero, or ``pi``, where the mask is true.

    Raises:
        RuntimeError: a shape or type is not the stated one.
    """
    return _operations().sum_normalized(grad, at, probs, mask, step, fisher, relative, centred)


def projected(
    grad: Tensor, at: Tensor, probs: Tensor | None, mask: Tensor | None, step: float, centred: bool
) -> Tensor:
    r"""``z - h(z - alpha g)`` for the Euclidean projection ``h``, computed exactly.

    Args:
        grad, at, probs, mask, step, centred: as of :func:`sum_normalized`.

    Returns:
        As :func:`sum_normalized`.

    Raises:
        RuntimeError: a shape or type is not the stated one.
    """
    return _operations().projected(grad, at, probs, mask, step, centred)


def sample(
    logits: Tensor,
    uniform: Tensor,
    draws: Sequence[int],
    kind: int,
    step: float = 0.0,
    fisher: bool = True,
    relative: bool = False,
    centred: bool = True,
) -> Tensor:
    r"""The draw with its gradient: :func:`draw`, differentiated by one of the functions above.

    Args:
        logits: ``(..., K)``.
        uniform: as of :func:`draw`.
        draws: shape of the draws of each row; their gradients are added.
        kind: ``FISHER_LIMIT``, ``SUM_NORMALIZED`` or ``PROJECTED``.
        step, fisher, relative, centred: as of :func:`sum_normalized`.

    Returns:
        One-hot draws, ``(*draws, ..., K)``.

    Raises:
        RuntimeError: as of :func:`draw`; the gradient is differentiated again.
    """
    return _operations().sample(logits, uniform, draws, kind, step, fisher, relative, centred)
