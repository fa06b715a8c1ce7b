"""What stands between the passes: what is kept, what the kernel gets, what is refused."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from cases import generator, normal
from rules import NORMALIZERS, leaky, root
from torch import Tensor

import ils
from ils import autograd, draw, kernel
from ils.fast import form_of
from ils.metric import euclidean, fisher
from ils.rules import Note, ReinMax, Step


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


@pytest.mark.parametrize("draws", [(), (2,), (2, 3)])
@pytest.mark.parametrize("categories", [5, 100])
def test_what_the_kernel_is_given(
    draws: tuple[int, ...], categories: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it serves, the kernel gets logits, uniform numbers of the generator, draws and rule."""
    logits, rule = normal(3, categories, seed=1), Step(0.5, metric=euclidean)
    numbers, told = draw.uniforms(logits, generator(1), math.prod(draws)), []

    def stub(made: Any) -> Any:
        return lambda *given, **options: (told.append((given, options)), made)[1]

    monkeypatch.setattr(kernel, "serves", lambda tensor: tensor is logits)
    monkeypatch.setattr(kernel, "sample", stub(torch.zeros(1)))
    monkeypatch.setattr(kernel, "draw", stub((None, torch.zeros(2, 4, 1))))
    calls = (
        lambda: autograd.sample_with_rule(logits, rule, generator(1), draws),
        lambda: autograd.draw_index_of(logits, generator(1), draws),
    )
    assert [call().shape for call in calls] == [(1,), (2, 4)]
    for given, _ in told:
        assert given[0] is logits
        assert torch.equal(given[1], numbers)
    assert told[0][0][2:] == (draws, *(form_of(rule) or ()))
    assert told[1][0][2:] == (False, draws)
    assert [options for _, options in told] == [{}, {"one_hot": False}]

    # A rule that it does not know takes the other way.
    told.clear()
    other = dataclasses.replace(rule, keep_mass=True)
    drawn = autograd.sample_with_rule(logits, other, generator(1), draws)
    assert drawn.shape == (*draws, *logits.shape)
    assert not told

    # A refusal of the kernel is put in the words of the package, if the logits are to blame.
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("kernel")

    monkeypatch.setattr(kernel, "sample", refuse)
    monkeypatch.setattr(kernel, "draw", refuse)
    for error, message in (
        (RuntimeError, r"^kernel$"),
        (ValueError, r"^logits: .* got NaN \(1 of 3 rows, the first \(0,\)\)$"),
    ):
        for call in calls:
            with pytest.raises(error, match=message):
                call()
        logits[0, 0] = math.nan


def test_no_second_derivative_of_a_look_up() -> None:
    """Neither for logits and table nor for what stands above the draw."""
    logits, table = normal(2, 3).requires_grad_(), normal(3, 4, seed=1).requires_grad_()
    refused = r"^ils: expected to be differentiated once"
    index, above = torch.tensor([0, 2]), normal(2, 4, seed=2).requires_grad_()
    loss = (ils.embedding(index, table, logits) * above).sum()
    plain = torch.autograd.grad(loss, (table, logits), retain_graph=True)
    updates = torch.autograd.grad(loss, (table, logits), create_graph=True)
    for update, wanted in zip(updates, plain, strict=True):
        assert torch.equal(update, wanted)
        for source in (logits, table, above):
            with pytest.raises(RuntimeError, match=refused):
                torch.autograd.grad(update.sum(), source, retain_graph=True)
