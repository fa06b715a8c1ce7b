"""Related methods as a table: the point each steps from, the step, and the gradient returned."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

__all__ = ["POINTS", "RELATIVES", "STEPS", "Relative", "relatives_table"]

POINTS = ("argmax", "draw", "mean")
"""The point that is moved: the likeliest category, a draw, or the probabilities."""

STEPS = {
    "plain": "Euclidean step, not brought back",
    "project": "Euclidean step, projected",
    "divide": "Euclidean step, divided by its sum",
    "fisher": "Fisher step (weighted by $\\pi$), mass kept",
    "multiply": "multiplicative step (entropic mirror)",
    "logits": "step in the logits, argmax again",
}


@dataclass(frozen=True)
class Relative:
    """One method of the family.

    Attributes:
        name: as in the text.
        year: of first publication.
        point: an entry of ``POINTS``.
        step: a key of ``STEPS``.
        gradient_at: where the derivative of the loss is taken.
        loss: the intermediate loss, differentiated for the logits.
        subtracts: what the target is subtracted from: the point stepped from (centred) or ``pi``.
        limit: whether the method is the limit of small steps.
        ours: whether it comes from the note or this report.
    """

    name: str
    year: int
    point: str
    step: str
    gradient_at: str
    loss: str
    subtracts: str
    limit: bool = False
    ours: bool = False


RELATIVES = (
    Relative("target propagation", 2015, "mean", "plain", "mean", "squared distance", "point"),
    Relative("mirror descent, MPO", 2018, "mean", "multiply", "values", "KL", "mean"),
    Relative("SPIGOT", 2018, "argmax", "project", "argmax", "perceptron", "point"),
    Relative("ST as Wasserstein flow", 2019, "draw", "project", "draw", "distance", "point"),
    Relative("ILS (the note)", 2019, "draw", "divide", "draw", "KL", "mean", ours=True),
    Relative("blackbox", 2020, "argmax", "logits", "argmax", "perceptron", "point"),
    Relative("SPIGOT-CE", 2020, "mean", "project", "mean", "KL", "point"),
    Relative("SPIGOT-EG", 2020, "mean", "multiply", "mean", "KL", "point"),
    Relative("straight-through", 2013, "mean", "multiply", "draw", "KL", "point", limit=True),
    Relative("I-MLE", 2021, "draw", "logits", "draw", "perturbed perceptron", "point"),
    Relative("identity", 2023, "argmax", "plain", "argmax", "perceptron", "point", limit=True),
    Relative("ReinMax, ZGR", 2023, "draw", "fisher", "draw", "KL", "point", limit=True),
    Relative("LPGD", 2024, "argmax", "logits", "argmax", "Lagrangian", "point"),
    Relative("ILS, centred", 2026, "draw", "divide", "draw", "KL", "point", ours=True),
    Relative("ILS, projected", 2026, "draw", "project", "draw", "KL", "point", ours=True),
    Relative("ILS, Fisher", 2026, "draw", "fisher", "draw", "KL", "point", ours=True),
)


def relatives_table() -> pd.DataFrame:
    """The family, one row a method, in order of the years."""
    rows = [vars(relative) for relative in sorted(RELATIVES, key=lambda one: one.year)]
    return pd.DataFrame(rows).set_index("name")
