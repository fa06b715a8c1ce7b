"""The rules beside steps, rules of one's own, and what goes with a draw: index, row, mode."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from cases import close, cubic_loss, draws, eye, generator, normal
from rules import COMBINATIONS, OTHERS, leaky, rule_of
from torch import Tensor
from torch.func import grad as gradient_of
from torch.func import vmap
from torch.utils.checkpoint import checkpoint

import ils
from ils import estimators, rules
from ils.relaxation import conditional_gumbel

each_other = pytest.mark.parametrize("name", OTHERS)
EVERY = {**{name: rule_of(options) for name, options in COMBINATIONS.items()}, **OTHERS}
DETERMINISTIC = {
    name: rule for name, rule in OTHERS.items() if type(rule).noise is rules.Rule.noise
}
NOISY = {name: rule for name, rule in OTHERS.items() if name not in DETERMINISTIC}


def vjp(function: Any, at: Tensor, grad: Tensor) -> Tensor:
    """The product of a transposed Jacobian and a gradient, by autograd."""
    leaf = at.clone().requires_grad_()
    return torch.autograd.grad((function(leaf) * grad).sum(), leaf)[0]


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
        case rules.Identity():
            return (eye(len(z)) - 1 / len(z)) @ grad
        case rules.Gapped():
            drawn = float(probs @ z)
            gap = rule.gap or -math.log(1 - drawn) / drawn
            lift = (logits.max() - logits) * z
            lower = (logits - logits.max() + gap).clamp(min=0) * (1 - z)
            return vjp(lambda x: ((x + lift - lower) / tau).softmax(-1), logits, grad)
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
    found = rule.gradient(grad, z, logits, noise)
    for i in range(7):
        one = None if noise is None else noise[..., i, :]
        wanted = by_autograd(rule, grad[i], z[i], logits[i], one)
        assert close(found[i], wanted, 1e-12 * (1 + float(wanted.abs().max())))
    assert found.abs().max() > 0.1


@pytest.mark.parametrize("name", [*COMBINATIONS, *DETERMINISTIC])
def test_mean_is_that_of_the_estimator(name: str) -> None:
    """Over all draws with their weights, the operator's gradient is the estimator's mean."""
    rule, logits = EVERY[name], normal(2, 3, seed=5)
    loss = cubic_loss(normal(2, 3, seed=6), 2)
    moments = ils.exact.moments(estimators.from_rule(rule), loss, logits)
    probs, mean = logits.softmax(-1), torch.zeros(2, 3, dtype=torch.float64)
    for i in range(3):
        for j in range(3):
            leaf = logits.clone().requires_grad_()
            z = ils.differentiable_draw(leaf, eye(3)[[i, j]], rule=rule)
            (found,) = torch.autograd.grad(loss(z[None]).sum(), leaf)
            mean += probs[0, i] * probs[1, j] * found
    assert close(mean, moments.mean, 1e-11 * (1 + float(mean.abs().max())))


SAME: dict[str, tuple[rules.Rule, Any]] = {
    "ReinMax": (rules.ReinMax(1.5), estimators.reinmax(temperature=1.5)),
    "ZGR": (rules.ReinMax(), estimators.zgr()),
    "ST": (rules.StraightThrough(2.0), estimators.straight_through(temperature=2.0)),
    "DARN": (rules.DARN(), estimators.darn()),
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


LIKE: dict[str, tuple[rules.Rule, Any]] = {
    "Gumbel-Rao": (rules.GumbelRao(0.7, 3), estimators.gumbel_rao(temperature=0.7, samples=3)),
    "Gumbel": (
        rules.StraightThroughGumbel(0.7),
        estimators.straight_through_gumbel(temperature=0.7),
    ),
    "decoupled": (
        rules.Decoupled(0.7),
        estimators.decoupled_straight_through_gumbel(backward_temperature=0.7),
    ),
}


@pytest.mark.parametrize("name", LIKE)
def test_law_of_the_noise(name: str) -> None:
    """Noise drawn after the draw gives the mean and variance of noise drawn with it: 5 errors."""
    rule, estimator = LIKE[name]
    logits, size = normal(4, seed=10), 40_000
    loss = cubic_loss(normal(4, seed=11), 1)
    leaf = logits.expand(size, 4).clone().requires_grad_()
    z = ils.sample(leaf, rule=rule, generator=generator(12))
    (one,) = torch.autograd.grad(loss(z).sum(), leaf)
    other = estimator(logits, loss, draws=size, generator=generator(13))
    for left, right in ((one, other), (one**2, other**2)):
        error = (left.var(0) / size + right.var(0) / size).sqrt()
        assert ((left.mean(0) - right.mean(0)).abs() < 5 * error).all()
    assert one.mean(0).abs().max() > 0.1
    moved = estimators.from_rule(rule)(logits, loss, draws=size, generator=generator(14))
    error = (one.var(0) / size + moved.var(0) / size).sqrt()
    assert ((one.mean(0) - moved.mean(0)).abs() < 5 * error).all()
    with pytest.raises(ValueError, match="expected finite randomness"):
        ils.exact.moments(estimators.from_rule(rule), loss, logits)


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
    assert rules.Note(0.1) != rules.NoteCode(0.1)
    assert rules.Decoupled(0.5) != rules.StraightThroughGumbel(0.5)
    assert repr(rules.Note(0.1, metric=ils.metric.fisher)) == "Note(0.1, metric=ils.metric.fisher)"


def call(rule: rules.Rule, logits: Tensor, by: Tensor, **how: Any) -> tuple[Tensor, Tensor]:
    """Draws and the gradient for a cubic loss."""
    leaf = logits.clone().requires_grad_()
    z = ils.sample(leaf, rule=rule, **how)
    return z.detach(), torch.autograd.grad((by * (z - 0.3) ** 3).sum(), leaf)[0]


@each_other
def test_masks(name: str) -> None:
    """A masked category has gradient exactly zero, and might as well be absent."""
    rule, kept = OTHERS[name], torch.tensor([True, False, True, True, False])
    logits, hard = normal(40, 5, seed=15), draws(40, 3, seed=16)
    masked = logits.masked_fill(~kept, torch.nan).masked_fill(~kept, -torch.inf)
    z = torch.zeros(40, 5).double()
    z[:, kept] = hard
    if name in NOISY:
        z, found = call(rule, logits, normal(40, 5), mask=~kept, generator=generator(1))
        assert not z[:, ~kept].any()
        assert not found[:, ~kept].any()
        assert found.isfinite().all()
        assert found.abs().max() > 0.1
        return
    few = logits[:, kept].clone().requires_grad_()
    leaf = masked.requires_grad_()
    out, small = (ils.differentiable_draw(*pair, rule=rule) for pair in ((leaf, z), (few, hard)))
    for poison in (0.0, torch.inf, torch.nan):
        upstream = normal(40, 5, seed=17)
        upstream[:, ~kept] = poison
        (found,) = torch.autograd.grad(out, leaf, upstream, retain_graph=True)
        (wanted,) = torch.autograd.grad(small, few, upstream[:, kept], retain_graph=True)
        assert torch.equal(found[:, ~kept], torch.zeros(40, 2).double())
        assert close(found[:, kept], wanted, 1e-12 * (1 + float(wanted.abs().max())))


@each_other
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_short_types(name: str, dtype: torch.dtype) -> None:
    """The gradient has the type of the logits, and is that of float64 to a few units."""
    rule, hard = OTHERS[name], draws(30, 5, seed=18)
    weights, raw = normal(30, 5, seed=19).to(dtype), normal(30, 5, seed=20).to(dtype)
    found = []
    for kind in (dtype, torch.float64):
        leaf = raw.to(kind).requires_grad_()
        z = ils.differentiable_draw(leaf, hard.to(kind), rule=rule, generator=generator(21))
        found.append(torch.autograd.grad((z * weights.to(kind)).sum(), leaf)[0])
    assert found[0].dtype == dtype
    size = float(found[1].abs().max())
    assert close(found[0].double(), found[1], 16 * torch.finfo(dtype).eps * size)


@each_other
def test_under_vmap(name: str) -> None:
    """Per-example gradients have the shape and, without noise, the values of eager code."""
    rule, logits, weights = OTHERS[name], normal(6, 4, seed=22), normal(6, 4, seed=23)

    def loss(row: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        z = ils.sample(row, rule=rule)
        return ((z - 0.3) ** 3 * weight).sum(), z

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(24)
        found, z = vmap(gradient_of(loss, has_aux=True), randomness="different")(logits, weights)
    leaf = logits.clone().requires_grad_()
    again = ils.differentiable_draw(leaf, z, rule=rule)
    (wanted,) = torch.autograd.grad(((again - 0.3) ** 3 * weights).sum(), leaf)
    assert name in NOISY or close(found, wanted)
    assert found.isfinite().all()
    assert found.abs().max() > 0.01


@each_other
def test_checkpoints_and_generators(name: str) -> None:
    """Draw and noise repeat with the generator, and when a checkpoint computes them again."""
    rule, logits, by = OTHERS[name], normal(20, 4, seed=25), normal(20, 4, seed=26)
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        one, two = (call(rule, logits, by, generator=generator(27)) for _ in range(2))
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(one[0], two[0])
        assert torch.equal(one[1], two[1])
        results = []
        for kept in (False, True):
            torch.manual_seed(28)
            leaf = logits.clone().requires_grad_()

            def part(x: Tensor) -> Tensor:
                return (by * (ils.sample(x, rule=rule) - 0.3) ** 3).sum()

            out: Any = checkpoint(part, leaf, use_reentrant=False) if kept else part(leaf)
            torch.manual_seed(29)
            results.append(torch.autograd.grad(out, leaf)[0])
        assert torch.equal(*results)


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
    if name in DETERMINISTIC:
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


@dataclass(frozen=True)
class Narrow(rules.Rule):
    """A gradient of the wrong shape."""

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


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("shape", [(), (2, 3)], ids=str)
def test_the_index_of_a_draw(dim: int, shape: tuple[int, ...]) -> None:
    """return_index gives the draw and what sample_index draws from the same numbers."""
    logits = normal(5, 4, seed=38).requires_grad_()
    how: Any = {"dim": dim, "draws": shape}
    z, index = ils.sample(logits, return_index=True, generator=generator(39), **how)
    assert torch.equal(z, ils.sample(logits, generator=generator(39), **how))
    assert torch.equal(index, ils.sample_index(logits, generator=generator(39), **how))
    assert index.dtype == torch.int64
    assert z.requires_grad
    assert not index.requires_grad


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("dim", [-1, 1])
def test_the_mode_at_evaluation(dim: int) -> None:
    """If it is asked for, eval() returns the likeliest category, with the gradient at it."""
    logits = normal(6, 5, 4, seed=40).requires_grad_()
    mask = logits.detach() == logits.detach().amax(dim, keepdim=True)
    plain, sampler = ils.Sampler(dim=dim), ils.Sampler(dim=dim, argmax_in_eval=True)
    for module in (plain.eval(), sampler.train()):
        drawn = module(logits, generator=generator(41))
        assert torch.equal(drawn, ils.sample(logits, dim=dim, generator=generator(41)))
    z = sampler.eval()(logits)
    assert torch.equal(z.argmax(dim), logits.argmax(dim))
    assert torch.equal(z.sum(dim), torch.ones_like(z.sum(dim)))
    moved = logits.detach().movedim(dim, -1).requires_grad_()
    same = ils.differentiable_draw(moved, z.detach().movedim(dim, -1))
    weights = normal(*z.shape, seed=42)
    (found,) = torch.autograd.grad((z * weights).sum(), logits)
    (wanted,) = torch.autograd.grad((same * weights.movedim(dim, -1)).sum(), moved)
    assert close(found.movedim(dim, -1), wanted)
    second = sampler(logits, mask, draws=3)
    assert second.shape == (3, *logits.shape)
    assert torch.equal(second[0], second[2])
    assert not second[:, mask].any()
    compiled = torch.compile(sampler, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(logits), z)
    with pytest.raises(ValueError, match=r"logits: .* got NaN"):
        sampler(torch.full((2, 3), torch.nan))
    with pytest.raises(TypeError, match="argmax_in_eval: expected a bool, got int"):
        ils.Sampler(argmax_in_eval=1)  # type: ignore[arg-type]


def test_the_fast_form_of_the_default() -> None:
    """ReinMax at temperature 1 takes the form of the limit, and agrees with its own formula."""
    logits, z, grad = normal(50, 6, seed=43), draws(50, 6, seed=44), normal(50, 6, seed=45)
    for rule in (rules.ReinMax(), rules.Limit()):
        leaf = logits.clone().requires_grad_()
        (found,) = torch.autograd.grad(ils.differentiable_draw(leaf, z, rule=rule), leaf, grad)
        assert close(found, rules.ReinMax().gradient(grad, z, logits))
        assert close(found, rules.Limit().gradient(grad, z, logits))
