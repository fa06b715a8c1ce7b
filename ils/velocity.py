r"""How fast a draw moves with the parameters of its distribution: ``dz / d theta``, at a draw.

A draw with the velocity ``v(z)`` has the gradient estimate ``v(z) g`` for ``theta``, where ``g`` is
the gradient of the loss at the draw.  The velocities here are what the intermediate loss
``-log p(z - alpha M g; theta)`` gives as ``alpha`` goes to zero, centred, in units of the gradient:

- *natural exponential families on the integers*: ``M`` is half the mean square of the jumps of a
  birth-death process that keeps ``p`` and has linear drift; the estimate is exact for quadratic
  losses and off by at most a twelfth of the third derivative;
- *other exponential families*: ``M`` is the Euclidean metric of the unconstrained coordinate, and
  ``C = F G^{-1}``, with the Fisher matrix ``F`` and the mean ``G`` of the products of the gradients
  of the sufficient statistics, makes it exact for every loss that is linear in these.

Nothing here draws.  All is elementwise with broadcasting, but for the Dirichlet.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "beta",
    "binomial",
    "dirichlet",
    "gamma",
    "geometric",
    "negative_binomial",
    "poisson",
    "von_mises",
]


def _over(value: Tensor, probability: Tensor) -> Tensor:
    """``value / probability``, zero where the value is: an event of probability zero never is."""
    return torch.where(value == 0, 0, value / probability.where(value != 0, 1))


def poisson(z: Tensor, rate: Tensor) -> Tensor:
    r"""``dz / d rate = (1 + z / rate) / 2`` of a Poisson draw.

    Args:
        z: draws ``(...)``, counts.
        rate: the mean, at least 0, broadcasting to ``(...)``.

    Returns:
        ``(...)``, positive, of mean 1 for ``rate > 0``.

    Raises:
        RuntimeError: the shapes do not broadcast.

    Example:
        >>> import torch, ils
        >>> ils.velocity.poisson(torch.tensor([0.0, 3.0]), torch.tensor(2.0))
        tensor([0.5000, 1.2500])

    Source: He and Wu (2026), order two, and the two-sided smoothing of StochasticAD (2023); here
    from the birth-death process that goes up at ``rate`` and down at ``z``.
    """
    return (1 + _over(z, rate)) / 2


def binomial(z: Tensor, total_count: Tensor, probs: Tensor, *, logits: bool) -> Tensor:
    r"""``dz / d logits = (p (n - z) + (1 - p) z) / 2`` of a binomial draw, or ``dz / dp``.

    Args:
        z: draws ``(...)``, counts from 0 to ``n``.
        total_count: ``n``, broadcasting to ``(...)``; 1 for a Bernoulli draw.
        probs: ``p``, from 0 to 1, likewise.
        logits: whether the parameter is ``log(p / (1 - p))``, or ``p``.

    Returns:
        ``(...)``, never negative, of mean ``n p (1 - p)`` for the logits and ``n`` for ``p``.

    Raises:
        RuntimeError: the shapes do not broadcast.

    Example:
        >>> import torch, ils
        >>> z = torch.tensor([0.0, 1.0])
        >>> ils.velocity.binomial(z, torch.tensor(1.0), torch.tensor(0.25), logits=False)
        tensor([0.6667, 2.0000])

    Source: He and Wu (2026), order two, and the two-sided smoothing of StochasticAD (2023); of one
    trial, ReinMax (Liu et al., 2023) at temperature 1.
    """
    if logits:
        return (probs * (total_count - z) + (1 - probs) * z) / 2
    return (_over(total_count - z, 1 - probs) + _over(z, probs)) / 2


def negative_binomial(
    z: Tensor, total_count: Tensor, probs: Tensor, *, logits: bool
) -> tuple[Tensor, Tensor]:
    r"""``dz / dr`` and ``dz / d logits`` (or ``dz / dp``) of a negative binomial draw.

    .. math::

        \frac{dz}{dr} = \tfrac12 \Bigl[ \tfrac{p}{1-p} + \tfrac{z}{r} \Bigr], \qquad
        \frac{dz}{d\,\mathrm{logits}} = \tfrac12 \bigl[ p (z + r) + z \bigr] .

    Args:
        z: draws ``(...)``, successes before the ``r``-th failure.
        total_count: ``r``, at least 0, broadcasting to ``(...)``.
        probs: ``p``, the probability of a success, from 0 to below 1, likewise.
        logits: whether the second parameter is ``log(p / (1 - p))``, or ``p``.

    Returns:
        Two tensors ``(...)``; their means are the derivatives of the mean ``m = r p / (1 - p)``.

    Raises:
        RuntimeError: the shapes do not broadcast.

    Example:
        >>> import torch, ils
        >>> z, r, p = torch.tensor([0.0, 3.0]), torch.tensor(2.0), torch.tensor(0.5)
        >>> ils.velocity.negative_binomial(z, r, p, logits=True)[1]
        tensor([0.5000, 2.7500])

    Source: He and Wu (2026), order two.
    """
    count = (probs / (1 - probs) + _over(z, total_count)) / 2
    if logits:
        return count, (probs * (z + total_count) + z) / 2
    return count, ((z + total_count) + _over(z, probs)) / (2 * (1 - probs))


def geometric(z: Tensor, probs: Tensor, *, logits: bool) -> Tensor:
    r"""``dz / d logits = -((1 - q)(z + 1) + z) / 2`` of a geometric draw, or ``dz / dq``.

    Args:
        z: draws ``(...)``, failures before the first success.
        probs: ``q``, the probability of a success, above 0, broadcasting to ``(...)``.
        logits: whether the parameter is ``log(q / (1 - q))``, or ``q``.

    Returns:
        ``(...)``, never positive, of mean ``-(1 - q) / q`` for the logits, ``-1 / q^2`` for ``q``.

    Raises:
        RuntimeError: the shapes do not broadcast.

    Example:
        >>> import torch, ils
        >>> z = torch.tensor([0.0, 3.0])
        >>> ils.velocity.geometric(z, torch.tensor(0.5), logits=True)
        tensor([-0.2500, -2.5000])

    Source: the two-sided smoothing of StochasticAD (2023); the negative binomial of He and Wu
    (2026) with ``r = 1`` and ``p = 1 - q``.
    """
    if logits:
        return ((1 - probs) * (z + 1) + z) / -2
    return ((z + 1) + _over(z, 1 - probs)) / (-2 * probs)


def gamma(z: Tensor, concentration: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    r"""``dz / da`` and ``dz / db`` of a gamma draw with concentration ``a`` and rate ``b``.

    .. math::

        \frac{dz}{da} = z \Bigl[ (a + 1) \psi'(a) - 1 - \bigl(\psi'(a) - \tfrac1a\bigr) b z \Bigr],
        \qquad \frac{dz}{db} = -\frac{z}{b} .

    Args:
        z: draws ``(...)``, positive.
        concentration: ``a``, positive, broadcasting to ``(...)``.
        rate: ``b``, positive, in one over the units of ``z``, likewise.

    Returns:
        Two tensors ``(...)``.  For ``a`` the estimate is biased, but for losses linear in ``z`` and
        ``log z``; for ``b`` it is the pathwise one, and exact.

    Raises:
        RuntimeError: the shapes do not broadcast.

    Example:
        >>> import torch, ils
        >>> z, one = torch.tensor([1.0, 2.0]), torch.tensor(1.0)
        >>> ils.velocity.gamma(z, one, one)[1]
        tensor([-1., -2.])

    Source: this report.
    """
    curvature = torch.special.polygamma(1, concentration)
    excess = curvature - 1 / concentration
    bend = (concentration + 1) * curvature - 1 - excess * rate * z
    return z * bend, -z / rate


def beta(z: Tensor, concentration1: Tensor, concentration0: Tensor) -> tuple[Tensor, Tensor]:
    r"""``dz / da`` and ``dz / db`` of a beta draw: :func:`dirichlet` for ``(z, 1 - z)``.

    .. math::

        \frac{dz}{d(a, b)} = z (1 - z)\; F G^{-1} (1 - z, -z)^\top, \quad
        G = \mathrm E \bigl[ (1 - z, -z)^\top (1 - z, -z) \bigr],

    with the Fisher matrix ``F``.

    Args:
        z: draws ``(...)``, between 0 and 1.
        concentration1: ``a``, positive, broadcasting to ``(...)``.
        concentration0: ``b``, positive, likewise.

    Returns:
        Two tensors ``(...)``.  Biased, but for losses linear in ``log z`` and ``log(1 - z)``.

    Raises:
        RuntimeError: the shapes do not broadcast.

    Example:
        >>> import torch, ils
        >>> half, one = torch.tensor(0.5), torch.tensor(1.0)
        >>> up, down = ils.velocity.beta(half, one, one)
        >>> bool(up == -down)
        True

    Source: this report.
    """
    a, b = concentration1, concentration0
    total = a + b
    at_a, at_b, at_total = (torch.special.polygamma(1, x) for x in (a, b, total))
    # G^{-1} applied to (1 - z, -z), worked out by hand.
    first = total * ((a + 1) * (1 - z) / b - z)
    second = total * ((1 - z) - (b + 1) * z / a)
    spread, common = z * (1 - z), at_total * (first + second)
    return spread * (at_a * first - common), spread * (at_b * second - common)


def dirichlet(z: Tensor, concentration: Tensor, change: Tensor) -> Tensor:
    r"""``(dz / d alpha) change``: how a Dirichlet draw moves with a change of the concentration.

    .. math::

        z \circ (u - \langle z, u \rangle), \qquad
        u = C^\top c - \langle \mathbf 1, C^\top c \rangle\, z, \qquad C = F G^{-1}, \quad
        G_{kl} = \mathrm E \bigl[ \delta_{kl} - z_k - z_l + \|z\|^2 \bigr] ,

    for the change ``c`` and the Fisher matrix ``F``; linear in ``c``.

    Args:
        z: draws ``(..., K)``, on the simplex.
        concentration: ``alpha``, positive, broadcasting to ``(..., K)``.
        change: ``c``, likewise.

    Returns:
        ``(..., K)``, of sum zero.  As an estimate biased, but for losses linear in ``log z``.

    Raises:
        RuntimeError: the shapes do not broadcast.

    Example:
        >>> import torch, ils
        >>> z, ones = torch.tensor([0.2, 0.3, 0.5]), torch.ones(3)
        >>> moved = ils.velocity.dirichlet(z, ones, torch.tensor([1.0, 0.0, 0.0]))
        >>> bool(moved.sum().abs() < 1e-6)
        True

    Source: this report.
    """
    total = concentration.sum(-1, keepdim=True)
    mean = concentration / total
    square = (concentration * (concentration + 1)).sum(-1, keepdim=True) / (total * (total + 1))
    identity = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
    products = identity - mean.unsqueeze(-1) - mean.unsqueeze(-2) + square.unsqueeze(-1)
    at_total = torch.special.polygamma(1, total)
    pulled = torch.special.polygamma(1, concentration) * change
    pulled = pulled - at_total * change.sum(-1, keepdim=True)
    statistics = torch.linalg.solve(products, pulled.unsqueeze(-1)).squeeze(-1)
    u = statistics - statistics.sum(-1, keepdim=True) * z
    return z * (u - (z * u).sum(-1, keepdim=True))


def von_mises(z: Tensor, loc: Tensor, concentration: Tensor) -> Tensor:
    r"""``dz / d kappa = -C sin(z - loc)`` of a von Mises draw.

    .. math::

        C = \frac{\operatorname{Var} \cos}{\mathrm E \sin^2}
        = \frac{\kappa A'(\kappa)}{A(\kappa)}, \qquad A = I_1 / I_0 ,
        \quad A' = 1 - A / \kappa - A^2 .

    For ``loc`` the velocity is 1: the draw is ``loc`` and a draw that does not depend on it.

    Args:
        z: draws ``(...)``, angles in radians.
        loc: likewise, broadcasting to ``(...)``.
        concentration: ``kappa``, positive, likewise.

    Returns:
        ``(...)``.  Biased, but for losses linear in the sine and cosine of ``z``.

    Raises:
        RuntimeError: the shapes do not broadcast.

    Example:
        >>> import math, torch, ils
        >>> z, one = torch.tensor([-math.pi / 2, 0.0]), torch.tensor(1.0)
        >>> ils.velocity.von_mises(z, torch.tensor(0.0), one)
        tensor([0.7938, -0.0000])

    Source: this report; the ratio of Bessel functions as in Mardia and Jupp (2000).
    """
    kappa = concentration.double()
    # The difference of terms near 1 loses 2 log10(kappa) digits; the series has an error of
    # kappa^-4, and is the better of the two from here on.
    large = kappa > 1e3
    near = kappa.where(~large, 1.0).clamp(min=1e-8)
    ratio = torch.special.i1e(near) / torch.special.i0e(near)
    slope = near * (1 - ratio / near - ratio**2) / ratio
    inverse = 1 / kappa.where(large, 1e3)
    series = inverse / 2 + inverse**2 / 2 + 11 * inverse**3 / 16
    scale = torch.where(large, series, slope).to(z.dtype)
    return -scale * torch.sin(z - loc)
