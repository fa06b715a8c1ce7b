"""What is tried in place of the default: rules of one draw and one evaluation.

Each is a temperature and an entropy, both of which may fade as the training goes on.  Nothing is
tuned to a problem: the weight of the entropy is relative to the size of the gradient at the draw.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ils.estimators import Estimator, from_rule
from ils.rules import ReinMax, Rule
from lab.methods.annealed import Annealed

__all__ = ["CANDIDATES", "Candidate", "Exploring"]


@dataclass(frozen=True, repr=False)
class Exploring(Rule):
    r"""ReinMax at a temperature, plus ``c s pi (log pi + H)`` for the entropy ``H`` of ``pi``.

    ``s = sqrt(<pi, (g - <pi, g>)^2>)`` is the size of the gradient at the draw, so that the added
    term, a step towards larger entropy, has its units; *biased*.

    Args:
        temperature: of :class:`ils.rules.ReinMax`.
        weight: ``c >= 0``.
    """

    temperature: float = 1.0
    weight: float = 0.0

    def gradient(
        self, grad: Tensor, z: Tensor, logits: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """See :meth:`ils.rules.Rule.gradient`."""
        estimate = ReinMax(self.temperature).gradient(grad, z, logits)
        if not self.weight:
            return estimate
        surprise = logits.log_softmax(-1)
        probs = surprise.exp()
        surprise = surprise.masked_fill(probs == 0, 0)
        away = grad - (probs * grad).sum(-1, keepdim=True)
        size = (probs * away.square()).sum(-1, keepdim=True).sqrt()
        mean = (probs * surprise).sum(-1, keepdim=True)
        return estimate + self.weight * size * probs * (surprise - mean)


@dataclass(frozen=True)
class Candidate:
    """A temperature and a weight of the entropy, and whether they fade.

    Attributes:
        temperature, weight: at the start.
        fades: whether they go linearly to 1 and 0 at the end of the training.
    """

    temperature: float
    weight: float
    fades: bool

    @property
    def name(self) -> str:
        """``temperature 3, entropy 0.1, fading``."""
        end = ", fading" if self.fades else ""
        return f"temperature {self.temperature:g}, entropy {self.weight:g}{end}"

    def rule(self, part: float) -> Exploring:
        """By the part of the training that is done."""
        left = 1 - part if self.fades else 1.0
        return Exploring(1 + (self.temperature - 1) * left, self.weight * left)

    def made(self, draws: int) -> tuple[Annealed[Estimator], int]:
        """As :func:`lab.training.train.train` takes it, and the number of estimates a step."""
        return Annealed(lambda part: from_rule(self.rule(part))), draws


CANDIDATES = tuple(
    Candidate(temperature, weight, fades)
    for temperature in (1.0, 2.0, 3.0, 5.0)
    for weight in (0.0, 0.1, 0.3)
    for fades in (False, True)
    if ((temperature > 1 or weight) if fades else (temperature == 1 or not weight))
)
"""The default first.  Of those that do not fade only such as have a temperature or an entropy."""
