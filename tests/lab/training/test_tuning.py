"""The tuning: where it looks next, and who wins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lab.training import tuning
from lab.training.protocol import DEFAULT, INDEX, Entry, Training
from lab.training.tasks import TASKS, TUNED
from lab.training.tuning import choose, seeds_of, table_of, tune

ENTRY = Entry("experts", "straight-through")


def runner(function: Any, seen: list[Training]) -> Any:
    """Runs whose measure is a function of setting, rate and seed."""

    def run(runs: Sequence[Training]) -> dict[Training, pd.DataFrame]:
        seen.extend(runs)
        found = {}
        for one in runs:
            rows = {
                (rate, seed, one.steps): function(one.setting, rate, seed)
                for rate in one.learning_rates
                for seed in one.seeds
            }
            index = pd.MultiIndex.from_tuples(rows, names=["learning_rate", "seed", "step"])
            measure = TASKS[one.entry.task].measure
            table = pd.DataFrame({measure: list(rows.values())}, index=index)
            entry = one.entry
            key = (entry.task, entry.method, entry.budget, entry.copy, entry.exploration)
            found[one] = pd.concat([table], keys=[(*key, one.setting, 0.0)], names=INDEX)
        return found

    return run


def bowl(setting: float, rate: float, seed: int) -> float:
    """Least at a setting of 2 and a rate of 1, four steps beyond the first rates."""
    return (setting - 2) ** 2 + math.log10(rate) ** 2 + 0.001 * (seed % 3)


def test_the_search_reaches_a_minimum_inside() -> None:
    """Rates are added at the winner's setting until it has a neighbour on each side."""
    seen: list[Training] = []
    table = table_of(tune([ENTRY], runner(bowl, seen)))
    (row,) = choose(table).to_dict("records")
    assert (row["setting"], row["learning_rate"], row["edge"]) == (2.0, 1.0, False)
    assert row["trials"] == len(table)
    tried = table.index.to_frame()[["setting", "learning_rate"]]
    assert tried[tried.setting == 2.0].learning_rate.max() == pytest.approx(3.16)
    assert tried[tried.setting == 5.0].learning_rate.max() == pytest.approx(0.1)
    assert all(one.steps == TASKS["experts"].steps // 2 for one in seen)
    assert all(one.split == "validation" for one in seen)


def test_more_seeds_decide_among_the_best() -> None:
    """The best four get more seeds; one that was lucky with the first loses."""
    first, more = seeds_of(ENTRY)

    def lucky(setting: float, rate: float, seed: int) -> float:
        found = bowl(setting, 10 * rate, seed)
        return found + (2.0 if setting == 2.0 and seed in more else 0.0)

    table = table_of(tune([ENTRY], runner(lucky, [])))
    whole = table.dropna()
    assert tuning.FINALISTS <= len(whole) < len(table)
    assert len(whole.columns) == len(first) + tuning.MORE
    (row,) = choose(table).to_dict("records")
    assert row["setting"] != 2.0
    values = whole.mean(axis=1)
    assert row["validation"] == pytest.approx(values.min())
    best = whole.loc[values.idxmin()]
    assert row["error"] == pytest.approx(best.std() / len(best) ** 0.5)


def test_a_trial_that_fails_cannot_win() -> None:
    """Not a number, or no run, is worse than anything; and if all fail nobody wins."""

    def broken(setting: float, rate: float, seed: int) -> float:
        return math.nan if setting == 2.0 and seed == 2 else bowl(setting, 10 * rate, seed)

    (row,) = choose(table_of(tune([ENTRY], runner(broken, [])))).to_dict("records")
    assert row["setting"] != 2.0
    nothing = tune([ENTRY], runner(lambda *_: math.nan, []))
    assert tuning.next_trials(ENTRY, nothing[ENTRY]) == []
    assert len(choose(table_of(nothing))) == 0
    missing = tune([ENTRY], lambda runs: {})
    assert all(math.isnan(v) for values in missing[ENTRY].values() for v in values.values())


def test_copies_have_seeds_of_their_own() -> None:
    """And their table counts them from one, so that columns are shared."""
    one, other = Entry("experts", DEFAULT), Entry("experts", DEFAULT, copy=2)
    assert not set(sum(seeds_of(one), ())) & set(sum(seeds_of(other), ()))
    table = table_of(tune([one, other], runner(bowl, [])))
    assert list(table.columns) == list(range(1, 1 + TASKS["experts"].tuning_seeds + tuning.MORE))
    assert len(choose(table)) == 2
    # The first rates are four a problem, half a decade apart.
    for name in TUNED:
        rates = tuning.first_rates(TASKS[name])
        assert len(rates) == 4
        assert np.allclose(np.diff(np.log10(rates)), 0.5, atol=2e-3)
