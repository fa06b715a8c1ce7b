"""The update of an example is proportional to the factor on its loss, whatever its batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import close, generator, normal
from rules import COMBINATIONS, rule_of
from torch import Tensor

import ils

B, K = 12, 4
FACTORS = [1e-6, 0.5, 3.0, 1e6, 2.0**16]

each_relative = pytest.mark.parametrize(
    "options",
    [o for o in COMBINATIONS.values() if o["relative"]],
    ids=[name for name, o in COMBINATIONS.items() if o["relative"]],
)
each_absolute = pytest.mark.parametrize(
    "options",
    [o for o in COMBINATIONS.values() if not o["relative"]],
    ids=[name for name, o in COMBINATIONS.items() if not o["relative"]],
)


class Problem:
    """Logits, a loss for each example, and one draw each, on which all ways must agree."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.logits, self.weights = normal(B, K, seed=1), normal(B, K, seed=2)
        self.draw = ils.sample(self.logits, generator=generator(3))

    def losses(self, leaf: Tensor, rows: slice) -> Tensor:
        """The loss of each of some examples, as functions of the logits."""
        z = ils.differentiable_draw(leaf, self.draw[rows], rule=rule_of(self.options))
        return ((z - 0.3) ** 3 * self.weights[rows]).sum(-1)

    def updates(
        self, reduce: Callable[[Tensor], Tensor] = torch.sum, rows: slice = slice(None)
    ) -> Tensor:
        """The gradients for the logits of some examples, from one backward pass."""
        leaf = self.logits[rows].clone().requires_grad_()
        return torch.autograd.grad(reduce(self.losses(leaf, rows)), leaf)[0]


def same(found: Tensor, wanted: Tensor) -> bool:
    """Whether updates agree to 1e-12 of their size."""
    return close(found, wanted, 1e-12 * (1 + float(wanted.abs().max())))


@each_relative
def test_splits_of_the_batch(options: dict[str, Any]) -> None:
    """Cut into parts of any sizes, the batch has the updates that it has as a whole."""
    problem = Problem(options)
    total = problem.updates()
    for cuts in ([6], [1, 2, 3, 11], [4, 8], [*range(1, B)]):
        bounds = [0, *cuts, B]
        parts = [problem.updates(rows=slice(a, b)) for a, b in itertools.pairwise(bounds)]
        assert same(torch.cat(parts), total)


@each_relative
@pytest.mark.parametrize("factor", FACTORS)
def test_factor_of_the_loss(options: dict[str, Any], factor: float) -> None:
    """A factor of the loss is a factor of the update; to the bit, if a power of two."""
    problem = Problem(options)
    plain, scaled = problem.updates(), problem.updates(lambda x: factor * x.sum())
    assert same(scaled / factor, plain)
    if factor in (0.5, 2.0**16):
        assert torch.equal(scaled, factor * plain)


@each_absolute
def test_absolute_steps_violate_it(options: dict[str, Any]) -> None:
    """Of an absolute step, but a linear one, mean and factor change the direction of the update."""
    problem = Problem(options | {"step_size": 4.0})
    total = problem.updates()
    if (
        options["normalizer"] is ils.sum_normalize_unclamped
        and options["keep_mass"]
        and options["centred"]
    ):
        # The sum of the stepped draw is one whatever the step: the rule is linear, as stated.
        assert same(B * problem.updates(torch.mean), total)
        for factor in (3.0, 50.0):
            assert same(problem.updates(lambda x, f=factor: f * x.sum()) / factor, total)
        return
    for found in (
        B * problem.updates(torch.mean),
        problem.updates(lambda x: 3.0 * x.sum()) / 3.0,
        problem.updates(lambda x: 1e6 * x.sum()) / 1e6,
    ):
        assert (found - total).abs().max() > 0.01 * total.abs().max()


@pytest.mark.parametrize("factor", [1e-6, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_factor_in_short_types(dtype: torch.dtype, factor: float) -> None:
    """The same in short types, to their precision; a step in units of the loss is lost there."""
    logits, upstream = normal(B, K, seed=6).to(dtype), normal(B, K, seed=7).to(dtype)
    draw = ils.sample(logits, generator=generator(8))

    def updates(scale: float, **options: Any) -> Tensor:
        leaf = logits.clone().requires_grad_()
        z = ils.differentiable_draw(leaf, draw, rule=rule_of(options))
        return torch.autograd.grad(z, leaf, (upstream.double() * scale).to(dtype))[0].double()

    plain = updates(1.0)
    assert close(updates(factor) / factor, plain, 8 * torch.finfo(dtype).eps)
    absolute = {"relative": False, "step_size": 0.4}
    assert (updates(factor, **absolute) / factor - updates(1.0, **absolute)).abs().max() > 0.05
