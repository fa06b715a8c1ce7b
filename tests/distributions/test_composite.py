"""Independent axes as one event, and mixtures."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from cases import close, generator, normal
from torch import Tensor
from torch.distributions import constraints, kl_divergence

import ils
from ils import distributions as dist
from ils.distributions.draws import log_law

Components = tuple[dict[str, Tensor], Any]


def counts(*batch: int) -> Components:
    """Poisson components, three for each variable of the batch."""
    leaves = {"rate": normal(*batch, 3, seed=1).exp().requires_grad_()}
    return leaves, dist.Poisson(**leaves)


def numbers(*batch: int) -> Components:
    """Gamma components."""
    leaves = {
        "concentration": normal(*batch, 3, seed=1).exp().requires_grad_(),
        "rate": normal(*batch, 3, seed=2).exp().requires_grad_(),
    }
    return leaves, dist.Gamma(**leaves)


def vectors(*batch: int) -> Components:
    """Vectors of two independent counts."""
    leaves = {"rate": normal(*batch, 3, 2, seed=1).exp().requires_grad_()}
    return leaves, dist.Independent(dist.Poisson(**leaves), 1)


def matrices(*batch: int) -> Components:
    """Events with two axes, of PyTorch's own class."""
    leaves = {"loc": normal(*batch, 3, 2, 2, seed=1).requires_grad_()}
    one = torch.ones((), dtype=torch.float64)
    return leaves, dist.Independent(torch.distributions.Normal(leaves["loc"], one), 2)


MADE = {"counts": counts, "numbers": numbers, "vectors": vectors, "matrices": matrices}
TAKES_A_GENERATOR = {name: MADE[name] for name in ("counts", "numbers", "vectors")}
every_kind = pytest.mark.parametrize("make", MADE.values(), ids=MADE)
every_kind_of_ours = pytest.mark.parametrize(
    "make", TAKES_A_GENERATOR.values(), ids=TAKES_A_GENERATOR
)


def weights(*batch: int) -> Tensor:
    """Logits of the weights, not normalised."""
    return (normal(*batch, 3, seed=3) + 2).requires_grad_()


def slope(z: Tensor) -> Tensor:
    """The gradient of the loss at a draw."""
    return 3 * (z - 0.3) ** 2 * normal(*z.shape, seed=4)


@every_kind
def test_mixture_is_the_parent(make: Any) -> None:
    """Density, moments, shapes and support are the parent's."""
    _, components = make(4)
    logits = weights(4)
    ours = dist.MixtureSameFamily(dist.Categorical(logits=logits), components)
    parent = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=logits), components
    )
    z = parent.sample(torch.Size([5]))
    assert torch.equal(ours.log_prob(z), parent.log_prob(z))
    for name in ("mean", "variance"):
        assert torch.equal(getattr(ours, name), getattr(parent, name))
    assert ours.batch_shape == parent.batch_shape == (4,)
    assert ours.event_shape == parent.event_shape
    assert str(ours.support) == str(parent.support)
    assert isinstance(ours, torch.distributions.MixtureSameFamily)
    assert ours.has_rsample
    assert repr(ours).startswith("MixtureSameFamily(")


@every_kind_of_ours
@pytest.mark.parametrize("batch", [(), (4,), (2, 4)], ids=str)
@pytest.mark.parametrize("draws", [(), (7,), (2, 0)], ids=str)
def test_mixture_shapes_and_sources(
    make: Any, batch: tuple[int, ...], draws: tuple[int, ...]
) -> None:
    """Draws, batch, event; with a generator its numbers alone are used, and sample is the same."""
    leaves, components = make(*batch)
    q = dist.MixtureSameFamily(dist.Categorical(logits=weights(*batch)), components)
    state = torch.get_rng_state()
    z = q.rsample(draws, generator(5))
    assert z.shape == (*draws, *batch, *q.event_shape)
    assert z.requires_grad
    plain = q.sample(draws, generator(5))
    assert torch.equal(plain, z)
    assert not plain.requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    assert z.numel() == 0 or bool(q.support.check(z.detach()).all())
    for leaf in leaves.values():
        (found,) = torch.autograd.grad((z * slope(z.detach())).sum(), leaf, retain_graph=True)
        assert found.shape == leaf.shape
        assert bool(found.any()) is (z.numel() > 0)


@every_kind
def test_mixture_gradients(make: Any) -> None:
    """Those of the weights are the formula; those of the components are their own, if chosen."""
    leaves, components = make(4)
    logits = weights(4)
    q = dist.MixtureSameFamily(dist.Categorical(logits=logits), components)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        z = q.rsample((9,))
        torch.manual_seed(6)
        index = ils.sample_index(q.mixture_distribution.logits, draws=9)
        points = components.rsample((9,))
    ndim = len(q.event_shape)
    where = index.reshape(9, 4, 1, *(1,) * ndim).expand(9, 4, 1, *q.event_shape)
    chosen = points.gather(2, where).squeeze(2)
    assert torch.equal(z, chosen)
    g = slope(z.detach())
    found = torch.autograd.grad((z * g).sum(), [logits, *leaves.values()])
    wanted = torch.autograd.grad((chosen * g).sum(), [*leaves.values()])
    for one, other in zip(found[1:], wanted, strict=True):
        assert close(one, other, 1e-11)
        assert other.abs().max() > 0.01
    w = logits.detach().softmax(-1)
    gap = (points - chosen.unsqueeze(2)).detach() * g.unsqueeze(2)
    moved = w * (gap.flatten(3).sum(-1) if ndim else gap) / 2
    # What goes to the others comes from the one that was drawn, where the gap itself is zero.
    onehot = torch.nn.functional.one_hot(index, 3).double()
    by_hand = (moved - onehot * moved.sum(-1, keepdim=True)).sum(0)
    assert close(found[0], by_hand, 1e-11)
    assert by_hand.abs().max() > 0.01


def test_mixture_of_infinite_points() -> None:
    """A component whose draw overflows makes no NaN of the others."""
    logits = torch.tensor([0.0, -torch.inf], requires_grad=True)
    loc = torch.tensor([0.0, torch.inf])
    q = dist.MixtureSameFamily(
        dist.Categorical(logits=logits), torch.distributions.Cauchy(loc, torch.ones(2))
    )
    z = q.rsample((50,))
    assert z.isfinite().all()
    assert torch.autograd.grad(z.mean(), logits)[0].isfinite().all()


@every_kind_of_ours
def test_mixture_expand_and_copies(make: Any) -> None:
    """Expanded it keeps its class and trains the original; copies draw the same."""
    leaves, components = make(4)
    logits = weights(4)
    q = dist.MixtureSameFamily(dist.Categorical(logits=logits), components)
    wide = q.expand((3, 4))
    assert type(wide) is dist.MixtureSameFamily
    assert type(wide.component_distribution) is type(components)
    assert wide.batch_shape == (3, 4)
    assert wide.event_shape == q.event_shape
    z = wide.rsample((2,), generator(9))
    assert z.shape == (2, 3, 4, *q.event_shape)
    assert not torch.equal(z[:, 0], z[:, 1])
    for leaf in (logits, *leaves.values()):
        (found,) = torch.autograd.grad((z * slope(z.detach())).sum(), leaf, retain_graph=True)
        assert found.shape == leaf.shape
        assert found.abs().max() > 1e-3
    assert wide.log_prob(z.detach()).shape == (2, 3, 4)
    _, fixed = make(4)
    detached = dist.MixtureSameFamily(dist.Categorical(logits=logits.detach()), fixed)
    twin = pickle.loads(pickle.dumps(detached))
    assert torch.equal(twin.sample((3,), generator(10)), detached.sample((3,), generator(10)))
    assert copy.copy(q).batch_shape == (4,)


def test_mixture_without_a_reparameterised_sample() -> None:
    """Components that have none can be drawn, but not differentiated, and it says so."""
    own = torch.distributions.Poisson(torch.ones(4, 3))
    q = dist.MixtureSameFamily(dist.Categorical(logits=torch.zeros(4, 3)), own)
    assert not q.has_rsample
    assert q.sample((2,)).shape == (2, 4)
    with pytest.raises(NotImplementedError, match="rsample: expected components that have it"):
        q.rsample()
    with pytest.raises(NotImplementedError, match="generator: expected None"):
        q.sample((2,), generator(1))


def test_mixture_refusals() -> None:
    """Shapes and classes that do not fit get the parent's error."""
    three, poisson = torch.zeros(3), dist.Poisson(torch.ones(2))
    for bad in (
        lambda d: d.MixtureSameFamily(d.Categorical(logits=three), poisson),
        lambda d: d.MixtureSameFamily(poisson, poisson),
        lambda d: d.MixtureSameFamily(d.Categorical(logits=three), three),
    ):
        errors = []
        for module in (dist, torch.distributions):
            with pytest.raises((ValueError, TypeError)) as caught:
                bad(module)
            errors.append((caught.type, str(caught.value)))
        assert errors[0] == errors[1]


def test_independent() -> None:
    """It sums the density over the event, passes the generator on, and has the base's gradient."""
    rate = normal(4, 3, seed=11).exp().requires_grad_()
    base = dist.Poisson(rate)
    q = dist.Independent(base, 1)
    assert isinstance(q, torch.distributions.Independent)
    assert q.has_rsample
    assert (q.batch_shape, q.event_shape) == ((4,), (3,))
    state = torch.get_rng_state()
    z = q.rsample((5,), generator(12))
    assert torch.equal(z, base.rsample((5,), generator(12)))
    assert torch.equal(z, q.sample((5,), generator(12)))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(q.log_prob(z), base.log_prob(z).sum(-1))
    wanted = base.rsample((5,), generator(12))
    g = slope(z.detach())
    found, other = (torch.autograd.grad((x * g).sum(), rate)[0] for x in (z, wanted))
    assert torch.equal(found, other)
    wide = q.expand((2, 4))
    assert type(wide) is dist.Independent
    assert wide.rsample((5,), generator(12)).shape == (5, 2, 4, 3)
    assert type(wide.base_dist) is dist.Poisson
    p = dist.Independent(dist.Poisson(torch.ones(4, 3).double()), 1)
    other = torch.distributions.Independent(torch.distributions.Poisson(rate), 1)
    assert torch.equal(kl_divergence(q, p), kl_divergence(other, p))
    assert q.support.event_dim == 1
    assert isinstance(q.support, constraints.independent)


def test_independent_of_another_base() -> None:
    """A base of PyTorch, which takes no generator, is drawn without one."""
    q = dist.Independent(torch.distributions.Laplace(torch.zeros(3), torch.ones(3)), 1)
    assert q.rsample((2,)).shape == q.sample((2,)).shape == (2, 3)
    with pytest.raises(TypeError, match="generator"):
        q.rsample((2,), generator(13))
    with pytest.raises(ValueError, match="reinterpreted_batch_ndims"):
        dist.Independent(dist.Poisson(torch.ones(3)), 2)


def test_mixture_over_rows_is_refused() -> None:
    """Weights come from categories; a Categorical with a table draws something else."""
    weights = dist.Categorical(logits=torch.zeros(3), weight=torch.eye(3))
    q = dist.MixtureSameFamily(weights, dist.Poisson(torch.ones(3)))
    with pytest.raises(TypeError, match="without a table"):
        q.rsample()


def test_weights_of_the_parent() -> None:
    """The weights of a mixture may be a Categorical of PyTorch's."""
    weights = torch.distributions.Categorical(logits=torch.zeros(3, requires_grad=True))
    q = dist.MixtureSameFamily(weights, dist.Poisson(torch.tensor([1.0, 4.0, 9.0])))
    z = q.rsample((50,), generator(1))
    (found,) = torch.autograd.grad((z**2).sum(), weights.logits)
    assert float(found.abs().max()) > 0


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.float16], ids=str)
def test_weights_of_the_parent_that_were_used_and_expanded(kind: torch.dtype) -> None:
    """PyTorch's expand takes the logits, clamped at eps when first used, for those given."""
    for probs in ([0.0, 0.5, 0.5], [1e-30, 0.0, 1.0]):
        given = torch.distributions.Categorical(torch.tensor(probs, dtype=kind))
        assert bool(given.logits.isfinite().all())
        q = dist.MixtureSameFamily(
            given.expand((2,)), dist.Normal(torch.zeros(2, 3), torch.ones(2, 3))
        )
        never = torch.tensor(probs, dtype=kind) == 0
        shares = log_law(q.mixture_distribution).exp()
        assert bool((shares[:, never] == 0).all())
        assert bool((shares[:, ~never] > 0).all())
    # A logit that was given is what it is, also where its probability underflows.
    logits = torch.tensor([-15.0, -200.0, 0.0])
    given = torch.distributions.Categorical(logits=logits)
    assert given.probs[1] == 0
    q = dist.MixtureSameFamily(given.expand((2,)), dist.Normal(torch.zeros(2, 3), torch.ones(2, 3)))
    assert torch.equal(log_law(q.mixture_distribution), logits.log_softmax(-1).expand(2, 3))
