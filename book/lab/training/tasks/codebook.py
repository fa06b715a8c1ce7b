"""A codebook between two networks, as in a vector-quantised autoencoder.

The encoder's output is cut into four pieces; a piece draws a code with logits minus its squared
distance to each, and the decoder gets that code.  The references take the nearest code and draw
nothing.  The usual training of such a model (van den Oord et al., 2017) copies the decoder's
gradient to the piece, and has two terms that pull codes and pieces together.  The rotation trick
(Fifty et al., 2025) has the same terms, but rotates and rescales the gradient as it would the piece
to get its code: the formula of the authors' published code, which adds 1e-6 to each norm, where
here a norm is at least that.  Finite scalar quantisation (Mentzer et al., 2024) has no codes to
learn: two numbers of a piece are bounded and rounded to eight and four levels, with the gradient of
the rounding copied, as in the authors' published code.  The layers are the same: the other numbers
of a piece are not used, and the decoder gets zeros for them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot, pad, softplus

from lab.training.task import Own, Parameters, Stream
from lab.training.tasks.autoencoder import Pixels, layers, network

__all__ = ["Codebook", "copied", "levels", "rotated"]

_WIDTH = 8
_COMMITMENT = 0.25
_LEVELS = (8, 4)  # as many combinations as there are codes


def copied(pieces: Tensor, codes: Tensor) -> Tensor:
    """The codes, with the identity as their derivative for the pieces."""
    return pieces + (codes - pieces).detach()


def rotated(pieces: Tensor, codes: Tensor) -> Tensor:
    """The codes as pieces that are rotated and rescaled, both held constant: the rotation trick.

    The rotation is ``1 - 2 w w' + 2 q e'`` with ``e`` and ``q`` of length 1 along piece and code,
    and ``w`` along their sum.
    """
    e, q = normalize(pieces.detach(), dim=-1), normalize(codes.detach(), dim=-1)
    w = normalize(e + q, dim=-1)
    length = pieces.detach().norm(dim=-1, keepdim=True).clamp(min=1e-6)
    ratio = codes.detach().norm(dim=-1, keepdim=True) / length
    along_w, along_e = ((pieces * x).sum(-1, keepdim=True) for x in (w, e))
    return ratio * (pieces - 2 * along_w * w + 2 * along_e * q)


def levels(pieces: Tensor) -> tuple[Tensor, Tensor]:
    """Finite scalar quantisation of the first numbers of each piece, and which combination it is.

    The shift is the tangent that the authors' code has; with the inverse of tanh, a number of zero
    would stay zero.
    """
    count = pieces.new_tensor(_LEVELS)
    half, middle = (count - 1) * (1 - 1e-3) / 2, count // 2
    offset = (count % 2 == 0) / 2
    bounded = (pieces[..., : len(_LEVELS)] + (offset / half).tan()).tanh() * half - offset
    level = bounded + (bounded.round() - bounded).detach()
    place = pieces.new_tensor([1, *torch.tensor(_LEVELS[:-1]).cumprod(0)])
    return level / middle, ((level + middle).detach().round() * place).sum(-1).long()


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
        """With the nearest code, and with levels in place of codes."""
        return {
            "VQ-VAE": Own(partial(self._nearer, copied)),
            "rotation trick": Own(partial(self._nearer, rotated)),
            "FSQ": Own(self._rounded, evaluate=self._evaluate_rounded),
        }

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
        return one_hot(index, self.categories).to(parameters["codes"])

    def _losses(self, parameters: Parameters, batch: Any, chosen: Tensor) -> Tensor:
        score = network(parameters, "out", chosen.flatten(-2))
        return softplus(score).sum(-1) - (score * batch[1]).sum(-1)

    def _nearer(
        self,
        carry: Callable[[Tensor, Tensor], Tensor],
        parameters: Parameters,
        batch: Any,
        _: float = 0.0,
    ) -> Tensor:
        pieces = self._pieces(parameters, batch)
        z = self._nearest(parameters, batch)
        chosen = torch.einsum("rbnk,rkd->rbnd", z, parameters["codes"])
        losses = self._losses(parameters, batch, carry(pieces, chosen))
        together = (chosen - pieces.detach()) ** 2 + _COMMITMENT * (chosen.detach() - pieces) ** 2
        return (losses + together.sum((-1, -2))).mean(-1)

    def _combination(self, parameters: Parameters, batch: Any) -> tuple[Tensor, Tensor]:
        """Losses with levels in place of codes, and the one-hot combination of each piece."""
        found, index = levels(self._pieces(parameters, batch))
        losses = self._losses(parameters, batch, pad(found, (0, _WIDTH - len(_LEVELS))))
        return losses, one_hot(index, self.categories).to(found)

    def _rounded(self, parameters: Parameters, batch: Any, _: float = 0.0) -> Tensor:
        return self._combination(parameters, batch)[0].mean(-1)

    def _evaluate_rounded(self, parameters: Parameters, split: str) -> dict[str, Tensor]:
        batch = self._whole(split, len(parameters["codes"]), parameters["codes"])
        return self._measured(*self._combination(parameters, batch))

    def _measured(self, losses: Tensor, z: Tensor) -> dict[str, Tensor]:
        share = z.mean((1, 2))
        perplexity = (-(share * share.clamp(min=1e-12).log()).sum(-1)).exp()
        return {self.measure: losses.mean(-1), "perplexity of the codes": perplexity}

    def evaluate(self, parameters: Parameters, split: str) -> dict[str, Tensor]:
        """With the nearest code in place of a draw, and the number of codes in use."""
        runs = len(parameters["codes"])
        batch = self._whole(split, runs, parameters["codes"])
        z = self._nearest(parameters, batch)
        return self._measured(self.loss(parameters, batch, z.unsqueeze(0)).squeeze(0), z)
