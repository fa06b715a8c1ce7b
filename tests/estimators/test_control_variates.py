"""MuProp, double control variates, REBAR and RELAX: special cases, means, what is learnt."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import close, cubic_loss, derivative, draws, exponential_nodes, eye, generator, normal
from factories import cubic_problem as problem
from torch import Tensor

from ils import exact
from ils.estimators import (
    double_control_variate,
    leave_one_out,
    muprop,
    rebar,
    relax,
    score_function,
)


def test_double_control_variate_special_cases() -> None:
    """Coefficient 0 is leave-one-out; for a linear loss coefficient 1 leaves no noise."""
    logits, loss = problem((2, 3), 13)
    z = draws(10, 3, 2, 3, seed=14)
    none = double_control_variate(samples=3, coefficient=0).formula(logits, z, loss)
    assert close(none, leave_one_out(samples=3).formula(logits, z, loss))
    weights = normal(2, 3, seed=15)

    def linear(x: Tensor) -> Tensor:
        return (x * weights).sum((-1, -2)) + 4

    for estimator in (double_control_variate(), muprop()):
        assert exact.moments(estimator, linear, logits).variance < 1e-20
    assert exact.moments(leave_one_out(), linear, logits).variance > 0.01


def test_muprop_is_reinforce_of_the_remainder() -> None:
    """The score function of the loss less its expansion at the mean, plus what that has exactly."""
    logits, loss = problem((2, 3), 16)
    mean = logits.softmax(-1)
    slope = derivative(loss, mean[None])

    def expansion(z: Tensor) -> Tensor:
        return loss(mean[None]) + (slope * (z - mean)).sum((-1, -2))

    z = draws(20, 2, 3, seed=17)
    rest = score_function().formula(logits, z, lambda x: loss(x) - expansion(x))
    found = muprop().formula(logits, z, loss)
    assert close(found, rest + exact.gradient(expansion, logits), 1e-11)


# --- REBAR and RELAX


def relaxed_nodes(logits: Tensor) -> tuple[Any, Tensor]:
    """Nodes for one variable of two categories: all draws, and the same exponentials twice.

    The terms of the two rows of exponentials add, so that their means can share one grid.
    """
    line, weight = exponential_nodes(34.0, 0.4)
    grid = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    both = torch.outer(weight, weight).flatten()
    z = eye(2).repeat_interleave(len(grid), 0)
    numbers = grid.repeat(2, 1).unsqueeze(1).expand(-1, 2, 2)
    probs = logits.softmax(-1)
    return (z, numbers), torch.cat([both * probs[0], both * probs[1]])


def surrogate(y: Tensor) -> Tensor:
    return (3 * y[..., 0]).sin() + y[..., 1] ** 3


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_rebar_and_relax_are_unbiased(temperature: float) -> None:
    """Two categories, by quadrature over the exponentials."""
    for seed in range(3):
        logits, loss = problem((2,), 30 + seed)
        nodes = relaxed_nodes(logits)
        for estimator in (
            rebar(temperature=temperature),
            rebar(temperature=temperature, coefficient=0.4),
            relax(surrogate, temperature=temperature),
        ):
            quality = exact.moments(estimator, loss, logits, nodes=nodes)
            assert quality.bias.abs().max() < 1e-6
            assert quality.gradient.abs().max() > 1e-3


def test_rebar_and_relax_of_several_variables() -> None:
    """Means of 400,000 estimates within five standard errors of the gradient.

    Eighteen comparisons: a false alarm below 1e-5.  Without the conditional term the difference
    would be seen: it is more than twenty standard errors somewhere.
    """
    logits, loss = problem((2, 3), 33)
    truth = exact.gradient(loss, logits)
    for estimator in (rebar(), rebar(coefficient=0.4), relax(lambda y: (y**2).sum((-1, -2)))):
        found = estimator(logits, loss, draws=400_000, generator=generator(34))
        error = found.std(0) / len(found) ** 0.5
        assert ((found.mean(0) - truth).abs() < 5 * error).all()
    plain = score_function()(logits, loss, draws=400_000, generator=generator(34))
    assert (error < plain.std(0)).all()
    assert error.max() < 0.05 * truth.abs().max()


def test_rebar_is_relax_with_the_loss() -> None:
    """The same at every noise; the two are written apart."""
    logits, loss = problem((2, 3), 35)
    noise = rebar().randomness.sample(logits, 50, generator(36), 0)
    for c in (1.0, 0.3):
        ours = rebar(temperature=0.7, coefficient=c).formula(logits, noise, loss)
        theirs = relax(lambda y, c=c: c * loss(y), temperature=0.7).formula(logits, noise, loss)
        assert close(ours, theirs, 1e-10 * (1 + float(ours.abs().max())))


def test_relax_learns_its_surrogate() -> None:
    """The gradient of the squared estimates is that of the variance, and lowers it."""
    logits, loss = problem((2,), 37)
    noise, weights = relaxed_nodes(logits)
    a = torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)

    def second_moment(values: Tensor) -> Tensor:
        estimator = relax(lambda y: (y * values).sum(-1) + (y * values).sum(-1) ** 2)
        estimates = estimator.formula(logits, noise, loss)
        return (weights[:, None] * estimates**2).sum()

    (slope,) = torch.autograd.grad(second_moment(a), a)
    for k in range(2):
        shift = 1e-5 * eye(2)[k]
        with torch.no_grad():
            change = second_moment(a + shift) - second_moment(a - shift)
        assert float(slope[k]) == pytest.approx(float(change) / 2e-5, rel=1e-5)
    with torch.no_grad():
        lower = second_moment(a - 0.01 * slope / slope.norm())
        assert lower < second_moment(a)
    fixed = relax(lambda y: (y * a.detach()).sum(-1)).formula(logits, noise, loss)
    assert not fixed.requires_grad


def test_only_relax_hands_on_a_graph() -> None:
    """That of its surrogate, for the variance; a baseline that is learnt gets no gradient."""
    logits, loss = normal(3, 2, 4, seed=1), cubic_loss(normal(2, 4, seed=2), 2)
    scale = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    estimator = relax(lambda y: scale * (y**2).sum((-1, -2)))
    estimates = estimator(logits, loss, draws=3, generator=generator(1))
    (estimates**2).sum().backward()
    assert scale.grad is not None
    assert scale.grad != 0
    baseline = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    held = score_function(baseline=baseline)
    assert not held(logits, loss, generator=generator(1)).requires_grad
