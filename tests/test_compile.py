"""Compiled and exported programs trace without a break, and compute what eager code does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from cases import close, distribution, eye, normal
from drop_in import Family, some_families
from drop_in import update as by_parameter
from rules import COMBINATIONS, OTHERS, rule_of
from torch import Tensor, nn

import ils
from ils import distributions

# One of each way through ils.fast and ils.rules, and a map of one's own: all would take minutes.
NAMES = [
    "None-fisher-sum_normalize-relative",
    "None-euclidean-sum_normalize-relative",
    "0.4-fisher-sum_normalize-relative",
    "0.4-euclidean-sum_normalize-noisy",
    "0.4-fisher-sum_normalize_unclamped-relative-mass",
    "0.4-euclidean-project_simplex",
    "0.4-fisher-project_simplex-relative",
    "0.4-fisher-leaky-relative",
]
DEFAULTS = COMBINATIONS["None-fisher-sum_normalize-relative"]
pytestmark = [
    pytest.mark.unmoved,
    # The compilers use parts of PyTorch and Python that are on their way out.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    """No test sees what another has compiled."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def gradient(function: Any, logits: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The draw of a function of the logits, and the gradient of a weighted sum of it."""
    leaf = logits.clone().requires_grad_()
    z = function(leaf)
    (found,) = torch.autograd.grad((z * weights).sum(), leaf)
    return z.detach(), found


def agrees_with_eager(
    z: Tensor, found: Tensor, logits: Tensor, weights: Tensor, options: dict[str, Any]
) -> bool:
    """Whether the draw is one-hot and the gradient that of eager code after the same draw."""
    assert torch.equal(z, eye(z.shape[-1]).to(z.dtype)[z.argmax(-1)])
    _, wanted = gradient(
        lambda x: ils.differentiable_draw(x, z, rule=rule_of(options)), logits, weights
    )
    eps = torch.finfo(z.dtype).eps
    # The sum that the unclamped form divides by can come near zero.
    return close(found, wanted, 1e4 * eps * (1 + float(wanted.abs().max())))


@pytest.mark.parametrize("name", NAMES)
def test_compiles_for_any_batch(name: str) -> None:
    """Every rule traces in one graph, forward and backward, which serves batches of any size."""
    options = COMBINATIONS[name]
    compiled = torch.compile(
        lambda x: ils.sample(x, rule=rule_of(options)),
        backend="aot_eager",
        fullgraph=True,
        dynamic=True,
    )
    torch._dynamo.config.error_on_recompile, before = True, torch._dynamo.config.error_on_recompile
    try:
        for rows in (6, 1500):
            logits, weights = normal(rows, 4, seed=30), normal(rows, 4, seed=31)
            z, found = gradient(compiled, logits, weights)
            assert agrees_with_eager(z, found, logits, weights, options)
            assert found.abs().max() > 1e-3
    finally:
        torch._dynamo.config.error_on_recompile = before


def test_compiles_with_masks_draws_and_many_categories() -> None:
    """Masks, several draws and rows that are drawn in blocks trace as well."""
    mask = torch.arange(100) % 3 == 0
    compiled = torch.compile(
        lambda x: ils.sample(x, mask=mask, draws=(2, 3)), backend="aot_eager", fullgraph=True
    )
    logits, weights = normal(5, 100, seed=32), normal(2, 3, 5, 100, seed=33)
    z, found = gradient(compiled, logits, weights)
    assert z.shape == (2, 3, 5, 100)
    assert not z[..., mask].any()
    assert not found[:, mask].any()
    assert agrees_with_eager(z, found, logits.masked_fill(mask, -torch.inf), weights, {})


def test_compiles_by_inductor() -> None:
    """The default compiler's own code gives draws of the law and the gradient of eager code."""
    compiled = torch.compile(ils.sample, fullgraph=True, dynamic=True)
    logits, weights = normal(400, 5, seed=36), normal(400, 5, seed=37)
    z, found = gradient(compiled, logits, weights)
    assert agrees_with_eager(z, found, logits, weights, {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(38)
        probs = distribution(5, seed=39)
        z = compiled(probs.log().expand(20_000, 5))
    # Five standard errors, one entry in a million; a tenth of the odds would be three times that.
    error = (z.mean(0) - probs).abs() / (probs * (1 - probs) / 20_000).sqrt()
    assert error.max() < 5


def test_compiles_a_look_up() -> None:
    """Index and look-up trace, and the gradients are those of the one-hot product."""

    def looked_up(logits: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        index = ils.sample_index(logits)
        return index, ils.embedding(index, table, logits)

    compiled = torch.compile(looked_up, backend="aot_eager", fullgraph=True, dynamic=True)
    for rows in (6, 11):
        logits = normal(rows, 4, seed=40).requires_grad_()
        table, weights = normal(4, 3, seed=41).requires_grad_(), normal(rows, 3, seed=42)
        index, out = compiled(logits, table)
        found = torch.autograd.grad((out**2 * weights).sum(), (logits, table))
        z = ils.differentiable_draw(logits, eye(4)[index])
        wanted = torch.autograd.grad(((z @ table) ** 2 * weights).sum(), (logits, table))
        for one, other in zip(found, wanted, strict=True):
            assert close(one, other)


def test_control_variate_of_examples_and_compiled() -> None:
    """Under vmap each example has its own draws; compiled, and with a mask, the same estimate."""
    rule, table = ils.rules.ReinMaxControlVariate(), normal(4, seed=43)
    logits = normal(5, 4, seed=44)
    logits[:, 1] = -torch.inf
    hard = eye(4)[[0, 2, 3]][torch.arange(15).reshape(3, 5) ** 2 % 3]

    def estimate(logits: Tensor, hard: Tensor) -> Tensor:
        z = ils.differentiable_draw(logits, hard, rule=rule)
        return ((z @ table - 0.5) ** 3).sum()

    wanted = torch.func.grad(estimate)(logits, hard)
    assert not wanted[:, 1].any()
    assert wanted.abs().max() > 0.1
    assert close(torch.vmap(torch.func.grad(estimate), in_dims=(0, 1))(logits, hard), wanted)
    leaf = logits.clone().requires_grad_()
    value = torch.compile(estimate, backend="aot_eager", fullgraph=True)(leaf, hard)
    assert close(torch.autograd.grad(value, leaf)[0], wanted)


@pytest.mark.parametrize("name", OTHERS)
def test_compiles_every_other_rule(name: str) -> None:
    """The plain formulas trace, for any batch, with the noise of those that have some."""
    rule, seen = OTHERS[name], []
    compiled = torch.compile(
        lambda x: ils.sample(x, rule=rule, return_index=True),
        backend="aot_eager",
        fullgraph=True,
        dynamic=True,
    )
    for run in (compiled, lambda x: ils.sample(x, rule=rule, return_index=True)):
        for rows in (6, 5000):
            leaf = normal(4, seed=50).expand(rows, 4).clone().requires_grad_()
            weights = normal(4, seed=51)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(52)
                z, index = run(leaf)
            (found,) = torch.autograd.grad((z * weights).sum(), leaf)
            seen.append((z.detach(), index, found))
    for one, other in zip(seen[:2], seen[2:], strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
        if type(rule).noise is ils.rules.Rule.noise:
            assert close(one[2], other[2], 1e-10)
            continue
        # A compiler may draw the noise, which the backward pass alone sees, anew: the law is kept.
        assert close(one[2].sum(-1), torch.zeros(len(one[0])))
        error = ((one[2].var(0) + other[2].var(0)) / len(one[0])).sqrt()
        assert ((one[2].mean(0) - other[2].mean(0)).abs() < 5 * error).all()


@pytest.mark.parametrize("name", NAMES)
def test_compiles_a_module_made_inside(name: str) -> None:
    """A module that is made within the program traces, by its defaults and by any rule."""

    def inside(x: Tensor) -> Tensor:
        given = {} if COMBINATIONS[name] == DEFAULTS else {"rule": rule_of(COMBINATIONS[name])}
        return ils.Sampler(**given)(x)

    compiled = torch.compile(inside, backend="aot_eager", fullgraph=True)
    logits, weights = normal(6, 4, seed=45), normal(6, 4, seed=46)
    z, found = gradient(compiled, logits, weights)
    assert agrees_with_eager(z, found, logits, weights, COMBINATIONS[name])


@pytest.mark.parametrize("dim", [-1, 1])
def test_compiles_the_mode_at_evaluation(dim: int) -> None:
    """A module in evaluation returns the likeliest category, compiled as in eager code."""
    sampler = ils.Sampler(dim=dim, argmax_in_eval=True).eval()
    logits = normal(6, 5, 4, seed=40).requires_grad_()
    compiled = torch.compile(sampler, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(logits), sampler(logits))


def test_compiles_gradients_that_are_not_finite() -> None:
    """NaN is handed on in compiled code too, and nothing is read past the end."""
    for categories in (3, 20):
        z = eye(categories)[[1, 1]]
        for options in ({"step_size": 0.5, "normalizer": ils.project_simplex}, {}):
            compiled = torch.compile(
                lambda x, z=z, options=options: ils.differentiable_draw(
                    x, z, rule=rule_of(options)
                ),
                backend="aot_eager",
                fullgraph=True,
            )
            leaf = normal(2, categories, seed=47).requires_grad_()
            grad = normal(2, categories, seed=48)
            grad[0] = torch.nan
            (found,) = torch.autograd.grad(compiled(leaf), leaf, grad)
            assert found[0].isnan().all()
            assert found[1].isfinite().all()


def test_exports() -> None:
    """A model with the module in it is exported, saved program and all, and draws when it runs."""
    model = nn.Sequential(nn.Linear(3, 4), ils.Sampler())
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(model, (torch.randn(5, 3),), dynamic_shapes={"input": {0: batch}})
    run = program.module()
    for rows in (2, 5, 64):
        z = run(torch.ones(rows, 3))
        assert torch.equal(z, torch.eye(4)[z.argmax(-1)])
    assert len(z.argmax(-1).unique()) > 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(44)
        one = run(torch.ones(64, 3))
        torch.manual_seed(44)
        assert torch.equal(run(torch.ones(64, 3)), one)
        assert not torch.equal(run(torch.ones(64, 3)), one)
    # As the docstrings say, the program holds the forward pass alone.
    assert "carries no gradient" in (ils.Sampler.__doc__ or "")
    assert "carries no gradient" in (ils.sample.__doc__ or "")


@pytest.fixture
def checks_off() -> None:
    """Off beforehand, as PyTorch's compiler turns the checks of distributions off in any case."""
    torch.distributions.Distribution.set_default_validate_args(False)


@pytest.mark.usefixtures("checks_off")
@some_families("Bernoulli", "Poisson", "NegativeBinomial", "Gamma", "Dirichlet")
def test_compiles_families(family: Family) -> None:
    """The draw traces in one graph, and has the gradient of eager code after the same draw."""
    names = list(family.maps)

    def draw(*values: Tensor) -> Tensor:
        return family.ours(**dict(zip(names, values, strict=True)), validate_args=False).rsample()

    leaves = family.leaves(50)
    z = torch.compile(draw, backend="aot_eager", fullgraph=True)(*leaves.values())
    q = family.ours(**leaves)
    assert bool(q.support.check(z.detach()).all())
    assert len(z.detach().unique()) > 1
    wanted = by_parameter(q._carry(z.detach()), leaves)
    for name, found in by_parameter(z, leaves).items():
        assert torch.allclose(found, wanted[name], rtol=1e-10, atol=1e-12)


def rows(**given: Any) -> Tensor:
    """Draws of a Categorical with a table."""
    return distributions.Categorical(**given, weight=torch.eye(3).double()).rsample()


def one_hot(**given: Any) -> Tensor:
    """One-hot draws."""
    return distributions.OneHotCategorical(**given).rsample()


@pytest.mark.usefixtures("checks_off")
@pytest.mark.parametrize("by", ["probs", "logits"])
@pytest.mark.parametrize("make", [one_hot, rows])
@pytest.mark.parametrize("step", [None, 0.3])
def test_compiles_categories(make: Any, by: str, step: float | None) -> None:
    """Made inside one graph they draw, with the gradient of the operator after the same draw."""

    def draw(value: Tensor) -> Tensor:
        return make(**{by: value}, rule=rule_of({"step_size": step}), validate_args=False)

    value = normal(50, 3, seed=1)
    value = (value.softmax(-1) if by == "probs" else value).requires_grad_()
    z = torch.compile(draw, backend="aot_eager", fullgraph=True)(value)
    assert torch.equal(z.detach().sum(-1), torch.ones(50).double())
    assert len(z.detach().argmax(-1).unique()) == 3
    q = distributions.OneHotCategorical(**{by: value})
    again = ils.differentiable_draw(q.logits, z.detach(), rule=rule_of({"step_size": step}))
    g = normal(50, 3, seed=2)
    found, wanted = (torch.autograd.grad((x * g).sum(), value)[0] for x in (z, again))
    assert torch.allclose(found, wanted, rtol=1e-10, atol=1e-12)
    assert found.abs().max() > 1e-3


@pytest.mark.usefixtures("checks_off")
def test_compiles_integers_and_mixtures() -> None:
    """So do a Categorical of integers and a mixture over one, which have no class of a draw."""

    def draw(logits: Tensor) -> tuple[Tensor, Tensor]:
        q = distributions.Categorical(logits=logits, validate_args=False)
        points = distributions.Normal(torch.arange(3.0).double(), torch.ones(3).double())
        mixture = distributions.MixtureSameFamily(q, points, validate_args=False)
        return q.sample(), mixture.rsample()

    logits = normal(50, 3, seed=1).requires_grad_()
    index, z = torch.compile(draw, backend="aot_eager", fullgraph=True)(logits)
    assert sorted(index.unique().tolist()) == [0, 1, 2]
    (found,) = torch.autograd.grad((z**2).sum(), logits)
    assert bool(found.isfinite().all())
    assert found.abs().max() > 1e-3
