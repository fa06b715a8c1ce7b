"""The operator as a module."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from cases import close, generator, normal
from rules import COMBINATIONS, root, rule_of
from torch import Tensor

import ils
from ils.rules import GumbelRao, ReinMax, Step

every_combination = pytest.mark.parametrize("options", COMBINATIONS.values(), ids=COMBINATIONS)


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


@every_combination
def test_module_is_a_value(options: dict[str, Any]) -> None:
    """Copied or pickled it keeps its options; it has no parameters and no state."""
    module = ils.Sampler(dim=-2, rule=rule_of(options))
    assert not module.state_dict()
    assert not [*module.parameters(), *module.buffers()]
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert twin.rule == module.rule
        assert twin.dim == module.dim
        logits = normal(3, 4, seed=6).requires_grad_()
        z, other = (one(logits, generator=generator(7)) for one in (module, twin))
        assert torch.equal(update(z, logits), update(other, logits))


def test_options_and_their_defaults() -> None:
    """It prints all its options, and they are kept by name."""
    assert repr(ils.Sampler()) == "Sampler(rule=ReinMax(), dim=-1, argmax_in_eval=False)"
    module = ils.Sampler(rule=Step(0.5, metric=root), dim=0, argmax_in_eval=True)
    assert repr(module) == "Sampler(rule=Step(0.5, metric=root), dim=0, argmax_in_eval=True)"


@pytest.mark.parametrize("dim", [-1, 1])
def test_the_mode_at_evaluation(dim: int) -> None:
    """If it is asked for, eval() returns the likeliest category that is not masked."""
    logits = normal(6, 5, 4, seed=40).requires_grad_()
    mask = logits.detach() == logits.detach().amax(dim, keepdim=True)
    plain, sampler = ils.Sampler(dim=dim), ils.Sampler(dim=dim, argmax_in_eval=True)
    for module in (plain.eval(), sampler.train()):
        drawn = module(logits, generator=generator(41))
        assert torch.equal(drawn, ils.sample(logits, dim=dim, generator=generator(41)))
    z = sampler.eval()(logits)
    assert torch.equal(z.argmax(dim), logits.argmax(dim))
    assert torch.equal(z.sum(dim), torch.ones_like(z.sum(dim)))
    second = sampler(logits, mask, draws=3)
    assert second.shape == (3, *logits.shape)
    assert torch.equal(second[0], second[2])
    assert not second[:, mask].any()
    with pytest.raises(ValueError, match=r"logits: .* got NaN"):
        sampler(torch.full((2, 3), torch.nan))
    for module in (plain, sampler):
        with pytest.raises(ValueError, match="dim"):
            ils.Sampler(dim=3, argmax_in_eval=module is sampler).eval()(logits)
    with pytest.raises(TypeError, match="argmax_in_eval: expected a bool, got int"):
        ils.Sampler(argmax_in_eval=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("rule", [ReinMax(), GumbelRao(0.7, samples=2)], ids=repr)
def test_the_gradient_at_the_mode(dim: int, rule: Any) -> None:
    """Several draws along any axis: the gradient is that of the rule, with the noise given."""
    sampler = ils.Sampler(rule=rule, dim=dim, argmax_in_eval=True).eval()
    logits = normal(4, 2, 3, seed=60).requires_grad_()
    z = sampler(logits, draws=2, generator=generator(61))
    assert z.shape == (2, *logits.shape)
    moved = logits.detach().movedim(dim, -1).requires_grad_()
    at = z.detach().movedim(dim if dim < 0 else dim + 1, -1)
    assert torch.equal(at.argmax(-1)[0], moved.argmax(-1))
    same = ils.differentiable_draw(moved, at, rule=rule, generator=generator(61))
    weights = normal(*at.shape, seed=62)
    (wanted,) = torch.autograd.grad((same * weights).sum(), moved)
    turned = weights.movedim(-1, dim if dim < 0 else dim + 1)
    (found,) = torch.autograd.grad((z * turned).sum(), logits)
    assert close(found.movedim(dim, -1), wanted)
    bad = logits.detach().clone()
    bad.movedim(dim, -1)[..., 0, :] = -torch.inf
    with pytest.raises(ValueError, match=r"logits: .* got a row of -inf"):
        sampler(bad)
