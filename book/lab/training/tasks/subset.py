"""Choose five of ten: minimise ``E |z - b|^2`` over subsets, the synthetic problem of I-MLE.

The distribution of a subset is ``p(z)`` in proportion to ``exp <theta, z>``.  There are 252, so it
is one categorical variable whose logits are ``<theta, z>``; with that, every method for categories
takes part, and the exact expectation is a sum.  Beside them stand the methods for subsets.

SFESS (Wijk et al., 2025) is the score function of ``p(z)`` with other draws' losses as the
baseline: of one categorical variable it is leave-one-out, draw by draw.  The authors' published
code draws by perturbed scores, the five largest, which is another distribution than the one whose
score it takes, and its baseline is the mean of all losses, the draw's own among them, which makes
the gradient smaller by one over their number.  Here the draws are exact and the baseline is the
others'.
"""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ils.draw import inverse_cdf
from lab.training.task import Own, Parameters, Stream, Task

__all__ = ["Subset", "project_capped", "subsets"]

_SIZE, _CHOSEN = 10, 5


class _Batch(NamedTuple):
    uniform: Tensor  # one number a run
    gumbel: Tensor  # (R, 10)


@cache
def subsets() -> Tensor:
    """All subsets as rows of 0 and 1, ``(252, 10)``."""
    index = torch.tensor(list(itertools.combinations(range(_SIZE), _CHOSEN)))
    return torch.zeros(len(index), _SIZE).scatter_(1, index, 1.0)


def project_capped(x: Tensor, total: float) -> Tensor:
    """Nearest point with entries in ``[0, 1]`` that sum to ``total``, along the last axis.

    ``clamp(x - t, 0, 1)`` for the ``t`` that gives the sum, by bisection.
    """
    low, high = x.amin(-1, keepdim=True) - 1, x.amax(-1, keepdim=True)
    for _ in range(60):
        middle = (low + high) / 2
        more = (x - middle).clamp(0, 1).sum(-1, keepdim=True) > total
        low, high = torch.where(more, middle, low), torch.where(more, high, middle)
    return (x - (low + high) / 2).clamp(0, 1)


def _top(scores: Tensor) -> Tensor:
    """The five largest entries, as 0 and 1."""
    index = scores.topk(_CHOSEN, -1).indices
    return torch.zeros_like(scores).scatter_(-1, index, 1.0)


class Subset(Task):
    """See the head of this module; the measure is the expected loss above the best subset's."""

    name = "subset"
    title = "Subset"
    measure = "excess loss"
    optimum = 0.0
    categories = 252
    variables = 1
    steps = 2000
    rates = (10**-1.5, 1.0)

    @property
    def own(self) -> dict[str, Own]:
        """The exact expectation, and the methods for subsets."""
        steps = ("step size", (0.1, 1.0, 10.0))
        return {
            "exact gradient": Own(self._expected),
            "ILS, capped simplex": Own(self._projected, *steps),
            "SIMPLE": Own(self._marginals),
            "SFESS": Own(self._scored, "samples", (2.0, 4.0)),
            "I-MLE, top-k": Own(self._perturbed, *steps),
            "relaxed top-k": Own(self._relaxed, "temperature", (0.5, 1.0, 2.0)),
        }

    def start(self, stream: Stream) -> Parameters:
        """Even odds; ``b`` is normal, another for each seed, and learns nothing."""
        return {"theta": stream.normal(_SIZE).mul_(0), "b": stream.normal(_SIZE)}

    def batch(self, parameters: Parameters, stream: Stream, generator: torch.Generator) -> _Batch:
        """Randomness for the methods that draw subsets by themselves."""
        theta = parameters["theta"]
        uniform = torch.rand(len(theta), generator=generator, device=theta.device)
        numbers = torch.empty(theta.shape, device=theta.device).exponential_(generator=generator)
        return _Batch(uniform, -numbers.log())

    def logits(self, parameters: Parameters, batch: Any) -> Tensor:
        """``(R, 1, 252)``."""
        theta = parameters["theta"]
        return (theta @ subsets().to(theta).T).unsqueeze(-2)

    def _distance(self, parameters: Parameters, x: Tensor) -> Tensor:
        return ((x - parameters["b"].detach()) ** 2).sum(-1)

    def loss(self, parameters: Parameters, batch: Any, z: Tensor) -> Tensor:
        """``|x - b|^2``, ``x`` the subset; between subsets their mixture."""
        return self._distance(parameters, z.squeeze(-2) @ subsets().to(z))

    def _every(self, parameters: Parameters) -> tuple[Tensor, Tensor]:
        """Probabilities and losses of all subsets, ``(R, 252)``."""
        probs = self.logits(parameters, None).squeeze(-2).softmax(-1)
        every = subsets().to(probs)
        return probs, self._distance(parameters, every.unsqueeze(1)).T

    def _expected(self, parameters: Parameters, batch: _Batch, _: float = 0.0) -> Tensor:
        probs, losses = self._every(parameters)
        return (probs * losses).sum(-1)

    def _draw(self, parameters: Parameters, batch: _Batch) -> tuple[Tensor, Tensor]:
        """An exact draw and the gradient of the loss there."""
        probs = self.logits(parameters, batch).squeeze(-2).softmax(-1).detach()
        x = subsets().to(probs)[inverse_cdf(probs, batch.uniform)]
        return x, 2 * (x - parameters["b"].detach())

    def _projected(self, parameters: Parameters, batch: _Batch, step: float) -> Tensor:
        """ILS, centred: the target is the nearest mixture of subsets to the stepped draw."""
        x, grad = self._draw(parameters, batch)
        estimate = (x - project_capped(x - step * grad, _CHOSEN)) / step
        return (parameters["theta"] * estimate).sum(-1)

    def _marginals(self, parameters: Parameters, batch: _Batch, _: float) -> Tensor:
        """Forward an exact draw, backward the marginals: Ahmed et al. (2023)."""
        grad = self._draw(parameters, batch)[1]
        probs = self.logits(parameters, batch).squeeze(-2).softmax(-1)
        return ((probs @ subsets().to(probs)) * grad).sum(-1)

    def _scored(self, parameters: Parameters, batch: _Batch, samples: float) -> Tensor:
        """Losses less the mean of the others, times the logarithm of ``p``: Wijk et al. (2025)."""
        log_probs = self.logits(parameters, batch).squeeze(-2).log_softmax(-1)
        # As many independent uniform numbers as samples, from the noise that there is.
        uniform = -(-(-batch.gumbel[:, : int(samples)].double()).exp()).expm1()
        index = inverse_cdf(
            log_probs.detach().exp().unsqueeze(1).expand(-1, int(samples), -1), uniform
        )
        chosen = subsets().to(log_probs)[index].movedim(1, 0)
        losses = self._distance(parameters, chosen).T
        centred = losses - losses.mean(-1, keepdim=True)
        return (centred * log_probs.gather(-1, index)).sum(-1) / (samples - 1)

    def _perturbed(self, parameters: Parameters, batch: _Batch, step: float) -> Tensor:
        """The change of the largest five of perturbed scores: Niepert et al. (2021)."""
        scores = parameters["theta"].detach() + batch.gumbel
        x = _top(scores)
        grad = 2 * (x - parameters["b"].detach())
        return (parameters["theta"] * (x - _top(scores - step * grad)) / step).sum(-1)

    def _relaxed(self, parameters: Parameters, batch: _Batch, temperature: float) -> Tensor:
        """Five relaxed choices without replacement, added: Xie and Ermon (2019)."""
        scores = parameters["theta"] + batch.gumbel
        total = torch.zeros_like(scores)
        for _ in range(_CHOSEN):
            chosen = (scores / temperature).softmax(-1)
            total = total + chosen
            scores = scores + (1 - chosen).clamp(min=1e-6).log()
        return self._distance(parameters, total)

    def evaluate(self, parameters: Parameters, split: str) -> dict[str, Tensor]:
        """Expected loss above that of the best subset, exactly."""
        probs, losses = self._every(parameters)
        return {self.measure: (probs * losses).sum(-1) - losses.amin(-1)}
