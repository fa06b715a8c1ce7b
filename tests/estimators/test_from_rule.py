"""Estimators made of rules: with noise and without."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import close, cubic_loss, draws, eye, generator, normal
from torch import Tensor

from ils import exact, rules
from ils.estimators import from_rule, gumbel_rao, reinmax
from ils.estimators.randomness import Draw


def test_a_rule_with_noise() -> None:
    """A draw and the rule's numbers for it, of the type of the logits; no finite support."""
    estimator = from_rule(rules.GumbelRao(0.7, samples=3))
    logits, loss = normal(2, 4, seed=1), cubic_loss(normal(2, 4, seed=2), 2)
    for dtype in (torch.float32, torch.float64):
        z, numbers = estimator.randomness.sample(logits.to(dtype), 5, generator(3), 0)
        assert torch.equal(z, Draw().sample(logits.to(dtype), 5, generator(3), 0))
        assert (z.shape, numbers.shape) == ((5, 2, 4), (3, 5, 2, 4))
        assert z.dtype == numbers.dtype == dtype
    found = estimator.formula(logits, (z, numbers), loss)
    other = gumbel_rao(temperature=0.7, samples=3)
    assert close(found, other.formula(logits, (z, numbers.movedim(0, 1)), loss))
    assert torch.equal(estimator(logits, loss, draws=5, generator=generator(3)), found)
    assert estimator.randomness.joint is False
    with pytest.raises(ValueError, match=r"^estimator: expected finite randomness, got the noise"):
        exact.moments(estimator, loss, logits)


def test_names_and_flags() -> None:
    """The name is that of the class unless one is given; what is no rule is refused."""
    plain: Any = from_rule(rules.ReinMax())
    assert (plain.name, plain.randomness, plain.evaluations) == ("ReinMax", Draw(), 1)
    assert plain.biased is plain.differentiates is True
    assert from_rule(rules.ReinMax(), name="mine").name == "mine"
    assert plain.formula == reinmax().formula
    with pytest.raises(TypeError, match=r"^rule: expected "):
        from_rule("ReinMax")  # type: ignore[arg-type]


# --- losses of a value


def of_values(values: Tensor, cubic: float, seed: int) -> exact.Loss:
    """A loss of the values of two draws: quadratic in each, with all products, and a cubic."""
    a = normal(3, 3, seed=seed)

    def loss(z: Tensor) -> Tensor:
        y = z @ values
        powers = torch.stack([torch.ones_like(y), y, y**2], -1)
        mixed = torch.einsum("...i,...j,ij->...", powers[..., 0, :], powers[..., 1, :], a)
        return mixed + cubic * y[..., 0] ** 3

    return loss


@pytest.mark.parametrize("categories", [2, 3, 7])
def test_ordinal_is_exact_for_quadratics_of_the_value(categories: int) -> None:
    """Two independent values, evenly spaced or not; a cubic has a bias."""
    rule = from_rule(rules.Ordinal())
    for seed in range(4):
        logits = normal(2, categories, seed=seed)
        evenly = torch.arange(categories, dtype=torch.float64)
        for values in (evenly, 3 * normal(categories, seed=seed + 10) - 5):
            loss = of_values(values, 0.0, seed)
            moments, gradient = exact.moments(rule, loss, logits), exact.gradient(loss, logits)
            assert moments.bias.abs().max() < 1e-12 * (1 + gradient.abs().max())
            assert gradient.abs().max() > 0.1
            cubic = of_values(values, 1.0, seed)
            assert exact.moments(rule, cubic, logits).bias[0].abs().max() > 1e-3
            # False: straight-through too.
            other = from_rule(rules.StraightThrough())
            assert exact.moments(other, loss, logits).bias.abs().max() > 1e-3


def test_ordinal_has_the_least_noise_of_the_exact() -> None:
    """For a linear loss the estimate is the projection onto what the two conditions see."""
    values, logits = torch.arange(6.0).double(), normal(6, seed=1)
    probs, z = logits.softmax(-1), eye(6)
    grads = values.expand(6, 6)
    found = rules.Ordinal().gradient(grads, z, logits)
    # Whatever keeps the means of the estimate and of y times it is orthogonal to it.
    seen = torch.stack([torch.ones(6).double(), values], 1) * probs.sqrt()[:, None]
    free = torch.linalg.qr(seen, mode="complete").Q[:, 2:] / probs.sqrt()[:, None]
    assert close(torch.einsum("xf,x->f", free, probs), torch.zeros(4).double(), 1e-12)
    assert close((probs[:, None] * free).T @ found, torch.zeros(4, 6).double(), 1e-12)
    # False: so is ReinMax.
    other = rules.ReinMax().gradient(grads, z, logits)
    assert ((probs[:, None] * free).T @ other).abs().max() > 1e-3
    noise, most = ((probs @ (x**2)) for x in (found, other))
    assert (noise <= most).all()


def test_ordinal_of_four_levels() -> None:
    """The example of the page: entry 3 after a draw of 0, and the share of ReinMax's variance."""
    logits, grads = torch.zeros(4).double(), torch.arange(4.0).double().expand(4, 4)
    found, other = (
        rule.gradient(grads, eye(4), logits) for rule in (rules.Ordinal(), rules.ReinMax())
    )
    assert found[0, 3] == pytest.approx(9 / 40, abs=1e-15)
    assert other[0, 3] == pytest.approx(3 / 8, abs=1e-15)
    assert found.mean(0)[3] == pytest.approx(3 / 8, abs=1e-15)
    noise, most = (float(x.var(0, correction=0).sum()) for x in (found, other))
    assert noise == pytest.approx(8 / 25 * most, abs=1e-15)
    many, grads = torch.zeros(64).double(), torch.arange(64.0).double().expand(64, 64)
    found, other = (
        rule.gradient(grads, eye(64), many) for rule in (rules.Ordinal(), rules.ReinMax())
    )
    assert 50 * found.var(0).sum() < other.var(0).sum()


def test_ordinal_of_two_categories_is_reinmax() -> None:
    """There every loss is one of a value."""
    logits, z, grad = normal(9, 2, seed=1), draws(9, 2, seed=2), normal(9, 2, seed=3)
    found, wanted = (rule.gradient(grad, z, logits) for rule in (rules.Ordinal(), rules.ReinMax()))
    assert close(found, wanted, 1e-13)


def test_ordinal_of_any_size() -> None:
    """In float32, row by row: neither squares that overflow nor values all alike give NaN."""
    logits = torch.tensor([3.0, -40.0, -torch.inf, 1.0])
    z, grad = eye(4).float()[[0, 1, 3]], normal(4, seed=1).float().masked_fill(logits.isinf(), 0)
    scale = torch.tensor([[1e-30], [1.0], [1e30]])
    found = rules.Ordinal().gradient(grad * scale, z, logits)
    wide = rules.Ordinal().gradient(grad.double().expand(3, 4), z.double(), logits.double())
    assert close(found.double() / scale, wide, 1e-6)
    same = torch.full((3, 4), 2.0)
    assert not rules.Ordinal().gradient(same, z, logits).any()
