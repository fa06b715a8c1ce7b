"""Other processors on this one: the settings are taken, and the jitter moves what it should."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
import torch
from cases import normal

from tools.browser import ROOT
from tools.cpu import settings
from tools.jitter import Jitter

X86 = platform.machine().lower() in ("x86_64", "amd64")
FREE = {k: v for k, v in os.environ.items() if k not in settings("plain")}

ASK = """
import warnings
warnings.simplefilter("error")
import numpy, torch
from numpy._core._multiarray_umath import __cpu_dispatch__ as known, __cpu_features__ as has
print(torch.backends.cpu.get_cpu_capability(), sum(has[name] for name in known))
"""


def ask(**changed: str) -> list[str]:
    """The instructions that PyTorch uses, and how many sets of its own NumPy uses."""
    ran = subprocess.run(
        [sys.executable, "-c", ASK], env=FREE | changed, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


def test_plain_uses_nothing_special() -> None:
    """Neither library complains, and both do with the least."""
    assert ask(**settings("plain")) == ["DEFAULT", "0"]


@pytest.mark.skipif(not X86, reason="AVX2 is of x86 processors")
def test_avx2() -> None:
    """No AVX-512 in either; where there is no AVX2, nothing changes."""
    native, lowered = ask(), ask(**settings("avx2"))
    assert lowered[0] == ("AVX2" if native[0] == "AVX512" else native[0])
    assert int(lowered[1]) <= int(native[1])


def test_unknown_kinds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="CPU: expected one of native, avx2"):
        settings("avx1024")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    with pytest.raises(ValueError, match="avx2 is of x86 processors, this one is arm64"):
        settings("avx2")
    assert settings("plain")["ATEN_CPU_CAPABILITY"] == "default"
    assert "ONEDNN_MAX_CPU_ISA" not in settings("plain")
    assert settings("native") == {}


@pytest.mark.unmoved
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_jitter_moves_by_one_unit(dtype: torch.dtype) -> None:
    """Half of the numbers up and half down, for each seed others, and the same twice."""
    x = normal(10_000).to(dtype)
    plain = x.exp()
    moved = {}
    for seed in (1, 2, 3):
        with Jitter(seed):
            moved[seed] = x.exp()
            assert torch.equal(moved[seed], x.view(100, 100).t().exp().t().flatten())
        steps = moved[seed].view(torch.int32 if dtype == torch.float32 else torch.int64)
        steps = steps - plain.view(steps.dtype)
        assert set(steps.tolist()) <= {-1, 0, 1}
        assert steps.eq(0).sum() <= 10  # short by chance
        assert abs(steps.double().mean()) < 0.05
    assert 0.45 < (moved[1] == moved[2]).double().mean() < 0.55


def test_jitter_leaves_what_is_exact() -> None:
    """Short numbers, what is not finite, other types, and operations that are rounded exactly."""
    with Jitter(1):
        assert torch.tensor([0.25, 0.5, 0.125]).cumsum(-1).tolist() == [0.25, 0.75, 0.875]
        third = torch.full((3,), 1 / 3, dtype=torch.float64)
        assert third.cumsum_(-1)[:2].tolist() == [1 / 3, 2 / 3]
        assert torch.tensor([[0.0, 0.1, 0.0]]).sum(-1).tolist() == [torch.tensor(0.1)]
        rows = normal(5, 3)
        assert torch.equal(torch.eye(5, dtype=torch.float64)[[2, 0]] @ rows, rows[[2, 0]])
        assert torch.zeros(3).exp().tolist() == [1.0, 1.0, 1.0]
        assert torch.tensor([[0.0, 1.0, 0.0]]).sum(-1).tolist() == [1.0]
        assert torch.tensor([1.0, -torch.inf]).softmax(-1).tolist() == [1.0, 0.0]
        assert torch.tensor([torch.inf, torch.nan]).exp()[0] == torch.inf
        x = normal(100)
        assert torch.equal(x + 0.3, x - (-0.3))
        half = x.half()
        moved = half.exp()
    assert torch.equal(moved, half.exp())


@pytest.mark.unmoved
def test_jitter_is_seen_by_gradients() -> None:
    """What a backward pass computes is moved too."""
    x = normal(5, 4).requires_grad_()
    (plain,) = torch.autograd.grad((x.softmax(-1) ** 2).sum(), x)
    with Jitter(1):
        (moved,) = torch.autograd.grad((x.softmax(-1) ** 2).sum(), x)
    assert not torch.equal(plain, moved)
    assert torch.allclose(plain, moved, rtol=0, atol=1e-14)


def test_jitter_starts_with_a_kernel() -> None:
    """As PYTHONSTARTUP of IPython it is entered before the first cell."""
    ask = "import torch; print(torch.full((), 0.5).exp().item().hex())"
    told = FREE | settings("jitter", "1")
    # Without a prompt IPython does not read PYTHONSTARTUP, a kernel does: as here, by its module.
    run = f"exec(open({told['PYTHONSTARTUP']!r}).read()); {ask}"
    outs = [
        subprocess.run(
            [sys.executable, "-c", code], env=told, capture_output=True, text=True, cwd=ROOT
        ).stdout
        for code in (ask, run)
    ]
    assert outs[0]
    assert outs[1]
    assert outs[0] != outs[1]
