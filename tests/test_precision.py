"""Every type of numbers: values exactly 0 and 1, and gradients as float64 has them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import close, draws, generator, normal
from rules import RULES, rule_of
from torch import Tensor

import ils
from ils.metric import euclidean

each_rule = pytest.mark.parametrize("options", RULES.values(), ids=RULES)
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
# Small enough that the sum of the unclamped form stays away from zero.
STEP = 0.02
each_low_precision = pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)


def tolerance(options: dict[str, Any], dtype: torch.dtype) -> float:
    """Relative to the largest entry of the update: 8 units in the last place."""
    if options["normalizer"] is ils.project_simplex:
        # The projection subtracts numbers near one, of which the step is a small part; it works
        # in float32 at least.
        return 8 * max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps / STEP)
    return 8 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("categories", [1, 2, 64, 65, 1000])
def test_values_are_zero_and_one(dtype: torch.dtype, categories: int) -> None:
    """A draw has one entry of exactly 1 and else exactly 0, in the type of the logits."""
    logits = (3 * normal(50, categories, seed=1)).to(dtype)
    for leaf in (logits, logits.clone().requires_grad_()):
        z = ils.sample(leaf, draws=3, generator=generator(2))
        assert z.dtype == dtype
        assert z.shape == (3, 50, categories)
        assert ((z == 0) | (z == 1)).all()
        assert torch.equal(z.count_nonzero(-1), torch.ones(3, 50, dtype=torch.int64))
    index = ils.sample_index(logits, draws=3, generator=generator(2))
    assert torch.equal(torch.nn.functional.one_hot(index, categories).to(dtype), z)


@each_rule
@each_low_precision
def test_low_precision_agrees_with_double(options: dict[str, Any], dtype: torch.dtype) -> None:
    """The gradient in a short type is that of float64 to a few units in the last place."""
    hard, weights = draws(40, 6, seed=16).to(dtype), normal(40, 6, seed=17).to(dtype)
    found = []
    for kind in (dtype, torch.float64):
        logits = normal(40, 6, seed=18).to(dtype).to(kind).requires_grad_()
        step = {"step_size": options["step_size"] and STEP}
        z = ils.differentiable_draw(logits, hard.to(kind), rule=rule_of(options | step))
        found.append(torch.autograd.grad((z * weights.to(kind)).sum(), logits)[0].double())
    assert close(found[0], found[1], tolerance(options, dtype) * float(found[1].abs().max()))


@each_rule
@each_low_precision
def test_sample_is_as_exact_as_the_attached_draw(
    options: dict[str, Any], dtype: torch.dtype
) -> None:
    """What ils.sample keeps for its backward pass is enough for the same accuracy."""
    logits = normal(40, 6, seed=19).to(dtype).requires_grad_()
    step = {"step_size": options["step_size"] and STEP}
    z = ils.sample(logits, generator=generator(20), rule=rule_of(options | step))
    weights = normal(40, 6, seed=21).to(dtype)
    (found,) = torch.autograd.grad((z * weights).sum(), logits)
    exact = logits.detach().double().requires_grad_()
    same = ils.differentiable_draw(exact, z.detach().double(), rule=rule_of(options | step))
    (wanted,) = torch.autograd.grad((same * weights.double()).sum(), exact)
    assert found.dtype == dtype
    assert close(found.double(), wanted, tolerance(options, dtype) * float(wanted.abs().max()))


@each_rule
@each_low_precision
def test_extreme_logits(options: dict[str, Any], dtype: torch.dtype) -> None:
    """Logits of ten thousand give numbers, forward and backward, and the draw of the largest."""
    rows = [[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, -torch.inf], [1e-4, 1e4, 3.0]]
    logits = torch.tensor(rows, dtype=dtype).repeat(50, 1).requires_grad_()
    z = ils.sample(logits, generator=generator(15), rule=rule_of(options))
    assert z.dtype == dtype
    assert torch.equal(z.detach().float().sum(-1), torch.ones(200))
    assert z[0::4, 0].eq(1).all()
    assert z[3::4, 1].eq(1).all()
    assert {tuple(row) for row in z[2::4].tolist()} == {(1.0, 0.0, 0.0), (0.0, 1.0, 0.0)}
    (z * torch.tensor([1.0, -2.0, 0.5], dtype=dtype)).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[2::4, 2].eq(0).all()
    assert logits.grad[2::4].abs().max() > 0.1
    if options["metric"] is euclidean:
        assert logits.grad[0::4].abs().max() > 0.1  # it does not know that it is certain


@each_rule
@each_low_precision
def test_subnormal_numbers(options: dict[str, Any], dtype: torch.dtype) -> None:
    """Probabilities and gradients below the smallest normal number give finite updates."""
    info = torch.finfo(dtype)
    logits = torch.tensor([[0.0, -95.0, -102.0, -200.0, 1.0]], dtype=dtype)
    tiny = torch.tensor([1.0, -2.0, 3.0, -1.0, 2.0]) * info.smallest_normal * 0.25
    assert (logits.float().softmax(-1)[0, 1:3] < torch.finfo(torch.float32).tiny).all()
    for hard in torch.eye(5, dtype=dtype):
        for upstream in (tiny.to(dtype), torch.tensor([1, -2, 3, -1, 2]).to(dtype)):
            leaf = logits.clone().requires_grad_()
            z = ils.differentiable_draw(leaf, hard[None], rule=rule_of(options))
            (found,) = torch.autograd.grad(z, leaf, upstream[None])
            assert found.isfinite().all()


@each_low_precision
def test_small_probabilities_keep_their_update(dtype: torch.dtype) -> None:
    """A category of probability 1e-4 has its update to the precision of the type."""
    logits = torch.tensor([9.25, 0.0, -0.5, 0.25], dtype=dtype)
    upstream = torch.tensor([0.5, -3.0, 2.0, 1.0], dtype=dtype)
    leaf = logits.clone().requires_grad_()
    z = ils.differentiable_draw(leaf, torch.eye(4, dtype=dtype)[0])
    (found,) = torch.autograd.grad(z, leaf, upstream)
    wanted = logits.double().softmax(-1) * (upstream - upstream[0]).double() / 2
    # Of float16 the smallest numbers are 6e-8 apart.
    least = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    for one, exact in zip(found[1:].tolist(), wanted[1:].tolist(), strict=True):
        assert abs(one - exact) <= 4 * torch.finfo(dtype).eps * abs(exact) + least


@each_rule
def test_a_million_categories(options: dict[str, Any]) -> None:
    """At a million categories the update sums to zero and is finite, in float32."""
    logits = normal(1, 1_000_000, seed=22).float().requires_grad_()
    z = ils.sample(logits, generator=generator(23), rule=rule_of(options))
    assert z.sum() == 1
    upstream = normal(1, 1_000_000, seed=24).float()
    (found,) = torch.autograd.grad(z, logits, upstream)
    assert found.isfinite().all()
    total: Tensor = found.double().sum().abs()
    if options["normalizer"] is not ils.sum_normalize_unclamped:
        assert total <= 1e-3 * found.double().abs().sum()
        assert found.abs().max() > 0
