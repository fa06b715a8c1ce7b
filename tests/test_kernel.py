"""ils.kernel: the fused kernel against the pure form, where a compiler is there to build it."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import close, generator, normal
from torch import Tensor

from ils import kernel
from ils.draw import block_width, draw_indices, one_scan
from ils.fast import Form, estimate
from ils.kernel.__main__ import main
from ils.kernel.build import build, missing, verify

LACKING = missing()
pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(LACKING is not None, reason=f"the kernel needs {LACKING}"),
]

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
# One scan and two levels, the ends of each width of blocks, and rows cut into pieces.
SIZES = [1, 2, 3, 10, 16, 17, 63, 64, 65, 100, 511, 512, 513, 1000, 65_536, 65_537, 100_003]
each_size = pytest.mark.parametrize("categories", SIZES)
LAST = 1 - 2**-53  # the largest float64 below one

# Rounding of the type of the work, as a share of the largest entry: of some eight operations.
PRECISION = {torch.float32: 1e-6, torch.bfloat16: 1e-6, torch.float16: 1e-6}


def rounding(categories: int) -> float:
    """By how much two results in float64 may differ, as a share of the largest entry.

    Kernel and pure form add ``K`` numbers in some order each; a sum in any order has an error of
    ``(K - 1) / 2`` units at most.  Eight more are for the operations around it.
    """
    return (categories + 8) * torch.finfo(torch.float64).eps


@pytest.fixture
def one_and_two_threads() -> Iterator[None]:
    """Leave the number of threads as it was."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def uniforms(rows: int, categories: int, points: int = 1, seed: int = 0) -> Tensor:
    """The numbers that ils.draw would take from a generator with this seed."""
    levels = () if one_scan(categories, points) else (2,)
    return torch.rand(rows, points, *levels, dtype=torch.float64, generator=generator(seed))


def rows_for(categories: int) -> int:
    return 200 if categories <= 1000 else 5


def pure_update(rule: Form, grad: Tensor, at: Tensor, probs: Tensor, mask: Tensor | None) -> Tensor:
    with kernel.disabled():
        return estimate(rule, grad.double(), at, probs.double(), mask)


def fused_update(
    rule: Form, grad: Tensor, at: Tensor, probs: Tensor | None, mask: Tensor | None
) -> Tensor:
    if rule.kind == kernel.FISHER_LIMIT:
        assert probs is not None
        return kernel.fisher_limit(grad, at, probs)
    if rule.kind == kernel.PROJECTED:
        return kernel.projected(grad, at, probs, mask, rule.step, rule.centred)
    return kernel.sum_normalized(grad, at, probs, mask, *rule[1:])


RULES = [
    Form(kernel.FISHER_LIMIT, 0.0, True, False, True),
    *(
        Form(kernel.SUM_NORMALIZED, 0.7, weighted, relative, centred)
        for weighted, (centred, relative) in itertools.product(
            (False, True), ((True, True), (True, False), (False, False))
        )
    ),
    Form(kernel.PROJECTED, 0.7, False, False, True),
    Form(kernel.PROJECTED, 0.7, False, False, False),
]


def name_of(rule: Form) -> str:
    kind = ("limit", "sum_normalize", "project_simplex")[rule.kind]
    words = [kind, "fisher" if rule.weighted else "euclidean"]
    return "-".join(words + ["centred"] * rule.centred + ["relative"] * rule.relative)


each_rule = pytest.mark.parametrize("rule", RULES, ids=name_of)


@each_dtype
@each_size
def test_draw_is_the_pure_one(dtype: torch.dtype, categories: int) -> None:
    """From the same uniforms, the same categories; and pi is the softmax to a few roundings."""
    rows = rows_for(categories)
    logits = (3 * normal(rows, categories, seed=categories)).to(dtype)
    z, at, probs = kernel.draw(logits, uniforms(rows, categories))
    exact = logits.double().softmax(-1)
    with kernel.disabled():
        expected = draw_indices(exact.to(probs.dtype), generator(), 1)
    # Where two intervals meet rounding decides: one in some hundred thousand float32 draws.
    assert (at != expected).sum() <= (dtype != torch.float64 and categories > 1000)
    assert z.dtype == dtype
    assert torch.equal(z, torch.zeros_like(logits).scatter_(-1, at, 1))
    assert probs.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    # Rounding t = theta - max(theta) alone makes a relative error of up to |t| eps / 2 in exp(t).
    away = logits.double().amax(-1, keepdim=True) - logits.double()
    # In float64 the reference is rounded too; otherwise both sums are.
    slack = categories + 8 if dtype == torch.float64 else 3
    assert ((probs / exact - 1).abs() <= (slack + away) * torch.finfo(probs.dtype).eps).all()
    again, where, none = kernel.draw(logits, uniforms(rows, categories), False)
    assert none is None
    assert torch.equal(again, z)
    assert torch.equal(where, at)


@pytest.mark.parametrize("categories", [7, 64, 65, 600, 70_000])
def test_measure_of_each_category(categories: int) -> None:
    """The ends of the intervals are where the cumulative sum in float64 has them."""
    logits = normal(1, categories, seed=1)
    probs = logits.softmax(-1)[0]
    chosen = torch.arange(0, categories, max(1, categories // 50))
    if categories <= 64:
        ends = probs.cumsum(-1)
        points = torch.stack([ends - probs + 1e-14, ends - 1e-14])[:, chosen].unsqueeze(-1)
    else:
        width = block_width(categories)
        padded = torch.nn.functional.pad(probs, (0, -categories % width)).view(-1, width)
        sums = padded.sum(-1)
        block = chosen // width
        first = (sums.cumsum(-1) - sums / 2)[block]
        inside = padded.cumsum(-1).flatten()[chosen] / sums[block]
        shares = probs[chosen] / sums[block]
        points = torch.stack(
            [
                torch.stack([first, inside - shares + 1e-12], -1),
                torch.stack([first, inside - 1e-12], -1),
            ]
        )
    rows = points.flatten(0, 1).unsqueeze(1)
    _, at, _ = kernel.draw(logits.expand(len(rows), -1), rows)
    assert torch.equal(at.view(2, -1), chosen.expand(2, -1))


@each_dtype
@pytest.mark.parametrize("categories", [7, 64, 200, 1000, 70_000])
@pytest.mark.parametrize("u", [0.0, 2.0**-60, 0.5, LAST])
def test_probability_zero_is_never_drawn(dtype: torch.dtype, categories: int, u: float) -> None:
    """Neither masked categories nor underflowing ones are drawn, whichever uniform number falls."""
    logits = normal(4, categories, seed=2).to(dtype)
    logits[:, [0, 2, -1]] = -torch.inf
    logits[:, -3] = -2000.0
    logits[1, : categories // 2] = -torch.inf
    logits[2, categories // 3 :] = -torch.inf
    logits[3, 1:] = -torch.inf
    logits[3, 0] = -1e4
    _, at, probs = kernel.draw(logits, torch.full_like(uniforms(4, categories), u))
    assert (probs.gather(-1, at) > 0).all()
    possible = probs > 0
    if u < 1e-10:
        assert torch.equal(at.squeeze(-1), possible.int().argmax(-1))
    if u == LAST:
        last = categories - 1 - possible.flip(-1).int().argmax(-1)
        assert torch.equal(at.squeeze(-1), last)
    assert (probs[logits == -torch.inf] == 0).all()


@pytest.mark.parametrize("categories", [5, 64, 65, 1000, 70_000])
def test_large_logits_and_subnormal_weights(categories: int) -> None:
    """Neither logits of 1e4 nor weights below the normal numbers disturb the law."""
    for dtype in (torch.float64, torch.float32):
        logits = 1e4 * normal(20, categories, seed=3).to(dtype)
        logits[:, 1] = logits.amax(-1) - (730 if dtype == torch.float64 else 95)  # subnormal
        _, at, probs = kernel.draw(logits, uniforms(20, categories))
        assert close(probs.double(), logits.double().softmax(-1), 1e-6)
        assert torch.equal(at.squeeze(-1), logits.argmax(-1))
        flat = torch.full((3, categories), 1e30, dtype=dtype)
        assert close(kernel.draw(flat, uniforms(3, categories))[2] * categories, flat / 1e30, 1e-6)


@each_dtype
@pytest.mark.parametrize("categories", [10, 1000, 70_000])
@pytest.mark.parametrize("bad", ["nan", "inf", "masked"])
def test_rows_without_a_law(dtype: torch.dtype, categories: int, bad: str) -> None:
    """One row with NaN, +inf or only -inf, and the call is refused."""
    logits = normal(3, categories, seed=4).to(dtype)
    logits[1, categories // 2] = {"nan": torch.nan, "inf": torch.inf}.get(bad, 0.0)
    if bad == "masked":
        logits[1] = -torch.inf
    with pytest.raises(RuntimeError, match="logits: expected"):
        kernel.draw(logits, uniforms(3, categories))
    with pytest.raises(RuntimeError, match="logits: expected"):
        kernel.sample(logits, uniforms(*logits.shape), (), kernel.FISHER_LIMIT)


@pytest.mark.parametrize("categories", [6, 100, 1000, 70_000])
@pytest.mark.parametrize("draws", [(), (1,), (3,), (2, 3), (40,), (0,)])
def test_several_draws(categories: int, draws: tuple[int, ...]) -> None:
    """Draws come in front, each from the uniform numbers that the pure form would use."""
    logits = normal(4, categories, seed=5)
    points = torch.Size(draws).numel()
    z, at, probs = kernel.draw(logits, uniforms(4, categories, points), draws=draws)
    assert z.shape == (*draws, 4, categories)
    with kernel.disabled():
        expected = draw_indices(logits.softmax(-1), generator(), points)
    assert torch.equal(at, expected.movedim(-1, 0).reshape(*draws, 4, 1))
    assert torch.equal(z, torch.zeros_like(z).scatter_(-1, at, 1))
    none, same, _ = kernel.draw(logits, uniforms(4, categories, points), draws=draws, one_hot=False)
    assert none is None
    assert torch.equal(same, at)
    grad = normal(*draws, 4, categories, seed=6)
    if points:
        for rule in RULES:
            found = fused_update(rule, grad, at, probs, None)
            expected = pure_update(rule, grad, at, probs, None)
            assert close(found, expected, 4 * rounding(categories))  # entries up to four


@each_rule
@each_dtype
@pytest.mark.parametrize("categories", [1, 2, 5, 16, 33, 300, 1000, 70_001])
def test_gradients(rule: Form, dtype: torch.dtype, categories: int) -> None:
    """Every gradient is that of the formulas in float64, small and large steps alike."""
    rows = 50 if categories <= 1000 else 3
    scales = torch.logspace(-2, 2, rows, dtype=torch.float64).unsqueeze(-1)
    logits = normal(rows, categories, seed=7)
    at = logits.add(normal(rows, categories, seed=8)).argmax(-1, keepdim=True)
    grad = (scales * normal(rows, categories, seed=9)).to(dtype)
    probs = logits.softmax(-1).to(dtype)
    found = fused_update(rule, grad, at, probs, None)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    expected = pure_update(rule, grad, at, probs, None)
    size = expected.abs().amax(-1, keepdim=True).clamp(min=1e-3)
    # The step is rounded in units of the gradient, and the target in its own.
    size = torch.maximum(size, grad.double().abs().amax(-1, keepdim=True))
    if not rule.relative:
        size = size.clamp(min=1)
    assert close(found / size, expected / size, PRECISION.get(dtype, rounding(categories)))


@each_rule
@pytest.mark.parametrize("poison", [0.0, 7.0, torch.inf, -torch.inf, torch.nan])
@pytest.mark.parametrize("categories", [9, 130, 70_001])
def test_masked_categories(rule: Form, poison: float, categories: int) -> None:
    """What comes to a masked category has no influence, and what leaves it is exactly zero."""
    logits = normal(4, categories, seed=10)
    mask = torch.rand(4, categories, generator=generator(11)) < 0.4
    mask[:, 2] = False
    logits = logits.masked_fill(mask, -torch.inf)
    _, at, probs = kernel.draw(logits, uniforms(4, categories))
    grad = normal(4, categories, seed=12)
    clean = grad.masked_fill(mask, 0.0)
    expected = pure_update(rule, clean, at, probs, mask)
    given = None if rule.weighted else mask
    found = fused_update(rule, grad.masked_fill(mask, poison), at, probs, given)
    assert (found[mask] == 0).all()
    assert close(found, expected, 5 * rounding(categories))  # entries up to five


@each_rule
def test_nan_is_not_hidden(rule: Form) -> None:
    """A gradient of NaN at a category that can be drawn shows, in its row alone."""
    for categories in (9, 70_001):
        probs = normal(3, categories, seed=13).softmax(-1)
        at = torch.tensor([[1], [2], [3]])
        grad = normal(3, categories, seed=14)
        clean = fused_update(rule, grad, at, probs, None)
        grad[1, 4] = torch.nan
        found = fused_update(rule, grad, at, probs, None)
        assert found[1].isnan().any()
        assert torch.equal(found[[0, 2]], clean[[0, 2]])


@pytest.mark.parametrize("spread", [0.0, 1e-6, 1e-3, 1.0, 1e3])
@pytest.mark.parametrize("categories", [3, 256, 257, 5000, 70_001])
def test_projection_is_exact(spread: float, categories: int) -> None:
    """It is that of the pure form, for supports of any size, and nowhere negative."""
    grad = spread * normal(6, categories, seed=15)
    at = torch.randint(categories, (6, 1), generator=generator(16))
    found = kernel.projected(grad, at, None, None, 1.0, True)
    rule = Form(kernel.PROJECTED, 1.0, False, False, True)
    assert close(found, pure_update(rule, grad, at, torch.ones_like(grad), None), 1e-11)
    assert (-found.scatter_add(-1, at, -torch.ones(6, 1, dtype=torch.float64)) >= 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("categories", [5, 40, 200, 70_001])
def test_layout_does_not_matter(dtype: torch.dtype, categories: int) -> None:
    """Transposed and expanded tensors give the bits of contiguous ones."""
    logits = normal(categories, 6, seed=17).to(dtype).t()
    grad = normal(categories, 6, seed=18).to(dtype).t()
    u = uniforms(6, categories)
    z, at, probs = kernel.draw(logits, u)
    for one, other in zip((z, at, probs), kernel.draw(logits.contiguous(), u), strict=True):
        assert torch.equal(one, other)
    for rule in RULES:
        found = fused_update(rule, grad, at, probs, None)
        assert torch.equal(found, fused_update(rule, grad.contiguous(), at, probs, None))
        wide = grad[:1].expand(6, -1)
        found = fused_update(rule, wide, at, probs, None)
        assert torch.equal(found, fused_update(rule, wide.contiguous(), at, probs, None))


@pytest.mark.usefixtures("one_and_two_threads")
@pytest.mark.parametrize(
    ("rows", "categories"), [(5000, 10), (700, 64), (300, 1000), (1, 300_000), (3, 65_600)]
)
def test_threads_change_no_bit(rows: int, categories: int) -> None:
    """One thread and two give the same draws, probabilities and gradients."""
    logits = normal(rows, categories, seed=20).float()
    grad = normal(rows, categories, seed=21).float()
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        z, at, probs = kernel.draw(logits, uniforms(rows, categories))
        updates = [fused_update(rule, grad, at, probs, None) for rule in RULES]
        results.append([z, at, probs, *updates])
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


@each_dtype
@pytest.mark.parametrize("categories", [6, 100])
@pytest.mark.parametrize("draws", [(), (3,)])
def test_sample_is_draw_and_gradient(
    dtype: torch.dtype, categories: int, draws: tuple[int, ...]
) -> None:
    """The draw with its gradient is put together from the parts, and consumes the same numbers."""
    logits = normal(4, categories, seed=22).to(dtype)
    logits[:, 0] = -torch.inf
    points = torch.Size(draws).numel()
    numbers = uniforms(4, categories, points)
    z, at, probs = kernel.draw(logits, numbers, draws=draws)
    grad = normal(*draws, 4, categories, seed=23).to(dtype)
    if dtype == torch.bfloat16:
        probs = probs.bfloat16()
    for rule in RULES:
        leaf = logits.clone().requires_grad_()
        drawn = kernel.sample(leaf, numbers, draws, *rule)
        assert torch.equal(drawn, z)
        assert drawn.requires_grad
        (found,) = torch.autograd.grad(drawn, leaf, grad)
        mask = None if rule.weighted else logits == -torch.inf
        expected = fused_update(rule, grad, at, probs, mask)
        expected = expected.sum(0) if draws else expected
        assert found.dtype == dtype
        assert torch.equal(found, expected.to(dtype))
        assert (found[:, 0] == 0).all()
        with torch.no_grad():
            assert not kernel.sample(leaf, numbers, draws, *rule).requires_grad


def test_wrong_arguments_are_refused() -> None:
    """Shapes and types that do not fit are named, and no memory is read past its end."""
    logits, u = normal(3, 4, seed=26), uniforms(3, 4)
    at = torch.zeros(3, 1, dtype=torch.int64)
    calls: list[tuple[str, Any]] = [
        ("uniform", lambda: kernel.draw(logits, u[:2])),
        ("uniform", lambda: kernel.draw(logits, u.float())),
        ("logits", lambda: kernel.draw(logits[:, :0], u)),
        ("at", lambda: kernel.fisher_limit(logits, at[:2], logits)),
        ("at", lambda: kernel.fisher_limit(logits, at + 4, logits)),
        ("probs", lambda: kernel.fisher_limit(logits, at, logits[:2])),
        ("mask", lambda: kernel.projected(logits, at, None, logits[:, :3] > 0, 1.0, True)),
        ("probs", lambda: kernel.sum_normalized(logits, at, None, None, 1.0, True, False, True)),
    ]
    for name, call in calls:
        with pytest.raises(RuntimeError, match=f"{name}: expected"):
            call()


def test_disabled() -> None:
    """Inside the block the kernel is not available, also when blocks are nested."""
    logits = normal(3, 4, seed=27)
    assert kernel.serves(logits)
    with kernel.disabled():
        assert not kernel.available()
        with kernel.disabled():
            assert not kernel.serves(logits)
        assert not kernel.available()
    assert kernel.available()
    assert kernel.serves(torch.nn.Parameter(logits))
    assert not kernel.serves(logits.to("meta"))
    assert not kernel.serves(logits.to_sparse())


def run(script: str, **variables: str) -> str:
    """What a fresh Python prints."""
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **variables},
    )
    return ran.stdout.strip()


def test_environment_turns_it_off() -> None:
    """ILS_KERNEL=0 leaves the built library alone; importing loads and compiles nothing."""
    asks = "from ils import kernel; print(kernel.available())"
    assert run(asks, ILS_KERNEL="1") == "True"
    assert run(asks, ILS_KERNEL="0") == "False"
    modules = "['ils_kernel' in open('/proc/self/maps').read(), 'torch.utils.cpp_extension' in m]"
    if sys.platform == "linux":
        script = f"import sys, ils, ils.kernel; m = sys.modules; print({modules})"
        assert run(script) == "[False, False]"
        script = (
            f"import sys; from ils import kernel; kernel.load(); m = sys.modules; print({modules})"
        )
        assert run(script, ILS_KERNEL="1") == "[True, False]"


def test_stale_build_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another source, PyTorch or processor is another name; a broken file is passed over."""
    here = kernel.library()
    other = tmp_path / "kernel.cpp"
    for part in (kernel.SOURCE, *kernel.SOURCE.parent.glob("*.h")):
        (tmp_path / part.name).write_bytes(part.read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(kernel, "SOURCE", other)
        assert kernel.library() == here
        with (tmp_path / "draw.h").open("a") as header:
            header.write("\n")
        assert kernel.library() != here
        assert not kernel.library().is_file()
        assert kernel._load() is None
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "0.0")
        assert kernel.library() != here
    with monkeypatch.context() as patch:
        patch.setattr(kernel, "_processor", lambda: "abacus")
        assert kernel.library() != here
    assert kernel.library() == here
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    assert kernel._load() is None
    kernel.library().parent.mkdir()
    kernel.library().write_bytes(b"half a library")
    with pytest.warns(RuntimeWarning, match="builds it anew"):
        assert kernel._load() is None


def test_verification_passes() -> None:
    """What the command checks after it has built holds."""
    assert verify() == 30


def test_without_a_build_it_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calling what is not there names the command that builds it."""
    monkeypatch.setattr(kernel, "load", lambda: None)
    assert not kernel.available()
    with pytest.raises(RuntimeError, match=r"python -m ils\.kernel"):
        kernel.draw(normal(2, 3), uniforms(2, 3))


HOMELESS = """
import os, pwd
def nobody(uid):
    raise KeyError(uid)
pwd.getpwuid = nobody
os.environ.pop("HOME", None)
import torch, ils
from ils import kernel
from ils.kernel import __main__
print(ils.sample(torch.zeros(3)).sum().item(), kernel.available())
try:
    kernel.library()
except RuntimeError as error:
    print(error)
print(__main__.main())
"""


def homeless(**variables: str) -> subprocess.CompletedProcess[str]:
    """What a process of a user prints who is not known to the machine and has no home."""
    kept = {k: v for k, v in os.environ.items() if k not in ("XDG_CACHE_HOME", "HOME")}
    kept.pop("TORCH_EXTENSIONS_DIR", None)
    return subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", HOMELESS],
        capture_output=True,
        text=True,
        env={**kept, "ILS_KERNEL": "1", **variables},
    )


def test_without_a_home(tmp_path: Path) -> None:
    """Draws need no home, and the command asks for a folder; a variable that names one serves."""
    ran = homeless()
    assert ran.returncode == 0, ran.stderr
    refusal = "ils.kernel: expected a home folder, or another one in TORCH_EXTENSIONS_DIR, got none"
    assert ran.stdout.splitlines() == ["1.0 False", refusal, "1"]
    assert ran.stderr.strip() == refusal
    for name in ("TORCH_EXTENSIONS_DIR", "XDG_CACHE_HOME"):
        ran = homeless(**{name: str(tmp_path / "none"), "CXX": "no-such-compiler"})
        assert ran.stdout.splitlines() == ["1.0 False", "1"]
        assert "no-such-compiler" in ran.stderr
    # Of no length it names nothing, and not the folder that one happens to be in.
    assert homeless(TORCH_EXTENSIONS_DIR="", XDG_CACHE_HOME="").stdout.splitlines()[1] == refusal


def test_folders_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that cannot be written to, or looked into, is refused by name, and draws go on."""
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(blocked))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kernel._load() is None
    with pytest.raises(
        RuntimeError, match="expected a folder to write to, or another one in TORCH"
    ):
        build()
    assert main() == 1

    def closed(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", closed)
    monkeypatch.setattr(Path, "mkdir", closed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kernel._load() is None
    with pytest.raises(RuntimeError, match="Permission denied"):
        build()


def test_builds_in_folders_with_spaces(tmp_path: Path) -> None:
    """PyTorch, the source and the cache may lie in folders whose names have spaces."""
    place = tmp_path / "a folder"
    place.mkdir()
    for name in ("torch", "torchgen"):
        (place / name).symlink_to(Path(torch.__file__).parent.parent / name)
    shutil.copytree(kernel.SOURCE.parents[1], place / "ils")
    # Without optimisation: it is the paths that count.
    script = """
import torch
from ils import kernel
from ils.kernel.build import build
kernel.FLAGS, kernel.FLAGS_IF_KNOWN = ("-O0",), ()
build()
print(torch.__file__, kernel.available())
"""
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=place,
        env={
            **os.environ,
            "PYTHONPATH": str(place),
            "ILS_KERNEL": "1",
            "TORCH_EXTENSIONS_DIR": str(place / "a cache"),
        },
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.strip() == f"{place / 'torch' / '__init__.py'} True"


@pytest.mark.parametrize("categories", [3, 20, 70_001])
def test_projection_of_infinite_gradients(categories: int) -> None:
    """Where all of a row is infinite there is no nearest distribution: NaN is handed on."""
    for sign in (torch.inf, -torch.inf):
        grad = torch.full((2, categories), sign)
        grad[1] = 0.1
        at = torch.tensor([[1], [1]])
        for probs, centred in ((None, True), (torch.full_like(grad, 1 / categories), False)):
            found = kernel.projected(grad, at, probs, None, 0.5, centred)
            assert found[0, 1].isnan()
            assert found[1].isfinite().all()
