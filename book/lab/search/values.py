"""What is tried where values and derivatives are at hand: estimators of two or four draws.

Nothing is tuned to a problem.  What is learnt is learnt from the steps before, so that it does not
depend on the draws of the step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ils.estimators import Estimator
from ils.estimators.estimator import unbiased
from ils.estimators.evaluation import Loss, value_and_gradient
from ils.estimators.randomness import Draws as Drawn
from lab.methods import pairs

__all__ = [
    "ESTIMATORS",
    "REFERENCES",
    "WITH_VALUES",
    "Mix",
    "Shrinkage",
    "WithValues",
    "as_estimator",
]

Form = Callable[[pairs.Draws], Tensor]
"""Of draws ``(S, n, *batch, D, K)``, with their losses and derivatives, the estimates."""


@dataclass
class Mix:
    """Estimators of one mean with weights of sum 1, which make the variance least.

    The weights solve ``G w ~ 1``, where ``G`` holds the mean inner products of the estimates over
    draws, problems and the steps before; as all have one mean, that is the least variance.
    *Unbiased* where the parts are.

    Attributes:
        forms: the parts.
        decay: of the running mean of ``G``.
        products: ``G`` of each run, ``(R, m, m)``; equal weights before the first step.
    """

    forms: tuple[Form, ...]
    decay: float = 0.9
    products: Tensor | None = None

    def __call__(self, d: pairs.Draws) -> Tensor:
        parts = torch.stack([form(d) for form in self.forms])
        by_run = parts.movedim(2, 0).flatten(2)  # (R, m, everything else)
        found = by_run @ by_run.mT / (parts.shape[1] * parts[0, 0, 0, ..., 0, 0].numel())
        weights = self.weights(len(by_run), parts)
        old = found if self.products is None else self.products
        self.products = old + (1 - self.decay) * (found - old)
        shape = (len(self.forms), 1, -1, *[1] * (parts.dim() - 3))
        return (weights.T.reshape(shape) * parts).sum(0)

    def weights(self, runs: int, like: Tensor) -> Tensor:
        """Of the parts, ``(R, m)``, from the steps before."""
        parts = len(self.forms)
        ones = torch.ones(runs, parts, dtype=like.dtype, device=like.device)
        if self.products is None:
            return ones / parts
        # Where all estimates are nearly zero, the weights stay near equal.
        scale = self.products.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
        least = 1e-3 * scale.clamp(min=torch.finfo(like.dtype).tiny)
        eye = torch.eye(parts, dtype=like.dtype, device=like.device)
        found = torch.linalg.solve(self.products + least * eye, ones)
        return found / found.sum(-1, keepdim=True)


@dataclass
class Shrinkage:
    r"""``B + c (V - B)`` of a quiet, biased ``B`` and a noisy, unbiased ``V``.

    ``c = (1 - S / (N |m|^2))_+`` after James and Stein: ``m`` is the running mean of ``V - B`` over
    draws, problems and steps, whose limit is minus the bias, ``S`` that of ``|V - B|^2`` and ``N``
    how many differences ``m`` is worth.  *Biased*, by ``1 - c`` times the bias of ``B``; where the
    mean over problems of that bias is not zero, ``1 - c`` is of order ``1 / N``.

    Attributes:
        quiet, noisy: ``B`` and ``V``.
        decay: of the running means; long, so that a small bias is seen.
        mean, square: ``m`` of each run, ``(R, D, K)``, and ``S``, ``(R,)``; before the first step
            ``c`` is 1.
        fixed: ``c``, if it is not learnt.
    """

    quiet: Form
    noisy: Form
    decay: float = 0.99
    mean: Tensor | None = None
    square: Tensor | None = None
    fixed: float | None = None
    steps: int = 0

    def __call__(self, d: pairs.Draws) -> Tensor:
        quiet, noisy = self.quiet(d), self.noisy(d)
        if self.fixed is not None:
            return quiet + self.fixed * (noisy - quiet)
        change = noisy - quiet
        by_run = change.movedim(1, 0).flatten(1, -3)  # (R, everything else, D, K)
        weight = self.weight(by_run).reshape(-1, *[1] * (change.dim() - 2))
        mean, square = by_run.mean(1), by_run.square().sum((-1, -2)).mean(1)
        self.steps += 1
        # Means of all steps at first, so that the beginning counts no more than the rest.
        part = max(1 - self.decay, 1 / self.steps)
        self.mean = mean if self.mean is None else self.mean + part * (mean - self.mean)
        self.square = square if self.square is None else self.square + part * (square - self.square)
        return quiet + weight * change

    def weight(self, by_run: Tensor) -> Tensor:
        """``c`` of each run, from the steps before."""
        if self.mean is None or self.square is None:
            return torch.ones(len(by_run), dtype=by_run.dtype, device=by_run.device)
        steps = min(self.steps, (1 + self.decay) / (1 - self.decay))
        length = self.mean.square().sum((-1, -2))
        noise = self.square / (steps * by_run.shape[1])
        return (1 - noise / length.clamp(min=torch.finfo(length.dtype).tiny)).clamp(min=0)


def _pairwise(form: Form) -> Form:
    """The mean over pairs of draws, for a form of two."""

    def mean(d: pairs.Draws) -> Tensor:
        found = [
            form(pairs.Draws(d.probs, *(x[:, k : k + 2] for x in (d.z, d.grad, d.value))))
            for k in range(0, d.z.shape[1], 2)
        ]
        return torch.stack(found).mean(0)

    return mean


_SECOND, _CORRECTED = _pairwise(pairs.second_order), _pairwise(pairs.corrected)
_UNBIASED = (pairs.leave_one_out, pairs.double_control_variate, _SECOND, _CORRECTED)


def _of(form: Form) -> Callable[[], Form]:
    return lambda: form


def _shrinkage(noisy: Form) -> Callable[[], Form]:
    return partial(Shrinkage, pairs.other_draws, noisy)


def _to_mix() -> Form:
    return Shrinkage(pairs.other_draws, Mix(_UNBIASED))


ESTIMATORS: dict[str, Callable[[], Form]] = {
    "second order": _of(_SECOND),
    "ReinMax, corrected": _of(_CORRECTED),
    "adaptive mix": partial(Mix, _UNBIASED),
    "shrinkage, leave-one-out": _shrinkage(pairs.leave_one_out),
    "shrinkage, double control variates": _shrinkage(pairs.double_control_variate),
    "shrinkage, adaptive mix": _to_mix,
    "half of each": partial(Shrinkage, pairs.other_draws, pairs.double_control_variate, fixed=0.5),
}
"""What is tried; each is made afresh for a run, as it may learn."""

REFERENCES: dict[str, Callable[[], Form]] = {
    "leave-one-out": _of(pairs.leave_one_out),
    "double control variates": _of(pairs.double_control_variate),
    "ReinMax (default)": _of(pairs.mean_reinmax),
    "ReinMax, control variate": _of(pairs.other_draws),
}
"""What is known, tuned beside them on the design problems."""


def _formula(logits: Tensor, z: Tensor, loss: Loss, *, form: Form) -> Tensor:
    value, grad = value_and_gradient(loss, z, logits)
    return form(pairs.Draws(logits.softmax(-1), z, grad, value))


def as_estimator(name: str, form: Form, draws: int) -> Estimator:
    """A form as an estimator of so many draws; whether it has a bias is not told."""
    return unbiased(name, Drawn(draws), draws, _formula, form=form, differentiates=True)


@dataclass(frozen=True)
class WithValues:
    """An estimator of :data:`ESTIMATORS` or :data:`REFERENCES`, by its name there."""

    name: str

    def made(self, draws: int) -> tuple[Estimator, int]:
        """As :func:`lab.training.train.train` takes it, with nothing learnt yet: one a step."""
        return as_estimator(self.name, (ESTIMATORS | REFERENCES)[self.name](), draws), 1


WITH_VALUES = tuple(map(WithValues, ESTIMATORS | REFERENCES))
"""Each as a candidate."""
