"""What others have published, to be held against.

From the result files of Hooper and Shekhovtsov (2026), repository
``James-Hooper123/Generalized-and-Optimal-Straight-Through-Estimators`` at commit 073ff8e.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from lab.benchmarks import report
from lab.benchmarks.vae_sweep import standing
from lab.training.tasks import TASKS
from lab.training.tasks.polynomial import CENTRE, Polynomial

__all__ = ["beside", "polynomials", "polynomials_beside", "vaes"]

_POWERS = (1.5, 2.0, 3.0)
_POLYNOMIALS = {
    "hooper": {
        "straight-through": (0.227228, 0.148042, 0.068797),
        "straight-through Gumbel": (0.020329, 0.007509, 0.002530),
        "Gumbel-Rao": (0.015613, 0.004484, 0.000815),
        "ReinMax": (0.015156, 0.004273, 0.000709),
        "MVE": (0.015206, 0.004353, 0.000751),
    },
    "integers": {
        "straight-through": (0.207902, 0.135738, 0.062297),
        "straight-through Gumbel": (0.058384, 0.020612, 0.004482),
        "Gumbel-Rao": (0.046340, 0.015533, 0.002316),
        "ReinMax": (0.042597, 0.014819, 0.002114),
        "MVE for integers": (0.042287, 0.014449, 0.001986),
    },
}


def polynomials() -> pd.Series:
    """The mean training loss over the last 200 of 10,000 steps of one seed; index (task, method).

    From the last entries of ``Results/polynomial_programming/poly_p_*.pkl`` and, for numbers at
    equal distances, ``Results/polynomial_programming_int/poly_p_int_*.pkl``.
    """
    rows = {
        (f"polynomial-4-p{power:g}-{numbers}", method): value
        for numbers, methods in _POLYNOMIALS.items()
        for method, values in methods.items()
        for power, value in zip(_POWERS, values, strict=True)
    }
    return pd.Series(rows).rename_axis(["task", "method"])


_DRAWS = 200 * 8 * 128
"""Of which a published mean is taken: steps, draws a step and variables (``poly_p.py``)."""


def polynomials_beside(final: pd.DataFrame) -> pd.DataFrame:
    """The polynomials as published, and here at the same steps.

    A published mean is of losses drawn over the last 200 steps, half-way through which some 100 are
    left; ours is the expected loss, of which the part above the optimum is interpolated
    geometrically between the last two measures.

    Args:
        final: as the record ``sweep-final`` has it.

    Returns:
        Index (task, method): ``theirs``; ``ours``, the mean over the seeds; ``sd``, of one seed,
        with the noise of their draws, at most that of the two values furthest apart with the same
        mean; and ``apart``, the difference in units of it.
    """
    theirs, rows = polynomials(), {}
    for task, method in theirs.index:
        problem = TASKS[task]
        assert isinstance(problem, Polynomial)
        runs = report.measured(report.at_budget(final, 1), task).loc[method]
        before, end = (runs[place] - problem.optimum for place in (19, 20))
        left = 100.5 / (problem.steps / 20)
        values = problem.optimum + before**left * end ** (1 - left)
        mean = values.mean()
        most = float((problem.levels - CENTRE).abs().max()) ** problem.power
        drawn = (mean - problem.optimum) * (most - mean) / _DRAWS
        rows[task, method] = {"ours": mean, "sd": np.hypot(values.std(), drawn**0.5)}
    found = pd.DataFrame(rows).T.rename_axis(["task", "method"])
    found.insert(0, "theirs", theirs)
    found["apart"] = (found["ours"] - found["theirs"]) / found["sd"]
    return found


_VAES = {
    "128x4": {
        ("straight-through", 1.0): (112.47, 0.13),
        ("Gumbel-Rao", 1.0): (96.31, 0.25),
        ("ReinMax (default)", 0.0): (95.96, 0.20),
        ("ReinMax", 1.2): (96.22, 0.29),
        ("ReinMax", 1.4): (96.60, 0.35),
        ("MVE, annealed", 1.0): (95.37, 0.24),
    },
    "32x16": {
        ("straight-through", 1.0): (112.75, 0.11),
        ("Gumbel-Rao", 1.0): (95.76, 0.18),
        ("ReinMax (default)", 0.0): (94.36, 0.27),
        ("ReinMax", 1.2): (93.50, 0.19),
        ("ReinMax", 1.4): (93.89, 0.29),
        ("MVE, annealed", 1.0): (94.60, 0.26),
    },
    "8x64": {
        ("straight-through", 1.0): (111.40, 0.19),
        ("Gumbel-Rao", 1.0): (101.49, 0.32),
        ("ReinMax (default)", 0.0): (98.29, 0.71),
        ("ReinMax", 1.2): (93.73, 0.22),
        ("ReinMax", 1.4): (93.72, 0.20),
        ("MVE, annealed", 1.0): (93.64, 0.39),
    },
    "128x16-integer": {
        ("straight-through", 1.0): (113.71, 0.08),
        ("Gumbel-Rao", 1.0): (100.06, 0.36),
        ("ReinMax (default)", 0.0): (94.52, 0.14),
        ("ReinMax", 1.2): (94.77, 0.16),
        ("ReinMax", 1.4): (95.33, 0.21),
        ("MVE for integers", 0.0): (93.12, 0.10),
    },
}


def vaes() -> pd.DataFrame:
    """Training negative ELBO on MNIST after 500 epochs: ``mean`` and standard deviation ``sd``.

    Of five seeds, at the best of five learning rates; index (size, method, setting).  From
    ``final_elbo`` of ``Results/VAE_OHE/*.pkl`` and ``Results/VAE_int/*.pkl``; ReinMax (default) is
    their ZGR, Gumbel-Rao and MVE are annealed, MVE for integers is at ``tau = 1e6``.
    """
    rows = {
        (size, *key): {"mean": mean, "sd": sd}
        for size, methods in _VAES.items()
        for key, (mean, sd) in methods.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["size", "method", "setting"])


def beside(final: pd.DataFrame, size: str) -> pd.DataFrame:
    """The methods at one size as they stand here, the best first, and as they were published.

    Args:
        final: as :func:`lab.benchmarks.vae_sweep.sweep` returns it.
        size: a key of :data:`lab.benchmarks.vae.SIZES`.

    Returns:
        Index (method, setting): ``test`` and ``difference`` from the default, each with its
        half-width ``±``, the ``median``, ``weighted``, the importance-weighted bound, and
        ``MNIST``, the published mean, missing where there is none.  ReinMax at 1.3 has the mean of
        theirs at 1.2 and 1.4.
    """
    found = standing(final).rename(columns={"mean": "test", "mean, half-width": "test ±"})
    found = found.rename(columns={"difference, half-width": "difference ±"})
    last = final["negative ELBO"].dropna().groupby(level=["method", "setting"])
    found.insert(2, "median", last.median())
    found["weighted"] = standing(final, "importance-weighted bound")["mean"]
    theirs = vaes().xs(size)["mean"].rename({1.2: 1.3, 1.4: 1.3}, level="setting")
    found["MNIST"] = theirs.groupby(level=[0, 1]).mean()
    return found
