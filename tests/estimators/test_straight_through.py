"""Straight-through, ReinMax, ZGR, DARN and gapped straight-through, each against a surrogate."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from cases import close, cubic_loss, derivative, draws, eye, logistic_nodes, normal
from torch import Tensor

import ils
from ils import exact
from ils.estimators import (
    Estimator,
    darn,
    gapped_straight_through,
    mve,
    reinmax,
    reinmax_control_variate,
    straight_through,
    zgr,
)
from ils.relaxation import conditional_gumbel

SHAPES = [(5,), (3, 4), (1, 2), (2, 3, 2)]
GAPS = [0.2, 1.0, 3.0, None]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
each_gap = pytest.mark.parametrize("gap", GAPS, ids=str)

# Of logits, draws and derivatives of the loss at them: differentiated for the logits it is the
# estimate.
Surrogate = Callable[[Tensor, Tensor, Tensor], Tensor]


def of_straight_through(temperature: float) -> Surrogate:
    """The softmax at a temperature in place of the draw."""
    return lambda theta, z, grad: ((theta / temperature).softmax(-1) * grad).sum()


def of_reinmax(temperature: float) -> Surrogate:
    """Twice the softmax at the middle of draw and probabilities, less half of that at pi."""

    def surrogate(theta: Tensor, z: Tensor, grad: Tensor) -> Tensor:
        middle = ((theta.detach() / temperature).softmax(-1) + z) / 2
        around = (middle.log() + theta - theta.detach()).softmax(-1)
        return ((2 * around - theta.softmax(-1) / 2) * grad).sum()

    return surrogate


def log_likelihood(theta: Tensor, z: Tensor) -> Tensor:
    return torch.distributions.OneHotCategorical(logits=theta).log_prob(z).unsqueeze(-1)


def of_zgr(theta: Tensor, z: Tensor, grad: Tensor) -> Tensor:
    """Half the softmax and half the log-likelihood of the draw along z - pi."""
    away = z - theta.detach().softmax(-1)
    return ((theta.softmax(-1) + away * log_likelihood(theta, z)) * grad).sum() / 2


def of_darn(theta: Tensor, z: Tensor, grad: Tensor) -> Tensor:
    """The log-likelihood of the draw times the loss less its tangent at the draw, taken at pi.

    Variable by variable: the tangent moves one variable to its mean and leaves the others.
    """
    return (log_likelihood(theta, z) * (z - theta.detach().softmax(-1)) * grad).sum()


def mean_gap(chance: Tensor) -> Tensor:
    return -torch.log(1 - chance) / chance


def of_gapped(temperature: float, gap: float | None) -> Surrogate:
    """As the authors do: lift the drawn logit, lower the others where they are near."""

    def surrogate(theta: Tensor, z: Tensor, grad: Tensor) -> Tensor:
        logits = theta.detach()
        top = logits.amax(-1, keepdim=True)
        chance = (logits.softmax(-1) * z).sum(-1, keepdim=True)
        room = mean_gap(chance) if gap is None else gap
        lift = (top - logits) * z
        lower = (logits - top + room).clamp(min=0) * (1 - z)
        return (((theta + lift - lower) / temperature).softmax(-1) * grad).sum()

    return surrogate


SURROGATES: dict[str, tuple[Estimator, Surrogate]] = {
    "ZGR": (zgr(), of_zgr),
    "DARN": (darn(), of_darn),
    **{
        f"straight-through, {tau}": (straight_through(temperature=tau), of_straight_through(tau))
        for tau in (0.5, 1.0, 3.0)
    },
    **{f"ReinMax, {tau}": (reinmax(temperature=tau), of_reinmax(tau)) for tau in (0.5, 1.0, 2.0)},
    **{
        f"gapped, {tau}, {gap}": (
            gapped_straight_through(temperature=tau, gap=gap),
            of_gapped(tau, gap),
        )
        for tau in (0.5, 1.0, 2.0)
        for gap in GAPS
    },
}


@each_shape
@pytest.mark.parametrize("name", SURROGATES)
def test_surrogate(shape: tuple[int, ...], name: str) -> None:
    """Each estimate is what autograd makes of the surrogate, at every draw."""
    estimator, surrogate = SURROGATES[name]
    logits, z = 2 * normal(*shape, seed=1), draws(40, *shape, seed=2)
    loss = cubic_loss(normal(*shape, seed=3), min(2, len(shape)))
    theta = logits.expand_as(z).clone().requires_grad_()
    (expected,) = torch.autograd.grad(surrogate(theta, z, derivative(loss, z)), theta)
    size = float(expected.abs().max())
    assert size > 1e-3
    assert close(estimator.formula(logits, z, loss), expected, 1e-12 * (1 + size))


@pytest.mark.parametrize("samples", [2, 3])
def test_control_variate_is_the_rule_of_its_name(samples: int) -> None:
    """An estimate of several draws is that of :func:`ils.sample` for the mean of their losses."""
    logits, z = normal(3, 4, seed=5), draws(6, samples, 3, 4, seed=6)
    loss = cubic_loss(normal(3, 4, seed=7), 2)
    rule = ils.rules.ReinMaxControlVariate(1.5)
    found = reinmax_control_variate(samples=samples, temperature=1.5).formula(logits, z, loss)
    for one, estimate in zip(z, found, strict=True):
        leaf = logits.clone().requires_grad_()
        mean = loss(ils.differentiable_draw(leaf, one, rule=rule)).mean()
        assert close(torch.autograd.grad(mean, leaf)[0], estimate)


# --- gapped


def test_gap_is_the_mean_gap_of_two_categories() -> None:
    """-log(1 - pi_i) / pi_i: by quadrature, the mean of largest less second, given the draw."""
    logits = normal(2, seed=1)
    nodes, weights = logistic_nodes(half_width=40.0)
    numbers = torch.stack([(-nodes).exp(), torch.ones_like(nodes)], -1)
    for drawn in range(2):
        scores = conditional_gumbel(logits, eye(2)[drawn].expand_as(numbers), numbers)
        gaps = scores[:, drawn] - scores[:, 1 - drawn]
        assert float(weights @ gaps) == pytest.approx(
            float(mean_gap(logits.softmax(-1)[drawn])), abs=1e-10
        )


def test_gap_of_an_almost_certain_draw() -> None:
    """Where the drawn probability rounds to one the estimate is tiny and not zero."""
    logits = torch.tensor([40.0, 0.0], dtype=torch.float64)
    z = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    estimator = gapped_straight_through(gap=None)
    found = float(estimator.formula(logits, z, lambda z: z[..., 0])[0, 1])
    assert found == pytest.approx(-math.exp(-40), rel=1e-6, abs=0)


@each_gap
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_draws_of_probability_zero_and_one(gap: float | None, dtype: torch.dtype) -> None:
    """Enumeration meets masked and hopeless draws; their weight is zero, and so they are finite."""
    logits = normal(2, 3, seed=50).to(dtype)
    logits[0, 1] = -torch.inf
    logits[1] = torch.tensor([300.0, 0.0, -300.0])
    loss = cubic_loss(normal(2, 3, seed=51).to(dtype), 2)
    found = exact.moments(gapped_straight_through(gap=gap), loss, logits)
    assert found.mean.isfinite().all()
    assert found.variance.isfinite()
    assert float(found.mean[0, 1]) == 0


# --- MVE


def second_moment(estimator: Estimator, logits: Tensor) -> float:
    """The mean square, over draws and over derivatives with mean zero and covariance one."""
    count = logits.shape[-1]
    total = torch.zeros((), dtype=logits.dtype)
    for i in range(count):
        # The derivative of this loss is the same at every draw: the i-th unit vector.
        found = estimator.formula(logits, eye(count), lambda z, i=i: z[..., i])
        total = total + (logits.softmax(-1) * (found**2).sum(-1)).sum()
    return float(total)


def quadratic_bias(tau: float, logits: Tensor) -> float:
    """The largest bias over the losses ``z_i z_j``, which span those that are quadratic."""
    count = logits.shape[-1]
    found = [
        exact.moments(mve(tau=tau), lambda z, i=i, j=j: z[..., i] * z[..., j], logits).bias
        for i in range(count)
        for j in range(i + 1)
    ]
    return float(torch.stack(found).abs().max())


@each_shape
def test_mve_at_zero_is_straight_through(shape: tuple[int, ...]) -> None:
    """Draw by draw."""
    logits, z = normal(*shape, seed=1), draws(50, *shape, seed=2)
    loss = cubic_loss(normal(*shape, seed=3), min(2, len(shape)))
    found, wanted = mve(tau=0).formula(logits, z, loss), straight_through().formula(logits, z, loss)
    assert close(found, wanted, 1e-12 * (1 + float(wanted.abs().max())))


@pytest.mark.parametrize("categories", [2, 3, 5])
def test_mve_trades_bias_for_variance(categories: int) -> None:
    """The bias on quadratics falls to zero, the noise rises to less than ReinMax's, as tau does."""
    for seed in range(5):
        logits = 1.5 * normal(categories, seed=seed)
        taus = (0.0, 0.3, 3.0, 30.0, 1e4, math.inf)
        biases = [quadratic_bias(tau, logits) for tau in taus]
        noise = [second_moment(mve(tau=tau), logits) for tau in taus]
        assert biases[-1] < 1e-12 < biases[-2]
        assert biases == sorted(biases, reverse=True)
        assert noise == sorted(noise)
        least, reinmax_noise = noise[-1], second_moment(reinmax(), logits)
        if categories == 2:
            assert least == pytest.approx(reinmax_noise, rel=1e-12)
        else:
            assert 0.75 * reinmax_noise < least < reinmax_noise * (1 - 1e-6)


@pytest.mark.parametrize("tau", [0.0, 1.0, 1e6, math.inf])
def test_mve_of_rare_and_of_masked_categories(tau: float) -> None:
    """Probabilities down to 1e-30: float32 is as float64, and a mask as if it were left out."""
    logits = torch.tensor([3.0, -4.0, -70.0, -math.inf, -35.0, 2.5])
    z, grad = eye(6).float()[[0, 1, 2, 4, 5]], normal(5, 6, seed=4).float()
    grad[:, 3] = 0
    rule = ils.rules.MVE(tau)
    found = rule.gradient(grad, z, logits)
    wide = rule.gradient(grad.double(), z.double(), logits.double())
    assert close(found.double(), wide, 1e-5 * float(wide.abs().max()))
    kept = [0, 1, 2, 4, 5]
    without = rule.gradient(grad.double()[:, kept], eye(5), logits.double()[kept])
    assert close(wide[:, kept], without, 1e-12)
    assert not wide[:, 3].any()


def mve_slope(logits: Tensor, tau: float, weight: float) -> float:
    """How steep noise plus ``weight`` times squared bias is at MVE's matrices, of each draw one.

    The noise is :func:`second_moment`, the bias that on all losses ``z_i z_j``, and matrices move
    so that linear losses stay exact.
    """
    count, probs = logits.shape[-1], logits.softmax(-1)
    grads = eye(count).unsqueeze(0).expand(count, count, count)
    hands = ils.rules.MVE(tau).gradient(grads, eye(count).unsqueeze(1).expand_as(grads), logits)
    hands = hands.detach().requires_grad_()  # [drawn, of the derivative, of the estimate]
    sent = probs[:, None, None] * hands
    fisher = torch.diag(probs) - torch.outer(probs, probs)
    bias = sent + sent.transpose(0, 1) - torch.einsum("ij,ik->ijk", eye(count), fisher)
    total = (sent * hands).sum() + weight * (bias**2).sum()
    (slope,) = torch.autograd.grad(total, hands)
    along = (probs[:, None, None] * slope).sum(0) / (probs**2).sum()
    return float((slope - probs[:, None, None] * along).abs().max())


@pytest.mark.parametrize("tau", [0.0, 0.5, 3.0, 100.0])
def test_mve_has_the_least_noise_and_bias(tau: float) -> None:
    """Of what is exact for linear losses: the sum, bias with the weight tau / 2, is convex."""
    for categories in (2, 3, 6):
        logits = 1.5 * normal(categories, seed=5)
        assert mve_slope(logits, tau, tau / 2) < 1e-13
        # False: with another weight.
        assert mve_slope(logits, tau, tau + 0.1) > 1e-4
