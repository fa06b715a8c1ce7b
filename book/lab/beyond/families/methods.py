"""Estimators of the gradient of one parameter, with their exact mean and variance by summation.

Most return ``v(z) g`` for a velocity ``v`` at the draw: :func:`velocities`.  The moments of the
score function are in closed form; those of Gumbel-Softmax, whose noise is not the draw, are
Monte Carlo means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ils.intermediate import at_each_draw
from lab.beyond.families.fields import flow, pathwise
from lab.beyond.families.quadrature import Nodes, nodes, scores
from lab.beyond.families.settings import Losses, Setting

__all__ = [
    "Measured",
    "Place",
    "differences",
    "gumbel_softmax",
    "leave_one_out",
    "measure_field",
    "place",
    "velocities",
]

_DRAWS = 20_000
_native: Any = torch


@dataclass(frozen=True)
class Place:
    """A setting with its nodes.

    Attributes:
        setting: which.
        at: nodes, with ``z`` as ``(S, d)`` in :attr:`z`.
        score: of the parameter, ``(S, P)``.
        centre: mean of a draw, ``(d,)``.
        spread: its standard deviation, likewise.
    """

    setting: Setting
    at: Nodes
    z: Tensor
    score: Tensor
    centre: Tensor
    spread: Tensor

    @property
    def discrete(self) -> bool:
        """Whether the draws are whole numbers."""
        return bool((self.at.volumes == 1).all())


def place(setting: Setting) -> Place:
    """Nodes, scores and moments of a setting."""
    family = setting.make()
    at = nodes(family)
    z = at.z.reshape(len(at.z), -1)
    score = scores(family, at)[setting.parameter].reshape(len(z), -1)
    centre = at.weights @ z
    spread = (at.weights @ (z - centre) ** 2).sqrt()
    return Place(setting, at, z, score, centre, spread)


@dataclass(frozen=True)
class Measured:
    """Moments of an estimator for each instance, ``(I,)``.

    Attributes:
        mean: ``(I, P)``.
        variance: trace of the covariance, times the evaluations that one estimate takes.
    """

    mean: Tensor
    variance: Tensor


def _carried(where: Place) -> Tensor:
    """The velocities of ``ils.distributions``, ``(S, P, d)``."""
    leaves, bound = at_each_draw(where.setting.make(), where.at.z)
    moved = bound._carry(where.at.z).reshape(where.z.shape)
    leaf = leaves[where.setting.parameter]
    columns = [
        torch.autograd.grad(moved[:, axis].sum(), leaf, retain_graph=True)[0].reshape(
            where.score.shape
        )
        for axis in range(where.z.shape[-1])
    ]
    return torch.stack(columns, -1)


def _finite_order(where: Place, order: int) -> Tensor:
    """He and Wu's velocity: the polynomial of least norm, exact for losses up to this degree."""
    u = ((where.z - where.centre) / where.spread).squeeze(-1)
    powers = torch.stack([u**k for k in range(order + 1)], -1)
    slopes = torch.einsum("s,sp,sk->kp", where.at.weights, where.score, powers)[1:]
    slopes = slopes / torch.arange(1, order + 1, dtype=u.dtype).unsqueeze(-1)
    basis = powers[:, :-1]
    products = torch.einsum("s,sj,sk->jk", where.at.weights, basis, basis)
    return ((basis @ torch.linalg.solve(products, slopes)) * where.spread).unsqueeze(-1)


def velocities(where: Place) -> dict[str, Tensor]:
    """Velocities ``(S, P, d)`` by method."""
    z, weights = where.z - where.centre, where.at.weights
    slope = torch.einsum("s,sp,sd->pd", weights, where.score, z)
    product = where.score.unsqueeze(-1) * z.unsqueeze(-2)
    found = {
        "ils.distributions": _carried(where),
        "straight-through": slope.expand_as(product),
        "any distribution": (slope + product) / 2,
    }
    if z.shape[-1] > 1:
        total = where.at.z.new_tensor(where.setting.make().concentration.tolist())
        slopes = _native._dirichlet_grad(
            where.at.z, total.expand_as(where.at.z), total.sum().expand_as(where.at.z)
        )
        size = z.shape[-1]
        unit = torch.eye(size, dtype=z.dtype)
        return found | {"pathwise": slopes.unsqueeze(-1) * (unit - where.z.unsqueeze(-2))}
    # Two states determine no polynomial of higher degree.
    if len(z) > 4:
        orders = (3, 4) if where.discrete else (2, 4)
        found |= {f"order {order}": _finite_order(where, order) for order in orders}
    if not where.discrete:
        found["pathwise"] = pathwise(where.at, where.score.squeeze(-1)).reshape(product.shape)
    return found


def _moments(weights: Tensor, estimates: Tensor) -> Measured:
    mean = torch.einsum("s,isp->ip", weights, estimates)
    spread = torch.einsum("s,isp->i", weights, estimates**2) - (mean**2).sum(-1)
    return Measured(mean, spread.clamp(min=0))


def measure_field(where: Place, field: Tensor, gradients: Tensor) -> Measured:
    """Moments of ``v(z) g``, for ``g`` ``(I, S, d)``."""
    return _moments(where.at.weights, torch.einsum("spd,isd->isp", field, gradients))


def differences(where: Place, losses: Losses) -> Measured:
    """The discrete flow with differences of the loss: exact, of two evaluations (Cong et al.)."""
    passed = flow(where.at, where.score.squeeze(-1)) / where.at.weights
    rise = losses.values(where.z + 1) - losses.values(where.z)
    found = _moments(where.at.weights, (passed * rise).unsqueeze(-1))
    return Measured(found.mean, 2 * found.variance)


def leave_one_out(where: Place, values: Tensor, draws: int) -> Measured:
    """Score function with the mean of the other draws as baseline, values ``(I, S)``."""
    weights, score = where.at.weights, where.score
    centred = values - (values @ weights).unsqueeze(-1)
    mean = torch.einsum("s,sp,is->ip", weights, score, centred)
    size = (score**2).sum(-1)
    product = torch.einsum("s,s,is->i", weights, size, centred**2)
    separate = (weights @ size) * (centred**2 @ weights)
    # A U-statistic of the kernel (s - s')(L - L') / 2.
    first = (product - (mean**2).sum(-1)) / 4
    second = (product + separate) / 2
    variance = 2 / (draws * (draws - 1)) * (2 * (draws - 2) * first + second)
    return Measured(mean, draws * variance)


def gumbel_softmax(
    where: Place, losses: Losses, temperature: float, *, seed: int = 0, draws: int = _DRAWS
) -> Measured:
    """Generalised Gumbel-Softmax: relaxed states times their numbers (Joo et al., 2020).

    Its mean is estimated from draws, which the instances share; the support is truncated where the
    mass ends.

    Args:
        where: a discrete setting.
        losses: evaluated between the states.
        temperature: of the relaxation.
        seed: of the noise.
        draws: how many.
    """
    generator = torch.Generator().manual_seed(seed)
    logits = where.at.weights.log()
    u = torch.rand(draws, len(logits), generator=generator, dtype=logits.dtype)
    relaxed = ((logits - (-u.log()).log()) / temperature).softmax(-1)
    states = where.z.squeeze(-1)
    moved = relaxed @ states
    # dz/dtheta: the covariance of state and score under the relaxed probabilities.
    score = where.score.squeeze(-1)
    slope = (relaxed @ (states * score) - moved * (relaxed @ score)) / temperature
    gradients = losses.gradients(moved.unsqueeze(-1)).squeeze(-1)
    estimates = gradients * slope
    return Measured(estimates.mean(-1, keepdim=True), estimates.var(-1))
