"""ils.rules and ils.fast: the formulas of the backward pass, for every rule and option."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest
import torch
from cases import close, distribution, needs_no_defaults, normal
from rules import COMBINATIONS, OTHERS, RULES, leaky, root, rule_of, update_by_hand
from torch import Tensor

import ils
from ils import autograd, fast, kernel
from ils.fast import estimate, form_of
from ils.metric import euclidean, fisher
from ils.rules import Limit, ReinMax, Step

K = 5


def both_ways(names: Iterable[str]) -> Callable[[Any], Any]:
    """Marks a test of rules by name: by the fast forms, where there are any, and plainly."""
    by_name = pytest.mark.parametrize("name", [*names])
    return lambda test: pytest.mark.usefixtures("way")(by_name(test))


each_rule = both_ways(RULES)
every_combination = both_ways(COMBINATIONS)
each_fast = both_ways(n for n, o in COMBINATIONS.items() if fast.form_of(rule_of(o)) is not None)
each_relative = both_ways(n for n, o in COMBINATIONS.items() if o["relative"])


def corners(rows: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Every draw for each of some rows: drawn categories, gradients, and distributions."""
    at = torch.arange(K).repeat(rows).unsqueeze(-1)
    probs = distribution(rows, K, seed=seed).repeat_interleave(K, 0)
    return at, normal(rows * K, K, seed=seed + 1), probs


def alike(found: Tensor, wanted: Tensor) -> bool:
    """Whether two updates agree to 1e-12 of their size: unclamped ones can be large."""
    size = max(1.0, float(wanted.abs().max()))
    return close(found, wanted, 1e-12 * size)


WAYS = {"plain": False}


@pytest.fixture(params=["fast", "plain"])
def way(request: pytest.FixtureRequest) -> None:
    """The fast forms, where there are any, or the plain formulas."""
    WAYS["plain"] = request.param == "plain"


def update(rule: Any, grad: Tensor, at: Tensor, probs: Tensor, mask: Any = None, **how: Any) -> Any:
    """The estimate; what it changes of its arguments is not the caller's."""
    form = None if WAYS["plain"] else fast.form_of(rule)
    if form is not None:
        return fast.estimate(form, grad.clone(), at, probs, mask, **how)
    logits = probs.log() if mask is None else probs.log().masked_fill(mask, -torch.inf)
    return autograd._plain(rule, grad.clone(), at, logits, None, how.get("look", False))


def run(name: str, grad: Tensor, at: Tensor, probs: Tensor, mask: Any = None, **how: Any) -> Tensor:
    """The estimate of a choice of options."""
    return update(rule_of(COMBINATIONS[name]), grad, at, probs, mask, **how)


@every_combination
def test_formula_by_hand(name: str) -> None:
    """Each estimate is the formula with a matrix for each map, row by row."""
    at, grad, probs = corners(2, seed=1)
    found = run(name, grad, at, probs)
    everywhere = torch.ones(K, dtype=torch.bool)
    for i in range(len(at)):
        wanted = update_by_hand(COMBINATIONS[name], grad[i], int(at[i]), probs[i], everywhere)
        assert close(found[i], wanted), i
    assert found.abs().max() > 0.03


@each_fast
def test_looking_at_values_changes_nothing(name: str) -> None:
    """The shorter way of eager code gives what the careful one gives."""
    at, grad, probs = corners(8, seed=5)
    assert torch.equal(
        run(name, grad, at, probs, look=True), run(name, grad, at, probs, look=False)
    )


@each_fast
def test_probabilities_and_masks_that_are_not_needed(name: str) -> None:
    """A rule that says it does without probabilities or a mask gives the same without them."""
    form = fast.form_of(rule_of(COMBINATIONS[name]))
    assert form is not None
    at, grad, probs = corners(8, seed=7)
    wanted = run(name, grad, at, probs)
    if form.needs_probs():
        other = run(name, grad, at, distribution(len(at), K, seed=9))
        assert (other - wanted).abs().max() > 1e-3
    else:
        assert close(fast.estimate(form, grad.clone(), at, None, None), wanted)
    if not form.needs_mask():
        mask = torch.zeros_like(probs, dtype=torch.bool)
        mask[:, 2] = at.squeeze(-1) != 2
        absent = probs.masked_fill(mask, 0)
        absent = absent / absent.sum(-1, keepdim=True)
        assert close(run(name, grad, at, absent), run(name, grad, at, absent, mask))


@each_rule
def test_masked_categories(name: str) -> None:
    """Whatever arrives at a masked category, its update is zero, and the others do without it."""
    options = COMBINATIONS[name]
    kept = torch.tensor([True, False, True, True, False])
    places = kept.nonzero().squeeze(-1)
    at = places.repeat(4).unsqueeze(-1)
    probs = distribution(len(at), K, seed=11).masked_fill(~kept, 0)
    probs = probs / probs.sum(-1, keepdim=True)
    grad = normal(len(at), K, seed=12)
    wanted = torch.stack(
        [update_by_hand(options, grad[i], int(at[i]), probs[i], kept) for i in range(len(at))]
    )
    form = fast.form_of(rule_of(options))
    mask = (~kept).expand(len(at), K) if form is None or form.needs_mask() else None
    for poison in (0.0, 1e300, torch.inf, -torch.inf, torch.nan):
        grad[:, ~kept] = poison
        for look in (False, True):
            found = run(name, grad, at, probs, mask, look=look)
            assert torch.equal(found[:, ~kept], torch.zeros(len(at), 2, dtype=torch.float64))
            assert close(found, wanted), (poison, look)


@each_relative
def test_homogeneous_in_the_gradient(name: str) -> None:
    """A factor on the gradient is a factor on the update: to the bit for a power of two."""
    at, grad, probs = corners(8, seed=15)
    one = run(name, grad, at, probs)
    for factor in (2.0**-300, 0.25, 2.0, 2.0**16, 2.0**300):
        assert torch.equal(run(name, factor * grad, at, probs), factor * one), factor
    for factor in (1e-6, 3.0, 1e6, 1e100):
        assert alike(run(name, factor * grad, at, probs) / factor, one), factor
    rows = normal(len(at), 1, seed=17).exp()
    assert alike(run(name, rows * grad, at, probs), rows * one)


@each_relative
def test_no_gradient_no_update(name: str) -> None:
    """A gradient that prefers no category gives exactly zero, and no division by zero."""
    at, grad, probs = corners(2, seed=19)
    for value in (0.0, -3.0):
        found = run(name, torch.full_like(grad, value), at, probs)
        assert close(
            found, torch.zeros_like(found), 0.0 if value == 0 else 1e-14 if WAYS["plain"] else 1e-15
        )


@each_rule
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_extremes_of_the_gradient(name: str, dtype: torch.dtype) -> None:
    """Subnormal and huge gradients give finite updates, not larger than themselves."""
    at, grad, probs = corners(8, seed=29)
    grad, probs = grad.to(dtype), probs.to(dtype)
    info = torch.finfo(dtype)
    sizes = [info.smallest_normal * 2**-10, info.smallest_normal, info.max * 2**-8]
    unclamped = COMBINATIONS[name]["normalizer"] is ils.sum_normalize_unclamped
    if unclamped and not COMBINATIONS[name]["relative"]:
        sizes.pop()  # a huge step can have the sum zero, which the note's own form divides by
    for size in sizes:
        found = run(name, grad * size, at, probs)
        assert found.isfinite().all(), size
        if COMBINATIONS[name]["relative"]:
            most = 2 * K * (grad * size).abs().max()
            assert unclamped or found.abs().max() <= most


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("metric", [fisher, euclidean, root])
@pytest.mark.parametrize(
    "rule",
    [Limit, partial(Step, 1e-7), partial(Step, 1e-7, normalizer=ils.sum_normalize_unclamped)],
)
def test_clamped_and_limit_have_the_exact_mean(rule: Any, metric: Any) -> None:
    """For a linear loss, in the Fisher metric alone; unclamped, the relative rule has it twice.

    With the metric diag(w) the limit gives sum_i (w_k pi_i + w_i pi_k) (g_k - g_i) / 2, the clamped
    relative rule the flow pi_i w_k (g_i - g_k)_+ from each i to each k.
    """
    probs, slope = distribution(3, K, seed=60), normal(3, K, seed=61)
    at = torch.arange(K).expand(3, K).unsqueeze(-1)
    grad = slope.unsqueeze(1).repeat(1, K, 1)
    each = update(rule(metric=metric), grad, at, probs.unsqueeze(1).expand_as(grad))
    mean = (probs.unsqueeze(-1) * each).sum(1)
    exact = probs * (slope - (probs * slope).sum(-1, keepdim=True))

    # From each i, the second axis, to each k, the last.
    flow = probs.unsqueeze(-1) * metric(torch.ones_like(probs), probs).unsqueeze(1)
    flow = flow * (slope.unsqueeze(-1) - slope.unsqueeze(1))
    if rule is Limit:
        flow, times = flow / 2, 1
    elif "normalizer" in rule.keywords:
        times = 2
    else:
        flow, times = flow.clamp(min=0), 1
    tolerance = 1e-12 if rule is Limit else 1e-5
    assert close(mean, flow.sum(2) - flow.sum(1), tolerance)
    assert close(mean, times * exact, tolerance) == (metric is fisher)
    assert exact.abs().max() > 0.1


@pytest.mark.parametrize("name", RULES)
def test_estimates_on_the_device_of_the_gradient(name: str) -> None:
    """The formulas themselves, which a backward pass would call where no default reaches them."""
    rule = rule_of(RULES[name])
    form = form_of(rule)
    grad, logits = normal(3, 5, seed=1).float(), normal(3, 5, seed=2).float()
    logits[0, 1] = -torch.inf
    at, probs, mask = torch.tensor([[0], [2], [4]]), logits.softmax(-1), logits.isneginf()
    z = torch.eye(5)[at.squeeze(-1)]

    def found() -> list[Tensor]:
        plain = [rule.gradient(grad, z, logits, None)]
        return plain if form is None else [*plain, estimate(form, grad.clone(), at, probs, mask)]

    assert needs_no_defaults(found)


@pytest.mark.parametrize("name", RULES)
def test_what_the_kernel_is_told(name: str) -> None:
    """The rules that the compiled kernel knows, in its own terms; the others are not for it."""
    options = RULES[name]
    weighted, relative = options["metric"] is fisher, options["relative"]
    expected = None
    if options["step_size"] is None:
        expected = (kernel.FISHER_LIMIT, 0.0, True, False, True) if weighted else None
    elif options["keep_mass"]:
        pass
    elif options["normalizer"] is ils.sum_normalize:
        expected = (kernel.SUM_NORMALIZED, 0.4, weighted, relative, options["centred"])
    elif options["normalizer"] is ils.project_simplex and not weighted and not relative:
        expected = (kernel.PROJECTED, 0.4, False, False, options["centred"])
    assert form_of(rule_of(options)) == expected
    for other in ({"metric": root}, {"keep_mass": True}, {"normalizer": leaky}):
        step = {} if options["step_size"] else {"step_size": 0.4}
        assert form_of(rule_of({**options, **step, **other})) is None


def test_what_has_no_fast_form() -> None:
    """ReinMax at another temperature, and subclasses, which may have another formula."""

    class Mine(Step):
        pass

    assert form_of(Step(0.5)) is not None
    for rule in (Mine(0.5), ReinMax(1.5), *OTHERS.values()):
        assert form_of(rule) is None
