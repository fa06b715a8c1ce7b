"""The machine that a benchmark ran on, and the one setting of it that is changed."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path
from typing import Any

import torch

__all__ = ["describe_machine", "keep_heap"]

_KEPT_HEAP = 1 << 30


def keep_heap() -> bool:
    """Make glibc keep freed memory, so that no call pays for page faults; whether that worked.

    By default glibc returns large blocks to the system, and the next allocation faults the pages
    in again: thousands at a million entries, in the turn of whichever contestant comes next.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    trim, mmap = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
    return all(mallopt(which, _KEPT_HEAP) == 1 for which in (trim, mmap))


def describe_machine() -> dict[str, Any]:
    """Processor, cores and the size of its last cache, as far as the system tells."""
    name, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if info.exists():
        lines = [line.split(":", 1) for line in info.read_text("utf-8").splitlines() if ":" in line]
        name = next((v.strip() for k, v in lines if k.strip() == "model name"), name)
    sizes = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"))
    cache = [int(size.read_text().strip().rstrip("K")) * 1024 for size in sizes]
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "cache_bytes": max(cache, default=None),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }
