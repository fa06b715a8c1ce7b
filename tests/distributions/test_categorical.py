"""A category as an integer, or as a row of a table."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from cases import close, generator, normal
from rules import COMBINATIONS, rule_of
from torch import Tensor
from torch.distributions import Categorical as Parent
from torch.distributions import constraints, kl_divergence

import ils
from ils.distributions import Categorical

TABLE = normal(3, 2, seed=1)
LOGITS = normal(4, 3, seed=2)


@pytest.mark.parametrize("by", ["probs", "logits"])
def test_without_a_table_it_is_the_parent(by: str) -> None:
    """Draws are integers; densities, moments and divergences are the parent's."""
    value = LOGITS.softmax(-1) if by == "probs" else LOGITS
    q, parent = Categorical(**{by: value}), Parent(**{by: value})
    assert q.has_rsample is False
    index = q.sample((5,), generator(3))
    assert torch.equal(index, ils.sample_index(q.logits, draws=5, generator=generator(3)))
    assert index.dtype == torch.int64
    assert torch.equal(q.log_prob(index), parent.log_prob(index))
    assert torch.equal(q.mode, parent.mode)
    for name in ("mean", "variance"):
        assert getattr(q, name).isnan().all()
        assert getattr(q, name).shape == getattr(parent, name).shape
    assert torch.equal(q.entropy(), parent.entropy())
    assert str(q.support) == str(parent.support)
    assert torch.equal(q.enumerate_support(), parent.enumerate_support())
    assert torch.equal(q.enumerate_support(False), parent.enumerate_support(False))
    assert repr(q) == repr(parent)
    with pytest.raises(NotImplementedError, match="rsample: expected a Categorical with a weight"):
        q.rsample()
    wide = q.expand((2, 4))
    assert type(wide) is Categorical
    assert wide.sample().shape == (2, 4)


def test_divergence_is_that_of_the_categories() -> None:
    """A table changes no entropy and no divergence."""
    plain, table = Categorical(logits=LOGITS), Categorical(logits=LOGITS, weight=TABLE)
    other = Parent(logits=normal(4, 3, seed=4))
    wanted = kl_divergence(Parent(logits=LOGITS), other)
    assert wanted.min() > 1e-3
    for q in (plain, table):
        assert torch.equal(kl_divergence(q, other), wanted)
        assert torch.equal(q.entropy(), Parent(logits=LOGITS).entropy())


LOOK_UPS = [(draws, {}) for draws in ((), (0,), (5,))]


@pytest.mark.parametrize(
    ("draws", "options"), LOOK_UPS + [((2, 3), options) for options in COMBINATIONS.values()]
)
def test_rows_are_those_of_a_look_up(draws: tuple[int, ...], options: dict[str, Any]) -> None:
    """With any rule, rows and both gradients are those of sample_index and embedding."""
    logits, table = LOGITS.clone().requires_grad_(), TABLE.clone().requires_grad_()
    q = Categorical(logits=logits, weight=table, rule=rule_of(options))
    assert q.has_rsample is True
    assert q.event_shape == (2,)
    state = torch.get_rng_state()
    z = q.rsample(draws, generator(5))
    plain = q.sample(draws, generator(5))
    assert torch.equal(torch.get_rng_state(), state)
    assert z.shape == (*draws, 4, 2)
    assert torch.equal(z, plain)
    assert not plain.requires_grad
    index = ils.sample_index(q.logits, draws=draws, generator=generator(5))
    wanted = ils.embedding(index, table, q.logits, rule=rule_of(options))
    assert torch.equal(z, wanted)
    g = normal(*z.shape, seed=6)
    found, other = (
        torch.autograd.grad((x**2 * g).sum(), [logits, table], retain_graph=True)
        for x in (z, wanted)
    )
    for one, two in zip(found, other, strict=True):
        assert torch.equal(one, two)
        assert bool(one.any()) is (z.numel() > 0)


def test_density_of_rows() -> None:
    """Rows have the log-probability of their category, and so have integers."""
    q = Categorical(logits=LOGITS, weight=TABLE)
    index = torch.arange(3)[:, None].expand(3, 4)
    wanted = Parent(logits=LOGITS).log_prob(index)
    assert close(q.log_prob(index), wanted, 1e-15)
    assert close(q.log_prob(TABLE[index]), wanted, 1e-15)
    assert q.log_prob(TABLE[0]).shape == (4,)
    logits = LOGITS.clone().requires_grad_()
    values = Categorical(logits=logits, weight=TABLE).log_prob(TABLE[index])
    (found,) = torch.autograd.grad(values[1].sum(), logits)
    assert close(found, torch.eye(3).double()[1] - LOGITS.softmax(-1))


def test_density_of_equal_rows() -> None:
    """Where rows are equal the probabilities add up, and the parts sum to one."""
    table = TABLE[[0, 1, 0]]
    q = Categorical(logits=LOGITS, weight=table)
    probs = LOGITS.softmax(-1)
    assert close(q.log_prob(table[0]).exp(), probs[:, 0] + probs[:, 2])
    assert close(q.log_prob(table[1]).exp() + q.log_prob(table[2]).exp(), torch.ones(4).double())


def test_density_of_no_row() -> None:
    """What is no row is refused, or impossible where values are not checked."""
    for bad in (TABLE[0] + 1e-9, torch.stack([TABLE[0], torch.zeros(2).double()]).mean(0)):
        with pytest.raises(ValueError, match="value: expected rows of the weight, got others"):
            Categorical(logits=LOGITS, weight=TABLE, validate_args=True).log_prob(bad)
        with pytest.raises(ValueError, match="value: expected rows"):  # among good ones too
            Categorical(logits=LOGITS, weight=TABLE, validate_args=True).log_prob(
                torch.stack([TABLE[1], bad])[:, None]
            )
        loose = Categorical(logits=LOGITS, weight=TABLE, validate_args=False)
        assert loose.log_prob(bad).isneginf().all()
        with pytest.raises((IndexError, RuntimeError)):
            loose.log_prob(torch.tensor(7))
    for weight in (None, TABLE):
        with pytest.raises(ValueError, match="support"):
            Categorical(logits=LOGITS, weight=weight, validate_args=True).log_prob(torch.tensor(3))


def test_moments() -> None:
    """Mean, variance and mode of a row are sums over all rows, weighted."""
    logits, table = LOGITS.clone().requires_grad_(), TABLE.clone().requires_grad_()
    q = Categorical(logits=logits, weight=table)
    probs = LOGITS.softmax(-1)
    mean = (probs[..., None] * TABLE).sum(1)
    assert close(q.mean, mean)
    assert close(q.variance, (probs[..., None] * (TABLE - mean[:, None]) ** 2).sum(1))
    assert torch.equal(q.mode, TABLE[probs.argmax(-1)])
    for leaf in (logits, table):
        assert torch.autograd.grad(q.mean.sum(), leaf, retain_graph=True)[0].abs().max() > 0.01
    assert q.support is constraints.real_vector
    assert bool(q.support.check(q.sample()).all())


def test_enumerate_support() -> None:
    """All rows come along a new first axis, and their densities sum to one."""
    q = Categorical(logits=LOGITS, weight=TABLE)
    assert q.has_enumerate_support
    rows = q.enumerate_support()
    assert rows.shape == (3, 4, 2)
    assert close(q.log_prob(rows).exp().sum(0), torch.ones(4).double())
    assert torch.equal(q.enumerate_support(False), TABLE[:, None])


def test_expand_and_copies() -> None:
    """Expanded or copied it keeps the table and the rule, and trains the original."""
    logits, table = LOGITS.clone().requires_grad_(), TABLE.clone().requires_grad_()
    options: dict[str, Any] = {"step_size": 0.2, "metric": ils.metric.euclidean}
    q = Categorical(logits=logits, weight=table, rule=rule_of(options))
    wide = q.expand((5, 4))
    assert type(wide) is Categorical
    assert (wide.batch_shape, wide.event_shape) == ((5, 4), (2,))
    assert wide.weight is table
    z = wide.rsample((2,), generator(8))
    wanted = Categorical(logits=logits.expand(5, 4, 3), weight=table, rule=rule_of(options))
    wanted = wanted.rsample((2,), generator(8))
    assert torch.equal(z, wanted)
    g = normal(*z.shape, seed=9)
    for leaf in (logits, table):
        found, other = (
            torch.autograd.grad((x**2 * g).sum(), leaf, retain_graph=True)[0] for x in (z, wanted)
        )
        assert close(found, other, 1e-11)
        assert found.abs().max() > 0.01
    assert wide.log_prob(z.detach()).shape == (2, 5, 4)
    fixed = Categorical(logits=LOGITS, weight=TABLE, rule=rule_of(options))
    for twin in (copy.deepcopy(fixed), pickle.loads(pickle.dumps(fixed))):
        assert torch.equal(twin.rsample((3,), generator(8)), fixed.rsample((3,), generator(8)))
        assert twin._rule == fixed._rule


def test_refusals() -> None:
    """Tables of another height or type, integers and bad options are refused by name."""
    for weight, error, message in (
        (torch.zeros(4, 2), ValueError, r"weight: expected shape \(3, D\), got \(4, 2\)"),
        (torch.zeros(3), ValueError, r"weight: expected shape \(3, D\), got \(3,\)"),
        (torch.zeros(3, 2).long(), TypeError, r"weight: .* got torch\.int64"),
        ([[1.0], [2.0], [3.0]], TypeError, "weight: .* got list"),
    ):
        with pytest.raises(error, match=message):
            Categorical(logits=LOGITS, weight=weight)
    for name in ("probs", "logits"):
        with pytest.raises(TypeError, match=rf"{name}: .* got torch\.int64"):
            Categorical(**{name: torch.ones(3).long()})
    with pytest.raises(TypeError, match="rule"):
        Categorical(logits=LOGITS, weight=TABLE, rule="Step")
    logits = LOGITS.clone().requires_grad_()
    z = Categorical(logits=logits, weight=TABLE).rsample()
    (first,) = torch.autograd.grad((z**2).sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="derivative"):
        torch.autograd.grad(first.sum(), logits)


def test_a_normaliser_of_ones_own_is_tried() -> None:
    """One that moves one-hot vectors is refused before anything is drawn."""
    with pytest.raises(ValueError, match="normalizer"):
        Categorical(
            logits=torch.zeros(3), rule=ils.rules.Step(0.1, normalizer=lambda x: x.softmax(-1))
        )


@pytest.mark.parametrize(
    "name",
    [
        *("Categorical", "OneHotCategorical"),
        *("Bernoulli", "Binomial", "Geometric", "NegativeBinomial"),
    ],
)
def test_subclass_with_arguments_of_its_own(name: str) -> None:
    """The pattern of torch.distributions: a subclass hands the instance it made to ``expand``."""
    parent: Any = getattr(ils.distributions, name)
    count = (3.0,) if "inomial" in name else ()

    class Own(parent):
        def __init__(self, half: Tensor) -> None:
            super().__init__(*count, probs=half / 2)

        def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
            new = self._get_checked_instance(Own, _instance)
            return super().expand(batch_shape, _instance=new)

    half = torch.tensor([0.5, 1.5]) if "Cat" in name else torch.tensor(0.5)
    q = Own(half).expand((4,))
    assert type(q) is Own
    assert torch.equal(q.probs, (half / 2).expand(4, *half.shape))
    with pytest.raises(NotImplementedError):
        parent.expand(Own(half), (4,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_variance_of_equal_rows(dtype: torch.dtype) -> None:
    """Equal rows far from zero have the deviation zero, and rows nearly equal their own."""
    table = torch.full((7, 1), 1000.1, dtype=dtype)
    q = Categorical(logits=torch.zeros(7, dtype=dtype), weight=table)
    assert float(q.stddev) == 0
    step = torch.finfo(dtype).eps * 1024
    table = table + torch.arange(7, dtype=dtype)[:, None] * step
    for law in (torch.zeros(7), torch.linspace(-1, 1, 7)):
        q = Categorical(logits=law.to(dtype), weight=table)
        p, rows = q.probs.double(), table.double()[:, 0]
        wanted = (p * (rows - p @ rows / p.sum()) ** 2).sum()
        assert q.variance.dtype == dtype
        assert torch.allclose(q.variance.double(), wanted, rtol=8 * torch.finfo(dtype).eps)


def test_a_table_is_of_the_instance() -> None:
    """One instance with a table changes neither the class nor its other instances."""
    rows, plain = Categorical(logits=LOGITS, weight=TABLE), Categorical(logits=LOGITS)
    assert rows.has_rsample is rows.expand((2, 4)).has_rsample is True
    assert plain.has_rsample is plain.expand((2, 4)).has_rsample is Categorical.has_rsample is False
    for q in (rows, plain):
        for twin in (copy.copy(q), copy.deepcopy(q), pickle.loads(pickle.dumps(q))):
            assert twin.has_rsample is q.has_rsample
            assert str(twin.support) == str(q.support)


@pytest.mark.parametrize("kind", [Categorical, ils.distributions.OneHotCategorical])
def test_lazy_attributes(kind: Any) -> None:
    """Of probs and logits the one that was not given is made when it is asked for."""
    for given, other in (("probs", "logits"), ("logits", "probs")):
        # Where arguments are checked, the parent of the one-hot class makes both.
        q = kind(**{given: LOGITS.softmax(-1)}, validate_args=kind is Categorical)
        inner = getattr(q, "_categorical", q)
        q.sample((2,), generator(1))
        assert other not in inner.__dict__
        assert torch.equal(getattr(q, other), getattr(Parent(**{given: LOGITS.softmax(-1)}), other))
        assert other in inner.__dict__
        wide = q.expand((5, 4))
        assert other not in getattr(wide, "_categorical", wide).__dict__
        assert hash(q) != hash(wide)


def test_the_generator_serves_the_noise_of_the_rule_too() -> None:
    """With a rule that draws, one generator gives one gradient, whatever PyTorch's own does."""

    def gradient(seed: int) -> Tensor:
        torch.manual_seed(seed)
        logits = LOGITS.clone().requires_grad_()
        q = Categorical(logits=logits, weight=TABLE, rule=ils.rules.GumbelRao(0.5))
        rows = q.rsample((2,), generator(5))
        return torch.autograd.grad((rows**2).sum(), logits)[0]

    with torch.random.fork_rng(devices=[]):
        assert torch.equal(gradient(1), gradient(2))
        assert gradient(1).abs().max() > 0
