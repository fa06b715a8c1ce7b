"""The suite: what its problems promise."""

from __future__ import annotations

import pytest
import torch
from cases import close

from ils import exact
from lab.problems.enumerable import INSTANCES, KINDS, SCALES, SHAPES, Problem, make_problem, suite

each_kind = pytest.mark.parametrize("kind", KINDS)


def test_suite_has_every_cell() -> None:
    """Kinds, shapes and scales in all combinations, within the limits that the book states."""
    cells = [(problem.kind, problem.shape, problem.scale) for problem in suite(3)]
    assert len(set(cells)) == len(cells) == len(KINDS) * len(SHAPES) * len(SCALES)
    assert {n for n, _ in SHAPES} >= {1, 8}
    assert {categories for _, categories in SHAPES} >= {2, 16}
    assert INSTANCES >= 200
    # No two cells share their logits, and the scales are what they say.
    seen = [problem.logits.flatten()[:2].tolist() for problem in suite(1)]
    assert len({tuple(pair) for pair in seen}) == len(seen)
    for scale, size in SCALES.items():
        problem: Problem = make_problem("MLP", (1, 16), scale)
        assert float(problem.logits.std()) == pytest.approx(size, rel=0.05)


@each_kind
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_loss_is_standardised(kind: str, shape: tuple[int, int]) -> None:
    """The loss has the standard deviation 1 over the states of each instance, and is smooth."""
    problem = make_problem(kind, shape, "peaked")
    z = exact.states(problem.logits, batch_dims=1)
    values = problem.loss(z)
    assert values.shape == (shape[1] ** shape[0], INSTANCES)
    assert close(values.std(0, correction=0), torch.ones(INSTANCES, dtype=torch.float64), 1e-9)
    inside = problem.logits.softmax(-1)[None].requires_grad_()
    (grad,) = torch.autograd.grad(problem.loss(inside).sum(), inside)
    assert grad.isfinite().all()
    assert (grad.flatten(2).norm(dim=-1) > 0).all()


@each_kind
def test_fewer_instances_are_the_first(kind: str) -> None:
    """A part of a cell is the beginning of the whole, whatever else was made before."""
    whole, part = make_problem(kind, (3, 4), "flat"), make_problem(kind, (3, 4), "flat", 7)
    assert torch.equal(whole.logits[:7], part.logits)
    z = exact.states(part.logits, batch_dims=1)
    full = exact.states(whole.logits, batch_dims=1)
    assert close(whole.loss(full)[:, :7], part.loss(z))


def test_kinds_are_what_they_say() -> None:
    """Linear losses have no curvature, quadratic ones a constant one, cubic ones neither."""
    for kind in ("linear", "quadratic", "cubic"):
        problem = make_problem(kind, (3, 4), "peaked", 5)
        z = exact.states(problem.logits, batch_dims=1)
        line = torch.stack([z[3] + step * (z[40] - z[3]) for step in (0.0, 0.25, 0.5, 0.75, 1.0)])
        second = problem.loss(line).diff(dim=0).diff(dim=0)
        assert close(second, torch.zeros_like(second)) == (kind == "linear")
        assert close(second, second[:1].expand_as(second)) == (kind != "cubic")
