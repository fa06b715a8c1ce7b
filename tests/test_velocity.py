"""Mean gradients of every family, by summation or quadrature, against the exact ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from cases import close, normal
from families import CONTINUOUS, COUNTS, number
from torch import Tensor

import ils
from ils.distributions import MixtureSameFamily, Normal, VonMises
from ils.intermediate import intermediate_gradient
from lab.beyond.families.quadrature import nodes, scores

Loss = Callable[[Tensor], Tensor]

each_count = pytest.mark.parametrize("family", COUNTS.values(), ids=COUNTS)
each_family = pytest.mark.parametrize(
    "family", [*COUNTS.values(), *CONTINUOUS.values()], ids=[*COUNTS, *CONTINUOUS]
)


def gradient_at(loss: Loss, z: Tensor) -> Tensor:
    """``g`` at each node."""
    leaf = z.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(leaf).sum(), leaf)
    return found


def carried(family: Any, z: Tensor, grad: Tensor) -> dict[str, Tensor]:
    """What the distribution hands on for each parameter at each draw."""
    leaves, bound = ils.intermediate.at_each_draw(family, z)
    found = torch.autograd.grad(bound._carry(z), [*leaves.values()], grad)
    return dict(zip(leaves, found, strict=True))


def mean(weights: Tensor, values: Tensor) -> Tensor:
    return torch.tensordot(weights, values, dims=1)


def exact(family: Any, loss: Loss) -> dict[str, Tensor]:
    """The gradient of the expected loss, by the score at each node."""
    at = nodes(family)
    values = loss(at.z)
    return {name: mean(at.weights * values, s) for name, s in scores(family, at).items()}


def estimated(family: Any, loss: Loss) -> dict[str, Tensor]:
    """The mean of what the distribution hands on."""
    at = nodes(family)
    found = carried(family, at.z, gradient_at(loss, at.z))
    return {name: mean(at.weights, value) for name, value in found.items()}


def quadratic(z: Tensor) -> Tensor:
    return 0.3 * (z - 1.7) ** 2 + z


def bump(z: Tensor) -> Tensor:
    return torch.exp(-((z - 1.1) ** 2)) + 0.2 * z


@each_family
def test_quadrature(family: Any) -> None:
    """The nodes carry the whole mass, and the mean of the family."""
    at = nodes(family)
    assert close((family.log_prob(at.z).exp() * at.volumes).sum(), number(1.0), 1e-8)
    assert close(at.weights.sum(), number(1.0))
    # That of the circle is an angle, and not the mean of the numbers.
    if not isinstance(family, VonMises):
        assert close(mean(at.weights, at.z), family.mean, 1e-10)
    else:
        assert close(mean(at.weights, torch.sin(at.z - family.loc)), number(0.0))


def form(z: Tensor) -> Tensor:
    """A quadratic loss of an event, symmetric in nothing."""
    if z.dim() == 1:
        return quadratic(z)
    mixing = normal(3, 3, seed=3)
    return torch.einsum("...i,ij,...j->...", z, mixing, z) / 2 + 0.7 * z[..., 0] - z[..., 2]


def on_the_circle(z: Tensor) -> Tensor:
    """A quadratic loss of the point on the circle."""
    x, y = torch.cos(z), torch.sin(z)
    return 0.4 * x**2 - 0.7 * x * y + y + 0.3 * x


@each_family
def test_exact_for_quadratic_losses(family: Any) -> None:
    """prop-stein and prop-galerkin: the mean is the exact gradient, for every parameter."""
    loss = on_the_circle if isinstance(family, VonMises) else form
    wanted, found = exact(family, loss), estimated(family, loss)
    assert set(found) == set(wanted)
    for name in wanted:
        assert close(found[name], wanted[name], 1e-9 * (1 + float(wanted[name].abs().max())))
        assert float(wanted[name].abs().max()) > 0.01


@each_count
def test_counts_are_off_by_a_twelfth_of_the_third_derivative(family: Any) -> None:
    """prop-stein: for a cubic loss the bias is a twelfth of it, times the slope of the mean."""
    wanted = exact(family, lambda z: z**3)
    found = estimated(family, lambda z: z**3)
    slope = exact(family, lambda z: z)
    for name in wanted:
        if name == "total_count":
            continue  # moves by the formula for any distribution
        bias = found[name] - wanted[name]
        assert close(bias, 6 / 12 * slope[name], 1e-9 * (1 + abs(float(wanted[name]))))


@each_count
@pytest.mark.parametrize("frequency", [0.3, 1.0, 2.5])
def test_counts_are_within_the_bound(family: Any, frequency: float) -> None:
    """prop-stein: the bias of a wave is at most its largest third derivative over twelve."""

    def wave(z: Tensor) -> Tensor:
        return torch.sin(frequency * z + 0.4)

    wanted, found = exact(family, wave), estimated(family, wave)
    slope = exact(family, lambda z: z)
    for name in set(wanted) - {"total_count"}:
        bias = abs(float(found[name] - wanted[name]))
        assert 0 < bias <= frequency**3 / 12 * abs(float(slope[name])) + 1e-13


def test_total_count_has_no_such_bound() -> None:
    """prop-stein: the number of failures is exact for quadratics, and beyond the twelfth."""
    family = ils.distributions.NegativeBinomial(number(3.0), number(0.5))
    wanted = exact(family, lambda z: z**3)["total_count"]
    found = estimated(family, lambda z: z**3)["total_count"]
    slope = exact(family, lambda z: z)["total_count"]
    assert abs(float(found - wanted)) > 2 * 6 / 12 * float(slope)


def jumps(family: Any) -> tuple[Tensor, Tensor]:
    """Rates up and down of the birth-death process of a family, with ``up - down = m - z``."""
    z, p = nodes(family).z, getattr(family, "probs", None)
    if isinstance(family, ils.distributions.Poisson):
        return family.rate + 0 * z, z
    if isinstance(family, (ils.distributions.Binomial, ils.distributions.Bernoulli)):
        count = getattr(family, "total_count", number(1.0))
        return p * (count - z), (1 - p) * z
    if isinstance(family, ils.distributions.Geometric):
        return (1 - p) * (z + 1) / p, z / p
    return p * (z + family.total_count) / (1 - p), z / (1 - p)


@each_count
def test_half_the_mean_square_of_the_jumps(family: Any) -> None:
    """prop-stein: balance, linear drift, and the velocity as metric over variance."""
    at = nodes(family)
    up, down = jumps(family)
    assert close(at.weights[:-1] * up[:-1], at.weights[1:] * down[1:], 1e-14)
    assert close(up - down, family.mean - at.z, 1e-9)
    slope = exact(family, lambda z: z)
    found = carried(family, at.z, torch.ones_like(at.z))
    for name in set(slope) - {"total_count"}:
        wanted = (up + down) / 2 / family.variance * slope[name]
        assert close(found[name], wanted, 1e-9 * float(wanted.abs().max()))


def test_complete_graph_is_reinmax() -> None:
    """prop-stein: half the mean square of the jumps of a category drawn anew is ReinMax."""
    logits, grad = normal(4, seed=1), normal(4, 4, seed=2)
    probs, corners = logits.softmax(-1), torch.eye(4, dtype=torch.float64)
    step = corners - corners.unsqueeze(1)  # from the second axis to the third
    moved = torch.einsum("k,ika,ikb,ib->ia", probs, -step, -step, grad) / 2
    z = corners.clone().requires_grad_()
    leaf = logits.expand(4, 4).clone().requires_grad_()
    (found,) = torch.autograd.grad(ils.differentiable_draw(leaf, z.detach()), leaf, grad)
    assert close(found, moved)


@each_family
def test_any_distribution(family: Any) -> None:
    """prop-any: half of the mean's slope and of score times deviation is exact for quadratics."""
    at = nodes(family)
    centre = mean(at.weights, at.z)
    mixing = normal(3, 3, seed=3)
    mixing = mixing + mixing.mT

    def form(z: Tensor) -> Tensor:
        if z.dim() == 1:
            return 0.4 * z**2 - z
        return torch.einsum("...i,ij,...j->...", z, mixing, z) / 2 + z[..., 0]

    grad = gradient_at(form, at.z)
    flat_z, flat_g = (x.reshape(len(x), -1) for x in (at.z - centre, grad))
    for s in scores(family, at).values():
        flat_s = s.reshape(len(s), -1)
        slope = torch.einsum("s,sp,se->pe", at.weights, flat_s, flat_z)
        moved = (flat_g @ slope.T + flat_s * (flat_z * flat_g).sum(-1, keepdim=True)) / 2
        wanted = mean(at.weights * form(at.z), flat_s)
        assert close(mean(at.weights, moved), wanted, 1e-9 * (1 + float(wanted.abs().max())))


class Tilted(torch.distributions.Distribution):
    """A family with two statistics added, ``p(z) exp(first t_1(z) + second t_2(z))``, at zero."""

    arg_constraints: ClassVar[Any] = {
        "first": torch.distributions.constraints.real,
        "second": torch.distributions.constraints.real,
    }
    base: Any = None

    def __init__(self, first: Tensor, second: Tensor, validate_args: Any = None) -> None:
        self.first, self.second = first, second
        super().__init__(first.shape, validate_args=False)

    @property
    def support(self) -> Any:
        """That of the base."""
        return self.base.support

    def log_prob(self, value: Tensor) -> Tensor:
        """But for the normaliser, which the draw does not enter."""
        one, two = statistics(self.base)[0](value).unbind(-1)
        return self.base.log_prob(value) + self.first * one + self.second * two


def statistics(family: Any) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """The statistics that are added, ``(S, 2)``, and the metric."""
    if isinstance(family, VonMises):
        return lambda z: torch.stack(
            [torch.cos(z - family.loc), torch.cos(2 * (z - family.loc))], -1
        ), torch.ones_like

    def metric(z: Tensor) -> Tensor:
        if isinstance(family, Normal):
            return torch.ones_like(z)
        return z if isinstance(family, ils.distributions.Gamma) else z * (1 - z)

    return lambda z: torch.stack([z, z**2], -1), metric


LINES = {name: family for name, family in CONTINUOUS.items() if name != "Dirichlet"}


@pytest.mark.parametrize("family", LINES.values(), ids=LINES)
def test_velocity_is_the_limit_of_small_steps(family: Any) -> None:
    """prop-galerkin: ``E[s t^T] G^{-1}`` times the limit of the family with statistics added."""
    at = nodes(family)
    of, metric = statistics(family)
    tilted = type("Tilted", (Tilted,), {"base": family})(number(0.0), number(0.0))
    ones = torch.ones_like(at.z)
    raw = intermediate_gradient(tilted, at.z, ones, metric=metric)
    bend = torch.stack([raw["first"], raw["second"]], -1)  # M dt/dz
    energy = torch.einsum("s,sp,sq,s->pq", at.weights, bend, bend, 1 / metric(at.z))
    found = carried(family, at.z, ones)
    for name, s in scores(family, at).items():
        if isinstance(family, VonMises) and name == "loc":
            continue
        slopes = torch.einsum("s,s,sp->p", at.weights, s, of(at.z))
        wanted = bend @ torch.linalg.solve(energy, slopes)
        assert close(found[name], wanted, 1e-7 * float(wanted.abs().max()))


def test_dirichlet_moves_as_its_betas_do() -> None:
    """An entry moves as the beta draw that it is, and the others make room in proportion."""
    concentration = number([0.7, 2.3, 1.1])
    z = normal(9, 3, seed=4).softmax(-1)
    for place in range(3):
        change = torch.eye(3, dtype=torch.float64)[place]
        moved = ils.velocity.dirichlet(z, concentration, change)
        rest = concentration.sum() - concentration[place]
        own = ils.velocity.beta(z[:, place], concentration[place], rest)[0]
        assert close(moved[:, place], own, 1e-14)
        others = [other for other in range(3) if other != place]
        room = -z[:, others] / (1 - z[:, [place]]) * own.unsqueeze(-1)
        assert close(moved[:, others], room, 1e-13)
    pair = torch.stack([z[:, 0], 1 - z[:, 0]], -1)
    for place, found in enumerate(ils.velocity.beta(z[:, 0], *concentration[:2])):
        change = torch.eye(2, dtype=torch.float64)[place]
        both = ils.velocity.dirichlet(pair, concentration[:2], change)[:, 0]
        assert close(both, found, 1e-14)


@pytest.mark.parametrize("loss", [quadratic, bump])
def test_normal_is_exact(loss: Loss) -> None:
    """prop-location-scale: mean and scale of a normal, for any loss."""
    family = CONTINUOUS["normal"]
    wanted, found = exact(family, loss), estimated(family, loss)
    for name in ("loc", "scale"):
        assert close(found[name], wanted[name], 1e-11)
        assert abs(float(wanted[name])) > 0.01


def test_gamma_rate_is_exact() -> None:
    """prop-galerkin: the gradient of a scale is exact, that of the concentration is not."""
    family = CONTINUOUS["gamma"]
    wanted, found = exact(family, bump), estimated(family, bump)
    assert close(found["rate"], wanted["rate"], 1e-10)
    assert abs(float(found["concentration"] - wanted["concentration"])) > 1e-4


def test_von_mises_location_is_exact() -> None:
    """A draw turns with its location: for losses of the period of the circle, unbiased."""
    family = CONTINUOUS["von Mises"]

    def loss(z: Tensor) -> Tensor:
        return torch.exp(torch.sin(2 * z)) + torch.cos(3 * z)

    wanted, found = exact(family, loss), estimated(family, loss)
    assert close(found["loc"], wanted["loc"], 1e-10)
    assert abs(float(found["concentration"] - wanted["concentration"])) > 1e-4


@pytest.mark.parametrize(
    "kappa", [1e-8, 1e-3, 0.0999, 0.1001, 0.5, 5.0, 30.0, 59.9, 60.1, 300.0, 1e4, 1e8]
)
def test_von_mises_factors(kappa: float) -> None:
    """The two factors against arbitrary precision, on both sides of both series."""
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(80):
        k = mpmath.mpf(kappa)

        def ratio(n: int) -> Any:
            if kappa < 1e4:
                return mpmath.besseli(n, k) / mpmath.besseli(0, k)
            # Of both the same asymptotic series, to twelve terms.
            return bessel(n) / bessel(0)

        def bessel(n: int) -> Any:
            total = term = mpmath.mpf(1)
            for j in range(1, 13):
                term *= -(4 * n * n - (2 * j - 1) ** 2) / (j * 8 * k)
                total += term
            return total

        a1, a2, a3 = (ratio(n) for n in (1, 2, 3))
        slopes = mpmath.matrix([(1 + a2) / 2 - a1**2, (a1 + a3) / 2 - a2 * a1])
        energy = mpmath.matrix([[a1, 4 * a2], [4 * a2, 16 * (a1 - 3 * a2 / k)]]) / k
        one, two = mpmath.lu_solve(energy, slopes)
        z = mpmath.mpf("0.7")
        wanted = float(-one * mpmath.sin(z) - 2 * two * mpmath.sin(2 * z))
    found = float(ils.velocity.von_mises(number(0.7), number(0.0), number(kappa)))
    assert abs(found / wanted - 1) < 2e-8


class Points(torch.distributions.Distribution):
    """Components whose points are given: one for each draw and component."""

    has_rsample = True

    def __init__(self, points: Tensor) -> None:
        self.points = points
        super().__init__(points.shape[-1:], validate_args=False)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        assert sample_shape == self.points.shape[:1]
        return self.points


def test_mixture_is_exact_for_quadratic_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights of the package's mixture, over all draws of three components; a cubic is not."""
    values, chances = normal(3, 2, seed=40), normal(3, 2, seed=41).softmax(-1)
    places = torch.cartesian_prod(*[torch.arange(2)] * 3)  # which point each component drew
    points = values[torch.arange(3), places].repeat(3, 1)
    chance = chances[torch.arange(3), places].prod(-1).repeat(3)
    drawn = torch.eye(3, dtype=torch.float64).repeat_interleave(len(places), 0)
    logits = normal(3, seed=42)
    w = logits.softmax(-1)

    def chosen(at: Tensor, **options: Any) -> Tensor:
        return ils.differentiable_draw(at, drawn)

    monkeypatch.setattr("ils.distributions.composite.draw_one_hot", chosen)
    for loss, exact in ((quadratic, True), (lambda z: z**3, False)):
        leaf = logits.clone().requires_grad_()
        weights = ils.distributions.Categorical(logits=leaf)
        z = MixtureSameFamily(weights, Points(points), validate_args=False).rsample((len(points),))
        assert torch.equal(z.detach(), (points * drawn).sum(-1))
        (found,) = torch.autograd.grad((chance * (drawn @ w) * loss(z)).sum(), leaf)
        losses = (chances * loss(values)).sum(-1)
        assert close(found, w * (losses - w @ losses), 1e-12) == exact


# Draws and parameters at the ends of the half types; where there is a choice, by probs and logits.
SHORT: dict[str, list[tuple[bool | None, list[list[float]]]]] = {
    "poisson": [(None, [[0, 3, 1e4], [0, 1e-2, 1e4]])],
    "binomial": [
        (False, [[0, 3, 1], [5, 3, 1], [0, 1, 0.3]]),
        (True, [[0, 3, 4e4], [5, 3, 6e4], [0, 1, 0.3]]),
    ],
    "negative_binomial": [
        (False, [[0, 3, 9e3], [0, 3, 9e3], [0, 0.5, 0.3]]),
        (True, [[0, 3, 9e3], [0, 3, 6e4], [0, 0.5, 0.3]]),
    ],
    "geometric": [(False, [[0, 3, 500], [1, 0.5, 0.25]])],
    "gamma": [(None, [[1e-4, 3, 300], [1e-3, 0.5, 6e4], [1, 1, 200]])],
    "beta": [(None, [[1e-4, 0.3, 0.999], [1e-3, 500, 6e4], [1, 500, 60]])],
    "dirichlet": [(None, [[0.2, 0.3, 0.5], [2, 1e3, 6e4], [1, -1, 0.5]])],
    "von_mises": [(None, [[0.2, 0.3, 0.25], [0, 0, 0], [1e-2, 1, 60]])],
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", SHORT)
def test_half_types(name: str, dtype: torch.dtype) -> None:
    """Worked on in float32: those in float64, rounded once."""
    for logits, rows in SHORT[name]:
        options = {} if logits is None else {"logits": logits}
        tensors = [torch.tensor(row, dtype=dtype) for row in rows]
        found, wanted = (
            getattr(ils.velocity, name)(*values, **options)
            for values in (tensors, [x.double() for x in tensors])
        )
        pairs = zip(found, wanted, strict=True) if isinstance(found, tuple) else [(found, wanted)]
        for one, other in pairs:
            assert one.dtype == dtype
            torch.testing.assert_close(
                one.double(), other, rtol=torch.finfo(dtype).eps, atol=torch.finfo(dtype).tiny
            )
    mixed = ils.velocity.poisson(torch.ones(2, dtype=dtype), torch.ones(2, dtype=torch.float64))
    assert mixed.dtype == torch.float64


def test_dirichlet_hands_nan_on() -> None:
    """A row with NaN is NaN, the others are what they were; what overflows is still no NaN."""
    z, alpha = torch.tensor([[0.2, 0.8], [0.5, 0.5]]), torch.tensor([[1.0, 2.0], [1.0, 2.0]])
    right = ils.velocity.dirichlet(z, alpha, torch.ones(2))
    for part in (z, alpha):
        spoilt = part.clone()
        spoilt[0, 0] = torch.nan
        found = ils.velocity.dirichlet(
            spoilt if part is z else z, spoilt if part is alpha else alpha, torch.ones(2)
        )
        assert found[0].isnan().all()
        assert torch.equal(found[1], right[1])
    tiny = torch.tensor([1e-38, 1.0])
    assert not ils.velocity.dirichlet(torch.tensor([0.0, 1.0]), tiny, tiny).isnan().any()


def test_a_beta_draw_at_an_end_stays() -> None:
    """Also where the concentration is so small that the factor overflows."""
    tiny = torch.tensor(1e-30)
    for moved in ils.velocity.beta(torch.tensor([0.0, 1.0]), tiny, tiny):
        assert moved.tolist() == [0, 0]
