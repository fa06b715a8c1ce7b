"""What broke for others: copies, batches, graphs, half types, extremes, NaN, empty batches."""

from __future__ import annotations

import copy
import gc
import math
import pickle
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from cases import generator, normal
from test_signatures import BINARY, SAID, factory
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

import ils
from ils import exact
from ils.estimators import Estimator
from ils.estimators.evaluation import widened
from ils.estimators.perturbation import AdaptiveStep
from ils.estimators.score_function import RunningBaseline
from ils.exact import Loss
from ils.relaxation import hardened, levelled, tempered

INF = float("inf")
JOINT = ("sum_and_sample", "unordered_set")
LEARNING = ("adaptive_implicit_mle", "score_function_running")
each_factory = pytest.mark.parametrize("name", SAID)
HALF = (torch.float16, torch.bfloat16)
TYPES = (*HALF, torch.float32, torch.float64)


def bowl(y: Tensor) -> Tensor:
    """A surrogate for RELAX that can be pickled, of problems with two axes."""
    return (y**2).sum((-1, -2))


def make(name: str, **options: Any) -> Estimator:
    surrogate = {"surrogate": bowl} if name == "relax" else {}
    return factory(name)(**{**SAID[name][0], **surrogate, **options})


def shape_of(name: str, *axes: int) -> tuple[int, ...]:
    return (*axes, 2 if name in BINARY else 4)


def loss_for(weights: Tensor) -> Loss:
    """A cubic loss over the last two axes."""
    return lambda z: ((z * weights.to(z)).sum((-1, -2)) - 0.4) ** 3


# --- estimators are values ---------------------------------------------------------------------


@each_factory
def test_copies(name: str) -> None:
    """Pickled, copied and made anew, an estimator is equal and gives the same estimates."""
    one = make(name)
    logits, loss = normal(*shape_of(name, 3, 2), seed=1), loss_for(normal(2, 1, seed=2))
    one(logits, loss, draws=3, generator=generator(1))
    learnt = one.randomness == make(name).randomness and name in LEARNING
    assert (make(name) == one) is not learnt
    assert hash(make(name)) == hash(one)
    for other in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one), copy.copy(one)):
        assert other == one
        assert hash(other) == hash(one)
        assert repr(other) == repr(one)
        states = (generator(2), generator(2))
        found, again = (
            e(logits, loss, draws=5, generator=g)
            for e, g in zip((copy.deepcopy(one), other), states, strict=True)
        )
        assert torch.equal(found, again)
    assert len({one, make(name)}) == 1 + learnt


@each_factory
def test_other_options_are_another_value(name: str) -> None:
    """An option that differs makes another estimator; another method is another one anyhow."""
    assert len({make(other).formula for other in SAID}) == len(SAID)
    assert make(name) != "estimator"
    assert make(name).formula != "formula"
    for option, value in {**SAID[name][0], **SAID[name][2]}.items():
        if isinstance(value, bool):
            changed: Any = not value
        elif isinstance(value, int):
            changed = value + 1
        elif isinstance(value, float):
            changed = value / 2 + 0.1
        else:
            continue
        other = make(name, **{option: changed})
        assert other != make(name), option
        assert other == make(name, **{option: changed})


def test_what_is_learnt_is_copied() -> None:
    """A copy has the state of the first, and learns for itself."""
    logits, loss = normal(3, 2, 4, seed=1), loss_for(normal(2, 4, seed=2))
    for name in LEARNING:
        one = make(name)
        one(logits, loss, draws=3, generator=generator(1))
        for other in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
            other(logits, loss, draws=3, generator=generator(2))
            assert other != one
            one_more = copy.deepcopy(one)
            one_more(logits, loss, draws=3, generator=generator(2))
            assert other == one_more
    tensor = ils.estimators.score_function(baseline=torch.tensor([1.0, 2.0]))
    assert tensor == ils.estimators.score_function(baseline=torch.tensor([1.0, 2.0]))
    assert tensor != ils.estimators.score_function(baseline=torch.tensor([1.0, 3.0]))
    assert tensor != ils.estimators.score_function(baseline=torch.tensor([1.0, 2.0]).double())
    assert tensor != ils.estimators.score_function(baseline=1.0)
    assert hash(tensor) == hash(pickle.loads(pickle.dumps(tensor)))
    own = ils.estimators.score_function_running(own_dims=1)
    own(logits, loss, generator=generator(1))
    assert copy.deepcopy(own) == own != ils.estimators.score_function_running(own_dims=1)


# --- which axes are problems -------------------------------------------------------------------


@each_factory
def test_a_loss_that_averages_over_the_batch(name: str) -> None:
    """Values for each example are asked for by ``batch_dims``; a scalar is refused anyhow."""
    logits, loss = normal(*shape_of(name, 3, 2), seed=1), loss_for(normal(2, 1, seed=2))
    estimator = make(name)
    right = estimator(logits, loss, draws=3, generator=generator(1), batch_dims=1)
    again = make(name)(logits, loss, draws=3, generator=generator(1))
    assert torch.equal(right, again)
    wrong: tuple[Loss, ...] = (
        lambda z: loss(z).mean(-1),
        lambda z: loss(z).mean(-1, keepdim=True),
        lambda z: loss(z).mean(),
        lambda z: loss(z).unsqueeze(-1),
        lambda z: loss(z)[:1] if len(z) > 1 else loss(z).mean(),
    )
    for other in wrong:
        with pytest.raises(ValueError, match=r"^loss: expected one value a draw"):
            estimator(logits, other, draws=3, generator=generator(1), batch_dims=1)
    with pytest.raises(ValueError, match=r"^loss: .*\(\d+, 3\), got \(\d+,\)$"):
        estimator(logits, wrong[0], draws=3, generator=generator(1), batch_dims=1)
    for number, error in ((-1, ValueError), (3, ValueError), (True, TypeError), (1.0, TypeError)):
        with pytest.raises(error, match=r"^batch_dims: expected "):
            estimator(logits, loss, batch_dims=number)


def test_exact_holds_the_loss_to_the_batch() -> None:
    """So do the exact sums."""
    logits, loss = normal(3, 2, 4, seed=1), loss_for(normal(2, 4, seed=2))
    mean: Loss = lambda z: loss(z).mean(-1)  # noqa: E731
    estimator = ils.estimators.darn()
    assert torch.equal(
        exact.expectation(loss, logits, batch_dims=1), exact.expectation(loss, logits)
    )
    for held in (
        lambda: exact.expectation(mean, logits, batch_dims=1),
        lambda: exact.gradient(mean, logits, batch_dims=1),
        lambda: exact.moments(estimator, mean, logits, batch_dims=1),
    ):
        with pytest.raises(ValueError, match=r"^loss: expected .* got \(64,\)|\(16,\)$"):
            held()
    with pytest.raises(ValueError, match=r"^batch_dims: expected at most 2 "):
        exact.expectation(loss, logits, batch_dims=3)


class Decoder(nn.Module):
    """Values of examples behind batch normalisation."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2 * shape_of(name)[-1], dtype=torch.float64)
        self.calls = 0
        self.draws = 0

    def forward(self, z: Tensor) -> Tensor:
        y = self.norm(z.flatten(0, 1).flatten(1)) + z.flatten(0, 1).flatten(1)
        return (y**2).sum(-1).unflatten(0, z.shape[:2])

    def counted(self, z: Tensor) -> Tensor:
        self.calls += 1
        self.draws += len(z)
        return self(z)


# How often the loss is called; the draws of one call are shown together.
CALLS = {"arm": 2, "disarm": 2, "disarm_categorical": 2, "muprop": 2, "rebar": 3}


@each_factory
def test_the_loss_is_called_as_often_as_said(name: str) -> None:
    """As many draws as the table says, in as many calls; the statistics move with each call."""
    logits, decoder = normal(*shape_of(name, 3, 2), seed=1), Decoder(name)
    estimator = make(name)
    estimator(logits, decoder.counted, draws=4, generator=generator(1), batch_dims=1)
    assert decoder.draws == 4 * estimator.evaluations
    assert decoder.calls == CALLS.get(name, 1)
    assert int(decoder.norm.num_batches_tracked) == decoder.calls
    # Who does not say how many axes count problems has nothing evaluated for it either.
    other = Decoder(name)
    make(name)(logits, other, draws=4, generator=generator(1))
    assert int(other.norm.num_batches_tracked) == decoder.calls
    assert torch.equal(other.norm.running_mean, decoder.norm.running_mean)
    assert torch.equal(other.norm.running_var, decoder.norm.running_var)


@pytest.mark.parametrize("name", JOINT)
def test_losses_that_look_at_values(name: str) -> None:
    """They are asked to say how many axes count problems; of one axis there is no question."""
    logits, plain = normal(3, 2, 4, seed=1), loss_for(normal(2, 4, seed=2))

    def looking(z: Tensor) -> Tensor:
        assert float(z.sum()) > 0
        return plain(z)

    with pytest.raises(ValueError, match=r"^batch_dims: expected the number of leading axes"):
        make(name)(logits, looking, generator=generator(1))
    found = make(name)(logits, looking, generator=generator(1), batch_dims=1)
    assert torch.equal(found, make(name)(logits, plain, generator=generator(1)))
    row = make(name)(logits[0, 0], lambda z: z[..., 0] * float(z.sum()), generator=generator(1))
    assert row.shape == (1, 4)
    assert torch.equal(exact.expectation(looking, logits), exact.expectation(plain, logits))


# --- estimates are data ------------------------------------------------------------------------


@each_factory
def test_estimates_are_data(name: str) -> None:
    """No graph hangs on the estimates, and the decoder's is gone once they are made."""
    weight = normal(*shape_of(name, 2), seed=2).requires_grad_()
    kept: list[weakref.ref[Any]] = []

    def loss(z: Tensor) -> Tensor:
        hidden = (z * weight).tanh()
        kept.append(weakref.ref(hidden))
        return hidden.sum((-1, -2)) ** 2

    logits = normal(*shape_of(name, 3, 2), seed=1).requires_grad_()
    estimator = make(name)
    found = estimator(logits, loss, draws=3, generator=generator(1), batch_dims=1)
    assert not found.requires_grad
    assert found.grad_fn is None
    gc.collect()
    assert kept
    assert not [one for one in kept if one() is not None]
    for held in ("baseline", "step"):
        for value in vars(getattr(estimator, held, estimator)).values():
            assert not (isinstance(value, Tensor) and value.requires_grad)


def test_only_relax_hands_on_a_graph() -> None:
    """That of its surrogate, for the variance; a baseline that is learnt gets no gradient."""
    logits, loss = normal(3, 2, 4, seed=1), loss_for(normal(2, 4, seed=2))
    scale = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    estimator = ils.estimators.relax(lambda y: scale * bowl(y))
    estimates = estimator(logits, loss, draws=3, generator=generator(1))
    (estimates**2).sum().backward()
    assert scale.grad is not None
    assert scale.grad != 0
    baseline = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    held = ils.estimators.score_function(baseline=baseline)
    assert not held(logits, loss, generator=generator(1)).requires_grad


@each_factory
def test_a_graph_that_is_not_of_the_draw(name: str) -> None:
    """Who needs a derivative refuses a loss whose graph is that of the decoder alone."""
    logits, plain = normal(*shape_of(name, 3, 2), seed=1), loss_for(normal(2, 1, seed=2))
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    loss: Loss = lambda z: scale * plain(z.detach())  # noqa: E731
    if make(name).differentiates:
        with pytest.raises(ValueError, match=r"^loss: expected a function that can be diff"):
            make(name)(logits, loss, generator=generator(1))
    else:
        assert not make(name)(logits, loss, generator=generator(1)).requires_grad


# --- types and extremes ------------------------------------------------------------------------

ROWS = {
    "ordinary": [[0.3, -1.0, 0.5, 1.2], [0.0, 0.7, -0.4, 0.1]],
    "far apart": [[1e4, -1e4, 0.0, 1e4], [1e4, 9999.0, -1e4, 9998.0]],
    "high": [[6e4, 59968.0, -6e4, 6e4], [6e4] * 4],
    "low": [[-1e4] * 4, [-6e4, -6e4, -59968.0, -6e4]],
    "masked": [[0.0, 1.0, -INF, 2.0], [1e4, -INF, -INF, -INF]],
    "equal": [[0.0] * 4, [3.0] * 4],
}
TEMPERATURES = ("temperature", "forward_temperature", "backward_temperature", "gap")


def in_double(noise: Any) -> Any:
    return tuple(map(in_double, noise)) if isinstance(noise, tuple) else noise.double()


def variants(name: str) -> list[dict[str, Any]]:
    """The defaults, and low and high temperatures."""
    said = {**SAID[name][0], **SAID[name][2]}
    found: list[dict[str, Any]] = [{}]
    for option in said:
        if option in TEMPERATURES:
            found += [{option: value} for value in (1e-30, 1e-3, 1e4)]
    if name == "gapped_straight_through":
        found.append({"gap": None})
    return found


def test_levelled_and_tempered() -> None:
    """Ordinary rows stay to the last bit; large ones, and low temperatures, lose a constant."""
    ordinary = normal(5, 4, seed=1).mul(30).clamp(-128, 128)
    ordinary[0] = torch.tensor([128.0, 0.0, -INF, -1e4])
    ordinary[1] = torch.tensor([-128.0, -130.0, -INF, -1e4])
    assert torch.equal(levelled(ordinary), ordinary)
    large = torch.tensor([[129.0, 128.0, -INF], [-129.0, -130.0, -1e4], [1.0, 2.0, 3.0]])
    moved = levelled(large).tolist()
    assert moved == [[0.0, -1.0, -INF], [0.0, -1.0, -9871.0], [1.0, 2.0, 3.0]]
    scores = torch.tensor([3.0, 1.0, -INF])
    assert tempered(scores, 0.1).tolist() == (scores / 0.1).tolist()
    assert tempered(scores, 2.0).tolist() == [1.5, 0.5, -INF]
    assert tempered(scores, 0.0625).tolist() == [0.0, -32.0, -INF]
    assert tempered(scores, torch.tensor(0.0625)).tolist() == [48.0, 16.0, -INF]
    assert hardened(torch.tensor([[0.0, 1.0], [0.0, torch.nan]])).isnan().tolist() == [
        [False, False],
        [True, True],
    ]


def test_formula_as_text_and_at_the_ends() -> None:
    """It prints its options; the smallest and the largest number of a type are held."""
    formula = ils.estimators.reinmax(temperature=0.5).formula
    assert repr(formula) == (
        "Formula(ils.estimators.from_rule._formula, rule=ReinMax(temperature=0.5))"
    )
    loss = loss_for(normal(2, 4, seed=2))
    kind = torch.finfo(torch.float32)
    for number in (kind.tiny, kind.max):
        estimator = ils.estimators.straight_through(temperature=number)
        assert estimator(torch.ones(2, 4), loss, generator=generator(1)).shape == (1, 2, 4)
    assert ils.estimators.rebar(coefficient=0.0)(torch.ones(2, 4), loss).isfinite().all()


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
def test_numbers_that_the_type_cannot_hold(name: str) -> None:
    """A temperature or a step that rounds to zero is refused under its name, at the call."""
    for option in {**SAID[name][0], **SAID[name][2]}:
        if option not in (*TEMPERATURES, "step_size", "coefficient"):
            continue
        for number in (1e-41, 1e39):
            estimator = make(name, **{option: number})
            logits = normal(*shape_of(name, 2), seed=1)
            loss = loss_for(normal(2, 1, seed=2))
            for dtype in (*HALF, torch.float32):
                with pytest.raises(ValueError, match=f"^{option}: expected a number from "):
                    estimator(logits.to(dtype), loss, generator=generator(1))


@each_factory
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_steps(name: str, dtype: torch.dtype) -> None:
    """Short and long steps, and steep and flat losses, give finite estimates."""
    for option in ("step_size", "initial_step", "update"):
        if option not in {**SAID[name][0], **SAID[name][2]}:
            continue
        for step, slope in ((1e-3, 1e3), (1e-3, 1e-3), (1e4, 1e3), (1e4, 1e-3)):
            logits = normal(3, 4, seed=1).mul(3).to(dtype)
            weights = normal(3, 4, seed=2).mul(slope).to(dtype)
            loss: Loss = lambda z, w=weights: (z * w).sum((-1, -2))  # noqa: E731
            found = make(name, **{option: step})(logits, loss, draws=9, generator=generator(1))
            assert found.isfinite().all()


def test_no_square_overflows() -> None:
    """Adaptive I-MLE for losses so steep or flat that the square of the slope is not held."""
    logits = normal(3, 4, seed=1).float()
    for slope in (1e-25, 1.0, 1e25):
        weights = normal(3, 4, seed=2).float() * slope
        loss: Loss = lambda z, w=weights: (z * w).sum((-1, -2))  # noqa: E731
        found = make("adaptive_implicit_mle")(logits, loss, draws=9, generator=generator(1))
        plain = make("adaptive_implicit_mle")(
            logits,
            lambda z, w=weights, s=slope: (z * w / s).sum((-1, -2)),
            draws=9,
            generator=generator(1),
        )
        assert found.any()
        torch.testing.assert_close(found / slope, plain)


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
    for estimator in (ils.estimators.darn(), ils.estimators.score_function()):
        found = exact.moments(estimator, loss, logits)
        wanted = exact.moments(estimator, exactly, double)
        pairs += [(getattr(found, k), getattr(wanted, k)) for k in ("mean", "variance", "cosine")]
    for one, other in pairs:
        assert one.dtype == dtype
        assert float((one.double() - other).abs().max()) < 4 * eps * (1 + float(other.abs().max()))


@each_factory
def test_values_of_other_types(name: str) -> None:
    """Counts, truth values and wider or shorter numbers serve as losses; complex ones do not."""
    logits = normal(*shape_of(name, 3, 2), seed=1).float()
    estimator = make(name)
    plain = loss_for(torch.ones(2, 1))
    for kind in (torch.float64, torch.bfloat16):
        found = make(name)(logits, lambda z, kind=kind: plain(z).to(kind), generator=generator(1))
        assert found.dtype == torch.float32
    if not estimator.differentiates:
        counts: Loss = lambda z: z[..., 0].sum(-1).round().long()  # noqa: E731
        found = make(name)(logits, counts, draws=3, generator=generator(1))
        again = make(name)(logits, lambda z: counts(z).float(), draws=3, generator=generator(1))
        assert torch.equal(found, again)
        truth: Loss = lambda z: counts(z) > 0  # noqa: E731
        assert make(name)(logits, truth, generator=generator(1)).dtype == torch.float32
    with pytest.raises(TypeError, match=r"^loss: expected real values, got torch\.complex64"):
        estimator(logits, lambda z: plain(z) + 1j, generator=generator(1))


# --- NaN and inf from above --------------------------------------------------------------------


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

    class Spoil(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, z: Tensor) -> Tensor:
            return z.clone()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            grad = grad.clone()
            grad[:, 1, 0, 1] = bad
            return grad

    def spoilt(z: Tensor) -> Tensor:
        values = plain(Spoil.apply(z) if kind != "value" else z)
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


@each_factory
def test_a_masked_category_hides_what_is_not_finite(name: str) -> None:
    """What the loss says of a category that cannot be drawn has no influence."""
    logits, plain = normal(*shape_of(name, 3, 2), seed=1), loss_for(normal(2, 1, seed=2))
    logits[..., 1] = -INF

    class Spoil(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, z: Tensor) -> Tensor:
            return z.clone()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return torch.cat([grad[..., :1], grad[..., 1:2] * torch.nan, grad[..., 2:]], -1)

    if not make(name).differentiates:
        return
    found = make(name)(logits, lambda z: plain(Spoil.apply(z)), draws=5, generator=generator(1))
    assert torch.equal(found, make(name)(logits, plain, draws=5, generator=generator(1)))


def test_running_state_skips_what_is_not_finite() -> None:
    """A running baseline is the mean of the finite losses, and rests where there are none."""
    for own in (0, 1):
        baseline = ils.estimators.score_function_running(decay=0.5, own_dims=own).baseline
        baseline.update(torch.tensor([[1.0, INF], [3.0, torch.nan]]))
        assert torch.equal(
            torch.as_tensor(baseline.value), torch.tensor([2.0, 0.0] if own else 2.0)
        )
        baseline.update(torch.full((2, 2), torch.nan))
        assert torch.equal(
            torch.as_tensor(baseline.value), torch.tensor([2.0, 0.0] if own else 2.0)
        )
        baseline.update(torch.tensor([[4, 4], [4, 4]]))
        assert torch.equal(
            torch.as_tensor(baseline.value), torch.tensor([3.0, 2.0] if own else 3.0)
        )
    step = ils.estimators.adaptive_implicit_mle().step
    step.observe(torch.tensor([torch.nan, 1.0, INF, 0.0]), 4)
    assert step.changes == pytest.approx(0.9 + 0.1 / 4)


# --- shapes ------------------------------------------------------------------------------------


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
def test_numbers_of_numpy(name: str) -> None:
    """Counts and numbers of NumPy are taken as Python's."""
    logits, loss = normal(*shape_of(name, 3, 2), seed=1), loss_for(normal(2, 1, seed=2))
    options = {
        option: np.int64(value) if isinstance(value, int) else np.float64(value)
        for option, value in {**SAID[name][0], **SAID[name][2]}.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    estimator = make(name, **options)
    assert estimator == make(name)
    assert type(estimator.evaluations) is int
    found = estimator(
        logits, loss, draws=np.int64(3), generator=generator(1), batch_dims=np.int32(1)
    )
    assert torch.equal(found, make(name)(logits, loss, draws=3, generator=generator(1)))


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


def test_a_baseline_over_losses_that_are_not_finite() -> None:
    """Each entry moves to the mean of its finite losses, and stays where it has none."""
    baseline = RunningBaseline(0.5, own_dims=1)
    nan, inf = math.nan, math.inf
    baseline.update(torch.tensor([[[1.0, 3.0], [2.0, 2.0]], [[5.0, 7.0], [4.0, 4.0]]]))
    assert torch.equal(baseline.value, torch.tensor([[4.0], [3.0]]))  # type: ignore[arg-type]
    baseline.update(torch.tensor([[[nan, 6.0], [nan, inf]], [[10.0, -inf], [nan, nan]]]))
    assert torch.equal(baseline.value, torch.tensor([[6.0], [3.0]]))  # type: ignore[arg-type]
    baseline.update(torch.tensor([[[nan, 8.0], [1.0, 1.0]], [[nan, nan], [1.0, 1.0]]]))
    assert torch.equal(baseline.value, torch.tensor([[7.0], [2.0]]))  # type: ignore[arg-type]
    whole = RunningBaseline(0.5)
    whole.update(torch.tensor([nan, 2.0, 4.0]))
    assert whole.value == 3.0


def test_a_step_counts_finite_changes_alone() -> None:
    """NaN and both infinities count as no change."""
    steps = [AdaptiveStep() for _ in range(2)]
    steps[0].observe(torch.tensor([1.0, math.nan, math.inf, -math.inf]), 2)
    steps[1].observe(torch.tensor([1.0, 0.0, 0.0, 0.0]), 2)
    assert steps[0] == steps[1]
    assert steps[0].changes == pytest.approx(0.95, rel=1e-12)


def test_formulas_as_values() -> None:
    """Other options are another value, with another hash; all of them are shown."""
    one = ils.estimators.reinmax(temperature=1.0).formula
    other = ils.estimators.reinmax(temperature=2.0).formula
    assert one != other
    assert hash(one) != hash(other)
    two = ils.estimators.adaptive_implicit_mle(symmetric=False).formula
    assert repr(two).endswith(", symmetric=False)")
    assert "aimle, step=" in repr(two)


def test_draws_without_replacement_have_the_type_of_the_logits() -> None:
    seen: list[torch.dtype] = []

    def loss(z: Tensor) -> Tensor:
        seen.append(z.dtype)
        return z[..., 0]

    ils.estimators.unordered_set(samples=2)(torch.zeros(3, dtype=torch.float64), loss)
    assert set(seen) == {torch.float64}
