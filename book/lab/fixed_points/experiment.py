r"""Fixed points of each estimator on the note's toy, exactly and by simulation.

Problems are a batch: ``p`` is ``(problems, K)``, logits ``(problems, K)``, and the loss maps draws
``(D, problems, K)`` to ``(D, problems)``.  The *ladder* replaces one draw by the mean of ``n``, all
from the same logits: its estimators have ``n`` variables, whose estimates are summed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from ils import estimators, exact, simplex, squeeze, target
from ils.estimators import Estimator
from ils.exact import Loss
from ils.metric import fisher
from lab.problems.toy import random_toy

__all__ = [
    "FLOWS",
    "LADDER",
    "all_limits",
    "ascent_limit",
    "compare_on_ladder",
    "divergence",
    "flow",
    "forms",
    "ladder_loss",
    "limits",
    "problems",
    "simulate_flows",
    "straight_through_limit",
    "toy_loss",
]

EPS = 1e-8
SIZE = 25
SEEDS = {"flows": 300, "tuning": 310, "ladder": 320}
PROBLEMS = 100
FLOW_STEPS = 4000
SGD_STEPS = 20_000


def problems(seed: int, count: int = PROBLEMS) -> tuple[Tensor, Tensor]:
    """Targets and starts ``(count, K)``, drawn as the note draws them."""
    toy = random_toy(count, generator=torch.Generator().manual_seed(seed), problems=1)
    return toy.p.squeeze(1), toy.start.squeeze(1)


def toy_loss(p: Tensor) -> Loss:
    """The note's loss of one problem, ``-sum p log(z + eps) / (N K)`` with its ``N K`` of 25."""
    return lambda z: -(p * (z + EPS).log()).sum(-1) / SIZE


def ladder_loss(p: Tensor) -> Loss:
    """The same of the mean of ``n`` draws ``(D, problems, n, K)``."""
    return lambda z: -(p * (z.mean(-2) + EPS).log()).sum(-1) / SIZE


def divergence(p: Tensor, probs: Tensor) -> Tensor:
    """The note's curve ``KL_eps(p || probs) / K`` of each problem, in nats per category."""
    return (p * ((p + EPS).log() - (probs + EPS).log())).mean(-1)


def straight_through_limit(p: Tensor) -> Tensor:
    r"""Closed form for straight-through: ``max(0, 1 - lambda / p)`` with the sum 1.

    The maximum of ``sum_k p_k (pi_k - pi_k^2 / 2)`` on the simplex, up to ``eps``.
    """
    ordered = p.sort(-1, descending=True).values
    count = torch.arange(1, p.shape[-1] + 1, dtype=p.dtype)
    level = (count - 1) / (1 / ordered).cumsum(-1)
    # The categories that keep mass are the likeliest m, for the largest m whose least has some.
    kept = (ordered > level).sum(-1, keepdim=True)
    return (1 - level.gather(-1, kept - 1) / p).clamp(min=0)


def ascent_limit(p: Tensor) -> Tensor:
    """The corner at the likeliest category: where unbiased methods, and ReinMax, end."""
    return torch.nn.functional.one_hot(p.argmax(-1), p.shape[-1]).to(p)


def _ils(step_size: float, **options: object) -> Estimator:
    options = {"gradient": target.centred_gradient, **options}
    return estimators.intermediate_loss_sampling(step_size=step_size, **options)  # type: ignore[arg-type]


_FORMS = {
    "sum-normalised": {"normalizer": simplex.sum_normalize},
    "sum-normalised, mass kept": {"normalizer": simplex.sum_normalize, "keep_mass": True},
    "projected": {"normalizer": simplex.project_simplex},
}


def forms() -> dict[str, Estimator]:
    """Every form of ILS: normaliser, metric, and the note's step or one at the threshold."""
    steps = {"0.01": 0.01, "eps N K": EPS * SIZE}
    metrics = {"Euclidean": {}, "Fisher": {"metric": fisher}}
    return {
        f"{form}, {metric}, step {step}": _ils(alpha, **options, **how)
        for (form, options), (metric, how), (step, alpha) in itertools.product(
            _FORMS.items(), metrics.items(), steps.items()
        )
    }


FLOWS: dict[str, Estimator] = {
    "ILS, centred": _ils(0.01),
    "ILS, mass kept, small step": _ils(EPS * SIZE, keep_mass=True),
    "ILS, projected": _ils(0.01, normalizer=simplex.project_simplex),
    "ILS, Fisher, small step": _ils(EPS * SIZE, keep_mass=True, metric=fisher),
    "Gumbel-Softmax, 1": estimators.gumbel_softmax(temperature=1.0),
    "straight-through": estimators.straight_through(),
    "DARN": estimators.darn(),
    "ReinMax (default)": estimators.reinmax(),
    "leave-one-out": estimators.leave_one_out(samples=2),
}
"""What is simulated: one of each kind of limit."""


def flow(
    estimator: Estimator, p: Tensor, start: Tensor, *, steps: int = FLOW_STEPS
) -> tuple[Tensor, Tensor]:
    """Follow the exact mean of an estimator; each step is as long as its largest entry allows.

    Args:
        estimator: with finite randomness.
        p, start: targets and first logits, ``(problems, K)``.
        steps: the rate falls linearly from one half to zero.

    Returns:
        The model at the end, and the mean update there over what it was at the start (largest
        entry), ``(problems,)``: near 0 where the flow has converged.
    """
    theta, loss = start.clone(), toy_loss(p)
    first = last = torch.ones(())
    for step in range(steps):
        mean = exact.moments(estimator, loss, theta).mean
        last = mean.abs().amax(-1)
        if step == 0:
            first = last
        theta = theta - 0.5 * (1 - step / steps) * mean / first.unsqueeze(-1).clamp(min=1e-300)
        theta = theta - theta.mean(-1, keepdim=True)
    return theta.softmax(-1), last / first


def limits(p: Tensor, start: Tensor, estimators_: Mapping[str, Estimator]) -> pd.DataFrame:
    """The divergence where the exact flow of each estimator ends, one row a problem and method."""
    rows = []
    for name, estimator in estimators_.items():
        model, left = flow(estimator, p, start)
        largest = model.amax(-1)
        for problem, values in enumerate(
            zip(divergence(p, model).tolist(), largest.tolist(), left.tolist(), strict=True)
        ):
            rows.append((name, problem, *values))
    columns = ["method", "problem", "divergence", "largest", "left"]
    return pd.DataFrame(rows, columns=columns).set_index(["method", "problem"])


def all_limits(*, count: int = PROBLEMS, progress: str | None = None) -> pd.DataFrame:
    """:func:`limits` of every form of ILS and of the peers whose noise is finite."""
    p, start = problems(SEEDS["flows"])
    peers = {
        "straight-through": estimators.straight_through(),
        "DARN": estimators.darn(),
        "ReinMax (default)": estimators.reinmax(),
        "exact gradient": estimators.score_function(),
    }
    return limits(p[:count], start[:count], {**forms(), **peers})


def simulate_flows(*, stop: int | None = None, progress: str | None = None) -> pd.DataFrame:
    """Stochastic gradient descent through one estimator of each kind, one draw a step.

    The learning rate makes the largest entry of the mean update 0.05 at the start (the mean of 500
    estimates), for each method and problem, and falls linearly to zero.

    Returns:
        Index (method, problem), columns the recorded steps: the divergence.
    """
    p, start = problems(SEEDS["flows"])
    loss = toy_loss(p)
    recorded = [0, *(round(10 ** (k / 8)) for k in range(8, 35)), SGD_STEPS]
    last = SGD_STEPS if stop is None else stop
    recorded = sorted({step for step in recorded if step <= last})
    rows = {}
    for name, estimator in FLOWS.items():
        generator = torch.Generator().manual_seed(SEEDS["flows"] + 1)
        trial = estimator(start, loss, draws=500, generator=generator)
        first = trial.mean(0).abs().amax(-1, keepdim=True)
        theta, curve = start.clone(), []
        bar = tqdm(range(last + 1), desc=name, disable=True if progress is None else None)
        for step in bar:
            if step in recorded:
                curve.append(divergence(p, theta.softmax(-1)))
            update = estimator(theta, loss, generator=generator)[0] / first
            theta = theta - 0.05 * (1 - step / SGD_STEPS) * update
        for problem, series in enumerate(torch.stack(curve, -1).tolist()):
            rows[name, problem] = series
    index = pd.MultiIndex.from_tuples(rows, names=["method", "problem"])
    return pd.DataFrame(list(rows.values()), index=index, columns=recorded)


# --- the ladder ---------------------------------------------------------------------------

LADDER: dict[str, Callable[[], Estimator]] = {
    "ILS (the note)": lambda: _ils(0.01, gradient=target.logits_gradient),
    "ILS, projected": lambda: _ils(1e-3, normalizer=simplex.project_simplex),
    "ILS, Fisher": lambda: _ils(1e-6, keep_mass=True, metric=fisher),
    "straight-through": estimators.straight_through,
    "ReinMax (default)": estimators.reinmax,
    "Gumbel-Softmax, 0.5": lambda: estimators.gumbel_softmax(temperature=0.5),
    "Gumbel-Softmax, 1": lambda: estimators.gumbel_softmax(temperature=1.0),
    "straight-through Gumbel, 1": lambda: estimators.straight_through_gumbel(temperature=1.0),
    "leave-one-out": lambda: estimators.leave_one_out(samples=2),
}
LADDER_DRAWS = (5, 20)
LADDER_RATES = tuple(10 ** (k / 2) for k in range(-6, 1))
LADDER_EVALUATIONS = 4000
_TUNING_PROBLEMS, _LADDER_PROBLEMS = 20, 100


def _descend(
    make: Callable[[], Estimator], n: int, p: Tensor, start: Tensor, rates: Tensor, seed: int
) -> Tensor:
    """Adam with a linearly falling rate, one rate a row; the model at the end, ``(rows, K)``."""
    estimator, loss = make(), ladder_loss(p)
    generator = torch.Generator().manual_seed(seed)
    # Adam ignores the scale of a gradient: logits = start + rate * weights gives rows their rates.
    weights = torch.zeros_like(start, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=1.0)
    steps = LADDER_EVALUATIONS // estimator.evaluations
    for step in range(steps):
        theta = start + rates.unsqueeze(-1) * weights.detach()
        repeated = theta.unsqueeze(-2).expand(-1, n, -1)
        weights.grad = estimator(repeated, loss, generator=generator)[0].sum(-2)
        optimizer.param_groups[0]["lr"] = 1 - step / steps
        optimizer.step()
    return (start + rates.unsqueeze(-1) * weights.detach()).softmax(-1)


def compare_on_ladder(
    *,
    methods: Sequence[str] | None = None,
    draws: Sequence[int] = LADDER_DRAWS,
    progress: str | None = None,
) -> pd.DataFrame:
    """A fair comparison on the ladder: each method at its best rate, with equal evaluations.

    The rate is that with the lowest mean bound ``L_n`` on 20 problems; the result is for 100 other
    problems.

    Returns:
        Index (draws, method, problem); columns ``rate``, ``bound`` (``L_n / K`` less its value
        at the truth) and ``divergence``, both in nats per category.
    """
    rows = []
    todo = list(itertools.product(draws, methods or LADDER))
    for n, name in tqdm(todo, desc=progress, disable=True if progress is None else None):
        p, start = problems(SEEDS["tuning"], _TUNING_PROBLEMS)
        count = len(LADDER_RATES)
        rates = torch.tensor(LADDER_RATES, dtype=p.dtype).repeat_interleave(len(p))
        model = _descend(
            LADDER[name], n, p.repeat(count, 1), start.repeat(count, 1), rates, SEEDS["tuning"] + 1
        )
        scores = _bound(p.repeat(count, 1), model, n).reshape(count, -1).mean(-1)
        best = LADDER_RATES[int(scores.argmin())]
        p, start = problems(SEEDS["ladder"], _LADDER_PROBLEMS)
        rates = torch.full((len(p),), best, dtype=p.dtype)
        model = _descend(LADDER[name], n, p, start, rates, SEEDS["ladder"] + 1)
        excess = (_bound(p, model, n) - _bound(p, p, n)).tolist()
        for problem, (above, far) in enumerate(
            zip(excess, divergence(p, model).tolist(), strict=True)
        ):
            rows.append((n, name, problem, best, above, far))
    columns = ["draws", "method", "problem", "rate", "bound", "divergence"]
    return pd.DataFrame(rows, columns=columns).set_index(["draws", "method", "problem"])


def _bound(p: Tensor, model: Tensor, n: int) -> Tensor:
    return squeeze.jensen_bound(p, model, n=n, eps=EPS) / p.shape[-1]
