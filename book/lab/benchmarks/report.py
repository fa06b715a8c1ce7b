"""Summaries of the sweep: means, paired differences, progress, probabilities of improvement.

The measures over several problems are those of Agarwal et al. (2021), with the bootstrap of
``scipy.stats``: runs are resampled within each problem, problems are not.  Each *kind* of problem
has the same weight, whether it has one problem or six.

Functions that compare methods take the final runs of one budget, from :func:`at_budget`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import bootstrap, mannwhitneyu, ttest_1samp

from lab.show.intervals import Estimate, estimate
from lab.training.contestants import BUDGETS
from lab.training.protocol import COPIES, DEFAULT, PLAIN, methods
from lab.training.tasks import TASKS

__all__ = [
    "at_budget",
    "beats",
    "ends",
    "everywhere",
    "goals",
    "holm",
    "improvement",
    "listing",
    "measured",
    "kind",
    "null",
    "null_chances",
    "null_difference",
    "overall",
    "progress",
    "shown",
    "spreads",
    "wins",
]

_RESAMPLES = 2000
_LEVEL = 0.05


def at_budget(
    final: pd.DataFrame, budget: int, copy: int = 0, exploration: str = PLAIN
) -> pd.DataFrame:
    """The final runs of one budget: index (task, measure, method, seed).

    Args:
        final: the record ``sweep-final``.
        budget: evaluations of the loss, for each draw that a step takes.
        copy, exploration: as in :class:`lab.training.protocol.Entry`.
    """
    return final.xs((budget, copy, exploration), level=("budget", "copy", "exploration"))


def _copies(final: pd.DataFrame, budget: int) -> dict[str, pd.DataFrame]:
    """The entries of the default method, each as a table of its own."""
    found = {}
    for copy in range(COPIES[budget] + 1):
        part = at_budget(final, budget, copy)
        found[f"entry {copy + 1}"] = part.xs(DEFAULT, level="method", drop_level=False)
    return found


def null(final: pd.DataFrame, budget: int, tasks: Sequence[str]) -> pd.DataFrame:
    """Progress of the entries of the default method, which differ by luck: index (task, method).

    The methods are ``entry 1`` and so on; 1 is where the best method of the budget ends.
    """
    goal = goals(at_budget(final, budget), tasks)
    parts = {
        name: progress(part, tasks, goal).droplevel("method")
        for name, part in _copies(final, budget).items()
    }
    return pd.concat(parts, names=["method"]).swaplevel().sort_index(kind="stable")


def null_chances(found: pd.DataFrame) -> list[float]:
    """The probability of improvement of each entry over each other; see :func:`null`."""
    names = found.index.get_level_values("method").unique()
    return [improvement(found, one, other).mean for one in names for other in names if one != other]


def measured(final: pd.DataFrame, task: str, measure: str | None = None) -> pd.DataFrame:
    """Curves of a problem, index (method, seed), a column a twentieth of the run.

    Args:
        final: from :func:`at_budget`.
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
    final: pd.DataFrame, chosen: pd.DataFrame, seconds: pd.DataFrame, task: str
) -> pd.DataFrame:
    """The table of a problem, budget by budget, the best method first.

    Args:
        final: the record ``sweep-final``.
        chosen: from :func:`lab.training.tuning.choose`.
        seconds: the record ``sweep-seconds``.
        task: a problem.

    Returns:
        Index (budget, method): the number of ``trials``, ``setting`` and ``learning rate`` of the
        winner; ``median`` and ``mean`` of the final runs, the 95% ``interval`` of the mean, that of
        the paired ``difference`` to the default method with the same budget (negative: better),
        the probability that a run ``beats`` one of that, how many ``failed``, and the ``seconds``
        of the ten final runs as one program.  Of a method of which a run failed there is the median
        and that probability alone.
    """
    rows = {}
    for budget in BUDGETS:
        part = at_budget(final, budget)
        if task not in part.index.get_level_values("task"):
            continue
        values = ends(part, task)
        # Where it has no entry of this budget, nothing is compared with it.
        against = values.loc[DEFAULT] if DEFAULT in values.index else None
        for method, runs in values.iterrows():
            key = (task, method, budget, 0, PLAIN)
            paired = runs * np.nan if against is None else runs - against
            whole = runs.notna().all()
            rows[budget, method] = {
                "trials": chosen.loc[key, "trials"],
                "setting": chosen.loc[key, "setting"]
                if _has_setting(task, str(method))
                else np.nan,
                "learning rate": chosen.loc[key, "learning_rate"],
                "median": runs.fillna(np.inf).median(),
                "mean": runs.mean(skipna=False),
                "interval": _ends(estimate(runs)) if whole else "",
                "difference": _ends(estimate(paired)) if paired.notna().all() else "",
                "beats": np.nan if against is None else beats(runs, against),
                "failed": int(runs.isna().sum()),
                "seconds": seconds.loc[key, "final"],
            }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(["budget", "method"])
    return table.sort_values(["budget", "mean"], kind="stable")


def _has_setting(task: str, method: str) -> bool:
    return len(methods(TASKS[task])[method].settings) > 1


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """A table with numbers of four significant digits; empty where there is none."""

    def written(value: object) -> object:
        if not isinstance(value, float):
            return value
        if np.isnan(value):
            return ""
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"

    return table.map(written)


def _ends(found: Estimate) -> str:
    return f"[{found.low:.4g}, {found.high:.4g}]"


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


def goals(final: pd.DataFrame, tasks: Sequence[str]) -> dict[str, float]:
    """The mean final measure of the best method of each problem, references left out."""
    found = {}
    for task in tasks:
        end = ends(final, task).drop(index=list(TASKS[task].own), errors="ignore")
        found[task] = float(end.mean(axis=1, skipna=False).min())
    return found


def progress(
    final: pd.DataFrame, tasks: Sequence[str], goal: Mapping[str, float], place: int = 20
) -> pd.DataFrame:
    """Progress of each run: 0 at the first measure, 1 at the goal of the problem.

    Args:
        final: from :func:`at_budget`.
        tasks: problems.
        goal: from :func:`goals`.
        place: the twentieth of the run at which it is taken.

    Returns:
        Index (task, method), a column a seed; minus infinity for runs that failed, and nothing
        for methods that do not serve a problem.
    """
    parts = {}
    for task in tasks:
        table = measured(final, task)
        begin = table[0].groupby(level="seed").mean()
        end = table[place].unstack("seed")
        parts[task] = ((begin - end) / (begin - goal[task])).fillna(-np.inf)
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


def everywhere(final: pd.DataFrame, method: str, tasks: Sequence[str]) -> bool:
    """Whether a method has runs on all of these problems."""
    served = final.xs(method, level="method").index.get_level_values("task")
    return set(tasks) <= set(served)


def null_difference(
    final: pd.DataFrame, budget: int, tasks: Sequence[str], goal: Mapping[str, float]
) -> float:
    """The largest difference of :func:`overall` that luck makes among entries of one method."""
    parts = {
        name: progress(part, tasks, goal).droplevel("method")
        for name, part in _copies(final, budget).items()
    }
    found = pd.concat(parts, names=["method"]).swaplevel().sort_index(kind="stable")
    means = [one.mean for one in overall(found, list(parts)).values()]
    return max(means) - min(means)


def overall(found: pd.DataFrame, methods: Sequence[str]) -> dict[str, Estimate]:
    """The median progress of each method, averaged over the problems that all of them serve.

    Args:
        found: from :func:`progress`.
        methods: to compare.
    """
    served = [set(found.xs(name, level="method").index) for name in methods]
    tasks = [
        task
        for task in found.index.get_level_values("task").unique()
        if all(task in one for one in served)
    ]
    weights = _weights(tasks)

    def mean(*parts: np.ndarray, axis: int) -> np.ndarray:
        middles = [np.clip(np.median(part, axis=axis), 0, None) for part in parts]
        return np.average(middles, axis=0, weights=weights)

    rows = {}
    for name in methods:
        samples = [found.loc[(task, name)].to_numpy() for task in tasks]
        rows[name] = Estimate(float(mean(*samples, axis=-1)), *_interval(samples, mean))
    return rows


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


def wins(final: pd.DataFrame, tasks: Sequence[str], spread: Mapping[str, float]) -> pd.DataFrame:
    """The best method of each problem, and those that are not separated from it.

    Methods of one problem alone do not take part.

    Args:
        final: from :func:`at_budget`.
        tasks: problems.
        spread: by problem, the largest difference of means that luck alone has made.

    Returns:
        Index task: ``best``, its ``mean``, and ``alike``, the methods that are not separated from
        it: by less than the spread of the null, or by a difference that a paired t test with
        Holm's correction for all methods of the problem does not tell from zero at 5%.  The best
        is chosen on the same runs, which makes the others look worse than they are.
    """
    rows = {}
    for task in tasks:
        values = ends(final, task).drop(index=list(TASKS[task].own), errors="ignore").dropna()
        means = values.mean(axis=1)
        best = means.idxmin()
        others = means.index.drop(best)
        away = values.loc[others] - values.loc[best]
        # Between runs that end alike no t test can be made: they differ by nothing, or always.
        alike = away.std(axis=1) <= 1e-9 * values.abs().to_numpy().max()
        chances = (away.abs().max(axis=1) <= 1e-9).astype(float)
        chances[~alike] = ttest_1samp(away[~alike], 0, axis=1).pvalue
        apart = dict(zip(others, holm(chances.to_numpy()) < _LEVEL, strict=True))
        near = [
            name
            for name in others
            if not apart[name] or means[name] - means[best] <= spread.get(task, 0.0)
        ]
        rows[task] = {"best": best, "mean": means[best], "alike": "; ".join(near)}
    return pd.DataFrame.from_dict(rows, orient="index")


def holm(chances: np.ndarray) -> np.ndarray:
    """Holm's correction of p-values for their number."""
    order = np.argsort(chances, kind="stable")
    scaled = chances[order] * np.arange(len(chances), 0, -1)
    found = np.empty_like(chances)
    found[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return found


def spreads(final: pd.DataFrame, budget: int, tasks: Sequence[str]) -> dict[str, float]:
    """The range of the mean final measures of the entries of the default method, by problem."""
    parts = _copies(final, budget).values()
    means = {task: [float(ends(one, task).mean(axis=1).iloc[0]) for one in parts] for task in tasks}
    return {task: max(values) - min(values) for task, values in means.items()}
