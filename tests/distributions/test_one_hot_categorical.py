"""The operator as a distribution, OneHotCategorical."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import close, generator, normal
from rules import COMBINATIONS, RULES, rule_of
from torch import Tensor
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


def test_masks_of_a_distribution() -> None:
    """-inf among the logits, or zero among the probabilities, is a category never drawn."""
    probs = torch.tensor([0.5, 0.0, 0.25, 0.25]).double()
    for q in (OneHotCategorical(logits=probs.log(), validate_args=False), OneHotCategorical(probs)):
        assert not q.rsample(torch.Size([500]))[:, 1].any()


def test_expand_keeps_the_options() -> None:
    """An expanded distribution draws and differentiates by the same rule."""
    for options in RULES.values():
        logits = normal(3, seed=16).log_softmax(-1).requires_grad_()
        q, rule = OneHotCategorical(logits=logits, rule=rule_of(options)), rule_of(options)
        for wide in (q.expand((5, 4)), q.expand(torch.Size([5, 4]))):
            assert type(wide) is OneHotCategorical
            assert wide.batch_shape == (5, 4)
            assert wide._rule == rule
            z = wide.rsample(generator=generator(17))
            wanted = ils.sample(logits.expand(5, 4, 3), generator=generator(17), rule=rule)
            assert torch.equal(z, wanted)
            assert close(update(z, logits), update(wanted, logits), 1e-11)
    blank = OneHotCategorical.__new__(OneHotCategorical)
    assert q.expand((4, 2), blank) is blank
    assert blank._rule == rule


def test_arguments_are_checked() -> None:
    """Integers and what is no tensor are refused by name."""
    for name in ("probs", "logits"):
        with pytest.raises(TypeError, match=rf"^{name}: .* got torch\.int64; {name}\.float\(\)$"):
            OneHotCategorical(**{name: torch.ones(2, 3).long()})
        with pytest.raises(TypeError, match=f"^{name}: expected a"):
            OneHotCategorical(**{name: [0.5, 0.5]})
