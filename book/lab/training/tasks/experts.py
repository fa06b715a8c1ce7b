"""A mixture of experts whose router draws one expert for each example.

The function to be learnt is piecewise linear; an expert is linear, so that a good router finds
the pieces.  The balancing term of Fedus et al. (2022), here with expected shares in both factors,
keeps the share of each expert from vanishing.

SparseMixer is no estimator for this model, which does not multiply an expert by its probability: it
stands in :mod:`lab.training.tasks.sparse`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lab.training.task import Own, Parameters, Stream, Task, dense, linear

__all__ = ["Experts"]

_TRUTH_SEED = 5
_INPUTS, _HIDDEN = 4, 32
_BALANCE = 0.01
_NOISE = 0.1


class _Batch(NamedTuple):
    x: Tensor  # (R, B, 4)
    y: Tensor  # (R, B)


class Experts(Task):
    """See the head of this module; the measure is the expected squared error."""

    name = "experts"
    title = "Mixture of experts"
    measure = "squared error"
    optimum = _NOISE**2
    categories = 8
    variables = 1
    examples = 64
    steps = 2000
    rates = (10**-2.5, 1e-1)
    decoder = ("experts.weight", "experts.bias")

    @property
    def own(self) -> dict[str, Own]:
        """Descent on the exact expectation."""
        return {"exact gradient": Own(self._expected)}

    def start(self, stream: Stream) -> Parameters:
        """Router of one hidden layer, linear experts."""

        def make(generator: torch.Generator) -> Parameters:
            return {
                **dense(generator, "router1", _INPUTS, _HIDDEN),
                **dense(generator, "router2", _HIDDEN, self.categories),
                **dense(generator, "experts", _INPUTS, self.categories),
            }

        return stream.each(make)

    def truth(self, x: Tensor) -> Tensor:
        """The function: the piece of the nearest of eight centres."""
        generator = torch.Generator().manual_seed(_TRUTH_SEED)
        centres = torch.randn(self.categories, _INPUTS, generator=generator).to(x)
        slopes = torch.randn(_INPUTS, self.categories, generator=generator).to(x)
        shifts = torch.randn(self.categories, generator=generator).to(x)
        near = (x @ centres.T - (centres**2).sum(-1) / 2).argmax(-1, keepdim=True)
        return (x @ slopes + shifts).gather(-1, near).squeeze(-1)

    def batch(self, parameters: Parameters, stream: Stream, generator: torch.Generator) -> _Batch:
        """Fresh inputs at every step."""
        x = stream.normal(self.examples, _INPUTS)
        return _Batch(x, self.truth(x) + _NOISE * stream.normal(self.examples))

    def logits(self, parameters: Parameters, batch: _Batch) -> Tensor:
        """``(R, B, 1, K)``."""
        hidden = linear(parameters, "router1", batch.x).relu()
        return linear(parameters, "router2", hidden).unsqueeze(-2)

    def loss(self, parameters: Parameters, batch: _Batch, z: Tensor) -> Tensor:
        """Squared error of the drawn expert."""
        outputs = linear(parameters, "experts", batch.x)
        return ((z.squeeze(-2) * outputs).sum(-1) - batch.y) ** 2

    def penalty(self, parameters: Parameters, batch: _Batch, logits: Tensor) -> Tensor:
        """``K sum_k share_k^2``, times 0.01."""
        share = logits.squeeze(-2).softmax(-1).mean(-2)
        return _BALANCE * self.categories * (share**2).sum(-1)

    def _errors(self, parameters: Parameters, batch: _Batch) -> tuple[Tensor, Tensor]:
        """Probabilities and squared errors of every expert, ``(R, B, K)``."""
        probs = self.logits(parameters, batch).squeeze(-2).softmax(-1)
        errors = (linear(parameters, "experts", batch.x) - batch.y.unsqueeze(-1)) ** 2
        return probs, errors

    def _expected(self, parameters: Parameters, batch: _Batch, _: float = 0.0) -> Tensor:
        probs, errors = self._errors(parameters, batch)
        balance = _BALANCE * self.categories * (probs.mean(-2) ** 2).sum(-1)
        return (probs * errors).sum(-1).mean(-1) + balance

    def evaluate(self, parameters: Parameters, split: str) -> dict[str, Tensor]:
        """Expected error of a draw and error of the likeliest expert, on 2,000 inputs."""
        generator = torch.Generator().manual_seed({"validation": 1, "test": 2}[split])
        weight = parameters["experts.weight"]
        x = torch.randn(2000, _INPUTS, generator=generator).to(weight)
        noise = torch.randn(2000, generator=generator).to(weight)
        y = self.truth(x) + _NOISE * noise
        runs = len(weight)
        batch = _Batch(x.expand(runs, -1, -1), y.expand(runs, -1))
        probs, errors = self._errors(parameters, batch)
        likeliest = errors.gather(-1, probs.argmax(-1, keepdim=True)).squeeze(-1)
        return {
            self.measure: (probs * errors).sum(-1).mean(-1),
            "likeliest expert": likeliest.mean(-1),
            "experts in use": (probs.mean(-2) > 0.01).float().sum(-1),
        }
