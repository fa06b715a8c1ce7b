"""The methods of the sweep, and the settings over which each is tuned.

Every method has twelve trials: its settings times as many learning rates as fill them.  The methods
are those of :mod:`lab.methods.catalogue`; here methods with learnt state learn together with the
model, and the settings are those with which they are trained in practice.
"""

from __future__ import annotations

from dataclasses import replace

from lab.methods.catalogue import CATALOGUE, Method
from lab.training.task import Task

__all__ = ["CONTESTANTS", "MAIN", "TRIALS", "serves"]

TRIALS = 12
"""Trials of the tuning for each method and problem."""

CONTESTANTS = tuple(
    replace(
        one,
        settings=one.trained,
        make=one.train or one.make,
        option=one.option if len(one.trained) > 1 else "",
    )
    for one in CATALOGUE
    if one.trained
)
"""The methods that are trained, as they are trained."""

MAIN = tuple(one.name for one in CONTESTANTS if one.main)
"""Those that take part where a problem of the same kind has shown the rest already."""


def serves(method: Method, task: Task) -> bool:
    """Whether a method can be trained on a problem."""
    return (
        method.serves(task.categories)
        and not (method.single and (task.variables > 1 or task.decoder))
        and task.categories * task.variables <= method.limit
    )
