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
from rules import COMBINATIONS, DETERMINISTIC, EVERY, RULES, rule_of, update_by_hand
from scipy import stats
from torch import Tensor

import ils
from ils.draw import inverse_cdf
from ils.metric import euclidean, fisher
from ils.rules import Note, Step

each_rule = pytest.mark.parametrize("options", RULES.values(), ids=RULES)

# A test that should pass fails by chance once in a million runs with a new seed.
ERROR_RATE = 1e-6


def p_value(index: Tensor, probs: Tensor) -> float:
    """Chi-square p-value of drawn categories against their law."""
    counts = torch.bincount(index, minlength=len(probs)).double()
    expected = probs / probs.sum() * len(index)
    assert expected.min() > 5
    return float(stats.chisquare(counts.numpy(), expected.numpy()).pvalue)


@pytest.mark.parametrize("categories", [3, 10, 50, 200])
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
    z = ils.sample(logits.expand(size, -1), generator=generator(2))
    assert z.unique().tolist() == [0.0, 1.0]
    assert torch.equal(z.sum(-1), torch.ones(size, dtype=torch.float64))
    assert p_value(z.argmax(-1), probs) > ERROR_RATE
    tilt = torch.where(torch.arange(categories) % 2 == 0, 0.05, -0.05).double()
    wrong = ils.sample((logits + tilt).expand(size, -1), generator=generator(2))
    assert p_value(wrong.argmax(-1), probs) < ERROR_RATE

    # The draw is the one that numpy finds from the same uniforms, unless it is drawn in blocks.
    if categories <= 64:
        uniform = torch.rand(size, dtype=torch.float64, generator=generator(2)).numpy()
        cumulative = np.cumsum(probs.numpy())
        expected = np.searchsorted(cumulative, uniform * cumulative[-1], side="right")
        assert z.argmax(-1).tolist() == expected.tolist()


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str
)
@pytest.mark.parametrize("categories", [1, 2, 64, 65, 1000])
def test_values_are_zero_and_one(dtype: torch.dtype, categories: int) -> None:
    """A draw has one entry of exactly 1 and else exactly 0, in the type of the logits."""
    logits = (3 * normal(50, categories, seed=1)).to(dtype)
    index = ils.sample_index(logits, draws=3, generator=generator(2))
    wanted = torch.nn.functional.one_hot(index, categories).to(dtype)
    for leaf in (logits, logits.clone().requires_grad_()):
        z = ils.sample(leaf, draws=3, generator=generator(2))
        assert z.dtype == dtype
        assert torch.equal(z, wanted)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    batch=st.lists(st.integers(0, 3), max_size=4),
    # Short rows, and both sides of the lengths at which the code takes another way.
    categories=st.one_of(st.integers(1, 6), st.sampled_from([15, 16, 17, 64, 65, 100])),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    data=st.data(),
    seed=st.integers(0, 2**31),
)
def test_any_axis(
    batch: list[int], categories: int, dtype: torch.dtype, data: st.DataObject, seed: int
) -> None:
    """Categories along any axis are the same as moved to the last one, forward and backward."""
    kept = seed % categories  # one category is left
    never = normal(*batch, categories, seed=seed + 3) > data.draw(st.sampled_from([0.5, 9.0]))
    never[..., kept] = False
    moved = normal(*batch, categories, seed=seed).to(dtype).masked_fill(never, -torch.inf)
    dim = data.draw(st.integers(-moved.dim(), moved.dim() - 1))
    last = moved.clone().requires_grad_()
    logits = moved.movedim(-1, dim).contiguous().requires_grad_()
    weights = normal(*batch, categories, seed=seed + 1).to(dtype)
    options = data.draw(st.sampled_from([*RULES.values()]))
    shape = data.draw(st.sampled_from([(), (2,), (2, 3), (0,)]))
    mask = normal(categories, seed=seed + 2) > 1
    mask[kept] = False
    there = mask.reshape(-1, *[1] * (-dim - 1 if dim < 0 else moved.dim() - 1 - dim))
    how: Any = {"dim": dim, "mask": there, "draws": shape}
    z, index = ils.sample(
        logits, **how, generator=generator(seed), rule=rule_of(options), return_index=True
    )
    expected = ils.sample(
        last, mask=mask, draws=shape, generator=generator(seed), rule=rule_of(options)
    )
    assert z.shape == (*shape, *logits.shape)
    axis = dim if dim < 0 else dim - moved.dim()
    assert torch.equal(z.movedim(axis, -1), expected)
    assert torch.equal(index, expected.argmax(-1))
    assert torch.equal(index, ils.sample_index(logits, **how, generator=generator(seed)))
    assert index.dtype == torch.int64
    (found,) = torch.autograd.grad((z.movedim(axis, -1) * weights).sum(), logits)
    (wanted,) = torch.autograd.grad((expected * weights).sum(), last)
    assert torch.equal(found.movedim(dim, -1), wanted)
    assert wanted.dtype == expected.dtype == dtype
    assert wanted.isfinite().all()
    hidden = (never | mask).expand_as(expected)
    assert not expected[hidden].any()
    assert not wanted[never | mask].any()


@pytest.mark.parametrize("options", COMBINATIONS.values(), ids=COMBINATIONS)
def test_gradient_is_the_stated_one(options: dict[str, Any]) -> None:
    """Backward hands on the formula by hand, for every combination of options, a draw or a few."""
    logits = normal(2, 3, seed=4).requires_grad_()
    z = ils.sample(logits, draws=(2, 2), generator=generator(5), rule=rule_of(options))
    weights = normal(2, 2, 2, 3, seed=6)
    loss = (weights * (z - 0.2) ** 3).sum()
    loss.backward()
    hard, probs = z.detach(), logits.detach().softmax(-1)
    grad, everywhere = 3 * weights * (hard - 0.2) ** 2, torch.ones(3, dtype=torch.bool)
    wanted = torch.zeros(2, 3, dtype=torch.float64)
    for at in itertools.product(range(2), repeat=3):
        drawn, row = int(hard[at].argmax()), at[-1]
        wanted[row] += update_by_hand(options, grad[at], drawn, probs[row], everywhere)
    assert logits.grad is not None
    # Where the sum that normalises is near zero, entries are up to a hundred.
    assert close(logits.grad / 100, wanted / 100)
    assert wanted.abs().max() > 0.01
    # The same from a draw that is already there, which passes through unchanged.
    again = logits.detach().clone().requires_grad_()
    kept = hard.clone()
    attached = ils.differentiable_draw(again, hard, rule=rule_of(options))
    assert torch.equal(attached, hard)
    (weights * (attached - 0.2) ** 3).sum().backward()
    assert close(again.grad, logits.grad)
    attached.mul_(2)  # a copy: the caller's draw is left alone
    assert torch.equal(hard, kept)


@pytest.mark.parametrize("name", [*RULES, *DETERMINISTIC])
@pytest.mark.parametrize("by", ["logits", "mask"])
def test_masked_categories(name: str, by: str) -> None:
    """A masked category is never drawn, has gradient exactly zero, and might as well be absent."""
    kept, masked = [1, 2, 4], [0, 3, 5]
    logits = normal(300, 6, seed=10)
    mask = torch.zeros(6, dtype=torch.bool)
    mask[masked] = True
    small = logits[:, kept].clone().requires_grad_()
    if by == "logits":
        logits[:, masked] = -torch.inf
    else:
        logits[:, masked] = torch.nan  # what is masked may be anything
    logits.requires_grad_()
    given = mask if by == "mask" else None
    z = ils.sample(logits, mask=given, generator=generator(11), rule=EVERY[name])
    few = ils.sample(small, generator=generator(11), rule=EVERY[name])
    assert torch.equal(z[:, masked], torch.zeros(300, 3, dtype=torch.float64))
    assert torch.equal(z[:, kept], few)
    for poison in (0.0, torch.inf, torch.nan):
        upstream = normal(300, 6, seed=12)
        upstream[:, masked] = poison
        (found,) = torch.autograd.grad(z, logits, upstream, retain_graph=True)
        (expected,) = torch.autograd.grad(few, small, upstream[:, kept], retain_graph=True)
        assert torch.equal(found[:, masked], torch.zeros(300, 3, dtype=torch.float64))
        # The sum that the unclamped form divides by can come near zero.
        assert close(found[:, kept], expected, 1e-12 * (1 + float(expected.abs().max())))
        assert expected.abs().max() > 0.1


@pytest.mark.parametrize("shape", [(4, 3, 5), (3, 5), (5,), (1, 5), (4, 1, 1), ()])
def test_masks_broadcast(shape: tuple[int, ...]) -> None:
    """A mask is spread over the rows as any tensor is."""
    logits = normal(4, 3, 5, seed=33)
    mask = normal(*shape, seed=34) > 0.6
    if shape[-1:] != (5,):
        mask = mask & False  # a mask of whole rows would leave nothing to draw
    z = ils.sample(logits, mask=mask, generator=generator(35))
    filled = logits.masked_fill(mask, -torch.inf)
    assert torch.equal(z, ils.sample(filled, generator=generator(35)))


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("metric", [euclidean, fisher])
def test_masked_categories_of_a_careless_normaliser(centred: bool, metric: Any) -> None:
    """The gradient of a masked category is zero even where the normaliser gives it mass."""

    def careless(x: Tensor) -> Tensor:
        floor = x.clamp(min=1e-4)
        return floor / floor.sum(-1, keepdim=True)

    logits = torch.tensor([0.5, -torch.inf, 0.0, 1.0], dtype=torch.float64, requires_grad=True)
    for hard, relative in zip(eye(4)[[0, 2, 3]], (False, False, centred), strict=True):
        shared: dict[str, Any] = {"normalizer": careless, "metric": metric}
        rule = Note(0.1, centred=centred, **shared) if not relative else Step(0.1, **shared)
        z = ils.differentiable_draw(logits, hard, rule=rule)
        (found,) = torch.autograd.grad((z * normal(4, seed=32)).sum(), logits)
        assert found[1] == 0
        assert found.abs().max() > 1e-8


@each_rule
def test_one_category(options: dict[str, Any]) -> None:
    """With a single category it is drawn, and its gradient is zero, masked others or not."""
    for logits in (normal(5, 1, seed=13), torch.tensor([[-torch.inf, 2.0, -torch.inf]]).double()):
        logits.requires_grad_()
        z = ils.sample(logits, rule=rule_of(options))
        assert torch.equal(z, (~logits.isneginf()).double())
        (found,) = torch.autograd.grad((z * normal(*z.shape, seed=14)).sum(), logits)
        assert torch.equal(found, torch.zeros_like(logits))


@each_rule
def test_empty_batch(options: dict[str, Any]) -> None:
    """No rows in or no draws, none out, and a gradient of zero, forward and backward."""
    for shape, draws_ in (
        ((0, 3), ()),
        ((2, 0, 3), ()),
        ((0, 3), 4),
        ((2, 3), 0),
        ((2, 3), (2, 0)),
    ):
        logits = torch.zeros(shape, requires_grad=True)
        z = ils.sample(logits, draws=draws_, rule=rule_of(options))
        z.sum().backward()
        assert z.shape == (*((draws_,) if isinstance(draws_, int) else draws_), *shape)
        assert torch.equal(logits.grad, torch.zeros(shape))


def test_generator_is_the_only_source() -> None:
    """One state of the generator is one draw, by any rule, and the global state does not move."""
    logits, before = normal(100, 4, seed=19), torch.get_rng_state()
    own = generator(20)
    first, second = ils.sample(logits, generator=own), ils.sample(logits, generator=own)
    assert not torch.equal(first, second)
    for options in COMBINATIONS.values():
        again = ils.sample(logits, rule=rule_of(options), generator=generator(20))
        assert torch.equal(again, first)
    assert torch.equal(torch.get_rng_state(), before)


def test_default_source_is_pytorchs_own() -> None:
    """Without a generator the draw follows, and moves, the global state."""
    logits = normal(100, 4, seed=19)
    with torch.random.fork_rng(devices=[]):
        state = torch.get_rng_state()
        first = ils.sample(logits, rule=ils.rules.Step(0.1))
        second = ils.sample(logits, rule=ils.rules.Step(0.1))
        torch.set_rng_state(state)
        assert torch.equal(ils.sample(logits, rule=ils.rules.Step(0.1)), first)
        assert not torch.equal(first, second)


def test_backward_needs_no_randomness() -> None:
    """Twice through one graph gives one gradient; the logits and the draw are left as they were."""
    logits = normal(20, 4, seed=21).requires_grad_()
    kept = logits.detach().clone()
    z = ils.sample(logits, rule=ils.rules.Step(0.1), generator=generator(22))
    hard = z.detach().clone()
    loss = (z * normal(20, 4, seed=23)).sum()
    before = torch.get_rng_state()
    (first,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (second,) = torch.autograd.grad(loss, logits)
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(logits, kept)
    assert torch.equal(z, hard)


def test_second_derivative_is_refused() -> None:
    """The gradient is no function's derivative; to differentiate it again is an error, not zero."""
    message = "ils: expected to be differentiated once"
    weights = normal(3, 4, seed=28).requires_grad_()
    for options in RULES.values():
        logits, hard = normal(3, 4, seed=27), draws(3, 4, seed=28)
        logits[0, (int(hard[0].argmax()) + 1) % 4] = -torch.inf  # the first derivative minds it
        logits.requires_grad_()
        given = ils.differentiable_draw(logits, hard, rule=rule_of(options))
        for z in (ils.sample(logits, rule=rule_of(options)), given):
            for loss in ((z * weights).sum(), (z**2 * weights).sum()):
                # Another path to the logits must not let the second derivative pass as its own.
                loss = loss + logits.exp().sum()
                (first,) = torch.autograd.grad(loss, logits, create_graph=True, retain_graph=True)
                with pytest.raises(RuntimeError, match=message):
                    first.pow(2).sum().backward(retain_graph=True)
                for source in (weights, logits):
                    with pytest.raises(RuntimeError, match=message):
                        torch.autograd.grad(first.sum(), source, retain_graph=True)
                (plain,) = torch.autograd.grad(loss, logits, retain_graph=True)
                assert torch.equal(first, plain)
    with pytest.raises(RuntimeError, match=message):
        torch.autograd.functional.hessian(lambda x: (ils.sample(x) * weights).sum(), logits)
