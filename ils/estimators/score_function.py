"""Score-function estimators: REINFORCE, and baselines that need only values of the loss."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ils.checks import check_count, check_fraction
from ils.estimators.estimator import Estimator, Formula, documented, same, unbiased
from ils.estimators.evaluation import Loss, like_draws, value
from ils.estimators.randomness import Draw, Draws

__all__ = [
    "RunningBaseline",
    "check_samples",
    "leave_one_out",
    "score_function",
    "score_function_running",
]


def _score_function(logits: Tensor, z: Tensor, loss: Loss, *, baseline: float | Tensor) -> Tensor:
    advantage = value(loss, z, logits) - baseline
    return (z - logits.softmax(-1)) * like_draws(advantage, z)


@documented
def score_function(*, baseline: float | Tensor = 0.0) -> Estimator:
    r"""REINFORCE: ``(z - pi) (L(z) - b)``, the gradient of the log-probability times the loss.

    *Approximates* the gradient of ``E[L]`` *with* draws of it; *requires* the value of the loss;
    **unbiased** for any constant ``b``.  One evaluation an estimate.

    Args:
        baseline: ``b``, in the units of the loss; a tensor broadcasts against ``(D, *batch)``,
            and gets no gradient.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.score_function()
        >>> bool(ils.exact.moments(estimator, loss, torch.zeros(3)).bias.abs().max() < 1e-5)
        True

    Source: Glynn (1990); Williams (1992).
    """
    return unbiased("REINFORCE", Draw(), 1, _score_function, baseline=baseline)


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
        """Update from the losses ``(D, *batch)`` of a call; those not finite are ignored."""
        losses = losses.detach().to(torch.promote_types(losses.dtype, torch.float32))
        pooled = [0, *range(1 + self.own_dims, losses.dim())] if self.own_dims else None
        finite = losses.isfinite()
        if pooled is None:
            valid = losses if bool(finite.all()) else losses[finite]
            if valid.numel():
                self._move(float(valid.mean()))
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


def _running_baseline(
    logits: Tensor, z: Tensor, loss: Loss, *, baseline: RunningBaseline
) -> Tensor:
    return score_function(baseline=baseline.value).formula(logits, z, loss)


@documented
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

    Raises:
        TypeError, ValueError: ``decay`` is not in ``[0, 1)``, ``own_dims`` no integer of at least
            0.

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

    return _Running(
        name="REINFORCE, running baseline",
        formula=Formula(_running_baseline, baseline=baseline),
        randomness=Draw(),
        evaluations=1,
        biased=False,
        differentiates=False,
        baseline=baseline,
    )


def check_samples(samples: int, least: int = 2) -> int:
    """Refuse a number of draws that leaves none for the baseline."""
    check_count("samples", samples)
    if samples < least:
        raise ValueError(f"samples: expected at least {least}, got {samples}")
    return int(samples)


def _leave_one_out(logits: Tensor, z: Tensor, loss: Loss, *, samples: int) -> Tensor:
    losses = value(loss, z, logits)
    advantage = (losses - losses.mean(1, keepdim=True)) * samples / (samples - 1)
    return ((z - logits.softmax(-1)) * like_draws(advantage, z)).mean(1)


@documented
def leave_one_out(*, samples: int = 2) -> Estimator:
    r"""Leave-one-out: the mean over draws of ``(z_s - pi) (L(z_s) - mean of the other L)``.

    *Approximates* the gradient of ``E[L]`` *with* ``samples`` draws; *requires* values of the loss;
    **unbiased**: the baseline of a draw does not depend on it.  ``samples`` evaluations an
    estimate.

    Args:
        samples: at least 2.

    Raises:
        TypeError, ValueError: ``samples`` is less than 2.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.leave_one_out()
        >>> bool(ils.exact.moments(estimator, loss, torch.zeros(3)).bias.abs().max() < 1e-5)
        True

    Source: Kool, van Hoof and Welling (2019).
    """
    samples = check_samples(samples)
    return unbiased("leave-one-out", Draws(samples), samples, _leave_one_out, samples=samples)
