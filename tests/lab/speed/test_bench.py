"""The benchmark without its clock: who takes part, what is recorded, what is computed from it."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

import ils
from lab.run import records
from lab.speed import bench, calls, cost, footprint, targets
from lab.speed import contestants as who
from lab.speed.contestants import CONTESTANTS, FORMS, GUMBEL, LOSS, TEN_LINES, Timed, contestant

TINY = bench.Plan(repeats=2, budget=0.0, compiled=(), threads=(1,))
SHAPE = (5, 7)

each = pytest.mark.parametrize("one", CONTESTANTS, ids=lambda one: one.name)


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_contestants_give_draws_and_gradients(one: Timed, dtype: torch.dtype) -> None:
    """Draws are one-hot up to the rounding of ``z + p - p``; gradients have the logits' shape."""
    if not one.fits(dtype, "eager"):
        pytest.skip("does not take part")
    x, w = calls.inputs(SHAPE, dtype, seed=3)
    z = one.prepare(x)(x)
    assert z.shape == SHAPE
    assert z.dtype == dtype
    if one.draws:
        distance = torch.minimum(z.abs(), (z - 1).abs()).max()
        assert distance <= 2 * torch.finfo(dtype).eps
        assert (z.round().sum(-1) == 1).all()
    gradient = calls.call(one, x, w)()
    assert isinstance(gradient, Tensor)
    assert gradient.shape == SHAPE
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


def test_gumbel_with_its_noise_given_is_gumbel() -> None:
    """With the same noise: the same draw and the same gradient as PyTorch's operator."""
    x, w = calls.inputs(SHAPE, torch.float32, seed=3)
    given = contestant("Gumbel-Softmax, noise given").prepare(x)
    noise = -torch.empty_like(x).exponential_(generator=torch.Generator().manual_seed(0)).log()
    soft = (x + noise).softmax(-1)
    assert torch.equal(given(x).argmax(-1), soft.argmax(-1))
    expected = torch.autograd.grad((soft * w).sum(), x)[0]
    torch.testing.assert_close(torch.autograd.grad((given(x) * w).sum(), x)[0], expected)
    # The loss alone hands back its weights: a call is forward, ``(z * w).sum()``, backward.
    gradient = calls.call(contestant(LOSS), x, w)()
    assert isinstance(gradient, Tensor)
    assert torch.equal(gradient, w)


@pytest.mark.parametrize("ten", [who.TenLines, who.TenLinesInDouble])
def test_the_ten_lines_have_the_gradient_of_the_default(ten: type[who.TenLines]) -> None:
    """After the same draw; they carry on where the package refuses."""
    x, w = calls.inputs(SHAPE, torch.float32, seed=3)
    z = ten.apply(x)
    (found,) = torch.autograd.grad((z * w).sum(), x)
    (wanted,) = torch.autograd.grad((ils.differentiable_draw(x, z.detach()) * w).sum(), x)
    torch.testing.assert_close(found, wanted)


def test_names_and_modes() -> None:
    """Names are unique; every form of the operator takes part with the kernel, Gumbel never."""
    assert max(Counter(one.name for one in CONTESTANTS).values()) == 1
    assert all(contestant(name).fits(torch.float32, "kernel") for name in FORMS)
    assert not contestant(GUMBEL).fits(torch.float32, "kernel")
    assert contestant(GUMBEL).fits(torch.bfloat16, "compiled")
    assert not contestant("sparsemax").fits(torch.bfloat16, "eager")


def test_grid_growth_and_memory_have_their_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row a contestant and cell, with the copies; median between the quartiles."""
    monkeypatch.setattr(bench, "LARGE", (1, 64))
    before = torch.get_num_threads()
    grid = bench.grid(TINY, shapes=((2, 3),), types=("float32",))
    assert torch.get_num_threads() == before
    assert grid.index.names == ["dtype", "threads", "batch", "categories", "mode", "contestant"]
    assert list(grid.columns) == ["median", "low", "high", "repeats", "inner"]
    eager = grid.xs("eager", level="mode")
    names = {one.name for one in CONTESTANTS if one.fits(torch.float32, "eager")}
    assert set(eager.index.get_level_values("contestant")) == names | {cost.COPY, cost.LARGE_COPY}
    assert (grid["low"] <= grid["median"]).all()
    assert (grid["median"] <= grid["high"]).all()
    assert (grid["low"] > 0).all()

    growth = bench.growth(TINY, largest=40)
    assert growth.index.names == ["sweep", "batch", "categories", "mode", "contestant"]
    assert list(growth.columns) == list(grid.columns)
    assert {(10, 4), (4, 10), (1, 32)} <= set(growth.loc["categories"].index.droplevel([2, 3]))

    memory = footprint.memory(3, shapes=((2, 3),), types=("float32",))
    assert memory.index.names == ["dtype", "batch", "categories", "mode", "contestant"]
    assert list(memory.columns) == ["peak", "saved"]
    assert (memory["peak"] >= 2 * 3 * 4).all()  # the gradient at least


def test_what_does_not_compile_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Its error is printed; an error in another mode is one."""

    def broken() -> None:
        raise RuntimeError("no compiler")

    both = {("compiled", "a"): broken, ("eager", "b"): lambda: None}
    (row,) = bench.timed(both, TINY)
    assert row["contestant"] == "b"
    assert "a does not compile: no compiler" in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="no compiler"):
        list(bench.timed({("eager", "a"): broken}, TINY))


def test_main_writes_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the machine and the plan in the configuration; a part that is unknown is refused."""
    monkeypatch.setattr(bench, "PARTS", {"bench-memory": lambda plan: table(plan.repeats)})
    monkeypatch.setattr(bench, "keep_heap", lambda: False)
    monkeypatch.setattr(sys, "argv", ["bench", "--quick", "--folder", str(tmp_path)])
    bench.main()
    about = records.read("bench-memory", tmp_path).provenance["configuration"]
    assert about["plan"]["repeats"] == bench.QUICK.repeats
    assert {"seed", "cache_bytes", "kernel", "heap_kept"} <= set(about)
    assert about["processor"]
    assert about["cores"] >= 1
    monkeypatch.setattr(sys, "argv", ["bench", "nothing"])
    with pytest.raises(SystemExit):
        bench.main()


def table(value: float) -> pd.DataFrame:
    return pd.DataFrame({"value": [value]}, index=pd.Index(["a"], name="name"))


@pytest.mark.unmoved
def test_peak_of_a_known_operation() -> None:
    """Two results alive at once, one freed, and one within an operation: counted as they are."""
    x = torch.ones(10_000)
    size = x.numel() * 4

    def two_then_one() -> Tensor:
        first = x + x
        second = first + first
        del first
        return second.sum()

    assert footprint.peak(lambda: x + x) == size
    assert size * 2 <= footprint.peak(two_then_one) <= size * 2 + 64
    assert footprint.peak(lambda: x.add_(x)) == 0
    # Backward of x * x: the result of the sum's backward, and the two products.
    y = torch.ones(10_000, requires_grad=True)
    used = footprint.peak(lambda: torch.autograd.grad((y * y).sum(), y))
    assert 2 * size <= used <= 3 * size + 64
    # What is kept: softmax keeps its result, multiplication by a known tensor nothing of its own.
    x, w = calls.inputs((10, 100), torch.float32, seed=1)
    assert footprint.saved(lambda: x.softmax(-1), (x, w)) == 4000
    assert footprint.saved(lambda: x * w, (x, w)) == 0
    assert footprint.saved(lambda: x.exp().exp(), (x, w)) == 8000


def made_up(default: float = 1.0, total: float = 2.0, projected: float = 5.0) -> pd.DataFrame:
    """A grid on which Gumbel takes 10 s a call on every shape, the loss 0.5, a copy 0.25."""
    names = {GUMBEL: 10.0, "ReinMax (default)": default, "ILS (the note)": total}
    names |= {"ILS, projected": projected, LOSS: 0.5, cost.COPY: 0.25}
    rows = {
        ("float32", 2, *shape, "eager", name): (value, value * 0.8, value * 1.25)
        for shape in cost.SHAPES
        for name, value in names.items()
    }
    # A bandwidth of 16 bytes a second: the traffic of B x K entries takes B * K seconds.
    rows["float32", 2, 1, 100, "eager", cost.LARGE_COPY] = (100.0, 100.0, 100.0)
    levels = ["dtype", "threads", "batch", "categories", "mode", "contestant"]
    index = pd.MultiIndex.from_tuples(rows, names=levels)
    return pd.DataFrame(list(rows.values()), index=index, columns=["median", "low", "high"])


def made_up_memory() -> pd.DataFrame:
    units = {GUMBEL: (5, 0), "ReinMax (default)": (3, 4), "ILS (the note)": (4, 0)}
    rows = {
        ("float32", *shape, "eager", name): 4 * shape[0] * shape[1] * times + extra
        for shape in cost.SHAPES
        for name, (times, extra) in units.items()
    }
    levels = ["dtype", "batch", "categories", "mode", "contestant"]
    index = pd.MultiIndex.from_tuples(rows, names=levels)
    return pd.DataFrame({"peak": list(rows.values())}, index=index)


def test_ratios() -> None:
    """The median of the one over the median of the other, in the same cell."""
    rows = cost.cell(made_up(default=4.0))
    ratios = cost.against(rows)
    assert ratios.loc[64, 10, "eager", "ReinMax (default)"] == 2.5
    assert ratios.loc[1, 1_000_000, "eager", GUMBEL] == 1
    assert cost.span(ratios, "eager", "ILS, projected") == (2, 2)
    curve = cost.ratio_curves(
        rows, {"d": ("eager", "ReinMax (default)"), "absent": ("kernel", "ReinMax (default)")}
    )
    assert list(dict.fromkeys(curve.index.get_level_values("name"))) == ["d"]
    assert curve.loc[("d", "64 × 10")].round(9).tolist() == [2.5, 2.0, 3.125]
    # Of limits: bytes over bandwidth; the loss is taken off before.
    grid = made_up(default=640.5)
    assert cost.bandwidth(grid) == 16
    assert cost.traffic(64, 10) == 16 * 640
    over = cost.over_limit(grid).loc[64, 10, "eager", "ReinMax (default)"]
    assert over["memory"] == pytest.approx(1)
    assert over["copy"] == pytest.approx(640 / 0.25)
    units = cost.multiples(made_up_memory())
    assert units.loc["float32", 1, 1_000_000, "eager", "ILS (the note)"] == 4


def test_targets_are_of_what_is_timed() -> None:
    """Their contestants take part in their modes, and no two have one name."""
    for target in targets.TARGETS:
        assert contestant(target.contestant).fits(torch.float32, target.mode)
        assert contestant(target.against).fits(torch.float32, "eager")
        assert target.quantity in ("time", "memory")
    names = [target.name for target in targets.TARGETS]
    assert len(names) == len(set(names))


def test_targets_are_checked() -> None:
    """Met, missed and not measured are told apart, and what is missed is named."""
    grid = made_up(default=2.5)
    ten = grid.xs("ReinMax (default)", level="contestant", drop_level=False)
    ten = ten.rename({"ReinMax (default)": TEN_LINES}) * 0.8
    checked = targets.check(pd.concat([grid, ten]), made_up_memory())
    own = checked.xs("eager, over the ten lines")
    assert own["measured"].tolist() == [1.25] * 7
    assert not own["met"].any()
    gumbel = checked.xs("eager, over hard Gumbel")
    assert gumbel["measured"].tolist() == [0.25] * 7
    assert gumbel["met"].all()
    assert checked.xs("memory, ReinMax (default)")["met"].all()  # four bytes over 0.6: no matter
    assert not checked.xs("memory, ILS (the note)")["met"].any()
    assert checked.xs("kernel, over the ten lines")["measured"].isna().all()
    assert targets.count(checked, "eager") == (7, 14)
    assert targets.count(checked, "kernel") == (0, 0)
    lines = targets.misses(checked)
    assert "eager, over the ten lines, 256 × 1,000: 1.25, asked at most 1, 25% over" in lines
    assert len(lines) == 7 + 7
    shown = targets.summary(checked)
    assert shown.shape == (len(targets.TARGETS), len(cost.SHAPES))
    assert shown.loc["eager, over hard Gumbel (≤ 1)", "64 × 10"] == "0.25"
    assert shown.loc["eager, over the ten lines (≤ 1)", "64 × 10"] == "1.25\N{NO-BREAK SPACE}✗"
    assert shown.loc["kernel, over hard Gumbel (≤ 1)", "64 × 10"] == "–"
    assert list(shown.columns) == [cost.shape_text(*shape) for shape in cost.SHAPES]


def test_tables_for_the_page() -> None:
    """One column a shape, in the order of the grid; microseconds; ratios by mode."""
    grid = made_up(default=4.0)
    shown = cost.times(cost.cell(grid))
    assert list(shown.columns) == [cost.shape_text(*shape) for shape in cost.SHAPES]
    assert (
        shown.loc[("ReinMax (default)", "eager"), "64 × 10"] == "4,000,000 [3,200,000, 5,000,000]"
    )
    ratios = cost.modes(grid, ("ReinMax (default)",))
    assert ratios.loc[("ReinMax (default)", "eager", "float32", 2), "64 × 10"] == "2.5"
    rows = {
        ("categories", 10, 4, "eager", "ReinMax (default)"): 3.0,
        ("batch", 2, 10, "eager", "ReinMax (default)"): 5.0,
        ("batch", 2, 100, "eager", "ReinMax (default)"): 7.0,
    }
    levels = ["sweep", "batch", "categories", "mode", "contestant"]
    index = pd.MultiIndex.from_tuples(rows, names=levels)
    growth = pd.DataFrame({"median": list(rows.values())}, index=index)
    curves = cost.growth_curves(growth, {"d": ("eager", "ReinMax (default)")}, bandwidth=16.0)
    assert curves.loc[("a million entries", "d", 4), "seconds"] == 3
    assert curves.loc[("100 categories", "d", 2), "seconds"] == 7
    assert curves.loc[("10 categories", "traffic of the memory", 2), "seconds"] == 20
