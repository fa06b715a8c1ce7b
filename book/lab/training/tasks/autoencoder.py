"""Categorical variables between two networks: a VAE of digits, and lower halves from upper ones.

An encoder gives the logits of ``n`` variables with ``K`` categories; a decoder gives, from their
draw, the probability that each pixel is on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ils.draw import draw_index
from ils.states import states
from lab.methods.daps import trust, weights
from lab.training.task import Own, Parameters, Stream, Task, dense, linear
from lab.training.tasks.digits import Images, bundled

__all__ = ["Autoencoder", "Halves", "Pixels", "layers", "network"]

_EVALUATIONS = 20
_POLICY_DRAWS = 8  # as in the authors' code on MNIST


def layers(generator: torch.Generator, name: str, sizes: Sequence[int]) -> Parameters:
    """Layers ``name1``, ``name2``, ... from each size to the next."""
    made: Parameters = {}
    for place, (inputs, outputs) in enumerate(pairwise(sizes), 1):
        made |= dense(generator, f"{name}{place}", inputs, outputs)
    return made


def network(parameters: Parameters, name: str, x: Tensor) -> Tensor:
    """The layers in turn, with a rectifier between them."""
    last = 1
    while f"{name}{last + 1}.weight" in parameters:
        last += 1
    for place in range(1, last):
        x = linear(parameters, f"{name}{place}", x).relu()
    return linear(parameters, f"{name}{last}", x)


@dataclass(frozen=True)
class Pixels(Task):
    """What these problems share: two networks of dense layers.

    Attributes:
        categories: ``K``.
        variables: ``n``.
        widths: of the encoder's hidden layers; the decoder's are the same, backwards.
        examples: images a step.
        main_only: whether only the main methods take part.
        images: where they come from.
    """

    categories: int = 8
    variables: int = 4
    widths: tuple[int, ...] = (64,)
    examples: int = 32
    steps: int = 1000
    main_only: bool = False
    images: Images = field(default_factory=bundled, repr=False, compare=False)

    rates = (1e-3, 10**-1.5)

    @property
    def decoder(self) -> tuple[str, ...]:
        """The layers after the draw."""
        layers = range(1, len(self.widths) + 2)
        return tuple(f"out{layer}.{part}" for layer in layers for part in ("weight", "bias"))

    def split(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What the encoder sees and what the decoder predicts, ``(..., pixels)``."""
        raise NotImplementedError

    def start(self, stream: Stream) -> Parameters:
        """Layers as ``torch.nn.Linear`` starts them."""
        given, wanted = (x.shape[-1] for x in self.split(self.images.train[:1]))
        code = self.variables * self.categories

        return stream.each(
            lambda generator: {
                **layers(generator, "in", [given, *self.widths, code]),
                **layers(generator, "out", [code, *reversed(self.widths), wanted]),
            }
        )

    def batch(self, parameters: Parameters, stream: Stream, generator: torch.Generator) -> Any:
        """Images of each run, drawn with replacement."""
        index = stream.indices(len(self.images.train), self.examples)
        return self.split(self.images.train.to(index.device)[index])

    def logits(self, parameters: Parameters, batch: Any) -> Tensor:
        """``(R, B, n, K)``."""
        code = network(parameters, "in", batch[0])
        return code.unflatten(-1, (self.variables, self.categories))

    def decode(self, parameters: Parameters, z: Tensor) -> Tensor:
        """Logits of the pixels, ``(..., R, B, pixels)``."""
        return network(parameters, "out", z.flatten(-2))

    def loss(self, parameters: Parameters, batch: Any, z: Tensor) -> Tensor:
        """Negative log-likelihood of the pixels, in nats."""
        score = self.decode(parameters, z)
        return softplus(score).sum(-1) - (score * batch[1]).sum(-1)

    def _whole(self, split: str, runs: int, like: Tensor) -> tuple[Tensor, Tensor]:
        given, wanted = self.split(self.images.part(split).to(like.device))
        return given.expand(runs, *given.shape), wanted.expand(runs, *wanted.shape)

    def _states(
        self, parameters: Parameters, logits: Tensor, wanted: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities and losses of every joint state, ``(R, B, S)``."""
        z = states(logits.new_zeros(self.variables, self.categories), 0)
        flat = z.flatten(-2)
        score = self.decode(parameters, z.expand(len(logits), *z.shape))  # (R, S, pixels)
        losses = softplus(score).sum(-1).unsqueeze(1) - wanted @ score.transpose(-1, -2)
        return logits.log_softmax(-1).flatten(-2) @ flat.T, losses

    def enumerable(self) -> bool:
        """Whether all joint states can be summed over at every step."""
        return self.categories**self.variables <= 4096


class Autoencoder(Pixels):
    """Categorical VAE with a uniform prior; the measure is the negative ELBO."""

    measure = "negative ELBO"

    @property
    def name(self) -> str:
        """``vae-8x4``: categories by variables."""
        return f"vae-{self.categories}x{self.variables}"

    @property
    def title(self) -> str:
        """As in tables."""
        return f"VAE, {self.categories} x {self.variables}"

    @property
    def own(self) -> dict[str, Own]:
        """Descent on the exact expectation, and a method for the bound with its entropy."""
        exact = {"exact gradient": Own(self._expected)} if self.enumerable() else {}
        shares = ("effective share of draws", (0.5, 0.75, 0.9))
        return exact if self.main_only else {**exact, "DAPS": Own(self._policy_search, *shares)}

    def batch(self, parameters: Parameters, stream: Stream, generator: torch.Generator) -> Any:
        """Images, and a seed where a method draws by itself."""
        images = super().batch(parameters, stream, generator)
        if self.main_only:
            return images
        seed = torch.randint(2**31, (1,), generator=generator, device=generator.device)
        return *images, seed

    def split(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """All pixels, twice."""
        return images.flatten(-2), images.flatten(-2)

    def divergence(self, logits: Tensor) -> Tensor:
        """``KL(pi || uniform)`` of each example, ``(R, B)``."""
        log_probs = logits.log_softmax(-1)
        entropy = -(log_probs.exp() * log_probs).sum((-1, -2))
        return self.variables * math.log(self.categories) - entropy

    def penalty(self, parameters: Parameters, batch: Any, logits: Tensor) -> Tensor:
        """The divergence from the prior, in nats."""
        return self.divergence(logits).mean(-1)

    def _bound(self, parameters: Parameters, batch: Any) -> Tensor:
        logits = self.logits(parameters, batch)
        log_probs, losses = self._states(parameters, logits, batch[1])
        return (log_probs.exp() * losses).sum(-1) + self.divergence(logits)

    def _expected(self, parameters: Parameters, batch: Any, _: float = 0.0) -> Tensor:
        return self._bound(parameters, batch).mean(-1)

    def _policy_search(self, parameters: Parameters, batch: Any, share: float) -> Tensor:
        logits = self.logits(parameters, batch)
        generator = torch.Generator(logits.device).manual_seed(int(batch[2]))
        rows = logits.detach().expand(_POLICY_DRAWS, *logits.shape).softmax(-1)
        return self.reweighted(parameters, batch, logits, draw_index(rows, generator), share)

    def reweighted(
        self, parameters: Parameters, batch: Any, logits: Tensor, index: Tensor, share: float
    ) -> Tensor:
        """What DAPS minimises after the draws ``(D, R, B, n)``; their losses for the decoder."""
        z = torch.nn.functional.one_hot(index, self.categories).to(logits)
        losses = self.loss(parameters, batch, z)
        log_probs = (logits.log_softmax(-1) * z).sum((-1, -2))
        given = log_probs.detach(), losses.detach()
        weight = weights(*given, trust(*given, share, 1.0), 1.0)
        return (losses.mean(0) - (weight * log_probs).sum(0)).mean(-1)

    def evaluate(self, parameters: Parameters, split: str) -> dict[str, Tensor]:
        """The bound: exactly for few states, else over draws; its part that is the divergence."""
        runs = len(parameters["in1.bias"])
        batch = self._whole(split, runs, parameters["in1.bias"])
        logits = self.logits(parameters, batch)
        divergence = self.divergence(logits).mean(-1)
        if self.enumerable():
            bound = self._bound(parameters, batch).mean(-1)
        else:
            bound = _mean_loss(self, parameters, batch, logits).mean((0, -1)) + divergence
        return {self.measure: bound, "divergence": divergence}


class Halves(Pixels):
    """The lower half of a digit from its upper half; the measure is the negative log-likelihood.

    Trained on the expected loss of one draw, as Raiko et al. (2015) do; measured by the logarithm
    of the mean likelihood over several draws.
    """

    measure = "negative log-likelihood"

    @property
    def name(self) -> str:
        """``halves-8x16``: categories by variables."""
        return f"halves-{self.categories}x{self.variables}"

    @property
    def title(self) -> str:
        """As in tables."""
        return f"Lower half, {self.categories} x {self.variables}"

    def split(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Upper and lower half."""
        height = images.shape[-2] // 2
        return images[..., :height, :].flatten(-2), images[..., height:, :].flatten(-2)

    def evaluate(self, parameters: Parameters, split: str) -> dict[str, Tensor]:
        """Of the mean over draws, and, as trained, of one."""
        runs = len(parameters["in1.bias"])
        batch = self._whole(split, runs, parameters["in1.bias"])
        losses = _mean_loss(self, parameters, batch, self.logits(parameters, batch))
        several = math.log(len(losses)) - (-losses).logsumexp(0)
        return {self.measure: several.mean(-1), "expected loss": losses.mean((0, -1))}


def _mean_loss(task: Pixels, parameters: Parameters, batch: Any, logits: Tensor) -> Tensor:
    """Losses at draws that are the same for every method, ``(draws, R, B)``."""
    one = torch.Generator().manual_seed(7)
    probs = logits.softmax(-1).cumsum(-1)
    losses = []
    for _ in range(_EVALUATIONS):
        # The same uniform numbers for every run: a paired comparison has less noise.
        u = torch.rand(logits.shape[1:-1], generator=one).to(logits.device)
        index = (probs < u.unsqueeze(-1)).sum(-1).clamp(max=task.categories - 1)
        z = torch.nn.functional.one_hot(index, task.categories).to(logits)
        losses.append(task.loss(parameters, batch, z.unsqueeze(0)).squeeze(0))
    return torch.stack(losses)
