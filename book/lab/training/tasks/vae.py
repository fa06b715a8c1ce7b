"""A VAE of real size: dense layers with leaky rectifiers, one-hot or integer codes, grey targets.

The architecture is that of the code of Hooper and Shekhovtsov (2026), ``VAE/VAE.py`` of
``James-Hooper123/Generalized-and-Optimal-Straight-Through-Estimators``: encoder 784-512-256-nK and
decoder backwards, leaky rectifiers of slope 0.2, the cross-entropy of grey values in nats, the
exact divergence from the uniform prior.  An integer code is the category's number over ``K - 1``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu, one_hot

from lab.training.task import Parameters, Stream, linear
from lab.training.tasks.autoencoder import Autoencoder, layers

__all__ = ["EMBEDDINGS", "Vae"]

EMBEDDINGS = ("one-hot", "integer")

_SLOPE = 0.2
_CHUNK = 500
_SEED = 7


@dataclass(frozen=True)
class Vae(Autoencoder):
    """An autoencoder whose decoder sees one-hot draws or their numbers.

    Attributes:
        embedding: one of :data:`EMBEDDINGS`.
    """

    widths: tuple[int, ...] = (512, 256)
    examples: int = 200
    embedding: str = "one-hot"

    def start(self, stream: Stream) -> Parameters:
        """Layers as ``torch.nn.Linear`` starts them."""
        pixels = self.images.train[0].numel()
        code = self.variables * self.categories
        seen = code if self.embedding == "one-hot" else self.variables
        return stream.each(
            lambda generator: {
                **layers(generator, "in", [pixels, *self.widths, code]),
                **layers(generator, "out", [seen, *reversed(self.widths), pixels]),
            }
        )

    def logits(self, parameters: Parameters, batch: Any) -> Tensor:
        """``(R, B, n, K)``."""
        code = self._network(parameters, "in", batch[0])
        return code.unflatten(-1, (self.variables, self.categories))

    def decode(self, parameters: Parameters, z: Tensor) -> Tensor:
        """Logits of the pixels, ``(..., R, B, pixels)``."""
        if self.embedding == "integer":
            numbers = torch.arange(self.categories, dtype=z.dtype, device=z.device)
            return self._network(parameters, "out", z @ (numbers / (self.categories - 1)))
        return self._network(parameters, "out", z.flatten(-2))

    def evaluate(self, parameters: Parameters, split: str) -> dict[str, Tensor]:
        """:meth:`bounds` on validation or test images, by one draw."""
        return self.bounds(parameters, self.images.part(split), 1)

    @torch.no_grad()
    def bounds(self, parameters: Parameters, images: Tensor, samples: int) -> dict[str, Tensor]:
        """Mean bounds over images, ``(R,)`` each.

        The uniform numbers behind the draws are the same for every run and method.

        Args:
            parameters: of all runs.
            images: ``(N, height, width)``.
            samples: draws an image.

        Returns:
            The negative ELBO, with the exact divergence; the divergence; the importance-weighted
            bound, ``-log mean_s p(x, z_s) / q(z_s | x)``, no larger in expectation.
        """
        like = parameters["in1.bias"]
        runs, total = len(like), {}
        one = torch.Generator().manual_seed(_SEED)
        for part in images.split(_CHUNK):
            x = part.flatten(1).to(like).expand(runs, -1, -1)
            log_probs = self.logits(parameters, (x, x)).log_softmax(-1)
            edges = log_probs.exp().cumsum(-1)
            divergence = self.divergence(log_probs)
            losses, weights = [], []
            for _ in range(samples):
                u = torch.rand(edges.shape[1:-1], generator=one).to(like.device)
                index = (edges < u.unsqueeze(-1)).sum(-1).clamp(max=self.categories - 1)
                loss, weight = self.weigh(parameters, x, log_probs, index)
                losses.append(loss)
                weights.append(weight)
            found = {
                self.measure: torch.stack(losses).mean(0) + divergence,
                "divergence": divergence,
                "importance-weighted bound": math.log(samples) - torch.stack(weights).logsumexp(0),
            }
            for name, values in found.items():
                total[name] = total.get(name, 0) + values.double().sum(-1)
        return {name: values / len(images) for name, values in total.items()}

    def weigh(
        self, parameters: Parameters, x: Tensor, log_probs: Tensor, index: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The loss at categories ``(R, B, n)``, and ``log p(x, z) / q(z | x)``; ``(R, B)`` each."""
        loss = self.loss(parameters, (x, x), one_hot(index, self.categories).to(x))
        posterior = log_probs.gather(-1, index.unsqueeze(-1)).sum((-2, -1))
        return loss, -self.variables * math.log(self.categories) - loss - posterior

    def _network(self, parameters: Parameters, name: str, x: Tensor) -> Tensor:
        for layer in range(1, len(self.widths) + 1):
            x = leaky_relu(linear(parameters, f"{name}{layer}", x), _SLOPE)
        return linear(parameters, f"{name}{len(self.widths) + 1}", x)
