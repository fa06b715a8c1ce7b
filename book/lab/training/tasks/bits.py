"""One bit against a number: minimise ``E (b - t)^2``, the toy of Tucker et al. (2017).

Four values of ``t``, each its own problem.  The better value of the bit is that nearer to ``t``,
and the two losses, of about a quarter each, differ by ``|1 - 2 t|`` alone; a relaxed bit has a
loss of zero between them, at ``t``, which draws it away from both ends.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lab.training.task import Own, Parameters, Stream, Task

__all__ = ["TARGETS", "Bits"]

TARGETS = (0.499, 0.49, 0.45, 0.51)


class Bits(Task):
    """See the head of this module; the measure is the probability of the worse value."""

    name = "bits"
    title = "One bit"
    measure = "probability of the wrong bit"
    optimum = 0.0
    categories = 2
    variables = 1
    steps = 4000
    tuning_seeds = 6  # a run ends at one value or the other: two would be luck
    rates = (10**-1.5, 1.0)

    def _targets(self, like: Tensor) -> Tensor:
        return torch.tensor(TARGETS, dtype=like.dtype, device=like.device)

    @property
    def own(self) -> dict[str, Own]:
        """Descent on the exact expectation."""
        return {"exact gradient": Own(self._expected)}

    def start(self, stream: Stream) -> Parameters:
        """Even odds, as in the authors' code."""
        return {"logits": stream.normal(len(TARGETS), 1, 2).mul_(0)}

    def logits(self, parameters: Parameters, batch: Any) -> Tensor:
        """``(R, 4, 1, 2)``."""
        return parameters["logits"]

    def loss(self, parameters: Parameters, batch: Any, z: Tensor) -> Tensor:
        """``(b - t)^2``; ``b`` is the second entry."""
        return (z[..., 0, 1] - self._targets(z)) ** 2

    def _losses(self, like: Tensor) -> Tensor:
        """Of either value, ``(4, 2)``."""
        t = self._targets(like)
        return torch.stack([t**2, (1 - t) ** 2], -1)

    def _expected(self, parameters: Parameters, batch: Any, _: float = 0.0) -> Tensor:
        probs = parameters["logits"].softmax(-1).squeeze(-2)
        return (probs * self._losses(probs)).sum(-1).mean(-1)

    def evaluate(self, parameters: Parameters, split: str) -> dict[str, Tensor]:
        """Probability of the worse value, on average and for each ``t``; expected losses."""
        probs = parameters["logits"].softmax(-1).squeeze(-2)
        losses = self._losses(probs)
        worse = probs.gather(-1, losses.argmax(-1, keepdim=True).expand(*probs.shape[:-1], 1))
        worse = worse.squeeze(-1)
        expected = (probs * losses).sum(-1)
        measures = {self.measure: worse.mean(-1)}
        for place, t in enumerate(TARGETS):
            measures[f"wrong, t = {t}"] = worse[:, place]
            measures[f"loss, t = {t}"] = expected[:, place]
        return measures
