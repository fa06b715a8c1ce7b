"""Rules as values, the formulas of those beside steps, and rules of one's own."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from dataclasses import dataclass
from typing import Any

import numpy
import pytest
import torch
from cases import close, cubic_loss, draws, elsewhere, eye, generator, normal
from rules import COMBINATIONS, DETERMINISTIC, EVERY, NOISY, OTHERS, RULES, leaky, rule_of
from torch import Tensor

import ils
from ils import estimators, rules
from ils.draw import exponential
from ils.metric import euclidean
from ils.relaxation import conditional_gumbel, softmax_vjp
from ils.rules import Step

each_other = pytest.mark.parametrize("name", OTHERS)


def vjp(function: Any, at: Tensor, grad: Tensor) -> Tensor:
    """The product of a transposed Jacobian and a gradient, by autograd."""
    leaf = at.clone().requires_grad_()
    return torch.autograd.grad((function(leaf) * grad).sum(), leaf)[0]


def mve_matrix(probs: Tensor, drawn: int, tau: float) -> Tensor:
    """Of MVE after a draw: with each number in its place, as published; the end by a Laplacian."""
    count = len(probs)
    at = eye(count)[drawn]
    if tau == math.inf:
        pair = torch.outer(probs, probs) / (probs[:, None] + probs)
        flow = (probs / (probs + probs[drawn]))[:, None] * (eye(count) - at)
        inverse = torch.linalg.pinv(torch.diag(pair.sum(-1)) - pair, hermitian=True)
        return flow @ inverse / 2 + torch.outer(at, at) / (2 * probs[drawn])
    system = torch.zeros(count, count, dtype=probs.dtype)
    for i in range(count):
        for j in range(count):
            if i != j:
                system[i, j] = -tau * probs[i] * probs[j] / (1 + tau * (probs[i] + probs[j]))
        over = (probs / (1 + tau * (probs[i] + probs))).sum()
        system[i, i] = (1 + tau * probs[i]) * over - tau * probs[i] ** 2 / (1 + 2 * tau * probs[i])
    scale = (1 + tau * probs) / (1 + 2 * tau * probs)
    v = torch.linalg.solve(system, torch.diag(scale))
    rows = (1 + tau * probs)[:, None] * v - tau * torch.outer(probs, v[drawn])
    return (rows + tau * torch.outer(at, at)) / (1 + tau * (probs + probs[drawn]))[:, None]


def by_autograd(rule: Any, grad: Tensor, z: Tensor, logits: Tensor, noise: Any) -> Tensor:
    """The estimate of one draw, its Jacobians by autograd."""
    probs, tau = logits.softmax(-1), getattr(rule, "temperature", 1.0)
    match rule:
        case rules.ReinMax():
            middle = ((logits / tau).softmax(-1) + z) / 2
            by_middle = vjp(lambda x: x.softmax(-1), middle.log(), grad)
            return 2 * by_middle - vjp(lambda x: x.softmax(-1), logits, grad) / 2
        case rules.StraightThrough():
            return vjp(lambda x: (x / tau).softmax(-1), logits, grad)
        case rules.DARN():
            score = vjp(lambda x: x.log_softmax(-1), logits, z)
            return score * (grad @ (z - probs))
        case rules.MVE():
            hand = mve_matrix(probs, int(z.argmax()), rule.tau)
            return vjp(lambda x: x.softmax(-1), logits, hand.T @ grad)
        case rules.Ordinal():
            # As published, with the derivative in place of the values.
            first, second, at = probs @ grad, probs @ grad**2, grad @ z
            hand = (2 * second - 2 * first * at) * grad + (at - first) * grad**2
            return vjp(lambda x: x.softmax(-1), logits, hand / (2 * (second - first**2)))
        case rules.Identity():
            return (eye(len(z)) - 1 / len(z)) @ grad
        case rules.Gapped():
            drawn = float(probs @ z)
            gap = rule.gap or -math.log(1 - drawn) / drawn
            lift = (logits.max() - logits) * z
            lower = (logits - logits.max() + gap).clamp(min=0) * (1 - z)
            return vjp(lambda x: ((x + lift - lower) / tau).softmax(-1), logits, grad)
        case rules.ReinMaxRao():
            middle = ((probs + z) / 2).log()
            plain = rules.GumbelRao(tau, rule.samples)
            by_middle = by_autograd(plain, grad, z, middle, noise)
            return 2 * by_middle - vjp(lambda x: x.softmax(-1), logits, grad) / 2
        case rules.GumbelRao() | rules.StraightThroughGumbel():
            noise = noise if isinstance(rule, rules.GumbelRao) else noise[None]
            over = 1.0 if isinstance(rule, rules.Decoupled) else tau
            found = []
            for numbers in noise:
                gumbel = conditional_gumbel(logits, z, numbers) - logits

                def relaxed(x: Tensor, gumbel: Tensor = gumbel) -> Tensor:
                    return (x / tau + gumbel / over).softmax(-1)

                found.append(vjp(relaxed, logits, grad))
            return torch.stack(found).mean(0)
        case rules.NoteCode():
            target = ils.target.intermediate_target(z, grad, step_size=rule.step_size)
            return -target / (probs + 1e-7)
    raise AssertionError(rule)


@each_other
def test_formula_by_autograd(name: str) -> None:
    """Each formula is what autograd makes of its parts, draw by draw."""
    rule = OTHERS[name]
    logits, z, grad = normal(7, 4, seed=1), draws(7, 4, seed=2), normal(7, 4, seed=3)
    noise = rule.noise((7, 4), logits, generator(4))
    if noise is not None:
        assert noise.shape == (*([rule.samples] if hasattr(rule, "samples") else []), 7, 4)
        assert close(noise, exponential(noise.shape, logits, generator(4)))
    found = rule.gradient(grad, z, logits, noise)
    for i in range(7):
        one = None if noise is None else noise[..., i, :]
        wanted = by_autograd(rule, grad[i], z[i], logits[i], one)
        assert close(found[i], wanted, 1e-12 * (1 + float(wanted.abs().max())))
    assert found.abs().max() > 0.1


SAME: dict[str, tuple[rules.Rule, Any]] = {
    "default": (rules.ReinMax(), estimators.reinmax(temperature=1.0)),
    "ReinMax": (rules.ReinMax(1.5), estimators.reinmax(temperature=1.5)),
    "ZGR": (rules.ReinMax(), estimators.zgr()),
    "ST": (rules.StraightThrough(2.0), estimators.straight_through(temperature=2.0)),
    "DARN": (rules.DARN(), estimators.darn()),
    "MVE": (rules.MVE(3.0), estimators.mve(tau=3.0)),
    "gapped": (rules.Gapped(0.5, 2.0), estimators.gapped_straight_through(temperature=0.5, gap=2)),
    "ILS": (rules.Note(0.3), estimators.intermediate_loss_sampling(step_size=0.3)),
}


@pytest.mark.parametrize("name", SAME)
def test_estimator_of_the_same_name(name: str) -> None:
    """A rule and the estimator of its name give the same, draw by draw, through the operator."""
    rule, estimator = SAME[name]
    logits, hard = normal(2, 4, seed=7), draws(9, 2, 4, seed=8)
    loss = cubic_loss(normal(2, 4, seed=9), 2)
    wanted = estimator.formula(logits, hard, loss)
    for one, estimate in zip(hard, wanted, strict=True):
        leaf = logits.clone().requires_grad_()
        z = ils.differentiable_draw(leaf, one, rule=rule)
        assert close(torch.autograd.grad(loss(z[None]).sum(), leaf)[0], estimate)


@pytest.mark.parametrize("name", EVERY)
def test_rules_are_values(name: str) -> None:
    """Equal, hashed, copied, pickled, frozen; written as they print."""
    rule: Any = EVERY[name]
    for twin in (copy.deepcopy(rule), pickle.loads(pickle.dumps(rule)), dataclasses.replace(rule)):
        assert twin == rule
        assert hash(twin) == hash(rule)
        assert repr(twin) == repr(rule)
    named = {**vars(rules), "ils": ils, "leaky": leaky, "root": _root()}
    assert eval(repr(rule), named) == rule
    assert sum(other == rule for other in {*EVERY.values()}) == 1
    for field in dataclasses.fields(rule):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(rule, field.name, 1.0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("shape", [(2,), (3,), (2, 2)])
def test_other_draws_as_control_variate(shape: tuple[int, ...], temperature: float) -> None:
    """By hand, draw by draw: the expectation at the others' mean derivative, and the rest."""
    rule, one = rules.ReinMaxControlVariate(temperature), rules.ReinMax(temperature)
    logits, corners = normal(2, 3, seed=40), eye(3)
    hard, upstream = draws(*shape, 2, 3, seed=41), normal(*shape, 2, 3, seed=42)
    leaf = logits.clone().requires_grad_()
    z = ils.differentiable_draw(leaf, hard, rule=rule)
    (found,) = torch.autograd.grad((z * upstream).sum(), leaf)
    wanted, flat = torch.zeros_like(logits), upstream.reshape(-1, 2, 3)
    for s, drawn in enumerate(hard.reshape(-1, 2, 3)):
        h = torch.cat([flat[:s], flat[s + 1 :]]).mean(0)
        for k, corner in enumerate(corners):
            chance = logits.softmax(-1)[:, k, None]
            wanted += chance * one.gradient(h, corner.expand(2, 3), logits)
        wanted += one.gradient(flat[s] - h, drawn, logits)
    assert close(found, wanted)
    plain = ils.differentiable_draw(leaf, hard, rule=one)
    assert not close(torch.autograd.grad((plain * upstream).sum(), leaf)[0], wanted, 0.1)


def _root() -> Any:
    return next(o["metric"] for o in COMBINATIONS.values() if o["metric"].__name__ == "root")


def test_numbers_of_any_kind() -> None:
    """Options are Python's numbers, whatever they come as; other classes are other rules."""
    for one, other in (
        (rules.ReinMax(2), rules.ReinMax(torch.tensor(2.0).double().item())),
        (rules.Step(1), rules.Step(1.0)),
        (rules.Note(1), rules.Note(True + 0.0)),
    ):
        assert one == other
        assert hash(one) == hash(other)
    assert type(rules.ReinMax(2).temperature) is float
    found = rules.GumbelRao(0.5, samples=numpy.int64(3))
    assert type(found.samples) is int
    assert repr(found) == "GumbelRao(0.5, samples=3)"
    assert rules.Note(0.1) != rules.NoteCode(0.1)
    assert rules.Decoupled(0.5) != rules.StraightThroughGumbel(0.5)
    assert repr(rules.Note(0.1, metric=ils.metric.fisher)) == "Note(0.1, metric=ils.metric.fisher)"
    assert repr(rules.MVE(3)) == "MVE(tau=3.0)"
    with pytest.raises(ValueError, match=r"^tau: expected zero or a positive finite number"):
        rules.MVE(-1.0)


def call(rule: rules.Rule, logits: Tensor, by: Tensor, **how: Any) -> tuple[Tensor, Tensor]:
    """Draws and the gradient for a cubic loss."""
    leaf = logits.clone().requires_grad_()
    z = ils.sample(leaf, rule=rule, **how)
    return z.detach(), torch.autograd.grad((by * (z - 0.3) ** 3).sum(), leaf)[0]


@pytest.mark.parametrize("name", NOISY)
def test_masks(name: str) -> None:
    """A masked category is not drawn and has gradient exactly zero, noise or not."""
    mask = torch.tensor([False, True, False, False, True])
    logits = normal(40, 5, seed=15).masked_fill(mask, torch.nan)
    z, found = call(OTHERS[name], logits, normal(40, 5), mask=mask, generator=generator(1))
    assert not z[:, mask].any()
    assert not found[:, mask].any()
    assert found.isfinite().all()
    assert found.abs().max() > 0.1


@each_other
def test_generators(name: str) -> None:
    """Draw and noise repeat with the generator, and the global state does not move."""
    rule, logits, by = OTHERS[name], normal(20, 4, seed=25), normal(20, 4, seed=26)
    before = torch.get_rng_state()
    one, two = (call(rule, logits, by, generator=generator(27)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])


@each_other
def test_draws_and_look_ups(name: str) -> None:
    """Gradients of several draws are added; a look-up has that of the product with the table."""
    rule, logits, table = OTHERS[name], normal(3, 4, seed=30), normal(4, 2, seed=31)
    leaf, weights = logits.clone().requires_grad_(), normal(2, 3, 2, seed=32)
    z = ils.sample(leaf, rule=rule, draws=2, generator=generator(33))
    (wanted,) = torch.autograd.grad((z @ table * weights).sum(), leaf)
    rows, index = ils.sample_embedding(leaf, table, rule=rule, draws=2, generator=generator(33))
    (found,) = torch.autograd.grad((rows * weights).sum(), leaf)
    assert torch.equal(index, z.argmax(-1))
    assert torch.equal(rows, table[index])
    assert close(found, wanted)
    if name in DETERMINISTIC and not isinstance(rule, rules.ReinMaxControlVariate):
        parts = [ils.differentiable_draw(leaf, one.detach(), rule=rule) for one in z]
        loss = (torch.stack(parts) @ table * weights).sum()
        assert close(torch.autograd.grad(loss, leaf)[0], wanted)


@dataclass(frozen=True)
class Mine(rules.Rule):
    """Straight-through, times a factor."""

    factor: float

    def gradient(self, grad: Tensor, z: Tensor, logits: Tensor, noise: Any = None) -> Tensor:
        probs = logits.softmax(-1)
        return self.factor * probs * (grad - (probs * grad).sum(-1, keepdim=True))


@dataclass(frozen=True)
class Shaken(Mine):
    """The same plus a uniform number times a second factor."""

    shift: float = 0.5

    def noise(self, shape: Any, logits: Tensor, generator: Any) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=logits.dtype)

    def gradient(self, grad: Tensor, z: Tensor, logits: Tensor, noise: Any = None) -> Tensor:
        return super().gradient(grad, z, logits) + self.shift * noise


class Narrow(rules.Rule):
    """A gradient of the wrong shape, and no dataclass."""

    def gradient(self, grad: Tensor, z: Tensor, logits: Tensor, noise: Any = None) -> Tensor:
        return logits.softmax(-1)


def test_a_rule_of_ones_own() -> None:
    """It serves every way to draw, with noise or without, and is a value."""
    logits, table = normal(5, 4, seed=34), normal(4, 4, seed=35)
    _, wanted = call(rules.StraightThrough(), logits, table[0], generator=generator(36))
    _, found = call(Mine(3.0), logits, table[0], generator=generator(36))
    assert close(found, 3 * wanted)
    _, moved = call(Shaken(3.0, 0.5), logits, table[0], generator=generator(36))
    assert (moved >= found).all()
    assert (moved - found).max() < 0.5
    assert (moved - found).unique().numel() == 20
    assert repr(Shaken(3.0, 0.25)) == "Shaken(factor=3.0, shift=0.25)"
    assert pickle.loads(pickle.dumps(Mine(2.0))) == Mine(2.0)
    q = ils.distributions.OneHotCategorical(logits=logits, rule=Mine(3.0))
    assert ils.Sampler(rule=Mine(3.0))(q.rsample()).shape == (5, 4)
    q = ils.distributions.Categorical(logits=logits, weight=table, rule=Shaken(3.0, 0.5))
    assert q.expand((2, 5)).rsample().shape == (2, 5, 4)
    loss = cubic_loss(normal(4, seed=37), 1)
    mean = ils.exact.moments(estimators.from_rule(Mine(3.0)), loss, logits[0]).mean
    one = ils.exact.moments(estimators.straight_through(), loss, logits[0]).mean
    assert close(mean, 3 * one)
    assert estimators.from_rule(Mine(3.0)).name == "Mine"
    assert estimators.from_rule(Mine(1.0)) == estimators.from_rule(Mine(1.0))
    assert estimators.from_rule(Mine(1.0)) != estimators.from_rule(Mine(2.0))


def test_a_gradient_of_another_shape_is_refused() -> None:
    """By name, with the rule that gave it."""
    leaf = normal(5, 4).requires_grad_()
    z = ils.sample(leaf, rule=Narrow(), draws=2)
    with pytest.raises(ValueError, match=r"^rule: the gradient of Narrow\(\): .* got \(5, 4\)"):
        z.sum().backward()


def test_normalizers_are_tried_in_the_type_of_the_logits() -> None:
    """The corners on which a normaliser of one's own is tried are like the logits."""
    logits, z, seen = normal(2, 3).float(), torch.eye(3)[:2], []

    def mine(x: Tensor) -> Tensor:
        seen.append((x.dtype, x.device.type, x.shape[-1]))
        return x

    ils.differentiable_draw(logits, z, rule=Step(0.5, normalizer=mine))
    with elsewhere():
        ils.differentiable_draw(logits, z, rule=Step(0.5, normalizer=mine))
    assert set(seen) == {(torch.float32, "cpu", 3)}


each_rule = pytest.mark.parametrize("options", RULES.values(), ids=RULES)
each_low_precision = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str
)
# Small enough that the sum of the unclamped form stays away from zero.
STEP = 0.02
SHORT = [rule_of({**o, "step_size": o["step_size"] and STEP}) for o in RULES.values()]


def tolerance(rule: ils.rules.Rule, dtype: torch.dtype) -> float:
    """Relative to the largest entry of the update: a few units in the last place."""
    if getattr(rule, "normalizer", None) is ils.project_simplex:
        # The projection subtracts numbers near one, of which the step is a small part; it works
        # in float32 at least.
        return 8 * max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps / STEP)
    return (8 if rule in SHORT else 16) * torch.finfo(dtype).eps


@each_low_precision
@pytest.mark.parametrize("rule", [*SHORT, *OTHERS.values()], ids=repr)
def test_low_precision_agrees_with_double(rule: ils.rules.Rule, dtype: torch.dtype) -> None:
    """Gradients in a short type are those of float64 to a few units, of draws new and given."""
    logits = normal(40, 6, seed=19).to(dtype).requires_grad_()
    drawn = ils.sample(logits, generator=generator(20), rule=rule)
    weights, found = normal(40, 6, seed=21), []
    for kind in (torch.float64, dtype):
        leaf = logits.detach().to(kind).requires_grad_()
        for hard in (drawn.detach(), draws(40, 6, seed=16)):
            z = ils.differentiable_draw(leaf, hard.to(kind), rule=rule, generator=generator(22))
            upstream = weights.to(dtype).to(kind)
            found.append(torch.autograd.grad((z * upstream).sum(), leaf)[0])
    wanted, other, *short = found
    if repr(rule) not in NOISY:
        short.append(torch.autograd.grad((drawn * weights.to(dtype)).sum(), logits)[0])
    for one, right in zip(short, (wanted, other, wanted), strict=False):
        assert one.dtype == dtype
        assert close(one.double(), right, tolerance(rule, dtype) * float(right.abs().max()))


@each_rule
@each_low_precision
def test_extreme_logits(options: dict[str, Any], dtype: torch.dtype) -> None:
    """Logits of ten thousand give numbers, forward and backward, and the draw of the largest."""
    rows = [[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, -torch.inf], [1e-4, 1e4, 3.0]]
    logits = torch.tensor(rows, dtype=dtype).repeat(50, 1).requires_grad_()
    z = ils.sample(logits, generator=generator(15), rule=rule_of(options))
    assert z.dtype == dtype
    assert torch.equal(z.detach().float().sum(-1), torch.ones(200))
    assert z[0::4, 0].eq(1).all()
    assert z[3::4, 1].eq(1).all()
    assert {tuple(row) for row in z[2::4].tolist()} == {(1.0, 0.0, 0.0), (0.0, 1.0, 0.0)}
    (z * torch.tensor([1.0, -2.0, 0.5], dtype=dtype)).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[2::4, 2].eq(0).all()
    assert logits.grad[2::4].abs().max() > 0.1
    if options["metric"] is euclidean:
        assert logits.grad[0::4].abs().max() > 0.1  # it does not know that it is certain


@each_rule
@each_low_precision
def test_subnormal_numbers(options: dict[str, Any], dtype: torch.dtype) -> None:
    """Probabilities and gradients below the smallest normal number give finite updates."""
    info = torch.finfo(dtype)
    logits = torch.tensor([[0.0, -95.0, -102.0, -200.0, 1.0]], dtype=dtype)
    tiny = torch.tensor([1.0, -2.0, 3.0, -1.0, 2.0]) * info.smallest_normal * 0.25
    assert (logits.float().softmax(-1)[0, 1:3] < torch.finfo(torch.float32).tiny).all()
    for hard in torch.eye(5, dtype=dtype):
        for upstream in (tiny.to(dtype), torch.tensor([1, -2, 3, -1, 2]).to(dtype)):
            leaf = logits.clone().requires_grad_()
            z = ils.differentiable_draw(leaf, hard[None], rule=rule_of(options))
            (found,) = torch.autograd.grad(z, leaf, upstream[None])
            assert found.isfinite().all()


@each_low_precision
def test_small_probabilities_keep_their_update(dtype: torch.dtype) -> None:
    """A category of probability 1e-4 has its update to the precision of the type."""
    logits = torch.tensor([9.25, 0.0, -0.5, 0.25], dtype=dtype)
    upstream = torch.tensor([0.5, -3.0, 2.0, 1.0], dtype=dtype)
    leaf = logits.clone().requires_grad_()
    z = ils.differentiable_draw(leaf, torch.eye(4, dtype=dtype)[0])
    (found,) = torch.autograd.grad(z, leaf, upstream)
    wanted = logits.double().softmax(-1) * (upstream - upstream[0]).double() / 2
    # Of float16 the smallest numbers are 6e-8 apart.
    least = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    for one, exact in zip(found[1:].tolist(), wanted[1:].tolist(), strict=True):
        assert abs(one - exact) <= 4 * torch.finfo(dtype).eps * abs(exact) + least


def test_every_rule_is_listed() -> None:
    """What the module defines is public, and takes part in these tests."""
    made = {
        kind
        for kind in vars(rules).values()
        if isinstance(kind, type) and issubclass(kind, rules.Rule) and kind is not rules.Rule
    }
    public = {kind for kind in made if not kind.__name__.startswith("_")}
    assert {kind.__name__ for kind in public} <= set(rules.__all__)
    assert {type(rule) for rule in EVERY.values()} == public


@each_rule
def test_a_million_categories(options: dict[str, Any]) -> None:
    """At a million categories the update sums to zero and is finite, in float32."""
    logits = normal(1, 1_000_000, seed=22).float().requires_grad_()
    z = ils.sample(logits, generator=generator(23), rule=rule_of(options))
    assert z.sum() == 1
    upstream = normal(1, 1_000_000, seed=24).float()
    (found,) = torch.autograd.grad(z, logits, upstream)
    assert found.isfinite().all()
    total: Tensor = found.double().sum().abs()
    if options["normalizer"] is not ils.sum_normalize_unclamped:
        assert total <= 1e-3 * found.double().abs().sum()
        assert found.abs().max() > 0


@pytest.mark.parametrize(
    "rule",
    [rules.Identity(), rules.Gapped(), rules.Decoupled(0.7), rules.NoteCode(0.1)],
    ids=lambda rule: type(rule).__name__,
)
def test_masked_categories_by_the_formula_alone(rule: rules.Rule) -> None:
    """Called directly, a formula gives zero where the logit is -inf, as if it were not there."""
    logits, grad = normal(5, 4, seed=70), normal(5, 4, seed=71)
    logits[:, 2] = -torch.inf
    kept, z = [0, 1, 3], torch.eye(4, dtype=logits.dtype)[[0, 1, 3, 0, 1]]
    noise = rule.noise(z.shape, logits, generator(72))
    found = rule.gradient(grad, z, logits, noise)
    assert torch.equal(found[:, 2], torch.zeros(5, dtype=logits.dtype))
    less = None if noise is None else noise[..., kept]
    assert close(found[:, kept], rule.gradient(grad[:, kept], z[:, kept], logits[:, kept], less))


def test_gap_at_certain_and_impossible_draws() -> None:
    """Draws whose probability is rounded to one and, in an enumeration, is zero.

    The gap of the first is minus the logarithm of what rounding leaves, here less than the distance
    of 18 that there is already; that of the second tends to 1.
    """
    rule, grad = rules.Gapped(gap=None), torch.tensor([1.0, 2.0])
    logits = torch.tensor([0.0, -18.0])
    assert float(logits.softmax(-1)[0]) == 1.0
    found = rule.gradient(grad * 1e8, torch.tensor([1.0, 0.0]), logits)
    wanted = softmax_vjp(logits.softmax(-1), grad * 1e8)
    torch.testing.assert_close(found, wanted)
    assert float(found[1]) > 1
    logits = torch.tensor([0.0, -200.0])
    assert float(logits.softmax(-1)[1]) == 0.0
    found = rule.gradient(grad, torch.tensor([0.0, 1.0]), logits)
    torch.testing.assert_close(found, softmax_vjp(torch.tensor([-1.0, 0.0]).softmax(-1), grad))
