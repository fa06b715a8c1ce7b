"""Bias and variance of every method on every problem of the suite, one row a cell and setting.

Everything is relative to the exact gradient ``g`` of an instance: the bias ``|E e - g| / |g|``,
the standard deviation ``sqrt(tr Cov e) / |g|`` of one estimate ``e``, the cosine between ``E e``
and ``g``, and the error at best scale, ``min_c E|c e - g|^2 / |g|^2 = 1 - <E e, g>^2 / (|g|^2
E|e|^2)``: the error that remains when the learning rate is tuned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from scipy.stats import binom
from torch import Tensor
from tqdm import tqdm

from ils import exact
from ils.estimators import Estimator
from lab.methods.catalogue import METHODS, Method
from lab.problems.enumerable import SCALES, Problem, make_problem, suite

__all__ = ["MEASURES", "Quality", "enumerated", "measure", "quality_table", "recompute", "sampled"]

DRAWS = 256
MEASURES = ("bias", "deviation", "cosine", "error")
PATHWISE = tuple(method for method in METHODS if method.family != "score function")
SCORE = tuple(method for method in METHODS if method.family == "score function")
INDEX = ["method", "setting", "kind", "shape", "scale"]


@dataclass(frozen=True)
class Quality:
    """Relative quality of one estimate for each instance, ``(B,)`` each.

    Attributes:
        bias_squared: ``|E e - g|^2 / |g|^2``; from draws, an unbiased estimate that can be below 0.
        variance: ``tr Cov e / |g|^2``.
        product: ``<E e, g> / |g|^2``.
        product_squared: its square; from draws, an unbiased estimate.
        mean_squared: ``|E e|^2 / |g|^2``, likewise.
    """

    bias_squared: Tensor
    variance: Tensor
    product: Tensor
    product_squared: Tensor
    mean_squared: Tensor

    def measures(self) -> dict[str, Tensor]:
        """The four measures; a squared bias below 0 keeps its sign through the root."""
        second = self.mean_squared + self.variance
        error = 1 - self.product_squared / second
        return {
            "bias": self.bias_squared.sign() * self.bias_squared.abs().sqrt(),
            "deviation": self.variance.sqrt(),
            "cosine": (self.product / self.mean_squared.clamp(min=1e-300).sqrt()).clamp(-1, 1),
            # The error of an estimate that is always zero is 1.
            "error": error.where(second > 0, 1.0),
        }


def _events(x: Tensor) -> Tensor:
    return x.flatten(-2).sum(-1)


def enumerated(estimator: Estimator, problem: Problem) -> Quality:
    """Quality by the exact sum over all noise of the estimator."""
    found = exact.moments(estimator, problem.loss, problem.logits)
    return _exact(found.mean, found.variance / _events(found.gradient**2), found.gradient)


def _exact(mean: Tensor, variance: Tensor, gradient: Tensor) -> Quality:
    """Quality by an exact mean and a relative variance."""
    square = _events(gradient**2)
    product = _events(mean * gradient) / square
    return Quality(
        bias_squared=_events((mean - gradient) ** 2) / square,
        variance=variance,
        product=product,
        product_squared=product**2,
        mean_squared=_events(mean**2) / square,
    )


def sampled(
    estimator: Estimator,
    problem: Problem,
    *,
    draws: int,
    seed: int,
    expectation: Tensor | None = None,
) -> Quality:
    """Quality from independent estimates; an unbiased estimator is known to have no bias.

    Args:
        estimator: the method.
        problem: a cell.
        draws: estimates an instance, at least 2.
        seed: of the generator.
        expectation: of the estimates, if it is known; the variance alone is then estimated.
    """
    generator = torch.Generator().manual_seed(seed)
    estimates = estimator(problem.logits, problem.loss, draws=draws, generator=generator).detach()
    gradient = exact.gradient(problem.loss, problem.logits)
    square = _events(gradient**2)
    mean = estimates.mean(0)
    variance = _events(((estimates - mean) ** 2).sum(0)) / (draws - 1) / square
    if not estimator.biased:
        one = torch.ones_like(square)
        return Quality(torch.zeros_like(square), variance, one, one, one)
    if expectation is not None:
        return _exact(expectation, variance, gradient)
    along = _events(estimates * gradient) / square
    product = along.mean(0)
    return Quality(
        bias_squared=_events((mean - gradient) ** 2) / square - variance / draws,
        variance=variance,
        product=product,
        product_squared=product**2 - along.var(0) / draws,
        mean_squared=_events(mean**2) / square - variance / draws,
    )


def measure(method: Method, setting: float, problem: Problem) -> dict[str, Tensor]:
    """The four measures of a method at a setting on a cell, ``(B,)`` each."""
    estimator = method.prepare(method.make(setting), problem)
    if method.sampled:
        seed = sum(ord(letter) for letter in method.name + problem.kind + problem.scale)
        known = None
        if method.mean is not None:
            known = exact.moments(method.mean(setting), problem.loss, problem.logits).mean
        quality = sampled(estimator, problem, draws=DRAWS, seed=seed, expectation=known)
    else:
        quality = enumerated(estimator, problem)
    return quality.measures()


def _summary(values: dict[str, Tensor]) -> dict[str, float]:
    """Median and its distribution-free 95% interval, from order statistics, of each measure."""
    row = {}
    for name, instances in values.items():
        ordered = instances.sort().values
        count = len(ordered)
        rank = int(binom.ppf(0.025, count, 0.5))
        row[name] = float(instances.quantile(0.5)) if count < 10_000 else float(ordered[count // 2])
        row[f"{name}_low"] = float(ordered[max(rank - 1, 0)])
        row[f"{name}_high"] = float(ordered[min(count - rank, count - 1)])
    return row


def quality_table(methods: Iterable[Method], *, progress: str | None = None) -> pd.DataFrame:
    """The whole suite.

    Returns:
        Index (method, setting, kind, shape, scale); columns the measures, each with the ends of
        its interval over instances.  Rows where kind and shape are ``all`` pool the instances of
        one scale, or of all of them; binary methods pool the cells with two categories.
    """
    rows: dict[tuple[str, float, str, str, str], dict[str, float]] = {}
    problems = list(suite())
    for method in tqdm(list(methods), desc=progress, disable=True if progress is None else None):
        for setting in method.settings:
            pools: dict[str, list[dict[str, Tensor]]] = {scale: [] for scale in SCALES}
            for problem in problems:
                if not method.serves(problem.logits.shape[-1]):
                    continue
                found = measure(method, setting, problem)
                rows[method.name, setting, problem.kind, _name(problem.shape), problem.scale] = (
                    _summary(found)
                )
                pools[problem.scale].append(found)
            everything = [part for parts in pools.values() for part in parts]
            for scale, parts in [*pools.items(), ("all", everything)]:
                pooled = {name: torch.cat([part[name] for part in parts]) for name in MEASURES}
                rows[method.name, setting, "all", "all", scale] = _summary(pooled)
    index = pd.MultiIndex.from_tuples(rows, names=INDEX)
    return pd.DataFrame(list(rows.values()), index=index)


def recompute(picks: Sequence[tuple[str, float, str, str, str]]) -> pd.DataFrame:
    """Some rows of :func:`quality_table` anew.

    Args:
        picks: entries of its index that name a cell.
    """
    by_name = {method.name: method for method in METHODS}
    rows = []
    for name, setting, kind, shape, scale in picks:
        n, categories = (int(part) for part in shape.split(" x "))
        problem = make_problem(kind, (n, categories), scale)
        rows.append(_summary(measure(by_name[name], setting, problem)))
    return pd.DataFrame(rows, index=pd.MultiIndex.from_tuples(picks, names=INDEX))


def _name(shape: tuple[int, int]) -> str:
    return f"{shape[0]} x {shape[1]}"
