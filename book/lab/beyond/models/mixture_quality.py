r"""Bias and variance of gradients for a mixture, against quadrature; and what the runs end at.

Twenty mixtures in each of two states: as the final runs begin, and *both modes*, two components in
each mode of the posterior, with its mean and standard deviations apart from a little noise, and
equal weights.  In the second mainly the weights are wrong.  The estimates are those of a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from lab.beyond.models.components import Mixture
from lab.beyond.models.moments import from_estimates
from lab.beyond.models.posterior import MixturePosterior, divergence, grid, log_posterior
from lab.beyond.models.protocol import SEEDS, Chosen, trained
from lab.training.task import Parameters, Stream

__all__ = ["MixtureFits", "MixtureQuality", "in_both_modes", "modes", "quality_of"]

_INSTANCES = 20
_ESTIMATES = 2000
_UNBIASED = ("leave-one-out", "implicit", "stratified", "stratified, many")
_PARTS = {"weights": ("logits",), "components": ("means", "log_scales")}


def modes() -> tuple[Tensor, Tensor]:
    """Means and standard deviations ``(2, 2)`` of the posterior on each side of the diagonal."""
    points, mass = grid(), log_posterior().exp()
    first, second = points.unbind(-1)
    sides = torch.stack([first > second, first < second]) * mass
    sides = sides / sides.sum(-1, keepdim=True)
    means = sides @ points
    return means, (sides @ points**2 - means**2).sqrt()


def in_both_modes(stream: Stream) -> Parameters:
    """Two components in each mode, with equal weights; the noise is a fifth of the spread."""
    means, spreads = (value.repeat_interleave(2, 0) for value in modes())
    noise = stream.normal(2, *means.shape).double() / 5
    return {
        "logits": torch.zeros_like(noise[:, 0, :, 0]),
        "means": means + spreads * noise[:, 0],
        "log_scales": spreads.log() + noise[:, 1],
    }


def quality_of(
    parameters: Parameters, method: str, setting: float, estimates: int = _ESTIMATES
) -> dict[str, dict[str, float]]:
    """Medians over mixtures of what :mod:`lab.methods.quality` measures, by part of parameters.

    Args:
        parameters: of some mixtures, ``(R, ...)``.
        method, setting: among those of the problem.
        estimates: how many a mixture.
    """
    task, names = MixturePosterior(), list(parameters)
    leaves = {name: p.detach().clone().requires_grad_() for name, p in parameters.items()}
    kl = divergence(Mixture(*leaves.values()))[0].sum()
    exact = dict(zip(names, torch.autograd.grad(kl, list(leaves.values())), strict=True))
    generator = torch.Generator().manual_seed(0)
    samples: dict[str, list[Tensor]] = {name: [] for name in names}
    for place in range(len(parameters["logits"])):
        copies = {
            name: p[place].expand(estimates, *p.shape[1:]).clone().requires_grad_()
            for name, p in parameters.items()
        }
        value = task.own[method].objective(copies, generator, setting).sum()
        found = torch.autograd.grad(value, list(copies.values()), materialize_grads=True)
        for name, gradient in zip(names, found, strict=True):
            samples[name].append(gradient)
    rows = {}
    for part, members in _PARTS.items():
        each = torch.cat([torch.stack(samples[m], 1).flatten(2) for m in members], -1)
        gradient = torch.cat([exact[m].flatten(1) for m in members], -1)
        measures = from_estimates(each, gradient, biased=method not in _UNBIASED).measures()
        rows[part] = {name: float(value.median()) for name, value in measures.items()}
    return rows


@dataclass(frozen=True)
class MixtureQuality:
    """Every method at its chosen setting.

    Attributes:
        chosen: methods with their settings and learning rates.
        seed: the first of the mixtures.
    """

    chosen: Chosen
    seed: int = 101

    @property
    def name(self) -> str:
        """Of the record."""
        return "models-mixture-quality"

    def __call__(self) -> pd.DataFrame:
        """Medians, index (state, part, method)."""
        seeds = list(range(self.seed, self.seed + _INSTANCES))
        states = {
            "random start": MixturePosterior().start(Stream(seeds)),
            "both modes": in_both_modes(Stream(seeds)),
        }
        rows = {}
        for state, parameters in states.items():
            for method, setting, _ in self.chosen:
                for part, found in quality_of(parameters, method, setting).items():
                    rows[state, part, method] = found
        index = pd.MultiIndex.from_tuples(rows, names=["state", "part", "method"])
        return pd.DataFrame(list(rows.values()), index=index)


@dataclass(frozen=True)
class MixtureFits:
    """The mixtures at which the final runs end.

    Attributes:
        chosen: methods with their settings and learning rates.
    """

    chosen: Chosen

    @property
    def name(self) -> str:
        """Of the record."""
        return "models-mixture-fits"

    @property
    def configuration(self) -> dict[str, object]:
        """The seeds, and what was chosen."""
        return {"seed": list(SEEDS["mixture"]), "chosen": self.chosen}

    def __call__(self) -> pd.DataFrame:
        """Weights, means and standard deviations, index (method, seed, component)."""
        parts = {}
        for chosen in self.chosen:
            last: Parameters = {}

            def look(_: int, parameters: Parameters, last: Parameters = last) -> None:
                last.update({name: p.clone() for name, p in parameters.items()})

            trained("mixture", chosen, records=1, look=look)
            columns = {"weight": last["logits"].softmax(-1)}
            for axis in (0, 1):
                columns[f"mean {axis + 1}"] = last["means"][..., axis]
                columns[f"spread {axis + 1}"] = last["log_scales"][..., axis].exp()
            seeds, count = SEEDS["mixture"], last["logits"].shape[-1]
            index = pd.MultiIndex.from_product([seeds, range(count)], names=["seed", "component"])
            table = {name: value.flatten().tolist() for name, value in columns.items()}
            parts[chosen[0]] = pd.DataFrame(table, index=index)
        return pd.concat(parts, names=["method"])
