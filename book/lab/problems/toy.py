r"""The note's toy problem, as tensors: recover a distribution from single draws of a model.

A *problem* is a target ``p`` over ``K`` categories, a *group* the ``N`` problems that the note
runs at once.  The note's loss of a group is the mean over its ``N K`` entries of
``-p (log(z + eps) - log(p + eps))``; its curve is the same with ``softmax(logits)`` for ``z``.
Tensors are ``(..., groups, N, K)``; an axis of settings may stand before them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ils.squeeze import stationary, transition
from ils.target import intermediate_target

__all__ = ["Toy", "ils_limit", "keep_mass_threshold", "random_toy", "sum_normalize_limit"]


@dataclass(frozen=True)
class Toy:
    """Groups of problems, where the model starts, and the note's guard.

    Attributes:
        p: the targets, ``(groups, N, K)``.
        start: the first logits, of the same shape.
        eps: the guard inside both logarithms.
    """

    p: Tensor
    start: Tensor
    eps: float

    @property
    def size(self) -> int:
        """``N K``, by which the note divides a group's loss."""
        return self.p.shape[-1] * self.p.shape[-2]

    def gradient(self, z: Tensor) -> Tensor:
        """Gradient ``dL/dz = -p / (N K (z + eps))`` of the group's loss at ``z``."""
        return -self.p / (self.size * (z + self.eps))

    def divergence(self, probs: Tensor) -> Tensor:
        """The note's curve: ``KL_eps(p || probs) / K``, averaged over the group; ``(..., groups)``.

        In nats per category.  Without the checks of :func:`ils.squeeze.kl`: it is called in a loop.
        """
        return (self.p * ((self.p + self.eps).log() - (probs + self.eps).log())).mean((-1, -2))

    def bound(self, probs: Tensor) -> Tensor:
        """The note's objective: ``E[KL_eps(p || z)] / K`` of a hard draw, averaged likewise.

        In nats per category.  Linear in ``probs``: a draw of category ``i`` costs
        ``log(1 + 1/eps)`` less by the fraction ``p_i``.
        """
        fixed = (self.p * ((self.p + self.eps).log() - math.log(self.eps))).mean((-1, -2))
        return fixed - math.log1p(1 / self.eps) * (self.p * probs).mean((-1, -2))

    def bound_gradient(self, probs: Tensor) -> Tensor:
        """Exact gradient of the group's :meth:`bound` for the logits, ``(..., groups, N, K)``."""
        cost = -math.log1p(1 / self.eps) * self.p / self.size
        return probs * (cost - (probs * cost).sum(-1, keepdim=True))


def random_toy(
    groups: int, *, generator: torch.Generator, problems: int = 5, categories: int = 5
) -> Toy:
    """Targets and starts as the note draws them, with its ``eps`` of 1e-8.

    Logits start uniform on ``[0, 1)``; a target is ``categories`` uniforms divided by their sum.
    """
    shape = (groups, problems, categories)
    start = torch.rand(shape, generator=generator, dtype=torch.float64)
    weights = torch.rand(shape, generator=generator, dtype=torch.float64)
    return Toy(p=weights / weights.sum(-1, keepdim=True), start=start, eps=1e-8)


def sum_normalize_limit(p: Tensor, step_size: float, eps: float, size: int) -> Tensor:
    r"""Closed form of the fixed point with ``h(x) = x / sum(x)``.

    ``p (1 + c (1 - p))``, divided by its sum.
    ``c = alpha / (eps N K)``.  Exact up to ``eps`` relative to the entries of ``p``.

    Args:
        p: targets, ``(..., K)``.
        step_size, eps, size: ``alpha``, the guard, ``N K``.
    """
    c = step_size / (eps * size)
    weights = p * (1 + c * (1 - p))
    return weights / weights.sum(-1, keepdim=True)


def keep_mass_threshold(eps: float, size: int) -> float:
    """Largest step, ``alpha = eps N K``, at which the mass-keeping step has ``p`` as its limit."""
    return eps * size


def ils_limit(toy: Toy, **options: object) -> Tensor:
    """Fixed point of ILS on each problem, from its transition matrix; ``(groups, N, K)``.

    Args:
        toy: the problems.
        options: passed to :func:`ils.target.intermediate_target`.
    """

    def targets(corners: Tensor) -> Tensor:
        grad = -toy.p.unsqueeze(-2) / (toy.size * (corners + toy.eps))
        return intermediate_target(corners.expand_as(grad), grad, **options)  # type: ignore[arg-type]

    return stationary(transition(targets, toy.p.shape[-1]))
