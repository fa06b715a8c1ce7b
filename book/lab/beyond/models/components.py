r"""Gradients for a mixture of normal distributions: plain functions of a loss and the noise.

Each returns a surrogate ``(R,)``, the mean over draws, of which only the gradient is used.
A mixture has weights ``softmax(logits)`` and ``K`` components with diagonal covariance; a draw is
the point ``z_i = means_i + scales_i eps_i`` of the component ``i = argmax(logits + gumbels)``.  The
loss maps ``(D, R, d)`` to ``(D, R)``; everything else that it depends on is held constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ils.distributions import Categorical, Independent, MixtureSameFamily, Normal

__all__ = [
    "Mixture",
    "Noise",
    "draw_noise",
    "implicit",
    "leave_one_out",
    "soft",
    "straight_through",
    "stratified",
    "transforms",
    "weights_fixed",
]


class Mixture(NamedTuple):
    """Mixtures, one a run."""

    logits: Tensor  # (R, K)
    means: Tensor  # (R, K, d)
    log_scales: Tensor  # (R, K, d)

    def detach(self) -> Mixture:
        """The same without a gradient."""
        return Mixture(*(value.detach() for value in self))

    def log_each(self, z: Tensor) -> Tensor:
        """Log-densities of each component and axis, ``(..., R, K, d)``."""
        error = (z.unsqueeze(-2) - self.means) / self.log_scales.exp()
        return -(error**2) / 2 - self.log_scales - math.log(2 * math.pi) / 2

    def log_prob(self, z: Tensor) -> Tensor:
        """At points ``(..., R, d)``, ``(..., R)``."""
        return (self.logits.log_softmax(-1) + self.log_each(z).sum(-1)).logsumexp(-1)

    def distribution(self) -> MixtureSameFamily:
        """The same mixtures as a distribution of :mod:`ils.distributions`."""
        normal = Normal(self.means, self.log_scales.exp(), validate_args=False)
        weights = Categorical(logits=self.logits, validate_args=False)
        return MixtureSameFamily(weights, Independent(normal, 1), validate_args=False)


class Noise(NamedTuple):
    """The noise from which a draw is computed."""

    gumbels: Tensor  # (D, R, K)
    normal: Tensor  # (D, R, K, d)


Loss = Callable[[Tensor], Tensor]


def draw_noise(q: Mixture, draws: int, generator: torch.Generator) -> Noise:
    """Noise for some draws."""
    u = torch.rand((draws, *q.logits.shape), dtype=q.logits.dtype, generator=generator)
    normal = torch.randn((draws, *q.means.shape), dtype=q.means.dtype, generator=generator)
    return Noise(-(-u.clamp(min=torch.finfo(u.dtype).tiny).log()).log(), normal)


def _points(q: Mixture, noise: Noise) -> Tensor:
    """A point of every component, ``(D, R, K, d)``."""
    return q.means + q.log_scales.exp() * noise.normal


def _chosen(q: Mixture, noise: Noise) -> Tensor:
    """The component drawn, one-hot, ``(D, R, K)``."""
    index = (q.logits.detach() + noise.gumbels).argmax(-1)
    return torch.nn.functional.one_hot(index, q.logits.shape[-1]).to(q.logits)


def _mixed(weights: Tensor, points: Tensor) -> Tensor:
    return (weights.unsqueeze(-1) * points).sum(-2)


def leave_one_out(loss: Loss, q: Mixture, noise: Noise, _: float = 0.0) -> Tensor:
    """Score function of the mixture; the baseline is the mean loss of the other draws.  Unbiased.

    Nothing is differentiated but the density.
    """
    with torch.no_grad():
        z = _mixed(_chosen(q, noise), _points(q, noise))
        values = loss(z)
        advantage = (values - values.mean(0)) * (len(z) / (len(z) - 1))
    return (advantage * q.log_prob(z)).mean(0)


def soft(loss: Loss, q: Mixture, noise: Noise, temperature: float) -> Tensor:
    """Gumbel-Softmax: the loss at the components' points, mixed by relaxed weights."""
    weights = ((q.logits + noise.gumbels) / temperature).softmax(-1)
    return loss(_mixed(weights, _points(q, noise))).mean(0)


def straight_through(loss: Loss, q: Mixture, noise: Noise, temperature: float) -> Tensor:
    """The loss at the exact draw, with the derivative of the relaxed weights."""
    weights = ((q.logits + noise.gumbels) / temperature).softmax(-1)
    weights = _chosen(q, noise) + weights - weights.detach()
    return loss(_mixed(weights, _points(q, noise))).mean(0)


def weights_fixed(loss: Loss, q: Mixture, noise: Noise, _: float = 0.0) -> Tensor:
    """No gradient for the weights, the pathwise one for the components.  A reference."""
    return loss(_mixed(_chosen(q, noise), _points(q, noise))).mean(0)


def stratified(loss: Loss, q: Mixture, noise: Noise, _: float = 0.0) -> Tensor:
    """The sum over components of weight times loss; ``K`` evaluations a draw.  Unbiased."""
    points = _points(q, noise)
    values = torch.stack([loss(z) for z in points.unbind(-2)], -1)
    return (q.logits.softmax(-1) * values).sum(-1).mean(0)


def transforms(q: Mixture, z: Tensor) -> tuple[Tensor, Tensor]:
    r"""Conditional distribution functions ``u_j = F(z_j | z_1 .. z_{j-1})`` and ``du / dz``.

    Args:
        q: mixtures ``(R, K)``, from which a gradient reaches ``u`` alone.
        z: points ``(D, R, d)``, held.

    Returns:
        ``u``, ``(D, R, d)``, and the lower triangular Jacobian ``(D, R, d, d)``.
    """
    each = q.log_each(z)
    below = each.cumsum(-1) - each
    # Weights of the components given the previous coordinates, (D, R, K, d).
    given = (q.logits.log_softmax(-1).unsqueeze(-1) + below).softmax(-2)
    scales = q.log_scales.exp()
    error = (z.unsqueeze(-2) - q.means) / scales
    part = torch.special.ndtr(error)
    u = (given * part).sum(-2)
    with torch.no_grad():
        jacobian = torch.diag_embed((given * each.exp()).sum(-2))
        pull = -error / scales  # of each log-density, for its coordinate
        for row in range(1, z.shape[-1]):
            for column in range(row):
                weight, change = given[..., row], pull[..., column]
                change = change - (weight * change).sum(-1, keepdim=True)
                jacobian[..., row, column] = (weight * change * part[..., row]).sum(-1)
    return u, jacobian


def implicit(loss: Loss, q: Mixture, noise: Noise, _: float = 0.0) -> Tensor:
    """Implicit reparameterisation of the whole mixture, coordinate by coordinate.  Unbiased.

    The draw moves so that its conditional distribution functions stay what they are:
    ``z - J^{-1} (u - u.detach())``.
    """
    with torch.no_grad():
        z = _mixed(_chosen(q, noise), _points(q, noise))
    u, jacobian = transforms(q, z)
    change = (u - u.detach()).unsqueeze(-1)
    moved = torch.linalg.solve_triangular(jacobian, change, upper=False).squeeze(-1)
    return loss(z - moved).mean(0)
