"""Print the settings that lower what a processor is asked for: ``python tools/cpu.py avx2``.

For ``make test CPU=...``: the output is a list of assignments for ``env``.  PyTorch, MKL, oneDNN,
OpenBLAS and NumPy choose their code by the processor, and each choice rounds otherwise:

``native``
    nothing.
``avx2``
    as on an x86 processor without AVX-512.
``plain``
    the least that each library has: SSE on x86, and PyTorch's code without vectors everywhere.
``jitter``
    what no processor here does: see ``tools/jitter.py``.  ``SEED`` in the environment picks it.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from pathlib import Path

__all__ = ["KINDS", "settings"]

KINDS = ("native", "avx2", "plain", "jitter")

_X86 = {
    "avx2": {
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "MKL_CBWR": "AVX2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
    },
    "plain": {
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "MKL_CBWR": "COMPATIBLE",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "OPENBLAS_CORETYPE": "Nehalem",
    },
}
_AVX2 = {"X86_V3", "AVX", "F16C", "FMA3", "AVX2", "FMA4", "XOP"}


def _numpy_features(kind: str) -> list[str]:
    """What NumPy would use on this machine and is not to: it complains of others."""
    from numpy._core import _multiarray_umath as umath

    chosen = [name for name in umath.__cpu_dispatch__ if umath.__cpu_features__.get(name)]
    # What is lowered already is not seen, and must stay so.
    chosen += filter(None, os.environ.get("NPY_DISABLE_CPU_FEATURES", "").split(","))
    return [name for name in chosen if kind == "plain" or name not in _AVX2]


def settings(kind: str, seed: str = "1") -> dict[str, str]:
    """Environment variables of a kind.

    Raises:
        ValueError: there is no such kind, or not on this machine.
    """
    if kind not in KINDS:
        raise ValueError(f"CPU: expected one of {', '.join(KINDS)}, got {kind!r}")
    if kind == "native":
        return {}
    if kind == "jitter":
        return {
            "PYTHONSTARTUP": str(Path(__file__).resolve().with_name("jitter.py")),
            "ILS_JITTER": seed,
        }
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    if kind == "avx2" and not x86:
        raise ValueError(f"CPU: avx2 is of x86 processors, this one is {platform.machine()}")
    found = {
        "ATEN_CPU_CAPABILITY": "avx2" if kind == "avx2" else "default",
        # PyTorch's compiler would take what it made for one kind for what it made for another, and
        # the result is wrong.
        "TORCHINDUCTOR_CACHE_DIR": str(Path(tempfile.gettempdir()) / f"torchinductor-{kind}"),
    }
    if x86:
        found |= _X86[kind]
    if features := _numpy_features(kind):
        found["NPY_DISABLE_CPU_FEATURES"] = ",".join(features)
    return found


if __name__ == "__main__":
    try:
        chosen = settings(*sys.argv[1:2], seed=os.environ.get("SEED", "1"))
    except ValueError as error:
        sys.exit(str(error))
    print(" ".join(f"{name}={value}" for name, value in chosen.items()))
