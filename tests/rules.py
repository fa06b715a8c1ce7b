"""The rules of the gradient: every combination of options, and plain formulas of them."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from cases import eye
from torch import Tensor

import ils
from ils.metric import euclidean, fisher
from ils.rules import Limit, Note, ReinMax, Rule, Step

NORMALIZERS = [ils.sum_normalize, ils.sum_normalize_unclamped, ils.project_simplex]


def leaky(x: Tensor) -> Tensor:
    """A normaliser of one's own: neither smooth nor one of the given ones."""
    x = x.masked_fill(x.isneginf(), 0)  # masked
    weights = torch.where(x > 0, x, -0.125 * x)
    return weights / weights.sum(-1, keepdim=True)


def root(delta: Tensor, probs: Tensor) -> Tensor:
    """A metric of one's own, between the given ones."""
    return probs.sqrt() * delta


def name_of(options: dict[str, Any]) -> str:
    """A readable name of a choice of options."""
    parts = [f"{options['step_size']}", options["metric"].__name__, options["normalizer"].__name__]
    parts += ["" if options["centred"] else "noisy", "relative" if options["relative"] else ""]
    return "-".join(part for part in [*parts, "mass" if options["keep_mass"] else ""] if part)


def _combinations() -> dict[str, dict[str, Any]]:
    """Every combination of options of the rules with a step and of their limit, by name."""
    found = {}
    for step_size, metric, normalizer, centred, relative, keep_mass in itertools.product(
        (None, 0.4), (fisher, euclidean, root), (*NORMALIZERS, leaky), *[(True, False)] * 3
    ):
        if not centred and (relative or step_size is None):
            continue
        if step_size is None and (
            # The limit is one, whatever these say.
            normalizer is not ils.sum_normalize or keep_mass or not relative
        ):
            continue
        options = {
            "step_size": step_size,
            "metric": metric,
            "normalizer": normalizer,
            "centred": centred,
            "relative": relative,
            "keep_mass": keep_mass,
        }
        found[name_of(options)] = options
    return found


COMBINATIONS = _combinations()
# One of each way through the code.
RULES = {
    name: options
    for name, options in COMBINATIONS.items()
    if options["metric"] is not root and options["normalizer"] is not leaky
}


def rule_of(options: dict[str, Any]) -> Rule:
    """The rule of a choice of options; the first is the default of :func:`ils.sample`."""
    step_size, metric = options.get("step_size"), options.get("metric", fisher)
    if step_size is None:
        return ReinMax() if metric is fisher else Limit(metric)
    shared = {name: options[name] for name in ("normalizer", "keep_mass") if name in options}
    if options.get("relative", True):
        return Step(step_size, metric=metric, **shared)
    return Note(step_size, metric=metric, centred=options.get("centred", True), **shared)


# The rules of another formula than that of a step.
OTHERS: dict[str, Rule] = {
    repr(rule): rule
    for rule in (
        ils.rules.ReinMax(1.5),
        ils.rules.ReinMaxControlVariate(1.5),
        ils.rules.StraightThrough(),
        ils.rules.StraightThrough(2.0),
        ils.rules.DARN(),
        ils.rules.Ordinal(),
        ils.rules.MVE(),
        ils.rules.MVE(0.5),
        ils.rules.MVE(30.0),
        ils.rules.Identity(),
        ils.rules.Gapped(0.5),
        ils.rules.Gapped(gap=None),
        ils.rules.GumbelRao(0.5, samples=3),
        ils.rules.ReinMaxRao(0.5, samples=3),
        ils.rules.StraightThroughGumbel(0.5),
        ils.rules.Decoupled(0.5),
        ils.rules.NoteCode(0.4),
    )
}


# All of them, and of those of another formula the ones with noise and without.
EVERY: dict[str, Rule] = {**{name: rule_of(o) for name, o in COMBINATIONS.items()}, **OTHERS}
DETERMINISTIC = [name for name, rule in OTHERS.items() if type(rule).noise is Rule.noise]
NOISY = [name for name in OTHERS if name not in DETERMINISTIC]


def update_by_hand(
    options: dict[str, Any], grad: Tensor, drawn: int, probs: Tensor, allowed: Tensor
) -> Tensor:
    """The update after one draw: with a matrix for each map, on the allowed categories alone."""
    places = allowed.nonzero().squeeze(-1)
    g, pi = grad[places], probs[places]
    size = len(places)
    z = (places == drawn).double()
    jacobian = _jacobian(options["normalizer"], z)
    weights = options["metric"](torch.ones_like(pi), pi)
    delta = weights * (jacobian.T @ g)
    if options["step_size"] is None:
        change = jacobian @ delta / 2
    else:
        if options["keep_mass"]:
            delta = (eye(size) - torch.outer(z, torch.ones_like(z))) @ delta
        scale = float(delta.abs().max()) if options["relative"] else 1.0
        alpha = options["step_size"] / (scale or 1.0)
        target = _mapped(options["normalizer"], z - alpha * delta)
        change = z - target if options["centred"] else pi * target.sum() - target
        change = change / alpha if options["relative"] else change
    update = torch.zeros_like(grad)
    update[places] = change
    return update


def _jacobian(normalizer: Any, z: Tensor) -> Tensor:
    """The Jacobian at a corner that stands in for none: entry by entry."""
    ones = torch.ones_like(z)
    if normalizer is ils.project_simplex:
        return eye(len(z)) - torch.outer(ones, ones) / len(z)
    if normalizer in NORMALIZERS:
        return eye(len(z)) - torch.outer(z, ones)
    return torch.autograd.functional.jacobian(normalizer, z)


def _mapped(normalizer: Any, x: Tensor) -> Tensor:
    """The map of one row; the projection by bisection for its threshold."""
    if normalizer is ils.sum_normalize:
        return x.clamp(min=0) / x.clamp(min=0).sum()
    if normalizer is ils.sum_normalize_unclamped:
        return x / x.sum()
    if normalizer is not ils.project_simplex:
        return normalizer(x)
    low, high = float(x.max()) - 1, float(x.max())
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if (x - middle).clamp(min=0).sum() > 1 else (low, middle)
    return (x - low).clamp(min=0)
