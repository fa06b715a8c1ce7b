"""The measures of the suite: exact ones against their definition, sampled ones against exact."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from cases import close

from ils import exact
from ils.estimators import intermediate_loss_sampling, score_function, straight_through
from lab.methods.catalogue import METHODS
from lab.methods.quality import (
    INDEX,
    MEASURES,
    enumerated,
    measure,
    quality_table,
    recompute,
    sampled,
)
from lab.problems.enumerable import make_problem


def test_enumerated() -> None:
    """Each measure is its definition, and the error is the least over all scales."""
    problem = make_problem("MLP", (3, 4), "peaked", 6)
    estimator = straight_through()
    found = enumerated(estimator, problem).measures()
    z = exact.states(problem.logits, batch_dims=1)
    weights = (problem.logits.softmax(-1) * z).sum(-1).prod(-1)
    estimates = estimator.formula(problem.logits, z, problem.loss)
    gradient = exact.gradient(problem.loss, problem.logits)
    for item in range(6):
        g, e, w = gradient[item].flatten(), estimates[:, item].flatten(1), weights[:, item]
        mean = w @ e
        length = g.norm()
        assert close(found["bias"][item], (mean - g).norm() / length, 1e-10)
        spread = (w * ((e - mean) ** 2).sum(-1)).sum().sqrt()
        assert close(found["deviation"][item], spread / length, 1e-10)
        assert close(found["cosine"][item], mean @ g / mean.norm() / length, 1e-10)
        scales = torch.linspace(0, 2, 20_001, dtype=torch.float64)[:, None]
        left = (w * ((scales[..., None] * e - g) ** 2).sum(-1)).sum(-1) / length**2
        assert float(found["error"][item]) == pytest.approx(float(left.min()), abs=1e-6)


def test_sampled_agrees_with_enumerated() -> None:
    """From 20,000 draws each measure of 50 instances is near its exact value.

    The mean over instances of the difference is compared with five of its own standard errors
    (instances are independent): a false alarm has a probability below 1e-5 in all.
    """
    problem = make_problem("quadratic", (3, 4), "peaked", 50)
    estimator = intermediate_loss_sampling(step_size=0.3, per_step=True)
    truth = enumerated(estimator, problem)
    found = sampled(estimator, problem, draws=20_000, seed=1)
    for name in ("bias_squared", "variance", "product", "product_squared", "mean_squared"):
        difference = getattr(found, name) - getattr(truth, name)
        assert abs(difference.mean()) < 5 * difference.std() / 50**0.5, name
        # It could see an error of a tenth.
        assert 5 * difference.std() / 50**0.5 < 0.1 * getattr(truth, name).mean(), name


def test_sampled_corrections_are_needed() -> None:
    """Few draws: without the correction the squared bias would be far too large."""
    problem = make_problem("MLP", (3, 4), "flat", 200)
    estimator = replace(score_function(), biased=True)  # its bias is zero, and is now estimated
    found = sampled(estimator, problem, draws=16, seed=2)
    error = found.bias_squared.mean() / (found.bias_squared.std() / 200**0.5)
    assert abs(error) < 5
    assert (found.variance / 16).mean() / (found.bias_squared.std() / 200**0.5) > 10
    known = sampled(score_function(), problem, draws=16, seed=2)
    assert not known.bias_squared.any()
    assert close(known.variance, found.variance)


def test_a_known_mean_leaves_the_variance_to_the_draws() -> None:
    """With the mean of ReinMax, which is that of its form for two draws, the bias is exact."""
    problem = make_problem("cubic", (3, 4), "flat", 200)
    method = next(method for method in METHODS if method.mean is not None)
    reinmax = next(method for method in METHODS if method.name == "ReinMax")
    one, two = measure(reinmax, 1.0, problem), measure(method, 1.0, problem)
    assert method.make(1.0).evaluations == 2
    assert close(two["bias"], one["bias"])
    assert close(two["cosine"], one["cosine"])
    expectation = exact.moments(reinmax.make(1.0), problem.loss, problem.logits).mean
    known, unknown = (
        sampled(method.make(1.0), problem, draws=4000, seed=3, expectation=mean)
        for mean in (expectation, None)
    )
    assert close(known.variance, unknown.variance)
    error = (unknown.bias_squared - known.bias_squared).mean()
    spread = (unknown.bias_squared - known.bias_squared).std() / 200**0.5
    assert abs(error) < 4 * spread < 0.05 * known.bias_squared.mean()


def test_table_and_recomputation() -> None:
    """One row a cell and setting and four pools; rows can be computed anew, to the last bit."""
    method = next(method for method in METHODS if method.name == "straight-through")
    table = quality_table([replace(method, settings=(1.0,))])
    assert table.index.names == INDEX
    assert len(table) == 7 * 3 * 3 + 4
    assert table.index.is_unique
    for name in MEASURES:
        assert (table[f"{name}_low"] <= table[name]).all()
        assert (table[name] <= table[f"{name}_high"]).all()
    linear = table.xs("linear", level="kind")
    assert linear[["bias", "deviation"]].abs().to_numpy().max() < 1e-9
    picks = [tuple(index) for index in table.index if index[2] == "MLP"][:2]
    assert recompute(picks).equals(table.loc[picks])
