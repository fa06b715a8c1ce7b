"""Whether the update of an example depends on how the losses of its batch are reduced."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import ils
from ils.metric import euclidean, fisher
from ils.rules import Note, ReinMax, Rule, Step

__all__ = ["FACTORS", "RULES", "WAYS", "by_factor", "differences"]

RULES: dict[str, Rule] = {
    "ReinMax (default)": ReinMax(),
    "ILS, relative step": Step(0.3),
    "ILS, relative step, Euclidean": Step(0.3, metric=euclidean),
    "ILS, relative step, projected": Step(0.3, metric=euclidean, normalizer=ils.project_simplex),
    "ILS, Fisher, mass free": Note(0.3, metric=fisher, centred=True),
    "ILS (the note)": Note(0.3),
}
"""Rules of :func:`ils.sample`."""

FACTORS = 10.0 ** np.arange(-4, 4.5, 0.5)
"""What the loss is multiplied by in :func:`by_factor`."""

_EXAMPLES, _CATEGORIES, _SEED = 64, 8, 29


def _problem() -> tuple[Tensor, Tensor, Tensor]:
    """Logits, draws, and the centres of a quartic loss, all in float64."""
    generator = torch.Generator().manual_seed(_SEED)
    shape = (_EXAMPLES, _CATEGORIES)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64)
    z = ils.sample(logits, generator=generator)
    return logits, z, torch.randn(shape, generator=generator, dtype=torch.float64)


def _updates(rule: Rule, rows: slice, total: Callable[[Tensor], Tensor]) -> Tensor:
    """Gradients for the logits of some examples, of ``total`` of their losses."""
    logits, z, centres = (part[rows] for part in _problem())
    leaf = logits.clone().requires_grad_()
    draw = ils.differentiable_draw(leaf, z, rule=rule)
    losses = ((draw - centres) ** 2).sum(-1) ** 2
    return torch.autograd.grad(total(losses), leaf)[0]


def _all(rule: Rule, factor: float) -> Tensor:
    return _updates(rule, slice(None), lambda losses: factor * losses.sum()) / factor


def _pieces(rule: Rule, size: int, total: Callable[[Tensor], Tensor]) -> Tensor:
    starts = range(0, _EXAMPLES, size)
    return torch.cat([_updates(rule, slice(start, start + size), total) for start in starts])


WAYS: dict[str, Callable[[Rule], Tensor]] = {
    "mean": lambda rule: _all(rule, 1 / _EXAMPLES),
    "halves": lambda rule: _pieces(rule, _EXAMPLES // 2, lambda losses: losses.sum()),
    "one by one": lambda rule: _pieces(rule, 1, lambda losses: losses.sum()),
    "quarters": lambda rule: (
        _pieces(rule, _EXAMPLES // 4, lambda losses: losses.mean() / 4) * _EXAMPLES
    ),
    "scaled": lambda rule: _all(rule, 2.0**16),
}
"""Each gives the updates of all examples, after the known factor is taken out: the mean of the
batch, two halves, one by one, the means of quarters accumulated, and the loss times 65,536."""


def differences() -> pd.DataFrame:
    """Distance from the update under the sum over the batch, in units of that update.

    Returns:
        One row a rule, one column a reduction: the largest over the examples.
    """
    found = {}
    for name, rule in RULES.items():
        reference = _all(rule, 1.0)
        size = reference.norm(dim=-1)
        found[name] = {
            way: float(((update(rule) - reference).norm(dim=-1) / size).max())
            for way, update in WAYS.items()
        }
    return pd.DataFrame(found).T.rename_axis("rule")


def by_factor() -> pd.DataFrame:
    """Length of the update under a multiple of the loss, divided by that multiple.

    Returns:
        One row a factor, one column a rule: the mean over the examples, in units of the length at
        factor one; one everywhere for an update that is homogeneous in the loss.
    """
    found = {}
    for name, rule in RULES.items():
        reference = _all(rule, 1.0).norm(dim=-1)
        found[name] = [
            float((_all(rule, factor).norm(dim=-1) / reference).mean()) for factor in FACTORS
        ]
    return pd.DataFrame(found, index=pd.Index(FACTORS, name="factor"))
