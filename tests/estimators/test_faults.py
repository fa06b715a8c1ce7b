"""What broke for others: half types, extremes, masks, NaN, empty batches, shapes without values."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import close, generator, normal
from factories import (
    BINARY,
    JOINT,
    SAID,
    TEMPERATURES,
    each_factory,
    loss_for,
    make,
    options_of,
    problem,
    shape_of,
)
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from ils import estimators, exact
from ils.estimators import randomness as kinds
from ils.estimators.evaluation import widened
from ils.exact import Loss

INF = float("inf")
HALF = (torch.float16, torch.bfloat16)
TYPES = (*HALF, torch.float32, torch.float64)

# --- types and extremes


ROWS = {
    "ordinary": [[0.3, -1.0, 0.5, 1.2], [0.0, 0.7, -0.4, 0.1]],
    "far apart": [[1e4, -1e4, 0.0, 1e4], [1e4, 9999.0, -1e4, 9998.0]],
    "high": [[6e4, 59968.0, -6e4, 6e4], [6e4] * 4],
    "low": [[-1e4] * 4, [-6e4, -6e4, -59968.0, -6e4]],
    "masked": [[0.0, 1.0, -INF, 2.0], [1e4, -INF, -INF, -INF]],
    "equal": [[0.0] * 4, [3.0] * 4],
}


def in_double(noise: Any) -> Any:
    return tuple(map(in_double, noise)) if isinstance(noise, tuple) else noise.double()


def variants(name: str) -> list[dict[str, Any]]:
    """The defaults, and low and high temperatures."""
    said = options_of(name)
    found: list[dict[str, Any]] = [{}]
    for option in said:
        if option in TEMPERATURES:
            found += [{option: value} for value in (1e-30, 1e-3, 1e4)]
    if name == "gapped_straight_through":
        found.append({"gap": None})
    return found


@each_factory
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_types_and_extremes(name: str, dtype: torch.dtype) -> None:
    """At the same noise the estimates are those in float64, to the precision of the type."""
    for rows, options in ((rows, options) for rows in ROWS for options in variants(name)):
        if name in JOINT and rows in ("far apart", "masked"):
            continue  # fewer states of positive probability than are drawn
        logits = torch.tensor(ROWS[rows], dtype=dtype)[:, : shape_of(name)[-1]]
        if name in BINARY and rows == "masked":
            logits = logits.flip(0)
        loss = loss_for(normal(2, 4, seed=3)[:, : logits.shape[-1]].to(dtype))
        found = make(name, **options)(logits, loss, draws=16, generator=generator(2))
        assert found.dtype == dtype
        work, wide = widened(logits, loss)
        estimator = make(name, **options)
        noise = in_double(estimator.randomness.sample(work, 16, generator(2), 0))

        def rounded(z: Tensor, kind: Any = work.dtype, wide: Loss = wide) -> Tensor:
            return wide(z.to(kind)).double()

        right = estimator.formula(logits.double(), noise, rounded).detach()
        held = right.abs() < torch.finfo(dtype).max
        assert found[held].isfinite().all(), (rows, options)
        unit = right.abs().amax((-1, -2), keepdim=True) + 1e-3
        off = ((found.double() - right).abs() / unit).where(held, 0)
        # The rounding of a score is divided by the temperature; half types round the draw too.
        low = 400 if 1e-3 in options.values() else 1
        wanted = 1000 * low * torch.finfo(work.dtype).eps + 8 * torch.finfo(dtype).eps
        assert float(off.max()) < wanted, (rows, options, float(off.max()))


@each_factory
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_steps(name: str, dtype: torch.dtype) -> None:
    """Short and long steps, and steep and flat losses, give finite estimates."""
    for option in ("step_size", "initial_step", "update"):
        if option not in options_of(name):
            continue
        for step, slope in ((1e-3, 1e3), (1e-3, 1e-3), (1e4, 1e3), (1e4, 1e-3)):
            logits = normal(3, 4, seed=1).mul(3).to(dtype)
            weights = normal(3, 4, seed=2).mul(slope).to(dtype)
            loss: Loss = lambda z, w=weights: (z * w).sum((-1, -2))  # noqa: E731
            found = make(name, **{option: step})(logits, loss, draws=9, generator=generator(1))
            assert found.isfinite().all()


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_exact_sums_of_half_types(dtype: torch.dtype) -> None:
    """Moments are worked on in float32: right to the rounding of the result."""
    logits, weights = normal(2, 4, seed=1).to(dtype), normal(2, 4, seed=2).to(dtype)
    loss = loss_for(weights)
    double, exactly = logits.double(), lambda z: loss(z.to(dtype)).double()
    eps = torch.finfo(dtype).eps
    pairs = [
        (exact.expectation(loss, logits), exact.expectation(exactly, double)),
        (exact.gradient(loss, logits), exact.gradient(exactly, double)),
    ]
    for estimator in (estimators.darn(), estimators.score_function()):
        found = exact.moments(estimator, loss, logits)
        wanted = exact.moments(estimator, exactly, double)
        pairs += [(getattr(found, k), getattr(wanted, k)) for k in ("mean", "variance", "cosine")]
    for one, other in pairs:
        assert one.dtype == dtype
        assert float((one.double() - other).abs().max()) < 4 * eps * (1 + float(other.abs().max()))


# --- masks


BY_CATEGORY = [
    (name, {})
    for name, (_, said, _) in SAID.items()
    if isinstance(said[1], kinds.Draw | kinds.Gumbel | kinds.Deterministic | kinds.Exponential)
] + [("gapped_straight_through", {"gap": None})]


def without(noise: Any, place: int) -> Any:
    """Noise of four categories without that of one of them."""
    if isinstance(noise, tuple):
        return tuple(without(part, place) for part in noise)
    kept = [k for k in range(4) if k != place]
    return noise[..., kept] if noise.shape[-1] == 4 else noise


@pytest.mark.parametrize(("name", "options"), BY_CATEGORY)
@pytest.mark.parametrize("place", [0, 2, 3])
def test_a_masked_category_is_as_if_it_were_not_there(
    name: str, options: dict[str, None], place: int
) -> None:
    """With the same noise for the others, the estimates are those of the smaller problem."""
    logits, weights = normal(3, 4, seed=1), normal(3, 4, seed=2)
    logits[:, place] = -INF
    kept = [k for k in range(4) if k != place]

    def loss_of(weights: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda z: ((z * weights).sum((-1, -2)) - 0.4) ** 3

    noise = make(name).randomness.sample(logits, 20, generator(3), 0)
    found, smaller = (
        make(name, **options, **({"surrogate": loss_of(w)} if name == "relax" else {}))
        for w in (weights, weights[:, kept])
    )
    full = found.formula(logits, noise, loss_of(weights))
    part = smaller.formula(logits[:, kept], without(noise, place), loss_of(weights[:, kept]))
    assert not full[..., place].any()
    assert close(full[..., kept], part, 1e-10)
    if not isinstance(found.randomness, kinds.Deterministic):
        assert part.any()


class Spoil(torch.autograd.Function):
    """Nothing forward; backward, one entry of a category of each draw is not what it was."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, entry: tuple[Any, ...], bad: float) -> Tensor:
        ctx.entry, ctx.bad = entry, bad
        return z.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        grad = grad.clone()
        grad[ctx.entry] = ctx.bad
        return grad, None, None


@each_factory
def test_a_masked_category_hides_what_is_not_finite(name: str) -> None:
    """What cannot be drawn has the gradient zero, and what the loss says of it no influence."""
    logits, plain = problem(name, 3, 2)
    logits[0, :, 1] = -INF
    entry = (slice(None), 0, slice(None), 1)
    found = make(name)(logits, plain, draws=50, generator=generator(1))
    assert found.isfinite().all()
    assert not found[entry].any()
    assert found[:, 1:].any()
    if make(name).differentiates:
        spoilt: Loss = lambda z: plain(Spoil.apply(z, entry, torch.nan))  # noqa: E731
        assert torch.equal(found, make(name)(logits, spoilt, draws=50, generator=generator(1)))


# --- NaN and inf from above


@each_factory
@pytest.mark.parametrize("kind", ["value", "gradient", "both"])
@pytest.mark.parametrize("bad", [float("nan"), INF, -INF])
@pytest.mark.parametrize("categories", [4, 20])
def test_not_finite_from_above(name: str, kind: str, bad: float, categories: int) -> None:
    """The estimates of the example are not finite, all others are what they were."""
    categories = 2 if name in BINARY else categories
    estimator = make(name)
    if kind == "gradient" and not estimator.differentiates:
        return
    logits, plain = normal(3, 2, categories, seed=1), loss_for(normal(2, categories, seed=2))

    def spoilt(z: Tensor) -> Tensor:
        values = plain(Spoil.apply(z, (slice(None), 1, 0, 1), bad) if kind != "value" else z)
        if kind != "gradient":
            values = values + torch.tensor([0.0, bad, 0.0], dtype=values.dtype)
        return values

    found = estimator(logits, spoilt, draws=4, generator=generator(1))
    right = make(name)(logits, plain, draws=4, generator=generator(1))
    assert torch.equal(found[:, [0, 2]], right[:, [0, 2]])
    assert not found[:, 1].isfinite().flatten(1).all(-1).any()
    # What the estimator has learnt is not spoilt either.
    assert estimator(logits, plain, draws=4, generator=generator(2))[:, [0, 2]].isfinite().all()
    assert estimator(logits, plain, draws=4, generator=generator(2)).isfinite().all()


# --- shapes


@each_factory
def test_empty_batches(name: str) -> None:
    """No examples, or no variables, have no estimates, and leave what is learnt as it is."""
    estimator = make(name)
    before = copy.deepcopy(estimator)
    for axes in ((0, 2), (2, 0, 2)):
        logits = torch.zeros(shape_of(name, *axes))
        for dims in (None, len(axes) - 1):
            loss: Loss = lambda z: (z**2).sum((-1, -2))  # noqa: E731
            found = estimator(logits, loss, draws=3, generator=generator(1), batch_dims=dims)
            assert found.shape == (3, *logits.shape)
    none = torch.zeros(shape_of(name, 2, 0))
    if name not in JOINT:  # of no variables there is one joint state
        found = estimator(none, lambda z: (z**2).sum((-1, -2)), draws=3, batch_dims=1)
        assert found.shape == (3, *none.shape)
        assert make(name)(none, lambda z: (z**2).sum((-1, -2))).shape == (1, *none.shape)
        estimator = copy.deepcopy(before)
    assert estimator == before
    logits = torch.zeros(shape_of(name, 0, 2))
    assert exact.expectation(lambda z: z.sum((-1, -2)), logits).shape == (0,)
    assert exact.gradient(lambda z: z.sum((-1, -2)), logits).shape == logits.shape
    try:
        quality = exact.moments(estimator, lambda z: z.sum((-1, -2)), logits)
    except ValueError as error:
        assert "finite randomness" in str(error)  # noqa: PT017
    else:
        assert quality.mean.shape == logits.shape
        assert quality.variance.shape == (0,)


@each_factory
def test_no_values(name: str) -> None:
    """Shapes without values, on the device ``meta`` and faked, go through."""
    shape = shape_of(name, 3, 2)

    def loss(z: Tensor) -> Tensor:
        return (z**2).sum((-1, -2))

    for dims in (None, 1):
        estimator = make(name)
        found = estimator(torch.zeros(shape, device="meta"), loss, draws=5, batch_dims=dims)
        assert found.is_meta
        assert found.shape == (5, *shape)
        with FakeTensorMode():
            faked = estimator(torch.zeros(shape), loss, draws=5, batch_dims=dims)
        assert isinstance(faked, FakeTensor)
        assert faked.shape == (5, *shape)
        assert estimator == make(name)
