"""Who is trained on what, and with how many evaluations: the runs of the sweep.

An *entry* is a method on a problem with a budget of evaluations a step.  It is tuned as
:mod:`lab.training.tuning` says, and the winner is run with ``FINAL_SEEDS``, none of which was used
before, for all steps, and measured on test data.  A seed fixes initial parameters and examples, so
runs of two entries with one seed are a pair.  The measure at the last step counts.

*Equal evaluations.*  Entries of one budget evaluate the loss equally often.  All tuning is done at
half the steps of a final run, and a final run is measured there too: so a budget of 2 at half the
steps has as many evaluations in all as one of 1 at all of them.

*The null.*  ``COPIES`` entries of the default method are tuned and run again with tuning seeds and
draws of their own, and the same examples in the end.  They differ by nothing but luck.

*Exploration.*  On the problems of ``EXPLORED`` each method of ``EXPLORERS``, as it was tuned, is
tuned and run once more with an exploration of its own; see :mod:`lab.training.exploration`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from ils.estimators import Estimator
from ils.rules import ReinMax, Rule, StraightThrough
from lab.methods.annealed import Annealed
from lab.methods.catalogue import Method
from lab.training.contestants import CONTESTANTS, MAIN, budgets, made, serves
from lab.training.exploration import with_entropy, with_tempered_draws
from lab.training.task import Own, Task
from lab.training.tasks import PUBLISHED, TASKS
from lab.training.train import Objective, train

__all__ = [
    "COPIES",
    "DEFAULT",
    "EXPLORED",
    "EXPLORERS",
    "FINAL_SEEDS",
    "INDEX",
    "PLAIN",
    "Entry",
    "Training",
    "entries",
    "explored",
    "final_run",
    "method_of",
    "methods",
    "published_runs",
]

FINAL_SEEDS = tuple(range(101, 111))
EARLY = 16
"""The step at which every run is measured besides, so that its beginning can be compared."""
INDEX = ["task", "method", "budget", "copy", "exploration", "setting", "weight"]

DEFAULT = "ReinMax (default)"
PLAIN = "none"
"""No exploration of its own."""

COPIES = {1: 3, 2: 1, 4: 1}
"""By budget, how often the default method is entered again."""

EXPLORED = ("experts", "codebook", "halves-8x16", "bandit", "control")
EXPLORERS = (
    DEFAULT,
    "ReinMax",
    "straight-through",
    "Gumbel-Rao",
    "Gumbel-Softmax",
    "ILS (the note)",
    "leave-one-out",
    "exact gradient",
)
WEIGHTS = {"entropy": (0.03, 0.1, 0.3, 1.0, 3.0), "tempered draws": (1.5, 2.0, 4.0)}
"""By kind of exploration, what is tried: weights of an entropy, temperatures of a draw."""

_TEMPERED = {DEFAULT: lambda _: ReinMax(), "straight-through": StraightThrough}


def methods(task: Task) -> dict[str, Method | Own]:
    """Every method that takes part in a problem, by name."""
    invited = [one for one in CONTESTANTS if one.name in MAIN or not task.main_only]
    serving = {one.name: one for one in invited if serves(one, task)}
    return {**serving, **task.own}


@dataclass(frozen=True)
class Entry:
    """A method on a problem with a budget.

    Attributes:
        task: a key of :data:`lab.training.tasks.TASKS`.
        method: a name among :func:`methods`.
        budget: evaluations of the loss, for each draw that a step of the problem takes.
        copy: 0, or the number of an entry that differs by tuning seeds and draws alone.
        exploration: ``none``, or a key of :data:`WEIGHTS`.
        base: the setting of the method with an exploration, whose weight is tuned.
    """

    task: str
    method: str
    budget: int = 1
    copy: int = 0
    exploration: str = PLAIN
    base: float = 0.0

    @property
    def settings(self) -> tuple[float, ...]:
        """What is tuned beside the learning rate."""
        if self.exploration != PLAIN:
            return WEIGHTS[self.exploration]
        return methods(TASKS[self.task])[self.method].settings

    def at(self, setting: float) -> tuple[Any, int]:
        """What is trained at a setting, and the number of estimates a step."""
        task = TASKS[self.task]
        if self.exploration == "tempered draws":
            rule: Rule = _TEMPERED[self.method](self.base)
            return with_tempered_draws(task, rule, setting), 1
        if self.exploration == PLAIN:
            return method_of(task, self.method, setting, self.budget)
        method, draws = method_of(task, self.method, self.base, self.budget)
        assert not isinstance(method, Annealed)
        return with_entropy(task, method, draws, setting), draws


def method_of(
    task: Task, name: str, setting: float, budget: int = 1
) -> tuple[Estimator | Objective | Annealed[Estimator], int]:
    """A method as :func:`lab.training.train.train` takes it, and the number of estimates a step.

    Raises:
        ValueError: the budget is too small.
    """
    method = methods(task)[name]
    if isinstance(method, Own):
        return lambda parameters, batch, _: method.objective(parameters, batch, setting), 1
    found = made(method, task, setting, budget)
    if found is None:
        raise ValueError(f"{name}: {budget} evaluations for each draw are too few on {task.name}")
    return found


def entries(names: Sequence[str]) -> list[Entry]:
    """Every entry on the problems named, but those with an exploration."""
    found = []
    for name in names:
        task = TASKS[name]
        for method in methods(task):
            own = method in task.own
            for budget in (1,) if own else budgets(method, task):
                copies = COPIES[budget] if method == DEFAULT else 0
                found += [Entry(name, method, budget, copy) for copy in range(copies + 1)]
    return found


def explored(chosen: pd.DataFrame) -> list[Entry]:
    """The entries with an exploration, at the settings that were chosen without.

    Args:
        chosen: a row an entry, as :func:`lab.training.tuning.winners` returns it.
    """
    found = []
    for name in EXPLORED:
        for method in EXPLORERS:
            rows = chosen.query("task == @name and method == @method and copy == 0")
            if len(rows):
                first = rows.reset_index().iloc[0]
                least = Entry(name, method, int(first["budget"]), base=float(first["setting"]))
                kinds = [kind for kind in WEIGHTS if kind == "entropy" or method in _TEMPERED]
                found += [replace(least, exploration=kind) for kind in kinds]
    return found


@dataclass(frozen=True)
class Training:
    """An entry at one setting: every learning rate and seed in one program.

    Attributes:
        entry: what is trained.
        setting: of the method, or of its exploration.
        learning_rates: of Adam.
        seeds: see the head of this module.
        steps: how many.
        split: where the measures are taken.
        records: how often, and after ``EARLY`` steps; or after which steps.
        device: where it runs.
    """

    entry: Entry
    setting: float
    learning_rates: tuple[float, ...]
    seeds: tuple[int, ...]
    steps: int
    split: str
    records: int | tuple[int, ...] = 20
    device: str = "cpu"

    def begins(self, table: pd.DataFrame) -> bool:
        """Whether a table has the first ``EARLY`` steps, to the digits of a record."""
        last = min(EARLY, self.steps)
        found = replace(self, records=(0, last))(part=last / self.steps)
        held = table.reindex(found.index)[found.columns]
        return bool(((held - found).abs() <= 1e-6 * found.abs() + 1e-9).all(axis=None))

    @property
    def name(self) -> str:
        """A file name."""
        one = self.entry
        method = "".join(letter if letter.isalnum() else "-" for letter in one.method.lower())
        kind = "" if one.exploration == PLAIN else f"-{one.exploration.split()[0]}"
        rates = "_".join(f"{rate:.2g}" for rate in self.learning_rates)
        end = f"{self.setting:g}--{rates}--{self.split}-{self.seeds[0]}"
        return f"{one.task}--{method}{kind}--{one.budget}-{one.copy}--{end}"

    @property
    def cost(self) -> float:
        """Rough, to begin with the longest."""
        task = TASKS[self.entry.task]
        draws = max(task.draws, getattr(task, "examples", 1)) * self.entry.budget
        numbers = draws * task.variables * task.categories
        slow = {"Gumbel-Rao": 4.0, "DisARM, categorical": 4.0, "MVE": 5.0, "MVE, annealed": 5.0}
        runs = len(self.learning_rates) * len(self.seeds)
        return slow.get(self.entry.method, 1.0) * self.steps * runs * (numbers + 1000)

    def __call__(self, part: float = 1.0) -> pd.DataFrame:
        """Measures, index :data:`INDEX` and then (learning rate, seed, step).

        Args:
            part: of the run after which to end.
        """
        one, records = self.entry, self.records
        if isinstance(records, int):
            places = (round(self.steps * k / records) for k in range(records + 1))
            records = (*places, min(EARLY, self.steps))
        method, draws = one.at(self.setting)
        table = train(
            TASKS[one.task],
            method,
            learning_rates=self.learning_rates,
            seeds=self.seeds,
            steps=self.steps,
            split=self.split,
            records=records,
            draws=draws,
            copy=one.copy,
            part=part,
            device=self.device,
            evaluate=getattr(methods(TASKS[one.task])[one.method], "evaluate", None),
        )
        plain = one.exploration == PLAIN
        setting, weight = (self.setting, 0.0) if plain else (one.base, self.setting)
        key = (one.task, one.method, one.budget, one.copy, one.exploration, setting, weight)
        return pd.concat([table], keys=[key], names=INDEX)


def final_run(entry: Entry, setting: float, rate: float, device: str = "cpu") -> Training:
    """An entry at what was chosen, on fresh seeds and test data."""
    steps = TASKS[entry.task].steps
    return Training(entry, setting, (rate,), FINAL_SEEDS, steps, "test", device=device)


def published_runs(device: str = "cpu") -> list[Training]:
    """The polynomial problems at the settings of others, where nothing is tuned."""
    picked = {"ReinMax": 1.0, "straight-through": 1.0, "ILS (the note)": 1.0}
    hooper = picked | {"straight-through Gumbel": 0.1, "Gumbel-Rao": 0.1}
    by_author = {
        "liu": picked | {"straight-through Gumbel": 1.0},
        "hooper": hooper | {"MVE": 1e6},
        "integers": hooper | {"MVE for integers": 0.0},
    }
    return [
        final_run(Entry(name, method), setting, 1e-3, device)
        for name in PUBLISHED
        for method, setting in by_author[name.rsplit("-", 1)[1]].items()
    ]
