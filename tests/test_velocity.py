"""Mean gradients of every family, by summation or quadrature, against the exact ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import close, normal
from families import CONTINUOUS, COUNTS, number
from torch import Tensor

import ils
from ils.distributions import Dirichlet, MixtureSameFamily, Normal, VonMises
from ils.intermediate import intermediate_gradient
from ils.lab.families.quadrature import nodes, scores

Loss = Callable[[Tensor], Tensor]

each_count = pytest.mark.parametrize("family", COUNTS.values(), ids=COUNTS)
each_continuous = pytest.mark.parametrize("family", CONTINUOUS.values(), ids=CONTINUOUS)
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


@each_count
def test_counts_are_exact_for_quadratic_losses(family: Any) -> None:
    """prop-stein: the mean is the exact gradient, for every parameter."""
    wanted = exact(family, quadratic)
    found = estimated(family, quadratic)
    assert set(found) == set(wanted)
    for name in wanted:
        assert close(found[name], wanted[name], 1e-10 * (1 + abs(float(wanted[name]))))
        assert abs(float(wanted[name])) > 0.01


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


def statistics(family: Any) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Sufficient statistics ``(S, P)``, and the squared slope of the unconstrained coordinate."""
    if isinstance(family, Normal):
        return lambda z: torch.stack([z, z**2], -1), torch.ones_like
    if isinstance(family, ils.distributions.Gamma):
        return lambda z: torch.stack([z.log(), z], -1), lambda z: z**2
    if isinstance(family, ils.distributions.Beta):
        return lambda z: torch.stack([z.log(), (-z).log1p()], -1), lambda z: (z * (1 - z)) ** 2
    assert isinstance(family, VonMises)
    loc = family.loc
    return lambda z: torch.cos(z - loc).unsqueeze(-1), torch.ones_like


@each_continuous
def test_exact_for_sufficient_statistics(family: Any) -> None:
    """prop-galerkin: a loss linear in the sufficient statistics has the exact gradient."""
    if isinstance(family, Dirichlet):
        weights, tolerance = number([0.4, -1.1, 0.8]), 1e-8

        def loss(z: Tensor) -> Tensor:
            return z.log() @ weights
    else:
        of, tolerance = statistics(family)[0], 1e-8

        def loss(z: Tensor) -> Tensor:
            return of(z) @ torch.linspace(0.7, -1.3, of(z).shape[-1], dtype=torch.float64)

    wanted, found = exact(family, loss), estimated(family, loss)
    for name in wanted:
        # The von Mises has a location besides, of which the statistic is the sine.
        assert close(found[name], wanted[name], tolerance), name


@each_continuous
def test_velocity_is_the_limit_of_small_steps(family: Any) -> None:
    """prop-galerkin: the velocity is ``F G^{-1}`` times the mixed derivative in the metric."""
    if isinstance(family, Dirichlet):
        return check_dirichlet(family)
    at = nodes(family)
    names = ["concentration"] if isinstance(family, VonMises) else [*scores(family, at)]
    metric = statistics(family)[1]
    ones = torch.ones_like(at.z)
    raw = intermediate_gradient(family, at.z, ones, metric=metric)
    slope = intermediate_gradient(family, at.z, ones)
    bend, moved = (torch.stack([part[name] for name in names], -1) for part in (slope, raw))
    score = torch.stack([scores(family, at)[name] for name in names], -1)
    information = torch.einsum("s,sp,sq->pq", at.weights, score, score)
    energy = torch.einsum("s,sp,sq->pq", at.weights, bend, moved)
    wanted = moved @ torch.linalg.solve(energy, information)
    found = torch.stack([carried(family, at.z, ones)[name] for name in names], -1)
    likely = at.weights > 1e-12 * at.weights.max()
    assert close(found[likely], wanted[likely], 1e-6 * float(wanted[likely].abs().max()))
    return None


def check_dirichlet(family: Dirichlet) -> None:
    """The same in the coordinate ``y`` of the softmax, of which ``z`` is the image."""
    at = nodes(family)
    bend = torch.eye(3, dtype=torch.float64) - at.z.unsqueeze(-2)  # d log z_k / dy_j
    score = scores(family, at)["concentration"]
    information = torch.einsum("s,sp,sq->pq", at.weights, score, score)
    energy = torch.einsum("s,spj,sqj->pq", at.weights, bend, bend)
    chosen = at.weights.topk(50).indices
    moved = torch.einsum(
        "pq,sqj,sji->spi",
        information @ energy.inverse(),
        bend[chosen],
        torch.diag_embed(at.z[chosen]) - at.z[chosen].unsqueeze(-1) * at.z[chosen].unsqueeze(-2),
    )
    for place in range(3):
        change = torch.eye(3, dtype=torch.float64)[place]
        found = ils.velocity.dirichlet(at.z[chosen], family.concentration, change)
        assert close(found, moved[:, place], 1e-7)


def test_beta_is_dirichlet_of_two() -> None:
    """The two functions agree for two entries."""
    z, a, b = torch.rand(9, dtype=torch.float64), number(0.7), number(2.3)
    pair, both = torch.stack([z, 1 - z], -1), torch.stack([a, b])
    for place, found in enumerate(ils.velocity.beta(z, a, b)):
        change = torch.eye(2, dtype=torch.float64)[place]
        assert close(ils.velocity.dirichlet(pair, both, change)[:, 0], found, 1e-12)


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


@pytest.mark.parametrize("kappa", [1e-8, 1e-3, 0.5, 5.0, 700.0, 999.0, 1001.0, 1e5, 1e12])
def test_von_mises_factor(kappa: float) -> None:
    """The factor ``kappa A' / A`` against arbitrary precision, on both sides of the series."""
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(60):
        k = mpmath.mpf(kappa)
        ratio = (
            mpmath.besseli(1, k) / mpmath.besseli(0, k)
            if kappa < 1e6
            else 1 - 1 / (2 * k) - 1 / (8 * k**2) - 1 / (8 * k**3) - mpmath.mpf(25) / 128 / k**4
        )
        wanted = float(k * (1 - ratio / k - ratio**2) / ratio)
    quarter = number(-torch.pi / 2)
    found = float(ils.velocity.von_mises(quarter, number(0.0), number(kappa)))
    assert abs(found / wanted - 1) < 5e-9


def test_mixture_is_exact_for_quadratic_losses() -> None:
    """The weights of a mixture move as a draw of categories does: exact for quadratics."""
    family = MixtureSameFamily(
        ils.distributions.Categorical(logits=number([0.3, -0.4])), COUNTS_OF_TWO
    )
    first, second = (nodes(part) for part in parts_of_two())
    logits = family.mixture_distribution.logits
    w = logits.softmax(-1)
    found = torch.zeros(2, dtype=torch.float64)
    pairs = first.weights[:, None] * second.weights
    for drawn in (0, 1):
        at = [first.z[:, None].expand(pairs.shape), second.z.expand(pairs.shape)]
        g = gradient_at(quadratic, at[drawn])
        # The other gains half of w_k <g, z_k - z_i>, the drawn one loses it.
        other = 1 - drawn
        gain = (pairs * w[other] / 2 * g * (at[other] - at[drawn])).sum() * w[drawn]
        found[other] += gain
        found[drawn] -= gain
    losses = torch.stack([mean(at.weights, quadratic(at.z)) for at in (first, second)])
    assert close(found, w * (losses - (w * losses).sum()), 1e-10)


COUNTS_OF_TWO = ils.distributions.Poisson(number([1.5, 4.0]))


def parts_of_two() -> list[Any]:
    return [ils.distributions.Poisson(rate) for rate in COUNTS_OF_TWO.rate]
