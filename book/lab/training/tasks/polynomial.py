"""Polynomial programming of Liu et al. (2023): minimise ``E mean_i |x_i - c|^p``.

Each ``x_i`` is a number in ``[0, 1]`` chosen by a categorical variable: one of two, as in the
paper, one of ``K`` at equal distances, or one of the four of Hooper and Shekhovtsov (2026).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lab.training.task import Own, Parameters, Stream, Task

__all__ = ["CENTRE", "EMBEDDED", "Polynomial"]

CENTRE = 0.45

EMBEDDED = (1.0, 0.50684655, 0.0, 0.73854274)
"""``torch.manual_seed(0); W = torch.randn(4)``, moved to ``[0, 1]``, as their ``poly_p.py`` has."""


@dataclass(frozen=True)
class Polynomial(Task):
    """See the head of this module.

    Attributes:
        power: ``p``.
        categories: ``K``.
        variables: how many.
        draws: a step.
        steps: of a final run.
        published: whose settings these are; it changes the name alone.
        numbers: that a variable chooses from, where they are not at equal distances.
        main_only: whether only the main methods take part.
    """

    power: float = 2.0
    categories: int = 2
    variables: int = 128
    draws: int = 16
    steps: int = 1000
    published: str = ""
    numbers: tuple[float, ...] = ()
    main_only: bool = False

    ordinal = True
    measure = "expected loss"
    rates = (10**-1.5, 1.0)

    @property
    def name(self) -> str:
        """``polynomial-2-p1.5``."""
        end = f"-{self.published}" if self.published else ""
        return f"polynomial-{self.categories}-p{self.power:g}{end}"

    @property
    def title(self) -> str:
        """As in tables."""
        return f"Polynomial, K = {self.categories}, p = {self.power:g}"

    @property
    def step_unit(self) -> float:
        """The loss is a mean: a step of one is one over the derivative of a single term."""
        return float(self.variables)

    @property
    def levels(self) -> Tensor:
        """The numbers that a variable chooses from, ``(K)``."""
        if self.numbers:
            return torch.tensor(self.numbers)
        return torch.linspace(0, 1, self.categories)

    def _values(self, like: Tensor) -> Tensor:
        return (self.levels.to(like) - CENTRE).abs() ** self.power

    @property
    def optimum(self) -> float:
        """Every variable at the number nearest to ``c``."""
        return float(self._values(self.levels.double()).min())

    @property
    def own(self) -> dict[str, Own]:
        """Descent on the exact expectation."""
        return {"exact gradient": Own(lambda parameters, batch, _: self._expected(parameters))}

    def start(self, stream: Stream) -> Parameters:
        """Nearly even odds, as in the authors' code: logits uniform between -.01 and .01."""
        shape = (self.variables, self.categories)
        return {"logits": stream(lambda g: torch.rand(shape, generator=g) * 0.02 - 0.01)}

    def logits(self, parameters: Parameters, batch: Any) -> Tensor:
        """``(R, n, K)``."""
        return parameters["logits"]

    def loss(self, parameters: Parameters, batch: Any, z: Tensor) -> Tensor:
        """``mean_i |<levels, z_i> - c|^p``."""
        x = z[..., 1] if self.categories == 2 else z @ self.levels.to(z)  # the former is faster
        distance = x - CENTRE
        powered = distance**2 if self.power == 2 else distance.abs() ** self.power
        return powered.mean(-1)

    def _expected(self, parameters: Parameters) -> Tensor:
        probs = parameters["logits"].softmax(-1)
        return (probs @ self._values(probs)).mean(-1)

    def evaluate(self, parameters: Parameters, split: str) -> dict[str, Tensor]:
        """The expected loss, exactly."""
        return {self.measure: self._expected(parameters)}
