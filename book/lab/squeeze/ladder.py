"""Tables for the chapter "The squeeze in numbers": exact sums, no draws."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from ils.squeeze import gap, jensen_bound, kl

__all__ = ["gaps", "minimisers", "two_categories"]


def two_categories(p: float, draws: list[int], eps: float, points: int = 199) -> pd.DataFrame:
    """The divergence and its bounds for two categories, along all models.

    Returns:
        Index ``model``, the model's probability of the first category; columns the divergence
        (``KL``) and ``n = ...``.
    """
    first = torch.linspace(0, 1, points + 2, dtype=torch.float64)[1:-1]
    models = torch.stack([first, 1 - first], -1)
    truth = torch.tensor([p, 1 - p], dtype=torch.float64).expand_as(models)
    columns = {"KL": kl(truth, models, eps=eps)} | {
        f"n = {n}": jensen_bound(truth, models, n=n, eps=eps) for n in draws
    }
    index = pd.Index(first.tolist(), name="model")
    return pd.DataFrame({name: values.tolist() for name, values in columns.items()}, index=index)


def gaps(p: Tensor, probs: Tensor, draws: list[int], eps: float) -> pd.DataFrame:
    """Mean gap of the bound over problems for ``n`` draws, and what the delta method gives.

    Args:
        p, probs: truth and model, ``(problems, K)``.
        draws: values of ``n``.
        eps: the guard.
    """
    rate = (p * probs * (1 - probs) / (probs + eps) ** 2).sum(-1) / 2
    rows = [(n, float(gap(p, probs, n=n, eps=eps).mean()), float(rate.mean() / n)) for n in draws]
    return pd.DataFrame(rows, columns=["n", "gap", "delta method"]).set_index("n")


def minimisers(p: Tensor, draws: list[int], eps: float) -> pd.DataFrame:
    """Divergence at the minimiser of the bound by ``n`` draws, for each problem.

    Found by L-BFGS on the exact gradient, from ``p``.

    Args:
        p: truths, ``(problems, K)``.
        draws: values of ``n``, at least 2 (for 1 the minimiser is a corner).
        eps: the guard.

    Returns:
        One row a problem, one column an ``n``.
    """
    columns = {}
    for n in draws:
        logits = p.log().clone().requires_grad_()
        solver = torch.optim.LBFGS(
            [logits],
            max_iter=100,
            tolerance_grad=1e-9,
            tolerance_change=1e-14,
            line_search_fn="strong_wolfe",
        )

        def objective(n: int = n, logits: Tensor = logits) -> Tensor:
            logits.grad = None
            value = jensen_bound(p, logits.softmax(-1), n=n, eps=eps).sum()
            value.backward()
            return value

        solver.step(objective)
        columns[n] = kl(p, logits.detach().softmax(-1), eps=eps).tolist()
    return pd.DataFrame(columns).rename_axis("problem")
