"""The relaxed sample, conditional Gumbels against their distribution, and scores at any size."""

from __future__ import annotations

import pytest
import torch
from cases import close, draws, normal

from ils.relaxation import (
    conditional_gumbel,
    hardened,
    levelled,
    relaxed_sample,
    relaxed_sample_vjp,
    tempered,
)

INF = float("inf")


@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_relaxed_sample_vjp(temperature: float) -> None:
    """The stated product is autograd's through the relaxed sample; temperatures broadcast."""
    logits = normal(6, 4, seed=10).requires_grad_()
    noise, grad = normal(6, 4, seed=11), normal(6, 4, seed=12)
    y = relaxed_sample(logits, noise, temperature)
    (expected,) = torch.autograd.grad(y, logits, grad)
    assert close(relaxed_sample_vjp(y.detach(), grad, temperature), expected, 1e-11)
    assert expected.abs().max() > 1e-3
    column = torch.tensor([1.0, temperature], dtype=torch.float64)[:, None, None]
    both = relaxed_sample(logits.detach(), noise, column)
    assert close(both[1], y.detach())
    assert close(relaxed_sample_vjp(both, grad, column)[1], expected, 1e-11)


def test_relaxed_sample_tends_to_the_hard_draw() -> None:
    """The distance to the one-hot vector at the largest perturbed logit falls with T."""
    logits, noise = normal(20, 5, seed=20), normal(20, 5, seed=21)
    hard = hardened(logits + noise)
    assert torch.equal(hard.argmax(-1), (logits + noise).argmax(-1))
    assert torch.equal(hard.sum(-1), torch.ones(20, dtype=torch.float64))
    far = [float((relaxed_sample(logits, noise, t) - hard).abs().max()) for t in (1.0, 0.1, 1e-4)]
    assert far == sorted(far, reverse=True)
    assert far[-1] < 1e-12


def test_conditional_gumbel_is_the_conditional() -> None:
    """Perturbed logits split into the drawn category and the rest have one joint density.

    The map from the exponentials to the perturbed logits, at a fixed draw, has a Jacobian; the
    density of the exponentials over it, times the probability of the draw, must be that of
    independent Gumbels.
    """
    logits = normal(4, seed=3)
    for drawn in range(4):
        z = torch.eye(4, dtype=torch.float64)[drawn]
        exponential = normal(4, seed=30 + drawn).exp()
        scores = conditional_gumbel(logits, z, exponential)
        assert int(scores.argmax()) == drawn
        jacobian = torch.autograd.functional.jacobian(
            lambda e, z=z: conditional_gumbel(logits, z, e), exponential
        )
        ours = logits.log_softmax(-1)[drawn] - exponential.sum() - jacobian.det().abs().log()
        noise = scores - logits
        assert close(ours, (-noise - (-noise).exp()).sum(), 1e-10)


def test_conditional_gumbel_of_a_category_as_good_as_impossible() -> None:
    """In float32, a probability below the smallest number makes neither infinity nor NaN."""
    logits = torch.tensor([0.0, 3.0, -110.0], requires_grad=True)
    z, exponential = torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.7, 0.4, 1.3])
    found = conditional_gumbel(logits, z, exponential)
    wanted = conditional_gumbel(logits.double(), z.double(), exponential.double())
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
    assert found.isfinite().all()
    (grad,) = torch.autograd.grad((found * torch.tensor([1.0, 2.0, 3.0])).sum(), logits)
    assert grad.isfinite().all()


def test_conditional_gumbel_with_a_mask() -> None:
    """A category of -inf stays there, and the derivative is finite."""
    logits = normal(5, 4, seed=4)
    logits[:, 2] = -torch.inf
    leaf = logits.clone().requires_grad_()
    z = draws(5, 2, seed=5)
    z = torch.cat([z, torch.zeros_like(z)], -1)
    scores = conditional_gumbel(leaf, z, normal(5, 4, seed=6).exp())
    assert torch.isneginf(scores[:, 2]).all()
    (grad,) = torch.autograd.grad(scores.softmax(-1).square().sum(), leaf)
    assert grad.isfinite().all()
    assert not grad[:, 2].any()


def test_levelled_and_tempered() -> None:
    """Ordinary rows stay to the last bit; large ones, and low temperatures, lose a constant."""
    ordinary = normal(5, 4, seed=1).mul(30).clamp(-128, 128)
    ordinary[0] = torch.tensor([128.0, 0.0, -INF, -1e4])
    ordinary[1] = torch.tensor([-128.0, -130.0, -INF, -1e4])
    assert torch.equal(levelled(ordinary), ordinary)
    large = torch.tensor([[129.0, 128.0, -INF], [-129.0, -130.0, -1e4], [1.0, 2.0, 3.0]])
    moved = levelled(large).tolist()
    assert moved == [[0.0, -1.0, -INF], [0.0, -1.0, -9871.0], [1.0, 2.0, 3.0]]
    scores = torch.tensor([3.0, 1.0, -INF])
    assert tempered(scores, 0.1).tolist() == (scores / 0.1).tolist()
    assert tempered(scores, 2.0).tolist() == [1.5, 0.5, -INF]
    assert tempered(scores, 0.0625).tolist() == [0.0, -32.0, -INF]
    assert tempered(scores, torch.tensor(0.0625)).tolist() == [48.0, 16.0, -INF]
    assert hardened(torch.tensor([[0.0, 1.0], [0.0, torch.nan]])).isnan().tolist() == [
        [False, False],
        [True, True],
    ]


def test_cold_rows_do_not_share_a_level() -> None:
    """At a low temperature each row keeps its own digits, whatever the others are."""
    low = torch.tensor([0.1, 0.3])
    rows = torch.stack([low, low + 1e6])
    assert torch.equal(tempered(rows, 1e-3)[0], tempered(low, 1e-3))
    assert close(tempered(rows, 1e-3)[0], (low - low.amax()) / 1e-3)
