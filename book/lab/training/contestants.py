"""The methods of the sweep, and with how many evaluations of the loss a step they take part.

The methods are those of :mod:`lab.methods.catalogue`; here methods with learnt state learn together
with the model, and the settings are those with which they are trained in practice.

A *budget* is how often the loss is evaluated a step, in units of what a step of the problem takes.
A method that evaluates it once uses a larger budget for the mean of independent estimates; one that
is made for several draws uses all of them in one estimate.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from ils.estimators import Estimator
from lab.methods.annealed import Annealed
from lab.methods.catalogue import CATALOGUE, Method
from lab.training.task import Task
from lab.training.tasks import REPEATED as PROBLEMS

__all__ = ["BUDGETS", "CONTESTANTS", "MAIN", "REPEATED", "budgets", "made", "serves"]

BUDGETS = (1, 2, 4)

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

REPEATED = tuple(name for name in MAIN if name != "Gumbel-Rao")
"""Those that take part with every budget; Gumbel-Rao averages several samples a draw already."""


def made(
    method: Method, task: Task, setting: float, budget: int
) -> tuple[Estimator | Annealed[Estimator], int] | None:
    """A method as it is trained, and the mean of how many estimates a step; None if it cannot be.

    Args:
        method: of :data:`CONTESTANTS`.
        task: the problem.
        setting: of the method; a step size in the units of the problem.
        budget: how many evaluations there are, for each draw that the problem takes.
    """
    total = task.draws * budget
    own = setting * task.step_unit if method.option == "step size" else setting
    if method.several is not None:
        return (method.several(own, total), 1) if 2 <= total <= method.most else None
    estimator = method.make(own)
    one = estimator.at(0.0) if isinstance(estimator, Annealed) else estimator
    count = total // one.evaluations
    return (estimator, count) if count else None


def serves(method: Method, task: Task) -> bool:
    """Whether a method can be trained on a problem."""
    return (
        method.serves(task.categories)
        and (not method.ordinal or (task.ordinal and task.categories > 2))
        and not (method.single and (task.variables > 1 or task.decoder))
        and task.categories * task.variables <= method.limit
    )


@cache
def budgets(name: str, task: Task) -> tuple[int, ...]:
    """The budgets with which a method takes part: the least it can use, and those of the problem.

    Args:
        name: of a method in :data:`CONTESTANTS`.
        task: the problem.
    """
    method = next(one for one in CONTESTANTS if one.name == name)
    useful = tuple(b for b in BUDGETS if made(method, task, method.settings[0], b) is not None)
    return useful if name in REPEATED and task.name in PROBLEMS else useful[:1]
