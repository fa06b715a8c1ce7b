"""The toy: its formulas against autograd, and its fixed points against their closed forms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import close, distribution, eye, generator
from torch import Tensor

import ils
from ils import squeeze
from lab.problems.toy import Toy, ils_limit, keep_mass_threshold, random_toy, sum_normalize_limit

TOY = random_toy(30, generator=generator(1))
SIZE = 25


def matrices(toy: Toy, **options: Any) -> Tensor:
    """Transition matrices by a draw of each category in turn, ``(groups, N, K, K)``."""
    rows = []
    for corner in eye(toy.p.shape[-1]):
        z = corner.expand_as(toy.p)
        rows.append(ils.target.intermediate_target(z, toy.gradient(z), **options))
    return torch.stack(rows, -2)


def note_loss(toy: Toy, z: Tensor) -> Tensor:
    """The note's loss of each group, entry by entry."""
    return (-toy.p * ((z + toy.eps).log() - (toy.p + toy.eps).log())).mean((-1, -2))


def test_random_toy() -> None:
    """Targets are distributions, starts lie in [0, 1), and the generator decides both."""
    assert TOY.p.shape == TOY.start.shape == (30, 5, 5)
    assert TOY.size == SIZE
    assert TOY.eps == 1e-8
    assert TOY.p.min() > 0
    assert close(TOY.p.sum(-1), torch.ones(30, 5))
    assert TOY.start.min() >= 0
    assert TOY.start.max() < 1
    state = torch.get_rng_state()
    again, other = random_toy(30, generator=generator(1)), random_toy(30, generator=generator(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(again.p, TOY.p)
    assert torch.equal(again.start, TOY.start)
    assert not torch.equal(other.p, TOY.p)
    assert random_toy(2, generator=generator(1), problems=3, categories=4).size == 12


@pytest.mark.parametrize(("problems", "categories"), [(5, 5), (1, 3), (3, 2)])
def test_formulas(problems: int, categories: int) -> None:
    """The curve and the objective are the package's divergence and bound, and the note's loss."""
    toy = random_toy(4, generator=generator(3), problems=problems, categories=categories)
    probs = distribution(2, 4, problems, categories, seed=4)
    divergence = squeeze.kl(toy.p, probs, eps=toy.eps).mean(-1) / categories
    assert close(toy.divergence(probs), divergence)
    assert close(toy.divergence(probs), note_loss(toy, probs))
    bound = squeeze.jensen_bound(toy.p, probs, eps=toy.eps).mean(-1) / categories
    assert close(toy.bound(probs), bound)
    # The gradient, at corners (where it is huge) and inside.
    for z in (eye(categories)[torch.zeros(2, 4, problems).long()], probs):
        leaf = z.clone().requires_grad_()
        (expected,) = torch.autograd.grad(note_loss(toy, leaf).sum(), leaf)
        found = toy.gradient(z)
        assert close(found / expected, torch.ones_like(found), 1e-12)


@pytest.mark.parametrize("step_size", [1e-9, 1e-8, 2.5e-7, 1e-6, 1e-3, 1e-2, 0.1])
def test_sum_normalized_limit(step_size: float) -> None:
    """The closed form is the chain's stationary distribution, and its rows those of the book."""
    c = step_size / (TOY.eps * SIZE)
    matrix = matrices(TOY, step_size=step_size)
    share = 1 + c * (1 - TOY.p)
    expected = torch.where(
        eye(5).bool(), 1 / share.unsqueeze(-1), c * TOY.p.unsqueeze(-2) / share.unsqueeze(-1)
    )
    # What is neglected is of the size eps relative to the entries of p.
    slack = 20 * TOY.eps / float(TOY.p.min())
    assert close(matrix / expected, torch.ones_like(matrix), slack)
    limit = sum_normalize_limit(TOY.p, step_size, TOY.eps, SIZE)
    assert close(limit.sum(-1), torch.ones(30, 5))
    for normalizer in (ils.sum_normalize, ils.sum_normalize_unclamped):
        found = ils_limit(TOY, step_size=step_size, normalizer=normalizer)
        # The chain mixes at the rate c where that is small, which magnifies rounding.
        rounding = 1e-14 / min(c, 1.0)
        assert close(found / limit, torch.ones_like(limit), slack + rounding)
        assert close((found.unsqueeze(-2) @ matrix).squeeze(-2), found)
    flow = limit.unsqueeze(-1) * matrix  # detailed balance
    assert close(flow / flow.mT, torch.ones_like(flow), 2 * slack)
    # Far from p except for small c; the two ends of the book.
    assert (limit / TOY.p - 1).abs().max() <= 2 * c
    if c > 0.03:
        assert (limit / TOY.p - 1).abs().max() > 0.02
    saturated = TOY.p * (1 - TOY.p)
    saturated = saturated / saturated.sum(-1, keepdim=True)
    apart = (limit / saturated - 1).abs()
    headroom = (1 - TOY.p.amax(-1, keepdim=True)) * c
    assert (apart <= 1 / headroom).all()
    if c >= 4000 * (1 - 1e-12):
        assert apart[(TOY.p.amax(-1) <= 0.75)].max() < 1e-3
        assert (saturated / TOY.p - 1).abs().amax() > 0.1  # which is not p


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 1.0])
def test_mass_keeping_limit(fraction: float) -> None:
    """Up to alpha = eps N K the mass-keeping chain is a mixture with p, its only limit."""
    threshold = keep_mass_threshold(TOY.eps, SIZE)
    assert threshold == pytest.approx(2.5e-7)
    options = {"step_size": fraction * threshold, "keep_mass": True}
    mixture = (1 - fraction) * eye(5) + fraction * TOY.p.unsqueeze(-2)
    assert close(matrices(TOY, **options), mixture, 20 * TOY.eps)
    assert close(ils_limit(TOY, **options), TOY.p, 1e-7)
    # The plain step of that size has another limit, and so has a longer mass-keeping one.
    plain = ils_limit(TOY, step_size=fraction * threshold)
    assert (plain - TOY.p).abs().amax() > 0.1 * fraction / (1 + fraction)
    beyond = ils_limit(TOY, step_size=3 * threshold, keep_mass=True)
    assert ((beyond - TOY.p).abs().amax((-1, -2)) > 0.02).all()


def test_mass_keeping_step_reveals_the_target() -> None:
    """At alpha = eps N K every draw's target is p, so that the update has no noise."""
    options = {"step_size": keep_mass_threshold(TOY.eps, SIZE), "keep_mass": True}
    matrix = matrices(TOY, **options)
    assert close(matrix, TOY.p.unsqueeze(-2).expand_as(matrix), 5 * TOY.eps)
    theta = TOY.start.clone().requires_grad_()
    (expected,) = torch.autograd.grad(squeeze.kl(TOY.p, theta.softmax(-1)).sum(), theta)
    for corner in eye(5):
        z = corner.expand_as(TOY.p)
        target = ils.target.intermediate_target(z, TOY.gradient(z), **options)
        update = ils.target.logits_gradient(target, TOY.start.softmax(-1), z)
        assert close(update, expected, 6 * TOY.eps)
    # False: a longer or a shorter step does.
    for factor in (0.5, 2.0):
        other = matrices(TOY, step_size=factor * options["step_size"], keep_mass=True)
        assert (other - TOY.p.unsqueeze(-2)).abs().max() > 0.1


def normalised(weights: Tensor) -> Tensor:
    return weights / weights.sum(-1, keepdim=True)


C = 2.0
FALSE_LIMITS = {
    "p": lambda p: p,
    "p (1 - p)": lambda p: normalised(p * (1 - p)),
    "p (1 + c)": lambda p: normalised(p * (1 + C)),
    "p (1 - c (1 - p))": lambda p: normalised(p * (1 - C * (1 - p))),
    "p (1 + c p)": lambda p: normalised(p * (1 + C * p)),
    "half of c": lambda p: normalised(p * (1 + C / 2 * (1 - p))),
}


@pytest.mark.parametrize("name", ["true", *FALSE_LIMITS])
def test_false_limits_are_refused(name: str) -> None:
    """Only the closed form is left in place by the chain of the sum-normalised step."""
    matrix = matrices(TOY, step_size=C * TOY.eps * SIZE)
    limit = (FALSE_LIMITS | {"true": lambda p: normalised(p * (1 + C * (1 - p)))})[name](TOY.p)
    residual = ((limit.unsqueeze(-2) @ matrix).squeeze(-2) - limit).abs().amax(-1)
    if name == "true":
        assert residual.max() < 1e-5
    else:
        assert residual.median() > 1e-3


@pytest.mark.parametrize("c", [0.25, 1.0, 1.5, 4.0])
def test_mass_keeping_needs_a_small_step(c: float) -> None:
    """The row c p + (1 - c) e_i holds for c up to 1 only; no multiple of c will do."""
    matrix = matrices(TOY, step_size=c * TOY.eps * SIZE, keep_mass=True)
    # False: for every c, or with another factor.
    for factor in (0.5, 1.0, 1.1):
        mixture = (1 - factor * c) * eye(5) + factor * c * TOY.p.unsqueeze(-2)
        apart = float((matrix - mixture).abs().max())
        if factor == 1.0 and c <= 1:
            assert apart < 1e-6
        else:
            assert apart > 0.01


def noise_over_a_draws(c: float) -> Tensor:
    """The variance of the update at its fixed point, over that of a bare draw, by enumeration."""
    step_size = c * TOY.eps * SIZE
    pi = ils_limit(TOY, step_size=step_size)
    targets = matrices(TOY, step_size=step_size)
    spread = (targets - (pi.unsqueeze(-2) @ targets)).square().sum(-1)
    return (pi * spread).sum(-1) / (1 - pi.square().sum(-1))


def test_saturated_target_has_less_noise_than_a_draw() -> None:
    """At the note's step sizes the update has less variance than a bare draw, on every problem."""
    for step_size in (1e-3, 1e-2, 0.1):
        ratio = noise_over_a_draws(step_size / (TOY.eps * SIZE))
        assert ratio.max() < 0.6
        assert ratio.median() < 0.2
    # False: so it is at every step. At a small one the draw is nearly all of the noise.
    assert noise_over_a_draws(0.01).min() > 0.9


def test_exact_gradient_collapses() -> None:
    """Descent on the exact bound ends at the corner of the largest entry, worse than it began."""
    theta = TOY.start.clone().requires_grad_()
    (expected,) = torch.autograd.grad(TOY.bound(theta.softmax(-1)).sum(), theta)
    assert close(TOY.bound_gradient(TOY.start.softmax(-1)), expected)
    by_draws = torch.autograd.grad(
        squeeze.jensen_bound(TOY.p, theta.softmax(-1), eps=TOY.eps).sum() / SIZE, theta
    )[0]
    assert close(expected, by_draws)

    # Groups in which no two entries nearly tie: there the way is as long as one likes.
    margin = TOY.p.sort(-1).values.diff(dim=-1)[..., -1].amin(-1)
    clear = margin > 0.02
    assert clear.sum() >= 3
    toy = Toy(p=TOY.p[clear], start=TOY.start[clear], eps=TOY.eps)
    logits, bounds = toy.start.clone(), []
    for step in range(4000):
        probs = logits.softmax(-1)
        if step % 100 == 0:
            bounds.append(toy.bound(probs))
        logits -= 5 * toy.bound_gradient(probs)
    probs = logits.softmax(-1)
    assert torch.equal(probs.argmax(-1), toy.p.argmax(-1))
    assert probs.amax(-1).min() > 0.99
    assert (torch.stack(bounds).diff(dim=0) < 0).all()
    begun = toy.divergence(toy.start.softmax(-1))
    assert (toy.divergence(probs) > 2 * begun).all()
    assert (toy.bound(probs) > toy.bound(eye(5)[toy.p.argmax(-1)])).all()
