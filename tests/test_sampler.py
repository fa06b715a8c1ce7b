"""The operator as a module and as a distribution."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from cases import close, generator, normal
from rules import COMBINATIONS, RULES, leaky, root, rule_of
from torch import Tensor, nn
from torch.distributions import Independent, constraints, kl_divergence
from torch.distributions import OneHotCategorical as Parent

import ils
from ils.distributions import OneHotCategorical

every_combination = pytest.mark.parametrize("options", COMBINATIONS.values(), ids=COMBINATIONS)
each_rule = pytest.mark.parametrize("options", RULES.values(), ids=RULES)


def update(z: Tensor, leaf: Tensor) -> Tensor:
    """Gradient for a leaf of a cubic loss of a draw."""
    weights = normal(*z.shape, seed=1)
    return torch.autograd.grad(((z - 0.3) ** 3 * weights).sum(), leaf, retain_graph=True)[0]


@every_combination
def test_module_is_the_function(options: dict[str, Any]) -> None:
    """The module draws and differentiates as the function does with the same options."""
    logits = normal(5, 4, 3, seed=2).requires_grad_()
    mask = torch.tensor([False, True, False, False])
    module = ils.Sampler(dim=1, rule=rule_of(options))
    for mode in (module.train, module.eval):
        z = mode()(logits, mask[:, None], generator=generator(3), draws=2)
        wanted = ils.sample(
            logits,
            dim=1,
            mask=mask[:, None],
            generator=generator(3),
            draws=2,
            rule=rule_of(options),
        )
        assert torch.equal(z, wanted)
        assert torch.equal(update(z, logits), update(wanted, logits))


def test_module_within_sequential() -> None:
    """In a sequence of layers it draws from the logits before it and trains them."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), ils.Sampler(), nn.Linear(4, 1)).double()
    data = normal(50, 3, seed=4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        out = model(data)
        torch.manual_seed(5)
        z = ils.sample(model[1](model[0](data)))
    assert torch.equal(out, model[3](z))
    out.pow(2).sum().backward()
    (wanted,) = torch.autograd.grad(model[3](z).pow(2).sum(), model[0].weight)
    assert close(model[0].weight.grad, wanted)
    assert wanted.abs().max() > 0.01


@every_combination
def test_module_is_a_value(options: dict[str, Any]) -> None:
    """Copied or pickled it keeps its options; it has no parameters and no state; it prints them."""
    module = ils.Sampler(dim=-2, rule=rule_of(options))
    assert not module.state_dict()
    assert not [*module.parameters(), *module.buffers()]
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert twin.rule == module.rule
        assert twin.dim == module.dim
        logits = normal(3, 4, seed=6).requires_grad_()
        z, other = (one(logits, generator=generator(7)) for one in (module, twin))
        assert torch.equal(update(z, logits), update(other, logits))
    assert f"rule={module.rule!r}" in repr(module)
    assert "dim=-2" in repr(module)


def test_module_with_a_normaliser_object() -> None:
    """A Normalizer of one's own is copied and pickled along, value and Jacobian."""
    own = ils.Normalizer("own", leaky, root)
    module = ils.Sampler(rule=ils.rules.Step(0.3, normalizer=own))
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert twin.rule.normalizer.h is leaky
        assert twin.rule.normalizer.vjp is root
        assert repr(twin) == repr(module)


def test_module_loads_into_a_larger_model() -> None:
    """A checkpoint of a model without the module's name fits one with it, strictly."""
    one = nn.Sequential(nn.Linear(3, 4), nn.Identity())
    two = nn.Sequential(nn.Linear(3, 4), ils.Sampler())
    two.load_state_dict(one.state_dict(), strict=True)
    assert torch.equal(one[0].weight, two[0].weight)


@every_combination
@pytest.mark.parametrize("shape", [(), (5,), (2, 3)], ids=str)
def test_rsample_is_the_function(options: dict[str, Any], shape: tuple[int, ...]) -> None:
    """rsample draws and differentiates as the function does; sample draws the same, without."""
    logits = normal(4, 3, seed=8).log_softmax(-1).requires_grad_()
    q = OneHotCategorical(logits=logits, rule=rule_of(options))
    assert q.has_rsample
    z = q.rsample(torch.Size(shape), generator(9))
    assert z.shape == (*shape, 4, 3)
    wanted = ils.sample(q.logits, draws=shape, generator=generator(9), rule=rule_of(options))
    assert torch.equal(z, wanted)
    assert torch.equal(update(z, logits), update(wanted, logits))
    plain = q.sample(torch.Size(shape), generator(9))
    assert torch.equal(plain, z)
    assert not plain.requires_grad


@each_rule
def test_normalising_the_logits_changes_no_gradient(options: dict[str, Any]) -> None:
    """The parent subtracts log-sum-exp from the logits; a centred update does not notice."""
    raw = (normal(4, 3, seed=10) + 5).requires_grad_()
    q = OneHotCategorical(logits=raw, rule=rule_of(options))
    hard = q.sample(generator=generator(11))
    found = update(ils.differentiable_draw(q.logits, hard, rule=rule_of(options)), raw)
    wanted = update(ils.differentiable_draw(raw, hard, rule=rule_of(options)), raw)
    assert close(found, wanted, 1e-12 * (1 + float(wanted.abs().max())))
    assert torch.equal(update(q.rsample(generator=generator(11)), raw), found)


def test_gradient_for_probabilities() -> None:
    """With probs the gradient goes through the logarithm, by the chain rule."""
    probs = normal(4, 3, seed=12).softmax(-1).requires_grad_()
    q = OneHotCategorical(probs=probs)
    z = q.rsample(generator=generator(13))
    leaf = probs.detach().log().requires_grad_()
    same = ils.differentiable_draw(leaf, z.detach())
    # The update sums to zero: the parent's normalisation of probs adds nothing to it.
    wanted = update(same, leaf) / probs.detach()
    assert close(update(z, probs), wanted, 1e-11)


@pytest.mark.parametrize("by", ["probs", "logits"])
def test_everything_else_is_the_parents(by: str) -> None:
    """Densities, entropies, moments, supports and divergences are those of the parent."""
    first, second = normal(4, 3, seed=14), normal(4, 3, seed=15)
    values = [x.softmax(-1) if by == "probs" else x for x in (first, second)]
    ours, other = (OneHotCategorical(**{by: value}) for value in values)
    parent, parent_other = (Parent(**{by: value}) for value in values)
    z = parent.sample(torch.Size([6]))
    assert torch.equal(ours.log_prob(z), parent.log_prob(z))
    for name in ("mean", "mode", "variance", "probs", "logits", "param_shape", "batch_shape"):
        found, wanted = getattr(ours, name), getattr(parent, name)
        assert torch.equal(found, wanted) if isinstance(found, Tensor) else found == wanted
    assert torch.equal(ours.entropy(), parent.entropy())
    assert torch.equal(ours.enumerate_support(), parent.enumerate_support())
    assert ours.support is constraints.one_hot
    wanted = kl_divergence(parent, parent_other)
    assert wanted.min() > 0.01
    for p, q in ((ours, other), (ours, parent_other), (parent, other)):
        assert torch.equal(kl_divergence(p, q), wanted)


def test_expand_keeps_the_options() -> None:
    """An expanded distribution draws and differentiates by the same rule."""
    for options in RULES.values():
        logits = normal(3, seed=16).log_softmax(-1).requires_grad_()
        q = OneHotCategorical(logits=logits, rule=rule_of(options)).expand([5, 4])
        assert isinstance(q, OneHotCategorical)
        assert q.batch_shape == (5, 4)
        z = q.rsample(generator=generator(17))
        wanted = ils.sample(logits.expand(5, 4, 3), generator=generator(17), rule=rule_of(options))
        assert torch.equal(z, wanted)
        assert close(update(z, logits), update(wanted, logits), 1e-11)


def test_independent() -> None:
    """Independent takes variables of a row as one event, and lets the gradient through."""
    logits = normal(5, 4, 3, seed=18).requires_grad_()
    q = Independent(OneHotCategorical(logits=logits), 1)
    assert q.has_rsample
    assert q.event_shape == (4, 3)
    z = q.rsample(torch.Size([2]))
    assert z.shape == (2, 5, 4, 3)
    assert q.log_prob(z.detach()).shape == (2, 5)
    assert update(z, logits).abs().max() > 0.01
    p = Independent(Parent(logits=torch.zeros(5, 4, 3).double()), 1)
    assert kl_divergence(q, p).shape == (5,)


def test_density_at_a_draw() -> None:
    """log_prob of a draw has both paths, that of its parameters and that through the draw."""
    logits = normal(5, 4, seed=19).requires_grad_()
    q = OneHotCategorical(logits=logits)
    z = q.rsample(generator=generator(20))
    leaf = logits.detach().requires_grad_()
    scores = leaf.log_softmax(-1)
    hard = ils.differentiable_draw(leaf, z.detach())
    (direct,) = torch.autograd.grad((scores * z.detach()).sum(), leaf, retain_graph=True)
    (through,) = torch.autograd.grad((scores.detach() * hard).sum(), leaf)
    assert torch.equal(q.log_prob(z), Parent(logits=logits).log_prob(z))
    (found,) = torch.autograd.grad(q.log_prob(z).sum(), logits)
    assert close(found, direct + through)
    assert through.abs().max() > 0.01


def test_density_of_a_masked_category() -> None:
    """A category that cannot be drawn has the log-probability -inf, and makes no NaN elsewhere."""
    logits = torch.tensor([0.0, -torch.inf, 1.0], dtype=torch.float64, requires_grad=True)
    found = OneHotCategorical(logits=logits).log_prob(torch.eye(3).double())
    assert torch.equal(found, Parent(logits=logits).log_prob(torch.eye(3).double()))
    assert found.isneginf().tolist() == [False, True, False]
    (gradient,) = torch.autograd.grad(found[[0, 2]].sum(), logits)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("validate_args", [True, False])
def test_validate_args(validate_args: bool) -> None:
    """Arguments and values are checked as the parent's are, if they are."""
    half = torch.tensor([0.5, 0.5])
    if validate_args:
        with pytest.raises(ValueError, match="Simplex"):
            OneHotCategorical(probs=torch.tensor([-0.5, 1.5]), validate_args=True)
        with pytest.raises(ValueError, match="OneHot"):
            OneHotCategorical(probs=half, validate_args=True).log_prob(half)
    else:
        OneHotCategorical(probs=half, validate_args=False).log_prob(half)


def test_bad_arguments() -> None:
    """Neither, both, integers and lists are refused."""
    for arguments in ({}, {"probs": torch.ones(2), "logits": torch.ones(2)}):
        with pytest.raises(ValueError, match="Either `probs` or `logits`"):
            OneHotCategorical(**arguments)
    for value in (torch.ones(2).long(), [0.5, 0.5]):
        with pytest.raises(TypeError, match="logits: expected a"):
            OneHotCategorical(logits=value)


def test_masks_of_a_distribution() -> None:
    """-inf among the logits, or zero among the probabilities, is a category never drawn."""
    probs = torch.tensor([0.5, 0.0, 0.25, 0.25]).double()
    for q in (OneHotCategorical(logits=probs.log(), validate_args=False), OneHotCategorical(probs)):
        assert not q.rsample(torch.Size([500]))[:, 1].any()
