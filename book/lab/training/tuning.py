"""The tuning of an entry: a search over rates at every setting, then more seeds for the best four.

1. Every setting is tried at four learning rates, half a decade apart, with the first seeds of the
   problem, for half the steps of a final run, and measured on validation data.
2. While the best trial, by its mean over these seeds, has the least or the largest rate that was
   tried at its setting, the rate beyond is tried.
3. The best ``FINALISTS`` trials are run with ``MORE`` seeds besides, and the least mean over all of
   these wins.  If the winner lies at the end of the rates of its setting, the rate beyond is tried
   with all seeds.

A trial in which a run ends in a number that is not finite cannot win.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import pandas as pd

from lab.training.protocol import INDEX, PLAIN, Entry, Training
from lab.training.task import Task
from lab.training.tasks import TASKS

__all__ = [
    "FINALISTS",
    "MORE",
    "Trials",
    "choose",
    "first_rates",
    "next_trials",
    "seeds_of",
    "table_of",
    "tune",
]

FINALISTS = 4
MORE = 5
_BOUNDS = (1e-6, 1e2)
_APART = 1000
"""Between the tuning seeds of two copies of an entry."""

Trial = tuple[float, float]
"""A setting and a learning rate."""

Trials = dict[Trial, dict[int, float]]
"""The measure of each seed, by trial."""


def _rate(place: int) -> float:
    return float(f"{10 ** (place / 2):.3g}")


def _place(rate: float) -> int:
    return round(2 * math.log10(rate))


def first_rates(task: Task) -> list[float]:
    """The learning rates that are tried first, half a decade apart."""
    least, most = map(_place, task.rates)
    return [_rate(place) for place in range(least, most + 1)]


def seeds_of(entry: Entry) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The seeds of every trial, and those of the best besides."""
    start = 1 + _APART * entry.copy
    first = TASKS[entry.task].tuning_seeds
    return tuple(range(start, start + first)), tuple(range(start + first, start + first + MORE))


def _mean(values: Mapping[int, float], seeds: Iterable[int]) -> float:
    found = sum(values[seed] for seed in seeds) / len(tuple(seeds))
    return found if math.isfinite(found) else math.inf


def _beyond(best: Trial, tried: Iterable[Trial]) -> Trial | None:
    """The trial beyond the best one, if that is at an end of the rates of its setting."""
    setting, rate = best
    rates = [other for own, other in tried if own == setting]
    for end, step in ((min(rates), -1), (max(rates), 1)):
        beyond = _rate(_place(rate) + step)
        if rate == end and _BOUNDS[0] <= beyond <= _BOUNDS[1]:
            return setting, beyond
    return None


def next_trials(entry: Entry, known: Trials) -> list[tuple[Trial, tuple[int, ...]]]:
    """What to try next, with which seeds; nothing at the end."""
    first, more = seeds_of(entry)
    if not known:
        rates = first_rates(TASKS[entry.task])
        return [((setting, rate), first) for setting in entry.settings for rate in rates]
    order = sorted(known, key=lambda trial: _mean(known[trial], first))
    if math.isinf(_mean(known[order[0]], first)):
        return []
    if (beyond := _beyond(order[0], known)) is not None:
        return [(beyond, first)]
    finalists = [trial for trial in known if set(more) <= set(known[trial])]
    if not finalists:
        return [(trial, more) for trial in order[:FINALISTS]]
    best = min(finalists, key=lambda trial: _mean(known[trial], first + more))
    beyond = _beyond(best, known)
    return [] if beyond is None else [(beyond, first + more)]


def tune(
    wanted: Sequence[Entry],
    run: Callable[[Sequence[Training]], Mapping[Training, pd.DataFrame]],
    device: str = "cpu",
) -> dict[Entry, Trials]:
    """Tune entries side by side, round by round.

    Args:
        wanted: the entries.
        run: executes runs; the trials of those that fail count as not finite.
        device: where they run.
    """
    known: dict[Entry, Trials] = {entry: {} for entry in wanted}
    pending = list(wanted)
    while pending:
        runs: dict[Training, Entry] = {}
        for entry in pending:
            together: dict[tuple[float, tuple[int, ...]], list[float]] = {}
            for (setting, rate), seeds in next_trials(entry, known[entry]):
                together.setdefault((setting, seeds), []).append(rate)
            steps = TASKS[entry.task].steps // 2
            for (setting, seeds), rates in together.items():
                one = Training(entry, setting, tuple(rates), seeds, steps, "validation", 4, device)
                runs[one] = entry
        found = run(list(runs))
        for one, entry in runs.items():
            for rate in one.learning_rates:
                trial = known[entry].setdefault((one.setting, rate), {})
                trial.update(dict.fromkeys(one.seeds, math.nan))
                if one in found:
                    trial.update(ends(found[one], rate))
        pending = [entry for entry in pending if next_trials(entry, known[entry])]
    return known


def ends(table: pd.DataFrame, rate: float) -> dict[int, float]:
    """The measure of each seed at the last step of a tuning run, at a learning rate."""
    levels = table.index
    last = levels.get_level_values("step").max()
    rows = (levels.get_level_values("step") == last) & (
        levels.get_level_values("learning_rate") == rate
    )
    measure = TASKS[levels.get_level_values("task")[0]].measure
    values = table.loc[rows, measure].droplevel([name for name in levels.names if name != "seed"])
    return {int(seed): float(value) for seed, value in values.items()}


def table_of(known: Mapping[Entry, Trials]) -> pd.DataFrame:
    """Every trial: index ``INDEX`` and then learning rate, a column for each seed of a copy.

    The seeds of a copy are counted from 1, as those of the entry that it repeats.
    """
    rows = {}
    for entry, trials in known.items():
        for (tuned, rate), values in trials.items():
            setting, weight = (tuned, 0.0) if entry.exploration == PLAIN else (entry.base, tuned)
            key = (entry.task, entry.method, entry.budget, entry.copy, entry.exploration)
            counted = {seed - _APART * entry.copy: value for seed, value in values.items()}
            rows[(*key, setting, weight, rate)] = counted
    index = pd.MultiIndex.from_tuples(rows, names=[*INDEX, "learning_rate"])
    table = pd.DataFrame(list(rows.values()), index=index)
    return table[sorted(table.columns)]


def choose(table: pd.DataFrame) -> pd.DataFrame:
    """The winner of each entry.

    Args:
        table: from :func:`table_of`.

    Returns:
        Index: task, method, budget, copy, exploration.  Columns: ``setting``, ``weight`` and
        ``learning_rate``; ``validation``, the mean over all seeds, and its standard ``error``;
        the number of ``trials``; and whether the rate is at the ``edge`` of those tried.
    """
    rows = {}
    for key, part in table.groupby(level=INDEX[:5], sort=False):
        entry = Entry(*key)
        every = [seed - _APART * entry.copy for seed in sum(seeds_of(entry), ())]
        whole = part.reindex(columns=every).dropna()
        if not len(whole):
            continue
        best = whole.mean(axis=1).idxmin()
        *_, setting, weight, rate = best  # type: ignore[misc]
        rates = part.xs((setting, weight), level=("setting", "weight")).index
        rates = rates.get_level_values("learning_rate")
        rows[key] = {
            "setting": setting,
            "weight": weight,
            "learning_rate": rate,
            "validation": whole.loc[best].mean(),
            "error": whole.loc[best].std() / len(every) ** 0.5,
            "trials": len(part),
            "edge": rate in (rates.min(), rates.max()),
        }
    index = pd.MultiIndex.from_tuples(rows, names=INDEX[:5])
    return pd.DataFrame(list(rows.values()), index=index)
