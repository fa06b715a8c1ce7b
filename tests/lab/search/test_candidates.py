"""The candidates of the search: their rule by autograd, their fading, their units."""

from __future__ import annotations

import torch

from ils.rules import ReinMax
from lab.search.candidates import CANDIDATES, Candidate, Exploring
from lab.search.protocol import DESIGN, FINAL


def case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    grad, logits = torch.randn(2, 5, 4, generator=generator, dtype=torch.float64)
    return grad, torch.eye(4, dtype=torch.float64)[[0, 1, 2, 3, 0]], logits


def test_the_added_term_is_that_of_the_entropy() -> None:
    grad, z, logits = case()
    leaf = logits.clone().requires_grad_()
    probs = leaf.softmax(-1)
    entropy = -(probs * probs.log()).sum(-1)
    (slope,) = torch.autograd.grad(entropy.sum(), leaf)
    probs = probs.detach()
    size = ((probs * grad.square()).sum(-1) - (probs * grad).sum(-1).square()).sqrt()
    found = Exploring(2.0, 0.3).gradient(grad, z, logits)
    expected = ReinMax(2.0).gradient(grad, z, logits) - 0.3 * size[:, None] * slope
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    # In the units of the gradient, and nothing for a category that cannot be drawn.
    torch.testing.assert_close(Exploring(2.0, 0.3).gradient(7 * grad, z, logits), 7 * found)
    logits[:, 3] = -torch.inf
    masked = Exploring(2.0, 0.3).gradient(grad, z, logits)[:3]
    assert masked.isfinite().all()
    assert (masked[:, 3] == 0).all()


def test_what_fades_ends_at_the_default() -> None:
    grad, z, logits = case()
    default = ReinMax().gradient(grad, z, logits)
    rule = Candidate(3.0, 0.3, fades=True).rule
    assert rule(0.0) == Exploring(3.0, 0.3)
    assert rule(0.5) == Exploring(2.0, 0.15)
    assert torch.equal(rule(1.0).gradient(grad, z, logits), default)
    assert Candidate(3.0, 0.0, fades=False).rule(0.9) == Exploring(3.0)


def test_the_parts_share_no_problem() -> None:
    assert not set(DESIGN) & set(FINAL)
    assert len({one.name for one in CANDIDATES}) == len(CANDIDATES)
