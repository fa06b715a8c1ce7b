"""The unordered set estimator: draws without replacement, whatever their order."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from ils.estimators.distinct import DistinctDraws, log_probability
from ils.estimators.estimator import Estimator, Formula
from ils.estimators.evaluation import Loss, like_draws, value
from ils.estimators.leave_one_out import check_samples

__all__ = ["leave_out_ratios", "unordered_set"]


def leave_out_ratios(probs: Tensor) -> tuple[Tensor, Tensor]:
    r"""Leave-one-out ratios ``R(S, s)`` and ``R(S, s, s')`` of a set drawn without replacement.

    ``Q(C)`` is the probability that the rest of the set comes first once ``C`` is taken out of the
    domain; it follows from larger ``C`` by ``Q(C) = sum_s p_s Q(C + s) / (1 - p(C))``.  Then
    ``R(S, s) = Q({s}) / Q({})`` and ``R(S, s, s') = Q({s, s'}) / Q({s})``, 1 for ``s = s'``.

    Args:
        probs: probabilities of the ``k`` states of the set, axis 1 of ``(D, k, *batch)``.

    Returns:
        ``(D, k, *batch)`` and ``(D, k, k, *batch)``.  The cost grows like ``2**k``.
    """
    count = probs.shape[1]
    everyone = frozenset(range(count))
    q = {everyone: torch.ones_like(probs[:, 0])}
    for size in reversed(range(count)):
        for taken in map(frozenset, combinations(range(count), size)):
            rest = sorted(everyone - taken)
            mass = probs[:, rest].sum(1)
            # What is left of the domain holds the rest of the set: rounding must not say less.
            left = torch.maximum(1 - probs[:, sorted(taken)].sum(1), mass)
            total = torch.stack([probs[:, s] * q[taken | {s}] for s in rest]).sum(0)
            q[taken] = total / left
    first = torch.stack([q[frozenset({s})] for s in range(count)], 1)
    second = torch.stack(
        [
            torch.stack([q[frozenset({s, other})] for other in range(count)], 1)
            for s in range(count)
        ],
        1,
    )
    return first / q[frozenset()].unsqueeze(1), second / first.unsqueeze(2)


def _formula(logits: Tensor, z: Tensor, loss: Loss, *, baseline: bool) -> Tensor:
    losses = value(loss, z, logits)
    problems = losses.dim() - 2
    probs = log_probability(logits.double(), z.double(), problems).exp()
    single, double = leave_out_ratios(probs)
    advantage = losses.double()
    if baseline:
        advantage = advantage - (probs.unsqueeze(1) * double * losses.unsqueeze(1)).sum(2)
    weight = (probs * single * advantage).to(losses.dtype)
    return (like_draws(weight, z) * (z - logits.softmax(-1))).sum(1)


def unordered_set(*, samples: int = 2, baseline: bool = True) -> Estimator:
    r"""Unordered set: ``sum_s p(s) R(S, s) (z_s - pi) (L(z_s) - B(S, s))``.

    ``S`` holds different joint states drawn without replacement, ``R`` are the ratios of
    :func:`ils.estimators.unordered_set.leave_out_ratios`, and the baseline is the same estimator
    of the mean loss without ``s``, ``B = sum_s' p(s') R(S, s, s') L(z_s')``.

    *Approximates* the gradient of ``E[L]`` *with* ``samples`` different states, in no order;
    *requires* values of the loss; **unbiased**; exact when ``S`` holds all states.  ``samples``
    evaluations an estimate, and work that grows like ``2**samples``.

    Args:
        samples: at least 2, at most the number of joint states.
        baseline: whether to subtract ``B``.

    Returns:
        An :class:`Estimator`: ``(D, *logits.shape)`` for logits ``(*batch, *variables, K)``.

    Raises:
        TypeError, ValueError: ``samples`` is less than 2, or at a call more than there are states;
            at a call, as :class:`Estimator`.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.unordered_set()
        >>> bool(ils.exact.moments(estimator, loss, torch.zeros(3)).bias.abs().max() < 1e-5)
        True

    Source: Kool, van Hoof and Welling (2020), and the authors' published code.
    """
    samples = check_samples(samples)

    return Estimator(
        name="unordered set",
        formula=Formula(_formula, baseline=baseline),
        randomness=DistinctDraws(samples),
        evaluations=samples,
        biased=False,
        differentiates=False,
    )
