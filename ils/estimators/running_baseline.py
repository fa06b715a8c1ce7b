"""REINFORCE with a running mean of the loss as baseline."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ils.checks import check_count, check_fraction
from ils.estimators.estimator import Estimator, Formula, same
from ils.estimators.evaluation import Loss
from ils.estimators.score_function import score_function

__all__ = ["RunningBaseline", "score_function_running"]


@dataclass(eq=False)
class RunningBaseline:
    """Exponential moving average of the losses seen so far, over draws and problems.

    Attributes:
        decay: weight of the past, in ``[0, 1)``.
        value: the average, in the units of the loss; 0 before anything was seen, then the mean of
            the first call.
        own_dims: how many leading axes of the problems have an average for each entry.
    """

    decay: float = 0.9
    value: float | Tensor = 0.0
    seen: bool = field(default=False, repr=False)
    own_dims: int = 0

    def update(self, losses: Tensor) -> None:
        """Take in the losses ``(D, *batch)`` of a call; those that are not finite say nothing."""
        losses = losses.detach().to(torch.promote_types(losses.dtype, torch.float32))
        pooled = [0, *range(1 + self.own_dims, losses.dim())] if self.own_dims else None
        finite = losses.isfinite()
        if pooled is None:
            found = losses if bool(finite.all()) else losses[finite]
            if found.numel():
                self._move(float(found.mean()))
            return
        mean = losses.mean(pooled, keepdim=True).squeeze(0)
        count = finite.sum(pooled, keepdim=True).squeeze(0)
        total = losses.where(finite, 0).sum(pooled, keepdim=True).squeeze(0)
        # An entry without a finite loss stays where it is.
        known = torch.where(count > 0, total / count, torch.as_tensor(self.value).to(total))
        mean = torch.where(mean.isfinite(), mean, known)
        if losses.numel():
            self._move(mean)

    def _move(self, mean: float | Tensor) -> None:
        self.value = self.decay * self.value + (1 - self.decay) * mean if self.seen else mean
        self.seen = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunningBaseline) and same(vars(self), vars(other))


@dataclass(frozen=True)
class _Running(Estimator):
    baseline: RunningBaseline = field(hash=False)

    def _learn(self, estimates: Tensor, values: Tensor) -> None:
        self.baseline.update(values)


def _formula(logits: Tensor, z: Tensor, loss: Loss, *, baseline: RunningBaseline) -> Tensor:
    return score_function(baseline=baseline.value).formula(logits, z, loss)


def score_function_running(*, decay: float = 0.9, own_dims: int = 0) -> Estimator:
    r"""REINFORCE with a running baseline: ``(z - pi) (L(z) - b)``, then ``b`` moves towards ``L``.

    ``b <- decay * b + (1 - decay) * mean(L)`` after the estimates of a call are made, so that
    ``b`` does not depend on their draws.  The estimator object holds ``b`` in its attribute
    ``baseline``; its formula reads it and does not change it.

    *Approximates* the gradient of ``E[L]`` *with* draws of it; *requires* the value of the loss;
    **unbiased** at every call.  One evaluation an estimate.

    Args:
        decay: weight of the past, in ``[0, 1)``.
        own_dims: how many leading axes of the logits have a baseline for each entry, so that
            models trained side by side do not share one.

    Returns:
        An :class:`Estimator`: ``(D, *logits.shape)`` for logits ``(*batch, *variables, K)``.

    Raises:
        TypeError, ValueError: ``decay`` is not in ``[0, 1)``, ``own_dims`` no integer of at least
            0; at a call, as :class:`Estimator`.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.score_function_running()
        >>> bool(ils.exact.moments(estimator, loss, torch.zeros(3)).bias.abs().max() < 1e-5)
        True

    Source: Williams (1992), there as reinforcement comparison.
    """
    check_fraction("decay", decay)
    if own_dims != 0:
        check_count("own_dims", own_dims)
    baseline = RunningBaseline(float(decay), own_dims=int(own_dims))

    plain = score_function()
    return _Running(
        name="REINFORCE, running baseline",
        formula=Formula(_formula, baseline=baseline),
        randomness=plain.randomness,
        evaluations=1,
        biased=False,
        differentiates=False,
        baseline=baseline,
    )
