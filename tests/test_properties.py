"""Properties over shapes, types, axes, masks, draws and every combination of options."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from cases import generator
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rules import COMBINATIONS, leaky, rule_of
from torch import Tensor

import ils
from ils.target import direction, intermediate_target, logits_gradient

TYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
# Short rows, and both sides of the lengths at which the code takes another way.
SIZES = st.one_of(st.integers(1, 6), st.sampled_from([15, 16, 17, 64, 65, 100]))

often = settings(derandomize=True, database=None, deadline=None, max_examples=200)
seldom = settings(derandomize=True, database=None, deadline=None, max_examples=80)


@dataclass
class Case:
    """Logits with the categories along ``dim``, a mask or none, a number of draws, and a seed."""

    logits: Tensor
    dim: int
    mask: Tensor | None
    draws: Any
    seed: int

    def shape(self) -> tuple[int, ...]:
        """Of the draws, as :func:`ils.sample` returns them."""
        ahead = (self.draws,) if isinstance(self.draws, int) else tuple(self.draws)
        return (*ahead, *self.logits.shape)

    def axis(self) -> int:
        """The axis of the categories, counted from the end: the same in logits and draws."""
        return self.dim if self.dim < 0 else self.dim - self.logits.dim()

    def numbers(self, *shape: int, turn: int = 1) -> Tensor:
        """Normal numbers of the type of the logits, others at each turn."""
        source = generator(self.seed + 1000 * turn)
        return torch.randn(shape, generator=source, dtype=torch.float64).to(self.logits.dtype)

    def sample(self, options: Mapping[str, Any] = MappingProxyType({})) -> Tensor:
        """The draw, always from the same seed."""
        # This normaliser makes nothing good of the -inf that stands for a masked category.
        assume(options.get("normalizer") is not leaky or not self.hidden().any())
        return ils.sample(
            self.logits,
            dim=self.dim,
            mask=self.mask,
            draws=self.draws,
            generator=generator(self.seed),
            rule=rule_of(dict(options)),
        )

    def hidden(self) -> Tensor:
        """True where a category cannot be drawn, by the mask or by a logit of -inf."""
        hidden = self.logits.detach().isneginf()
        return hidden if self.mask is None else hidden | self.mask


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Up to four axes beside the categories, of sizes from 0 to 3."""
    batch = draw(st.lists(st.sampled_from([1, 2, 3, 1, 2, 0]), max_size=4))
    categories, dtype = draw(SIZES), draw(st.sampled_from(TYPES))
    seed, dim = draw(st.integers(0, 99)), draw(st.integers(-1 - len(batch), len(batch)))
    spread = draw(st.sampled_from([0.0, 1.0, 4.0]))
    source = generator(seed)
    full = torch.Size((*batch, categories))
    logits = spread * torch.randn(full, generator=source, dtype=torch.float64)
    # One category of each row is left alone, the others can be hidden by a logit or by the mask.
    kept = torch.randint(categories, (*batch, 1), generator=source)
    hidden = [
        (torch.rand(full, generator=source) < share).scatter(-1, kept, False)
        for share in draw(st.sampled_from([(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.3, 0.3)]))
    ]
    logits = logits.masked_fill(hidden[0], -torch.inf).to(dtype).movedim(-1, dim)
    mask = hidden[1].movedim(-1, dim) if draw(st.booleans()) or hidden[1].any() else None
    draws = draw(st.sampled_from([(), (), 2, (2, 1), (1,), 0, [3]]))
    return Case(logits.requires_grad_(), dim, mask, draws, seed)


def by_formula(options: dict[str, Any], z: Tensor, grad: Tensor, logits: Tensor) -> Tensor:
    """The update after each draw by :mod:`ils.target`, in float64, the categories last."""
    mask = logits.isneginf().expand_as(z)
    probs = logits.softmax(-1).expand_as(z)
    step = options["step_size"]
    moved = {name: options[name] for name in ("normalizer", "metric", "keep_mass")}
    moved.update(probs=probs, mask=mask)
    if step is None:
        return direction(z, grad, **{**moved, "keep_mass": True}) / 2
    delta = direction(z, grad, **moved)
    size = torch.full_like(delta[..., :1], step)
    if options["relative"]:
        scale = delta.abs().amax(-1, keepdim=True)
        size = size / scale.masked_fill(scale == 0, 1)
    if options["normalizer"] in (ils.sum_normalize_unclamped, leaky):
        # These divide by a sum that can come close to zero: no number of digits holds there.
        stepped = (z - size * delta).masked_fill(mask, 0)
        weights = stepped if options["normalizer"] is not leaky else leaky_weights(stepped)
        assume(bool((weights.sum(-1).abs() > 0.2).all()))
    target = intermediate_target(z, grad, step_size=size, **moved)
    update = z - target if options["centred"] else logits_gradient(target, probs, z)
    update = update.masked_fill(mask, 0)
    return update / size if options["relative"] else update


def leaky_weights(x: Tensor) -> Tensor:
    """What ``rules.leaky`` divides by its sum."""
    return torch.where(x > 0, x, -0.125 * x)


@often
@given(cases(), st.sampled_from(sorted(COMBINATIONS)))
def test_draw_and_gradient(case: Case, name: str) -> None:
    """One-hot draws of what can be drawn; the update is that of the formula, and zero elsewhere."""
    options, axis = COMBINATIONS[name], case.axis()
    z = case.sample(options)
    assert z.shape == case.shape()
    assert z.dtype == case.logits.dtype
    assert ((z == 0) | (z == 1)).all()
    assert (z.sum(axis) == 1).all()
    hidden = case.hidden().broadcast_to(case.logits.shape)
    assert not z.masked_select(hidden.expand_as(z)).any()

    grad = case.numbers(*z.shape)
    (update,) = torch.autograd.grad((z * grad).sum(), case.logits)
    assert update.shape == case.logits.shape
    assert update.dtype == case.logits.dtype
    assert update.isfinite().all()
    assert not update[hidden].any()

    plain = case.logits.detach().double().masked_fill(hidden, -torch.inf).movedim(axis, -1)
    expected = by_formula(
        options, z.detach().double().movedim(axis, -1), grad.double().movedim(axis, -1), plain
    )
    ahead = expected.dim() - plain.dim()
    count = math.prod(expected.shape[:ahead])
    total = expected.sum(tuple(range(ahead))) if ahead else expected
    if total.numel() == 0 or count == 0:
        assert not update.any()
        return
    # A few units of the last place of the largest number, and more for a sum of many.  The half
    # types are worked out in float32: only the rounding of what goes in and comes out is left.
    unit = torch.finfo(case.logits.dtype).eps
    largest = 1 + float(expected.abs().max()) + float(grad.abs().max())
    few = 8 if unit < 1e-6 else 0.25
    tolerance = few * unit * largest * count * math.sqrt(case.logits.shape[axis])
    assert float((update.double().movedim(axis, -1) - total).abs().max()) <= tolerance
    if options["centred"]:
        assert float(update.double().sum(axis).abs().max()) <= tolerance
