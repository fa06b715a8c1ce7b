"""The distributions in programs of Pyro: they train to the best guide there is."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pyro
import pyro.distributions
import pytest
import torch
from cases import close, normal
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor

import ils.pyro as dist
from ils import distributions

DATA = torch.tensor([-1.0, 0.5, 1.0, 1.4, 3.0, 4.0], dtype=torch.float64)
ODDS = torch.tensor([-1.0, -1.0, 0.0, 1.0, 0.0, 1.0], dtype=torch.float64)
RATE = torch.tensor([0.5, 1.0, 1.0, 2.0, 2.0, 4.0], dtype=torch.float64)
SPREAD = 1.5

both_bounds = pytest.mark.parametrize("elbo", [Trace_ELBO, TraceMeanField_ELBO])


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """No test sees the parameters, or the random numbers, of another."""
    pyro.clear_param_store()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        yield
    pyro.clear_param_store()


def coins(library: Any) -> tuple[Callable[[], None], Callable[[], None]]:
    """A hidden coin for each datum, and a guide with the log-odds of each."""

    def model() -> None:
        with pyro.plate("data", len(DATA)):
            z = pyro.sample("z", library.Bernoulli(logits=ODDS))
            pyro.sample("x", pyro.distributions.Normal(2 * z, SPREAD), obs=DATA)

    def guide() -> None:
        logits = pyro.param("logits", torch.zeros_like(DATA))
        with pyro.plate("data", len(DATA)):
            pyro.sample("z", library.Bernoulli(logits=logits))

    return model, guide


def counts(library: Any) -> tuple[Callable[[], None], Callable[[], None]]:
    """A hidden count for each datum, as one event, and a guide with a rate of each."""

    def model() -> None:
        z = pyro.sample("z", library.Poisson(RATE).to_event(1))
        pyro.sample("x", pyro.distributions.Normal(z, SPREAD).to_event(1), obs=DATA)

    def guide() -> None:
        rate = pyro.param("rate", torch.ones_like(DATA), pyro.distributions.constraints.positive)
        pyro.sample("z", library.Poisson(rate).to_event(1))

    return model, guide


def log_likelihood(z: Tensor) -> Tensor:
    """Of the data, by hand."""
    return torch.distributions.Normal(z, SPREAD).log_prob(DATA)


def coins_by_hand() -> tuple[Tensor, float]:
    """The posterior log-odds, and the log-evidence, by Bayes' rule over the two sides."""
    zero, one = log_likelihood(torch.zeros_like(DATA)), log_likelihood(2 * torch.ones_like(DATA))
    up, down = torch.nn.functional.logsigmoid(ODDS), torch.nn.functional.logsigmoid(-ODDS)
    return ODDS + one - zero, float(torch.logaddexp(one + up, zero + down).sum())


def bound_of_counts(rate: Tensor) -> Tensor:
    """The bound of each datum for the rates of a guide, summed over 80 counts."""
    z = torch.arange(80, dtype=torch.float64)[:, None]
    own = torch.distributions.Poisson(rate).log_prob(z)
    prior = torch.distributions.Poisson(RATE).log_prob(z)
    return (own.exp() * (log_likelihood(z) + prior - own)).sum(0)


def counts_by_hand() -> tuple[Tensor, float]:
    """The rates of the best guide and its bound, from a grid so fine that it shows no more."""
    grid = torch.logspace(-3, 1.2, 4001, dtype=torch.float64)
    bounds = torch.stack([bound_of_counts(rate.expand(len(DATA))) for rate in grid])
    best, place = bounds.max(0)
    return grid[place], float(best.sum())


def train(program: tuple[Any, Any], elbo: Any, name: str, steps: int = 900) -> Tensor:
    """The parameter of a guide, averaged over the last part of a run of SVI."""
    loss = elbo(num_particles=100, vectorize_particles=True, max_plate_nesting=1)
    svi = SVI(*program, pyro.optim.Adam({"lr": 0.03}), loss)
    kept = []
    for step in range(steps):
        svi.step()
        if step >= steps - 300:
            kept.append(pyro.param(name).detach().clone())
    return torch.stack(kept).mean(0)


@both_bounds
def test_hidden_coins(elbo: Any) -> None:
    """SVI comes to the exact posterior, and its bound to the log-evidence.

    The bound of a guide is computed without noise; what is left of that of the training is allowed
    for by 0.01 in each probability and 0.002 nats.
    """
    odds, evidence = coins_by_hand()
    found = train(coins(dist), elbo, "logits")
    assert close(found.sigmoid(), odds.sigmoid(), 0.01)
    ends = torch.stack([torch.zeros_like(DATA), torch.ones_like(DATA)])
    own = torch.distributions.Bernoulli(logits=found).log_prob(ends)
    prior = torch.distributions.Bernoulli(logits=ODDS).log_prob(ends)
    bound = float((own.exp() * (log_likelihood(2 * ends) + prior - own)).sum())
    assert evidence - 2e-3 < bound < evidence + 1e-9
    start = float((log_likelihood(2 * ends) + prior + torch.log(torch.tensor(2.0))).mean(0).sum())
    assert start < evidence - 1


@both_bounds
def test_hidden_counts(elbo: Any) -> None:
    """SVI comes to the best of all Poisson guides, to one hundredth of a nat."""
    rate, best = counts_by_hand()
    found = train(counts(dist), elbo, "rate")
    assert torch.allclose(found, rate, rtol=0.05, atol=0.02)
    bound = float(bound_of_counts(found).sum())
    assert best - 0.01 < bound < best + 1e-4
    assert float(bound_of_counts(torch.ones_like(DATA)).sum()) < best - 1


def test_pyros_own_classes_take_another_path() -> None:
    """The same programs with Pyro's classes have no reparameterised site, and the bound that needs
    one refuses them."""
    for make in (coins, counts):
        for library, expected in ((dist, True), (pyro.distributions, False)):
            pyro.clear_param_store()
            model, guide = make(library)
            site = poutine.trace(guide).get_trace().nodes["z"]
            assert site["fn"].has_rsample is expected
            assert site["value"].requires_grad is expected
            svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.1}), TraceMeanField_ELBO())
            if expected:
                svi.step()
            else:
                with pytest.raises(NotImplementedError, match="reparam"):
                    svi.step()


def test_gradients_are_less_noisy_than_the_score_functions() -> None:
    """One particle's gradient of the coins has three quarters of the deviation of Pyro's own."""
    deviations = []
    for library in (dist, pyro.distributions):
        model, guide = coins(library)
        pyro.clear_param_store()
        guide()
        leaf = pyro.get_param_store()._params["logits"]
        found = []
        for _ in range(300):
            leaf.grad = None
            Trace_ELBO().loss_and_grads(model, guide)
            found.append(leaf.grad.clone())
        deviations.append(torch.stack(found).std(0).norm())
    assert deviations[0] < 0.75 * deviations[1]


@pytest.mark.parametrize("name", dist.__all__)
def test_classes(name: str) -> None:
    """Each class is that of this package and one of Pyro's, under its own name."""
    cls = getattr(dist, name)
    assert issubclass(cls, getattr(distributions, name))
    assert issubclass(cls, pyro.distributions.TorchDistribution) or hasattr(cls, "to_event")
    assert cls.__name__ == name
    assert cls.__module__ == "ils.pyro"
    assert cls.__doc__.startswith("``ils.distributions.")


def test_other_names_are_pyros() -> None:
    """What is not here is found in pyro.distributions, and what is nowhere is an error."""
    for name in ("Uniform", "Delta", "LogNormal", "constraints", "TorchDistribution"):
        assert getattr(dist, name) is getattr(pyro.distributions, name)
    with pytest.raises(AttributeError, match="no_such_family"):
        _ = dist.no_such_family


def test_methods_of_pyro() -> None:
    """expand_by, to_event, mask, the call and copies keep the gradient and the class."""
    rate = normal(4, 3, seed=2).exp().requires_grad_()
    q = dist.Poisson(rate)
    assert type(q.expand_by([2])) is dist.Poisson
    assert q.expand_by([2]).batch_shape == (2, 4, 3)
    event = q.to_event(1)
    assert event.has_rsample
    assert event.batch_shape == (4,)
    mask = torch.tensor([True, False, True])
    masked = q.mask(mask)
    assert masked.has_rsample
    assert not masked.log_prob(q.sample())[:, 1].any()
    for drawn in (q(), event.rsample(), masked.rsample(), q.expand_by([2])()):
        (found,) = torch.autograd.grad((drawn**2).sum(), rate)
        assert found.shape == (4, 3)
        assert found.abs().max() > 0.01
    fixed = dist.Poisson(rate.detach())
    assert type(pickle.loads(pickle.dumps(fixed))) is dist.Poisson
    weights = dist.Categorical(logits=torch.zeros(4, 3).double())
    mixture = dist.MixtureSameFamily(weights, q)
    assert mixture.expand_by([2]).batch_shape == (2, 4)
    assert mixture().requires_grad
    rows = dist.Categorical(logits=torch.zeros(4, 3), weight=torch.eye(3))
    assert rows().shape == (4, 3)


def test_masked_data_have_no_gradient() -> None:
    """Within a plate and a mask the data that are masked train nothing."""
    mask = torch.tensor([True, True, False, True, False, True])
    model, guide = coins(dist)
    guide()
    leaf = pyro.get_param_store()._params["logits"]
    TraceMeanField_ELBO().loss_and_grads(poutine.mask(model, mask), poutine.mask(guide, mask))
    assert torch.equal(leaf.grad != 0, mask)
