"""Labels that depend on a hidden cluster: the synthetic problem of Mihaylova et al. (2020).

``x`` lies near one of ``K`` centres in 100 dimensions; its label is the side of a threshold on
which ``<w, x>`` falls, with another ``w`` for each cluster.  A linear encoder names a cluster, and
the decoder has a linear classifier for each.  The clusters themselves are never shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from sklearn.metrics import v_measure_score
from torch import Tensor
from torch.nn.functional import softplus

from lab.training.task import Own, Parameters, Stream, Task, dense, linear

__all__ = ["Clusters"]

_SEED = 42
_INPUTS, _SPREAD = 100, 0.1
_SIZES = {"train": 5000, "validation": 1000, "test": 1000}


class _Batch(NamedTuple):
    x: Tensor  # (R, B, 100)
    label: Tensor  # 0 or 1, (R, B)
    cluster: Tensor  # (R, B); for the reference that is given it


@dataclass(frozen=True)
class Clusters(Task):
    """See the head of this module; the measure is the share of wrong labels.

    Attributes:
        categories: ``K``, as many as there are clusters.
        examples: a step, where the authors take all 5,000.
        steps: of a final run.
        main_only: whether only the main methods take part.
    """

    categories: int = 3
    examples: int = 128
    steps: int = 1500
    main_only: bool = False

    variables = 1
    measure = "share of wrong labels"
    optimum = 0.0
    rates = (1e-2, 10**-0.5)
    decoder = ("label.weight", "label.bias")

    @property
    def name(self) -> str:
        """``clusters-10``."""
        return f"clusters-{self.categories}"

    @property
    def title(self) -> str:
        """As in tables."""
        return f"Clusters, {self.categories}"

    @property
    def own(self) -> dict[str, Own]:
        """The exact expectation, the mean of the decoders, and an encoder given the clusters."""
        return {
            "exact gradient": Own(self._expected),
            "marginals": Own(self._marginals),
            "gold clusters": Own(self._told),
        }

    @cached_property
    def data(self) -> dict[str, _Batch]:
        """Training, validation and test examples, the same on every call."""
        generator = torch.Generator().manual_seed(_SEED)
        centres = torch.randn(self.categories, _INPUTS, generator=generator)
        weights = torch.randn(self.categories, _INPUTS, generator=generator)
        thresholds = torch.zeros(self.categories)
        parts = {}
        for part, size in _SIZES.items():
            cluster = torch.randint(self.categories, (size,), generator=generator)
            noise = torch.randn(size, _INPUTS, generator=generator)
            x = centres[cluster] + _SPREAD * noise
            score = (x * weights[cluster]).sum(-1)
            if part == "train":  # so that half of each cluster has either label
                sums = torch.zeros(self.categories).index_add_(0, cluster, score)
                thresholds = sums / cluster.bincount(minlength=self.categories)
            parts[part] = _Batch(x, (score > thresholds[cluster]).float(), cluster)
        return parts

    def start(self, stream: Stream) -> Parameters:
        """Encoder and one classifier a cluster, as ``torch.nn.Linear`` starts them."""
        return stream.each(
            lambda generator: {
                **dense(generator, "cluster", _INPUTS, self.categories),
                **dense(generator, "label", _INPUTS, self.categories),
            }
        )

    def batch(self, parameters: Parameters, stream: Stream, generator: torch.Generator) -> _Batch:
        """Training examples, drawn with replacement."""
        index = stream.indices(_SIZES["train"], self.examples)
        return _Batch(*(part.to(index.device)[index] for part in self.data["train"]))

    def logits(self, parameters: Parameters, batch: _Batch) -> Tensor:
        """``(R, B, 1, K)``."""
        return linear(parameters, "cluster", batch.x).unsqueeze(-2)

    def _scores(self, parameters: Parameters, batch: _Batch) -> Tensor:
        """Log-odds of the label under each cluster's classifier, ``(R, B, K)``."""
        return linear(parameters, "label", batch.x)

    @staticmethod
    def _entropy(score: Tensor, label: Tensor) -> Tensor:
        return softplus(score) - label * score

    def loss(self, parameters: Parameters, batch: _Batch, z: Tensor) -> Tensor:
        """Cross-entropy of the label, the drawn cluster's classifier deciding."""
        score = (z.squeeze(-2) * self._scores(parameters, batch)).sum(-1)
        return self._entropy(score, batch.label)

    def _expected(self, parameters: Parameters, batch: _Batch, _: float = 0.0) -> Tensor:
        probs = self.logits(parameters, batch).squeeze(-2).softmax(-1)
        losses = self._entropy(self._scores(parameters, batch), batch.label.unsqueeze(-1))
        return (probs * losses).sum(-1).mean(-1)

    def _marginals(self, parameters: Parameters, batch: _Batch, _: float) -> Tensor:
        probs = self.logits(parameters, batch).softmax(-1)
        return self.loss(parameters, batch, probs).mean(-1)

    def _told(self, parameters: Parameters, batch: _Batch, _: float) -> Tensor:
        scores = self.logits(parameters, batch).squeeze(-2).log_softmax(-1)
        z = torch.nn.functional.one_hot(batch.cluster, self.categories).to(scores)
        return (self.loss(parameters, batch, z.unsqueeze(-2)) - (z * scores).sum(-1)).mean(-1)

    def evaluate(self, parameters: Parameters, split: str) -> dict[str, Tensor]:
        """Wrong labels with the likeliest cluster, and the V-measure of these clusters."""
        weight = parameters["cluster.weight"]
        parts = (part.to(weight.device) for part in self.data[split])
        batch = _Batch(*(part.expand(len(weight), *part.shape) for part in parts))
        index = self.logits(parameters, batch).squeeze(-2).argmax(-1, keepdim=True)
        score = self._scores(parameters, batch).gather(-1, index).squeeze(-1)
        wrong = ((score > 0) != (batch.label > 0)).float().mean(-1)
        true = self.data[split].cluster.numpy()
        found = [v_measure_score(true, labels) for labels in index.squeeze(-1).cpu().numpy()]
        return {self.measure: wrong, "V-measure": torch.tensor(found)}
