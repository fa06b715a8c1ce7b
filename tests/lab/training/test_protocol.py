"""The protocol: who takes part with how many evaluations, and the runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from lab.methods.annealed import Annealed
from lab.training.contestants import BUDGETS, CONTESTANTS, MAIN, REPEATED, budgets
from lab.training.curves import curves
from lab.training.protocol import (
    COPIES,
    DEFAULT,
    EXPLORED,
    EXPLORERS,
    FINAL_SEEDS,
    INDEX,
    PLAIN,
    Entry,
    Training,
    entries,
    explored,
    final_run,
    method_of,
    methods,
    published_runs,
)
from lab.training.task import Own, Stream
from lab.training.tasks import PUBLISHED, TASKS, TUNED
from lab.training.tasks import REPEATED as PROBLEMS
from lab.training.train import gradients


def test_everyone_takes_part() -> None:
    """Each method on each problem that it serves, and the main ones with every budget."""
    found = entries(TUNED)
    assert len(set(found)) == len(found)
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
        assert max(copies) == COPIES[1]


@pytest.mark.parametrize("name", ["bits", "polynomial-2-p2", "vae-4x24"])
def test_equal_evaluations(name: str) -> None:
    """With each budget every method evaluates the loss as often as the others, or less."""
    task = TASKS[name]
    for method in methods(task):
        if method in task.own:
            continue
        for budget in budgets(method, task):
            seen: list[int] = []

            class Watched(type(task)):  # type: ignore[misc]
                def loss(
                    self, parameters: Any, batch: Any, z: Tensor, seen: list[int] = seen
                ) -> Tensor:
                    seen.append(len(z))
                    return super().loss(parameters, batch, z)

            watched = object.__new__(Watched)
            watched.__dict__.update(task.__dict__)
            stream, generator = Stream([1]), torch.Generator().manual_seed(0)
            parameters = {n: p.requires_grad_() for n, p in task.start(stream).items()}
            batch = task.batch(parameters, stream, generator)
            setting = methods(task)[method].settings[0]
            made, draws = method_of(task, method, setting, budget)
            made = made.at(0.0) if isinstance(made, Annealed) else made
            gradients(watched, made, parameters, batch, generator, draws)
            total = task.draws * budget
            # REBAR has three an estimate, which do not fill four or sixteen.
            least = total - total % 3 if method == "REBAR" else total
            assert sum(seen) == least, (method, budget)


def test_a_budget_can_be_too_small() -> None:
    """Leave-one-out has no baseline with one draw, and says so."""
    with pytest.raises(ValueError, match="leave-one-out: 1 evaluations"):
        method_of(TASKS["bits"], "leave-one-out", 0.0, 1)
    assert budgets("leave-one-out", TASKS["bits"]) == (2, 4)
    assert budgets("leave-one-out", TASKS["polynomial-2-p2"]) == (1, 2, 4)
    assert budgets("MuProp", TASKS["bits"]) == (2,)


def test_copies_differ_by_luck_alone() -> None:
    """The same examples and start, other draws."""
    runs = (final_run(Entry("experts", DEFAULT, copy=copy), 0.0, 0.01) for copy in (0, 1))
    tables = [replace(run, records=(0, 10))(part=0.005) for run in runs]
    values = [table.droplevel(INDEX)["squared error"].unstack("step") for table in tables]
    assert (values[0][0] == values[1][0]).all()
    assert not (values[0][10] == values[1][10]).any()


def test_a_part_is_the_beginning_of_the_whole() -> None:
    """The first twentieths of a run are those of the whole run, number for number."""
    entry = Entry("experts", "straight-through")
    run = Training(entry, 1.0, (0.01,), (101, 102), 40, "test")
    whole, part = run(), run(part=0.1)
    assert 0 < len(part) < len(whole)
    pd.testing.assert_frame_equal(part, whole.loc[part.index])


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
    run = final_run(Entry("bits", "ReinMax"), 1.2, 0.03)
    assert (run.setting, run.learning_rates, run.seeds) == (1.2, (0.03,), FINAL_SEEDS)
    assert (run.steps, run.split) == (TASKS["bits"].steps, "test")
    assert len(FINAL_SEEDS) == 10
    published = published_runs()
    assert {run.entry.task for run in published} == set(PUBLISHED)
    assert len({run.name for run in published}) == len(published)


def test_exploration_is_tuned_at_what_was_chosen() -> None:
    """Each explorer that serves a problem, with an entropy; two with tempered draws too."""
    plain = [one for one in entries(EXPLORED) if one.copy == 0]
    index = pd.MultiIndex.from_tuples(
        [(one.task, one.method, one.budget, 0, PLAIN) for one in plain], names=INDEX[:5]
    )
    chosen = pd.DataFrame({"setting": 2.0}, index=index)
    found = explored(chosen)
    assert all(one.base == 2.0 for one in found)
    for name in EXPLORED:
        kinds = [(one.method, one.exploration) for one in found if one.task == name]
        serving = [method for method in EXPLORERS if method in methods(TASKS[name])]
        assert [method for method, kind in kinds if kind == "entropy"] == serving
        tempered = [method for method, kind in kinds if kind == "tempered draws"]
        assert tempered == [DEFAULT, "straight-through"]
    one = Training(found[0], 0.3, (0.01,), (1, 2), 4, "validation", 1)
    row = one().index[0]
    assert row[:7] == ("experts", DEFAULT, 1, 0, "entropy", 2.0, 0.3)


def test_names_of_runs() -> None:
    """No two runs of the first round share a file."""
    runs = [
        Training(one, setting, (0.1,), (1,), 1, "validation")
        for one in entries(TUNED)
        for setting in one.settings
    ]
    assert len({run.name for run in runs}) == len(runs)


def test_contestants() -> None:
    """Names are unique, and methods stay where they serve."""
    names = [method.name for method in CONTESTANTS]
    assert len(set(names)) == len(names)
    assert set(REPEATED) < set(MAIN)
    assert "ARM" in methods(TASKS["bits"])
    assert "ARM" not in methods(TASKS["vae-8x4"])
    assert "unordered set" not in methods(TASKS["vae-8x4"])
    assert "DisARM, categorical" not in methods(TASKS["vae-10x30"])
    assert isinstance(methods(TASKS["experts"])["exact gradient"], Own)
