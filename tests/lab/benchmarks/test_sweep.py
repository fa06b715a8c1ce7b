"""The command that tunes and compares."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from lab.benchmarks import report
from lab.benchmarks import sweep as cli
from lab.run import records
from lab.run.engine import Outcome
from lab.training.protocol import PLAIN, Training
from lab.training.tasks import TASKS
from lab.training.tuning import choose


def test_one_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A problem from the command line: two records, with what was run and what failed.

    They lie apart from the book's, whose rows of other problems would be lost.
    """
    kept = ("ReinMax (default)", "REINFORCE", "straight-through")

    def execute(runs: list[Training], **options: Any) -> Outcome:
        some = [run for run in runs if run.entry.method in kept]
        broken = [run for run in some if run.entry.method == kept[2] and run.split == "test"]
        tables = {run: run() for run in some if run not in broken}
        for run in tables:
            (tmp_path / f"{run.name}.json").write_text('{"seconds": 3.0}')
        return Outcome(tables, dict.fromkeys(broken, "it broke"))

    folder = tmp_path / "some-problems"
    monkeypatch.setattr(type(TASKS["bits"]), "steps", 40)
    monkeypatch.setattr(cli, "execute", execute)
    monkeypatch.setattr(sys, "argv", ["sweep", "bits", "--runs", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    final = records.read("sweep-final", folder)
    assert set(final.table.index.get_level_values("method")) == set(kept[:2])
    one = report.at_budget(final.table, 1)
    assert report.ends(one, "bits").shape == (2, 10)
    assert report.ends(report.at_budget(final.table, 4), "bits").shape == (1, 10)
    assert report.ends(report.at_budget(final.table, 1, copy=3), "bits").shape == (1, 10)
    tuning = records.read("sweep-tuning", folder)
    chosen = choose(tuning.table)
    assert set(chosen.index.get_level_values("method")) == set(kept)
    spent = records.read("sweep-seconds", folder).table
    assert spent.loc[("bits", "REINFORCE", 1, 0, PLAIN), "final"] == 3.0
    listing = report.listing(final.table, chosen, spent, "bits")
    assert set(listing.index.get_level_values("budget")) == {1, 2, 4}
    assert listing.loc[(1, "ReinMax (default)"), "beats"] == 0.5
    assert list(listing["failed"]) == [0, 0, 0, 0]
    assert listing["setting"].isna().all()  # of methods without one
    written = report.shown(listing)
    assert set(written["setting"]) == {""}
    assert written.loc[(1, "ReinMax (default)"), "beats"] == "0.5"
    assert list(listing["seconds"]) == [3.0] * 4
    assert final.provenance["seconds"] == spent.sum().sum() / 2
    failed = final.provenance["configuration"]["failed"]
    assert len(failed) == 3  # of each budget
    assert all(name.startswith("bits--straight-through--") for name in failed)
    monkeypatch.setattr(sys, "argv", ["sweep", "nothing"])
    with pytest.raises(SystemExit) as refused:
        cli.main()
    assert refused.value.code == 2
