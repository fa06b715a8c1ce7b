"""Several draws, draws as indices, and look-ups: the same draws and the same gradients."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from cases import close, generator, normal
from rules import COMBINATIONS, RULES, rule_of
from torch import Tensor

import ils

each_rule = pytest.mark.parametrize("options", RULES.values(), ids=RULES)
every_combination = pytest.mark.parametrize("options", COMBINATIONS.values(), ids=COMBINATIONS)
SHAPES: list[Any] = [(), 1, 3, (2,), (2, 3), (0,), 0, torch.Size([4])]


def as_tuple(draws: Any) -> tuple[int, ...]:
    return (draws,) if isinstance(draws, int) else tuple(draws)


@pytest.mark.parametrize("draws", SHAPES, ids=str)
@pytest.mark.parametrize("categories", [4, 100])
@pytest.mark.parametrize("batch", [(), (5,), (2, 3)], ids=str)
def test_indices_are_the_draws(draws: Any, categories: int, batch: tuple[int, ...]) -> None:
    """sample_index names what sample draws from the same generator, with the same shapes."""
    logits = normal(*batch, categories, seed=1)
    z = ils.sample(logits, draws=draws, generator=generator(2))
    assert z.shape == (*as_tuple(draws), *batch, categories)
    leaf = logits.clone().requires_grad_()
    assert torch.equal(ils.sample(leaf, draws=draws, generator=generator(2)), z)
    index = ils.sample_index(logits, draws=draws, generator=generator(2))
    assert index.dtype == torch.int64
    assert index.shape == z.shape[:-1]
    assert torch.equal(torch.nn.functional.one_hot(index, categories).double(), z)
    if math.prod(as_tuple(draws)) > 1 and math.prod(batch) > 1:
        assert not torch.equal(index[0], index[-1])


def test_several_draws_are_independent() -> None:
    """Pairs of draws of one row have the product law: five deviations, or a chance in a million."""
    probs = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    pairs = ils.sample_index(probs.log().expand(50_000, 3), draws=2, generator=generator(3))
    share = torch.bincount(3 * pairs[0] + pairs[1], minlength=9) / 50_000
    law = torch.outer(probs, probs).flatten()
    slack = 5 * (law * (1 - law) / 50_000).sqrt()
    assert ((share - law).abs() < slack).all()
    assert (slack < 0.1 * law.sqrt()).all()  # a correlation of a tenth would be seen


@every_combination
def test_gradients_of_several_draws_are_added(options: dict[str, Any]) -> None:
    """The update after several draws is the sum of the updates after each."""
    logits, weights = normal(4, 3, seed=4).requires_grad_(), normal(2, 3, 4, 3, seed=5)
    z = ils.sample(logits, draws=(2, 3), generator=generator(6), rule=rule_of(options))
    (found,) = torch.autograd.grad(((z - 0.3) ** 3 * weights).sum(), logits)
    wanted = torch.zeros_like(found)
    for i in range(2):
        for j in range(3):
            one = ils.differentiable_draw(logits, z[i, j].detach(), rule=rule_of(options))
            loss = ((one - 0.3) ** 3 * weights[i, j]).sum()
            wanted += torch.autograd.grad(loss, logits)[0]
    assert close(found, wanted, 1e-12 * (1 + float(wanted.abs().max())))


@every_combination
@pytest.mark.parametrize("draws", [(), (2,)], ids=str)
def test_embedding_is_the_product(options: dict[str, Any], draws: tuple[int, ...]) -> None:
    """Value and both gradients of a look-up are those of the one-hot product, for every rule."""
    logits, table = normal(4, 3, seed=7).requires_grad_(), normal(3, 2, seed=8).requires_grad_()
    weights = normal(*draws, 4, 2, seed=9)
    index = ils.sample_index(logits, draws=draws, generator=generator(10))
    z = ils.sample(logits, draws=draws, generator=generator(10), rule=rule_of(options))
    out = ils.embedding(index, table, logits, rule=rule_of(options))
    assert torch.equal(out, torch.nn.functional.embedding(index, table))
    found = torch.autograd.grad(((out - 0.3) ** 3 * weights).sum(), (logits, table))
    wanted = torch.autograd.grad(((z @ table - 0.3) ** 3 * weights).sum(), (logits, table))
    for one, other in zip(found, wanted, strict=True):
        assert close(one, other, 1e-12 * (1 + float(other.abs().max())))


def test_embedding_with_masks() -> None:
    """Masked categories stay out of the look-up and have a gradient of exactly zero."""
    mask = torch.arange(5) % 2 == 1
    table = normal(5, 2, seed=11).requires_grad_()
    for options in RULES.values():
        logits = normal(6, 5, seed=12).masked_fill(mask, -torch.inf).requires_grad_()
        index = ils.sample_index(logits, generator=generator(13))
        assert not mask[index].any()
        out = ils.embedding(index, table, logits, rule=rule_of(options))
        found, for_table = torch.autograd.grad(out.pow(3).sum(), (logits, table))
        assert found.isfinite().all()
        assert not found[:, mask].any()
        assert not for_table[mask].any()


@pytest.mark.parametrize("wanted", ["logits", "table", "neither"])
def test_embedding_gives_what_is_asked_for(wanted: str) -> None:
    """Either argument may be without a gradient, and so may both."""
    logits, table = normal(6, 5, seed=14), normal(5, 2, seed=15)
    index = ils.sample_index(logits, generator=generator(16))
    leaf = {"logits": logits, "table": table}.get(wanted)
    if leaf is not None:
        leaf.requires_grad_()
    out = ils.embedding(index, table, logits)
    assert out.requires_grad == (leaf is not None)
    if leaf is not None:
        out.pow(2).sum().backward()
        assert leaf.grad is not None
        assert leaf.grad.abs().max() > 0


def test_embedding_keeps_an_index_a_row() -> None:
    """Between the passes nothing is kept but the index and the arguments, which exist anyway."""
    rows, categories, width = 50, 40, 8
    logits = normal(rows, categories, seed=17).requires_grad_()
    table = normal(categories, width, seed=18).requires_grad_()
    index = ils.sample_index(logits, generator=generator(19))
    own = {value.data_ptr() for value in (logits, table, index)}
    kept: list[Tensor] = []

    def pack(value: Tensor) -> Tensor:
        kept.append(value)
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        out = ils.embedding(index, table, logits)
    assert kept
    assert all(value.data_ptr() in own for value in kept)
    # The one-hot product keeps at least the draw, which is as large as the logits.
    kept.clear()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        ils.sample(logits, generator=generator(19)) @ table
    assert sum(value.numel() for value in kept if value.data_ptr() not in own) >= logits.numel()
    out.sum().backward()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_embedding_in_short_types(dtype: torch.dtype) -> None:
    """Types of table and logits may differ; each gradient comes in the type of its argument."""
    logits = normal(6, 5, seed=20).to(dtype).requires_grad_()
    table = normal(5, 2, seed=21).requires_grad_()
    index = ils.sample_index(logits, generator=generator(22))
    out = ils.embedding(index, table, logits)
    assert out.dtype == table.dtype
    out.pow(2).sum().backward()
    assert logits.grad is not None
    assert table.grad is not None
    assert logits.grad.dtype == dtype
    assert table.grad.dtype == torch.float64
    exact = logits.detach().double().requires_grad_()
    ils.embedding(index, table, exact).pow(2).sum().backward()
    assert close(logits.grad.double(), exact.grad, 8 * torch.finfo(dtype).eps)


def test_embedding_refuses_a_second_derivative() -> None:
    """A second derivative is refused, for the logits and for the table."""
    logits, table = normal(6, 5, seed=23).requires_grad_(), normal(5, 2, seed=24).requires_grad_()
    out = ils.embedding(ils.sample_index(logits), table, logits)
    for leaf in (logits, table):
        (first,) = torch.autograd.grad(out.pow(2).sum(), leaf, create_graph=True)
        for other in (logits, table):
            with pytest.raises(RuntimeError, match="ils: expected to be differentiated once"):
                torch.autograd.grad(first.pow(2).sum(), other, retain_graph=True)


def test_empty_look_ups() -> None:
    """No rows or no draws: shapes without entries, and gradients of zero."""
    for batch, draws in (((0,), ()), ((0,), 3), ((4,), 0), ((2, 0), (2,))):
        logits = torch.zeros(*batch, 3, requires_grad=True)
        table = torch.ones(3, 2, requires_grad=True)
        index = ils.sample_index(logits, draws=draws)
        out = ils.embedding(index, table, logits)
        assert out.shape == (*as_tuple(draws), *batch, 2)
        out.sum().backward()
        assert torch.equal(logits.grad, torch.zeros_like(logits))
        assert torch.equal(table.grad, torch.zeros_like(table))


@pytest.mark.parametrize("dim", [-1, 1, 0, -2])
@each_rule
def test_look_ups_with_a_mask_and_an_axis(options: dict[str, Any], dim: int) -> None:
    """Rows and gradients are those of the masked one-hot draw times the table, along the axis."""
    logits, table = (
        normal(4, 5, 4, seed=50).requires_grad_(),
        normal(*(logits_size(dim), 3), seed=51),
    )
    table.requires_grad_()
    mask = normal(4, 5, 4, seed=52) > 0.5
    mask.movedim(dim, -1)[..., 0] = False
    index = ils.sample_index(logits, dim=dim, mask=mask, draws=2, generator=generator(53))
    found = ils.embedding(index, table, logits, dim=dim, mask=mask, rule=rule_of(options))
    z = ils.sample(
        logits, dim=dim, mask=mask, draws=2, generator=generator(53), rule=rule_of(options)
    )
    axis = dim if dim < 0 else dim - 3
    wanted = (z.movedim(axis, -1) @ table).movedim(-1, axis)
    assert torch.equal(found, wanted)
    weights = normal(*found.shape, seed=54)
    results = [
        torch.autograd.grad((x**2 * weights).sum(), (logits, table)) for x in (found, wanted)
    ]
    for one, other in zip(*results, strict=True):
        assert close(one, other, 1e-12 * (1 + float(other.abs().max())))
    assert not results[0][0][mask].any()


def logits_size(dim: int) -> int:
    return (4, 5, 4)[dim]


def test_draws_of_masked_categories_are_refused() -> None:
    """By the mask or by a logit of -inf, in look-ups and attached draws; a tiny law is no mask."""
    logits, table = torch.tensor([[0.0, -torch.inf, 1.0], [0.0, -1e4, 1.0]]), torch.eye(3)
    refused = "expected categories that can be drawn, got one that is masked"
    for draws in ((), (2,)):
        bad, good = torch.tensor([1, 1]).expand(*draws, 2), torch.tensor([0, 1]).expand(*draws, 2)
        with pytest.raises(ValueError, match=f"^index: {refused}"):
            ils.embedding(bad, table, logits)
        with pytest.raises(ValueError, match=f"^z: {refused}"):
            ils.differentiable_draw(logits, table[bad])
        assert torch.equal(ils.embedding(good, table, logits), table[good])
        assert torch.equal(ils.differentiable_draw(logits, table[good]), table[good])
        with pytest.raises(ValueError, match=f"^index: {refused}"):
            ils.embedding(good, table, logits, mask=torch.tensor([True, False, False]))
    with pytest.raises(TypeError, match=r"^mask: expected a boolean tensor"):
        ils.embedding(torch.tensor([0, 0]), table, logits, mask=table)
    with pytest.raises(ValueError, match=r"^dim: expected an axis"):
        ils.embedding(torch.tensor([0, 0]), table, logits, dim=2)
