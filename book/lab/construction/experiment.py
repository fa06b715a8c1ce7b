"""Tables for the chapter "The construction in numbers": exact, by enumeration."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ils import exact, simplex, target
from ils.estimators import Estimator, intermediate_loss_sampling, straight_through
from ils.relaxation import relaxed_sample, relaxed_sample_vjp
from lab.methods.gumbel_limit import sobol_gumbel
from lab.problems.toy import Toy, ils_limit

__all__ = ["noise", "quadratic", "saturated_noise", "scale", "target_paths", "temperature"]

FORMS = {
    "sum-normalised, clamped": {"normalizer": simplex.sum_normalize},
    "sum-normalised, unclamped": {"normalizer": simplex.sum_normalize_unclamped},
    "mass-keeping": {"normalizer": simplex.sum_normalize, "keep_mass": True},
    "Euclidean projection": {"normalizer": simplex.project_simplex},
}


def target_paths(grad: Tensor, step_sizes: Tensor) -> pd.DataFrame:
    """Targets of every form of the step, after each draw, along a range of step sizes.

    Args:
        grad: the gradient, the same at every draw (a linear loss), ``(K,)``.
        step_sizes: ``(A,)``.

    Returns:
        Columns ``form``, ``drawn``, ``step_size`` and one for each category.
    """
    z = torch.eye(grad.shape[-1], dtype=grad.dtype).unsqueeze(1)
    rows = []
    for form, options in FORMS.items():
        targets = target.intermediate_target(
            z, grad.expand_as(z), step_size=step_sizes.reshape(-1, 1), **options
        )
        for drawn, path in enumerate(targets):
            for step_size, point in zip(step_sizes.tolist(), path.tolist(), strict=True):
                rows.append((form, drawn + 1, step_size, *point))
    names = [f"category {k + 1}" for k in range(grad.shape[-1])]
    return pd.DataFrame(rows, columns=["form", "drawn", "step_size", *names])


def quadratic(seed: int = 0, categories: int = 5) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """A random quadratic loss ``<a, z> + z^T B z`` and random logits."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(categories, generator=generator, dtype=torch.float64)
    b = torch.randn(categories, categories, generator=generator, dtype=torch.float64)
    logits = torch.randn(categories, generator=generator, dtype=torch.float64)
    return lambda z: z @ a + ((z @ b) * z).sum(-1), logits


def noise(step_sizes: list[float], problems: int = 200) -> pd.DataFrame:
    """Exact noise and direction of plain and centred ILS on random quadratic losses.

    Returns:
        One row a problem, form, gradient and step: ``noise``, the standard deviation over the
        length of the mean, and ``cosine`` with the exact gradient.
    """
    gradients = {"plain": target.logits_gradient, "centred": target.centred_gradient}
    rows = []
    for seed in range(problems):
        loss, logits = quadratic(seed)
        for form in ("sum-normalised, clamped", "Euclidean projection"):
            for name, gradient in gradients.items():
                for step_size in step_sizes:
                    estimator = intermediate_loss_sampling(
                        step_size=step_size, gradient=gradient, **FORMS[form]
                    )
                    found = exact.moments(estimator, loss, logits)
                    spread = float(found.variance.sqrt() / found.mean.norm())
                    rows.append((seed, form, name, step_size, spread, float(found.cosine)))
    columns = ["problem", "form", "gradient", "step_size", "noise", "cosine"]
    return pd.DataFrame(rows, columns=columns)


def saturated_noise(toy: Toy, step_size: float) -> pd.DataFrame:
    """Exact variance of the plain and the centred update on each toy problem, at its fixed point.

    Returns:
        One row a problem with ``plain`` and ``centred``, and ``zero_mean``, the variance of the
        term ``pi - z`` that centring drops.
    """
    pi = ils_limit(toy, step_size=step_size).flatten(0, 1)
    p = toy.p.flatten(0, 1)
    z = torch.eye(p.shape[-1], dtype=p.dtype).expand(len(p), -1, -1)
    grad = -p.unsqueeze(1) / (toy.size * (z + toy.eps))
    targets = target.intermediate_target(z, grad, step_size=step_size)
    updates = {"plain": pi.unsqueeze(1) - targets, "centred": z - targets}
    updates["zero_mean"] = pi.unsqueeze(1) - z
    weights = pi.unsqueeze(-1)
    columns = {}
    for name, update in updates.items():
        mean = (weights * update).sum(1, keepdim=True)
        columns[name] = (weights * (update - mean) ** 2).sum((1, 2)).tolist()
    return pd.DataFrame(columns).rename_axis("problem")


def scale(factors: list[float], seed: int = 0) -> pd.DataFrame:
    """Length of the mean update when the loss is multiplied by a factor, relative to factor 1.

    The step size is 1; straight-through is there for comparison.
    """
    loss, logits = quadratic(seed)
    forms: dict[str, Estimator] = {
        name: intermediate_loss_sampling(
            step_size=1.0, gradient=target.centred_gradient, **FORMS[form]
        )
        for name, form in (
            ("ILS, centred", "sum-normalised, clamped"),
            ("ILS, mass kept", "mass-keeping"),
            ("ILS, projected", "Euclidean projection"),
        )
    }
    forms["straight-through"] = straight_through()
    rows = []
    for name, estimator in forms.items():
        unit = exact.moments(estimator, loss, logits).mean.norm()
        for factor in factors:
            scaled = exact.moments(estimator, lambda z, c=factor: c * loss(z), logits)
            rows.append((name, factor, float(scaled.mean.norm() / unit)))
    return pd.DataFrame(rows, columns=["estimator", "factor", "length"])


def temperature(temperatures: list[float], points: int = 2**14, seed: int = 0) -> pd.DataFrame:
    """The trade-off of Gumbel-Softmax on a quadratic loss: hardness, noise and bias.

    Returns:
        One row a temperature: ``largest``, the mean largest entry of the relaxed sample (1 for a
        draw); ``noise``, the gradient's standard deviation over the length of the exact gradient;
        ``bias``, the length of its bias over the same.
    """
    loss, logits = quadratic(seed)
    truth = exact.gradient(loss, logits)
    gumbel = sobol_gumbel(points, logits.shape[-1])
    rows = []
    for value in temperatures:
        y = relaxed_sample(logits, gumbel, value).requires_grad_()
        (grad,) = torch.autograd.grad(loss(y).sum(), y)
        estimates = relaxed_sample_vjp(y.detach(), grad, value)
        mean = estimates.mean(0)
        spread = ((estimates - mean) ** 2).sum(-1).mean().sqrt()
        largest = y.detach().amax(-1).mean()
        quality = (largest, spread / truth.norm(), (mean - truth).norm() / truth.norm())
        rows.append((value, *np.array([float(number) for number in quality])))
    return pd.DataFrame(rows, columns=["temperature", "largest", "noise", "bias"])
