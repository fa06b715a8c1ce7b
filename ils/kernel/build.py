"""Compile the kernel into PyTorch's folder of extensions, and compare it with the PyTorch form."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from ils import kernel
from ils.draw import draw_indices
from ils.fast import Form, estimate

__all__ = ["build", "missing", "verify"]


def missing() -> str | None:
    """What is needed for the build and missing, in words; None if nothing is."""
    if sys.platform == "win32":
        return "gcc or clang: the kernel is not written for the compiler of Windows"
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler.split()[0]) is None:
        return f"a C++ compiler: there is no `{compiler}` (the variable CXX names another one)"
    if shutil.which("ninja") is None:
        return "ninja: `pip install ninja` brings it"
    return None


def build() -> Path:
    """Compile, unless it has been done.

    Returns:
        Path of the library; :func:`ils.kernel.load` loads it in the next Python process.

    Raises:
        RuntimeError: something is missing, or the compiler fails, or nothing can be written.
    """
    path = kernel.library()
    if os.path.isfile(path):
        return path
    lacking = missing()
    if lacking is not None:
        raise RuntimeError(f"ils.kernel: expected {lacking}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _compile(path)
    except OSError as error:
        raise RuntimeError(
            f"ils.kernel: expected a folder to write to, or another one in TORCH_EXTENSIONS_DIR, "
            f"got {path.parent} ({error.strerror})"
        ) from error


def _compile(path: Path) -> Path:
    # Compiled elsewhere and then moved: no process loads a partial file.  In its own process, as
    # cpp_extension loads what it builds, and a process can load one such library only.
    with tempfile.TemporaryDirectory(dir=path.parent) as aside:
        arguments = [sys.executable, "-c", _COMPILE, aside, str(kernel.SOURCE), *_flags()]
        ran = subprocess.run(arguments, capture_output=True, text=True)
        built = Path(aside) / path.name
        if ran.returncode != 0 or not built.is_file():
            raise RuntimeError(f"ils.kernel: the compiler failed\n{ran.stdout}{ran.stderr}")
        built.replace(path)
    return path


_COMPILE = """
import shlex, sys
from torch.utils import cpp_extension
folder, source, *flags = sys.argv[1:]
# It quotes every path but this one.
cpp_extension.TORCH_LIB_PATH = shlex.quote(cpp_extension.TORCH_LIB_PATH)
cpp_extension.load("ils_kernel", [source], flags, build_directory=folder, is_python_module=False)
"""


def _flags() -> list[str]:
    compiler = os.environ.get("CXX", "c++").split()
    check = ["-fsyntax-only", "-x", "c++", os.devnull]
    known = [
        flag
        for flag in kernel.FLAGS_IF_KNOWN
        if subprocess.run([*compiler, flag, *check], capture_output=True).returncode == 0
    ]
    return [*kernel.FLAGS, *known]


def verify() -> int:
    """Compare the kernel with the PyTorch form on random rows.

    Returns:
        The number of comparisons.

    Raises:
        RuntimeError: the kernel is not there, or a result differs.
    """
    count = 0
    for rows, categories in ((40, 10), (20, 64), (20, 65), (10, 1000), (2, 70_001)):
        source = torch.Generator().manual_seed(categories)
        logits = torch.randn(rows, categories, generator=source)
        logits[:, 3] = -torch.inf
        grad = torch.randn(rows, categories, generator=source)
        state = source.get_state()
        levels = () if categories <= 64 else (2,)
        uniform = torch.rand(rows, 1, *levels, dtype=torch.float64, generator=source)
        _, at, probs = kernel.draw(logits, uniform)
        assert probs is not None
        law = logits.softmax(-1)
        _compare("pi", probs, law, 1e-6)
        with kernel.disabled():
            _compare("draw", at, draw_indices(law, source.set_state(state), 1), 0)
        mask = law == 0
        for form, computed in (
            (Form(kernel.FISHER_LIMIT, 0.0, True, False, True),
             kernel.fisher_limit(grad, at, law)),
            (Form(kernel.SUM_NORMALIZED, 0.5, True, True, True),
             kernel.sum_normalized(grad, at, law, None, 0.5, True, True, True)),
            (Form(kernel.SUM_NORMALIZED, 0.5, False, False, False),
             kernel.sum_normalized(grad, at, law, mask, 0.5, False, False, False)),
            (Form(kernel.PROJECTED, 0.5, False, False, True),
             kernel.projected(grad, at, None, mask, 0.5, True)),
        ):  # fmt: skip
            with kernel.disabled():
                expected = estimate(form, grad.double(), at, law.double(), mask)
            _compare(repr(form), computed, expected, 1e-5)
            count += 1
        count += 2
    return count


def _compare(name: str, computed: Tensor, expected: Tensor, tolerance: float) -> None:
    # Written so that NaN counts as a difference.
    if not bool(((computed - expected).abs() <= tolerance).all()):
        raise RuntimeError(f"ils.kernel: differs from the pure form in {name}")
