"""The intermediate target and the gradients of its loss, against their propositions."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import pytest
import torch
from cases import close, distribution, draws, eye, generator, normal
from hypothesis import given, settings
from hypothesis import strategies as st
from rules import NORMALIZERS
from torch import Tensor

import ils
from ils.metric import euclidean, fisher
from ils.target import (
    centred_gradient,
    direction,
    intermediate_loss,
    intermediate_target,
    logits_gradient,
    probs_gradient,
)
from lab.problems.toy import ils_limit, random_toy

Metric = Callable[[Tensor, Tensor], Tensor]

each_normalizer = pytest.mark.parametrize("normalizer", NORMALIZERS, ids=repr)
each_keep_mass = pytest.mark.parametrize("keep_mass", [False, True], ids=["plain", "keep mass"])


def dot(left: Tensor, right: Tensor) -> Tensor:
    return (left * right).sum(-1)


def fisher_matrix(probs: Tensor) -> Tensor:
    """Covariance of a one-hot draw, which is the Fisher matrix of the logits."""
    return torch.diag_embed(probs) - probs.unsqueeze(-1) * probs.unsqueeze(-2)


def projection_by_supports(x: Tensor) -> Tensor:
    """Nearest distribution to each row: try every support, keep the nearest feasible point."""
    categories = x.shape[-1]
    best, nearest = torch.full_like(x, torch.nan), torch.full_like(x[..., 0], torch.inf)
    for inside in itertools.product([False, True], repeat=categories):
        if not any(inside):
            continue
        mask = torch.tensor(inside)
        excess = (x[..., mask].sum(-1, keepdim=True) - 1) / mask.sum()
        candidate = torch.where(mask, x - excess, 0)
        distance = ((candidate - x) ** 2).sum(-1)
        better = (candidate >= 0).all(-1) & (distance < nearest)
        best = torch.where(better[..., None], candidate, best)
        nearest = torch.where(better, distance, nearest)
    return best


@pytest.mark.parametrize("categories", [2, 3, 8])
def test_sum_normalized_target(categories: int) -> None:
    """Closed form, when it lies on the simplex, and when it ascends; the clamped one never does."""
    z = draws(500, categories, seed=1)
    grad = normal(500, categories, seed=2)
    # A third of the rows has no worse category than the draw, a third no better one.
    drawn = dot(z, grad)[:, None]
    grad[:150] = drawn[:150] - (grad - drawn)[:150].abs()
    grad[150:300] = drawn[150:300] + (grad - drawn)[150:300].abs()
    seen = set()
    for alpha in (0.05, 0.7, 5.0):
        delta = grad - drawn
        total = 1 - alpha * delta.sum(-1)
        target = intermediate_target(
            z, grad, step_size=alpha, normalizer=ils.sum_normalize_unclamped
        )
        size = 1 + float(target.abs().max())
        assert close(target, (z - alpha * delta) / total[:, None], 1e-12 * size)
        assert close(target.sum(-1), torch.ones(500), 1e-12 * size)
        inside = (target >= 0).all(-1)
        worse = (alpha * delta > 0).any(-1)
        positive = total > 0
        assert torch.equal(inside[positive], ~worse[positive])
        assert not inside[~positive].any()
        gain = dot(grad, target - z)
        expected = -alpha * dot(delta, delta) / total
        assert close(gain / expected, torch.ones(500), 1e-9)
        assert (gain[positive] < 0).all()
        assert (gain[~positive] > 0).all()  # up the gradient, and every sign is reversed
        assert torch.equal(target[~positive].sign(), -(z - alpha * delta)[~positive].sign())

        clamped = intermediate_target(z, grad, step_size=alpha)
        assert clamped.min() >= 0
        assert close(clamped.sum(-1), torch.ones(500))
        better = (-delta).clamp(min=0)
        gain = dot(grad, clamped - z)
        share = 1 + alpha * better.sum(-1)
        assert close(gain, -alpha * dot(better, better) / share, 1e-11)
        assert (gain <= 1e-14).all()
        none_better = ~(delta < 0).any(-1)
        assert torch.equal(clamped[none_better], z[none_better])
        assert (gain[~none_better] < -1e-12).all()
        seen |= {(bool(p), bool(w)) for p, w in zip(positive, worse, strict=True)}
    # Each case of the proposition has been met: a negative sum needs a worse category.
    assert seen == {(True, False), (True, True), (False, True)}


@pytest.mark.parametrize("categories", [2, 3, 5])
def test_projected_target(categories: int) -> None:
    """The projected step ignores constants, is the nearest point, and descends at least so much."""
    z, grad = draws(300, categories, seed=3), normal(300, categories, seed=4)
    for alpha in (1e-3, 0.1, 1.0, 30.0):
        target = intermediate_target(z, grad, step_size=alpha, normalizer=ils.project_simplex)
        assert close(target, ils.project_simplex(z - alpha * grad))
        assert close(target, projection_by_supports(z - alpha * grad))
        moved = target - z
        assert (dot(grad, moved) <= -dot(moved, moved) / alpha + 1e-12).all()
        # The step moves whenever a category is better by so much that the corner is left.
        assert moved.abs().max() > 1e-4


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 2**31), categories=st.integers(1, 9), total=st.floats(-3, 3))
def test_gradient_of_intermediate_loss(seed: int, categories: int, total: float) -> None:
    """The stated gradient is autograd's, for targets on the simplex and for any other."""
    theta = 2 * normal(4, categories, seed=seed)
    z = draws(4, categories, seed=seed)
    theta.requires_grad_()
    probs = theta.softmax(-1)
    target = distribution(4, categories, seed=seed + 1)
    (expected,) = torch.autograd.grad(intermediate_loss(target, probs).sum(), theta)
    found = logits_gradient(target, probs.detach(), z)
    assert close(found, expected)
    assert close(found, probs.detach() - target)
    assert close(found.sum(-1), torch.zeros(4))

    other = normal(4, categories, seed=seed + 2)
    other = other + (total - other.sum(-1, keepdim=True)) / categories
    loss = -(other * theta.log_softmax(-1)).sum()
    (expected,) = torch.autograd.grad(loss, theta)
    assert close(logits_gradient(other, probs.detach(), z), expected)


def test_intermediate_loss_is_the_divergence() -> None:
    """Zero only at the target, else positive; infinite where the model lacks a category."""
    target, probs = distribution(20, 4, seed=5), distribution(20, 4, seed=6)
    assert close(intermediate_loss(target, target), torch.zeros(20))
    assert (intermediate_loss(target, probs) > 1e-3).all()
    expected = (target * (target.log() - probs.log())).sum(-1)
    assert close(intermediate_loss(target, probs), expected)
    corner = eye(4)[2]
    assert close(intermediate_loss(corner, probs), -probs[:, 2].log())
    assert torch.isposinf(intermediate_loss(target, corner)).all()


@pytest.mark.parametrize("categories", [2, 3, 6])
def test_note_gradient_is_natural(categories: int) -> None:
    """The Fisher matrix turns the note's gradient into the true one, so its step goes straight."""
    theta = normal(10, categories, seed=7)
    probs, target = theta.softmax(-1), distribution(10, categories, seed=8)
    z = draws(10, categories, seed=9)
    note = probs_gradient(target, probs, z, eps=0.0)
    assert close(note, -target / probs)
    true = logits_gradient(target, probs, z)
    metric = fisher_matrix(probs)
    assert close((metric @ note.unsqueeze(-1)).squeeze(-1), true)
    natural = (torch.linalg.pinv(metric, rtol=1e-12, hermitian=True) @ true.unsqueeze(-1)).squeeze(
        -1
    )
    apart = natural - note
    assert close(apart, apart.mean(-1, keepdim=True).expand_as(apart), 1e-9)
    softmax = partial(torch.softmax, dim=-1)
    _, velocity = torch.autograd.functional.jvp(softmax, theta, -note)
    assert close(velocity, target - probs)
    # The true gradient's step goes another way, unless the Fisher matrix is a multiple of one.
    _, other = torch.autograd.functional.jvp(softmax, theta, -true)
    if categories > 2:
        cosine = torch.nn.functional.cosine_similarity(other, target - probs)
        assert cosine.min() < 0.99
    # The guard acts by its size relative to the probabilities.
    guarded = probs_gradient(target, probs, z)
    assert torch.equal(guarded, -target / (probs + 1e-7))


@pytest.mark.parametrize("categories", [2, 3, 5])
def test_centred_gradient(categories: int) -> None:
    """Centring keeps the mean and removes noise that does not shrink with the step; not always."""
    logits = normal(categories, seed=10)
    probs, corners = logits.softmax(-1), eye(categories)
    grad = normal(categories, categories, seed=11)
    grad[0, 0] += 3  # after the first draw there is something better

    def mean_and_variance(estimates: Tensor) -> tuple[Tensor, Tensor]:
        mean = probs @ estimates
        return mean, probs @ ((estimates - mean) ** 2).sum(-1)

    noise = probs - corners
    mean, variance = mean_and_variance(noise)
    assert close(mean, torch.zeros(categories))
    floor = 1 - (probs**2).sum()
    assert close(variance, floor)

    spread: dict[tuple[str, float], Tensor] = {}
    for normalizer, keep in itertools.product(NORMALIZERS, (False, True)):
        for alpha in (0.3, 1e-5, 1e-6):
            target = intermediate_target(
                corners, grad, step_size=alpha, normalizer=normalizer, keep_mass=keep
            )
            plain = logits_gradient(target, probs.expand_as(target), corners)
            centred = centred_gradient(target, probs, corners)
            row_sums = target.sum(-1, keepdim=True)
            assert close(plain, row_sums * noise + corners * row_sums - target)
            assert close(centred, corners - target)
            mean, plain_variance = mean_and_variance(plain)
            centred_mean, variance = mean_and_variance(centred)
            assert close(mean, centred_mean)
            assert mean.abs().max() > 1e-8
            spread["plain", alpha] = plain_variance
            spread["centred", alpha] = variance / alpha**2
        assert close(spread["plain", 1e-6], floor, 1e-4)
        assert (spread["plain", 1e-5] - floor).abs() > (spread["plain", 1e-6] - floor).abs()
        assert close(spread["centred", 1e-5] / spread["centred", 1e-6], torch.ones(()), 1e-3)
        assert spread["centred", 1e-6] > 1e-2

    # At saturation the target has left the draw behind, and centring puts its noise back in.
    toy = random_toy(40, generator=generator(12))
    fixed = ils_limit(toy, step_size=0.01)
    corners = eye(5).expand(*toy.p.shape[:-1], 5, 5)
    upstream = -toy.p.unsqueeze(-2) / (toy.size * (corners + toy.eps))
    target = intermediate_target(corners, upstream, step_size=0.01)
    model = fixed.unsqueeze(-2)
    variances = [
        (fixed * (gradient(target, model, corners) ** 2).sum(-1)).sum(-1)  # the mean is zero there
        for gradient in (logits_gradient, centred_gradient)
    ]
    assert (variances[1] > 2 * variances[0]).all()


@each_keep_mass
def test_nonlinear_in_the_upstream_gradient(keep_mass: bool) -> None:
    """The gradient's scale acts as the step size does: linear where stated, and it saturates."""
    z, grad = draws(60, 4, seed=13), normal(60, 4, seed=14)
    for normalizer in NORMALIZERS:
        targets = partial(intermediate_target, z, normalizer=normalizer, keep_mass=keep_mass)
        one = targets(grad, step_size=0.3)
        for factor in (0.125, 2.0, 64.0):  # powers of two: equal to the bit
            scaled = targets(factor * grad, step_size=0.3)
            assert torch.equal(scaled, targets(grad, step_size=0.3 * factor))
            assert (scaled - one).abs().max() > 0.05
        # Twice the gradient is twice the update for a vanishing step.
        for alpha in (0.3, 1e-7):
            update = centred_gradient(targets(grad, step_size=alpha), z, z)
            doubled = centred_gradient(targets(2 * grad, step_size=alpha), z, z)
            error = (doubled - 2 * update).abs().amax(-1) / update.abs().max()
            if normalizer is ils.sum_normalize_unclamped and keep_mass:
                assert error.max() < (1e-12 if alpha == 0.3 else 1e-6)  # at every step
            elif alpha == 1e-7:
                assert error.max() < 2e-6
            else:
                assert error.max() > 0.02
                if normalizer is ils.project_simplex:
                    # And as long as the longer step has not left the draw altogether.
                    face = targets(2 * grad, step_size=alpha)
                    stays = (face * z).sum(-1) > 0
                    assert stays.any()
                    assert not stays.all()
                    assert error[stays].max() < 1e-12
        # Not centred, what is left of a vanishing step does not shrink with it.
        probs = distribution(60, 4, seed=40)
        update = logits_gradient(targets(grad, step_size=1e-7), probs, z)
        assert close(update, probs - z, 1e-5)

    if not keep_mass:
        delta = grad - dot(z, grad)[:, None]
        better = (-delta).clamp(min=0)
        moves = better.sum(-1) > 0
        limit = torch.where(moves[:, None], better / better.sum(-1, keepdim=True), z)
        for factor in (0.01, 1.0, 300.0):
            assert close(intermediate_target(z, factor * grad, step_size=1e16), limit, 1e-10)
        assert moves.any()
        assert not moves.all()


def test_defaults() -> None:
    """The Euclidean metric and the sum by default; another metric needs a distribution."""
    z, grad, probs = draws(5, 4), normal(5, 4, seed=1), distribution(5, 4, seed=2)
    plain = direction(z, grad)
    options = {"normalizer": ils.sum_normalize, "metric": euclidean, "keep_mass": False}
    nowhere = torch.zeros_like(z, dtype=torch.bool)
    assert close(plain, direction(z, grad, probs=probs, mask=nowhere, **options), 1e-15)
    weighted = direction(z, grad, metric=fisher, probs=probs)
    assert close(weighted, probs * (grad - (z * grad).sum(-1, keepdim=True)), 1e-15)
    for moved, more in ((plain, {}), (weighted, {"metric": fisher, "probs": probs})):
        step = intermediate_target(z, grad, step_size=0.3, **more)
        assert close(step, ils.sum_normalize(z - 0.3 * moved), 1e-15)
    expected = "^probs: expected the distribution that the metric needs, got None$"
    with pytest.raises(ValueError, match=expected):
        direction(z, grad, metric=fisher)


@each_normalizer
def test_direction_that_keeps_mass(normalizer: ils.Normalizer) -> None:
    """The drawn category loses what the others gain; for sum_normalize this is J J^T g."""
    z, grad = draws(50, 5, seed=20), normal(50, 5, seed=21)
    plain = direction(z, grad, normalizer=normalizer)
    kept = direction(z, grad, normalizer=normalizer, keep_mass=True)
    assert close(kept.sum(-1), torch.zeros(50))
    assert close((1 - z) * kept, (1 - z) * plain)
    if normalizer is ils.project_simplex:
        assert close(kept, plain)
    else:
        jacobian = eye(5) - z.unsqueeze(-1)
        both = jacobian @ jacobian.mT
        assert close(kept, (both @ grad.unsqueeze(-1)).squeeze(-1))


@each_normalizer
@each_keep_mass
@pytest.mark.parametrize("metric", [euclidean, fisher], ids=lambda metric: metric.__name__)
@pytest.mark.parametrize("poison", [0.0, 1e300, torch.inf, -torch.inf, torch.nan])
def test_mask_is_the_problem_without_those_categories(
    normalizer: ils.Normalizer, keep_mass: bool, metric: Metric, poison: float
) -> None:
    """A masked category gets no mass, and its gradient, whatever it is, reaches no other."""
    kept = torch.tensor([True, False, True, True, False, True, False])
    z, grad = torch.zeros(40, 7, dtype=torch.float64), normal(40, 7, seed=22)
    probs = torch.zeros_like(z)
    z[:, kept], probs[:, kept] = draws(40, 4, seed=23), distribution(40, 4, seed=24)
    grad[:, ~kept] = poison
    options = {"normalizer": normalizer, "metric": metric, "keep_mass": keep_mass}
    step = {**options, "step_size": torch.tensor(0.2, dtype=torch.float64)}
    for function, how in ((direction, options), (intermediate_target, step)):
        found = function(z, grad, probs=probs, mask=(~kept).expand(40, 7), **how)
        alone = function(z[:, kept], grad[:, kept], probs=probs[:, kept], **how)
        assert torch.equal(found[:, ~kept], torch.zeros(40, 3, dtype=torch.float64))
        assert close(found[:, kept], alone)
        if keep_mass and function is direction:
            assert close(found.sum(-1), torch.zeros(40))


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4), (2, 1, 3, 4)])
@pytest.mark.parametrize("masked", [False, True])
def test_target_of_stacks(shape: tuple[int, ...], masked: bool) -> None:
    """Whatever stands before the categories, each row is treated as if it were alone."""
    z, grad, probs = draws(*shape), normal(*shape, seed=1), distribution(*shape, seed=2)
    hidden = (normal(*shape, seed=3) > 0.3) & (z == 0)
    for normalizer, keep_mass in itertools.product(NORMALIZERS, (False, True)):
        options = {"normalizer": normalizer, "metric": fisher, "keep_mass": keep_mass}

        def both(*row: Tensor, options: dict[str, object] = options) -> tuple[Tensor, Tensor]:
            more = {"probs": row[2], "mask": row[3] if masked else None, **options}
            moved = direction(row[0], row[1], **more)
            return moved, intermediate_target(row[0], row[1], step_size=0.3, **more)

        together = both(z, grad, probs, hidden)
        rows = (x.reshape(-1, shape[-1]) for x in (z, grad, probs, hidden))
        alone = [both(*row) for row in zip(*rows, strict=True)]
        for found, parts in zip(together, zip(*alone, strict=True), strict=True):
            assert found.shape == shape
            assert close(found.reshape(-1, shape[-1]), torch.stack(parts), 1e-14)


@each_normalizer
def test_step_sizes_broadcast(normalizer: ils.Normalizer) -> None:
    """A tensor of step sizes gives each row the target of its own step."""
    z, grad = draws(7, 4, seed=26), normal(7, 4, seed=27)
    steps = torch.tensor([0.01, 0.1, 2.0], dtype=torch.float64)
    together = intermediate_target(z, grad, step_size=steps[:, None, None], normalizer=normalizer)
    for one, step in zip(together, steps.tolist(), strict=True):
        assert torch.equal(one, intermediate_target(z, grad, step_size=step, normalizer=normalizer))


def test_loss_and_gradients_of_stacks() -> None:
    """The last axis is summed, whatever stands before it."""
    aim, probs, z = distribution(2, 3, 4), distribution(2, 3, 4, seed=1), draws(2, 3, 4)
    loss = intermediate_loss(aim, probs)
    assert close(loss, (aim * (aim / probs).log()).sum(-1), 1e-14)
    assert close(logits_gradient(2 * aim, probs, z), 2 * probs - 2 * aim, 1e-14)
    assert close(centred_gradient(aim, probs, z), z - aim, 0)
    assert close(probs_gradient(aim, probs, z), -aim / (probs + 1e-7), 0)
    assert close(probs_gradient(aim, probs, z, eps=0.5), -aim / (probs + 0.5), 0)


@pytest.mark.parametrize("wrap", [False, True], ids=["function", "Normalizer"])
def test_normaliser_that_changes_the_shape(wrap: bool) -> None:
    """It is named, with both shapes."""

    def shorten(x: Tensor) -> Tensor:
        return x[..., :2]

    normalizer = ils.Normalizer("short", shorten, lambda z, grad: grad) if wrap else shorten
    expected = r"^normalizer: its output: expected shape \(2, 3\), got \(2, 2\)$"
    with pytest.raises(ValueError, match=expected):
        intermediate_target(draws(2, 3), normal(2, 3), step_size=0.1, normalizer=normalizer)
