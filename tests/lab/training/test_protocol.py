"""The protocol: who takes part with how many evaluations, and the runs."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from lab.training import protocol
from lab.training.contestants import BUDGETS, MAIN, REPEATED, budgets
from lab.training.curves import curves
from lab.training.protocol import DEFAULT, INDEX, PLAIN, Entry, Training, entries, methods
from lab.training.task import Own
from lab.training.tasks import PUBLISHED, TASKS, TUNED
from lab.training.tasks import REPEATED as PROBLEMS


def test_everyone_takes_part() -> None:
    """Each method on each problem that it serves, and the main ones with every budget."""
    found = entries(TUNED)
    assert len(set(found)) == len(found)
    runs = [Training(one, s, (0.1,), (1,), 1, "validation") for one in found for s in one.settings]
    assert len({run.name for run in runs}) == len(runs)
    assert {(one.task, one.method) for one in found} == {
        (name, method) for name in TUNED for method in methods(TASKS[name])
    }
    for name in TUNED:
        for budget in BUDGETS:
            there = {one.method for one in found if (one.task, one.budget) == (name, budget)}
            if name in PROBLEMS:
                missing = set(REPEATED) & set(methods(TASKS[name])) - there
                # One evaluation makes neither a difference nor a mean of others.
                assert not missing or (budget == 1 and TASKS[name].draws == 1)
        copies = [one.copy for one in found if (one.task, one.method) == (name, DEFAULT)]
        assert max(copies) == protocol.COPIES[1]
    # Methods stay where they serve.
    assert set(REPEATED) < set(MAIN)
    assert "ARM" in methods(TASKS["bits"])
    assert "ARM" not in methods(TASKS["vae-8x4"])
    assert "unordered set" not in methods(TASKS["vae-8x4"])
    assert "DisARM, categorical" not in methods(TASKS["vae-10x30"])
    assert isinstance(methods(TASKS["experts"])["exact gradient"], Own)
    # Leave-one-out has no baseline with one draw, and says so.
    with pytest.raises(ValueError, match="leave-one-out: 1 evaluations"):
        protocol.method_of(TASKS["bits"], "leave-one-out", 0.0, 1)
    assert budgets("leave-one-out", TASKS["bits"]) == (2, 4)
    assert budgets("leave-one-out", TASKS["polynomial-2-p2"]) == (1, 2, 4)
    assert budgets("MuProp", TASKS["bits"]) == (2,)


def test_beginnings_tell_sources_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record has the first steps of its run, to seven digits, and of no other one."""
    run = Training(Entry("experts", "straight-through"), 1.0, (0.01,), (1, 2), 40, "test", 4)
    table = run()
    assert set(table.index.get_level_values("step")) == {0, 10, 16, 20, 30, 40}
    rounded = table.map(lambda value: float(f"{value:.7g}"))
    assert run.begins(rounded)
    assert not run.begins(rounded * (1 + 1e-5))
    assert not run.begins(rounded.drop(index=rounded.index[4]))
    other = replace(run, entry=Entry("experts", "straight-through", copy=1))
    assert not other.begins(rounded)
    monkeypatch.setattr(type(TASKS["experts"]), "penalty", lambda *_: None)
    assert not run.begins(rounded)
    # Copies have the same examples and start, and other draws.
    runs = (protocol.final_run(Entry("experts", DEFAULT, copy=copy), 0.0, 0.01) for copy in (0, 1))
    tables = [replace(run, records=(0, 10))(part=0.005) for run in runs]
    values = [table.droplevel(INDEX)["squared error"].unstack("step") for table in tables]
    assert (values[0][0] == values[1][0]).all()
    assert not (values[0][10] == values[1][10]).any()


def test_curves() -> None:
    """A curve for each final run."""
    steps = TASKS["experts"].steps
    index = pd.MultiIndex.from_product(
        [[0.1], [101, 102], [steps * k // 20 for k in range(21)]],
        names=["learning_rate", "seed", "step"],
    )
    value = index.get_level_values("step") / steps
    table = pd.DataFrame({"squared error": value, "experts in use": 8.0}, index=index)
    final = pd.concat({("experts", "m", 2, 0, PLAIN, 0.0, 0.0): table}, names=INDEX)
    curve = curves(final)
    assert curve.loc[("experts", "squared error", "m", 2, 0, PLAIN, 101), 20] == 1.0
    assert list(curve.columns) == list(range(21))


def test_final_runs() -> None:
    """At the setting and rate that were chosen, on the fresh seeds and the test data."""
    run = protocol.final_run(Entry("bits", "ReinMax"), 1.2, 0.03)
    assert (run.setting, run.learning_rates, run.seeds) == (1.2, (0.03,), protocol.FINAL_SEEDS)
    assert (run.steps, run.split) == (TASKS["bits"].steps, "test")
    assert len(protocol.FINAL_SEEDS) == 10
    published = protocol.published_runs()
    assert {run.entry.task for run in published} == set(PUBLISHED)
    assert len({run.name for run in published}) == len(published)


def test_exploration_is_tuned_at_what_was_chosen() -> None:
    """Each explorer that serves a problem, with an entropy; two with tempered draws too."""
    plain = [one for one in entries(protocol.EXPLORED) if one.copy == 0]
    index = pd.MultiIndex.from_tuples(
        [(one.task, one.method, one.budget, 0, PLAIN) for one in plain], names=INDEX[:5]
    )
    chosen = pd.DataFrame({"setting": 2.0}, index=index)
    found = protocol.explored(chosen)
    assert all(one.base == 2.0 for one in found)
    for name in protocol.EXPLORED:
        kinds = [(one.method, one.exploration) for one in found if one.task == name]
        serving = [method for method in protocol.EXPLORERS if method in methods(TASKS[name])]
        assert [method for method, kind in kinds if kind == "entropy"] == serving
        tempered = [method for method, kind in kinds if kind == "tempered draws"]
        assert tempered == [DEFAULT, "straight-through"]
    one = Training(found[0], 0.3, (0.01,), (1, 2), 4, "validation", 1)
    row = one().index[0]
    assert row[:7] == ("experts", DEFAULT, 1, 0, "entropy", 2.0, 0.3)
