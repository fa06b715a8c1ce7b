"""The ends of the range of every parameter: draws stay in the support, and nothing is NaN."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from cases import generator
from torch import Tensor

import ils
from ils import distributions

MANY, FAR = [0, 1, 1000, 10**6], [-1e4, -100, 0, 100, 1e4]
FEW = [0, 1e-30, 1e-3, 1, 1e6]
# Values of each parameter, of which there are all combinations; in half types those below.
EXTREMES: list[tuple[str, dict[str, list[float]]]] = [
    ("Bernoulli", {"probs": [0, 1e-30, 1e-5, 0.5, 1]}),
    ("Bernoulli", {"logits": FAR}),
    ("Binomial", {"total_count": MANY, "probs": [0, 1e-30, 0.5, 1]}),
    ("Binomial", {"total_count": MANY, "logits": FAR}),
    ("Poisson", {"rate": [0, 1e-30, 1e-5, 1, 1e8, 1e12]}),
    ("Geometric", {"probs": [1e-9, 1e-4, 0.5, 1 - 1e-7, 1]}),
    ("Geometric", {"logits": [-15, 0, 100, 1e4]}),
    ("NegativeBinomial", {"total_count": FEW, "probs": [0, 1e-30, 0.5, 1 - 1e-6]}),
    ("NegativeBinomial", {"total_count": FEW, "logits": [-1e4, -100, 0, 17, 20]}),
    ("Normal", {"loc": [-1e8, 0, 1e8], "scale": [1e-8, 1, 1e8]}),
    ("Gamma", {"concentration": [1e-3, 1, 1e6], "rate": [1e-6, 1, 1e6]}),
    ("Beta", {"concentration1": [1e-3, 1, 1e6], "concentration0": [1e-3, 1, 1e6]}),
    (
        "VonMises",
        {"loc": [-10, 0, math.pi, 10], "concentration": [1e-8, 1e-4, 1, 1e3, 1001, 1e6, 1e8]},
    ),
]
ENDS: dict[str, dict[str, list[float]]] = {
    "Bernoulli": {"probs": [0, 1e-6, 0.5, 1]},
    "Binomial": {"total_count": [0, 1, 1000, 6e4], "probs": [0, 1e-6, 0.5, 1]},
    "Poisson": {"rate": [0, 1e-6, 1, 1e3, 6e4]},
    "Geometric": {"probs": [1e-3, 0.5, 1]},
    "NegativeBinomial": {"total_count": [0, 1e-6, 1, 1e3], "probs": [0, 1e-6, 0.5, 0.9]},
    "Gamma": {"concentration": [1e-3, 1, 1e3], "rate": [1e-1, 1, 1e4]},
    "Beta": {"concentration1": [1e-3, 1, 6e4], "concentration0": [1e-3, 1, 6e4]},
    "Normal": {"loc": [-1e4, 0, 1e4], "scale": [1e-6, 1, 1e3]},
    "VonMises": {"loc": [-10, 0, 10], "concentration": [1e-6, 1, 6e4]},
}
ALL_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
CASES = [
    *((name, params, dtype) for name, params in EXTREMES for dtype in ALL_TYPES[2:]),
    *((name, params, dtype) for name, params in ENDS.items() for dtype in ALL_TYPES[:2]),
]


def leaves_of(params: dict[str, list[float]], dtype: torch.dtype) -> dict[str, Tensor]:
    """All combinations of the values, as leaves."""
    grids = torch.meshgrid(
        *(torch.tensor(v, dtype=torch.float64) for v in params.values()), indexing="ij"
    )
    found = {k: grid.flatten().to(dtype) for k, grid in zip(params, grids, strict=True)}
    for leaf in found.values():
        leaf.requires_grad_()
    return found


@pytest.mark.parametrize(("name", "params", "dtype"), CASES)
def test_extremes(name: str, params: dict[str, list[float]], dtype: torch.dtype) -> None:
    """Draws are finite and in the support, and gradients finite; half types draw in float32."""
    leaves = leaves_of(params, dtype)
    if name == "Binomial":
        leaves["total_count"] = leaves["total_count"].detach()
    q: Any = getattr(distributions, name)(**leaves)
    z = q.rsample((500,), generator(1))
    assert bool(z.isfinite().all())
    assert bool(q.support.check(z.detach()).all())
    if name == "VonMises":
        assert float(z.detach().abs().max()) <= 3.1415928
    trained = [leaf for leaf in leaves.values() if leaf.requires_grad]
    if dtype in ALL_TYPES[2:]:
        for found in torch.autograd.grad(z.sum(), trained):
            assert bool(found.isfinite().all())
            assert bool((found != 0).any())
        assert bool(q.log_prob(z.detach()).isnan().any()) is False
        return
    if name != "Normal":  # its noise is drawn in its type
        single = {key: leaf.detach().float() for key, leaf in leaves.items()}
        wanted = getattr(distributions, name)(**single).sample((500,), generator(1)).to(dtype)
        least = 2.0**-24 if name == "Gamma" and dtype == torch.float16 else -torch.inf
        assert torch.equal(z.detach(), wanted.clamp(min=least))
    for draw in z[:20]:  # the sum of more overflows
        for found in torch.autograd.grad(draw.sum(), trained, retain_graph=True):
            assert bool(found.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_extremes_of_vectors(dtype: torch.dtype) -> None:
    """Dirichlet draws with entries near zero, even, sharp and mixed are distributions."""
    rows = [[1e-3] * 3, [1.0] * 3, [1e6] * 3, [1e-3, 1, 1e6], [1e-3, 1e6, 1e6]]
    concentration = torch.tensor(rows, dtype=dtype, requires_grad=True)
    z = distributions.Dirichlet(concentration).rsample((500,), generator(2))
    assert bool((z >= 0).all())
    assert torch.allclose(z.sum(-1), torch.ones((), dtype=dtype))
    for power in (1, 2):
        (found,) = torch.autograd.grad((z**power)[..., 0].sum(), concentration, retain_graph=True)
        assert bool(found.isfinite().all())
    # Where a velocity overflows, the draw stays as it is.
    corner = torch.full((3,), 1e-20, dtype=dtype, requires_grad=True)
    z = distributions.Dirichlet(corner).rsample()
    assert bool(z.isfinite().all())
    assert bool(torch.autograd.grad(z[0], corner)[0].isfinite().all())


def test_the_certain_has_the_slope_of_its_limit() -> None:
    """Where an outcome is certain the gradient is the limit, and not zero or infinite."""
    probs = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    z = distributions.Bernoulli(probs).rsample()
    assert z.tolist() == [0, 1]
    # Half of the true slope, 1: the other half comes from the outcome of probability zero.
    assert torch.autograd.grad(z.sum(), probs)[0].tolist() == [0.5, 0.5]
    q = distributions.Bernoulli(probs)
    assert q.log_prob(torch.tensor([0.0, 1.0]).double()).abs().max() < 1e-12
    z = q.expand((3, 2)).rsample()
    assert torch.autograd.grad(z.sum(), probs)[0].tolist() == [1.5, 1.5]
    rate = torch.zeros((), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.grad(distributions.Poisson(rate).rsample(), rate)[0] == 0.5
    probs = torch.ones((), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.grad(distributions.Geometric(probs).rsample(), probs)[0] == -0.5


def test_the_impossible_is_not_drawn() -> None:
    """A probability of zero gives zeros, where the parent's clamped logits give counts."""
    count, probs = torch.full((20,), 1e6), torch.zeros(20)
    q = distributions.NegativeBinomial(count, probs)
    assert not q.sample((50,), generator(4)).any()
    # A density in between makes the clamped logits, of which an expanded one is not made.
    assert q.log_prob(torch.zeros(20)).isfinite().all()
    assert not q.expand((3, 20)).sample((50,), generator(4)).any()
    parent = torch.distributions.NegativeBinomial(count, probs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        assert parent.sample(torch.Size([50])).any()


def test_a_velocity_that_overflows() -> None:
    """A mean beyond the largest number leaves the draw what the parent's is, and no NaN behind."""
    logits = torch.tensor([-1e4, 0.0], requires_grad=True)
    q, parent = (d.Geometric(logits=logits) for d in (distributions, torch.distributions))
    assert parent.sample()[0] == torch.inf
    z = q.rsample()
    assert z[0] == torch.inf
    assert z[1].isfinite()
    probs = torch.full((2,), 1e-30, dtype=torch.float32, requires_grad=True)
    z = distributions.Geometric(probs).rsample()
    assert not z.isnan().any()
    (found,) = torch.autograd.grad(z.sum(), probs)
    assert not found.isnan().any()


def test_negative_binomial_with_large_logits() -> None:
    """In single precision, where the probability rounds to 1, the gradients are those in double."""
    params = {"total_count": torch.full((50,), 2.0), "logits": torch.full((50,), 18.0)}
    found = []
    z = distributions.NegativeBinomial(**params).sample(generator=generator(3))
    for dtype in (torch.float32, torch.float64):
        leaves = {k: v.to(dtype).requires_grad_() for k, v in params.items()}
        q = distributions.NegativeBinomial(**leaves)
        moved = q._carry(z.to(dtype))
        assert torch.equal(moved, z.to(dtype))
        found.append(torch.autograd.grad(moved.sum(), [*leaves.values()]))
    for single, double in zip(*found, strict=True):
        assert torch.allclose(single.double(), double, rtol=1e-4)
        assert double.abs().min() > 1e3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_velocities_keep_their_digits(dtype: torch.dtype) -> None:
    """From tiny to huge concentrations the velocity of a von Mises draw has its digits.

    Single precision is compared with double, and that with its limits: minus the sine for a flat
    law, and minus z / (2 kappa), the path of a normal draw, for a sharp one.
    """
    kappa = torch.logspace(-8, 8, 6401, dtype=torch.float64)
    zero = torch.zeros((), dtype=torch.float64)
    side = torch.tensor(-math.pi / 2, dtype=torch.float64)
    double = ils.velocity.von_mises(side, zero, kappa)
    found = ils.velocity.von_mises(side.to(dtype), zero.to(dtype), kappa.to(dtype))
    assert torch.allclose(found.double(), double, rtol=1e-5, atol=0)
    assert torch.allclose(double[:800], torch.ones(800).double(), rtol=1e-9)
    sharp = kappa[-800:]
    near = ils.velocity.von_mises(-sharp.rsqrt(), zero, sharp)
    assert torch.allclose(near, 0.5 * sharp**-1.5, rtol=1e-5, atol=0)
    # No step where a series takes over: on this grid a smooth curve bends by less than that.
    assert double.log().diff().diff().abs().max() < 6e-5


def test_density_of_extremes() -> None:
    """Entropies and divergences of the package's own are finite over the whole range."""
    kappa = torch.logspace(-8, 8, 33, dtype=torch.float64)
    q = distributions.VonMises(torch.zeros(33).double(), kappa)
    assert q.entropy().isfinite().all()
    assert bool((q.entropy().diff() <= 1e-15).all())
    p = distributions.VonMises(torch.ones(33, 1).double(), kappa[:, None])
    found = torch.distributions.kl_divergence(p, q)
    assert found.isfinite().all()
    assert bool((found >= -1e-12).all())
    logits = torch.tensor([-700.0, -20.0, 0.0, 20.0], dtype=torch.float64)
    p, q = (distributions.NegativeBinomial(3.0, logits=x) for x in (logits, logits[:, None]))
    found = torch.distributions.kl_divergence(p, q)
    assert found.isfinite().all()
    assert bool((found >= -1e-6).all())


def test_negative_binomial_of_a_small_probability() -> None:
    """The velocity is that of the probability that was given, not of clamped logits."""
    count = torch.tensor(2.0, requires_grad=True)
    q = distributions.NegativeBinomial(count, torch.tensor(1e-10))
    (found,) = torch.autograd.grad(q.rsample(generator=generator(1)), count)
    assert float(found) == pytest.approx(0.5e-10, rel=1e-5)


def test_counts_beyond_sixty_bits() -> None:
    """A count that no integer holds is drawn as its mean, and is not negative."""
    big = torch.tensor([1e15, 1e20, 1e30], requires_grad=True)
    z = distributions.Poisson(big).rsample()
    assert torch.equal(z[1:], big.detach()[1:])
    assert bool((z > 0).all())
    (slope,) = torch.autograd.grad(z.sum(), big)
    assert torch.allclose(slope, torch.ones(3), rtol=1e-3)
    q = distributions.NegativeBinomial(2.0, logits=torch.tensor(80.0, requires_grad=True))
    assert float(q.rsample().detach()) > 0


@pytest.mark.parametrize("dtype", ALL_TYPES, ids=str)
def test_moments_at_the_ends(dtype: torch.dtype) -> None:
    """Moments of tiny and huge parameters are those in exact arithmetic, and no NaN."""
    ends = torch.finfo(dtype)
    sizes = torch.tensor([ends.tiny, 1.0, ends.max / 4], dtype=dtype)
    # Of a beta with a = b the variance is 1 / (4 (2 a + 1)).
    wanted = 0.25 / (2 * sizes.double() + 1)
    one = torch.ones(3, dtype=dtype)
    pair = torch.stack([sizes, sizes], -1)
    off = {"rtol": 4 * ends.eps, "atol": ends.tiny * ends.eps}
    for found in (
        distributions.Beta(sizes, sizes).variance,
        distributions.Dirichlet(pair).variance[:, 0],
    ):
        assert found.dtype == dtype
        assert torch.allclose(found.double(), wanted, **off)
    for count in (sizes, 0 * one):
        q = distributions.NegativeBinomial(count, 0 * one)
        assert not q.mean.any()
        assert not q.variance.any()
    far = distributions.NegativeBinomial(0 * one, logits=90 * one)
    assert not far.mean.any()
    q = distributions.NegativeBinomial(2 * one, 0.5 * one)
    assert q.mean.tolist() == [2.0] * 3
    assert q.variance.tolist() == [4.0] * 3


def test_shares_of_small_concentrations() -> None:
    """Of two of size c: the mean of x (1 - x) is c / (4 c + 2); and no share is zero or one.

    A two-sided error rate of 6e-5; a gamma of one more would be off by 30 errors.
    """
    for c in (0.01, 0.09):
        law = distributions.Dirichlet(torch.tensor([c, c], dtype=torch.float64))
        x = law.sample((200_000,), generator(5))[:, 0]
        product = x * (1 - x)
        error = product.std() / math.sqrt(len(x))
        assert (product.mean() - c / (4 * c + 2)).abs() < 4 * error
    x = distributions.Dirichlet(torch.full((3,), 1e-6)).sample((1000,), generator())
    ends = torch.finfo(torch.float32)
    assert x.min() == ends.tiny
    assert x.max() == 1 - ends.eps / 2


def test_the_generator_of_huge_counts() -> None:
    for make in (
        lambda: distributions.Binomial(1e16, torch.tensor([0.3])),
        lambda: distributions.Poisson(torch.tensor([1e16])),
    ):
        one, other = (make().sample((4,), generator(2)) for _ in range(2))
        assert torch.equal(one, other)


def test_types_that_are_mixed() -> None:
    """A draw has the wider type: half a type is not lost on the way."""
    law = distributions.Gamma(torch.tensor(2.0, dtype=torch.float16), torch.tensor(1.0))
    assert law.sample((), generator()).dtype == torch.float32


def test_gamma_of_a_subnormal_rate() -> None:
    """A draw that the type can hold is right, one beyond it infinite, and no gradient is NaN."""
    rate = torch.tensor([1e-40, 1e-40], requires_grad=True)
    concentration = torch.tensor([0.05, 2.0], requires_grad=True)
    q = distributions.Gamma(concentration, rate)
    z = q.rsample((4000,), generator(1))
    exact = distributions.Gamma(concentration.detach().double(), rate.detach().double())
    unit = exact.sample((4000,), generator(2))
    within = unit < torch.finfo(torch.float32).max
    assert z[:, 1].isinf().double().mean() > 0.99
    assert 0.1 < float(within[:, 0].double().mean()) < 0.9
    assert z[:, 0].isfinite().double().mean() == pytest.approx(
        float(within[:, 0].double().mean()), abs=0.04
    )
    for level in (0.01, 0.05, 0.1):
        found, wanted = (one[:, 0].detach().double().quantile(level).log() for one in (z, unit))
        # The logarithm of such a draw has the deviation of some 20.
        assert float(found) == pytest.approx(float(wanted), abs=10)
    held = z[:, 0][z[:, 0].isfinite()]
    for grad in torch.autograd.grad(held.log().sum(), [concentration, rate]):
        assert not bool(grad.isnan().any())
    one = torch.tensor(1.0)
    close = q.log_prob(one).detach().double() - exact.log_prob(one.double())
    assert float(close.abs().max()) < 1e-3
