"""Unbiased estimators: their means, their special cases, and what their variance must obey."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from cases import close, cubic_loss, draws, exponential_nodes, generator, normal
from torch import Tensor

from ils import exact
from ils.estimators import (
    arm,
    disarm,
    disarm_categorical,
    double_control_variate,
    leave_one_out,
    muprop,
    rebar,
    relax,
    score_function,
    sum_and_sample,
    unordered_set,
)
from ils.estimators.antithetic import antithetic_pair, stick_logits
from ils.estimators.without_replacement import DistinctDraws, leave_out_ratios

SHAPES = [(4,), (2, 3), (3, 2)]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
ENUMERABLE = {
    "leave-one-out, 2": leave_one_out(samples=2),
    "leave-one-out, 3": leave_one_out(samples=3),
    "double control variates": double_control_variate(samples=2),
    "double control variates, 0.3": double_control_variate(samples=2, coefficient=0.3),
    "double control variates, 3 samples": double_control_variate(samples=3, coefficient=0.7),
    "MuProp": muprop(),
    "DisARM, categorical": disarm_categorical(),
    "unordered set, 2": unordered_set(samples=2),
    "unordered set, 3": unordered_set(samples=3),
    "unordered set without baseline": unordered_set(samples=3, baseline=False),
    "sum-and-sample, 2": sum_and_sample(samples=2),
    "sum-and-sample, 3": sum_and_sample(samples=3),
    "sum-and-sample without baseline": sum_and_sample(samples=3, baseline=False),
}


def problem(shape: tuple[int, ...], seed: int) -> tuple[Tensor, Any]:
    return normal(*shape, seed=seed), cubic_loss(normal(*shape, seed=seed + 50), len(shape))


@each_shape
@pytest.mark.parametrize("name", ENUMERABLE)
def test_unbiased(shape: tuple[int, ...], name: str) -> None:
    """The mean over all noise is the exact gradient, for several logits and losses."""
    for seed in range(3):
        logits, loss = problem(shape, seed)
        quality = exact.moments(ENUMERABLE[name], loss, logits)
        assert quality.bias.abs().max() < 1e-10 * (1 + float(quality.variance) ** 0.5)
        assert quality.gradient.abs().max() > 1e-3


@pytest.mark.parametrize("variables", [1, 2, 3])
@pytest.mark.parametrize("estimator", [arm(), disarm()], ids=["ARM", "DisARM"])
def test_unbiased_binary(variables: int, estimator: Any) -> None:
    """The same for two categories; ARM's estimate is linear in u, so two nodes a piece do."""
    for seed in range(5):
        logits, loss = problem((variables, 2), seed)
        quality = exact.moments(estimator, loss, logits)
        assert quality.bias.abs().max() < 1e-10 * (1 + float(quality.variance) ** 0.5)
        assert quality.gradient.abs().max() > 1e-3


def test_disarm_is_arm_given_the_pair() -> None:
    """ARM averaged over the u that make the same pair of draws; hence the smaller variance."""
    logits, loss = problem((1, 2), 7)
    odds = stick_logits(logits)
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    u = u.reshape(-1, 1, 1)
    pair = torch.cat(antithetic_pair(odds, u), -1).squeeze(1)
    single, integrated = (e.formula(logits, u, loss) for e in (arm(), disarm()))
    seen = 0
    for value in pair.unique(dim=0):
        here = (pair == value).all(-1)
        assert close(single[here].mean(0), integrated[here][0], 1e-4)
        seen += 1
    assert seen == 3
    for seed in range(5):
        logits, loss = problem((2, 2), seed)
        assert (
            exact.moments(disarm(), loss, logits).variance
            < exact.moments(arm(), loss, logits).variance
        )


def test_categorical_disarm_of_two_categories_is_disarm() -> None:
    """At every u."""
    logits, loss = problem((3, 2), 8)
    u = torch.rand(200, 3, 1, generator=generator(9), dtype=torch.float64)
    ours = disarm_categorical().formula(logits, u, loss)
    assert close(ours, disarm().formula(logits, u, loss), 1e-12 * (1 + float(ours.abs().max())))


def test_stick_breaking_draws_from_the_softmax() -> None:
    """The chance that a stick is the first to break is the probability of its category."""
    logits = normal(5, seed=10)
    p = stick_logits(logits).sigmoid()
    left = torch.cat([torch.ones(1, dtype=p.dtype), (1 - p).cumprod(0)])
    assert close(torch.cat([p, torch.ones(1, dtype=p.dtype)]) * left, logits.softmax(-1))


def test_leave_one_out_by_hand() -> None:
    """Each draw against the mean loss of the others."""
    logits, loss = problem((2, 3), 11)
    z = draws(6, 4, 2, 3, seed=12)
    found = leave_one_out(samples=4).formula(logits, z, loss)
    for each, estimate in zip(z, found, strict=True):
        values = loss(each)
        total = torch.zeros(2, 3, dtype=torch.float64)
        for s in range(4):
            rest = torch.cat([values[:s], values[s + 1 :]]).mean()
            total += (each[s] - logits.softmax(-1)) * (values[s] - rest) / 4
        assert close(estimate, total)


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
    probs = logits.softmax(-1).requires_grad_()
    (slope,) = torch.autograd.grad(loss(probs[None]).sum(), probs)
    mean = probs.detach()

    def expansion(z: Tensor) -> Tensor:
        return loss(mean[None]) + (slope * (z - mean)).sum((-1, -2))

    z = draws(20, 2, 3, seed=17)
    rest = score_function().formula(logits, z, lambda x: loss(x) - expansion(x))
    found = muprop().formula(logits, z, loss)
    assert close(found, rest + exact.gradient(expansion, logits), 1e-11)


def orderings(p: Tensor, size: int) -> float:
    """Probability that a set comes first, by all its orders: the brute force of the ratios."""
    total = 0.0
    for order in itertools.permutations(range(size)):
        chance, left = 1.0, 1.0
        for s in order:
            chance *= float(p[s]) / left
            left -= float(p[s])
        total += chance
    return total


@pytest.mark.parametrize("size", [2, 3, 4])
def test_leave_out_ratios(size: int) -> None:
    """Against sums over all orders, in the domain without the states that are taken out."""
    p = normal(7, seed=18).softmax(-1)[:size]
    single, double = leave_out_ratios(p[None])
    whole = orderings(p, size)
    for s in range(size):
        rest = torch.cat([p[:s], p[s + 1 :]])
        without = orderings(rest / (1 - p[s]), size - 1)
        assert float(single[0, s]) == pytest.approx(without / whole, abs=1e-12)
        for t in range(size):
            if t == s:
                assert float(double[0, s, t]) == pytest.approx(1)
                continue
            two = p[[k for k in range(size) if k not in (s, t)]]
            found = orderings(two / (1 - p[s] - p[t]), size - 2)
            assert float(double[0, s, t]) == pytest.approx(found / without, abs=1e-11)


def test_leave_out_ratios_of_certain_states() -> None:
    """Nearly all mass in the set: finite, and the total weight is one."""
    p = torch.tensor([[1 - 1e-15, 5e-16, 5e-16], [0.5, 0.5 - 1e-14, 1e-14]], dtype=torch.float64)
    single, double = leave_out_ratios(p)
    assert single.isfinite().all()
    assert double.isfinite().all()
    assert close((p * single).sum(1), torch.ones(2, dtype=torch.float64), 1e-6)


@each_shape
def test_unordered_set_is_sum_and_sample_without_the_order(shape: tuple[int, ...]) -> None:
    """Averaging sum-and-sample over the orders of a set, by their chances; less variance then."""
    logits, loss = problem(shape, 19)
    ordered = sum_and_sample(samples=3, baseline=False)
    noise, weights = ordered.randomness.support(logits, 0)
    estimates = ordered.formula(logits, noise, loss)
    unordered = unordered_set(samples=3, baseline=False)
    found = unordered.formula(logits, noise, loss)
    size = noise[0, 0].numel()
    code = noise.flatten(2) @ 2.0 ** torch.arange(size, dtype=torch.float64)
    keys = code.sort(1).values
    for key in keys.unique(dim=0)[:20]:
        here = (keys == key).all(-1)
        share = weights[here] / weights[here].sum()
        mean = (share.reshape(-1, *[1] * logits.dim()) * estimates[here]).sum(0)
        assert int(here.sum()) == 6
        assert close(found[here][0], mean, 1e-10 * (1 + float(mean.abs().max())))
    less = exact.moments(unordered, loss, logits).variance
    assert less < exact.moments(ordered, loss, logits).variance


@pytest.mark.parametrize("make", [unordered_set, sum_and_sample])
def test_all_states_make_the_estimate_exact(make: Any) -> None:
    """When the sample holds every state there is nothing left to chance."""
    logits, loss = problem((3,), 20)
    quality = exact.moments(make(samples=3), loss, logits)
    assert quality.variance < 1e-18
    with pytest.raises(ValueError, match=r"samples: .* got 4 for 3 states"):
        make(samples=4)(logits, loss)
    with pytest.raises(ValueError, match=r"samples: .* got 4 for 3 states"):
        exact.moments(make(samples=4), loss, logits)
    masked = torch.tensor([0.0, 1.0, -torch.inf], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"got 3 for 2 states of positive probability"):
        make(samples=3)(masked, loss)


@pytest.mark.parametrize("make", [leave_one_out, unordered_set, sum_and_sample])
def test_bad_samples(make: Any) -> None:
    """One draw leaves none for a baseline."""
    with pytest.raises(ValueError, match="samples: expected at least 2, got 1"):
        make(samples=1)
    with pytest.raises(TypeError, match="samples: expected an integer"):
        make(samples=2.0)


def test_distinct_draws_sampler() -> None:
    """The beam search draws ordered pairs with the chances of the support.

    Thirty chances, each within five standard errors: a false alarm below 2e-5.  The errors are
    small enough to tell the pairs from draws with replacement.
    """
    logits = normal(1, 2, 3, seed=21)[0] * 0.7
    kind, count = DistinctDraws(2), 200_000
    noise, weights = kind.support(logits, 0)
    found = kind.sample(logits, count, generator(22), 0)
    assert not (found[:, 0] == found[:, 1]).all(-1).all(-1).any()
    code = torch.tensor([[9.0, 3.0, 1.0], [81.0, 27.0, 243.0]], dtype=torch.float64)

    def name(z: Tensor) -> Tensor:
        each = (z * code).sum((-1, -2))
        return each[:, 0] * 1000 + each[:, 1]

    drawn = name(found)
    for label, weight in zip(name(noise), weights, strict=True):
        share = float((drawn == label).double().mean())
        error = float(weight * (1 - weight) / count) ** 0.5
        assert abs(share - float(weight)) < 5 * error
    assert float(5 * (weights * (1 - weights) / count).sqrt().max()) < 0.1 * float(weights.max())


def test_distinct_draws_of_many_variables() -> None:
    """Where the states cannot be listed, draws differ, are one-hot, and leave masks alone."""
    logits = normal(4, 30, 5, seed=23) * 3
    logits[:, :, 2] = -torch.inf
    z = DistinctDraws(6).sample(logits, 50, generator(24), 1)
    assert z.shape == (50, 6, 4, 30, 5)
    assert torch.equal(z.sum(-1), torch.ones(z.shape[:-1], dtype=z.dtype))
    assert not z[..., 2].any()
    for a, b in itertools.combinations(range(6), 2):
        assert not (z[:, a] == z[:, b]).all(-1).all(-1).any()
    first = z[:, 0].mean(0)
    assert (first - logits.softmax(-1)).abs().mean() < 0.06


def relaxed_nodes(logits: Tensor) -> tuple[Any, Tensor]:
    """Nodes for one variable of two categories: all draws, and the same exponentials twice.

    The terms of the two rows of exponentials add, so that their means can share one grid.
    """
    line, weight = exponential_nodes(34.0, 0.4)
    grid = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    both = torch.outer(weight, weight).flatten()
    z = torch.eye(2, dtype=torch.float64).repeat_interleave(len(grid), 0)
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
        shift = 1e-5 * torch.eye(2, dtype=torch.float64)[k]
        with torch.no_grad():
            change = second_moment(a + shift) - second_moment(a - shift)
        assert float(slope[k]) == pytest.approx(float(change) / 2e-5, rel=1e-5)
    with torch.no_grad():
        lower = second_moment(a - 0.01 * slope / slope.norm())
        assert lower < second_moment(a)
    fixed = relax(lambda y: (y * a.detach()).sum(-1)).formula(logits, noise, loss)
    assert not fixed.requires_grad
