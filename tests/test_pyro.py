"""The distributions in programs of Pyro: they train to the best guide there is."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pyro
import pyro.distributions
import pytest
import torch
from cases import close, normal
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO, config_enumerate
from pyro.infer.autoguide import AutoDiscreteParallel
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


def coins() -> tuple[Callable[[], None], Callable[[], None]]:
    """A hidden coin for each datum, and a guide with the log-odds of each."""

    def model() -> None:
        with pyro.plate("data", len(DATA)):
            z = pyro.sample("z", dist.Bernoulli(logits=ODDS))
            pyro.sample("x", pyro.distributions.Normal(2 * z, SPREAD), obs=DATA)

    def guide() -> None:
        logits = pyro.param("logits", torch.zeros_like(DATA))
        with pyro.plate("data", len(DATA)):
            pyro.sample("z", dist.Bernoulli(logits=logits))

    return model, guide


def counts() -> tuple[Callable[[], None], Callable[[], None]]:
    """A hidden count for each datum, as one event, and a guide with a rate of each."""

    def model() -> None:
        z = pyro.sample("z", dist.Poisson(RATE).to_event(1))
        pyro.sample("x", pyro.distributions.Normal(z, SPREAD).to_event(1), obs=DATA)

    def guide() -> None:
        rate = pyro.param("rate", torch.ones_like(DATA), pyro.distributions.constraints.positive)
        pyro.sample("z", dist.Poisson(rate).to_event(1))

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
    found = train(coins(), elbo, "logits")
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
    found = train(counts(), elbo, "rate")
    assert torch.allclose(found, rate, rtol=0.05, atol=0.02)
    bound = float(bound_of_counts(found).sum())
    assert best - 0.01 < bound < best + 1e-4
    assert float(bound_of_counts(torch.ones_like(DATA)).sum()) < best - 1


@pytest.mark.parametrize("name", dist.__all__)
def test_classes(name: str) -> None:
    """Each class is that of this package and one of Pyro's, under its own name; made again too."""
    first, again = getattr(dist, name), dist._for_pyro(name)  # pyright: ignore[reportPrivateUsage]
    theirs = getattr(pyro.distributions, name)
    assert again.__bases__ == first.__bases__
    for cls in (first, again):
        assert issubclass(cls, getattr(distributions, name))
        assert issubclass(cls, theirs)
        assert (cls.__name__, cls.__module__) == (name, "ils.pyro")
        assert cls.__doc__.startswith("``ils.distributions.")
    if name not in ("Independent", "MixtureSameFamily"):
        assert first.has_enumerate_support is theirs.has_enumerate_support


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
    model, guide = coins()
    guide()
    leaf = pyro.get_param_store()._params["logits"]
    TraceMeanField_ELBO().loss_and_grads(poutine.mask(model, mask), poutine.mask(guide, mask))
    assert torch.equal(leaf.grad != 0, mask)


# --- enumeration ------------------------------------------------------------------------

THREE = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
PLACE = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64)
RIDGE = torch.tensor([[0.0, 1.0], [1.0, 0.5], [2.0, -1.0]], dtype=torch.float64)

# Of each family: a prior, a guide, the first value of that, and where a value puts the data.
FAMILIES: dict[str, tuple[Any, Any, Tensor, Any]] = {
    "Bernoulli": (
        lambda lib: lib.Bernoulli(torch.tensor(0.3).double()),
        lambda lib, p: lib.Bernoulli(logits=p),
        torch.tensor(0.4).double(),
        lambda z: 2 * z,
    ),
    "Binomial": (
        lambda lib: lib.Binomial(3, torch.tensor(0.3).double()),
        lambda lib, p: lib.Binomial(3, logits=p),
        torch.tensor(0.4).double(),
        lambda z: z,
    ),
    "Categorical": (
        lambda lib: lib.Categorical(THREE),
        lambda lib, p: lib.Categorical(logits=p),
        torch.tensor([0.4, 0.0, -0.3]).double(),
        lambda z: PLACE[z],
    ),
    "OneHotCategorical": (
        lambda lib: lib.OneHotCategorical(THREE),
        lambda lib, p: lib.OneHotCategorical(logits=p),
        torch.tensor([0.4, 0.0, -0.3]).double(),
        lambda z: z @ PLACE,
    ),
}


def loss_and_gradient(
    model: Any, guide: Any, start: Tensor, elbo: Any = None
) -> tuple[float, Tensor]:
    """Of the parameter ``p`` of a guide, from its first value."""
    pyro.clear_param_store()
    leaf = pyro.param("p", start.clone())
    loss = (elbo or TraceEnum_ELBO(max_plate_nesting=2)).loss_and_grads(model, guide)
    assert leaf.grad is not None
    return float(loss), leaf.grad.clone()


def hidden(family: str, plates: tuple[int, ...]) -> tuple[Any, Any]:
    """A latent of a family for each place of nested plates, a datum of each, and a guide."""
    prior, law, _, mean = FAMILIES[family]
    data = torch.linspace(-1, 2, max(1, torch.Size(plates).numel())).double().reshape(plates)

    def over() -> ExitStack:
        stack = ExitStack()
        for size, dim in zip(plates, range(-len(plates), 0), strict=True):
            stack.enter_context(pyro.plate(f"plate{dim}", size, dim=dim))
        return stack

    def model() -> None:
        with over():
            z = pyro.sample("z", prior(dist))
            pyro.sample("x", pyro.distributions.Normal(mean(z), 1), obs=data)

    def guide() -> None:
        with over():
            pyro.sample("z", law(dist, pyro.param("p")))

    return model, guide


# Sequentially Pyro gives all places of a plate one value at a time, which is no sum over all.
@pytest.mark.parametrize(
    ("plates", "how"),
    [((), "parallel"), ((), "sequential"), ((4,), "parallel"), ((2, 3), "parallel")],
    ids=["one", "sequential", "plate", "nested"],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_enumeration_in_the_guide(family: str, plates: tuple[int, ...], how: str) -> None:
    """Loss and gradient are those of the sum over all values."""
    prior, law, start, mean = FAMILIES[family]
    model, guide = hidden(family, plates)
    loss, grad = loss_and_gradient(model, config_enumerate(guide, how), start)
    leaf = start.clone().requires_grad_()
    q, p = law(torch.distributions, leaf), prior(torch.distributions)
    z = q.enumerate_support()
    data = torch.linspace(-1, 2, max(1, torch.Size(plates).numel())).double()
    if not plates:
        data = data[:1]
    own = q.log_prob(z)[:, None]
    seen = torch.distributions.Normal(mean(z)[:, None], 1.0).log_prob(data)
    right = (own.exp() * (own - p.log_prob(z)[:, None] - seen)).sum()
    (slope,) = torch.autograd.grad(right, leaf)
    assert abs(loss - float(right.detach())) < 1e-12
    assert close(grad, slope)


@pytest.mark.parametrize("family", FAMILIES)
def test_enumeration_in_the_model(family: str) -> None:
    """The evidence of a model with an enumerated latent, and its gradient for a parameter."""
    _, law, start, mean = FAMILIES[family]
    data = torch.tensor([-0.5, 0.7, 1.9], dtype=torch.float64)

    def model() -> None:
        with pyro.plate("data", 3):
            z = pyro.sample("z", law(dist, pyro.param("p")))
            pyro.sample("x", pyro.distributions.Normal(mean(z), 1), obs=data)

    found = loss_and_gradient(config_enumerate(model, "parallel"), lambda: None, start)
    leaf = start.clone().requires_grad_()
    q = law(torch.distributions, leaf)
    z = q.enumerate_support()
    seen = torch.distributions.Normal(mean(z)[:, None], 1.0).log_prob(data)
    right = -(q.log_prob(z)[:, None] + seen).logsumexp(0).sum()
    (slope,) = torch.autograd.grad(right, leaf)
    assert abs(found[0] - float(right.detach())) < 1e-12
    assert close(found[1], slope)


@pytest.mark.parametrize("how", ["parallel", "sequential"])
@pytest.mark.parametrize("wrap", ["plain", "mask", "always", "mask twice", "independent"])
def test_enumeration_of_what_is_wrapped(wrap: str, how: str) -> None:
    """Plain, masked, and as an event of no axes: loss and gradient of Pyro's own classes.

    By hand ``sum_z q(z) log(q(z) / p(z, x))`` is 1.6357 and its derivative for the log-odds .0594;
    without the weights of the values they would be 3.2225 and -.1974.  Pyro enumerates no event of
    more axes.
    """
    shapes: dict[str, Callable[[Any, Any], Any]] = {
        "plain": lambda q, library: q,
        "mask": lambda q, library: q.mask(torch.tensor(True)),
        "always": lambda q, library: q.mask(True),
        "mask twice": lambda q, library: q.mask(torch.tensor(True)).mask(True),
        "independent": lambda q, library: library.Independent(q, 0),
    }

    def make(library: Any) -> tuple[Any, Any]:
        def model() -> None:
            prior = library.Bernoulli(torch.tensor(0.3).double())
            z = pyro.sample("z", shapes[wrap](prior, library))
            pyro.sample("x", pyro.distributions.Normal(2 * z, 1), obs=torch.tensor(1.5).double())

        def guide() -> None:
            q = library.Bernoulli(logits=pyro.param("p"))
            pyro.sample("z", shapes[wrap](q, library))

        return model, config_enumerate(guide, how)

    start = torch.tensor(0.4).double()
    ours = loss_and_gradient(*make(dist), start)
    theirs = loss_and_gradient(*make(pyro.distributions), start)
    assert abs(ours[0] - theirs[0]) < 1e-12
    assert close(ours[1], theirs[1])
    assert abs(ours[0] - 1.6357) < 5e-5
    assert abs(float(ours[1]) - 0.0594) < 5e-5


@pytest.mark.parametrize("learnt", [False, True])
@pytest.mark.parametrize("how", ["parallel", "sequential"])
def test_enumeration_of_rows(how: str, learnt: bool) -> None:
    """Rows of a table, of one that learns too: enumerated rows carry its gradient, and a weight."""
    logits = torch.tensor([0.4, 0.0, -0.3]).double()
    data = torch.tensor([0.5, -0.5], dtype=torch.float64)
    table = RIDGE.clone().requires_grad_(learnt)

    def guide() -> None:
        pyro.sample("z", dist.Categorical(logits=pyro.param("p"), weight=table))

    def model() -> None:
        z = pyro.sample("z", dist.Categorical(THREE, weight=table))
        pyro.sample("x", pyro.distributions.Normal(z, 1).to_event(1), obs=data)

    loss, grad = loss_and_gradient(model, config_enumerate(guide, how), logits)
    leaf, rows = logits.clone().requires_grad_(), RIDGE.clone().requires_grad_()
    own = leaf.log_softmax(-1)
    seen = torch.distributions.Normal(rows, 1.0).log_prob(data).sum(-1)
    right = (own.exp() * (own - THREE.log() - seen)).sum()
    slope, moved = torch.autograd.grad(right, (leaf, rows))
    assert abs(loss - float(right.detach())) < 1e-12
    assert close(grad, slope)
    if learnt:
        assert table.grad is not None
        assert close(table.grad, moved)


def test_parts_of_a_score() -> None:
    """Pathwise for a draw with a gradient, and for one of fixed parameters; else of the score."""
    leaf = torch.zeros(2, dtype=torch.float64, requires_grad=True)

    def pathwise(q: Any, z: Tensor) -> bool:
        parts = q.score_parts(z)
        assert torch.equal(parts.log_prob, q.log_prob(z))
        others = (parts.score_function, parts.entropy_term)
        kinds = [isinstance(part, Tensor) for part in others]
        assert sorted(kinds) == [False, True]
        assert torch.equal(others[kinds.index(True)], parts.log_prob)
        assert others[kinds.index(False)] == 0
        return kinds == [False, True]

    for shape in (lambda q: q, lambda q: q.to_event(1), lambda q: q.mask(True)):
        q, fixed = shape(dist.Bernoulli(logits=leaf)), shape(dist.Bernoulli(logits=leaf.detach()))
        assert pathwise(q, q())
        assert not pathwise(q, q.sample())
        assert not pathwise(q, q().detach())
        with torch.no_grad():
            drawn = q()
        assert not pathwise(q, drawn)
        assert pathwise(fixed, fixed())
        assert not pathwise(fixed, fixed.sample())
        if isinstance(q, dist.Bernoulli):
            # Pyro's own Independent and MaskedDistribution have no setter.
            assert not pathwise(q.has_rsample_(False), q())
    masked = dist.Bernoulli(logits=leaf).mask(torch.tensor([True, False]))
    parts = masked.score_parts(masked.sample())
    # The density is masked and the score is not, as Pyro's: what follows takes the value.
    score = -torch.log(torch.tensor(2.0).double())
    assert parts.log_prob.tolist() == [score, 0]
    assert parts.score_function.tolist() == [score, score]


def test_enumerated_beside_drawn() -> None:
    """An enumerated coin and a drawn count in one guide: the mean gradient is the exact one."""
    prior = {"a": torch.tensor(0.3).double(), "z": torch.tensor(1.5).double()}
    start = torch.tensor([0.4, 0.2], dtype=torch.float64)

    def model() -> None:
        a = pyro.sample("a", dist.Bernoulli(prior["a"]))
        z = pyro.sample("z", dist.Poisson(prior["z"]))
        pyro.sample("x", pyro.distributions.Normal(a + z, 1), obs=torch.tensor(2.0).double())

    def guide() -> None:
        p = pyro.param("p")
        pyro.sample("a", dist.Bernoulli(logits=p[0]), infer={"enumerate": "parallel"})
        pyro.sample("z", dist.Poisson(p[1].exp()))

    elbo = TraceEnum_ELBO(num_particles=20_000, vectorize_particles=True, max_plate_nesting=0)
    loss, grad = loss_and_gradient(model, guide, start, elbo)
    leaf = start.clone().requires_grad_()
    a, z = torch.tensor([0.0, 1.0]).double()[:, None], torch.arange(60).double()
    own_a = torch.distributions.Bernoulli(logits=leaf[0]).log_prob(a)
    own_z = torch.distributions.Poisson(leaf[1].exp()).log_prob(z)
    joint = torch.distributions.Bernoulli(prior["a"]).log_prob(a)
    joint = joint + torch.distributions.Poisson(prior["z"]).log_prob(z)
    joint = joint + torch.distributions.Normal(a + z, 1.0).log_prob(torch.tensor(2.0).double())
    right = ((own_a + own_z).exp() * (own_a + own_z - joint)).sum()
    (slope,) = torch.autograd.grad(right, leaf)
    # The deviations of one particle are below 3: five times that of the mean is 0.1.
    assert abs(loss - float(right.detach())) < 0.1
    assert close(grad, slope, 0.1)


# --- what Pyro's own classes take -------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Bernoulli", {"probs": (4, 1)}),
        ("Beta", {"concentration1": (4, 1), "concentration0": (3,)}),
        ("Categorical", {"probs": (5, 4, 3)}),
        ("Categorical", {"logits": (4, 3)}),
        ("Dirichlet", {"concentration": (4, 3)}),
        ("NegativeBinomial", {"total_count": (4, 1), "logits": (3,)}),
        ("OneHotCategorical", {"probs": (4, 3)}),
    ],
)
def test_infer_shapes(name: str, arguments: dict[str, tuple[int, ...]]) -> None:
    """The shapes that Pyro's own class infers, which are those of an instance, rows too."""
    found = getattr(dist, name).infer_shapes(**arguments)
    assert tuple(found) == tuple(getattr(pyro.distributions, name).infer_shapes(**arguments))
    # Ones are a rate, a count, a weight, and a probability that is allowed.
    made = getattr(dist, name)(**{key: torch.ones(size) for key, size in arguments.items()})
    assert (made.batch_shape, made.event_shape) == tuple(found)
    if "logits" in arguments and name == "Categorical":
        found = dist.Categorical.infer_shapes(logits=(4, 3), weight=(3, 2))
        made = dist.Categorical(logits=torch.zeros(4, 3), weight=torch.zeros(3, 2))
        assert (made.batch_shape, made.event_shape) == found


def test_sparse_counts() -> None:
    """``is_sparse`` changes how a density is computed, is kept, and spares the gradient."""
    rate = normal(2, 3, seed=1).exp().requires_grad_()
    q = dist.Poisson(rate, is_sparse=True)
    z = q.sample((5,))
    assert close(q.log_prob(z).detach(), dist.Poisson(rate).log_prob(z).detach())
    assert q.expand([4, 2, 3]).is_sparse
    assert not dist.Poisson(rate).is_sparse
    assert q().requires_grad


def test_settings_of_the_binomial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pyro's approximations of large counts and of their density, which are set on its class."""
    q = dist.Binomial(torch.tensor([3.0, 1e6]), torch.tensor([0.3, 0.2]).requires_grad_())
    z = torch.tensor([1.0, 200_100.0])
    exact = q.log_prob(z)
    drawn = q.sample((4000,))
    monkeypatch.setattr(pyro.distributions.Binomial, "approx_log_prob_tol", 0.1)
    assert (q.log_prob(z) != exact).all()
    assert close(
        q.log_prob(z).detach(),
        pyro.distributions.Binomial(q.total_count, q.probs).log_prob(z).detach(),
        1e-4,
    )
    monkeypatch.setattr(pyro.distributions.Binomial, "approx_sample_thresh", 1000.0)
    torch.manual_seed(0)
    approximate = q.rsample((4000,))
    torch.manual_seed(0)
    own = pyro.distributions.Binomial(q.total_count, q.probs).sample((4000,))
    assert torch.equal(approximate, own)
    assert approximate.requires_grad
    # Four deviations of a mean of 4,000; the law of the small count is exact.
    spread = (q.variance / 1000).sqrt()
    assert ((approximate - drawn).mean(0).abs() < 4 * spread).all()
    with pytest.raises(NotImplementedError, match="approx_sample_thresh"):
        q.sample((2,), generator=torch.Generator())
    # Up to the threshold, and at it, draws are exact.
    small = dist.Binomial(1000, torch.full((50,), 0.3))
    one, other = (small.sample((), torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, other)


def test_the_short_cut_of_categories() -> None:
    """Enumerated categories are marked as Pyro's, so that their density is not looked up."""
    q = dist.Categorical(logits=normal(2, 3))
    values = q.enumerate_support(expand=False)
    assert values._pyro_categorical_support == id(q)
    assert close(q.log_prob(values), q.logits.movedim(-1, 0))
    assert close(q.log_prob(q.enumerate_support()), q.logits.movedim(-1, 0))


def test_automatic_discrete_guides() -> None:
    """Pyro's asks for its very classes, and refuses ours; with those it enumerates alike."""

    def model(library: Any) -> None:
        pyro.sample("z", library.Bernoulli(torch.tensor(0.3)))

    guide = AutoDiscreteParallel(lambda: model(dist))
    with pytest.raises(NotImplementedError, match="Bernoulli is not supported"):
        guide()
    guide = AutoDiscreteParallel(lambda: model(pyro.distributions))
    loss = TraceEnum_ELBO(max_plate_nesting=0).loss(config_enumerate(lambda: model(dist)), guide)
    assert abs(loss) < 1e-5


# --- counts whose likelihood bends sharply near zero ------------------------------------

COUNTS = torch.arange(400, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "start", "shift", "slope", "mean", "spread", "score"),
    [
        ("Geometric", 0.0, 1.0, 0.16, 0.21, 0.70, 0.94),
        ("Geometric", 0.0, 0.5, 0.58, 0.78, 0.85, 0.80),
        ("Geometric", 0.0, 0.1, 1.71, 4.04, 3.32, 1.59),
        ("Geometric", 0.0, 0.01, 3.42, 37.88, 36.89, 3.23),
        ("NegativeBinomial", -1.0, 0.01, -4.40, -47.86, 58.27, 3.85),
        ("Poisson", 1.0, 0.01, -5.14, -55.84, 71.45, 4.37),
    ],
)
def test_table_of_bends(
    name: str, start: float, shift: float, slope: float, mean: float, spread: float, score: float
) -> None:
    """The table of :mod:`ils.distributions.counts`, summed over all counts; others likewise."""

    def law(library: Any, leaf: Tensor) -> Any:
        if name == "Poisson":
            return library.Poisson(leaf)
        first = (torch.tensor(3.0).double(),) if name == "NegativeBinomial" else ()
        return getattr(library, name)(*first, logits=leaf)

    def loss(z: Tensor) -> Tensor:
        return -torch.distributions.Poisson(z + shift).log_prob(torch.tensor(3.0).double())

    leaf = torch.full_like(COUNTS, start).requires_grad_()
    density = law(torch.distributions, leaf).log_prob(COUNTS)
    weights, values = density.detach().exp(), loss(COUNTS)
    (of_density,) = torch.autograd.grad(density.sum(), leaf)
    (moved,) = torch.autograd.grad(loss(law(dist, leaf)._carry(COUNTS)).sum(), leaf)
    centred = of_density * (values - weights @ values)

    def near(found: Tensor, expected: float) -> bool:
        return abs(float(found) - expected) < 0.006

    assert near(weights @ centred, slope)
    assert near(weights @ moved, mean)
    assert near((weights @ (moved - weights @ moved) ** 2).sqrt(), spread)
    assert near((weights @ (centred - weights @ centred) ** 2).sqrt(), score)


@pytest.mark.parametrize(("shift", "falls"), [(None, True), (0.5, True), (0.01, False)])
def test_short_training_of_counts(shift: float | None, falls: bool) -> None:
    """The exact loss falls with a normal likelihood and a mild Poisson one, and rises with a steep
    one, where Pyro's own classes lower it."""
    data = torch.tensor([0.0, 1.0, 1.0, 2.0, 3.0, 5.0], dtype=torch.float64)

    def seen(z: Tensor) -> Any:
        if shift is None:
            return pyro.distributions.Normal(z, SPREAD)
        return pyro.distributions.Poisson(z + shift)

    def trained(library: Any) -> tuple[float, float]:
        def model() -> None:
            with pyro.plate("data", 6):
                z = pyro.sample("z", library.Geometric(THREE[1]).expand([6]))
                pyro.sample("x", seen(z), obs=data)

        def guide() -> None:
            logits = pyro.param("p", torch.zeros(6, dtype=torch.float64))
            with pyro.plate("data", 6):
                pyro.sample("z", library.Geometric(logits=logits))

        def bound() -> float:
            guess = torch.distributions.Geometric(logits=pyro.param("p").detach())
            own = guess.log_prob(COUNTS[:, None])
            at = torch.distributions.Geometric(THREE[1]).log_prob(COUNTS)[:, None]
            joint = at + seen(COUNTS[:, None]).log_prob(data)
            return float((own.exp() * (own - joint)).sum())

        pyro.clear_param_store()
        guide()
        start = bound()
        svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
        for _ in range(200):
            svi.step()
        return start, bound()

    start, end = trained(dist)
    assert (end < start - 0.5) is falls
    assert (end > start + 5) is not falls
    if not falls:
        start, end = trained(pyro.distributions)
        assert end < start - 2


def test_whether_a_row_was_drawn() -> None:
    """Rows of a table that learns carry its gradient either way, that of the logits if drawn."""
    logits, table = normal(3).requires_grad_(), normal(3, 2, seed=1).requires_grad_()
    rows = dist.Categorical(logits=logits, weight=table)
    drawn, listed = rows.rsample(), rows.enumerate_support()[1]
    assert drawn.requires_grad
    assert listed.requires_grad
    # Wrapped or not, and as often as one likes: the graph is kept.
    for q in (rows, rows.to_event(0), dist.Independent(rows, 0), rows.mask(True)):
        for _ in range(2):
            assert q.carries_gradient(drawn)
        assert not q.carries_gradient(listed)
        assert not q.carries_gradient(drawn.detach())
    drawn.sum().backward()
    fixed = dist.Categorical(logits=logits.detach(), weight=table)
    assert not fixed.carries_gradient(fixed.rsample())
    plain = dist.Categorical(logits=logits)
    assert plain.carries_gradient(torch.zeros((), requires_grad=True))
    assert not plain.carries_gradient(torch.zeros(()))
    # A base of Pyro's knows nothing of all this.
    masked = dist._Masked(pyro.distributions.Normal(0.0, 1.0), True)  # pyright: ignore
    assert masked.carries_gradient(torch.zeros((), requires_grad=True))


def test_supports_have_the_shape_of_the_batch() -> None:
    """Unless one asks for them as small as can be."""
    logits, table = normal(4, 3), normal(3, 2)
    for q, event in (
        (dist.Categorical(logits=logits), ()),
        (dist.Categorical(logits=logits, weight=table), (2,)),
    ):
        assert q.enumerate_support().shape == (3, 4, *event)
        assert q.enumerate_support(False).shape == (3, 1, *event)
