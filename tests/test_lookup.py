"""Several draws, draws as indices, and look-ups: the same draws and the same gradients."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from cases import close, generator, normal
from rules import COMBINATIONS, RULES, rule_of
from torch import Tensor

import ils

each_rule = pytest.mark.parametrize("options", RULES.values(), ids=RULES)
every_combination = pytest.mark.parametrize("options", COMBINATIONS.values(), ids=COMBINATIONS)
NOISY_RULE = ils.rules.GumbelRao(0.7, samples=2)
TYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]


def as_tuple(draws: Any) -> tuple[int, ...]:
    return (draws,) if isinstance(draws, int) else tuple(draws)


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


@pytest.mark.parametrize("dtypes", [*itertools.product(TYPES, TYPES)], ids=str)
def test_embedding_gives_what_is_asked_for(dtypes: tuple[torch.dtype, torch.dtype]) -> None:
    """Table and logits may go without a gradient; each has its own type, as exact as it can be."""
    logits, table = normal(6, 5, seed=14).to(dtypes[0]), normal(5, 2, seed=15).to(dtypes[1])
    index, weights = ils.sample_index(logits, generator=generator(16)), normal(6, 2, seed=17)
    leaves = [value.double().clone().requires_grad_() for value in (logits, table)]
    out = ils.embedding(index, leaves[1], leaves[0])
    exact = torch.autograd.grad((out.pow(2) * weights).sum(), leaves)
    for wanted in itertools.product([True, False], repeat=2):
        leaves = [
            value.clone().requires_grad_(asked)
            for value, asked in zip((logits, table), wanted, strict=True)
        ]
        out = ils.embedding(index, leaves[1], leaves[0])
        assert out.dtype == table.dtype
        assert out.requires_grad is any(wanted)
        if out.requires_grad:
            (out.pow(2) * weights.to(out.dtype)).sum().backward()
        for leaf, asked, right in zip(leaves, wanted, exact, strict=True):
            assert (leaf.grad is not None) is asked
            if leaf.grad is not None:
                assert leaf.grad.dtype == leaf.dtype
                unit = max(torch.finfo(dtype).eps for dtype in dtypes)
                size = float(right.abs().max())
                assert close(leaf.grad.double(), right, 8 * unit * (1 + size))
                assert size > 0.1


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


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("masked", [False, True])
def test_draw_and_look_up_in_one(dim: int, masked: bool) -> None:
    """The draw is that of sample_index, the rows and gradients those of embedding."""
    logits = normal(3, 3, seed=50).requires_grad_()
    table = normal(3, 2, seed=51).requires_grad_()
    mask = torch.eye(3, dtype=torch.bool) if masked else None
    given: dict[str, Any] = {"dim": dim, "mask": mask}
    rows, index = ils.sample_embedding(
        logits, table, **given, draws=50, generator=generator(52), rule=NOISY_RULE
    )
    source = generator(52)
    again = ils.sample_index(logits, **given, draws=50, generator=source)
    wanted = ils.embedding(again, table, logits, **given, generator=source, rule=NOISY_RULE)
    assert torch.equal(index, again)
    assert torch.equal(rows, wanted)
    weights = normal(*rows.shape, seed=53)
    for found, own in zip(
        torch.autograd.grad((rows * weights).sum(), (logits, table)),
        torch.autograd.grad((wanted * weights).sum(), (logits, table)),
        strict=True,
    ):
        assert torch.equal(found, own)
