r"""The fixed point of gradient descent through relaxed Gumbel-Softmax samples on the toy.

The expected loss of the relaxed sample is averaged over a fixed scrambled Sobol set of Gumbel
noise, the same for every problem, and minimised by a damped Newton method (Levenberg's: the
curvature of ``-sum p log y`` plus a multiple of the identity that grows where a step fails).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ils.checks import check_positive
from ils.relaxation import relaxed_sample, relaxed_sample_vjp

__all__ = ["gumbel_limit", "sobol_gumbel"]


def sobol_gumbel(count: int, categories: int, seed: int = 0) -> Tensor:
    """Standard Gumbel numbers at scrambled Sobol points, ``(count, categories)``."""
    engine = torch.quasirandom.SobolEngine(categories, scramble=True, seed=seed)
    uniform = engine.draw(count, dtype=torch.float64)
    tiny = torch.finfo(torch.float64).eps
    return -(-uniform.clamp(tiny, 1 - tiny).log()).log()


def gumbel_limit(
    p: Tensor,
    temperature: float,
    *,
    eps: float,
    noise: Tensor,
    iterations: int = 200,
    tolerance: float = 1e-8,
) -> tuple[Tensor, Tensor]:
    r"""Minimise ``E_G[-sum_k p_k log(y_k + eps)]``, ``y = softmax((theta + G) / T)``.

    Args:
        p: targets, ``(problems, K)``.
        temperature: ``T > 0``.
        eps: the guard inside the logarithm; with 0 the minimiser has ``E[y] = p``.
        noise: Gumbel numbers, ``(count, K)``.
        iterations: most steps.
        tolerance: end when no gradient entry is above it.

    Returns:
        The model ``softmax(theta)``, ``(problems, K)``, and for each problem the largest
        remaining entry of the gradient, ``(problems,)``.
    """
    check_positive("temperature", temperature)
    parts = [
        _minimize(part, temperature, eps, noise, iterations, tolerance) for part in p.split(50)
    ]
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def _minimize(
    p: Tensor, temperature: float, eps: float, noise: Tensor, iterations: int, tolerance: float
) -> tuple[Tensor, Tensor]:
    categories = p.shape[-1]
    identity = torch.eye(categories, dtype=p.dtype)

    def value(theta: Tensor) -> tuple[Tensor, Tensor]:
        y = relaxed_sample(theta.unsqueeze(1), noise, temperature)
        return -(p * (y + eps).log().mean(1)).sum(-1), y

    theta = p.log()
    damping = torch.full_like(p[:, 0], 1e-3)
    loss, y = value(theta)
    slope = torch.full_like(p, torch.inf)
    for _ in range(iterations):
        slope = relaxed_sample_vjp(y, -p.unsqueeze(1) / (y + eps), temperature).mean(1)
        if bool((slope.abs() < tolerance).all()):
            break
        curvature = torch.diag_embed(y.mean(1)) - y.mT @ y / y.shape[1]
        damped = curvature / temperature**2 + damping[:, None, None] * identity
        trial = theta - torch.linalg.solve(damped, slope)
        trial_loss, trial_y = value(trial)
        better = trial_loss <= loss
        theta = torch.where(better[:, None], trial, theta)
        loss = torch.where(better, trial_loss, loss)
        y = torch.where(better[:, None, None], trial_y, y)
        damping = torch.where(better, damping / 3, damping * 4).clamp(1e-12, 1e6)
    return theta.softmax(-1), slope.abs().amax(-1)
