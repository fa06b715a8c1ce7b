"""The gapped straight-through estimator: what its gap stands for, and closed forms."""

from __future__ import annotations

import pytest
import torch
from cases import close, cubic_loss, draws, eye, generator, logistic_nodes, normal
from torch import Tensor

from ils import exact
from ils.estimators.straight_through import gapped_straight_through, straight_through
from ils.relaxation import conditional_gumbel

each_gap = pytest.mark.parametrize("gap", [0.2, 1.0, 3.0, None], ids=str)


def mean_gap(chance: Tensor) -> Tensor:
    return -torch.log(1 - chance) / chance


def test_gap_is_the_mean_gap_of_two_categories() -> None:
    """-log(1 - pi_i) / pi_i: by quadrature, the mean of largest less second, given the draw."""
    logits = normal(2, seed=1)
    nodes, weights = logistic_nodes(half_width=40.0)
    numbers = torch.stack([(-nodes).exp(), torch.ones_like(nodes)], -1)
    for drawn in range(2):
        scores = conditional_gumbel(logits, eye(2)[drawn].expand_as(numbers), numbers)
        gaps = scores[:, drawn] - scores[:, 1 - drawn]
        assert float(weights @ gaps) == pytest.approx(
            float(mean_gap(logits.softmax(-1)[drawn])), abs=1e-10
        )


def test_gap_is_the_mean_gap_of_several_categories() -> None:
    """Five categories, 400,000 samples a draw, within five standard errors.

    Five comparisons: a false alarm has a probability below 3e-6.  The gap without a draw, that of
    the most likely category to the next, is off by more than twice the slack somewhere.
    """
    logits = normal(5, seed=2)
    numbers = torch.empty(5, 400_000, 5, dtype=torch.float64)
    numbers.exponential_(generator=generator(3))
    scores = conditional_gumbel(logits, eye(5)[:, None], numbers)
    best = scores.topk(2, -1).values
    gaps = best[..., 0] - best[..., 1]
    slack = 5 * gaps.std(1) / gaps.shape[1] ** 0.5
    expected = mean_gap(logits.softmax(-1))
    assert ((gaps.mean(1) - expected).abs() < slack).all()
    assert (expected.max() - expected.min()) > 2 * slack.max()


@each_gap
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_two_categories_in_closed_form(gap: float | None, temperature: float) -> None:
    """s (1 - s) (g_i - g_j) / tau with s = sigmoid(max(theta_i - theta_j, gap) / tau)."""
    for seed in range(4):
        logits, loss = 2 * normal(2, seed=10 + seed), cubic_loss(normal(2, seed=20 + seed), 1)
        z = exact.states(logits)
        leaf = z.clone().requires_grad_()
        (grads,) = torch.autograd.grad(loss(leaf).sum(), leaf)
        lead = torch.stack([logits[0] - logits[1], logits[1] - logits[0]])
        room = mean_gap(logits.softmax(-1)) if gap is None else torch.full_like(lead, gap)
        s = (torch.maximum(lead, room) / temperature).sigmoid()
        slope = s * (1 - s) / temperature * (grads[:, 0] - grads[:, 1])
        found = gapped_straight_through(temperature=temperature, gap=gap).formula(logits, z, loss)
        assert close(found, torch.stack([slope, -slope], -1), 1e-12)


@each_gap
def test_drawn_category_leads_by_the_gap(gap: float | None) -> None:
    """Rebuilt from the Jacobian, the shifted softmax gives the draw at least the gap."""
    logits, z = 2 * normal(3, 4, seed=30), draws(50, 3, 4, seed=31)
    weights = normal(3, 4, seed=32)
    found = gapped_straight_through(gap=gap).formula(
        logits, z, lambda x: (x * weights).sum((-1, -2))
    )
    shifted = logits - logits.amax(-1, keepdim=True)
    room = mean_gap((logits.softmax(-1) * z).sum(-1, keepdim=True)) if gap is None else gap
    shifted = torch.where(z > 0, 0.0, torch.minimum(shifted, torch.zeros_like(shifted) - room))
    p = shifted.softmax(-1)
    assert close(found, p * (weights - (p * weights).sum(-1, keepdim=True)), 1e-12)


@each_gap
def test_biased_for_linear_losses(gap: float | None) -> None:
    """Unlike straight-through."""
    logits, weights = normal(4, seed=40), normal(4, seed=41)
    loss = lambda z: z @ weights  # noqa: E731
    assert exact.moments(straight_through(), loss, logits).bias.abs().max() < 1e-12
    found = exact.moments(gapped_straight_through(gap=gap), loss, logits)
    assert found.bias.norm() > 0.1 * found.gradient.norm()


@each_gap
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_draws_of_probability_zero_and_one(gap: float | None, dtype: torch.dtype) -> None:
    """Enumeration meets masked and hopeless draws; their weight is zero, and so they are finite."""
    logits = normal(2, 3, seed=50).to(dtype)
    logits[0, 1] = -torch.inf
    logits[1] = torch.tensor([300.0, 0.0, -300.0])
    loss = cubic_loss(normal(2, 3, seed=51).to(dtype), 2)
    found = exact.moments(gapped_straight_through(gap=gap), loss, logits)
    assert found.mean.isfinite().all()
    assert found.variance.isfinite()
    assert float(found.mean[0, 1]) == 0
    # The others are those of the problem without the masked category.
    few = logits[0, [0, 2]]
    alone = exact.moments(
        gapped_straight_through(gap=gap), lambda z: loss(fill(z, logits)), few
    ).mean
    assert close(found.mean[0, [0, 2]], alone, 1e-5 if dtype == torch.float32 else 1e-12)


def fill(z: Tensor, logits: Tensor) -> Tensor:
    """States of the first variable without its masked category, the second at its sure one."""
    first = torch.zeros(len(z), 1, dtype=z.dtype)
    row = torch.cat([z[:, :1], first, z[:, 1:]], -1)
    second = torch.zeros_like(row)
    second[:, int(logits[1].argmax())] = 1
    return torch.stack([row, second], 1)


def test_options() -> None:
    """Errors name the argument."""
    with pytest.raises(ValueError, match=r"temperature: expected a positive finite number"):
        gapped_straight_through(temperature=0.0)
    with pytest.raises(ValueError, match=r"gap: expected a positive finite number, got 0"):
        gapped_straight_through(gap=0.0)
