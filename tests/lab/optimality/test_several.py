"""Estimators of several draws: every statement by enumeration, in float64.

After each check stands a statement that is false in one place, which the same check refuses.
"""

from __future__ import annotations

import pytest
import torch
from cases import close, distribution, generator, normal
from torch import Tensor

from ils import estimators, exact
from lab.methods import pairs
from lab.optimality import several
from lab.optimality.experiment import fisher

DOUBLE = torch.float64
SHAPES = [(1, 2), (1, 4), (2, 3), (3, 2)]
PI = torch.tensor([[0.25, 0.75]], dtype=DOUBLE)  # of the examples
# By the letters that the chapter names.
BY_LETTER = dict(zip("ABCDEFG", pairs.PAIRS.values(), strict=True))


def pair(probs: Tensor, loss: exact.Loss) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and variances of each estimator of two draws."""
    d = several.enumerate_draws(probs, loss)
    return {name: several.moments(d, formula(d)) for name, formula in BY_LETTER.items()}


def line(slope: Tensor) -> exact.Loss:
    return lambda z: (z * slope).sum((-1, -2))


def quadratic(slope: Tensor, curvature: Tensor) -> exact.Loss:
    """Separable; ``(D, K)`` and ``(D, K, K)``, symmetric."""
    return lambda z: line(slope)(z) + torch.einsum("sdk,dkj,sdj->s", z, curvature, z) / 2


def bend(a: float, b: float) -> exact.Loss:
    """``a s + b s**2`` of the first entry ``s`` of one variable."""
    return lambda z: a * z[..., 0, 0] + b * z[..., 0, 0] ** 2


@pytest.mark.parametrize("shape", SHAPES)
def test_means_of_the_estimators_of_two_draws(shape: tuple[int, int]) -> None:
    """A, B and C have ReinMax's mean; D, E, F and G have the exact gradient, on waves."""
    for seed in range(5):
        logits, loss = several.waves(*shape, 1.0, generator(seed))
        truth = exact.gradient(loss, logits)
        found = {name: mean for name, (mean, _) in pair(logits.softmax(-1), loss).items()}
        reinmax = exact.moments(estimators.reinmax(), loss, logits).mean
        for name in "ABC":
            assert close(found[name], reinmax)
        for name in "DEFG":
            assert close(found[name], truth)
        # False: A is unbiased too.
        assert not close(found["A"], truth, 1e-3)
        # False: D - C has the mean zero, so that E and A agree.
        assert not close(found["E"], found["A"], 1e-3)


def test_the_whole_trapezium_needs_what_other_variables_bring() -> None:
    """Without its cross terms F is biased as soon as there are two variables that interact."""
    for variables in (1, 2):
        logits, loss = several.waves(variables, 3, 1.0, generator(1))
        d = several.enumerate_draws(logits.softmax(-1), loss)
        step = d.z[:, 0] - d.z[:, 1]
        whole = step * (d.grad.sum(1) * step).sum((-1, -2), keepdim=True) / 4
        bare = pairs.leave_one_out(d) - whole + pairs.other_draws(d)
        mean, _ = several.moments(d, bare)
        assert close(mean, exact.gradient(loss, logits), 1e-3) == (variables == 1)


def test_numbers_of_the_example() -> None:
    """The first entries for 3 s - s^2, after the draws 1 1, 1 2, 2 1 and 2 2; each mean is 3/8."""
    d = several.enumerate_draws(PI, bend(3, -1))
    rows = ([3 / 8, 3 / 8, 3 / 8, 3 / 8], [3 / 16, 1 / 8, 1 / 8, 9 / 16], [0, 1, 1, 0])
    for names, row in zip(("AE", "BFG", "CD"), rows, strict=True):
        wanted = torch.tensor(row, dtype=DOUBLE)
        assert abs(float(d.chance @ wanted) - 3 / 8) < 1e-12
        for name in names:
            assert close(BY_LETTER[name](d)[:, 0, 0], wanted)
            # False: the same for a loss with another bend.
            other = several.enumerate_draws(PI, bend(3, -2))
            assert not close(BY_LETTER[name](other)[:, 0, 0], wanted, 1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_known_estimators_among_them(shape: tuple[int, int]) -> None:
    """A, D and G have the moments of the package's ReinMax, leave-one-out, double variates."""
    logits, loss = several.waves(*shape, 0.7, generator(2))
    found = pair(logits.softmax(-1), loss)
    known = {"D": estimators.leave_one_out(), "G": estimators.double_control_variate()}
    for name, estimator in known.items():
        wanted = exact.moments(estimator, loss, logits, batch_dims=0)
        assert close(found[name][0], wanted.mean)
        assert close(found[name][1].sum(), wanted.variance)
    one = exact.moments(estimators.reinmax(), loss, logits, batch_dims=0)
    assert close(found["A"][1].sum(), one.variance / 2)


@pytest.mark.parametrize("shape", SHAPES)
def test_half_of_the_trapezium_given_one_draw_is_reinmax(shape: tuple[int, int]) -> None:
    """The mean of ``(z - z') <g, z - z'> / 2`` over z' is ReinMax of z; with g' it is not."""
    logits, loss = several.waves(*shape, 1.0, generator(3))
    d = several.enumerate_draws(logits.softmax(-1), loss)
    step = d.z[:, 0] - d.z[:, 1]
    count = round(len(d.z) ** 0.5)

    def given_first(estimate: Tensor) -> Tensor:
        chance = d.chance.reshape(count, count)
        rows = estimate.reshape(count, count, *shape)
        return torch.einsum("ab,abdk->adk", chance / chance.sum(1, keepdim=True), rows)

    own, other = (step * (d.grad[:, i] * step).sum(-1, keepdim=True) / 2 for i in (0, 1))
    first = pairs.reinmax(d.probs, d.z[:, 0], d.grad[:, 0]).reshape(count, count, *shape)[:, 0]
    assert close(given_first(own), first)
    assert not close(given_first(other), first, 1e-3)


def parts(probs: Tensor, loss: exact.Loss) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Var v c, E |S m|^2, Cov(v c, S m) and E |S c' + S' c|^2 of the proposition."""
    d = several.enumerate_draws(probs, loss)
    centre = torch.einsum("s,sdk->dk", d.chance, d.grad[:, 0])

    def minus_mean(z: Tensor, grad: Tensor) -> Tensor:
        return pairs.reinmax(probs, z, grad) - pairs.fisher(probs, grad)

    def mean_of(x: Tensor) -> Tensor:
        return torch.einsum("s,sdk->d", d.chance, x)

    (z, other), (grad, after) = d.z.unbind(1), (d.grad - centre).unbind(1)
    bent, steady = pairs.reinmax(probs, z, grad), minus_mean(z, centre)
    both = minus_mean(z, after) + minus_mean(other, grad)
    moments = several.moments(d, bent)[1], mean_of(steady**2), mean_of(bent * steady)
    return *moments, mean_of(both**2)


def by_parts(probs: Tensor, loss: exact.Loss, draws: int, coefficient: float = 1) -> Tensor:
    """The variance with this coefficient, by the formula of the proposition."""
    bent, steady, mixed, both = parts(probs, loss)
    left = 1 - coefficient
    single = bent + 2 * left * mixed + left**2 * steady
    return single / draws + coefficient**2 * both / (2 * draws * (draws - 1))


@pytest.mark.parametrize(("shape", "draws"), [((1, 2), 4), ((1, 3), 3), ((2, 2), 3), ((2, 3), 2)])
def test_variance_with_the_other_draws_as_control_variate(
    shape: tuple[int, int], draws: int
) -> None:
    """The formula, for n draws and four coefficients, against all outcomes of n draws."""
    logits, loss = several.waves(*shape, 1.0, generator(4))
    probs = logits.softmax(-1)
    d = several.enumerate_draws(probs, loss, draws)
    mean, plain = several.moments(d, pairs.mean_reinmax(d))
    assert close(plain, by_parts(probs, loss, draws, 0))
    for coefficient in (0, 0.3, 1, 1.7):
        same, found = several.moments(d, pairs.other_draws(d, coefficient))
        assert close(same, mean)
        assert close(found, by_parts(probs, loss, draws, coefficient))
    # False: the others' mean has no noise of its own.
    assert not close(found, by_parts(probs, loss, 10**9, 1.7) * 10**9 / draws, 1e-4)


def test_the_best_coefficient() -> None:
    """Var is least at (q + k) / (q + r), by enumeration; nowhere else, and never above A or B."""
    for seed in range(20):
        logits, loss = several.waves(1, 3, 0.5, generator(seed))
        probs = logits.softmax(-1)
        _, steady, mixed, both = parts(probs, loss)
        best = float((steady + mixed) / (steady + both / 2))
        d = several.enumerate_draws(probs, loss)
        found = [
            float(several.moments(d, pairs.other_draws(d, c))[1])
            for c in (best, 0, 1, best - 0.1, best + 0.1)
        ]
        assert found[0] <= min(found) + 1e-15
        assert min(found[3:]) > found[0] + 1e-9
        # The parabola is even about its bottom; about another place it is not.
        assert abs(found[3] - found[4]) < 1e-12
    assert abs(best - 1) > 1e-3


@pytest.mark.parametrize("shape", SHAPES)
def test_a_linear_part_costs_nothing(shape: tuple[int, int]) -> None:
    """The variance of B is that of the loss without its linear part: zero for a linear loss."""
    logits, loss = several.waves(*shape, 1.0, generator(5))
    probs, slope = logits.softmax(-1), normal(*shape, seed=6)
    assert pair(probs, line(slope))["B"][1].max() < 1e-28
    bare, bent = pair(probs, loss), pair(probs, lambda z: loss(z) + 30 * line(slope)(z))
    assert close(bare["B"][1], bent["B"][1], 1e-9)
    assert bent["B"][1].sum() < bent["A"][1].sum()
    # False: the same of A.
    assert not close(bare["A"][1], bent["A"][1], 1e-3)
    assert pair(probs, line(slope))["A"][1].min() > 1e-4


def test_order_for_a_linear_loss() -> None:
    """One variable: Var F = Var G = Var B = 0, Var E = Var A, and 4 Var A < Var C = Var D."""
    least = float("inf")
    for seed in range(300):
        probs = distribution(1, 2 + seed % 4, seed=seed)
        slope = normal(*probs.shape, seed=seed + 1)
        found = {name: float(v) for name, (_, v) in pair(probs, line(slope)).items()}
        assert max(found[name] for name in "BFG") < 1e-28
        assert abs(found["E"] - found["A"]) < 1e-12
        assert abs(found["C"] - found["D"]) < 1e-12
        assert 4 * found["A"] < found["C"]
        least = min(least, found["C"] / found["A"])
    # False: more than five times, always.
    assert least < 5
    # The quotient for two categories, which tends to 4.
    for p in (0.25, 0.01, 1e-4):
        probs = torch.tensor([[p, 1 - p]], dtype=DOUBLE)
        found = {n: float(v) for n, (_, v) in pair(probs, bend(1, 0)).items()}
        both = p * (1 - p)
        assert abs(found["C"] / found["A"] - 4 * (1 - 2 * both) / (1 - 4 * both)) < 1e-9


@pytest.mark.parametrize(
    ("a", "b", "quiet", "others"),
    [
        (1, 0, "BFG", {"A": 3 / 512, "C": 15 / 256}),
        (3, -1, "AE", {"B": 93 / 2048, "C": 15 / 64}),
        (-1, 1, "CD", {"A": 3 / 128, "B": 93 / 2048}),
    ],
)
def test_no_order_for_quadratic_losses(
    a: int, b: int, quiet: str, others: dict[str, float]
) -> None:
    """Two categories, a s + b s^2: each group has a loss without noise, where the others have."""
    loss = bend(a, b)
    found = {n: float(v) / 2 for n, (_, v) in pair(PI, loss).items()}
    for name, variance in found.items():
        assert (variance < 1e-28) == (name in quiet)
    same = {"A": "AE", "B": "BFG", "C": "CD"}
    for name, variance in others.items():
        assert all(abs(found[n] - variance) < 1e-12 for n in same[name])
        # False: with a mass of a third.
        skew = torch.tensor([[1 / 3, 2 / 3]], dtype=DOUBLE)
        assert abs(float(pair(skew, loss)[name][1]) / 2 - variance) > 1e-4


def test_the_other_draw_can_be_worse_for_every_number_of_draws() -> None:
    """For s^2 - s the single terms are 75 and 48 of 1024: more draws do not help."""
    loss = bend(-1, 1)
    for draws in (2, 3, 10, 10**6):
        plain, controlled = (float(by_parts(PI, loss, draws, c)) / 2 for c in (0, 1))
        assert abs(plain - 48 / 1024 / draws) < 1e-12
        assert abs(controlled - (75 / 1024 / draws + 36 / 1024 / (2 * draws * (draws - 1)))) < 1e-12
    # With another linear part it is better from two draws on.
    assert float(by_parts(PI, bend(1, 1), 2, 1)) < float(by_parts(PI, bend(1, 1), 2, 0))


def separable(probs: Tensor, slope: Tensor, curvature: Tensor) -> dict[str, Tensor]:
    """The variances of the proposition for separable quadratic losses, ``(D,)`` each."""
    spread = 1 - (probs**2).sum(-1)
    own: dict[str, list[Tensor]] = {name: [] for name in BY_LETTER}
    parts: dict[str, list[Tensor]] = {name: [] for name in ("loss", "bend", "trace", "pull", "sq")}
    for row, a, h in zip(probs, slope, curvature, strict=True):
        d = several.enumerate_draws(row[None], quadratic(a[None], h[None]))
        for name, formula in BY_LETTER.items():
            own[name].append(several.moments(d, formula(d))[1][0])
        corners = torch.eye(len(row), dtype=DOUBLE)
        values = corners @ a + (corners @ h * corners).sum(-1) / 2
        bend = ((corners - row) @ h * (corners - row)).sum(-1)
        f = fisher(row)
        parts["loss"].append(row @ values**2 - (row @ values) ** 2)
        parts["bend"].append(row @ bend**2 - (row @ bend) ** 2)
        parts["trace"].append((h @ f).trace())
        parts["sq"].append((h @ f @ h @ f).trace())
        away = (d.z[:, 0] - d.probs) * pairs.other_draws(d)
        parts["pull"].append(d.chance @ away.sum((-1, -2)))
    of = {name: torch.stack(v) for name, v in (own | parts).items()}

    def others(x: Tensor) -> Tensor:
        return x.sum() - x

    trace = others(of["trace"])
    of["D"] = of["D"] + spread * others(of["loss"])
    of["E"] = of["E"] + spread * others(of["loss"])
    of["G"] = of["G"] + spread * others(of["bend"]) / 4
    mixed = trace**2 + others(of["bend"] + of["sq"])
    of["F"] = of["B"] + of["pull"] * trace + spread * mixed / 8
    return {name: of[name] for name in BY_LETTER} | {"trace": trace, "spread": spread}


@pytest.mark.parametrize("shape", [(1, 4), (2, 3), (4, 2), (3, 3)])
def test_variances_of_separable_quadratic_losses(shape: tuple[int, int]) -> None:
    """What each variable has of its own, and what the others add, for all seven estimators."""
    for seed in range(3):
        probs, slope = distribution(*shape, seed=seed), normal(*shape, seed=seed + 1)
        half = normal(*shape, shape[1], seed=seed + 2)
        curvature = half @ half.transpose(-1, -2)
        found = pair(probs, quadratic(slope, curvature))
        wanted = separable(probs, slope, curvature)
        for name in BY_LETTER:
            assert close(found[name][1], wanted[name], 1e-10)
        if shape[0] > 1:
            # False: curvatures of other variables add up singly, not as the square of their sum.
            single = wanted["F"] - wanted["spread"] * wanted["trace"] ** 2 / 8
            assert not close(found["F"][1], single, 1e-3)


def test_variances_of_separable_waves() -> None:
    """For sums of any losses A, B, C have nothing from the others, D and E the others' loss."""
    rows = [several.waves(1, 3, 1.0, generator(seed)) for seed in range(3)]
    probs = torch.cat([logits for logits, _ in rows]).softmax(-1)

    def total(z: Tensor) -> Tensor:
        return torch.stack([loss(z[:, i : i + 1]) for i, (_, loss) in enumerate(rows)]).sum(0)

    alone = [pair(row[None], loss) for row, (_, loss) in zip(probs, rows, strict=True)]
    corners = torch.eye(3, dtype=DOUBLE)[:, None]
    values = torch.stack([loss(corners) for _, loss in rows])
    noise = (probs * values**2).sum(-1) - (probs * values).sum(-1) ** 2
    added = (1 - (probs**2).sum(-1)) * (noise.sum() - noise)
    for name, (_, found) in pair(probs, total).items():
        own = torch.cat([one[name][1] for one in alone])
        assert close(found, own) == (name in "ABC")
        assert close(found, own + added) == (name in "DE")


@pytest.mark.parametrize("variables", [1, 2, 4, 5, 6])
def test_sums_of_squares_of_fair_bits(variables: int) -> None:
    """D, F and G have D / 8, D (D + 3) / 64 and 1 / 16 in each of D variables."""
    half = torch.full((variables, 2), 0.5, dtype=DOUBLE)
    found = pair(half, lambda z: (z[..., 0] ** 2).sum(-1))
    ones = torch.ones(variables, dtype=DOUBLE)
    assert close(found["D"][1], ones * variables / 8)
    assert close(found["F"][1], ones * variables * (variables + 3) / 64)
    assert close(found["G"][1], ones / 16)
    assert close(found["A"][1], ones / 16)
    # F has less noise than leave-one-out below five variables, as much at five, more above.
    order = float(found["F"][1][0] - found["D"][1][0])
    assert (abs(order) < 1e-12) if variables == 5 else ((order < 0) == (variables < 5))


def test_the_method_of_the_catalogue() -> None:
    """It has ReinMax's mean, is B at temperature 1, and without noise for a linear loss."""
    of_several = estimators.reinmax_control_variate
    logits, slope = normal(2, 3, seed=8), 2 * normal(2, 3, seed=9)

    def loss(z: Tensor) -> Tensor:
        return (line(slope)(z) - 1) ** 3 / 10

    for temperature in (0.5, 1.0, 3.0):
        one = exact.moments(estimators.reinmax(temperature=temperature), loss, logits, batch_dims=0)
        two = exact.moments(of_several(temperature=temperature), loss, logits, batch_dims=0)
        assert close(two.mean, one.mean)
    d = several.enumerate_draws(logits.softmax(-1), loss)
    assert close(of_several().formula(logits, d.z, loss), pairs.other_draws(d))
    found = exact.moments(of_several(), line(slope), logits, batch_dims=0)
    assert float(found.variance.abs().max()) < 1e-24
    assert float(found.bias.abs().max()) < 1e-13
    assert of_several(samples=3).evaluations == 3
