"""Estimators that see values: means by enumeration, weights against brute force."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from cases import close, normal
from torch import Tensor

from ils import exact
from lab.methods import pairs
from lab.search.protocol import choice_with_values
from lab.search.values import (
    ESTIMATORS,
    REFERENCES,
    Form,
    Mix,
    Shrinkage,
    WithValues,
    as_estimator,
)

UNBIASED = ("second order", "ReinMax, corrected", "leave-one-out", "double control variates")
PARTS = (pairs.leave_one_out, pairs.double_control_variate, pairs.second_order, pairs.corrected)
LOGITS = normal(1, 2, 3)
"""One run, two variables."""


def curved(z: Tensor) -> Tensor:
    """A run a loss, ``(S, R)``."""
    return (z.flatten(-2) @ normal(6, 6, seed=3)).sin().sum(-1)


def some(count: int = 64, seed: int = 0) -> pairs.Draws:
    """Pairs of draws, with the axis of runs, and of problems: ``(count, 2, 1, 5, 2, 3)``."""
    probs = normal(1, 5, 2, 3).softmax(-1)
    own = torch.Generator().manual_seed(seed)
    index = torch.multinomial(probs.reshape(-1, 3), 2 * count, True, generator=own)
    z = torch.nn.functional.one_hot(index.T, 3).double().reshape(count, 2, 1, 5, 2, 3)
    z.requires_grad_()
    value = curved(z)
    (grad,) = torch.autograd.grad(value.sum(), z)
    return pairs.Draws(probs, z.detach(), grad, value.detach())


def mean_of(form: Form) -> tuple[Tensor, Tensor]:
    """By enumeration, with the true gradient."""
    found = exact.moments(as_estimator("", form, 2), curved, LOGITS, batch_dims=1)
    return found.mean, exact.gradient(curved, LOGITS, batch_dims=1)


@pytest.mark.parametrize("name", UNBIASED)
def test_unbiased(name: str) -> None:
    form = (ESTIMATORS | REFERENCES)[name]()
    found, truth = mean_of(form)
    assert close(found, truth)
    # False of ReinMax.
    assert not close(mean_of(REFERENCES["ReinMax (default)"]())[0], truth, 1e-3)


def test_a_mix_is_unbiased_with_the_weights_of_the_past() -> None:
    """A mix with weights of sum 1 that do not depend on its draws is unbiased, as its parts are."""
    root = normal(1, 4, 4, seed=5)
    mix = Mix(PARTS, products=root @ root.mT + torch.eye(4))
    weights = mix.weights(1, LOGITS)
    assert close(weights.sum(-1), torch.ones(1))
    assert float(weights.std()) > 0.1
    found, truth = mean_of(mix)
    assert close(found, truth)
    # False: of parts that have other means, too.
    twice = Mix((*PARTS[:3], lambda d: 2 * pairs.corrected(d)), products=root @ root.mT)
    assert not close(mean_of(twice)[0], truth, 1e-3)


def test_the_weights_of_a_mix_make_the_variance_least() -> None:
    """After one step on some draws no other weights of sum 1 have less noise there."""
    d, mix = some(), Mix(PARTS)
    first = mix(d)
    parts = torch.stack([form(d) for form in PARTS])
    assert close(first, parts.mean(0))
    weights = mix.weights(1, LOGITS)[0]

    def length(weights: Tensor) -> float:
        return float((weights @ parts.flatten(1)).square().sum())

    for seed in range(20):
        other = normal(4, seed=seed)
        assert length(weights + 0.1 * (other - other.mean())) > length(weights)
    # False: equal weights, or those of the inverse mean squares alone, are as good.
    alone = 1 / parts.flatten(1).square().sum(-1)
    assert min(
        length(torch.full((4,), 0.25, dtype=torch.float64)), length(alone / alone.sum())
    ) > 1.05 * length(weights)
    # The next step uses them, whatever its own draws.
    new = some(seed=1)
    expected = torch.einsum("m,m...->...", weights, torch.stack([form(new) for form in PARTS]))
    assert close(mix(new), expected)


def test_shrinkage_between_its_ends() -> None:
    """Unbiased at the first step; then by the signal of the difference over its noise."""
    d = some()
    quiet, noisy = pairs.other_draws(d), pairs.leave_one_out(d)
    made = Shrinkage(pairs.other_draws, pairs.leave_one_out)
    assert close(made(d), noisy)
    change = (noisy - quiet).movedim(1, 0).flatten(1, -3)[0]
    length = change.mean(0).square().sum()
    noise = change.square().sum((-1, -2)).mean() / len(change)
    expected = float((1 - noise / length).clamp(min=0))
    assert 0 < expected < 1
    assert close(made(d), quiet + expected * (noisy - quiet))
    # Noise alone leaves the quiet part, a constant difference the other.
    flip = torch.tensor([1.0, -1.0]).repeat(32).reshape(64, 1, 1, 1, 1).double()
    for change, end in ((flip * (1 + 0 * noisy), 0.0), (1 + 0 * noisy, 1.0)):
        made = Shrinkage(pairs.other_draws, lambda d, change=change: pairs.other_draws(d) + change)
        for _ in range(3):
            found = made(d)
        assert close(found, quiet + end * change, 1e-2)
    half = ESTIMATORS["half of each"]()
    assert close(half(d), (quiet + pairs.double_control_variate(d)) / 2)


def test_what_shrinkage_leaves_is_of_order_one_over_n() -> None:
    """``N (1 - c)`` tends to the mean square over the squared mean bias, if that is not zero."""

    def left(bias: float, count: int, steps: int = 1) -> float:
        """``N (1 - c)`` after some steps, of so many draws on five problems each."""
        noise = iter(normal(steps, count, 1, 5, 2, 3, seed=9))
        made = Shrinkage(pairs.other_draws, lambda d: pairs.other_draws(d) - bias + next(noise))
        for step in range(steps):
            made(some(count, step))
        return float(1 - made.weight(torch.zeros(1, 5 * count, 2, 3))) * 5 * count * steps

    # Of each entry the bias is 2 and the noise 1.
    expected = (1 + 2**2) / 2**2
    errors = [abs(left(2.0, *size) / expected - 1) for size in ((100,), (1000,), (100, 10))]
    assert errors[0] < 0.1
    assert max(errors[1:]) < 0.02
    # False: where the mean of the biases is zero.
    assert left(0.0, 1000) > 1000


def test_four_draws_are_two_pairs() -> None:
    one, two = some(8), some(8, seed=1)
    both = pairs.Draws(
        one.probs,
        *(torch.cat([getattr(d, n) for d in (one, two)], 1) for n in ("z", "grad", "value")),
    )
    for name, form in (
        ("second order", pairs.second_order),
        ("ReinMax, corrected", pairs.corrected),
    ):
        assert close(ESTIMATORS[name]()(both), (form(one) + form(two)) / 2)


def test_runs_side_by_side_do_not_share_what_they_learn() -> None:
    one, two = some(), some(seed=1)
    both = pairs.Draws(
        one.probs.expand(2, -1, -1, -1),
        *(torch.cat([getattr(d, n) for d in (one, two)], 2) for n in ("z", "grad", "value")),
    )
    for name in ESTIMATORS:
        together, apart = ESTIMATORS[name](), [ESTIMATORS[name]() for _ in range(2)]
        for _ in range(2):
            found = together(both)
            alone = torch.cat([form(d) for form, d in zip(apart, (one, two), strict=True)], 1)
        assert close(found, alone), name


def test_the_choice_among_those_that_see_values() -> None:
    """A known method is never taken."""
    found = pd.DataFrame({"a": range(len(ESTIMATORS | REFERENCES))}, list(ESTIMATORS | REFERENCES))
    assert choice_with_values(found) == WithValues(list(ESTIMATORS)[-1])
