"""``python -m lab vae IMAGES``: VAEs of real size, on Fashion-MNIST or MNIST; the protocol.

*Images.*  60,000 of 28 x 28 to train on, 10,000 to test, from the four files in the IDX format
that :mod:`lab.training.tasks.digits` names; Debian's package ``dataset-fashion-mnist`` installs
those of Fashion-MNIST, and nothing is fetched.  Records bear the name of the folder and hold a
fingerprint of the images.  Targets are grey values, so the bounds are cross-entropies and not code
lengths.

*Model and training* are those of the public code of Hooper and Shekhovtsov (2026), repository
``James-Hooper123/Generalized-and-Optimal-Straight-Through-Estimators``, read at commit 073ff8e:
encoder 784-512-256-nK, decoder backwards, leaky rectifiers of slope 0.2, one-hot draws or their
numbers over ``K - 1``, cross-entropy with the exact divergence, AdamW with PyTorch's defaults, a
learning rate that rises over 10 of 500 or 5 of 50 epochs, from a thousandth, and then falls along a
cosine, by epochs (``VAE/VAE.py``); batches of 200, shuffled (``VAE/Data.py``); five rates from 1e-4
to 1e-2 in geometric steps, five seeds, Gumbel temperatures annealed geometrically from 1 to 0.1
over the epochs (``VAE/VAE/train_VAE.py``, ``submit_vae.sh``, ``Gradient_estimators.py``).
Initial parameters are those of ``torch.nn.Linear`` there and here.

*What differs.*  They train for 500 epochs; here as many as are asked for, and the warm-up takes a
tenth of them, ten at most.  Their result files hold the negative ELBO of the training images, by
one draw each, and nothing of other images; their tables give each method and size a rate of its own
(``plot_result.py``; how it is chosen is not in the repository).  Here a rate is chosen on the last
10,000 training images, which are not trained on meanwhile, and the test images are measured; their
measure is recorded beside.
Gumbel-Rao averages 4 conditional samples, as everywhere in this report, and theirs 20.  Theirs
makes one step more, before the first epoch.

*Tuning.*  Three of the five rates, the middle ones, with ``TUNING_SEEDS`` for a third of the
epochs; as long as the best lies at the edge of those tried, the next is tried too.  *Final runs.*
The best rate, with ``FINAL_SEEDS``, none of which was used before, on all 60,000 images.  A seed
fixes initial parameters and the order of the images, so runs of two methods with one seed are a
pair.  *Measures.*  After the last epoch: the negative ELBO of the test images, the divergence
exactly and the rest by ``samples`` draws an image, and the importance-weighted bound of the same
draws; the same random numbers for all runs.

*Gradients.*  A method that is a rule trains by :func:`ils.sample`, with one backward pass;
leave-one-out by :func:`ils.surrogate`.  Rules see the gradient of an image, not that of the
batch's mean.

*Interruption.*  Each run has a record in ``_build/vae``, and while it runs a checkpoint there, from
which it goes on, bit for bit.  When the runs of a size have ended they are gathered into two
records, ``NAME-SIZE-tuning`` and ``NAME-SIZE-final``.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
from scipy.stats import t
from tqdm import tqdm

from lab.benchmarks.vae import CONTESTANTS, SIZES, Contestant, Fit, fingerprint
from lab.run import records
from lab.run.checkout import describe_checkout
from lab.run.engine import Run, execute
from lab.run.options import add_engine_options, engine_options, finish
from lab.training.epochs import train

__all__ = [
    "FINAL_SEEDS",
    "RATES",
    "RECORDED",
    "TUNING_SEEDS",
    "affordable",
    "main",
    "next_rates",
    "seconds_an_epoch",
    "sweep",
]

RATES = (1e-4, 10**-3.5, 1e-3, 10**-2.5, 1e-2)
TUNING_SEEDS = (1, 2)
FINAL_SEEDS = (101, 102, 103, 104, 105)

_MEASURE = "negative ELBO"
_PAPER = ("128x4", "32x16", "8x64")
RECORDED = tuple(
    f"fashion-mnist-{size}-{kind}"
    for size in (*_PAPER, "128x16-integer")
    for kind in ("tuning", "final")
)
"""The records of the book."""

_STEPS = 10

Execute = Callable[[Sequence[Fit]], Mapping[Run, pd.DataFrame]]


def next_rates(tried: Mapping[float, float]) -> list[float]:
    """The rates to try next: the middle three, then neighbours of the best; none at the end.

    Args:
        tried: the mean measure at each rate; what is not a number is the worst.
    """
    if not tried:
        return list(RATES[1:-1])
    place = RATES.index(_best(tried))
    return [rate for rate in RATES[max(0, place - 1) : place + 2] if rate not in tried]


def _best(tried: Mapping[float, float]) -> float:
    return min(tried, key=lambda rate: math.inf if math.isnan(tried[rate]) else tried[rate])


def sweep(base: Fit, contestants: Iterable[Contestant], run: Execute) -> dict[str, pd.DataFrame]:
    """Tune and run the contestants at one size.

    Args:
        base: the size, the images and the number of epochs; the rest is replaced.
        contestants: a contestant whose runs fail is missing from the tables.
        run: executes runs; those that fail are missing from what it returns.

    Returns:
        Tables as :class:`lab.benchmarks.vae.Fit` makes them, ``tuning`` and ``final``.
    """
    tried: dict[Contestant, dict[float, float]] = {one: {} for one in contestants}
    tables: dict[str, list[pd.DataFrame]] = {"tuning": [], "final": []}
    short = replace(
        base, seeds=TUNING_SEEDS, epochs=max(1, base.epochs // 3), samples=1, split="validation"
    )
    while wanted := [
        replace(short, contestant=one, learning_rate=rate)
        for one, known in tried.items()
        for rate in next_rates(known)
    ]:
        found = run(wanted)
        for fit in wanted:
            ends = found[fit][_MEASURE].dropna() if fit in found else ()
            # A rate at which a seed fails cannot win.
            mean = sum(ends) / len(ends) if len(ends) == len(TUNING_SEEDS) else math.nan
            tried[fit.contestant][fit.learning_rate] = mean
        tables["tuning"] += found.values()
    finals = [
        replace(base, contestant=one, learning_rate=_best(known), seeds=FINAL_SEEDS, split="test")
        for one, known in tried.items()
        if not all(map(math.isnan, known.values()))
    ]
    tables["final"] += run(finals).values()
    return {name: pd.concat(parts) for name, parts in tables.items() if parts}


def _serving(contestants: Iterable[Contestant], size: str) -> list[Contestant]:
    """Those that take part at a size."""
    return [one for one in contestants if one.embedding in ("", SIZES[size][2])]


def standing(
    final: pd.DataFrame, measure: str = _MEASURE, against: str = "ReinMax (default)"
) -> pd.DataFrame:
    """The methods of one size, the best first.

    Args:
        final: as :func:`sweep` returns it.
        measure: a column.
        against: the method with which the others are paired, seed by seed.

    Returns:
        Index (method, setting): the ``mean`` over the seeds and the paired ``difference``, each
        with the half-width of its 95% interval by Student's law, which five seeds can bear better
        than a bootstrap.  A method of which a seed failed has numbers that are none.
    """
    last = final.index.get_level_values("epoch").max()
    ends = final.xs(last, level="epoch")[measure].droplevel(["size", "learning_rate"])
    values = ends.unstack("seed")
    other = values.reindex([against], level="method")
    apart = values - (other.iloc[0] if len(other) else math.nan)
    found: dict[str, pd.Series] = {}
    for name, part in (("mean", values), ("difference", apart)):
        count = part.shape[1]
        error = part.std(axis=1, skipna=False) / count**0.5
        found[name] = part.mean(axis=1, skipna=False)
        found[f"{name}, half-width"] = error * t.ppf(0.975, count - 1)
    return pd.DataFrame(found).sort_values("mean", kind="stable")


def affordable(seconds: Iterable[float], hours: float, workers: int) -> int:
    """The largest number of epochs for which everything fits.

    A contestant needs five final seeds for all epochs, and for the time of two more to be
    measured; and two seeds at three to four rates for a third of the epochs, on five sixths of the
    images.

    Args:
        seconds: of an epoch of one seed over all training images, a number for each contestant
            and size.
        hours: that all workers have.
        workers: runs under way at once.
    """
    final, tuning = len(FINAL_SEEDS), len(TUNING_SEEDS) * 3.5 / 3 * 5 / 6
    return max(0, int((hours * 3600 * workers / sum(seconds) - 2 * final) / (final + tuning)))


def seconds_an_epoch(fit: Fit) -> float:
    """Of one seed of a final run, from a few steps of all; on a CPU, of this process alone."""
    clock = time.process_time if fit.device == "cpu" else time.perf_counter
    whole = fit.images()
    few = replace(whole, train=whole.train[: _STEPS * fit.examples])
    start = clock()
    train(
        fit.task(few),
        lambda epoch: fit.contestant.at(epoch, 1),
        learning_rate=RATES[2],
        seeds=FINAL_SEEDS,
        epochs=1,
        device=fit.device,
    )
    spent = (clock() - start) / len(FINAL_SEEDS)
    return spent * (len(whole.train) + len(whole.validation)) / len(few.train)


def _plan(
    bases: Sequence[Fit], contestants: Sequence[Contestant], hours: float, workers: int
) -> None:
    """Print what an epoch takes, and how many there is time for."""
    seconds: list[float] = []
    seconds_an_epoch(bases[0])  # the first call also loads what is not loaded yet
    for base in bases:
        for one in _serving(contestants, base.size):
            seconds.append(seconds_an_epoch(replace(base, contestant=one)))
            print(f"{base.size:15} {one.method:25} {one.setting:4g} {seconds[-1]:7.1f} s an epoch")
    print(f"{affordable(seconds, hours, workers)} epochs in {hours:g} hours, {workers} at once")


def main() -> None:
    """Run all sizes and contestants, or those named; the exit status is 1 if a run failed."""
    parser = argparse.ArgumentParser(description="Tune and compare VAEs of real size.")
    parser.add_argument("images", type=Path, help="folder with the four files")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(_PAPER))
    parser.add_argument("--methods", nargs="+", help="all by default")
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--samples", type=int, default=32, help="draws an image at the end")
    parser.add_argument("--device", default="cpu", help="where to train")
    parser.add_argument("--folder", type=Path, default=Path("_build/vae/records"))
    parser.add_argument("--runs", type=Path, default=Path("_build/vae"), help="of single runs")
    parser.add_argument("--plan", type=float, metavar="HOURS", help="say how far these reach, only")
    add_engine_options(parser)
    wanted = parser.parse_args()
    named = wanted.methods or [one.method for one in CONTESTANTS]
    contestants = [one for one in CONTESTANTS if one.method in named]
    if unknown := set(named) - {one.method for one in contestants}:
        parser.error(
            f"unknown methods {sorted(unknown)}; there are {[c.method for c in CONTESTANTS]}"
        )
    if wanted.epochs < 1 or wanted.samples < 1:
        parser.error("expected at least one epoch and one sample")
    folder = wanted.images.resolve()
    try:
        images = fingerprint(str(folder))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    options = engine_options(parser, wanted)
    bases = [
        Fit(
            str(folder),
            size,
            CONTESTANTS[0],
            RATES[0],
            FINAL_SEEDS,
            wanted.epochs,
            "test",
            wanted.samples,
            wanted.device,
            str(wanted.runs.resolve()),
        )
        for size in wanted.sizes
    ]
    if wanted.plan is not None:
        _plan(bases, contestants, wanted.plan, wanted.workers)
        return
    failed: dict[str, str] = {}
    # By run, of those of the present size; of one that was interrupted, since it was taken up.
    spent: dict[str, float] = {}

    def run(fits: Sequence[Fit]) -> Mapping[Run, pd.DataFrame]:
        if wanted.fresh:
            for fit in fits:
                fit.checkpoint.unlink(missing_ok=True)
        outcome = execute(fits, folder=wanted.runs, report=tqdm.write, progress="vae", **options)
        failed.update({one.name: error for one, error in outcome.failed.items()})
        for fit in fits:
            if fit in outcome.tables:
                spent[fit.name] = records.read(fit.name, wanted.runs).provenance["seconds"]
                fit.checkpoint.unlink(missing_ok=True)
        return outcome.tables

    for base in bases:
        spent.clear()
        try:
            tables = sweep(base, _serving(contestants, base.size), run)
        except (ImportError, OSError) as error:
            finish(failed | {"the sweep": str(error)})
        for name, table in tables.items():
            records.write(
                f"{folder.name}-{base.size}-{name}",
                table,
                configuration={
                    "seed": list(FINAL_SEEDS if name == "final" else TUNING_SEEDS),
                    "images": images,
                    "epochs": wanted.epochs,
                    "samples": wanted.samples,
                    "contestants": [asdict(one) for one in _serving(contestants, base.size)],
                    "rates": list(RATES),
                    "device": wanted.device,
                    "workers": wanted.workers,
                    "failed": sorted(failed),
                },
                seconds=sum(spent.values()) / wanted.workers,
                checkout=describe_checkout(Fit.__module__),
                folder=wanted.folder,
            )
            print(f"wrote {wanted.folder / folder.name}-{base.size}-{name}")
        if "final" in tables:
            for measure in (_MEASURE, "importance-weighted bound"):
                print(f"{measure}, {base.size}:")
                print(standing(tables["final"], measure).round(2).to_string())
    finish(failed)


if __name__ == "__main__":
    main()
