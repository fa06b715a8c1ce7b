"""``python -m ils.kernel``: build the kernel and compare it with the PyTorch form."""

from __future__ import annotations

import os
import sys
import time

from ils import kernel
from ils.kernel.build import build, verify


def main() -> int:
    """Build, verify, and print the result; the exit status is 1 if that fails."""
    start = time.perf_counter()
    try:
        there = os.path.isfile(kernel.library())
        path = build()
        took = time.perf_counter() - start
        print(f"{'There already' if there else f'Built in {took:.0f} s'}: {path}")
        if not kernel.available():
            print("Turned off: ILS_KERNEL is 0, or the library does not load.")
            return 1
        print(f"Agrees with the pure form in {verify()} comparisons; ils uses it from now on.")
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
