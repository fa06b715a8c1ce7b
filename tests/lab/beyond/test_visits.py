"""A Poisson count behind real counts: every sum against another way to take it.

The table here is synthetic, in the form of the real one, which is no part of the project.  All is
exact, in float64, with the sums cut where less than ``1e-12`` is left.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import poisson
from torch import Tensor

from lab.beyond.models import rates, report, visits
from lab.beyond.models.visits import Persons, VisitsModel
from lab.training.task import Parameters, Stream

COLUMNS = (*visits.COUNTS, *visits.COVARIATES)


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    """Sixty persons with the columns of NMES1988."""
    random = np.random.default_rng(0)
    episodes = random.poisson(1.2, 60)
    frame = pd.DataFrame(
        {
            name: random.poisson(0.3 + scale * episodes)
            for name, scale in zip(visits.COUNTS, (2, 1, 0.5), strict=True)
        }
    )
    frame["health"] = random.choice(["average", "excellent", "poor"], 60)
    for name in ("chronic", "age", "school"):
        frame[name] = random.integers(0, 9, 60)
    for name in ("adl", "gender", "insurance"):
        frame[name] = random.choice(["no", "yes"], 60)
    path = tmp_path / "table.csv"
    frame.to_csv(path)
    return path


@pytest.fixture
def task(csv: Path) -> VisitsModel:
    return VisitsModel(visits.read_table(csv), width=3, examples=8, steps=20)


def begun(task: VisitsModel, runs: int = 1) -> tuple[Parameters, Persons]:
    """Parameters in float64, the same for all runs, and one person who was seen."""
    made = task.start(Stream([3]))
    parameters = {name: p.double().expand(runs, *p.shape[1:]).clone() for name, p in made.items()}
    one = task.table.part("train")
    person = int(one.counts.sum(-1).argmax())
    seen = (x[None, [person]].double().expand(runs, -1, -1) for x in one)
    counts, covariates = seen
    return parameters, Persons(counts, covariates, torch.Generator().manual_seed(0))


def gradients(value: Tensor, parameters: Parameters) -> dict[str, Tensor]:
    found = torch.autograd.grad(value, list(parameters.values()), materialize_grads=True)
    return {name: g.sum(0) for name, g in zip(parameters, found, strict=True)}


def moving(parameters: Parameters) -> Parameters:
    return {name: p.clone().requires_grad_() for name, p in parameters.items()}


def furthest(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def test_the_table(csv: Path) -> None:
    """Whole parts without a person in two; text by its values but the first, all of one scale."""
    table = visits.read_table(csv)
    frame = pd.read_csv(csv)
    assert table.counts.tolist() == frame[list(visits.COUNTS)].to_numpy().tolist()
    assert table.covariates.shape == (60, 8)
    assert table.covariates.mean(0).tolist() == pytest.approx([0] * 8, abs=1e-6)
    assert table.covariates.std(0, correction=0).tolist() == pytest.approx([1] * 8)
    poor = torch.tensor((frame["health"] == "poor").to_numpy())
    assert ((table.covariates > 0) == poor[:, None]).all(0).any()
    parts = [table.part(split) for split in ("train", "validation", "test")]
    assert [len(part.counts) for part in parts] == [36, 12, 12]
    rows = torch.cat([torch.cat(tuple(part), -1) for part in parts])
    assert sorted(rows.tolist()) == sorted(torch.cat(tuple(table), -1).tolist())


@pytest.mark.parametrize("wrong", [-1, 0.5, None, "constant"])
def test_what_is_no_table_of_counts_is_refused(csv: Path, wrong) -> None:
    frame = pd.read_csv(csv, index_col=0)
    if wrong == "constant":
        frame["chronic"] = 1
    else:
        frame["visits"] = frame["visits"].astype(object)
        frame.loc[3, "visits"] = wrong
    frame.to_csv(csv)
    with pytest.raises(ValueError, match=r"table\.csv"):
        visits.read_table(csv)


def test_the_digest_is_of_the_numbers(csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of the file; the record is of the table that has the digest it was made from."""
    before = visits.read_table(csv).digest()
    frame = pd.read_csv(csv, index_col=0)
    frame[[*reversed(COLUMNS)]].to_csv(csv, sep=",", index=False, float_format="%.3f")
    assert visits.read_table(csv).digest() == before
    frame.loc[7, "visits"] += 1
    frame.to_csv(csv)
    assert visits.read_table(csv).digest() != before
    monkeypatch.delenv("VISITS", raising=False)
    with pytest.raises(LookupError, match="VISITS"):
        visits.record()
    monkeypatch.setenv("VISITS", str(csv))
    with pytest.raises(ValueError, match="NMES1988"):
        visits.record()


def test_bound_and_likelihood_are_sums_over_episodes(task: VisitsModel) -> None:
    """By scipy's probabilities; the bound lacks the divergence from the exact posterior."""
    parameters, batch = begun(task)
    n = np.arange(80)
    a, b = (parameters[name][0].exp().numpy() for name in ("log_a", "log_b"))
    log_y = poisson.logpmf(batch.counts[0].numpy(), a + b * n[:, None]).sum(-1)
    log_joint = log_y + poisson.logpmf(n, float(task.prior(parameters, batch)))
    evidence = np.logaddexp.reduce(log_joint)
    assert float(task.surprise(parameters, batch)) == pytest.approx(-evidence, abs=1e-11)
    log_q = poisson.logpmf(n, float(task.rate(parameters, batch)))
    gap = np.exp(log_q) @ (log_q - log_joint + evidence)
    assert gap > 0.01
    assert float(task.bound(parameters, batch)) == pytest.approx(gap - evidence, abs=1e-11)


def test_the_gradient_of_the_likelihood_is_the_posterior_mean(task: VisitsModel) -> None:
    """Of the gradient of the joint; with the prior in the posterior's place it is another."""
    parameters, batch = begun(task)
    z = torch.arange(80, dtype=torch.float64)[:, None, None, None]

    def joint(model: Parameters) -> Tensor:
        prior = rates.log_prob(z, task.prior(model, batch)).squeeze(-1)
        return prior - task.visit_loss(model, batch, z)

    model = moving(parameters)
    found = gradients(task.surprise(model, batch).sum(), model)
    posterior = joint(parameters).softmax(0)
    mean = gradients(-(posterior * joint(model)).sum(), model)
    assert furthest(found, mean) < 1e-10
    prior = rates.log_prob(z, task.prior(parameters, batch)).squeeze(-1).exp()
    assert furthest(found, gradients(-(prior * joint(model)).sum(), model)) > 0.1


def enumerated(
    task: VisitsModel, method: str, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Tensor]:
    """The mean of a method's gradient for all parameters, over all pairs of draws below 24."""
    line = torch.arange(24, dtype=torch.float64)
    pairs = torch.cartesian_prod(line, line)
    parameters, batch = begun(task, len(pairs))
    weight = rates.log_prob(pairs, task.rate(parameters, batch)[:1, 0]).sum(-1).exp()
    assert float(weight.sum()) == pytest.approx(1, abs=1e-11)
    monkeypatch.setattr(torch, "poisson", lambda rate, generator: pairs.T[..., None, None])
    model = moving(parameters)
    return gradients((weight * task.own[method].objective(model, batch, 0.0)).sum(), model)


def test_means_of_the_methods(task: VisitsModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some have the gradient of the bound; others are wrong, for the encoder alone.

    The model needs no gradient of a draw. Without noise ILS is its own mean.
    """
    parameters, batch = begun(task)
    model = moving(parameters)
    exact = gradients(task.bound(model, batch).sum(), model)
    without = task.own["ils.distributions, without noise"].objective(model, batch, 0.0)
    still = gradients(without.sum(), model)
    for name in ("differences", "leave-one-out"):
        assert furthest(enumerated(task, name, monkeypatch), exact) < 1e-9
    encoder = [name for name in exact if name.startswith("in")]
    for name in ("straight-through", "any distribution", "no gradient", "ils.distributions"):
        found = enumerated(task, name, monkeypatch)
        assert furthest({n: g for n, g in found.items() if n not in encoder}, exact) < 1e-9
        if name == "ils.distributions":
            assert furthest(still, found) < 1e-9
        else:
            assert furthest({n: found[n] for n in encoder}, exact) > 1e-2
            assert furthest(still, found) > 1e-2


@pytest.mark.parametrize("method", list(visits.SURROGATES))
def test_equal_numbers_of_draws(task: VisitsModel, method: str) -> None:
    """Two a step, with one evaluation each; the differences take a second, the sums one a count."""
    evaluations = []

    def loss(z: Tensor) -> Tensor:
        evaluations.append(len(z))
        return z.squeeze(-1) ** 2

    surrogate, settings = visits.SURROGATES[method]
    rate = torch.tensor([[[0.5], [2.0]]])
    assert surrogate(loss, rate, torch.Generator(), settings[0]).shape == (1, 2)
    many = {"differences": 4, "exact gradient": 64, "ils.distributions, without noise": 64}
    assert sum(evaluations) == many.get(method, 2)


def test_exact_sum_and_exact_likelihood(task: VisitsModel) -> None:
    """The encoder learns from the bound in both, the model from the bound or the likelihood."""
    parameters, batch = begun(task)
    model = moving(parameters)
    bound = gradients(task.bound(model, batch).sum(), model)
    surprise = gradients(task.surprise(model, batch).sum(), model)
    names = ("exact gradient", "exact gradient, of the likelihood")
    values = (task.own[name].objective(model, batch, 0.0).sum() for name in names)
    summed, both = (gradients(value, model) for value in values)
    assert furthest(summed, bound) < 1e-10
    expected = {name: bound[name] if name.startswith("in") else surprise[name] for name in bound}
    assert furthest(both, expected) < 1e-10
    assert furthest(bound, surprise) > 0.1


def test_moments_are_those_of_all_draws(task: VisitsModel) -> None:
    """Means against autograd of the expectation, variances against all pairs of draws."""
    parameters, batch = begun(task)
    rate = torch.tensor([[0.7], [2.1]], dtype=torch.float64, requires_grad=True)

    def loss(z: Tensor) -> Tensor:
        return task.visit_loss(parameters, batch, z.unsqueeze(1)).squeeze(1)

    line = torch.arange(40, dtype=torch.float64)[:, None, None]
    probs = rates.log_prob(line, rate).squeeze(-1).exp()
    values = loss(line.expand(-1, 2, 1))
    (expected,) = torch.autograd.grad((probs * values).sum(), rate)
    exact, found = visits.moments(loss, rate.detach())
    assert torch.allclose(exact, expected.squeeze(-1), atol=1e-10)
    for name in ("differences", "leave-one-out"):
        assert torch.allclose(found[name][0], exact, atol=1e-10)
    for name in ("ils.distributions", "straight-through", "any distribution"):
        assert ((found[name][0] - exact).abs() > 1e-2).all()

    z = line[:30]
    pairs = torch.cartesian_prod(z.flatten(), z.flatten())
    for place, one in enumerate(rate.detach()):
        weight = rates.log_prob(pairs, one).sum(-1).exp()
        estimators = {"differences": rates.differences, "leave-one-out": rates.leave_one_out}
        for name, function in estimators.items():
            copies = one.expand(len(pairs), 1).clone().requires_grad_()
            value = function(loss, copies, pairs.T[..., None])
            (each,) = torch.autograd.grad(value.sum(), copies)
            mean = weight @ each.flatten()
            variance = weight @ (each.flatten() - mean) ** 2
            assert float(found[name][1][place]) == pytest.approx(float(variance), rel=1e-9)


def test_the_experiment(task: VisitsModel) -> None:
    """Every method is tuned and run, and twice the same; the tables of the report pair by seed."""
    found = visits.experiment(task, (5, 6))
    pd.testing.assert_frame_equal(found, visits.experiment(task, (5, 6)))
    tuning = found.xs("tuning", level="stage").groupby("method").size()
    assert set(tuning.index) == set(task.own)
    assert (tuning == 12 * task.tuning_seeds).all()
    chosen, ends, quality = report.visits(found)
    assert {name for name, _, _ in chosen} == set(task.own)
    assert list(ends["negative ELBO"].columns) == [5, 6]
    assert (ends["negative ELBO"] > ends["negative log-likelihood"]).all(axis=None)
    assert quality.loc["differences", "bias"] == pytest.approx(0, abs=1e-9)
    assert quality.loc["straight-through", "bias"] > 0.01
