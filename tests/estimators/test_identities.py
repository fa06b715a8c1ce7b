"""Exact conditions: for which losses nothing is lost, and when clamping changes nothing.

That ReinMax at temperature 1, ZGR and half of straight-through plus DARN are one estimator, and
half of the mass-keeping Fisher step without clamping, is in ``test_second_order``.
"""

from __future__ import annotations

import pytest
import torch
from cases import close, cubic_loss, draws, eye, generator, normal
from torch import Tensor

import ils
from ils import exact
from ils.estimators import Estimator
from ils.estimators.gumbel import gumbel_rao, straight_through_gumbel
from ils.estimators.intermediate import intermediate_loss_sampling
from ils.estimators.straight_through import darn, reinmax, straight_through
from ils.target import centred_gradient

each_shape = pytest.mark.parametrize("shape", [(5,), (3, 4), (4, 2)], ids=str)


def clamped_step(step_size: float) -> Estimator:
    """The centred, mass-keeping step in the Fisher metric, clamped, divided by its size."""
    return intermediate_loss_sampling(
        step_size=step_size,
        normalizer=ils.sum_normalize,
        metric=ils.metric.fisher,
        gradient=centred_gradient,
        keep_mass=True,
        per_step=True,
    )


def derivative(loss: exact.Loss, z: Tensor) -> Tensor:
    leaf = z.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf).sum(), leaf)[0]


# --- clamping


def losses_and_gains(logits: Tensor, z: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What each category takes from the draw, the sum of it, and the sum of what is clamped."""
    probs = logits.softmax(-1)
    better = (z * grad).sum(-1, keepdim=True) - grad
    taken = probs * better.clamp(min=0)
    return (
        taken,
        taken.sum(-1, keepdim=True),
        (probs * (-better).clamp(min=0)).sum(-1, keepdim=True),
    )


@each_shape
@pytest.mark.parametrize("step_size", [1e-3, 0.3, 2.0, 50.0])
def test_clamped_step_in_closed_form(shape: tuple[int, ...], step_size: float) -> None:
    """(z a - taken) / (1 + alpha b) up to alpha (a - b) = 1, (z - taken / a) / alpha beyond.

    ``taken_k = pi_k (g_i - g_k)_+`` with the sum ``a``, and ``b = sum_k pi_k (g_k - g_i)_+``.
    """
    logits, z = normal(*shape, seed=1), draws(60, *shape, seed=2)
    loss = cubic_loss(normal(*shape, seed=3), len(shape))
    taken, a, b = losses_and_gains(logits, z, derivative(loss, z))
    within = step_size * (a - b) <= 1
    expected = torch.where(
        within,
        (z * a - taken) / (1 + step_size * b),
        (z - taken / torch.where(within, 1.0, a)) / step_size,
    )
    found = clamped_step(step_size).formula(logits, z, loss)
    assert close(found, expected, 1e-11 + 1e-14 / step_size)


@each_shape
def test_clamping_changes_nothing_if_and_only_if(shape: tuple[int, ...]) -> None:
    """Clamped step = 2 ReinMax at a draw iff no category is worse and alpha (g_i - <pi, g>) <= 1.

    Variable by variable; on either side of the largest step, too.
    """
    logits, z = normal(*shape, seed=4), draws(200, *shape, seed=5)
    loss = cubic_loss(normal(*shape, seed=6), len(shape))
    grad = derivative(loss, z)
    drawn = (z * grad).sum(-1)
    worst = drawn >= grad.amax(-1)
    assert worst.any()
    assert not worst.all()
    twice = 2 * reinmax().formula(logits, z, loss)
    excess = drawn - (logits.softmax(-1) * grad).sum(-1)
    least = float(1 / excess[worst].max())
    for step_size in (1e-4, 0.3 * least, 0.999 * least, 1.001 * least, 3 * least, 30 * least):
        far = (clamped_step(step_size).formula(logits, z, loss) - twice).abs().amax(-1)
        same = worst & (step_size * excess <= 1)
        assert (far[same] < 1e-9).all()
        assert (far[~same] > 1e-6).all()
        assert torch.equal(same, worst) == (step_size < least)


def test_clamped_mean_is_one_sided() -> None:
    """At small steps the mean of entry k is pi_k sum_i pi_i [(d_ki)_+ - (d_ik)_+].

    ``d_ji = <g(e_j), e_j - e_i>``, from each draw j: only flow towards a better category counts.
    It is not exact for quadratic losses; ReinMax, which counts both ends, is.
    """
    logits = normal(4, seed=7)
    square, weights = normal(4, 4, seed=8), normal(4, seed=9)

    def loss(z: Tensor) -> Tensor:
        return ((z @ square) * z).sum(-1) + z @ weights

    grads, probs = derivative(loss, eye(4)), logits.softmax(-1)
    rise = grads.diagonal()[:, None] - grads  # rise[j, i] = <g(e_j), e_j - e_i>
    flow = rise.clamp(min=0)
    expected = probs * (flow @ probs - flow.T @ probs)
    found = exact.moments(clamped_step(1e-7), loss, logits)
    assert close(found.mean, expected, 1e-5)
    assert found.bias.norm() > 0.05 * found.gradient.norm()
    assert exact.moments(reinmax(), loss, logits).bias.abs().max() < 1e-12


# --- exactness


def interpolant(values: Tensor, grads: Tensor) -> exact.Loss:
    """A smooth loss of one variable with given values and gradients at the corners.

    sum_i x_i^2 [(3 - 2 x_i) v_i + <g_i, x - e_i>]: estimates after a draw see the corners alone.
    """

    def loss(z: Tensor) -> Tensor:
        away = torch.einsum("...ik,ik->...i", z[..., None, :] - eye(len(values)), grads)
        return (z**2 * ((3 - 2 * z) * values + away)).sum(-1)

    return loss


def test_interpolant() -> None:
    """It has the values and gradients that it was given."""
    values, grads = normal(4, seed=10), normal(4, 4, seed=11)
    loss = interpolant(values, grads)
    assert close(loss(eye(4)), values)
    assert close(derivative(loss, eye(4)), grads)


def errors(values: Tensor, grads: Tensor) -> tuple[Tensor, Tensor]:
    """Along each edge i -> k, index (k, i): the trapezium's error, and the tangent's from i."""
    change = values[:, None] - values
    tangent = (grads - grads.diagonal()[:, None]).T  # <g_i, e_k - e_i>
    return (tangent - tangent.T) / 2 - change, tangent - change


def test_bias_by_edges() -> None:
    """For any loss of one variable the biases are sums of the edges' errors.

    ReinMax: pi_k sum_i pi_i e_ki, trapezium.  Straight-through and DARN, with the tangent's error
    t_ki from i: pi_k sum_i pi_i (s_i + t_ki) and -pi_k sum_i pi_i (s_i + t_ik), s_i = -sum_j pi_j
    t_ji; their half sum is the first.
    """
    for seed in range(5):
        logits = normal(4, seed=20 + seed)
        values, grads = normal(4, seed=30 + seed), normal(4, 4, seed=40 + seed)
        loss, probs = interpolant(values, grads), logits.softmax(-1)
        trapezium, tangent = errors(values, grads)
        middle = probs @ tangent @ probs
        expected = {
            "ReinMax": probs * (trapezium @ probs),
            "straight-through": probs * (tangent @ probs - middle),
            "DARN": -probs * (tangent.T @ probs - middle),
        }
        assert close(expected["ReinMax"] * 2, expected["straight-through"] + expected["DARN"])
        for estimator in (reinmax(), straight_through(), darn()):
            found = exact.moments(estimator, loss, logits)
            assert close(found.bias, expected[estimator.name], 1e-11)
            assert found.bias.abs().max() > 1e-2


def test_exact_beyond_quadratic_losses() -> None:
    """What counts is the trapezium along the edges, not the degree: of one variable and of three.

    The other loss has a quadratic's values and gradients at the corners, and nowhere else.
    """
    square, weights = normal(4, 4, seed=50), normal(4, seed=51)
    corners = eye(4)
    quadratic = lambda z: ((z @ square) * z).sum(-1) + z @ weights  # noqa: E731
    other = interpolant(quadratic(corners), derivative(quadratic, corners))
    inside = normal(3, 4, seed=52).softmax(-1)
    assert (other(inside) - quadratic(inside)).abs().max() > 0.1
    logits = normal(4, seed=53)
    assert exact.moments(reinmax(), other, logits).bias.abs().max() < 1e-12

    def joint(z: Tensor) -> Tensor:
        return other(z[:, 0]) * quadratic(z[:, 1]) * z[:, 2, 0] + other(z[:, 2])

    found = exact.moments(reinmax(), joint, normal(3, 4, seed=54))
    assert found.bias.abs().max() < 1e-11
    assert found.gradient.abs().max() > 0.1


def test_chance_exactness() -> None:
    """With three categories errors can cancel at some logits; so the condition is for all logits.

    A loss of zero at every corner whose trapezium errors run round in a circle.
    """
    grads = torch.tensor([[0.0, 1, -1], [-1, 0, 1], [1, -1, 0]], dtype=torch.float64)
    loss = interpolant(torch.zeros(3, dtype=torch.float64), grads)
    level = exact.moments(reinmax(), loss, torch.zeros(3, dtype=torch.float64))
    assert level.bias.abs().max() < 1e-12
    assert errors(torch.zeros(3, dtype=torch.float64), grads)[0].abs().max() == 1
    tilted = exact.moments(reinmax(), loss, normal(3, seed=55))
    assert tilted.bias.abs().max() > 0.05


def test_one_wrong_edge_is_seen() -> None:
    """Several variables: an error on one edge, at one setting of the others, leaves a bias."""
    size = (3, 3)
    logits = normal(*size, seed=60)

    def loss(z: Tensor) -> Tensor:
        # The edge between the first two categories of the first variable, if the second is 2.
        return z[:, 0, 0] ** 3 * z[:, 1, 2] + (z * normal(*size, seed=61)).sum((-1, -2)) ** 2

    found = exact.moments(reinmax(), loss, logits)
    probs = logits.softmax(-1)
    # Of x^3 from 0 to 1 the trapezium makes 3 / 2: an error of half, towards the category alone.
    first = probs[0, 0] * (1 - probs[0, 0]) / 2
    others = -probs[0, 0] * probs[0, 1:] / 2
    expected = torch.zeros_like(probs)
    expected[0] = torch.cat([first[None], others]) * probs[1, 2]
    assert close(found.bias, expected, 1e-11)
    assert expected.abs().max() > 1e-2


@pytest.mark.parametrize("shape", [(4,), (3, 3), (2, 4), (5, 2)], ids=str)
def test_darn_is_as_wrong_the_other_way(shape: tuple[int, ...]) -> None:
    """For a loss quadratic in each variable the biases of DARN and straight-through cancel."""
    logits, weights = normal(*shape, seed=62), normal(*shape, seed=63)

    def loss(z: Tensor) -> Tensor:
        each = (z * weights).sum(-1).reshape(len(z), -1)  # draws by variables
        return ((each + 1) ** 2).prod(-1) + each.sum(-1)

    first, second = (exact.moments(e, loss, logits).bias for e in (straight_through(), darn()))
    assert close(first, -second, 1e-11)
    assert first.abs().max() > 1e-3


# --- temperature


def test_warm_limit() -> None:
    """As tau -> inf, tau times any of three estimates tends to (g - mean of g) / K."""
    logits, loss = normal(3, 4, seed=70), cubic_loss(normal(3, 4, seed=71), 2)
    noise = -torch.empty(30, 3, 4, dtype=torch.float64).exponential_(generator=generator(72)).log()
    numbers = torch.empty(30, 2, 3, 4, dtype=torch.float64).exponential_(generator=generator(73))
    z = eye(4)[(logits + noise).argmax(-1)]
    grad = derivative(loss, z)
    limit = (grad - grad.mean(-1, keepdim=True)) / 4
    for tau in (1e4, 1e6):
        for estimator, random in (
            (straight_through(temperature=tau), z),
            (straight_through_gumbel(temperature=tau), noise),
            (gumbel_rao(temperature=tau, samples=2), (z, numbers)),
        ):
            found = tau * estimator.formula(logits, random, loss)
            assert close(found, limit, 100 / tau * float(limit.abs().max()))


def test_cold_straight_through_vanishes() -> None:
    """As tau -> 0 the softmax of straight-through is a corner, and its Jacobian nothing."""
    logits = torch.tensor([0.5, -1.0, 0.2, 1.0, -0.3], dtype=torch.float64)
    loss = cubic_loss(normal(5, seed=75), 1)
    sizes = [
        float(straight_through(temperature=t).formula(logits, eye(5), loss).abs().max())
        for t in (1.0, 0.1, 0.01)
    ]
    assert sizes[0] > 0.1
    assert sizes[2] < 1e-6
