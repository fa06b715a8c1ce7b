"""Summaries of the sweep: means, paired differences, probabilities of improvement, profiles.

The measures over several problems are those of Agarwal et al. (2021), with the bootstrap of
``scipy.stats``: runs are resampled within each problem, problems are not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import bootstrap, mannwhitneyu, trim_mean

from ils.lab.intervals import Estimate, estimate
from ils.lab.sweep.task import Task
from ils.lab.sweep.tasks import TASKS

__all__ = [
    "FAILED",
    "ends",
    "improvement",
    "listing",
    "measured",
    "middle",
    "profiles",
    "progress",
    "ranks",
    "wins",
]

FAILED = -1.0
"""Progress of a run that failed: below that of every run that did not."""

_RESAMPLES = 2000


def measured(final: pd.DataFrame, task: str, measure: str | None = None) -> pd.DataFrame:
    """Curves of a problem, index (method, seed), a column a twentieth of the run.

    Args:
        final: the record ``sweep-final``.
        task: a problem.
        measure: the one that counts unless another is named.
    """
    wanted = (task, measure or TASKS[task].measure)
    rows = [final.index.get_level_values(name) for name in ("task", "measure")]
    return final[(rows[0] == wanted[0]) & (rows[1] == wanted[1])].droplevel(["task", "measure"])


def ends(final: pd.DataFrame, task: str, measure: str | None = None) -> pd.DataFrame:
    """What each run ends at: a row a method, a column a seed."""
    return measured(final, task, measure)[20].unstack("seed")


def listing(
    final: pd.DataFrame, chosen: pd.DataFrame, task: str, against: str = "ILS, default"
) -> pd.DataFrame:
    """The table of a problem, the best method first.

    Args:
        final: the record ``sweep-final``.
        chosen: from :func:`ils.lab.sweep.protocol.choose`.
        task: a problem.
        against: the method with which the others are paired.

    Returns:
        A row a method: ``setting``, ``learning rate``, ``mean`` with its 95% interval, the paired
        ``difference`` (negative: better than ``against``) with its, the probability that a run
        ``beats`` one of ``against``, and how many ``failed``.
    """
    values = ends(final, task)
    rows = {}
    for method, runs in values.iterrows():
        whole = runs.notna() & values.loc[against].notna()
        difference = estimate((runs - values.loc[against])[whole]) if whole.any() else None
        rows[method] = {
            "setting": chosen.loc[(task, method), "setting"],
            "learning rate": chosen.loc[(task, method), "learning_rate"],
            "mean": runs.mean(skipna=False),
            "interval": _ends(estimate(runs.dropna())) if runs.notna().any() else "",
            "difference": _ends(difference) if difference is not None else "",
            "beats": beats(runs, values.loc[against]),
            "failed": int(runs.isna().sum()),
        }
    return pd.DataFrame.from_dict(rows, orient="index").sort_values("mean")


def _ends(found: Estimate) -> str:
    return f"[{found.low:.3g}, {found.high:.3g}]"


def beats(first: pd.Series, second: pd.Series) -> float:
    """Probability that a run of the first ends below one of the second; ties count half.

    A run that failed is worse than all that did not.
    """
    worst = float("inf")
    found = mannwhitneyu(second.fillna(worst), first.fillna(worst))
    return float(found.statistic) / (len(first) * len(second))


def progress(final: pd.DataFrame, tasks: Sequence[str]) -> pd.DataFrame:
    """How far each run comes: 0 where it began, 1 where the best method ends on average.

    Returns:
        Index (task, method), a column a seed; :data:`FAILED` for runs that failed, and nothing
        for methods that do not serve a problem.
    """
    parts = {}
    for task in tasks:
        curves = measured(final, task)
        begin = curves[0].groupby(level="seed").mean()
        end = ends(final, task)
        best = _reachable(TASKS[task], end)
        parts[task] = ((begin - end) / (begin - best)).fillna(FAILED)
    return pd.concat(parts, names=["task"])


def _reachable(task: Task, values: pd.DataFrame) -> float:
    return float(values.mean(axis=1, skipna=False).min())


def improvement(found: pd.DataFrame, first: str, second: str) -> Estimate:
    """Probability that the first is further than the second, over the problems that both serve.

    The mean over problems of the probability for two runs, with a stratified bootstrap.

    Args:
        found: from :func:`progress`.
        first, second: methods.
    """
    both = [
        (found.loc[(task, first)].to_numpy(), found.loc[(task, second)].to_numpy())
        for task in found.index.get_level_values("task").unique()
        if (task, first) in found.index and (task, second) in found.index
    ]
    samples = [sample for pair in both for sample in pair]

    def mean(*parts: np.ndarray, axis: int) -> np.ndarray:
        chances = []
        for one, other in zip(parts[::2], parts[1::2], strict=True):
            one, other = np.moveaxis(one, axis, -1), np.moveaxis(other, axis, -1)
            difference = one[..., :, None] - other[..., None, :]
            chances.append(((difference > 0) + 0.5 * (difference == 0)).mean((-1, -2)))
        return np.mean(chances, axis=0)

    low, high = _interval(samples, mean)
    return Estimate(float(mean(*samples, axis=-1)), low, high)


def middle(found: pd.DataFrame, method: str, tasks: Sequence[str]) -> Estimate:
    """Interquartile mean of the progress of all runs of a method, with a stratified bootstrap."""
    samples = [found.loc[(task, method)].to_numpy() for task in tasks]

    def mean(*parts: np.ndarray, axis: int) -> np.ndarray:
        return trim_mean(np.concatenate(np.broadcast_arrays(*parts), axis=axis), 0.25, axis=axis)

    low, high = _interval(samples, mean)
    return Estimate(float(mean(*samples, axis=-1)), low, high)


def _interval(samples: Sequence[np.ndarray], statistic) -> tuple[float, float]:
    result = bootstrap(
        tuple(samples),
        statistic,
        n_resamples=_RESAMPLES,
        vectorized=True,
        method="percentile",
        batch=200,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(result.low), float(result.high)


def profiles(found: pd.DataFrame, methods: Sequence[str], levels: Sequence[float]) -> pd.DataFrame:
    """Performance profiles: the share of runs whose progress is above a level.

    Args:
        found: from :func:`progress`, of problems that all the methods serve.
        methods: to compare.
        levels: of progress.

    Returns:
        Index method, a column a level.
    """
    rows = {}
    for method in methods:
        values = found.xs(method, level="method").to_numpy()
        rows[method] = [(values > level).mean() for level in levels]
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(levels))


def wins(final: pd.DataFrame, tasks: Sequence[str], apart: Sequence[str] = ()) -> pd.DataFrame:
    """The best method of each problem, and those that cannot be told from it.

    Args:
        final: the record ``sweep-final``.
        tasks: problems.
        apart: names that do not take part, such as references.

    Returns:
        Index task: ``best``, its ``mean``, and ``alike``, the methods whose paired 95% interval of
        the difference to the best holds zero.
    """
    rows = {}
    for task in tasks:
        values = ends(final, task).drop(index=list(apart), errors="ignore").dropna()
        best = values.mean(axis=1).idxmin()
        alike = [
            name
            for name in values.index
            if name != best and estimate(values.loc[name] - values.loc[best]).low <= 0
        ]
        rows[task] = {"best": best, "mean": values.loc[best].mean(), "alike": ", ".join(alike)}
    return pd.DataFrame.from_dict(rows, orient="index")


def ranks(found: pd.DataFrame, apart: Sequence[str] = ()) -> pd.Series:
    """Mean rank of each method's mean progress over the problems that it serves."""
    means = found.mean(axis=1).drop(index=list(apart), level="method", errors="ignore")
    placed = means.groupby(level="task").rank(ascending=False)
    return pd.Series(placed.groupby(level="method").mean()).sort_values()
