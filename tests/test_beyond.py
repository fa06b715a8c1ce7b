"""What the intermediate loss computes beyond the categorical: the statements of the chapter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import close, generator
from families import CONTINUOUS, COUNTS, number
from test_velocity import bump, exact, gradient_at, mean
from torch import Tensor
from torch.distributions import Gumbel, Laplace, StudentT, kl_divergence

from ils.distributions import Binomial, Gamma, Normal, Poisson, VonMises
from ils.intermediate import (
    at_each_draw,
    clamp,
    intermediate_gradient,
    round_at_random,
    unconstrained,
)
from lab.beyond.families.fields import flow, pathwise
from lab.beyond.families.quadrature import nodes, scores

# A Bernoulli draw is at a bound, whatever is drawn.
MANY = {
    name: family
    for name, family in {**COUNTS, **CONTINUOUS}.items()
    if name != "Dirichlet" and not name.startswith("Bernoulli")
}


def skewed(z: Tensor) -> Tensor:
    """A bounded loss with a bounded gradient, unlike on both sides."""
    return torch.tanh(z - 0.6) + 0.5 * torch.exp(-((z - 1.1) ** 2))


def test_target_distribution_or_point() -> None:
    """prop-kl-target: a distribution of the mean z' and the point z' give one gradient."""
    stepped = number([0.2, 3.7])
    rate = number([1.3, 4.0]).requires_grad_()
    towards = kl_divergence(Poisson(stepped), Poisson(rate)).sum()
    at_point = -Poisson(rate, validate_args=False).log_prob(stepped).sum()
    (wanted,), (found,) = (torch.autograd.grad(loss, rate) for loss in (towards, at_point))
    assert close(found, wanted, 1e-14)
    # Of a normal the second moment of the target counts too, for the scale alone.
    loc, scale = number(0.3).requires_grad_(), number(1.4).requires_grad_()
    wide = kl_divergence(Normal(number(0.9), number(0.5)), Normal(loc, scale))
    point = -Normal(loc, scale).log_prob(number(0.9))
    first, second = (torch.autograd.grad(loss, [loc, scale]) for loss in (wide, point))
    assert close(first[0], second[0], 1e-14)
    assert close(second[1] - first[1], 0.5**2 / scale.detach() ** 3, 1e-14)


@pytest.mark.parametrize("family", MANY.values(), ids=MANY)
def test_small_steps(family: Any) -> None:
    """prop-mixed: over the step the centred gradient is the mixed derivative, up to the step."""
    at = nodes(family)
    # Away from the bounds, beyond which log p ends: a step is at most a thousandth.
    inner = at.weights > 1e-9 * at.weights.max()
    inner &= (at.z > at.z[inner].min() + 1e-2) & (at.z < at.z[inner].max() - 1e-2)
    z, g = at.z[inner], gradient_at(skewed, at.z)[inner]
    limit = intermediate_gradient(family, z, g)
    errors = []
    for step in (1e-3, 1e-4):
        found = intermediate_gradient(family, z, g, step_size=step, move=torch.sub)
        errors.append({name: float((found[name] - limit[name]).abs().max()) for name in limit})
    for name, value in limit.items():
        size = float(value.abs().max())
        if errors[0][name] > 1e-8 * size:
            assert 6 < errors[0][name] / errors[1][name] < 14, name
        assert errors[1][name] < 0.1 * size


def test_without_centring_the_mean_is_the_same_and_the_noise_is_not() -> None:
    """prop-mixed: the term left out has mean zero and the variance of the score over the step."""
    family, step = CONTINUOUS["normal"], 0.01
    at = nodes(family)
    g = gradient_at(skewed, at.z)
    options: dict[str, Any] = {"step_size": step}
    centred = intermediate_gradient(family, at.z, g, **options)
    raw = intermediate_gradient(family, at.z, g, centred=False, **options)
    for name, s in scores(family, at).items():
        assert close(mean(at.weights, raw[name]), mean(at.weights, centred[name]), 1e-8)
        information = mean(at.weights, s**2)
        variance = mean(at.weights, raw[name] ** 2)
        assert abs(float(variance / (information / step**2)) - 1) < 0.1
        assert float(mean(at.weights, centred[name] ** 2)) < 1e-2 * float(variance)


@pytest.mark.parametrize("step", [1e-3, 0.3, 2.0])
def test_normal_at_every_step(step: float) -> None:
    """prop-location-scale: Fisher information times pathwise; the scale's off by a known term."""
    family = CONTINUOUS["normal"]
    at = nodes(family)
    g = gradient_at(bump, at.z)
    found = intermediate_gradient(family, at.z, g, step_size=step)
    sigma = family.scale
    wanted = exact(family, bump)
    assert close(mean(at.weights, found["loc"]), wanted["loc"] / sigma**2, 1e-10)
    remainder = step * mean(at.weights, g**2) / (2 * sigma)
    scaled = 2 / sigma**2 * (wanted["scale"] - remainder)
    assert close(mean(at.weights, found["scale"]), scaled, 1e-9)
    assert abs(float(remainder)) > 1e-5


@pytest.mark.parametrize(
    "family",
    [StudentT(number(6.0), number(0.3), number(1.4)), Gumbel(number(0.3), number(1.4))],
    ids=["Student", "Gumbel"],
)
def test_other_locations(family: Any) -> None:
    """prop-location-scale: exact for affine losses, and for no others unless it is normal."""
    at = nodes(family)
    information = mean(at.weights, scores(family, at)["loc"] ** 2)
    for loss, agrees in ((lambda z: 2 * z, True), (skewed, False)):
        g = gradient_at(loss, at.z)
        found = mean(at.weights, intermediate_gradient(family, at.z, g)["loc"])
        pathwise = mean(at.weights, g)
        assert close(found, information * pathwise, 1e-5) == agrees
        if not agrees:
            assert abs(float(found / (information * pathwise)) - 1) > 0.02


def test_location_with_a_kink() -> None:
    """prop-location-scale: a Laplace density is no second derivative's integral: the limit is 0."""
    family = Laplace(number(0.3), number(1.4))
    z = torch.linspace(-3, 4, 50, dtype=torch.float64)
    found = intermediate_gradient(family, z, torch.ones_like(z))["loc"]
    assert bool((found == 0).all())


def test_small_steps_in_the_mean() -> None:
    """prop-mixed: the mean of a finite step tends to that of the limit, for a bounded slope."""
    family = CONTINUOUS["normal"]
    at = nodes(family)
    g = gradient_at(skewed, at.z)
    limit = intermediate_gradient(family, at.z, g)
    for step in (1e-1, 1e-2, 1e-3):
        found = intermediate_gradient(family, at.z, g, step_size=step)
        error = {name: mean(at.weights, found[name] - limit[name]) for name in limit}
        assert close(error["loc"], number(0.0), 1e-12)
        # Of the scale the error is known, and in proportion to the step.
        wanted = -step * mean(at.weights, g**2) / family.scale**3
        assert close(error["scale"], wanted, 1e-10)
        assert float(wanted.abs()) > 0.1 * step


NATURAL: dict[str, tuple[Any, Any]] = {
    "Poisson": (Poisson(number(3.0)), lambda q: q.rate),
    "binomial": (COUNTS["binomial logits"], lambda q: q.probs * (1 - q.probs) * q.total_count),
    "gamma of known concentration": (CONTINUOUS["gamma"], lambda q: q.concentration / q.rate**2),
}


@pytest.mark.parametrize("step", [0.01, 1.0])
@pytest.mark.parametrize(("family", "variance"), NATURAL.values(), ids=NATURAL)
def test_natural_exponential_families(family: Any, variance: Any, step: float) -> None:
    """prop-natural-families: in the natural parameter it is ``M g`` at every step, draw by draw."""
    at = nodes(family)
    z = at.z[(at.weights > 1e-12) & (at.z > 0)]
    g = gradient_at(skewed, z) * z.clamp(max=1) * 0.4  # so that no step leaves the support
    if isinstance(family, Binomial):
        g = g.where(z < family.total_count, 0.2)
    found = intermediate_gradient(family, z, g, step_size=step, move=torch.sub)
    if isinstance(family, Poisson):
        natural = found["rate"] * family.rate
    elif isinstance(family, Gamma):
        natural = -found["rate"]
    else:
        natural = found["logits"]
    assert close(natural, g, 1e-9 / step)
    # For affine losses that is the natural gradient: the exact one over the Fisher information.
    slope = exact(family, lambda x: x)
    assert close(variance(family), family.variance, 1e-12)
    if isinstance(family, Poisson):
        assert close(slope["rate"] * family.rate / family.variance, number(1.0))


def test_rounding_leaves_no_small_step() -> None:
    """prop-support: a step below one half is rounded away, and with it the gradient."""
    family, z = COUNTS["Poisson"], torch.arange(9, dtype=torch.float64)
    g = gradient_at(skewed, z)

    def rounded(z: Tensor, step: Tensor) -> Tensor:
        return (z - step).round().clamp(min=0)

    small = 0.49 / float(g.abs().max())
    found = intermediate_gradient(family, z, g, step_size=small, move=rounded)["rate"]
    assert bool((found == 0).all())
    large = intermediate_gradient(family, z, g, step_size=3 * small, move=rounded)["rate"]
    assert bool((large != 0).any())


def test_rounding_at_random_keeps_the_mean() -> None:
    """prop-support: the mean is that without rounding, the variance grows by a known term."""
    family, z = COUNTS["Poisson"], torch.arange(1, 9, dtype=torch.float64)
    g, step, count = gradient_at(skewed, z), 0.1, 200_000
    plain = intermediate_gradient(family, z, g, step_size=step)["rate"]
    many, slopes = z.expand(count, -1), g.expand(count, -1)
    move = round_at_random(0.0, torch.inf, generator(1))
    found = intermediate_gradient(family, many, slopes, step_size=step, move=move)["rate"]
    part = (step * g) - (step * g).floor()
    wanted = part * (1 - part) / step**2 / family.rate**2
    error = (wanted / count).sqrt()
    # Five standard errors: false alarms below 1e-5 in all; that is 2% of the noise of a draw.
    assert bool(((found.mean(0) - plain).abs() <= 5 * error + 1e-15).all())
    assert close(found.var(0), wanted, 0.05 * float(wanted.max()))
    assert float(wanted.max()) > 5 * float(plain.abs().max()) ** 2


def test_clamping_loses_what_points_outwards() -> None:
    """prop-support: at the bound of a count only steps inwards are left."""
    family = COUNTS["Poisson small"]
    at = nodes(family)
    at_bound = float(at.weights[0])
    for sign in (1.0, -1.0):
        g = sign * (1.5 + at.z)
        options: dict[str, Any] = {"step_size": 1e-3}
        metric = {"metric": lambda z: (family.rate + z) / 2}
        found = intermediate_gradient(
            family, at.z, g, move=clamp(0.0, torch.inf), **options, **metric
        )["rate"]
        whole = intermediate_gradient(family, at.z, g, **metric)["rate"]
        lost = mean(at.weights, whole - found)
        # M = rate / 2 at zero, over the variance: one half of the gradient there.
        wanted = at_bound * max(float(g[0]), 0.0) / 2
        assert close(lost, number(wanted), 1e-10)


@pytest.mark.parametrize("step", [1e-4, 0.3, 50.0])
def test_the_unconstrained_step_stays_inside(step: float) -> None:
    """prop-support: the step in the coordinate without bounds, and its metric at small steps."""
    family = CONTINUOUS["beta"]
    z = torch.linspace(0.01, 0.99, 33, dtype=torch.float64)
    g = gradient_at(skewed, z) * 4
    squared = (z * (1 - z)) ** 2
    moved = unconstrained(family.support)(z, step * squared * g)
    assert bool(((moved >= 0) & (moved <= 1)).all())
    found = intermediate_gradient(family, z, g, step_size=step, metric=lambda _: squared)
    limit = intermediate_gradient(family, z, g, metric=lambda _: squared)
    for name in limit:
        assert bool(found[name].isfinite().all())
        if step < 1e-3:
            assert close(found[name], limit[name], 1e-3 * float(limit[name].abs().max()))


PROJECTED: dict[str, tuple[str, Any]] = {
    "gamma": ("concentration", lambda z: z),
    "gamma below 1": ("concentration", lambda z: z),
    "beta": ("concentration1", lambda z: z * (1 - z)),
    "beta below 1": ("concentration0", lambda z: z * (1 - z)),
}


@pytest.mark.parametrize("name", PROJECTED)
@pytest.mark.parametrize("loss", [bump, skewed], ids=["bump", "skewed"])
def test_the_bias_of_a_galerkin_field(name: str, loss: Any) -> None:
    """prop-galerkin: its error is orthogonal to the statistics, so the bias obeys the bound."""
    family, (parameter, metric) = CONTINUOUS[name], PROJECTED[name]
    at = nodes(family)
    z, w = at.z, at.weights
    leaves, bound = at_each_draw(family, z)
    (field,) = torch.autograd.grad(bound._carry(z).sum(), leaves[parameter])
    error = field - pathwise(at, scores(family, at)[parameter])
    for statistic in (lambda x: x, lambda x: x**2):
        assert close(mean(w, error * gradient_at(statistic, z)), number(0.0), 1e-7)
    g = gradient_at(loss, z)
    root = (w * metric(z)).sqrt().unsqueeze(-1)
    basis, slope = root * torch.stack([torch.ones_like(z), 2 * z], -1), root * g.unsqueeze(-1)
    left = slope - basis @ torch.linalg.lstsq(basis, slope).solution
    bound_on_bias = mean(w, error**2 / metric(z)).sqrt() * left.norm()
    bias = mean(w, error * g).abs()
    assert 0.01 * float(bound_on_bias) < float(bias) <= float(bound_on_bias) + 1e-9


@pytest.mark.parametrize("family", MANY.values(), ids=MANY)
def test_pathwise_fields(family: Any) -> None:
    """The pathwise field, or the flow from a state to the next, is unbiased for any loss."""
    at = nodes(family)
    wanted = exact(family, skewed)
    for name, s in scores(family, at).items():
        if isinstance(family, VonMises):
            continue  # its losses have a period
        if family.support.is_discrete:
            found = (flow(at, s)[:-1] * skewed(at.z).diff()).sum()
        else:
            found = mean(at.weights, pathwise(at, s) * gradient_at(skewed, at.z))
        assert close(found, wanted[name], 1e-8)
