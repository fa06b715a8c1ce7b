"""ils.sample: the draw forward, the gradient backward, and what it refuses."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from cases import close, draws, eye, generator, normal
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

import ils
from ils.draw import inverse_cdf
from ils.target import centred_gradient, intermediate_target, logits_gradient

NORMALIZERS = [ils.sum_normalize, ils.sum_normalize_unclamped, ils.project_simplex]
each_normalizer = pytest.mark.parametrize("normalizer", NORMALIZERS, ids=repr)
each_low_precision = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str
)

# A test that should pass fails by chance once in a million runs with a new seed.
ERROR_RATE = 1e-6


def p_value(index: Tensor, probs: Tensor) -> float:
    """Chi-square p-value of drawn categories against their law."""
    counts = torch.bincount(index, minlength=len(probs)).double()
    expected = probs / probs.sum() * len(index)
    assert expected.min() > 5
    return float(stats.chisquare(counts.numpy(), expected.numpy()).pvalue)


@pytest.mark.parametrize("categories", [3, 10, 50])
def test_forward_is_an_exact_draw(categories: int) -> None:
    """Values are 0 and 1, and the law is softmax: by its intervals, and by a chi-square test."""
    logits = normal(categories, seed=1)
    probs = logits.softmax(-1)

    # Exactly: the uniforms that give category k fill an interval of length p_k, ends and all.
    ends = probs.cumsum(-1) / probs.sum()
    begins = torch.cat([torch.zeros(1, dtype=torch.float64), ends[:-1]])
    slack = 1e-14  # rounding of the ends themselves
    assert inverse_cdf(probs.expand(categories, -1), begins + slack).tolist() == [
        *range(categories)
    ]
    assert inverse_cdf(probs.expand(categories, -1), ends - slack).tolist() == [*range(categories)]
    cells = 20_000
    grid = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
    measure = torch.bincount(inverse_cdf(probs.expand(cells, -1), grid), minlength=categories)
    assert ((measure / cells - probs).abs() <= 1.01 / cells).all()

    # By chance: 100,000 draws. A law whose odds are off by a tenth is found out.
    size = 100_000
    z = ils.sample(logits.expand(size, -1), step_size=0.1, generator=generator(2))
    assert z.unique().tolist() == [0.0, 1.0]
    assert torch.equal(z.sum(-1), torch.ones(size, dtype=torch.float64))
    assert p_value(z.argmax(-1), probs) > ERROR_RATE
    tilt = torch.where(torch.arange(categories) % 2 == 0, 0.05, -0.05).double()
    wrong = ils.sample((logits + tilt).expand(size, -1), step_size=0.1, generator=generator(2))
    assert p_value(wrong.argmax(-1), probs) < ERROR_RATE

    # The draw is the one that numpy finds from the same uniforms.
    uniform = torch.rand(size, dtype=torch.float64, generator=generator(2)).numpy()
    cumulative = np.cumsum(probs.numpy())
    expected = np.searchsorted(cumulative, uniform * cumulative[-1], side="right")
    assert z.argmax(-1).tolist() == expected.tolist()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("u", [0.0, 0.5, 1 - 2**-53])
def test_probability_zero_is_never_drawn(
    dtype: torch.dtype, u: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masked and underflowing categories stay out, whichever uniform number falls."""
    rand = torch.rand
    monkeypatch.setattr(torch, "rand", lambda *a, **k: torch.full_like(rand(*a, **k), u))
    logits = normal(200, 7, seed=3).to(dtype)
    logits[:, [0, 3, 6]] = -torch.inf
    logits[:, 5] = -2000.0
    index = ils.sample(logits, step_size=0.1, generator=generator()).argmax(-1)
    assert set(index.tolist()) <= {1, 2, 4}
    if u == 0:
        assert set(index.tolist()) == {1}
    if u > 0.9:
        assert set(index.tolist()) == {4}


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(
    batch=st.lists(st.integers(0, 3), max_size=3),
    categories=st.integers(1, 6),
    data=st.data(),
    seed=st.integers(0, 2**31),
)
def test_any_axis(batch: list[int], categories: int, data: st.DataObject, seed: int) -> None:
    """Categories along any axis are the same as moved to the last one, forward and backward."""
    moved = normal(*batch, categories, seed=seed)
    dim = data.draw(st.integers(-moved.dim(), moved.dim() - 1))
    last = moved.clone().requires_grad_()
    logits = moved.movedim(-1, dim).contiguous().requires_grad_()
    weights = normal(*batch, categories, seed=seed + 1)
    z = ils.sample(logits, step_size=0.3, dim=dim, generator=generator(seed))
    expected = ils.sample(last, step_size=0.3, generator=generator(seed))
    assert z.shape == logits.shape
    assert torch.equal(z.movedim(dim, -1), expected)
    (found,) = torch.autograd.grad((z.movedim(dim, -1) * weights).sum(), logits)
    (wanted,) = torch.autograd.grad((expected * weights).sum(), last)
    assert torch.equal(found.movedim(dim, -1), wanted)


def leaky(x: Tensor) -> Tensor:
    """A normaliser of one's own: neither smooth nor one of the given ones."""
    weights = torch.where(x > 0, x, -0.125 * x)
    return weights / weights.sum(-1, keepdim=True)


@pytest.mark.parametrize("normalizer", [*NORMALIZERS, leaky], ids=lambda h: h.__name__)
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("keep_mass", [False, True])
def test_gradient_is_the_stated_one(normalizer: Any, centred: bool, keep_mass: bool) -> None:
    """Backward hands on exactly the formula of the target, for every combination of options."""
    logits = normal(4, 5, 3, seed=4).requires_grad_()
    options = {"step_size": 0.4, "normalizer": normalizer, "keep_mass": keep_mass}
    z = ils.sample(logits, centred=centred, generator=generator(5), **options)
    weights = normal(4, 5, 3, seed=6)
    loss = (weights * (z - 0.2) ** 3).sum()
    loss.backward()
    hard, probs = z.detach(), logits.detach().softmax(-1)
    target = intermediate_target(hard, 3 * weights * (hard - 0.2) ** 2, **options)
    gradient = centred_gradient if centred else logits_gradient
    assert logits.grad is not None
    assert close(logits.grad, gradient(target, probs, hard))
    # The same from a draw that is already there, which passes through unchanged.
    again = logits.detach().clone().requires_grad_()
    attached = ils.differentiable_draw(again, hard, centred=centred, **options)
    assert torch.equal(attached, hard)
    (weights * (attached - 0.2) ** 3).sum().backward()
    assert torch.equal(again.grad, logits.grad)


def test_options_matter() -> None:
    """No two combinations of options hand on the same gradient, so none is ignored."""
    hard, weights = draws(30, 4, seed=7), normal(30, 4, seed=8)
    found = []
    for normalizer, centred, keep_mass, step_size in itertools.product(
        [*NORMALIZERS, leaky], (False, True), (False, True), (0.2, 0.4)
    ):
        if keep_mass and normalizer is ils.project_simplex:
            continue  # its step keeps the mass anyway
        logits = normal(30, 4, seed=9).requires_grad_()
        z = ils.differentiable_draw(
            logits,
            hard,
            step_size=step_size,
            normalizer=normalizer,
            centred=centred,
            keep_mass=keep_mass,
        )
        found.append(torch.autograd.grad((z * weights).sum(), logits)[0])
    for one, other in itertools.combinations(found, 2):
        assert (one - other).abs().max() > 1e-3


@each_normalizer
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("keep_mass", [False, True])
@pytest.mark.parametrize("poison", [0.0, torch.inf, torch.nan])
def test_masked_categories(
    normalizer: ils.Normalizer, centred: bool, keep_mass: bool, poison: float
) -> None:
    """A category of -inf is never drawn, has gradient exactly zero, and might as well be absent."""
    kept, masked = [1, 2, 4], [0, 3, 5]
    logits = normal(300, 6, seed=10)
    logits[:, masked] = -torch.inf
    small = logits[:, kept].clone().requires_grad_()
    logits.requires_grad_()
    options = {
        "step_size": 0.4,
        "normalizer": normalizer,
        "centred": centred,
        "keep_mass": keep_mass,
    }
    z = ils.sample(logits, generator=generator(11), **options)
    few = ils.sample(small, generator=generator(11), **options)
    assert torch.equal(z[:, masked], torch.zeros(300, 3, dtype=torch.float64))
    assert torch.equal(z[:, kept], few)
    upstream = normal(300, 6, seed=12)
    upstream[:, masked] = poison
    (found,) = torch.autograd.grad(z, logits, upstream)
    (expected,) = torch.autograd.grad(few, small, upstream[:, kept])
    assert torch.equal(found[:, masked], torch.zeros(300, 3, dtype=torch.float64))
    assert close(found[:, kept], expected)
    assert expected.abs().max() > 0.1


@pytest.mark.parametrize("centred", [False, True])
def test_masked_categories_of_a_careless_normaliser(centred: bool) -> None:
    """The gradient of a masked category is zero even where the normaliser gives it mass."""

    def careless(x: Tensor) -> Tensor:
        floor = x.clamp(min=1e-4)
        return floor / floor.sum(-1, keepdim=True)

    logits = torch.tensor([0.5, -torch.inf, 0.0, 1.0], dtype=torch.float64, requires_grad=True)
    for hard in eye(4)[[0, 2, 3]]:
        z = ils.differentiable_draw(
            logits, hard, step_size=0.1, normalizer=careless, centred=centred
        )
        (found,) = torch.autograd.grad((z * normal(4, seed=32)).sum(), logits)
        assert found[1] == 0
        assert found.abs().max() > 1e-5


@each_normalizer
@pytest.mark.parametrize("centred", [False, True])
def test_one_category(normalizer: ils.Normalizer, centred: bool) -> None:
    """With a single category it is drawn, and its gradient is zero, masked others or not."""
    for logits in (normal(5, 1, seed=13), torch.tensor([[-torch.inf, 2.0, -torch.inf]]).double()):
        logits.requires_grad_()
        z = ils.sample(logits, step_size=3.0, normalizer=normalizer, centred=centred)
        assert torch.equal(z, (~logits.isneginf()).double())
        (found,) = torch.autograd.grad((z * normal(*z.shape, seed=14)).sum(), logits)
        assert torch.equal(found, torch.zeros_like(logits))


@each_normalizer
@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3)])
def test_empty_batch(normalizer: ils.Normalizer, shape: tuple[int, ...]) -> None:
    """No rows in, no rows out, forward and backward."""
    logits = torch.zeros(shape, requires_grad=True)
    z = ils.sample(logits, step_size=0.1, normalizer=normalizer)
    z.sum().backward()
    assert z.shape == shape
    assert logits.grad is not None
    assert logits.grad.shape == shape


@each_normalizer
@each_low_precision
@pytest.mark.parametrize("keep_mass", [False, True])
def test_extreme_logits(normalizer: ils.Normalizer, dtype: torch.dtype, keep_mass: bool) -> None:
    """Logits of ten thousand give numbers, forward and backward, and the draw of the largest."""
    rows = [[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, -torch.inf], [1e-4, 1e4, 3.0]]
    logits = torch.tensor(rows, dtype=dtype).repeat(50, 1).requires_grad_()
    z = ils.sample(
        logits, step_size=0.3, normalizer=normalizer, keep_mass=keep_mass, generator=generator(15)
    )
    assert z.dtype == dtype
    assert torch.equal(z.detach().float().sum(-1), torch.ones(200))
    assert z[0::4, 0].eq(1).all()
    assert z[3::4, 1].eq(1).all()
    assert {tuple(row) for row in z[2::4].tolist()} == {(1.0, 0.0, 0.0), (0.0, 1.0, 0.0)}
    (z * torch.tensor([1.0, -2.0, 0.5], dtype=dtype)).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[2::4, 2].eq(0).all()
    assert logits.grad[0::4].abs().max() > 0.1


@each_normalizer
@each_low_precision
def test_low_precision_agrees_with_double(normalizer: ils.Normalizer, dtype: torch.dtype) -> None:
    """The gradient in a short type is that of float64 to a few units in the last place."""
    hard, weights = draws(40, 6, seed=16).to(dtype), normal(40, 6, seed=17).to(dtype)
    found = []
    for kind in (dtype, torch.float64):
        logits = normal(40, 6, seed=18).to(dtype).to(kind).requires_grad_()
        # A step small enough that the sum of the unclamped form stays away from zero.
        z = ils.differentiable_draw(logits, hard.to(kind), step_size=0.02, normalizer=normalizer)
        found.append(torch.autograd.grad((z * weights.to(kind)).sum(), logits)[0].double())
    assert close(found[0], found[1], 8 * torch.finfo(dtype).eps)


def test_generator_is_the_only_source() -> None:
    """The same generator state gives the same draw, and the global state does not move."""
    logits = normal(100, 4, seed=19)
    before = torch.get_rng_state()
    own = generator(20)
    first = ils.sample(logits, step_size=0.1, generator=own)
    second = ils.sample(logits, step_size=0.1, generator=own)
    again = ils.sample(logits, step_size=0.1, generator=generator(20))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_default_source_is_pytorchs_own() -> None:
    """Without a generator the draw follows, and moves, the global state."""
    logits = normal(100, 4, seed=19)
    with torch.random.fork_rng(devices=[]):
        state = torch.get_rng_state()
        first = ils.sample(logits, step_size=0.1)
        second = ils.sample(logits, step_size=0.1)
        torch.set_rng_state(state)
        assert torch.equal(ils.sample(logits, step_size=0.1), first)
        assert not torch.equal(first, second)


def test_backward_needs_no_randomness() -> None:
    """Twice through one graph gives one gradient; the logits and the draw are left as they were."""
    logits = normal(20, 4, seed=21).requires_grad_()
    kept = logits.detach().clone()
    z = ils.sample(logits, step_size=0.1, generator=generator(22))
    hard = z.detach().clone()
    loss = (z * normal(20, 4, seed=23)).sum()
    before = torch.get_rng_state()
    (first,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (second,) = torch.autograd.grad(loss, logits)
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(logits, kept)
    assert torch.equal(z, hard)


def test_a_draw_in_place_is_not_touched() -> None:
    """What is attached is a copy: changing the result in place leaves the caller's draw alone."""
    logits, hard = normal(3, 4, seed=24).requires_grad_(), draws(3, 4, seed=25)
    kept = hard.clone()
    z = ils.differentiable_draw(logits, hard, step_size=0.1)
    z.mul_(2)
    assert torch.equal(hard, kept)
    z.sum().backward()


def test_no_gradient_where_none_is_wanted() -> None:
    """Logits without a gradient give a draw without one; so does no_grad."""
    logits = normal(3, 4, seed=26)
    assert not ils.sample(logits, step_size=0.1).requires_grad
    with torch.no_grad():
        assert not ils.sample(logits.requires_grad_(), step_size=0.1).requires_grad


def test_second_derivative_is_refused() -> None:
    """The gradient is no function's derivative; to differentiate it again is an error, not zero."""
    logits = normal(3, 4, seed=27).requires_grad_()
    z = ils.sample(logits, step_size=0.1)
    (first,) = torch.autograd.grad((z**2 * normal(3, 4, seed=28)).sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match=r"differentiate twice.*once_differentiable"):
        first.pow(2).sum().backward()


ROW = torch.zeros(2, 3)

BAD_INPUT: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "list": ([0.0, 1.0], {}, TypeError, "logits: expected a torch.Tensor, got list"),
    "integers": (torch.zeros(2, 3).long(), {}, TypeError, r"logits: .* got torch\.int64"),
    "bools": (torch.zeros(2, 3).bool(), {}, TypeError, r"logits: .* got torch\.bool"),
    "complex": (ROW + 0j, {}, TypeError, r"logits: .* got torch\.complex64"),
    "scalar": (torch.tensor(0.0), {}, ValueError, "logits: .* got a scalar"),
    "no category": (torch.zeros(2, 0), {}, ValueError, r"logits: .* got shape \(2, 0\)"),
    "no category, first axis": (
        torch.zeros(0, 2),
        {"dim": 0},
        ValueError,
        r"logits: .* along dim 0, got shape \(0, 2\)",
    ),
    "NaN": (torch.tensor([0.0, torch.nan]), {}, ValueError, "logits: .* got NaN"),
    "NaN beside infinities": (
        torch.tensor([[torch.inf, -torch.inf], [torch.nan, 0.0]]),
        {},
        ValueError,
        "logits: .* got NaN",
    ),
    "+inf": (torch.tensor([0.0, torch.inf]), {}, ValueError, r"logits: .* got \+inf"),
    "row of -inf": (
        torch.tensor([[0.0, 1.0], [-torch.inf, -torch.inf]]),
        {},
        ValueError,
        "logits: .* got a row of -inf",
    ),
    "column of -inf": (
        torch.tensor([[0.0, -torch.inf], [0.0, -torch.inf]]),
        {"dim": 0},
        ValueError,
        "logits: .* got a row of -inf",
    ),
    "dim too high": (ROW, {"dim": 2}, ValueError, "dim: expected an axis of a 2-d tensor, got 2"),
    "dim too low": (ROW, {"dim": -3}, ValueError, "dim: .* got -3"),
    "step 0": (ROW, {"step_size": 0.0}, ValueError, r"step_size: .* got 0\.0"),
    "step negative": (ROW, {"step_size": -0.5}, ValueError, r"step_size: .* got -0\.5"),
    "step NaN": (ROW, {"step_size": float("nan")}, ValueError, "step_size: .* got nan"),
    "step inf": (ROW, {"step_size": float("inf")}, ValueError, "step_size: .* got inf"),
    "step bool": (ROW, {"step_size": True}, TypeError, "step_size: .* got bool"),
    "step str": (ROW, {"step_size": "0.1"}, TypeError, "step_size: .* got str"),
    "step None": (ROW, {"step_size": None}, TypeError, "step_size: .* got NoneType"),
    "normalizer str": (ROW, {"normalizer": "sum"}, TypeError, "normalizer: .* got str"),
    "normalizer shortens": (
        ROW,
        {"normalizer": lambda x: x[..., :2]},
        ValueError,
        r"normalizer: its output: expected shape \(2, 3\), got \(2, 2\)",
    ),
    "normalizer moves corners": (
        ROW,
        {"normalizer": lambda x: x.softmax(-1)},
        ValueError,
        r"normalizer: .* largest difference of 0\.424",
    ),
    "normalizer moves the last corner": (
        ROW,
        {"normalizer": lambda x: x * torch.tensor([1.0, 1.0, 0.75])},
        ValueError,
        r"normalizer: .* largest difference of 0\.25",
    ),
    "normalizer gives NaN": (
        ROW,
        {"normalizer": lambda x: x / (x * 0)},
        ValueError,
        r"normalizer: .* largest difference of nan",
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input(case: str) -> None:
    """Each is refused before anything is drawn, by its name and with what came."""
    logits, options, error, message = BAD_INPUT[case]
    own = generator(29)
    state = own.get_state()
    with pytest.raises(error, match=message):
        ils.sample(logits, **({"step_size": 0.1, "generator": own} | options))
    assert torch.equal(own.get_state(), state)
    if "dim" not in options:
        with pytest.raises(error, match=message):
            ils.differentiable_draw(logits, torch.eye(3)[:2], **({"step_size": 0.1} | options))


@pytest.mark.parametrize(
    ("z", "error", "message"),
    [
        (torch.zeros(2, 2), ValueError, r"z: expected shape \(2, 3\), got \(2, 2\)"),
        (torch.zeros(3), ValueError, r"z: expected shape \(2, 3\), got \(3,\)"),
        (torch.zeros(2, 3).long(), TypeError, r"z: .* got torch\.int64"),
        ([[1.0, 0.0, 0.0]] * 2, TypeError, "z: expected a torch.Tensor, got list"),
    ],
    ids=["narrow", "one row", "integers", "list"],
)
def test_bad_input_draw(z: Any, error: type[Exception], message: str) -> None:
    """A draw of another shape, or that can carry no gradient, is refused."""
    with pytest.raises(error, match=message):
        ils.differentiable_draw(torch.zeros(2, 3, requires_grad=True), z, step_size=0.1)


@pytest.mark.parametrize("step_size", [1, np.float64(0.5), np.float32(0.5)], ids=repr)
def test_real_numbers_of_any_kind_are_steps(step_size: Any) -> None:
    """An integer and a numpy number are real numbers."""
    logits = torch.zeros(3, requires_grad=True)
    z = ils.differentiable_draw(logits, torch.eye(3)[0], step_size=step_size)
    (z * torch.tensor([1.0, 0.0, 0.0])).sum().backward()
    share = float(step_size) / (1 + 2 * float(step_size))
    expected = torch.tensor([1 / 3 - 1 + 2 * share, 1 / 3 - share, 1 / 3 - share])
    assert close(logits.grad, expected, 1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiles() -> None:
    """The operator traces without a break; the compiled gradient is that of the draw it made."""
    compiled = torch.compile(
        lambda x: ils.sample(x, step_size=0.3), backend="eager", fullgraph=True
    )
    logits, weights = normal(6, 4, seed=30).requires_grad_(), normal(6, 4, seed=31)
    z = compiled(logits)
    (found,) = torch.autograd.grad((z * weights).sum(), logits)
    hard = z.detach()
    assert torch.equal(hard, eye(4)[hard.argmax(-1)])
    target = intermediate_target(hard, weights, step_size=0.3)
    assert close(found, logits.detach().softmax(-1) - target)
