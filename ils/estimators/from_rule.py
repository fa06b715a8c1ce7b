"""A rule of :mod:`ils.rules` as an estimator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ils.estimators.estimator import Estimator, biased, documented
from ils.estimators.evaluation import Loss, value_and_gradient
from ils.estimators.randomness import Draw, Noise, no_support
from ils.rules import Rule, check_rule

__all__ = ["from_rule"]


@dataclass(frozen=True)
class _WithNoise:
    """A draw and a rule's noise for it; no finite support."""

    rule: Rule
    joint: bool = False

    def sample(
        self, logits: Tensor, draws: int, generator: torch.Generator | None, batch_dims: int
    ) -> tuple[Tensor, Tensor | None]:
        """Noise for ``draws`` estimates."""
        z = Draw().sample(logits, draws, generator, batch_dims)
        return z, self.rule.noise(z.shape, logits, generator)

    def support(self, logits: Tensor, batch_dims: int) -> tuple[Noise, Tensor]:
        """Refused: the noise is a rule's own."""
        raise ValueError(no_support("the noise of a rule"))


def _formula(logits: Tensor, noise: Noise, loss: Loss, *, rule: Rule) -> Tensor:
    z, numbers = noise if isinstance(noise, tuple) else (noise, None)
    _, grad = value_and_gradient(loss, z, logits)
    return rule.gradient(grad, z, logits, numbers).masked_fill(logits.isneginf(), 0)


@documented
def from_rule(rule: Rule, *, name: str | None = None) -> Estimator:
    """The gradient of :func:`ils.sample` with a rule, as an estimator.

    *Approximates* the gradient of ``E[L]`` *with* the rule's formula; *requires* the derivative of
    the loss; **biased**.  One evaluation an estimate.  Its moments can be enumerated if the rule
    has no noise.

    Args:
        rule: a value of :mod:`ils.rules`, or a user-defined one.
        name: the method's name; the default is that of the rule's class.

    Raises:
        TypeError, ValueError: ``rule`` is not a rule.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.from_rule(ils.rules.StraightThrough(2.0))
        >>> ils.exact.moments(estimator, loss, torch.zeros(3)).bias
        tensor([ 0.9630,  0.7407, -1.7037])

    Source: this report.
    """
    check_rule(rule, 2, torch.empty(0))
    noise = Draw() if type(rule).noise is Rule.noise else _WithNoise(rule)
    return biased(type(rule).__name__ if name is None else name, noise, _formula, rule=rule)
