"""The runs of the two experiments, for ``python -m lab results``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lab.beyond.models.counts_quality import CountsQuality
from lab.beyond.models.mixture_quality import MixtureFits, MixtureQuality
from lab.beyond.models.protocol import Chosen, Final, Tuning, choose, final_of
from lab.run.runs import Run, find

__all__ = ["AFTER_TUNING", "FIRST", "MODULES", "after", "counts_quality_of"]


def after(experiment: str, chosen: Chosen) -> list[Run]:
    """The runs that follow once the settings are chosen."""
    if experiment == "counts":
        return [counts_quality_of(chosen)]
    return [MixtureQuality(chosen), MixtureFits(chosen)]


def counts_quality_of(chosen: Chosen) -> CountsQuality:
    """A run at the learning rate of ILS, the relaxations at their temperatures."""
    rows = {method: (setting, rate) for method, setting, rate in chosen}
    return CountsQuality(
        rows["ils.distributions"][1], (rows["Gumbel-Softmax"][0], rows["arrival times"][0])
    )


def _tuning(experiment: str) -> Callable[[Path], list[Run]]:
    return lambda folder: [Tuning(experiment)]


def _final(experiment: str, name: str) -> Callable[[Path], list[Run]]:
    def runs(folder: Path) -> list[Run]:
        tuning = Tuning(experiment)
        record = find(tuning, folder)
        if record is None:
            raise LookupError(f"needs the record {tuning.name!r}, made from the present sources")
        chosen = choose(record.table)
        made: list[Run] = [final_of(experiment, record.table), *after(experiment, chosen)]
        return [run for run in made if run.name == name]

    return runs


FIRST = {f"models-{name}-tuning": _tuning(name) for name in ("mixture", "counts")}
AFTER_TUNING = {
    name: _final(name.split("-")[1], name)
    for name in (
        "models-mixture-final",
        "models-mixture-fits",
        "models-counts-final",
        "models-counts-quality",
        "models-mixture-quality",
    )
}

# For each record the module that defines its run.
MODULES = dict.fromkeys(FIRST, Tuning.__module__) | {
    name: kind.__module__
    for name, kind in zip(
        AFTER_TUNING, (Final, MixtureFits, Final, CountsQuality, MixtureQuality), strict=True
    )
}
