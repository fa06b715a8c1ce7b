"""Draws by Gumbel noise: pointwise against autograd and PyTorch, in the mean by quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import close, cubic_loss, derivative, draws, eye, generator, logistic_nodes, normal
from scipy.integrate import quad
from torch import Tensor

from ils import exact
from ils.estimators import (
    decoupled_straight_through_gumbel,
    gumbel_rao,
    gumbel_softmax,
    reinmax,
    reinmax_rao,
    straight_through,
    straight_through_gumbel,
    zgr,
)
from ils.relaxation import conditional_gumbel, hardened, relaxed_sample

each_count = pytest.mark.parametrize("categories", [2, 3])


def gumbel(*shape: int, seed: int) -> Tensor:
    numbers = torch.empty(*shape, dtype=torch.float64).exponential_(generator=generator(seed))
    return -numbers.log()


# --- Gumbel-Softmax, straight-through Gumbel and the decoupled form


@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("hard", [False, True])
def test_estimators_are_pytorchs(
    temperature: float, hard: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given its noise, F.gumbel_softmax backpropagates what the formulas say."""
    logits, loss = normal(6, 4, seed=13), cubic_loss(normal(6, 4, seed=1), 2)
    exponential = torch.empty(6, 4, dtype=torch.float64).exponential_(generator=generator(14))
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda self: self.copy_(exponential))
    leaf = logits.clone().requires_grad_()
    theirs = F.gumbel_softmax(leaf, tau=temperature, hard=hard)
    (expected,) = torch.autograd.grad(loss(theirs[None]).sum(), leaf)
    make = straight_through_gumbel if hard else gumbel_softmax
    noise = -exponential.log()
    found = make(temperature=temperature).formula(logits, noise[None], loss)[0]
    assert close(found, expected, 1e-10)
    assert expected.abs().max() > 1e-3 or temperature < 1
    sample = hardened(logits + noise) if hard else relaxed_sample(logits, noise, temperature)
    assert close(sample, theirs.detach())


@pytest.mark.parametrize("forward", [0.25, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("backward", [0.5, 1.0, 2.0])
def test_decoupled_by_autograd(forward: float, backward: float) -> None:
    """A hard value with a soft derivative, each at its temperature, both from one noise."""
    logits, loss = normal(3, 4, seed=6), cubic_loss(normal(3, 4, seed=7), 2)
    noise = gumbel(20, 3, 4, seed=8)
    estimator = decoupled_straight_through_gumbel(
        forward_temperature=forward, backward_temperature=backward
    )
    theta = logits.expand_as(noise).clone().requires_grad_()
    hard = F.one_hot((theta / forward + noise).argmax(-1), 4).double()
    soft = (theta / backward + noise).softmax(-1)
    (expected,) = torch.autograd.grad(loss(hard + soft - soft.detach()).sum(), theta)
    assert close(estimator.formula(logits, noise, loss), expected, 1e-11)


# --- Gumbel-Rao


def test_gumbel_rao_is_an_average_at_fixed_draw() -> None:
    """Each part is straight-through Gumbel at the noise that the conditional sample stands for."""
    logits, loss = normal(3, 4, seed=7), cubic_loss(normal(3, 4, seed=8), 2)
    z, numbers = draws(6, 3, 4, seed=9), normal(6, 5, 3, 4, seed=10).exp()
    found = gumbel_rao(temperature=0.7, samples=5).formula(logits, (z, numbers), loss)
    parts = [
        straight_through_gumbel(temperature=0.7).formula(
            logits, conditional_gumbel(logits, z, numbers[:, s]) - logits, loss
        )
        for s in range(5)
    ]
    assert close(found, torch.stack(parts).mean(0), 1e-11)


def line(temperature: float, order: int) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre panels on the half-line, fine where a softmax at this temperature turns."""
    nodes, weights = (torch.from_numpy(x) for x in np.polynomial.legendre.leggauss(order))
    middle = 40 * min(temperature, 0.5)
    near = torch.linspace(0, middle, 41, dtype=torch.float64)
    far = torch.linspace(middle, middle + 60, 41, dtype=torch.float64)
    edges = torch.cat([near, far[1:]])
    half = edges.diff()[:, None] / 2
    return (edges[:-1, None] + half * (1 + nodes)).flatten(), (half * weights).flatten()


def gap_nodes(logits: Tensor, drawn: int, temperature: float) -> tuple[Tensor, Tensor]:
    """Gaps t_k of the largest perturbed logit, that of the draw, to the others; and weights.

    With exponential times of rates pi_k, t_k = log(T_k / T_i), and T_i integrated out, the density
    given the draw is (K - 1)! prod_k (pi_k e^t_k) / (pi_i + sum_k pi_k e^t_k) ** K at t > 0.
    """
    count = len(logits)
    others = [k for k in range(count) if k != drawn]
    nodes, weights = line(temperature, 12 if count == 2 else 6)
    index = torch.cartesian_prod(*[torch.arange(len(nodes))] * (count - 1))
    index = index.reshape(-1, count - 1)
    log_probs = logits.log_softmax(-1)
    gaps = torch.zeros(len(index), count, dtype=torch.float64)
    gaps[:, others] = nodes[index]
    terms = log_probs + gaps
    log_density = terms[:, others].sum(-1) - count * terms.logsumexp(-1) + math.lgamma(count)
    return gaps, weights[index].prod(-1) * log_density.exp()


def given_draw(logits: Tensor, drawn: int, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Draw, exponential numbers and weights: the numbers that lead to the gaps."""
    gaps, weights = gap_nodes(logits, drawn, temperature)
    numbers = logits.softmax(-1) * gaps.expm1()
    numbers[:, drawn] = 1
    return eye(len(logits))[drawn].expand_as(gaps), numbers.unsqueeze(1), weights


def conditional_mean(logits: Tensor, loss: exact.Loss, temperature: float) -> Tensor:
    """Mean of Gumbel-Rao given each draw, (K, K)."""
    estimator = gumbel_rao(temperature=temperature, samples=1)
    rows = []
    for drawn in range(len(logits)):
        z, numbers, weights = given_draw(logits, drawn, temperature)
        rows.append(weights @ estimator.formula(logits, (z, numbers), loss))
    return torch.stack(rows)


def hard_nodes(logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Gumbel noise and weights, draw by draw, so that the hard sample jumps at no node."""
    parts = [gap_nodes(logits, drawn, temperature) for drawn in range(len(logits))]
    noise = torch.cat([-gaps - logits for gaps, _ in parts])
    weights = [p * weights for p, (_, weights) in zip(logits.softmax(-1), parts, strict=True)]
    return noise, torch.cat(weights)


def noise_nodes(logits: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """All draws, with nodes for the ratios of standard exponential numbers, which are all that
    an estimate depends on; none of this knows of the gaps."""
    if len(logits) == 2:
        nodes, weights = logistic_nodes()
        ratios = torch.stack([nodes, torch.zeros_like(nodes)], -1)
    else:
        axis = torch.arange(-36, 36.01, 0.25, dtype=torch.float64)
        ratios = torch.cartesian_prod(axis, axis, torch.zeros(1, dtype=torch.float64))
        weights = (-ratios.sum(-1) - 3 * (-ratios).logsumexp(-1)).exp()
        weights = weights / weights.sum()
    z = eye(len(logits)).repeat_interleave(len(ratios), 0)
    numbers = (-ratios).exp().repeat(len(logits), 1).unsqueeze(1)
    return (z, numbers), torch.outer(logits.softmax(-1), weights).flatten()


def case(categories: int, seed: int = 0) -> tuple[Tensor, exact.Loss]:
    logits = normal(categories, seed=70 + seed)
    return logits, cubic_loss(normal(categories, seed=80 + seed), 1)


@each_count
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_mean_is_that_of_straight_through_gumbel(categories: int, temperature: float) -> None:
    """The mean over exponentials against the mean over Gumbel noise, to 1e-9."""
    logits, loss = case(categories)
    found = exact.moments(
        gumbel_rao(temperature=temperature, samples=1), loss, logits, nodes=noise_nodes(logits)
    )
    nodes = hard_nodes(logits, temperature)
    assert float(nodes[1].sum()) == pytest.approx(1, abs=1e-11)
    hard = straight_through_gumbel(temperature=temperature)
    expected = exact.moments(hard, loss, logits, nodes=nodes)
    assert close(found.mean, expected.mean, 1e-9)
    assert expected.mean.abs().max() > 0.05
    # One conditional sample is one sample: the variance too is that of the hard estimate.
    assert float(found.variance) == pytest.approx(float(expected.variance), rel=1e-8)


@each_count
def test_limit_is_zgr(categories: int) -> None:
    """Given each draw, the mean tends to ZGR as the temperature falls, at the rate of it."""
    logits, loss = case(categories, seed=3)
    limit = zgr().formula(logits, exact.states(logits), loss)
    scale = float(limit.abs().max())
    means = {t: conditional_mean(logits, loss, t) for t in (0.04, 0.02, 0.01)}
    far = [float((mean - limit).abs().max()) for mean in means.values()]
    assert far[0] > 1.6 * far[1] > 1.6**2 * far[2]
    assert far[2] < 0.05 * scale
    # Extrapolated to zero: the remainder is of second order.
    assert close(2 * means[0.01] - means[0.02], limit, 0.2 * far[2])
    # Neither straight-through nor anything a tenth off would pass.
    other = straight_through().formula(logits, exact.states(logits), loss)
    assert not close(other, limit, 5 * far[2])
    assert 0.1 * scale > far[2]


def test_variance_at_low_temperature() -> None:
    """tau times the second moment of straight-through Gumbel tends to pi_0 pi_1 sum_i d_i^2 / 12.

    ``d_i`` is the slope g_1 - g_0 at the draw i.  What averages over all conditional samples stays
    bounded: it tends to the variance of ZGR.
    """
    logits, loss = case(2, seed=5)
    probs = logits.softmax(-1)
    z = exact.states(logits)
    grads = derivative(loss, z)
    expected = float(probs.prod() * (grads[:, 1] - grads[:, 0]).square().sum() / 12)
    temperature = 1e-3
    hard = straight_through_gumbel(temperature=temperature)
    found = exact.moments(hard, loss, logits, nodes=hard_nodes(logits, temperature))
    second = float(found.variance + found.mean.square().sum()) / 2  # two equal entries
    assert temperature * second == pytest.approx(expected, rel=0.01)
    rows = conditional_mean(logits, loss, temperature)
    spread = float((probs @ (rows - probs @ rows) ** 2).sum())
    assert spread == pytest.approx(float(exact.moments(zgr(), loss, logits).variance), rel=0.02)


# --- ReinMax-Rao, and a control variate for ReinMax


def two_nodes() -> tuple[Tensor, Tensor]:
    """Exponential noise ``(S, 2, 2)``, of a draw of each category, and its weights: exact for two.

    Only the ratio of the numbers counts, whose logarithm is logistic.
    """
    nodes, weights = logistic_nodes()
    first = torch.stack([torch.ones_like(nodes), nodes.exp()], -1)
    return torch.stack([first, first.flip(-1)], 1), weights


def slopes_given_the_draw(logits: Tensor, temperature: float, noise: str) -> tuple[Tensor, Tensor]:
    """``[S, i, j, k]``: the Jacobian of a relaxed sample at ``(pi + e_i) / 2``, and the weights.

    Its noise is "given" that ``e_i`` is the largest there, that of the "draw" of ``e_i``, or "new".
    """
    numbers, weights = two_nodes()
    middle = ((logits.softmax(-1) + eye(2)) / 2).log()
    scores = conditional_gumbel(middle, eye(2), numbers)
    if noise == "draw":
        scores = middle + conditional_gumbel(logits.expand(2, 2), eye(2), numbers) - logits
    elif noise == "new":
        scores = middle + numbers.log()
    y = (scores / temperature).softmax(-1)
    return (torch.diag_embed(y) - y.unsqueeze(-1) * y.unsqueeze(-2)) / temperature, weights


def fisher_of(logits: Tensor) -> Tensor:
    probs = logits.softmax(-1)
    return torch.diag(probs) - torch.outer(probs, probs)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_reinmax_rao_by_quadrature(temperature: float) -> None:
    """Two categories: the mean given the draw is that of the Jacobians, by scipy's integral too."""
    logits, loss = normal(2, seed=3), cubic_loss(normal(2, seed=4), 1)
    noise, weights = two_nodes()
    grads, fisher = derivative(loss, eye(2)), fisher_of(logits)
    z = eye(2).expand_as(noise)
    found = reinmax_rao(temperature=temperature, samples=1).formula(
        logits.expand(2, 2), (z, noise[:, None]), lambda z: loss(z)
    )
    mean = torch.einsum("s,sij->ij", weights, found)
    slopes, _ = slopes_given_the_draw(logits, temperature, "given")
    wanted = 2 * torch.einsum("s,sijk,ik->ij", weights, slopes, grads) - grads @ fisher / 2
    assert close(mean, wanted, 1e-10)
    for i, chance in enumerate(logits.softmax(-1).tolist()):
        odds = math.log((1 + chance) / (1 - chance))

        def integrand(u: float, odds: float = odds) -> float:
            at = torch.tensor([u / temperature, u - odds], dtype=torch.float64)
            y, law = at.sigmoid().tolist()
            return y * (1 - y) * law * (1 - law) / temperature * (1 + math.exp(-odds))

        steep = quad(integrand, 0, 60, epsabs=1e-12, limit=200)[0]
        rise = float(grads[i, 0] - grads[i, 1])
        own = (2 * steep - float(fisher[0, 0]) / 2) * rise
        assert float(mean[i, 0]) == pytest.approx(own, abs=1e-9)


@pytest.mark.parametrize("categories", [2, 3, 5])
def test_reinmax_rao_when_cold(categories: int) -> None:
    """Where Gumbel-Rao is ZGR at the middle, the mean for a linear loss is half of the gradient."""
    logits, g = normal(categories, seed=5), normal(categories, seed=6)
    probs, fisher = logits.softmax(-1), fisher_of(logits)
    middles = ((probs + eye(categories)) / 2).log()
    at_middle = [
        zgr().formula(middle, z[None], lambda z: z @ g)[0]
        for middle, z in zip(middles, eye(categories), strict=True)
    ]
    limits = 2 * torch.stack(at_middle)
    assert close(probs @ limits - fisher @ g / 2, fisher @ g / 2, 1e-12)
    # False: it is the whole gradient, as that of ReinMax.
    assert (fisher @ g).abs().max() > 0.1
    if categories == 2:
        for temperature in (0.05, 0.01):
            slopes, weights = slopes_given_the_draw(logits, temperature, "given")
            jacobian = 2 * torch.einsum("s,i,sijk->jk", weights, probs, slopes) - fisher / 2
            assert close(jacobian, fisher / 2, temperature * float(fisher.max()))


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
def test_control_variate_given_the_draw(temperature: float) -> None:
    """Noise given the draw gives the mean zero and adds its variance; other noise another mean."""
    logits, g, eta = normal(2, seed=7), normal(2, seed=8), 0.5
    probs, fisher = logits.softmax(-1), fisher_of(logits)
    plain = reinmax().formula(logits, eye(2), lambda z: z @ g)
    slopes, weights = slopes_given_the_draw(logits, temperature, "given")
    joint = weights[:, None] * probs
    moved = torch.einsum("s,sijk,k->ij", weights, slopes, g) - slopes @ g
    assert close(torch.einsum("s,sij->ij", weights, moved), torch.zeros(2, 2).double(), 1e-12)
    both = plain + eta * moved
    variance, before, added = (
        torch.einsum("si,sij->j", joint, (x - x_mean) ** 2)
        for x, x_mean in (
            (both, fisher @ g),
            (plain.expand_as(both), fisher @ g),
            (eta * moved, torch.zeros(2).double()),
        )
    )
    assert close(variance, before + added, 1e-12)
    assert (added > 1e-4 * (fisher @ g) ** 2).all()
    # False: the noise of the draw, or new noise, would do as well.
    for noise in ("draw", "new"):
        other, _ = slopes_given_the_draw(logits, temperature, noise)
        mean = torch.einsum("si,sijk,k->j", joint, slopes - other, g)
        assert ((mean / (fisher @ g)).abs() > 0.05).all()


def test_control_variate_by_the_noise_of_the_draw_when_cold() -> None:
    """Its mean for a linear loss tends to half of the gradient."""
    logits = normal(2, seed=9)
    probs, fisher = logits.softmax(-1), fisher_of(logits)
    for temperature in (0.1, 0.05, 0.01):
        slopes, weights = slopes_given_the_draw(logits, temperature, "given")
        other, _ = slopes_given_the_draw(logits, temperature, "draw")
        mean = torch.einsum("s,i,sijk->jk", weights, probs, slopes - other)
        assert close(mean, fisher / 2, temperature * float(fisher.max()))
        # False: it tends to zero.
        assert not close(mean, 0 * fisher, temperature * float(fisher.max()))
