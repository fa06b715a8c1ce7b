"""States drawn without replacement: the sampler, the ratios, unordered set, sum-and-sample."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from cases import close, cubic_loss, generator, normal
from factories import cubic_problem as problem
from factories import factory
from torch import Tensor

from ils import exact
from ils.estimators import sum_and_sample, unordered_set
from ils.estimators.without_replacement import DistinctDraws, _given_maximum, leave_out_ratios

INF = float("inf")


# --- the draws


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


def test_children_of_dead_parents() -> None:
    """No child has a chance if the parent has none, or if no child has one itself."""
    dead = torch.tensor([-INF, -INF])
    for gumbel, maximum in ((dead, 0.0), (torch.tensor([0.0, 1.0]), -INF), (dead, -INF)):
        found = _given_maximum(gumbel, torch.tensor([maximum]))
        assert found.tolist() == [-INF, -INF]
    found = _given_maximum(torch.tensor([0.5, -INF, 1.0]), torch.tensor([3.0]))
    assert found[2] == 3
    assert found[1] == -INF
    assert found[0] < 3


@pytest.mark.parametrize("make", [unordered_set, sum_and_sample])
def test_all_states_make_the_estimate_exact(make: Any) -> None:
    """When the sample holds every state of each problem there is nothing left to chance."""
    logits, loss = normal(2, 3, seed=20), cubic_loss(normal(2, 3, seed=70), 1)
    found = make(samples=3)(logits, loss, draws=5, generator=generator(1))
    assert close(found, exact.gradient(loss, logits).expand(5, 2, 3), 1e-12)
    assert exact.moments(make(samples=3), loss, logits).variance.max() < 1e-18


def test_too_few_states() -> None:
    """One problem of the batch with too few states is enough to refuse."""
    logits = torch.tensor([[0.0, -INF, -INF], [0.0, 1.0, 2.0]])
    with pytest.raises(ValueError, match=r"^samples: .*got 2 for 1 states of positive prob"):
        DistinctDraws(2).sample(logits, 3, generator(1), 1)
    with pytest.raises(ValueError, match=r"^samples: .*got 4 for 3 states of positive prob"):
        DistinctDraws(4).sample(logits[1], 3, generator(1), 0)
    with pytest.raises(ValueError, match=r"^samples: .*got 4 for 3 states$"):
        DistinctDraws(4).support(logits, 1)


# --- unordered set


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


@pytest.mark.parametrize("shape", [(4,), (2, 3), (3, 2)], ids=str)
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


# --- sum-and-sample


@pytest.mark.parametrize("samples", [2, 3])
def test_sum_and_sample_by_hand(samples: int) -> None:
    """The last state stands for all the rest; the baseline is the estimate by those before it."""
    logits, weights = normal(4, seed=1), normal(4, seed=2)
    estimator = sum_and_sample(samples=samples)
    z = estimator.randomness.sample(logits, 10, generator(4), 0)
    chances, losses = z @ logits.softmax(-1), z @ weights

    def shares(count: int) -> Tensor:
        first = chances[:, : count - 1]
        return torch.cat([first, 1 - first.sum(1, keepdim=True)], 1)

    mean = (shares(samples - 1) * losses[:, :-1]).sum(1, keepdim=True)
    each = (shares(samples) * (losses - mean)).unsqueeze(-1) * (z - logits.softmax(-1))
    assert close(estimator.formula(logits, z, lambda z: z @ weights), each.sum(1), 1e-12)


# --- baselines


@pytest.mark.parametrize("samples", [2, 3])
@pytest.mark.parametrize("name", ["sum_and_sample", "unordered_set", "leave_one_out"])
def test_baselines_take_a_constant_away(name: str, samples: int) -> None:
    """Of a loss that is the same everywhere every single estimate is zero, with a baseline."""
    logits = normal(2, 3, seed=1)
    found = factory(name)(samples=samples)(
        logits, lambda z: 3 + 0 * z.sum((-1, -2)), draws=20, generator=generator(2)
    )
    assert close(found, torch.zeros_like(found), 1e-12)
    if name != "leave_one_out":
        bare = factory(name)(samples=samples, baseline=False)
        bare = bare(logits, lambda z: 3 + 0 * z.sum((-1, -2)), draws=20, generator=generator(2))
        assert bare.abs().max() > 1e-2
