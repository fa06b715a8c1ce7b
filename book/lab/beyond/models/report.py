"""Tables of the two experiments from their records."""

from __future__ import annotations

import pandas as pd

from lab.beyond.models.posterior import log_posterior, share_above
from lab.beyond.models.protocol import Chosen
from lab.show.intervals import Estimate, estimate

__all__ = [
    "ends",
    "in_both",
    "intervals",
    "listing",
    "median_seeds",
    "on_both_sides",
    "paired",
    "visits",
]

_LEAST = 0.2


def ends(final: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Final measure of each run: a row a method, a column a seed.

    Args:
        final: from :class:`lab.beyond.models.protocol.Final`.
        measure: the one wanted.
    """
    return final.loc[measure][20].unstack("seed")


def in_both(final: pd.DataFrame) -> pd.DataFrame:
    """Whether a run found both modes: on each side of the diagonal a fifth of the posterior's mass.

    Args:
        final: of the mixture.
    """
    return on_both_sides(ends(final, "above"))


def on_both_sides(above: pd.DataFrame | pd.Series) -> pd.DataFrame:
    """The same, from the mass of ``q`` where the first mean is the larger."""
    mass = log_posterior().exp()
    true = float(share_above(mass) / mass.sum())
    return (above >= _LEAST * true) & (1 - above >= _LEAST * (1 - true))


def intervals(values: pd.DataFrame) -> pd.DataFrame:
    """Mean and 95% interval of each row: ``mean``, ``low``, ``high``.

    Args:
        values: a column a seed.
    """
    found = {name: estimate(row.astype(float)) for name, row in values.iterrows()}
    rows = {name: (one.mean, one.low, one.high) for name, one in found.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "low", "high"])


def listing(values: pd.DataFrame, chosen: Chosen, digits: int = 2) -> pd.DataFrame:
    """Settings, means and paired differences to ILS with 95% intervals; the best first.

    Args:
        values: from :func:`ends`.
        chosen: settings and learning rates.
        digits: of means and intervals.
    """
    settings = {name: (setting or "", rate) for name, setting, rate in chosen}
    rows = {}
    for name, row in values.loc[values.mean(axis=1).sort_values(kind="stable").index].iterrows():
        paired = estimate(row - values.loc["ils.distributions"]).text(digits)
        temperature, rate = settings[name]
        rows[name] = {
            "temperature": temperature,
            "learning rate": rate,
            "mean": estimate(row).text(digits),
            "against ils.distributions": "" if name == "ils.distributions" else paired,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def median_seeds(values: pd.DataFrame) -> pd.Series:
    """The seed of the run in the middle of each method's, by the measure."""
    place = (values.shape[1] - 1) // 2
    return values.apply(lambda row: row.sort_values(kind="stable").index[place], axis=1)


def paired(values: pd.DataFrame, first: str, second: str) -> Estimate:
    """Mean difference of two methods, the first less the second, with its interval."""
    return estimate(values.loc[first].astype(float) - values.loc[second].astype(float))


def visits(table: pd.DataFrame) -> tuple[Chosen, dict[str, pd.DataFrame], pd.DataFrame]:
    """What was chosen; of each measure the ends, a row a method, a column a seed; the quality.

    Args:
        table: from :func:`lab.beyond.models.visits.experiment`.
    """
    final, quality = (table["value"].xs(stage, level="stage") for stage in ("final", "quality"))
    settings = ["setting", "learning_rate"]
    ends = {
        str(measure): rows.droplevel(["measure", *settings]).unstack("seed")
        for measure, rows in final.groupby(level="measure")
    }
    keys = final.index.droplevel(["measure", "seed"]).unique()
    chosen = tuple((str(name), float(setting), float(rate)) for name, setting, rate in keys)
    return chosen, ends, quality.droplevel([*settings, "seed"]).unstack("measure")
