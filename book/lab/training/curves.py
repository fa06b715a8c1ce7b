"""Final runs as tables."""

from __future__ import annotations

import pandas as pd

from lab.training.tasks import TASKS

__all__ = ["CURVES", "curves", "wide"]

CURVES = ["task", "measure", "method", "budget", "copy", "exploration", "seed"]
"""The index of the record ``sweep-final``."""


def curves(table: pd.DataFrame) -> pd.DataFrame:
    """Curves of a final run: index :data:`CURVES`, a column a twentieth of the run.

    Args:
        table: as :class:`Training` returns it, of one problem.
    """
    task = TASKS[table.index.get_level_values("task")[0]]
    places = {round(task.steps * place / 20): place for place in range(21)}
    return wide(table)[list(places)].rename(columns=places)  # pyright: ignore[reportCallIssue, reportArgumentType]


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """Index :data:`CURVES`, a column a step at which it was measured."""
    kept = table.droplevel(["setting", "weight", "learning_rate"])
    kept.columns.name = "measure"
    wide = kept.stack().unstack("step")
    return wide.reorder_levels(CURVES)
