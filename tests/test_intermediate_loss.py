"""The intermediate loss of any distribution, and the moves that keep a step in the support."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import close, generator, normal
from torch import Tensor
from torch import distributions as dist
from torch.distributions import constraints

import ils
from ils.intermediate import clamp, intermediate_gradient, round_at_random, unconstrained

POSITIVE = normal(4, seed=1).exp()
SECOND = normal(4, seed=2).exp()
CHANCE = normal(4, seed=3).sigmoid()

FAMILIES: dict[str, Callable[[], Any]] = {
    "Normal": lambda: dist.Normal(normal(4, seed=4), POSITIVE),
    "LogNormal": lambda: dist.LogNormal(normal(4, seed=4), POSITIVE),
    "VonMises": lambda: dist.VonMises(normal(4, seed=4), POSITIVE),
    "Gamma": lambda: dist.Gamma(POSITIVE, SECOND),
    "Exponential": lambda: dist.Exponential(POSITIVE),
    "Beta": lambda: dist.Beta(POSITIVE, SECOND),
    "Poisson": lambda: dist.Poisson(POSITIVE),
    "Geometric": lambda: dist.Geometric(CHANCE),
    "Bernoulli": lambda: dist.Bernoulli(logits=normal(4, seed=4)),
    "Binomial": lambda: dist.Binomial(5, CHANCE),
    "NegativeBinomial": lambda: dist.NegativeBinomial(POSITIVE, CHANCE),
    "ours": lambda: ils.distributions.Poisson(POSITIVE),
}
every_family = pytest.mark.parametrize("make", FAMILIES.values(), ids=FAMILIES)


def drawn(q: Any, *shape: int, seed: int = 5) -> Tensor:
    """Draws of PyTorch, whose classes take no generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return q.sample(torch.Size(shape))


def slope(z: Tensor) -> Tensor:
    """A gradient for each draw."""
    return normal(*z.shape, seed=6)


def scores(make: Callable[..., Any], names: tuple[str, ...], values: Any, z: Any) -> list[Tensor]:
    """The score of one number by autograd, of a distribution made from scratch."""
    leaves = [value.detach().clone().requires_grad_() for value in values]
    q = make(**dict(zip(names, leaves, strict=True)), validate_args=False)
    return [*torch.autograd.grad(q.log_prob(z), leaves)]


@pytest.mark.parametrize("step_size", [0.01, 0.7, 3])
def test_step_by_hand(step_size: float) -> None:
    """After a step it is the formula: on the line, stopped at zero, and in the logarithm."""
    loc, scale, rate = normal(4, seed=7), POSITIVE, SECOND
    q = dist.Normal(loc, scale)
    z = drawn(q, 3)
    g = slope(z)
    found = intermediate_gradient(q, z, g, step_size=step_size)
    assert close(found["loc"], g / scale**2, 1e-10)
    left = (z - loc) ** 2 - (z - step_size * g - loc) ** 2
    assert close(found["scale"], left / scale**3 / step_size, 1e-9)
    z = drawn(dist.Poisson(rate), 3)
    found = intermediate_gradient(dist.Poisson(rate), z, g, step_size=step_size)
    stepped = (z - step_size * g).clamp(min=0)
    assert close(found["rate"], (z - stepped) / rate / step_size, 1e-10)
    assert bool((stepped == 0).any())
    q = dist.Gamma(scale, rate)
    z = drawn(q, 3)
    found = intermediate_gradient(q, z, g, step_size=step_size)
    stepped = z * torch.exp(-step_size * g / z)
    usual = (stepped > 1e-300) & (stepped < 1e300)
    assert usual.sum() >= 9
    assert close(found["concentration"][usual], (g / z)[usual], 1e-8)
    wanted = ((stepped - z) / step_size)[usual]
    assert torch.allclose(found["rate"][usual], wanted, rtol=1e-9, atol=1e-10)


@every_family
@pytest.mark.parametrize("step_size", [None, 0.3])
@pytest.mark.parametrize("centred", [True, False])
def test_autograd_draw_by_draw(
    make: Callable[[], Any], step_size: float | None, centred: bool
) -> None:
    """For each draw alone it is what autograd gives of a distribution of single numbers."""
    if step_size is None and not centred:
        with pytest.raises(ValueError, match="centred=False: expected a step_size"):
            intermediate_gradient(make(), drawn(make()), slope(drawn(make())), centred=False)
        return
    q = make()
    z = drawn(q, 3)
    g = slope(z)
    options: dict[str, Any] = {"step_size": step_size, "centred": centred}
    found = intermediate_gradient(q, z, g, **options)
    moved = intermediate_gradient(q, z, g, metric=lambda z: z**2 + 1, **options)
    for name, value in intermediate_gradient(q, z, (z**2 + 1) * g, **options).items():
        assert torch.equal(moved[name], value)
    names = tuple(found)
    family = type(q)
    fixed = {"total_count": 5.0} if family is dist.Binomial else {}

    def single(**values: Any) -> Any:
        return family(**fixed, **values)

    for draw in range(3):
        for place in range(4):
            at, values = z[draw, place], [getattr(q, name)[place] for name in names]
            if step_size is None:
                leaf = at.clone().requires_grad_()
                leaves = [value.detach().clone().requires_grad_() for value in values]
                bound = single(**dict(zip(names, leaves, strict=True)), validate_args=False)
                (first,) = torch.autograd.grad(bound.log_prob(leaf), leaf, create_graph=True)
                wanted = [x * g[draw, place] for x in torch.autograd.grad(first, leaves)]
            else:
                step = step_size * g[draw, place]
                alone = single(**dict(zip(names, values, strict=True)))
                default = ils.intermediate._default_move(alone.support)
                before = scores(single, names, values, at)
                after = scores(single, names, values, default(at, step))
                kept = [0 * x for x in before] if not centred else before
                wanted = [(x - y) / step_size for x, y in zip(kept, after, strict=True)]
            for name, one in zip(names, wanted, strict=True):
                assert found[name].shape == (3, 4)
                assert torch.allclose(found[name][draw, place], one, rtol=1e-9, atol=1e-9), name


def test_shapes() -> None:
    """A value a draw and parameter, whatever was broadcast, and the axes of the event last."""
    q = dist.Normal(normal(4, 1, seed=8), POSITIVE[:3])
    z = drawn(q, 2, 5)
    for found in (
        intermediate_gradient(q, z, slope(z)),
        intermediate_gradient(q, z, slope(z), step_size=0.1),
    ):
        assert {name: value.shape for name, value in found.items()} == {
            "loc": (2, 5, 4, 3),
            "scale": (2, 5, 4, 3),
        }
    concentration = normal(4, 3, seed=9).exp()
    z = drawn(dist.Dirichlet(concentration), 2)
    found = intermediate_gradient(dist.Dirichlet(concentration), z, slope(z))
    assert close(found["concentration"], slope(z) / z, 1e-8)
    scalar = dist.Normal(torch.tensor(0.0).double(), torch.tensor(2.0).double())
    found = intermediate_gradient(scalar, normal(seed=10), torch.tensor(1.0).double())
    assert found["loc"].shape == ()
    assert intermediate_gradient(scalar, normal(0), normal(0))["loc"].shape == (0,)


def test_the_parameter_that_was_given() -> None:
    """Of probs and logits it is the one given, even if the other has been computed."""
    for by in ("probs", "logits"):
        value = CHANCE if by == "probs" else CHANCE.logit()
        for q in (dist.Bernoulli(**{by: value}), dist.Binomial(5, **{by: value})):
            z = drawn(q)
            before = intermediate_gradient(q, z, slope(z))
            assert q.probs.shape == q.logits.shape == (4,)
            after = intermediate_gradient(q, z, slope(z))
            assert list(before) == list(after) == [by]
            assert torch.equal(before[by], after[by])
            unit = 1 / (CHANCE * (1 - CHANCE)) if by == "probs" else torch.ones(4).double()
            assert close(before[by], slope(z) * unit, 1e-10)


def test_leaves_no_trace() -> None:
    """Nothing is accumulated or kept; it is the same under no_grad and where leaves are trained."""
    loc = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    q = dist.Normal(loc, POSITIVE)
    z = q.rsample()
    g = slope(z).requires_grad_()
    found = intermediate_gradient(q, z, g.detach(), step_size=0.2)
    with torch.no_grad():
        again = intermediate_gradient(q, z, g.detach(), step_size=0.2)
    for name, value in found.items():
        assert not value.requires_grad
        assert torch.equal(again[name], value)
    assert loc.grad is None


@every_family
@pytest.mark.parametrize("step_size", [1, 1e3, 1e8])
def test_huge_steps(make: Callable[[], Any], step_size: float) -> None:
    """However large the step is, it ends within the support, and the result is finite."""
    q = make()
    z = drawn(q, 50)
    g = slope(z)
    default = ils.intermediate._default_move(q.support)
    stepped = default(z, step_size * g)
    continued: Any = q.support
    if q.support.is_discrete:  # between whole numbers the density is continued
        low, high = ils.intermediate._bounds(q.support)
        continued = constraints.interval(low, high)
    assert bool(continued.check(stepped).all())
    assert bool(stepped.isfinite().all())
    for centred in (True, False):
        found = intermediate_gradient(q, z, g, step_size=step_size, centred=centred)
        usual = stepped.abs() < 1e150  # squares of larger ones overflow, in a logarithm too
        for value in found.values():
            assert not value[usual].isnan().any()
            assert value[usual].isfinite().all()


@pytest.mark.parametrize(
    "support",
    [
        constraints.real,
        constraints.positive,
        constraints.nonnegative,
        constraints.unit_interval,
        constraints.interval(-2.0, 3.0),
        constraints.greater_than(1.5),
        constraints.less_than(4.0),
        constraints.less_than(0.0),
        constraints.interval(torch.linspace(-2, 0, 50), torch.linspace(1, 100, 50)),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_unconstrained(support: Any, dtype: torch.dtype) -> None:
    """It stays within, is the plain step to first order, and is monotone in the step."""
    z = torch.distributions.transform_to(support)(normal(50, seed=11)).to(dtype)
    move = unconstrained(support)
    for size in (1e-3, 1.0, 1e3, 1e30):
        for step in (size, -size):
            stepped = move(z, torch.full_like(z, step))
            assert stepped.dtype == dtype
            assert bool(stepped.isfinite().all())
            assert bool(support.check(stepped).all())
            assert bool(((z - stepped) * step >= 0).all())
    if dtype == torch.float64:
        steps = slope(z) * 1e-5
        assert close(z - move(z, steps), steps, 1e-8)
        assert (z - move(z, steps)).abs().max() > 1e-5


def test_clamp() -> None:
    """It stops at either bound, number or tensor, and keeps the type."""
    z, step = torch.tensor([0.0, 2.0, 5.0]), torch.tensor([1.0, -1.5, -7.0])
    assert clamp(0, 5)(z, step).tolist() == [0, 3.5, 5]
    assert clamp(0, math.inf)(z, step).tolist() == [0, 3.5, 12]
    bounds = torch.tensor([-3.0, 0.0, 0.0]), torch.tensor([5, 3, 6])
    found = clamp(*bounds)(z, step)
    assert found.tolist() == [-1, 3, 6]
    assert found.dtype == torch.float32
    assert clamp(0, 5)(z.double(), step.double()).dtype == torch.float64
    with pytest.raises(RuntimeError, match="match the size"):
        clamp(torch.zeros(2), 5)(z, step)


def test_round_at_random_by_its_two_outcomes() -> None:
    """The mean over a grid of uniform numbers is the clamped step, to the width of the grid."""

    class Grid:
        """Uniform numbers that are not random."""

        def __init__(self, size: int) -> None:
            self.numbers = (torch.arange(size, dtype=torch.float64) + 0.5) / size

        def __call__(self, *_: Any, **__: Any) -> Tensor:
            return self.numbers

    size = 1000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", Grid(size))
        for step in (-0.613, 0.25, 0.9995, 1.2, 7.0, -40.0):
            z = torch.full((size,), 4.0).double()
            found = round_at_random(0, 9)(z, torch.full_like(z, step))
            assert abs(float(found.mean()) - min(max(4 - step, 0), 9)) <= 0.5 / size + 1e-12
            assert len(found.unique()) <= 2
            assert torch.equal(found, found.round())


@every_family
def test_moves_of_ones_own(make: Callable[[], Any]) -> None:
    """A move that is given takes the place of the default, and is handed the draw and the step."""
    q = make()
    z, seen = drawn(q, 3), []

    def stay(at: Tensor, step: Tensor) -> Tensor:
        seen.append((at, step))
        return at

    found = intermediate_gradient(q, z, slope(z), step_size=0.25, move=stay)
    assert torch.equal(seen[0][0], z)
    assert torch.equal(seen[0][1], 0.25 * slope(z))
    for value in found.values():
        assert not value.any()


def test_whole_moves_of_counts() -> None:
    """Rounded at random a Poisson step has the gradient of the count it ends on."""
    q = dist.Poisson(SECOND)
    z = drawn(q, 100)
    g = slope(z)
    move = round_at_random(0, math.inf, generator(13))
    found = intermediate_gradient(q, z, g, step_size=0.8, move=move)["rate"]
    ended = round_at_random(0, math.inf, generator(13))(z, 0.8 * g)
    assert close(found, (z - ended) / SECOND / 0.8, 1e-10)
    assert torch.equal(ended, ended.floor())
    assert (ended != z).any()


REFUSALS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no distribution": ({"distribution": "Normal"}, TypeError, "distribution: .* got str"),
    "one-hot": (
        {
            "distribution": dist.OneHotCategorical(logits=torch.zeros(3)),
            "z": torch.eye(3)[0],
        },
        TypeError,
        "distribution: expected one that is made of",
    ),
    "many ways": (
        {
            "distribution": dist.MultivariateNormal(torch.zeros(3), torch.eye(3)),
            "z": torch.zeros(3),
        },
        TypeError,
        "distribution: expected one that is made of .* got MultivariateNormal",
    ),
    "shape of grad": ({"grad": torch.zeros(2)}, ValueError, r"grad: expected shape \(3,\)"),
    "step size of zero": ({"step_size": 0.0}, ValueError, "step_size: .* got 0"),
    "infinite step size": ({"step_size": math.inf}, ValueError, "step_size: .* got inf"),
    "step size a truth": ({"step_size": True}, TypeError, "step_size: .* got bool"),
    "outside": ({"z": torch.tensor([-1.0, 0.0, 1.0])}, ValueError, "z: expected draws in"),
    "no count": ({"z": torch.tensor([0.5, 0.0, 1.0])}, ValueError, "z: expected draws in"),
    "NaN": ({"z": torch.tensor([torch.nan, 0.0, 1.0])}, ValueError, "z: expected draws in"),
    "move out": (
        {"step_size": 1.0, "move": lambda z, step: z - 10},
        ValueError,
        "move: expected values within",
    ),
    "move to NaN": (
        {"step_size": 1.0, "move": lambda z, step: z * torch.nan},
        ValueError,
        "move: expected values within",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case: str) -> None:
    """What is no distribution, draw, slope, step or move is refused by name."""
    options, error, message = REFUSALS[case]
    good = {
        "distribution": dist.Poisson(torch.tensor(2.0)),
        "z": torch.tensor([0.0, 1.0, 2.0]),
        "grad": torch.ones(3),
    }
    intermediate_gradient(**good)
    with pytest.raises(error, match=message):
        intermediate_gradient(**(good | options))


def test_level_density() -> None:
    """Where the density does not depend on the draw there is nothing to hand on, and no error."""
    q = dist.Uniform(torch.tensor(-1.0), torch.tensor(2.0))
    found = intermediate_gradient(q, torch.tensor([0.0, 1.0]), torch.ones(2))
    assert set(found) == {"low", "high"}
    assert all(torch.equal(value, torch.zeros(2)) for value in found.values())
    assert not any(value.requires_grad for value in found.values())


def test_supports_without_a_coordinate() -> None:
    """A support of whole numbers, or of vectors, is refused when the move is made."""
    with pytest.raises(NotImplementedError):
        unconstrained(constraints.integer_interval(0, 5))
    q = dist.Dirichlet(torch.ones(3))
    with pytest.raises(NotImplementedError, match="support: expected one of single numbers"):
        intermediate_gradient(q, q.sample(), torch.ones(3), step_size=0.1)


def test_probabilities_that_are_looked_up_are_refused() -> None:
    """A category, and a row of a table, has no density that moves with it."""
    logits, ones = normal(2, 3, seed=30), torch.ones(2, 3, dtype=torch.float64)
    z, index = torch.eye(3, dtype=torch.float64)[:2], torch.tensor([0.0, 1.0])
    rows = ils.distributions.Categorical(logits=logits, weight=torch.eye(3).double())
    for step_size in (None, 0.1):
        with pytest.raises(TypeError, match=r"made of \['logits'\], got Categorical"):
            intermediate_gradient(rows, z, ones, step_size=step_size)
        for family in (dist.Categorical, ils.distributions.Categorical):
            with pytest.raises(TypeError, match="a derivative for the draw, got that of Categ"):
                intermediate_gradient(family(logits=logits), index, index, step_size=step_size)
        theirs = dist.OneHotCategorical(logits=logits)
        with pytest.raises(TypeError, match="got OneHotCategorical"):
            intermediate_gradient(theirs, z, ones, step_size=step_size, move=torch.sub)
        with pytest.raises(TypeError, match=r"^z: expected a floating-point tensor"):
            intermediate_gradient(dist.Poisson(ones), z.long(), z.long(), step_size=step_size)


@pytest.mark.parametrize("step_size", [None, 0.1])
def test_intermediate_loss_without_values(step_size: float | None) -> None:
    """On the device meta the shapes come back; no value is looked at."""
    rate = torch.ones(4, device="meta")
    z = torch.ones(3, 4, device="meta")
    q = dist.Poisson(rate, validate_args=False)
    found = intermediate_gradient(q, z, z, step_size=step_size)["rate"]
    assert found.shape == (3, 4)
    assert found.is_meta
