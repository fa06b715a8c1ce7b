"""A codebook between two networks, as in a vector-quantised autoencoder.

The encoder's output is cut into four pieces; a piece draws a code with logits minus its squared
distance to each, and the decoder gets that code.  The reference is the usual training of such a
model: the nearest code, the decoder's gradient copied to the piece, and two terms that pull codes
and pieces together (van den Oord et al., 2017).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from lab.training.task import Own, Parameters, Stream
from lab.training.tasks.autoencoder import Pixels, layers, network

__all__ = ["Codebook"]

_WIDTH = 8
_COMMITMENT = 0.25


@dataclass(frozen=True)
class Codebook(Pixels):
    """See the head of this module; the measure is the error of the nearest code."""

    categories: int = 32
    variables: int = 4

    name = "codebook"
    title = "Codebook"
    measure = "negative log-likelihood"

    @property
    def decoder(self) -> tuple[str, ...]:
        """The codes and the layers after them."""
        return ("codes", *super().decoder)

    @property
    def own(self) -> dict[str, Own]:
        """The usual training: the nearest code, with the decoder's gradient copied."""
        return {"VQ-VAE": Own(self._copied)}

    def split(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """All pixels, twice."""
        return images.flatten(-2), images.flatten(-2)

    def start(self, stream: Stream) -> Parameters:
        """Codes are standard normal."""
        pixels, wide = self.images.train[0].numel(), self.variables * _WIDTH

        def make(generator: torch.Generator) -> Parameters:
            return {
                **layers(generator, "in", [pixels, *self.widths, wide]),
                "codes": torch.randn(self.categories, _WIDTH, generator=generator),
                **layers(generator, "out", [wide, *reversed(self.widths), pixels]),
            }

        return stream.each(make)

    def _pieces(self, parameters: Parameters, batch: Any) -> Tensor:
        return network(parameters, "in", batch[0]).unflatten(-1, (self.variables, _WIDTH))

    def logits(self, parameters: Parameters, batch: Any) -> Tensor:
        """Minus the squared distances, ``(R, B, n, K)``; the length of a piece cancels."""
        pieces, codes = self._pieces(parameters, batch), parameters["codes"]
        products = torch.einsum("rbnd,rkd->rbnk", pieces, codes)
        return 2 * products - (codes**2).sum(-1)[:, None, None]

    def decode(self, parameters: Parameters, z: Tensor) -> Tensor:
        """Logits of the pixels from one-hot draws."""
        chosen = torch.einsum("...rbnk,rkd->...rbnd", z, parameters["codes"])
        return network(parameters, "out", chosen.flatten(-2))

    def _nearest(self, parameters: Parameters, batch: Any) -> Tensor:
        index = self.logits(parameters, batch).argmax(-1)
        return torch.nn.functional.one_hot(index, self.categories).to(parameters["codes"])

    def _copied(self, parameters: Parameters, batch: Any, _: float = 0.0) -> Tensor:
        pieces = self._pieces(parameters, batch)
        z = self._nearest(parameters, batch)
        chosen = torch.einsum("rbnk,rkd->rbnd", z, parameters["codes"])
        copied = pieces + (chosen - pieces).detach()
        score = network(parameters, "out", copied.flatten(-2))
        losses = softplus(score).sum(-1) - (score * batch[1]).sum(-1)
        together = (chosen - pieces.detach()) ** 2 + _COMMITMENT * (chosen.detach() - pieces) ** 2
        return (losses + together.sum((-1, -2))).mean(-1)

    def evaluate(self, parameters: Parameters, split: str) -> dict[str, Tensor]:
        """With the nearest code in place of a draw, and the number of codes in use."""
        runs = len(parameters["codes"])
        batch = self._whole(split, runs, parameters["codes"])
        z = self._nearest(parameters, batch)
        losses = self.loss(parameters, batch, z.unsqueeze(0)).squeeze(0)
        share = z.mean((1, 2))
        perplexity = (-(share * share.clamp(min=1e-12).log()).sum(-1)).exp()
        return {self.measure: losses.mean(-1), "perplexity of the codes": perplexity}
