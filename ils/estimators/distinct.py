"""Joint states drawn without replacement."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from ils.checks import holds_values
from ils.draw import exponential, one_hot
from ils.states import probability, states

__all__ = ["DistinctDraws", "log_probability"]


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
