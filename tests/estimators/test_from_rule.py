"""Estimators made of rules: with noise and without."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import close, cubic_loss, generator, normal

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
