"""Details of the operator: defaults, devices, types, names in refusals, the way to the kernel."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from cases import generator, normal
from rules import NORMALIZERS, OTHERS, RULES, leaky, root, rule_of
from torch import Tensor

import ils
from ils import autograd, draw, kernel
from ils.distributions import OneHotCategorical
from ils.fast import estimate, form_of
from ils.metric import euclidean, fisher
from ils.rules import Note, ReinMax, Step

# Made once: in some tests what is made on the way is to go astray.
WEIGHTS = normal(1000, seed=2)

Carrier = Callable[..., Tensor]


def eye_of(logits: Tensor) -> Tensor:
    """The first corners, like the logits."""
    eye = torch.eye(logits.shape[-1], dtype=logits.dtype, device=logits.device)
    return eye[: len(logits)]


def by_sample(logits: Tensor, **options: Any) -> Tensor:
    """The function."""
    return ils.sample(logits, generator=generator(1), **options)


def by_module(logits: Tensor, **options: Any) -> Tensor:
    """The module."""
    return ils.Sampler(**options)(logits, generator=generator(1))


def by_distribution(logits: Tensor, **options: Any) -> Tensor:
    """The distribution."""
    return OneHotCategorical(logits=logits, **options).rsample(generator=generator(1))


def by_attaching(logits: Tensor, **options: Any) -> Tensor:
    """A draw that is there already."""
    z = ils.sample(logits.detach(), generator=generator(1))
    return ils.differentiable_draw(logits, z, **options)


def by_embedding(logits: Tensor, **options: Any) -> Tensor:
    """The look-up, in the identity."""
    index = ils.sample_index(logits, generator=generator(1))
    eye = torch.eye(logits.shape[-1], dtype=logits.dtype, device=logits.device)
    return ils.embedding(index, eye, logits, **options)


CARRIERS = [by_sample, by_module, by_distribution, by_attaching, by_embedding]
each_carrier = pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.__name__)


def gradient(carrier: Carrier, logits: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    """Draw and update for a loss of its own in every entry."""
    leaf = logits.detach().clone().requires_grad_()
    weights = WEIGHTS[: logits.numel()].view(logits.shape).to(logits)
    z = carrier(leaf, **options)
    return z.detach(), torch.autograd.grad((z * weights).sum(), leaf)[0]


@each_carrier
def test_defaults(carrier: Carrier) -> None:
    """Left out, the rule is ReinMax at temperature 1."""
    logits = normal(50, 4, seed=1)
    z, update = gradient(carrier, logits)
    again, other = gradient(carrier, logits, rule=ReinMax(1.0))
    assert torch.equal(z, again)
    assert torch.equal(update, other)


@each_carrier
@pytest.mark.parametrize("name", RULES)
def test_rules_arrive(carrier: Carrier, name: str) -> None:
    """Every way to draw hands on by the same rule."""
    logits = normal(20, 4, seed=1)
    _, expected = gradient(by_sample, logits, rule=rule_of(RULES[name]))
    _, found = gradient(carrier, logits, rule=rule_of(RULES[name]))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@each_carrier
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("categories", [5, 70])
def test_device_and_type_are_those_of_the_logits(
    carrier: Carrier, name: str, categories: int
) -> None:
    """Nothing falls back on the default device or the default type."""
    logits = normal(3, categories, seed=1).float()
    logits[0, 1] = -torch.inf
    z, update = gradient(carrier, logits, rule=rule_of(RULES[name]))
    with elsewhere():
        found, other = gradient(carrier, logits, rule=rule_of(RULES[name]))
    assert found.dtype == other.dtype == torch.float32
    assert torch.equal(z, found)
    assert torch.equal(update, other)


@pytest.mark.parametrize("name", RULES)
def test_estimates_on_the_device_of_the_gradient(name: str) -> None:
    """The formulas themselves, which a backward pass would call where no default reaches them."""
    rule = rule_of(RULES[name])
    form = form_of(rule)
    grad, logits = normal(3, 5, seed=1).float(), normal(3, 5, seed=2).float()
    logits[0, 1] = -torch.inf
    at, probs, mask = torch.tensor([[0], [2], [4]]), logits.softmax(-1), logits.isneginf()
    z = torch.eye(5)[at.squeeze(-1)]

    def found() -> list[Tensor]:
        plain = [rule.gradient(grad, z, logits, None)]
        return plain if form is None else [*plain, estimate(form, grad.clone(), at, probs, mask)]

    before = found()
    with elsewhere():
        for one, other in zip(found(), before, strict=True):
            assert one.dtype == torch.float32
            assert torch.equal(one, other)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("categories", [5, 70, 300])
def test_under_a_transform(name: str, categories: int) -> None:
    """Where values cannot be looked at nor overwritten, the estimates are the same."""
    logits, weights = normal(6, categories, seed=1), normal(6, categories, seed=2)
    logits[0, 1] = -torch.inf
    z = ils.sample(logits, generator=generator(1))

    def loss(row: Tensor, z: Tensor, weights: Tensor) -> Tensor:
        return (ils.differentiable_draw(row, z, rule=rule_of(RULES[name])) * weights).sum()

    def looked_up(row: Tensor, z: Tensor, weights: Tensor) -> Tensor:
        found = ils.embedding(z.argmax(-1), weights.unsqueeze(-1), row, rule=rule_of(RULES[name]))
        return found.sum()

    leaf = logits.clone().requires_grad_()
    carried = ils.differentiable_draw(leaf, z, rule=rule_of(RULES[name]))
    (expected,) = torch.autograd.grad((carried * weights).sum(), leaf)
    for call in (loss, looked_up):
        found = torch.func.vmap(torch.func.grad(call))(logits, z, weights)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("categories", [5, 100])
def test_draws_under_a_transform(name: str, categories: int) -> None:
    """Draws are one-hot and carry the estimate of what was drawn, where values are not seen."""
    logits, weights = normal(40, categories, seed=1), normal(40, categories, seed=2)
    logits[:, 0] = -torch.inf

    def loss(row: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        z = ils.sample(row, rule=rule_of(RULES[name]))
        return (z * weights).sum(), z

    transformed = torch.func.vmap(torch.func.grad(loss, has_aux=True), randomness="different")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found, z = transformed(logits, weights)
    assert ((z == 0) | (z == 1)).all()
    assert (z.sum(-1) == 1).all()
    assert not z[:, 0].any()
    leaf = logits.clone().requires_grad_()
    carried = ils.differentiable_draw(leaf, z, rule=rule_of(RULES[name]))
    (expected,) = torch.autograd.grad((carried * weights).sum(), leaf)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("categories", [1, 2, 5, 100, 1000])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_bad_rows_under_a_transform(categories: int, dtype: torch.dtype) -> None:
    """A row without a law gives NaN, and as an index the last category; others are drawn still."""
    last = torch.full((2, categories), -torch.inf, dtype=dtype)
    last[:, -1] = 0
    bad = torch.zeros(3, categories, dtype=dtype)
    bad[0, 0], bad[1, -1], bad[2] = torch.nan, torch.inf, -torch.inf
    rows = torch.cat([last, bad])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        z = torch.func.vmap(ils.sample, randomness="different")(rows)
        index = torch.func.vmap(ils.sample_index, randomness="different")(rows)
    assert z.dtype == dtype
    assert torch.equal(z[:2], (last == 0).to(dtype))
    assert z[2:].isnan().any(-1).all()
    assert index.tolist() == [categories - 1] * 5


@pytest.mark.parametrize("name", RULES)
def test_update_under_create_graph(name: str) -> None:
    """Keeping the graph changes no number, masked categories included."""
    logits = normal(4, 5, seed=1)
    logits[0, 1] = -torch.inf
    leaf, weights = logits.requires_grad_(), normal(4, 5, seed=2)
    weights[0, 1] = 100
    for carrier in CARRIERS:
        z = carrier(leaf, rule=rule_of(RULES[name]))
        plain, kept = (
            torch.autograd.grad((z * weights).sum(), leaf, retain_graph=True, create_graph=graph)[0]
            for graph in (False, True)
        )
        assert torch.equal(plain, kept)


def test_normalizers_are_tried_in_the_type_of_the_logits() -> None:
    """The corners on which a normaliser of one's own is tried are like the logits."""
    logits, seen = normal(2, 3).float(), []

    def mine(x: Tensor) -> Tensor:
        seen.append((x.dtype, x.device.type, x.shape[-1]))
        return x

    ils.differentiable_draw(logits, torch.eye(3)[:2], rule=Step(0.5, normalizer=mine))
    with elsewhere():
        ils.differentiable_draw(logits, eye_of(logits), rule=Step(0.5, normalizer=mine))
    assert set(seen) == {(torch.float32, "cpu", 3)}


def test_no_second_derivative_for_anything() -> None:
    """Neither for logits and table nor for what stands above the draw."""
    logits, table = normal(2, 3).requires_grad_(), normal(3, 4, seed=1).requires_grad_()
    refused = r"^ils: expected to be differentiated once"
    index, above = torch.tensor([0, 2]), normal(2, 4, seed=2).requires_grad_()
    loss = (ils.embedding(index, table, logits) * above).sum()
    for update in torch.autograd.grad(loss, (table, logits), create_graph=True):
        for source in (logits, table, above):
            with pytest.raises(RuntimeError, match=refused):
                torch.autograd.grad(update.sum(), source, retain_graph=True)
    above = normal(2, 3, seed=2).requires_grad_()
    draws = ils.sample(logits), ils.differentiable_draw(logits, torch.eye(3).double()[:2])
    for z in draws:
        (update,) = torch.autograd.grad((z * above).sum(), logits, create_graph=True)
        for source in (logits, above):
            with pytest.raises(RuntimeError, match=refused):
                torch.autograd.grad(update.sum(), source, retain_graph=True)


@each_carrier
def test_refusals_of_normalizers(carrier: Carrier) -> None:
    """Each way to draw tries the normaliser itself, and names it."""
    logits = normal(2, 3)
    for broken, message in (
        (lambda x: x[..., :1], r"normalizer: its output: expected shape \(2, \d\), got \(2, 1\)"),
        (lambda x: 0.99 * x, r"normalizer: expected h\(z\) = z for every one-hot z, got .* 0\.01$"),
        (lambda x: x.flip(-1), r"normalizer: expected h\(z\) = z for every one-hot z, got .* 1$"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            carrier(logits, rule=Step(0.5, normalizer=broken))
    # A difference that rounding could make is let pass.
    carrier(logits, rule=Step(0.5, normalizer=lambda x: (1 + 5e-4) * x))


def test_refusals_of_tensors() -> None:
    """Names of tensors in the refusals of the look-up, of attached draws, of the distribution."""
    logits, eye = normal(2, 3), torch.eye(3).double()
    index = torch.tensor([0, 2])
    for arguments, error, message in (
        ((index.int(), eye, logits), TypeError, r"index: expected int64, got torch\.int32"),
        ((index[:1], eye, logits), ValueError, r"index: expected shape \(\*draws, \*\(2,\)\)"),
        (
            (index + 1, eye, logits),
            ValueError,
            "index: expected categories from 0 to 2, got 1 to 3",
        ),
        ((index, eye.long(), logits), TypeError, r"weight: .* got torch\.int64"),
        ((index, eye[:2], logits), ValueError, r"weight: expected shape \(3, D\), got \(2, 3\)"),
        ((index, eye[0], logits), ValueError, r"weight: expected shape \(3, D\), got \(3,\)"),
        ((index, eye[None], logits), ValueError, r"weight: .*, got \(1, 3, 3\)"),
        ((index, eye, logits.long()), TypeError, r"logits: .* got torch\.int64"),
        ((index, eye, logits * math.nan), ValueError, "logits: .* got NaN"),
    ):
        with pytest.raises(error, match=f"^{message}"):
            ils.embedding(*arguments)
    for z, error, message in (
        (eye[:2].long(), TypeError, r"z: .* got torch\.int64"),
        (eye[:1], ValueError, r"z: expected shape \(\*draws, \*\(2, 3\)\), got \(1, 3\)"),
        (eye[:2] / 2, ValueError, "z: expected one-hot rows"),
    ):
        with pytest.raises(error, match=f"^{message}"):
            ils.differentiable_draw(logits, z)
    with pytest.raises(TypeError, match=r"^logits: .* got torch\.int64$"):
        ils.differentiable_draw(logits.long(), eye[:2])
    for name in ("probs", "logits"):
        with pytest.raises(TypeError, match=rf"^{name}: .* got torch\.int64$"):
            OneHotCategorical(**{name: torch.ones(2, 3).long()})
    with pytest.raises(TypeError, match=r"^mask: .* got torch\.float64$"):
        ils.sample_index(logits, mask=torch.zeros(3).double())
    with pytest.raises(ValueError, match=r"^dim: .* got 2$"):
        ils.sample_index(logits, dim=2)
    with pytest.raises(ValueError, match=r"^draws: .* got \(-1,\)$"):
        ils.sample_index(logits, draws=-1)


def test_module() -> None:
    """It prints its options, draws along its axis, and passes mask and draws on."""
    assert repr(ils.Sampler()) == "Sampler(rule=ReinMax(), dim=-1, argmax_in_eval=False)"
    module = ils.Sampler(rule=Step(0.5, metric=root), dim=0, argmax_in_eval=True)
    assert repr(module) == "Sampler(rule=Step(0.5, metric=root), dim=0, argmax_in_eval=True)"
    logits, mask = normal(4, 2, 3), torch.tensor([True, False, False])
    layer = ils.Sampler(dim=0)
    z = layer(logits, generator=generator(3), draws=(5,))
    assert torch.equal(z, ils.sample(logits, dim=0, generator=generator(3), draws=5))
    z = ils.Sampler()(logits, mask, generator=generator(3), draws=(2, 5))
    assert torch.equal(z, ils.sample(logits, mask=mask, generator=generator(3), draws=(2, 5)))
    assert not z[..., 0].any()
    # Drawn along another axis than the last, a normaliser of one's own still sees the last.
    for dim in (0, 1, -2, -3):
        z = ils.Sampler(rule=Step(0.5, normalizer=leaky), dim=dim)(logits, generator=generator(3))
        assert torch.equal(z.sum(dim), torch.ones_like(z.sum(dim)))


def test_distribution() -> None:
    """Parameters, validation, expansion and draws are those of the parent, with the options."""
    logits = normal(2, 3)
    q = OneHotCategorical(logits=logits, rule=Step(0.5, metric=euclidean))
    rule = Step(0.5, metric=euclidean)
    assert q._rule == rule
    assert OneHotCategorical(logits.softmax(-1))._rule == ReinMax()
    for wide in (q.expand((4, 2)), q.expand(torch.Size([4, 2]))):
        assert type(wide) is OneHotCategorical
        assert wide._rule == rule
        assert wide.batch_shape == (4, 2)
        assert wide.rsample((5,), generator(1)).shape == (5, 4, 2, 3)
    blank = OneHotCategorical.__new__(OneHotCategorical)
    assert q.expand((4, 2), blank) is blank
    assert blank._rule == rule
    for size in ((), (7,), [2, 3], torch.Size([2])):
        one, other = q.rsample(size, generator(1)), q.sample(size, generator(1))
        assert torch.equal(one, other)
        assert one.shape == (*size, 2, 3)
    leaf = logits.clone().requires_grad_()
    q = OneHotCategorical(logits=leaf)
    assert q.rsample().requires_grad
    assert not q.sample().requires_grad
    assert q.rsample().shape == q.sample().shape == (2, 3)
    with pytest.raises(ValueError, match="within the support"):
        q.log_prob(torch.ones(2, 3))
    with pytest.raises(ValueError, match="within the support"):
        OneHotCategorical(logits=logits, validate_args=True).log_prob(torch.ones(2, 3))
    OneHotCategorical(logits=logits, validate_args=False).log_prob(torch.ones(2, 3))
    assert q.has_rsample
    with pytest.raises(ValueError, match="Either `probs` or `logits`"):
        OneHotCategorical()

    class Mine(OneHotCategorical):
        def __init__(self, logits: Tensor) -> None:
            super().__init__(logits=logits)

    with pytest.raises(NotImplementedError, match="Mine"):
        Mine(logits).expand((4, 2))


@pytest.mark.parametrize("name", RULES)
def test_what_the_kernel_is_told(name: str) -> None:
    """The rules that the compiled kernel knows, in its own terms; the others are not for it."""
    options = RULES[name]
    weighted, relative = options["metric"] is fisher, options["relative"]
    expected = None
    if options["step_size"] is None:
        expected = (kernel.FISHER_LIMIT, 0.0, True, False, True) if weighted else None
    elif options["keep_mass"]:
        pass
    elif options["normalizer"] is ils.sum_normalize:
        expected = (kernel.SUM_NORMALIZED, 0.4, weighted, relative, options["centred"])
    elif options["normalizer"] is ils.project_simplex and not weighted and not relative:
        expected = (kernel.PROJECTED, 0.4, False, False, options["centred"])
    assert form_of(rule_of(options)) == expected
    for other in ({"metric": root}, {"keep_mass": True}, {"normalizer": leaky}):
        step = {} if options["step_size"] else {"step_size": 0.4}
        assert form_of(rule_of({**options, **step, **other})) is None


def test_what_has_no_fast_form() -> None:
    """ReinMax at another temperature, and subclasses, which may have another formula."""

    class Mine(Step):
        pass

    assert form_of(Step(0.5)) is not None
    for rule in (Mine(0.5), ReinMax(1.5), *OTHERS.values()):
        assert form_of(rule) is None


class NoGradient(torch.autograd.Function):
    """The identity, without a gradient."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        return z.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> None:
        return None


@pytest.mark.parametrize("draws", [(), (2,)])
def test_a_draw_without_a_gradient(draws: tuple[int, ...]) -> None:
    """Where what used the draw hands back nothing, the logits get nothing or zero."""
    logits = normal(3, 4).requires_grad_()
    NoGradient.apply(ils.sample(logits, draws=draws)).sum().backward()
    assert logits.grad is None or not logits.grad.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(4,), (3, 5), (1200, 5), (3, 100), (0, 4), (2, 0, 3)])
def test_the_short_way_is_the_long_one(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """A draw with the default rule is that of one among many draws, and so is its gradient."""
    weights = normal(*shape, seed=1).to(dtype)
    found = []
    for draws in ((), (1,)):
        logits = normal(*shape, seed=2).to(dtype).requires_grad_()
        z = ils.sample(logits, generator=generator(3), draws=draws)
        assert z.shape == (*draws, *shape)
        (grad,) = torch.autograd.grad((z * weights).sum(), logits)
        found.append((z.detach().view(shape), grad))
    (z, grad), (wanted, long) = found
    assert torch.equal(z, wanted)
    assert torch.equal(grad, long)


@pytest.mark.parametrize("draws", [(), (2,), (2, 3)])
@pytest.mark.parametrize("categories", [5, 100])
def test_what_the_kernel_is_given(
    draws: tuple[int, ...], categories: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it serves, the kernel gets logits, uniform numbers of the generator, draws and rule."""
    logits, told = normal(3, categories, seed=1), []
    count = math.prod(draws)
    numbers = draw.uniforms(logits, generator(1), count)

    def sample(*arguments: Any) -> Tensor:
        told.append(arguments)
        return torch.zeros(1)

    def only_draw(*arguments: Any, **options: Any) -> tuple[None, Tensor]:
        told.append((arguments, options))
        return None, torch.zeros(2, 4, 1)

    monkeypatch.setattr(kernel, "serves", lambda tensor: tensor is logits)
    monkeypatch.setattr(kernel, "sample", sample)
    monkeypatch.setattr(kernel, "draw", only_draw)
    rule = Step(0.5, metric=euclidean)
    assert autograd.sample_with_rule(logits, rule, generator(1), draws).shape == (1,)
    given, uniforms, shape, *fused = told.pop()
    assert given is logits
    assert torch.equal(uniforms, numbers)
    assert shape == draws
    assert tuple(fused) == form_of(rule)
    assert autograd.draw_index_of(logits, generator(1), draws).shape == (2, 4)
    (given, uniforms, keep, shape), options = told.pop()
    assert given is logits
    assert torch.equal(uniforms, numbers)
    assert keep is False
    assert shape == draws
    assert options == {"one_hot": False}

    # A rule that it does not know takes the other way.
    other = dataclasses.replace(rule, keep_mass=True)
    assert autograd.sample_with_rule(logits, other, generator(1), draws).shape == (
        *draws,
        *logits.shape,
    )
    assert not told

    # A refusal of the kernel is put in the words of the package, if the logits are to blame.
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("kernel")

    monkeypatch.setattr(kernel, "sample", refuse)
    monkeypatch.setattr(kernel, "draw", refuse)
    for call in (
        lambda: autograd.sample_with_rule(logits, rule, generator(1), draws),
        lambda: autograd.draw_index_of(logits, generator(1), draws),
    ):
        with pytest.raises(RuntimeError, match=r"^kernel$"):
            call()
    logits[0, 0] = math.nan
    for call in (
        lambda: autograd.sample_with_rule(logits, rule, generator(1), draws),
        lambda: autograd.draw_index_of(logits, generator(1), draws),
    ):
        with pytest.raises(ValueError, match=r"^logits: .* got NaN$"):
            call()


@pytest.mark.parametrize("normalizer", [*NORMALIZERS, leaky])
@pytest.mark.parametrize("metric", [fisher, euclidean, root])
def test_what_is_kept_for_the_backward_pass(normalizer: Any, metric: Any) -> None:
    """Probabilities and a mask where a fast form needs them; for the plain formulas the logits."""
    logits = normal(2, 3)
    masked = logits.clone()
    masked[0, 0] = -torch.inf
    for centred in (True, False):
        rule = Note(0.5, metric=metric, normalizer=normalizer, centred=centred)
        form = form_of(rule)
        probs = draw.probabilities(masked)
        kept, mask = autograd._what_to_keep(rule, masked, probs)
        if form is None:
            assert kept is masked
            assert mask is None
            continue
        assert kept is (probs if metric is fisher or not centred else None)
        assert form.needs_probs() is (kept is not None)
        assert form.needs_mask() is (metric is euclidean)
        if metric is fisher:
            assert mask is None
        else:
            assert torch.equal(mask, masked.isneginf())
        assert autograd._what_to_keep(rule, logits, probs)[1] is None
        assert autograd._what_to_keep(rule, logits[:0], probs[:0])[1] is None
    for dtype, wide in ((torch.bfloat16, torch.bfloat16), (torch.half, torch.float32)):
        half = masked.to(dtype)
        kept, _ = autograd._what_to_keep(ReinMax(), half, draw.probabilities(half))
        assert kept.dtype == wide


def test_gradients_that_are_not_wanted() -> None:
    """Of table and logits, either may go without; types of both are kept."""
    index = torch.tensor([0, 2])
    for first in (True, False):
        for second in (True, False):
            table = torch.ones(3, 4, requires_grad=first)
            logits = torch.zeros(2, 3, requires_grad=second)
            found = ils.embedding(index, table, logits)
            assert found.requires_grad is (first or second)
            if found.requires_grad:
                found.square().sum().backward()
            assert (table.grad is not None) is first
            assert (logits.grad is not None) is second
    table = normal(3, 4).float().requires_grad_()
    logits = normal(2, 3).requires_grad_()
    ils.embedding(index, table, logits).sum().backward()
    assert table.grad.dtype == torch.float32
    assert logits.grad.dtype == torch.float64
    assert table.grad.sum(-1).tolist() == [4, 0, 4]
