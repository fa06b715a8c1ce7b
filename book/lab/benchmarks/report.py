"""Summaries of the sweep: means, paired differences, probabilities of improvement, profiles.

The measures over several problems are those of Agarwal et al. (2021), with the bootstrap of
``scipy.stats``: runs are resampled within each problem, problems are not.  Each *kind* of problem
has the same weight, whether it has one problem or six.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import bootstrap, mannwhitneyu

from lab.show.intervals import Estimate, estimate
from lab.training.tasks import TASKS

__all__ = [
    "beats",
    "edges",
    "ends",
    "improvement",
    "listing",
    "measured",
    "kind",
    "profiles",
    "progress",
    "wins",
]

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
    """Final measure of each run: a row a method, a column a seed."""
    return measured(final, task, measure)[20].unstack("seed")


def listing(
    final: pd.DataFrame, chosen: pd.DataFrame, task: str, against: str = "ReinMax (default)"
) -> pd.DataFrame:
    """The table of a problem, the best method first.

    Args:
        final: the record ``sweep-final``.
        chosen: from :func:`lab.training.protocol.choose`.
        task: a problem.
        against: the method with which the others are paired.

    Returns:
        A row a method: ``setting``, ``learning rate``, ``mean`` with its 95% interval, that of the
        paired ``difference`` (negative: better than ``against``), the probability that a run
        ``beats`` one of ``against``, and how many ``failed``: then only that probability is given.
    """
    values = ends(final, task)
    rows = {}
    for method, runs in values.iterrows():
        paired = runs - values.loc[against]
        rows[method] = {
            "setting": chosen.loc[(task, method), "setting"],
            "learning rate": chosen.loc[(task, method), "learning_rate"],
            "mean": runs.mean(skipna=False),
            "interval": _ends(estimate(runs)) if runs.notna().all() else "",
            "difference": _ends(estimate(paired)) if paired.notna().all() else "",
            "beats": beats(runs, values.loc[against]),
            "failed": int(runs.isna().sum()),
        }
    return pd.DataFrame.from_dict(rows, orient="index").sort_values("mean", kind="stable")


def _ends(found: Estimate) -> str:
    return f"[{found.low:.3g}, {found.high:.3g}]"


def beats(first: pd.Series, second: pd.Series) -> float:
    """Probability that a run of the first ends below one of the second; ties count half.

    A run that failed is worse than all that did not.
    """
    worst = float("inf")
    found = mannwhitneyu(second.fillna(worst), first.fillna(worst))
    return float(found.statistic) / (len(first) * len(second))


def kind(task: str) -> str:
    """The kind of a problem: ``vae`` for ``vae-8x4``."""
    return task.split("-")[0]


def progress(final: pd.DataFrame, tasks: Sequence[str]) -> pd.DataFrame:
    """Progress of each run: 0 at the first measure, 1 at the mean final measure of the best method.

    Methods of one problem alone, such as the exact gradient, do not count for that best; their
    progress can be above 1.

    Returns:
        Index (task, method), a column a seed; minus infinity for runs that failed, and nothing
        for methods that do not serve a problem.
    """
    parts = {}
    for task in tasks:
        begin = measured(final, task)[0].groupby(level="seed").mean()
        end = ends(final, task)
        best = end.drop(index=list(TASKS[task].own), errors="ignore").mean(axis=1, skipna=False)
        parts[task] = ((begin - end) / (begin - best.min())).fillna(-np.inf)
    return pd.concat(parts, names=["task"])


def improvement(found: pd.DataFrame, first: str, second: str) -> Estimate:
    """Probability that the first makes more progress, over the problems that both methods serve.

    The probability for two runs, averaged over the problems of a kind and then over kinds, with a
    stratified bootstrap.

    Args:
        found: from :func:`progress`.
        first, second: methods.
    """
    tasks = [
        task
        for task in found.index.get_level_values("task").unique()
        if (task, first) in found.index and (task, second) in found.index
    ]
    samples = [found.loc[(task, name)].to_numpy() for task in tasks for name in (first, second)]
    weights = _weights(tasks)

    def mean(*parts: np.ndarray, axis: int) -> np.ndarray:
        chances = []
        for one, other in zip(parts[::2], parts[1::2], strict=True):
            one, other = np.moveaxis(one, axis, -1), np.moveaxis(other, axis, -1)
            one, other = one[..., :, None], other[..., None, :]
            chances.append(((one > other) + 0.5 * (one == other)).mean((-1, -2)))
        return np.average(chances, axis=0, weights=weights)

    low, high = _interval(samples, mean)
    return Estimate(float(mean(*samples, axis=-1)), low, high)


def _weights(tasks: Sequence[str]) -> list[float]:
    """Weights of problems, so that each kind has the same total."""
    counts = Counter(map(kind, tasks))
    return [1 / counts[kind(task)] for task in tasks]


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
        part = found.xs(method, level="method")
        weights = _weights(list(part.index))
        shares = [(part > level).mean(axis=1) for level in levels]
        rows[method] = [float(np.average(share, weights=weights)) for share in shares]
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(levels))


def wins(final: pd.DataFrame, tasks: Sequence[str]) -> pd.DataFrame:
    """The best method of each problem, and those that are not separated from it.

    Methods of one problem alone do not take part.

    Returns:
        Index task: ``best``, its ``mean``, and ``alike``, the methods whose paired 95% interval of
        the difference to the best holds zero.  The best is chosen on the same runs, and nothing
        is corrected for the number of comparisons: a short list proves little.
    """
    rows = {}
    for task in tasks:
        values = ends(final, task).drop(index=list(TASKS[task].own), errors="ignore").dropna()
        best = values.mean(axis=1).idxmin()
        alike = [
            name
            for name in values.index
            if name != best and estimate(values.loc[name] - values.loc[best]).low <= 0
        ]
        rows[task] = {"best": best, "mean": values.loc[best].mean(), "alike": ", ".join(alike)}
    return pd.DataFrame.from_dict(rows, orient="index")


def edges(chosen: pd.DataFrame) -> pd.Series:
    """The share of winners at an end of the range of learning rates, for each problem."""
    rates = chosen["learning_rate"]
    shares = {}
    for task, part in rates.groupby(level="task", sort=False):
        least, most = TASKS[task].rates
        shares[task] = float(((part <= 1.01 * least) | (part >= 0.99 * most)).mean())
    return pd.Series(shares)
