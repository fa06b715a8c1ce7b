"""Joint states drawn without replacement: unordered set and sum-and-sample."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from ils.draw import exponential, one_hot
from ils.estimators.estimator import Estimator, documented, unbiased
from ils.estimators.evaluation import Loss, like_draws, value
from ils.estimators.score_function import check_samples
from ils.execution import holds_values
from ils.states import probability, states

__all__ = [
    "DistinctDraws",
    "leave_out_ratios",
    "log_probability",
    "sum_and_sample",
    "unordered_set",
]


def log_probability(logits: Tensor, z: Tensor, batch_dims: int) -> Tensor:
    """Log-probability of joint states ``(*lead, *logits.shape)``, as ``(*lead, *batch)``."""
    chosen = torch.special.xlogy(z, logits.softmax(-1)).sum(-1)
    axes = logits.dim() - 1 - batch_dims
    return chosen.flatten(-axes).sum(-1) if axes else chosen


@dataclass(frozen=True)
class DistinctDraws:
    """Different joint states, one after the other, ``(D, count, *logits.shape)``.

    Each is drawn from the states that are left, in proportion to their probability.  Sampling is
    a stochastic beam search: the largest ``count`` of the perturbed log-probabilities of all
    states, found variable by variable without listing them.
    """

    count: int
    joint: bool = True

    def sample(
        self, logits: Tensor, draws: int, generator: torch.Generator | None, batch_dims: int
    ) -> Tensor:
        """Noise for ``draws`` estimates."""
        batch, categories = logits.shape[:batch_dims], logits.shape[-1]
        flat = (
            logits.double()
            .log_softmax(-1)
            .reshape(batch.numel(), logits.shape[batch_dims:-1].numel(), categories)
        )
        problems, variables, _ = flat.shape
        beams = (draws, problems, 1)
        score = flat.new_zeros(beams)
        perturbed = flat.new_zeros(beams)
        path = torch.zeros((*beams, 0), dtype=torch.long, device=logits.device)
        for variable in range(variables):
            grown = score.unsqueeze(-1) + flat[:, variable].unsqueeze(1)
            gumbel = grown - exponential(tuple(grown.shape), grown, generator).log()
            child = _given_maximum(gumbel, perturbed.unsqueeze(-1)).flatten(-2)
            kept = min(self.count, child.shape[-1])
            perturbed, place = child.topk(kept, -1)
            score = grown.flatten(-2).gather(-1, place)
            parent = (place // categories).unsqueeze(-1).expand(-1, -1, -1, variable)
            path = torch.cat([path.gather(2, parent), (place % categories).unsqueeze(-1)], -1)
        possible = perturbed.shape[-1]
        if perturbed.numel() and holds_values(perturbed):
            possible = int((~perturbed.isneginf()).sum(-1).min())
        if possible < self.count:
            raise ValueError(
                f"samples: expected at most as many as there are states, got {self.count} for "
                f"{possible} states of positive probability"
            )
        shape = (draws, problems, self.count, variables, categories)
        z = one_hot(path, torch.empty(shape, dtype=logits.dtype, device=logits.device))
        return z.movedim(2, 1).reshape(draws, self.count, *logits.shape)

    def support(self, logits: Tensor, batch_dims: int) -> tuple[Tensor, Tensor]:
        """All noise and its weights."""
        z = states(logits, batch_dims)
        p = probability(logits, z, batch_dims)
        every = list(itertools.permutations(range(len(z)), self.count))
        if not every:
            raise ValueError(
                f"samples: expected at most as many as there are states, got {self.count} for "
                f"{len(z)} states"
            )
        index = torch.tensor(every, device=z.device)
        ordered = p[index]
        left = 1 - ordered.cumsum(1) + ordered
        return z[index], (ordered / left.clamp(min=torch.finfo(p.dtype).tiny)).prod(1)


def _given_maximum(gumbel: Tensor, maximum: Tensor) -> Tensor:
    """Shift independent Gumbels so that their largest is ``maximum`` (last axis).

    Args:
        gumbel: perturbed log-probabilities of the children, ``(..., K)``.
        maximum: that of the parent, ``(..., 1)``.

    Source: Kool, van Hoof and Welling (2019), "Stochastic beams and where to find them", appendix.
    """
    largest = gumbel.amax(-1, keepdim=True)
    # log(exp(-maximum) + exp(-gumbel) - exp(-largest)), with the last two terms as one.
    gap = (largest - gumbel).clamp(min=0)
    rest = -gumbel + torch.log(-torch.expm1(-gap))
    shifted = -torch.logaddexp(-maximum.expand_as(gumbel), rest)
    dead = gumbel.isneginf() | maximum.isneginf()
    return shifted.masked_fill(dead, -torch.inf)


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
            # The remaining mass includes that of the rest of the set, also after rounding.
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


def _unordered_set(logits: Tensor, z: Tensor, loss: Loss, *, baseline: bool) -> Tensor:
    losses = value(loss, z, logits)
    problems = losses.dim() - 2
    probs = log_probability(logits.double(), z.double(), problems).exp()
    single, double = leave_out_ratios(probs)
    advantage = losses.double()
    if baseline:
        advantage = advantage - (probs.unsqueeze(1) * double * losses.unsqueeze(1)).sum(2)
    weight = (probs * single * advantage).to(losses.dtype)
    return (like_draws(weight, z) * (z - logits.softmax(-1))).sum(1)


@documented
def unordered_set(*, samples: int = 2, baseline: bool = True) -> Estimator:
    r"""Unordered set: ``sum_s p(s) R(S, s) (z_s - pi) (L(z_s) - B(S, s))``.

    ``S`` holds different joint states drawn without replacement, ``R`` are the ratios of
    :func:`~ils.estimators.without_replacement.leave_out_ratios`; the baseline is the same estimator
    of the mean loss without ``s``, ``B = sum_s' p(s') R(S, s, s') L(z_s')``.

    *Approximates* the gradient of ``E[L]`` *with* ``samples`` different states, in no order;
    *requires* values of the loss; **unbiased**; exact when ``S`` holds all states.  ``samples``
    evaluations an estimate, and work that grows like ``2**samples``.

    Args:
        samples: at least 2, at most the number of joint states.
        baseline: whether to subtract ``B``.

    Raises:
        TypeError, ValueError: ``samples`` is less than 2, or at a call more than there are states.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.unordered_set()
        >>> bool(ils.exact.moments(estimator, loss, torch.zeros(3)).bias.abs().max() < 1e-5)
        True

    Source: Kool, van Hoof and Welling (2020), and the authors' published code.
    """
    samples = check_samples(samples)
    return unbiased(
        "unordered set", DistinctDraws(samples), samples, _unordered_set, baseline=baseline
    )


def _sum_and_sample(logits: Tensor, z: Tensor, loss: Loss, *, baseline: bool) -> Tensor:
    losses = value(loss, z, logits)
    probs = log_probability(logits, z, losses.dim() - 2).exp()
    advantage = losses
    if baseline:
        mean = (_weights(probs[:, :-1]) * losses[:, :-1]).sum(1, keepdim=True)
        advantage = losses - mean
    weight = _weights(probs) * advantage
    return (like_draws(weight, z) * (z - logits.softmax(-1))).sum(1)


@documented
def sum_and_sample(*, samples: int = 2, baseline: bool = True) -> Estimator:
    r"""Sum-and-sample: ``sum_{j<k} p(s_j) h(s_j) + (1 - sum_{j<k} p(s_j)) h(s_k)``.

    ``s_1, ..., s_k`` are joint states drawn one after the other without replacement, and
    ``h(s) = (z_s - pi) (L(z_s) - B)``: all but the last are summed with their probabilities, and
    the last stands for everything else.  ``B`` is the same estimate of the mean loss from the
    first ``k - 1`` states.

    *Approximates* the gradient of ``E[L]`` *with* ``samples`` different states; *requires* values
    of the loss; **unbiased**.  ``samples`` evaluations an estimate.

    Args:
        samples: ``k``, at least 2, at most the number of joint states.
        baseline: whether to subtract ``B``.

    Raises:
        TypeError, ValueError: ``samples`` is less than 2, or at a call more than there are states.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.sum_and_sample()
        >>> bool(ils.exact.moments(estimator, loss, torch.zeros(3)).bias.abs().max() < 1e-5)
        True

    Source: Kool, van Hoof and Welling (2020), the stochastic form, as in the authors' published
    code; with the likeliest states in place of drawn ones Liang et al. (2018).
    """
    samples = check_samples(samples)
    return unbiased(
        "sum-and-sample", DistinctDraws(samples), samples, _sum_and_sample, baseline=baseline
    )


def _weights(probs: Tensor) -> Tensor:
    """The probabilities, the last one replaced by one minus the sum of the others (axis 1)."""
    weights = probs.clone()
    weights[:, -1] = 1 - probs[:, :-1].sum(1)
    return weights
