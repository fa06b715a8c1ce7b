"""How good an estimator of one draw can be: every statement by enumeration, in float64.

After each check stands a statement that is false in one place, which the same check refuses.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial

import pytest
import torch
from cases import close, distribution, normal
from torch import Tensor

import ils
import lab.optimality.experiment as opt
from ils import estimators, exact

DOUBLE = torch.float64


def cubic(third: Tensor, seed: int = 1) -> exact.Loss:
    """A cubic loss with these third derivatives on the edges, and random lower terms."""
    count = len(third)
    return opt.edge_cubic(third, normal(count, count, seed=seed), normal(count, seed=seed + 1))


SUBSETS = [chosen for size in (1, 2, 3) for chosen in itertools.combinations(range(4), size)]
"""Of four categories, but none and all."""


def steps_of(chosen: Sequence[int]) -> exact.Loss:
    """The smooth steps of a set of categories, added."""
    return lambda z: torch.stack([opt.smooth_step(k)(z) for k in chosen]).sum(0)


def bilinear(pairs: Tensor) -> exact.Loss:
    return lambda z: torch.einsum("...i,...j,ij->...", z[..., 0, :], z[..., 1, :], pairs)


def reinmax_bias(loss: exact.Loss, probs: Tensor) -> Tensor:
    return exact.moments(estimators.reinmax(), loss, probs.log()).bias


def third_derivatives(loss: exact.Loss, categories: int, at: float) -> Tensor:
    """Along each edge ``[i, j]``, at this share of the way, by autograd."""
    found = torch.zeros(categories, categories, dtype=DOUBLE)
    corners = torch.eye(categories, dtype=DOUBLE)
    for i, j in itertools.permutations(range(categories), 2):
        t = torch.tensor(at, dtype=DOUBLE, requires_grad=True)
        value = loss(((1 - t) * corners[i] + t * corners[j])[None]).sum()
        for _ in range(3):
            (value,) = torch.autograd.grad(value, t, create_graph=True)
        found[i, j] = value.detach()
    return found


def signs(categories: int) -> list[Tensor]:
    """All antisymmetric matrices of signs."""
    above = torch.triu_indices(categories, categories, 1)
    found = []
    for values in itertools.product((-1.0, 1.0), repeat=above.shape[1]):
        matrix = torch.zeros(categories, categories, dtype=DOUBLE)
        matrix[tuple(above)] = torch.tensor(values, dtype=DOUBLE)
        found.append(matrix - matrix.T)
    return found


@pytest.mark.parametrize("categories", [2, 3, 5])
def test_a_loss_that_no_derivative_at_a_draw_shows(categories: int) -> None:
    """Its slope is zero at every corner, its third derivative M, and its gradient the bound."""
    for probs in distribution(5, categories):
        for k in range(categories):
            loss = opt.smooth_step(k, 3.0)
            assert opt.corner_slopes(loss, categories).abs().max() == 0
            for at in (0.0, 0.3, 1.0):
                third = third_derivatives(loss, categories, at)
                assert close(third.abs().max(), torch.tensor(3.0, dtype=DOUBLE))
            gradient = exact.gradient(loss, probs.log())
            assert close(gradient[k], 3 * opt.bound(probs)[k])
            assert close(reinmax_bias(loss, probs)[k].abs(), 3 * opt.bound(probs)[k])


def test_a_sum_of_steps_shows_nothing_either() -> None:
    """The steps of a set of categories: third derivatives at most M, gradient ``F 1_A M / 12``."""
    for probs in distribution(2, 4):
        for chosen in SUBSETS:
            loss = steps_of(chosen)
            assert opt.corner_slopes(loss, 4).abs().max() == 0
            third = max(float(third_derivatives(loss, 4, t).abs().max()) for t in (0, 0.4, 1))
            assert third <= 1 + 1e-12
            mass = probs[list(chosen)].sum()
            total = exact.gradient(loss, probs.log()).abs().sum()
            assert close(total, mass * (1 - mass) / 6)


@pytest.mark.parametrize("categories", [2, 3, 4])
def test_reinmax_attains_the_bound(categories: int) -> None:
    """Over all signs of the third derivatives no entry is off by more, and each is by as much."""
    for probs in distribution(4, categories, seed=3):
        biases = torch.stack([reinmax_bias(cubic(s), probs).abs() for s in signs(categories)])
        assert close(biases.amax(0), opt.bound(probs))
        # False: 1/13 in place of 1/12.
        assert not (biases <= opt.bound(probs) * 12 / 13 + 1e-12).all()


def test_reinmax_attains_the_bound_of_the_sum() -> None:
    """The largest sum of absolute biases is ``max_A pi_A (1 - pi_A) / 6``."""
    for probs in [*distribution(4, 4, seed=4), torch.full((4,), 0.25, dtype=DOUBLE)]:
        masses = torch.stack([probs[list(chosen)].sum() for chosen in SUBSETS])
        most = (masses * (1 - masses) / 6).max()
        sums = torch.stack([reinmax_bias(cubic(s), probs).abs().sum() for s in signs(4)])
        assert close(sums.max(), most)
    # False: single categories are enough. If all are alike, two of the four are needed.
    assert sums.max() > 1.3 * 2 * opt.bound(probs).max()


def test_no_smooth_loss_of_the_class_is_worse() -> None:
    """Losses that are no polynomials: the bias of each entry stays below the bound."""
    for seed, probs in enumerate(distribution(40, 3, seed=5)):
        inner, outer = normal(3, 6, seed=seed), normal(6, seed=seed + 1)
        grid = torch.linspace(0, 1, 201, dtype=DOUBLE)
        steepest = 0.0
        for i, j in itertools.combinations(range(3), 2):
            rate, start = inner[j] - inner[i], inner[i]
            third = -((start + grid[:, None] * rate).cos() * rate**3 * outer).sum(-1)
            steepest = max(steepest, float(third.abs().max()))
        bias = reinmax_bias(lambda z, a=inner, b=outer: ((z @ a).sin() * b).sum(-1), probs)
        assert (bias.abs() <= 1.01 * steepest * opt.bound(probs)).all()


def test_a_weighted_sum_of_entries() -> None:
    """ReinMax is off by the mean difference, any estimator by the mean deviation, times M / 24."""
    for seed, probs in enumerate(distribution(5, 4, seed=6)):
        weights = normal(4, seed=seed)
        mean_difference = (torch.outer(probs, probs) * (weights[:, None] - weights).abs()).sum()
        biases = torch.stack([reinmax_bias(cubic(s), probs) @ weights for s in signs(4)])
        assert close(biases.max(), mean_difference / 24)
        deviation = (probs * (weights - probs @ weights).abs()).sum()
        hidden = steps_of([k for k in range(4) if weights[k] > probs @ weights])
        assert close(exact.gradient(hidden, probs.log()) @ weights, deviation / 24)
        assert deviation * (1 + 1e-6) < mean_difference <= 2 * deviation
        # With two values they agree.
        two = (weights > weights.median()).double()
        spread = (torch.outer(probs, probs) * (two[:, None] - two).abs()).sum()
        assert close(spread, (probs * (two - probs @ two).abs()).sum())


def test_the_bound_for_several_variables() -> None:
    """Independent variables that act on each other: every entry of each keeps its own bound."""
    for seed in range(8):
        probs = normal(2, 3, seed=seed).softmax(-1)
        choices = signs(3)
        picked = torch.randint(0, len(choices), (6,), generator=torch.Generator().manual_seed(seed))
        own = [
            [cubic(choices[int(k)], seed + 5 * at) for at, k in enumerate(row)]
            for row in (picked[:3], picked[3:])
        ]

        def loss(z: Tensor, own: list[list[exact.Loss]] = own) -> Tensor:
            # Of a variable's edges the third derivatives depend on the other's draw.
            first, second = z[..., 0, :], z[..., 1, :]
            left = torch.stack([second[..., j] * own[0][j](first) for j in range(3)])
            right = torch.stack([first[..., j] * own[1][j](second) for j in range(3)])
            return (left + right).sum(0)

        bounds = torch.stack([opt.bound(row) for row in probs])
        assert (reinmax_bias(loss, probs).abs() <= bounds + 1e-12).all()
    # A loss of one variable alone attains it.
    logits = normal(2, 3, seed=0)
    alone = reinmax_bias(lambda z: opt.smooth_step(1)(z[..., 0, :]), logits.softmax(-1))
    assert close(alone[0, 1].abs(), opt.bound(logits.softmax(-1)[0])[1])


def conditions(probs: Tensor) -> Tensor:
    """The means on all linear and quadratic losses as linear maps of ``n[b, a, c]``, one row each.

    ``n[b, a, c]`` weighs ``g_c`` after a draw of ``a`` in entry ``b``, times ``pi_a``.
    """
    count, rows = len(probs), []
    eye = torch.eye(count, dtype=DOUBLE)
    grads = [corner.expand(count, -1) for corner in eye]
    for one, other in itertools.combinations_with_replacement(eye, 2):
        grads.append(torch.outer(one, other) + torch.outer(other, one))
    for b, grad in itertools.product(range(count), grads):
        row = torch.zeros(count, count, count, dtype=DOUBLE)
        row[b] = grad
        rows.append(row.flatten())
    return torch.stack(rows)


@pytest.mark.parametrize("categories", [2, 3, 4, 5])
def test_dimension_of_the_exact_estimators(categories: int) -> None:
    """Weights exact for all quadratic losses: a space of dimension K (K - 1) (K - 2) / 2."""
    rank = int(torch.linalg.matrix_rank(conditions(distribution(1, categories)[0])))
    dimension = categories**3 - rank
    assert dimension == categories * (categories - 1) * (categories - 2) // 2
    # Those whose entries sum to zero, as a gradient's do.
    sums = torch.eye(categories**2, dtype=DOUBLE).repeat(1, categories)
    both = torch.cat([conditions(distribution(1, categories)[0]), sums])
    left = categories**3 - int(torch.linalg.matrix_rank(both))
    assert left == (categories - 1) ** 2 * (categories - 2) // 2


def random_flow(probs: Tensor, seed: int) -> Tensor:
    """The direct flow and a random circulation in each entry."""
    count = len(probs)
    matrix = normal(count, count, count, seed=seed)
    matrix = matrix - matrix.transpose(-1, -2)
    # Without its part along potentials a flow between all pairs has no divergence.
    level = matrix.sum(-1) / count
    circulation = matrix - (level[:, :, None] - level[:, None, :])
    return opt.direct_flow(probs) + circulation / 10


@pytest.mark.parametrize("categories", [2, 3, 4])
def test_flows_are_exact_for_quadratic_losses(categories: int) -> None:
    """Every flow with these supplies has no bias on quadratic losses; other supplies have."""
    for seed, probs in enumerate(distribution(10, categories, seed=7)):
        loss = cubic(torch.zeros(categories, categories, dtype=DOUBLE), seed)
        slopes = opt.corner_slopes(loss, categories)
        truth = exact.gradient(loss, probs.log())
        flows = [opt.direct_flow(probs), opt.electrical_flow(probs), random_flow(probs, seed)]
        for flow in flows:
            assert close(flow, -flow.transpose(-1, -2))
            assert close(flow.sum(-1), opt.supplies(probs))
            assert close(opt.mean_estimate(flow, probs, slopes), truth)
            shifted = slopes + normal(categories, 1, seed=seed)
            assert close(opt.estimates(flow, probs, shifted), opt.estimates(flow, probs, slopes))
        # False: any antisymmetric matrix.
        wrong = flows[0] + 0.1 * (signs(categories)[0])
        assert not close(opt.mean_estimate(wrong, probs, slopes), truth, 1e-4)


@pytest.mark.parametrize("categories", [2, 3, 4])
def test_exact_weights_are_flows(categories: int) -> None:
    """A random solution of the equations is antisymmetric, with the diagonal and sums stated."""
    probs = distribution(1, categories, seed=8)[0]
    rows = conditions(probs)
    direct = weights_of(opt.direct_flow(probs), probs)
    right = rows @ direct.flatten()
    _, values, basis = torch.linalg.svd(rows)
    free = basis[int((values > 1e-9).sum()) :]
    found = direct + (normal(len(free), seed=2) @ free).reshape(direct.shape)
    assert close(rows @ found.flatten(), right)
    assert close(found.diagonal(dim1=-2, dim2=-1), opt.fisher(probs) / 2)
    outside = found - torch.diag_embed(found.diagonal(dim1=-2, dim2=-1))
    assert close(outside, -outside.transpose(-1, -2))
    assert close(2 * outside.sum(-1), opt.supplies(probs))
    assert (categories == 2) == bool(close(found, direct, 1e-6))


def weights_of(flow: Tensor, probs: Tensor) -> Tensor:
    """``n[b, a, c]`` of a flow."""
    return flow / 2 - torch.diag_embed(flow.sum(-1) / 2)


@pytest.mark.parametrize("categories", [2, 3, 5])
def test_reinmax_is_the_direct_flow(categories: int) -> None:
    """Draw by draw the estimate of the direct flow is ReinMax."""
    for seed, probs in enumerate(distribution(10, categories, seed=9)):
        grads = normal(categories, categories, seed=seed)
        z = torch.eye(categories, dtype=DOUBLE)
        # At the draw of category a, in row a, the derivative is row a.
        rows = partial(torch.einsum, "dc,dc->d", grads)
        reinmax = estimators.reinmax().formula(probs.log(), z, rows)
        assert close(opt.estimates(opt.direct_flow(probs), probs, grads), reinmax)
        if categories > 2:
            electrical = opt.estimates(opt.electrical_flow(probs), probs, grads)
            assert not close(electrical, reinmax, 1e-6)


def test_worst_bias_is_the_length_of_the_flow() -> None:
    """By all signs of the third derivatives: the L1 norm of a flow over 12; least when direct."""
    for seed, probs in enumerate(distribution(4, 4, seed=10)):
        for flow in (opt.direct_flow(probs), opt.electrical_flow(probs), random_flow(probs, seed)):
            biases = []
            for sign in signs(4):
                loss = cubic(sign, seed)
                mean = opt.mean_estimate(flow, probs, opt.corner_slopes(loss, 4))
                biases.append((mean - exact.gradient(loss, probs.log())).abs())
            assert close(torch.stack(biases).amax(0), opt.worst_bias(flow))
            assert (opt.worst_bias(flow) >= opt.bound(probs) - 1e-12).all()
        assert close(opt.worst_bias(opt.direct_flow(probs)), opt.bound(probs))
        # False: the electrical flow is as short.
        assert (opt.worst_bias(opt.electrical_flow(probs)) > opt.bound(probs) + 1e-6).any()


def test_electrical_flow_has_the_least_second_moment() -> None:
    """Less than any other of its kind, and the mean square by enumeration."""
    for seed, probs in enumerate(distribution(10, 4, seed=11)):
        least = opt.electrical_flow(probs)
        for other in (opt.direct_flow(probs), random_flow(probs, seed)):
            assert opt.second_moment(least, probs) < opt.second_moment(other, probs)
            # A circulation changes it by its own square alone: no linear term.
            circulation = other - least
            up, down = (opt.second_moment(least + s * circulation, probs) for s in (1, -1))
            alone = (circulation**2 / (4 * probs[None, :, None])).sum()
            assert close((up + down) / 2 - opt.second_moment(least, probs), alone)
            assert (up - down).abs() < 1e-12
        # The mean over a derivative with covariance I: the sum over unit derivatives.
        total = torch.zeros((), dtype=DOUBLE)
        for c in range(4):
            unit = torch.eye(4, dtype=DOUBLE)[c].expand(4, -1)
            total = total + probs @ (opt.estimates(least, probs, unit) ** 2).sum(-1)
        assert close(total, opt.second_moment(least, probs))
        # False: conductances pi_a pi_c. Their current is the direct flow.
        wrong = torch.outer(probs, probs) - torch.diag(probs**2)
        assert close(opt.current(probs, wrong), opt.direct_flow(probs))
        assert opt.second_moment(opt.current(probs, wrong), probs) > opt.second_moment(least, probs)
    # False: for a derivative of any covariance. In the book's example only entry 2 varies.
    probs = torch.tensor([0.5, 0.25, 0.25], dtype=DOUBLE)
    second = torch.eye(3, dtype=DOUBLE)[1].expand(3, -1)
    flows = (opt.direct_flow(probs), opt.electrical_flow(probs))
    direct, least = (probs @ (opt.estimates(f, probs, second) ** 2).sum(-1) for f in flows)
    assert least > 1.02 * direct


def test_when_the_direct_flow_is_electrical() -> None:
    """The ratio is one for two categories and at the uniform distribution, and less elsewhere."""
    for count in (3, 4, 10):
        assert abs(opt.noise_ratio(opt.heavy(count, 1 / count)) - 1) < 1e-12
        for probs in distribution(30, count, seed=12):
            assert 0.75 < opt.noise_ratio(probs) < 1 - 1e-6
    for probs in distribution(10, 2, seed=13):
        assert abs(opt.noise_ratio(probs) - 1) < 1e-12


def test_the_gain_is_below_a_quarter() -> None:
    """The three sums of the proof, and what the ratio tends to: 3 (K + 2) / (4 (K + 1))."""
    for count in (3, 4, 8):
        for probs in distribution(20, count, seed=14):
            conductance = torch.outer(probs, probs) / (probs[:, None] + probs)
            resistance = torch.where(torch.eye(count) > 0, 0, 1 / conductance)
            fixed = (probs * (1 - probs)).sum()
            direct = (opt.direct_flow(probs) ** 2 * resistance).sum() / 2
            least = (opt.electrical_flow(probs) ** 2 * resistance).sum() / 2
            assert close(direct, 2 * (probs**2 * (1 - probs)).sum())
            distinct = 1 - 3 * (probs**2).sum() + 2 * (probs**3).sum()
            assert close(fixed - direct, distinct)
            assert least >= direct / 2
            assert close(4 * opt.second_moment(opt.direct_flow(probs), probs), fixed + direct)
            assert close(4 * opt.second_moment(opt.electrical_flow(probs), probs), fixed + least)
    for count in (3, 4, 10, 40):
        assert abs(opt.noise_ratio(opt.heavy(count, 1 - 1e-5)) - opt.lowest_ratio(count)) < 1e-3
        # False: the limit of the ratio is that for many categories, three quarters.
        assert opt.noise_ratio(opt.heavy(count, 1 - 1e-5)) > 0.75 + 0.5 / (count + 1)


def test_no_lower_ratio_was_found() -> None:
    """Descent on the ratio from random starts does not pass below the value at the corner."""
    for count in (3, 4, 6):
        for seed in range(3):
            logits = normal(count, seed=seed).requires_grad_()
            ratio = torch.ones((), dtype=DOUBLE)
            descent = torch.optim.Adam([logits], lr=0.1)
            for _ in range(150):
                descent.zero_grad()
                probs = logits.softmax(-1)
                least, direct = opt.electrical_flow(probs), opt.direct_flow(probs)
                ratio = opt.second_moment(least, probs) / opt.second_moment(direct, probs)
                ratio.backward()
                descent.step()
            # False: it is higher by 0.02.
            assert opt.lowest_ratio(count) < ratio < opt.lowest_ratio(count) + 0.02


@pytest.mark.parametrize("categories", [2, 3, 5])
def test_limit_of_the_optimal_straight_through(categories: int) -> None:
    """Hooper and Shekhovtsov's estimator: straight-through at 0, the electrical flow far out."""
    for seed, probs in enumerate(distribution(5, categories, seed=15)):
        grads = normal(categories, categories, seed=seed)
        at_zero = opt.optimal_straight_through(probs, 0.0)
        assert close(at_zero, opt.fisher(probs).expand(categories, -1, -1), 1e-6)
        far = torch.einsum("abc,ac->ab", opt.optimal_straight_through(probs, 1e7), grads)
        electrical = opt.estimates(opt.electrical_flow(probs), probs, grads)
        assert close(far, electrical, 1e-4)
        # False: with the parameter at 1 it is there already.
        near = torch.einsum("abc,ac->ab", opt.optimal_straight_through(probs, 1.0), grads)
        assert not close(near, electrical, 1e-3)


@pytest.mark.parametrize("categories", [2, 3, 5, 8])
def test_rule_of_the_package_is_that_family(categories: int) -> None:
    """``ils.rules.MVE`` is Hooper and Shekhovtsov's, and at the end the electrical flow."""
    z = torch.eye(categories, dtype=DOUBLE)
    for seed, probs in enumerate(distribution(5, categories, seed=16)):
        grads = normal(categories, categories, seed=seed)
        for tau in (0.3, 3.0, 1e3):
            by_hand = torch.einsum("abc,ac->ab", opt.optimal_straight_through(probs, tau), grads)
            assert close(ils.rules.MVE(tau).gradient(grads, z, probs.log()), by_hand, 1e-10)
        electrical = opt.estimates(opt.electrical_flow(probs), probs, grads)
        assert close(ils.rules.MVE().gradient(grads, z, probs.log()), electrical, 1e-10)
        # False: it is ReinMax, unless there are two categories.
        other = ils.rules.ReinMax().gradient(grads, z, probs.log())
        assert close(other, electrical, 1e-10) == (categories == 2)


def extended(table: Tensor, loss: exact.Loss, link: str) -> exact.Loss:
    """The mean loss given the first of two draws, at any vector in its place."""
    count = len(table)

    def extension(x: Tensor) -> Tensor:
        second = opt.CHAINS[link](x, table.expand(len(x), -1, -1)).softmax(-1)
        corners = torch.eye(count, dtype=DOUBLE)
        pairs = torch.stack([torch.stack([x, one.expand_as(x)], -2) for one in corners])
        return (second.T * loss(pairs)).sum(0)

    return extension


def parts(first: Tensor, table: Tensor, loss: exact.Loss, link: str) -> tuple[Tensor, Tensor]:
    """The two parts of the bias for one chain of two draws, from the formula of the chapter."""
    count = len(first)
    probs, extension = first.softmax(-1), extended(table, loss, link)
    flow, slopes = opt.direct_flow(probs), opt.corner_slopes(extension, count)
    smooth = opt.mean_estimate(flow, probs, slopes) - exact.gradient(extension, first)
    handed = torch.zeros(count, count, dtype=DOUBLE)
    for i, corner in enumerate(torch.eye(count, dtype=DOUBLE)):
        x = corner[None].requires_grad_()
        logits = opt.CHAINS[link](x, table[None])
        held = partial(lambda one, y: loss(torch.stack([one.expand_as(y), y], -2)), corner)
        bias = reinmax_bias(held, logits[0].detach().softmax(-1))
        handed[i] = torch.autograd.grad(logits, x, bias[None])[0][0]
    return smooth, opt.mean_estimate(flow, probs, handed)


def pair_loss(seed: int, powers: tuple[int, int]) -> exact.Loss:
    """Of degree ``powers`` in the first and in the second of two draws."""
    a, b = normal(3, seed=seed), normal(3, seed=seed + 1)
    c = normal(3, 3, seed=seed + 2)

    def loss(z: Tensor) -> Tensor:
        x, y = z[..., 0, :], z[..., 1, :]
        curved = (x @ a) ** powers[0] + (y @ b) ** powers[1]
        return curved + torch.einsum("...i,...j,ij->...", x, y, c)

    return loss


def two_draws(first: Tensor, table: Tensor, loss: exact.Loss, link: str) -> tuple[Tensor, Tensor]:
    """Exact gradient and mean of ReinMax for the first logits."""
    after = (first[None], [table[None]], lambda zs: loss(torch.stack(zs, -2)), link)
    truth, mean, _ = opt.chain_gradients(*after)
    return truth[0], mean[0]


def chain(seed: int, loss: exact.Loss, link: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    first, table = normal(3, seed=seed + 10), 1.5 * normal(3, 3, seed=seed + 11)
    return *two_draws(first, table, loss, link), first, table


def test_bias_of_two_dependent_draws() -> None:
    """The trapezium's error on the smooth extension plus the propagated bias, and nothing else."""
    for seed in range(10):
        for powers in ((1, 1), (2, 2), (1, 3), (3, 3)):
            loss = pair_loss(seed, powers)
            for link in opt.CHAINS:
                truth, mean, first, table = chain(seed, loss, link)
                smooth, propagated = parts(first, table, loss, link)
                assert close(mean - truth, smooth + propagated)
                # For losses quadratic in the second draw nothing is propagated.
                assert (powers[1] < 3) == bool(propagated.abs().max() < 1e-10)
                # False: the first part is all.
                assert (powers[1] < 3) == bool(close(mean - truth, smooth, 1e-6))


def test_when_dependent_draws_have_no_bias() -> None:
    """None for every theta if and only if no trapezium of the smooth extension has an error."""
    turns = torch.tensor([[0, 1, 2], [2, 0, 1], [1, 2, 0]])
    for seed in range(5):
        # As it looks from each category alike, the errors on 1 to 2, 2 to 3 and 3 to 1 are one.
        table, pairs = 1.5 * normal(3, seed=seed)[turns], normal(3, seed=seed + 1)[turns]
        loss = bilinear(pairs)
        for link in opt.CHAINS:
            extension = extended(table, loss, link)
            slopes, values = opt.corner_slopes(extension, 3), extension(torch.eye(3, dtype=DOUBLE))
            rise = slopes - slopes.diagonal()[:, None]
            errors = (rise - rise.T) / 2 - (values - values[:, None])
            assert (link == "probabilities") == bool(errors.abs().max() < 1e-12)
            biases = []
            for first in normal(4, 3, seed=seed + 2):
                truth, mean = two_draws(first, table, loss, link)
                probs = first.softmax(-1)
                biases.append(mean - truth)
                assert close(mean - truth, probs * (probs @ errors))
            # Along an edge it is the error of that edge: here with 1% of the mass at the other end.
            for i, k in itertools.permutations(range(3), 2):
                edge = torch.full((3,), -60.0, dtype=DOUBLE)
                edge[i], edge[k] = torch.tensor([0.01, 0.99], dtype=DOUBLE).log()
                truth, mean = two_draws(edge, table, loss, link)
                assert close((mean - truth)[k], 0.01 * 0.99 * errors[i, k])
            if link == "logits":
                assert torch.stack(biases).abs().max() > 1e-4
                # False: no bias at one theta is enough.
                truth, mean = two_draws(torch.zeros(3, dtype=DOUBLE), table, loss, link)
                assert close(mean, truth)


def test_tables_of_probabilities_leave_no_bias() -> None:
    """Affine in each draw but the last, there quadratic: exact at any length; logits are not."""
    exact_by = (("probabilities", True), ("logits", False))
    for seed in range(6):
        for powers in ((1, 1), (1, 2)):
            for link, exactly in exact_by:
                truth, mean, *_ = chain(seed, pair_loss(seed, powers), link)
                assert close(mean, truth, 1e-12 if exactly else 1e-3) == exactly
        # False: quadratic in both would do.
        a, b = normal(3, seed=seed), normal(3, seed=seed + 1)
        both = partial(lambda a, b, z: (z[..., 0, :] @ a) ** 2 * (z[..., 1, :] @ b), a, b)
        truth, mean, *_ = chain(seed, both, "probabilities")
        assert not close(mean, truth, 1e-4)
    for length in (3, 4):
        first = normal(5, 3, seed=length)
        tables = [1.5 * normal(5, 3, 3, seed=length + k) for k in range(length - 1)]
        weights = normal(length, 5, 3, seed=length)

        def product(zs: list[Tensor], weights: Tensor = weights) -> Tensor:
            return torch.stack([(w * z).sum(-1) for w, z in zip(weights, zs, strict=True)]).prod(0)

        for link, exactly in exact_by:
            truth, mean, _ = opt.chain_gradients(first, tables, product, link)
            assert close(mean, truth, 1e-12 if exactly else 1e-3) == exactly


def factor(table: Tensor) -> Tensor:
    """By how much one link between two categories stretches, ``(B,)``."""
    rise = (table[:, 1, 1] - table[:, 1, 0]) - (table[:, 0, 1] - table[:, 0, 0])
    chance = table.softmax(-1)[:, :, 1]
    slope = (chance * (1 - chance)).sum(-1) / 2
    return slope * rise / (chance[:, 1] - chance[:, 0])


def test_chains_of_two_categories_stretch_by_a_product() -> None:
    """Each link multiplies the mean by its factor, which is positive."""
    for length in (2, 3, 4):
        first = normal(30, 2, seed=length)
        tables = [1.5 * normal(30, 2, 2, seed=length + 7 * k) for k in range(length - 1)]
        last = opt.LastDraw(normal(30, 2, seed=1))
        truth, mean, _ = opt.chain_gradients(first, tables, last, "logits")
        product = torch.stack([factor(table) for table in tables]).prod(0)
        assert (product > 0).all()
        assert close(mean, product[:, None] * truth)
        # False: only the last link counts.
        assert (length == 2) == bool(close(mean, factor(tables[-1])[:, None] * truth, 1e-3))
    # The example of the chapter: 1/4 and 3/4.
    table = torch.tensor([[[3.0, 1.0], [1.0, 3.0]]], dtype=DOUBLE).log()
    expected = 0.75 * torch.log(torch.tensor([3.0], dtype=DOUBLE))
    assert close(factor(table), expected)


def test_a_longer_chain_can_have_less_bias() -> None:
    """A second link with the inverse factor takes the bias of the first away."""
    first = torch.tensor([[0.75, 0.25], [0.25, 0.75]], dtype=DOUBLE).log()[None]

    def second(far: float) -> Tensor:
        return torch.tensor([[[0.5, 0.5], [1 - far, far]]], dtype=DOUBLE).log()

    low, high = 0.9, 1 - 1e-9  # far out the factor rises without bound
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if factor(second(middle)) * factor(first) < 1 else (low, middle)
    found = []
    for tables in ([first], [first, second(low)], [first, first]):
        last = opt.LastDraw(normal(1, 2, seed=2))
        truth, mean, _ = opt.chain_gradients(normal(1, 2, seed=1), tables, last, "logits")
        found.append(float((mean - truth).norm() / truth.norm()))
    assert found[0] > 0.17
    # False: the bias grows with the depth. It may, as where the first link comes twice.
    assert found[1] < 1e-9
    assert found[2] > 0.3


def test_bias_grows_with_depth() -> None:
    """The median relative bias of the default rises with each draw, of the other stays zero."""
    table = opt.growth(instances=100, seed=3).set_index(["link", "draws"])
    logits, probabilities = table.loc["logits"], table.loc["probabilities"]
    assert logits["median"].is_monotonic_increasing
    assert logits["median"].iloc[0] == 0
    assert logits["median"].iloc[1] > 0.1
    assert probabilities["median"].max() == 0
    # It is not free: it is noisier.
    assert (probabilities["noise"].iloc[1:] > logits["noise"].iloc[1:]).all()


def test_the_default_of_the_package_is_the_mean_by_enumeration() -> None:
    """200,000 draws of the operator: within five standard errors, and the exact is not (1e-5)."""
    first, table = normal(3, seed=1), 1.5 * normal(3, 3, seed=2)
    weights = 3 * normal(3, seed=3)
    last = opt.LastDraw(weights[None])
    truth, mean, variance = opt.chain_gradients(first[None], [table[None]], last, "logits")
    count = 200_000
    generator = torch.Generator().manual_seed(0)
    leaf = first.expand(count, -1).clone().requires_grad_()
    z = ils.sample(leaf, generator=generator)
    (ils.sample(z @ table, generator=generator) @ weights).sum().backward()
    assert leaf.grad is not None
    error = (variance / count).sqrt()
    found = leaf.grad.mean(0)
    assert (found - mean[0]).norm() < 5 * error
    assert (found - truth[0]).norm() > 10 * error


def test_descent_outside_the_neighbourhood() -> None:
    """The mean loss falls along ReinMax's mean wherever the gradient is longer than the bound."""
    seen = 0
    for seed in range(200):
        logits = 1.5 * normal(2, 3, seed=seed)
        a, b = normal(2, 3, seed=seed + 1), 3 * normal(2, 3, seed=seed + 2)
        loss = partial(lambda a, b, z: (z * a).sum((1, 2)) + (z * b).sum((1, 2)) ** 3 / 30, a, b)
        most = float((b[:, :, None] - b[:, None, :]).abs().max() ** 3 * 6 / 30)
        moments = exact.moments(estimators.reinmax(), loss, logits)
        probs = logits.softmax(-1)
        radius = most / 12 * (probs * (1 - probs)).norm()
        assert moments.bias.norm() <= radius + 1e-12
        if moments.gradient.norm() > radius:
            seen += 1
            assert (moments.mean * moments.gradient).sum() > 0
    assert 20 < seen < 200
    # False: a smaller radius, with 1/13 in place of 1/12. A cubic that hides the lead of one of two
    # categories is as close to the bound as the lead to M / 12.
    logits = normal(1, 2, seed=1)[0]
    sign, lead = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=DOUBLE), 0.95 / 12
    values = torch.tensor([0.0, lead], dtype=DOUBLE)
    loss = opt.edge_cubic(sign, torch.zeros_like(sign), values)
    moments = exact.moments(estimators.reinmax(), loss, logits)
    assert 12 / 13 < moments.gradient.norm() / opt.bound(logits.softmax(-1)).norm() < 1
    assert (moments.mean * moments.gradient).sum() < 0


def natural_flow(loss: exact.Loss, probs: Tensor, steps: int = 4000, size: float = 0.02) -> Tensor:
    """``d pi_k / dt = -mean_k`` in small steps of ``log pi``, for a fixed matrix of trapezia."""
    slopes = opt.corner_slopes(loss, len(probs))
    corners = slopes.diagonal()
    rise = slopes - corners[:, None]
    trapezia = (rise - rise.T) / 2
    logits = probs.log()
    for _ in range(steps):
        logits = (logits - size * logits.softmax(-1) @ trapezia).log_softmax(-1)
    return logits.softmax(-1)


def test_a_lead_above_the_bound_is_found() -> None:
    """A category that is better by more than M / 12 takes all mass; below that, not always."""
    for seed, probs in enumerate(distribution(10, 3, seed=16)):
        sign = signs(3)[seed % 8]
        best = int(seed % 3)
        # Values at the corners alone: the linear part; the lead is 1.2 times the bound.
        values = torch.full((3,), 1.2 / 12, dtype=DOUBLE)
        values[best] = 0.0
        nothing = torch.zeros(3, 3, dtype=DOUBLE)
        loss = opt.edge_cubic(sign, nothing, values)
        assert natural_flow(loss, probs, steps=8000, size=1.0)[best] > 0.99
    # False: a lead of 0.9 of the bound is enough. The cubic hides it, and the worse category wins.
    sign = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=DOUBLE)
    for lead, wins in ((0.9, 1), (1.1, 0)):
        worse = torch.tensor([0.0, lead / 12], dtype=DOUBLE)
        loss = opt.edge_cubic(sign, torch.zeros(2, 2, dtype=DOUBLE), worse)
        half = torch.tensor([0.5, 0.5], dtype=DOUBLE)
        assert natural_flow(loss, half, steps=8000, size=1.0)[wins] > 0.99
        mean = exact.moments(estimators.reinmax(), loss, half.log()).mean
        assert (mean[wins] < 0).all()
    # And the speed of the odds: where all signs are against the best category, just the stated one.
    probs, time = torch.tensor([0.2, 0.5, 0.3], dtype=DOUBLE), 40.0
    values = torch.tensor([0.0, 0.2, 0.2], dtype=DOUBLE)
    loss = opt.edge_cubic(signs(3)[0], torch.zeros(3, 3, dtype=DOUBLE), values)
    found = natural_flow(loss, probs, steps=4000, size=time / 4000)
    rate = float((found.logit() - probs.logit())[0]) / time
    assert abs(rate - (0.2 - 1 / 12)) < 1e-4
    # False: they grow at the rate of the lead, or of the lead less M / 24.
    assert rate < min(0.2, 0.2 - 1 / 24) - 0.03


def test_a_small_lead_can_go_round_for_ever() -> None:
    """Three equal categories and cyclic third derivatives: the product of the masses is kept."""
    cycle = torch.tensor([[0, 1, -1], [-1, 0, 1], [1, -1, 0]], dtype=DOUBLE)
    loss = opt.edge_cubic(cycle, torch.zeros(3, 3, dtype=DOUBLE), torch.zeros(3, dtype=DOUBLE))
    probs = torch.tensor([0.5, 0.3, 0.2], dtype=DOUBLE)
    assert exact.gradient(loss, probs.log()).abs().max() < 1e-15
    found = natural_flow(loss, probs, steps=20_000, size=0.01)
    assert close(found.prod(), probs.prod(), 1e-3)
    assert not close(found, probs, 0.01)
    assert found.min() > 0.01
