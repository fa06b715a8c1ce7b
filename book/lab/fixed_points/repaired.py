r"""The repaired toy: the mean of ``n`` draws with half a count as the guard, ``eps = 1 / (2n)``.

Everything that an estimator climbs here is a sum ``sum_k p_k S(x_k)`` of one concave function, so
that its rest point is where ``p_k S'(x_k)`` is one level.  Truths are ``(problems, K)``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from ils import estimators, simplex, squeeze, target
from ils.estimators import Estimator
from ils.exact import Loss
from ils.metric import fisher
from lab.fixed_points import experiment

__all__ = [
    "METHODS",
    "SLOPES",
    "bound",
    "compare",
    "exact_limits",
    "guard",
    "limit",
    "loss",
    "problems",
    "slope",
]

SEEDS = {"tuning": 330, "final": 340}
PROBLEMS, TUNING_PROBLEMS = 100, 20
DRAWS = (20, 50)
EVALUATIONS = 2000
RATES = tuple(10 ** (k / 2) for k in range(-6, 0))


def guard(n: int) -> float:
    """Half a count of ``n``, as a guard inside the logarithm."""
    return 1 / (2 * n)


def problems(seed: int, count: int = PROBLEMS) -> tuple[Tensor, Tensor]:
    """Targets half way between the note's and the even one, and the note's starts.

    No category is rarer than ``1 / (2 K)``.
    """
    p, start = experiment.problems(seed, count)
    return (p + 1 / p.shape[-1]) / 2, start


def loss(p: Tensor) -> Loss:
    """``-sum p log(mean of n draws + 1 / (2n)) / (N K)`` of draws ``(D, problems, n, K)``."""
    return lambda z: -(p * (z.mean(-2) + guard(z.shape[-2])).log()).sum(-1) / experiment.SIZE


def bound(p: Tensor, model: Tensor, n: int) -> Tensor:
    """The exact mean of the loss, up to a constant and in nats per category."""
    return squeeze.jensen_bound(p, model, n=n, eps=guard(n)) / p.shape[-1]


# --- where exact flows end -------------------------------------------------------------------

SLOPES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "exact gradient": lambda count, eps: torch.log1p(1 / (count + eps)),
    "ReinMax (default)": lambda count, eps: (1 / (count + eps) + 1 / (count + 1 + eps)) / 2,
    "straight-through": lambda count, eps: 1 / (count + eps),
}
"""By estimator, what is averaged over ``count`` draws of a category; ``eps`` in counts."""


def slope(x: Tensor, n: int, method: str, *, eps: float | None = None) -> Tensor:
    """``S'(x)`` of the function that the mean of an estimator climbs on the mean of ``n`` draws.

    Straight-through averages the derivative over all ``n`` draws.  The others compare a draw of
    the category with none, and average over the ``n - 1`` other draws.

    Args:
        x: probabilities, of any shape.
        n: the number of draws.
        method: a key of :data:`SLOPES`.
        eps: the guard; half a count if None.
    """
    others = n if method == "straight-through" else n - 1
    count = torch.arange(others + 1, dtype=x.dtype)
    size = torch.tensor(float(others), dtype=x.dtype)
    choose = (size + 1).lgamma() - (count + 1).lgamma() - (size - count + 1).lgamma()
    q = x.unsqueeze(-1)
    mass = (choose + torch.special.xlogy(count, q) + torch.special.xlog1py(size - count, -q)).exp()
    return n * mass @ SLOPES[method](count, n * (guard(n) if eps is None else eps))


def limit(
    p: Tensor, n: int, method: str, *, eps: float | None = None, iterations: int = 20_000
) -> Tensor:
    """The maximiser of ``sum p_k S(x_k)`` on the simplex: where ``p_k S'(x_k)`` is one level.

    By ``x <- x sqrt(p S'(x))``, normalised: where ``S'`` falls like ``1 / x`` each step
    halves the error of ``log x``.

    Args:
        p, n, method, eps: as in :func:`slope`.
        iterations: at most; fewer once nothing moves.
    """
    x = p
    for _ in range(iterations):
        weights = x * (p * slope(x, n, method, eps=eps)).sqrt()
        moved = weights / weights.sum(-1, keepdim=True)
        if (moved - x).abs().max() < 1e-15:
            break
        x = moved
    return x


def exact_limits(
    draws: Sequence[int], *, count: int = PROBLEMS, eps: float | None = None
) -> pd.DataFrame:
    """The divergence where each exact flow ends: index (method, problem), a column an ``n``."""
    p, _ = problems(SEEDS["final"], count)
    rows = {}
    for method in SLOPES:
        found = [experiment.divergence(p, limit(p, n, method, eps=eps)) for n in draws]
        for problem, values in enumerate(torch.stack(found, -1).tolist()):
            rows[method, problem] = values
    index = pd.MultiIndex.from_tuples(rows, names=["method", "problem"])
    return pd.DataFrame(list(rows.values()), index=index, columns=list(draws))


# --- with draws ------------------------------------------------------------------------------

_ils = partial(estimators.intermediate_loss_sampling, per_step=True)
_centred = partial(_ils, gradient=target.centred_gradient)
# Step sizes in units of N K n, where a step moves about the mass of a draw.
_STEPS = (0.03, 0.3, 3.0)

METHODS: dict[str, tuple[tuple[float, ...], Callable[[float], Estimator]]] = {
    "ILS (the note)": (_STEPS, lambda a: _ils(step_size=a)),
    "ILS, projected": (
        _STEPS,
        lambda a: _centred(step_size=a, normalizer=simplex.project_simplex),
    ),
    "ILS, Fisher": (_STEPS, lambda a: _centred(step_size=a, metric=fisher, keep_mass=True)),
    "straight-through": ((0.0,), lambda _: estimators.straight_through()),
    "ReinMax (default)": ((0.0,), lambda _: estimators.reinmax()),
    "Gumbel-Softmax, 0.5": ((0.5,), lambda t: estimators.gumbel_softmax(temperature=t)),
    "Gumbel-Softmax, 1": ((1.0,), lambda t: estimators.gumbel_softmax(temperature=t)),
    "straight-through Gumbel, 1": (
        (1.0,),
        lambda t: estimators.straight_through_gumbel(temperature=t),
    ),
    "leave-one-out": ((0.0,), lambda _: estimators.leave_one_out(samples=2)),
}
"""By name the settings among which it is tuned, and how it is made at one."""


def _descend(
    estimator: Estimator, n: int, p: Tensor, start: Tensor, rates: Tensor, seed: int
) -> Tensor:
    """Adam with a linearly falling rate, one rate a row; the model at the end, ``(rows, K)``."""
    objective, generator = loss(p), torch.Generator().manual_seed(seed)
    # Adam ignores the scale of a gradient: logits = start + rate * weights gives rows their rates.
    weights = torch.zeros_like(start, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=1.0, eps=1e-20)
    steps = EVALUATIONS // estimator.evaluations
    for step in range(steps):
        theta = start + rates.unsqueeze(-1) * weights.detach()
        repeated = theta.unsqueeze(-2).expand(-1, n, -1)
        weights.grad = estimator(repeated, objective, generator=generator)[0].sum(-2)
        optimizer.param_groups[0]["lr"] = 1 - step / steps
        optimizer.step()
    return (start + rates.unsqueeze(-1) * weights.detach()).softmax(-1)


def _made(name: str, setting: float, n: int) -> Estimator:
    scale = experiment.SIZE * n if METHODS[name][0] is _STEPS else 1
    return METHODS[name][1](setting * scale)


def _tuned(name: str, n: int) -> tuple[float, float]:
    """The setting and the rate with the lowest mean bound on problems of their own."""
    p, start = problems(SEEDS["tuning"], TUNING_PROBLEMS)
    many = len(RATES)
    rates = torch.tensor(RATES, dtype=p.dtype).repeat_interleave(len(p))
    p, start, scores = p.repeat(many, 1), start.repeat(many, 1), {}
    for setting in METHODS[name][0]:
        model = _descend(_made(name, setting, n), n, p, start, rates, SEEDS["tuning"] + 1)
        means = bound(p, model, n).reshape(many, -1).mean(-1).tolist()
        scores |= {(setting, rate): mean for rate, mean in zip(RATES, means, strict=True)}
    return min(scores, key=lambda key: scores[key])


def compare(
    *,
    methods: Sequence[str] | None = None,
    draws: Sequence[int] = DRAWS,
    progress: str | None = None,
) -> pd.DataFrame:
    """Each method at its best setting and rate, with equal evaluations, on the repaired toy.

    Returns:
        Index (draws, method, problem); columns ``setting``, ``rate``, ``bound`` (less its minimum)
        and ``divergence``, both in nats per category.
    """
    rows = []
    todo = list(itertools.product(draws, methods or METHODS))
    p, start = problems(SEEDS["final"])
    for n, name in tqdm(todo, desc=progress, disable=True if progress is None else None):
        setting, rate = _tuned(name, n)
        rates = torch.full((len(p),), rate, dtype=p.dtype)
        model = _descend(_made(name, setting, n), n, p, start, rates, SEEDS["final"] + 1)
        above = bound(p, model, n) - bound(p, limit(p, n, "exact gradient"), n)
        far = experiment.divergence(p, model)
        for problem, found in enumerate(zip(above.tolist(), far.tolist(), strict=True)):
            rows.append((n, name, problem, setting, rate, *found))
    columns = ["draws", "method", "problem", "setting", "rate", "bound", "divergence"]
    return pd.DataFrame(rows, columns=columns).set_index(["draws", "method", "problem"])
