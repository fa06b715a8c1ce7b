r"""Velocities ``dz / d theta``: how a draw moves with the parameters of its distribution.

A draw with the velocity ``v(z)`` has the gradient estimate ``v(z) g`` for ``theta``, where ``g`` is
the gradient of the loss at the draw.  The velocities here are what the intermediate loss
``-log p(z - alpha M g; theta)`` gives as ``alpha`` goes to zero, centred, in units of a gradient.
The metric ``M`` is half the mean square of the jumps, or the diffusion, of a process that leaves
``p`` invariant and reverts to its mean at unit rate:

- *counts*, where it steps up and down: the estimate is exact for losses quadratic in the draw, and
  its bias is at most a twelfth of the third derivative, times the derivative of the mean (except
  for the number of failures of a negative binomial, which has no such bound);
- *normal, gamma, beta, Dirichlet*, where it diffuses: the intermediate loss is that of the family
  with the statistics ``z`` and ``z^2`` added, and again exact for quadratic losses;
- *von Mises*: the same on the circle, with two harmonics.

No randomness.  All is elementwise with broadcasting, except for the Dirichlet.  Half types are
computed in float32.  As gradient estimates all are *biased*, unless stated otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar

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

_Formula = TypeVar("_Formula", bound=Callable[..., Any])
_HALF = (torch.float16, torch.bfloat16)


def _halves_in_float32(formula: _Formula) -> _Formula:
    """The formula in float32 for half types, where sums and products of parameters overflow."""

    @wraps(formula)
    def wide(*tensors: Tensor, **options: Any) -> Any:
        # Numbers without an axis do not widen what has one; a compiler cannot ask result_type.
        kinds = [x.dtype for x in tensors if x.dim()] or [x.dtype for x in tensors]
        kind = kinds[0]
        for other in kinds[1:]:
            kind = torch.promote_types(kind, other)
        if kind not in _HALF:
            return formula(*tensors, **options)
        values = formula(*(x.float() for x in tensors), **options)
        return tuple(x.to(kind) for x in values) if isinstance(values, tuple) else values.to(kind)

    return wide  # pyright: ignore[reportReturnType]


def _over(value: Tensor, probability: Tensor) -> Tensor:
    """``value / probability``, and zero where the value is zero, even if the probability is too."""
    return torch.where(value == 0, 0, value / probability.where(value != 0, 1))


@_halves_in_float32
def poisson(z: Tensor, rate: Tensor) -> Tensor:
    r"""``dz / d rate = (1 + z / rate) / 2`` of a Poisson draw.

    Args:
        z: draws ``(...)``, counts.
        rate: the mean, at least 0, broadcasting to ``(...)``.

    Returns:
        ``(...)``, positive, of mean 1 for ``rate > 0``.  Biased, except for quadratic losses.

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


@_halves_in_float32
def binomial(z: Tensor, total_count: Tensor, probs: Tensor, *, logits: bool) -> Tensor:
    r"""``dz / d logits = (p (n - z) + (1 - p) z) / 2`` of a binomial draw, or ``dz / dp``.

    Args:
        z: draws ``(...)``, counts from 0 to ``n``.
        total_count: ``n``, broadcasting to ``(...)``; 1 for a Bernoulli draw.
        probs: ``p``, from 0 to 1, likewise.
        logits: whether the parameter is ``log(p / (1 - p))``, or ``p``.

    Returns:
        ``(...)``, never negative, of mean ``n p (1 - p)`` for the logits and ``n`` for ``p``.
        Biased, except for quadratic losses.

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


@_halves_in_float32
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
        Biased, except for quadratic losses.

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


@_halves_in_float32
def geometric(z: Tensor, probs: Tensor, *, logits: bool) -> Tensor:
    r"""``dz / d logits = -((1 - q)(z + 1) + z) / 2`` of a geometric draw, or ``dz / dq``.

    Args:
        z: draws ``(...)``, failures before the first success.
        probs: ``q``, the probability of a success, above 0, broadcasting to ``(...)``.
        logits: whether the parameter is ``log(q / (1 - q))``, or ``q``.

    Returns:
        ``(...)``, never positive, of mean ``-(1 - q) / q`` for the logits, ``-1 / q^2`` for ``q``.
        Biased, except for quadratic losses.

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


@_halves_in_float32
def gamma(z: Tensor, concentration: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    r"""``dz / da`` and ``dz / db`` of a gamma draw with concentration ``a`` and rate ``b``.

    .. math::

        \frac{dz}{da} = \frac{z}{2a} \Bigl[ 3 - \frac{b z}{a + 1} \Bigr], \qquad
        \frac{dz}{db} = -\frac{z}{b} .

    Args:
        z: draws ``(...)``, positive.
        concentration: ``a``, positive, broadcasting to ``(...)``.
        rate: ``b``, positive, in one over the units of ``z``, likewise.

    Returns:
        Two tensors ``(...)``.  For ``a`` the estimate is biased, except for quadratic losses; for
        ``b`` it is the pathwise gradient, and unbiased.

    Raises:
        RuntimeError: the shapes do not broadcast.

    Example:
        >>> import torch, ils
        >>> z, one = torch.tensor([1.0, 2.0]), torch.tensor(1.0)
        >>> ils.velocity.gamma(z, one, one)
        (tensor([1.2500, 2.0000]), tensor([-1., -2.]))

    Source: this report.
    """
    return z * (3 - rate * z / (concentration + 1)) / (2 * concentration), -z / rate


@_halves_in_float32
def beta(z: Tensor, concentration1: Tensor, concentration0: Tensor) -> tuple[Tensor, Tensor]:
    r"""``dz / da`` and ``dz / db`` of a beta draw.

    .. math::

        \frac{dz}{da} = z (1 - z) \, \frac{t + 2}{2 a (t + 1)}
        \Bigl[ \frac{3 t + 1}{t} - \frac{t + 3}{a + 1}\, z \Bigr], \qquad t = a + b ,

    and ``dz / db`` likewise for ``1 - z``, with the opposite sign.

    Args:
        z: draws ``(...)``, between 0 and 1.
        concentration1: ``a``, positive, broadcasting to ``(...)``.
        concentration0: ``b``, positive, likewise.

    Returns:
        Two tensors ``(...)``.  Biased, except for quadratic losses.

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
    total = concentration1 + concentration0
    spread = z * (1 - z)
    # The velocity of a draw at 0 or 1 is zero, also where the factor overflows.
    first = _towards(z, concentration1, total).masked_fill(spread == 0, 0)
    second = _towards(1 - z, concentration0, total).masked_fill(spread == 0, 0)
    return spread * first, -spread * second


def _towards(z: Tensor, concentration: Tensor, total: Tensor) -> Tensor:
    """The affine factor of a beta draw's velocity, for one of two or more entries."""
    scale = (total + 2) / (2 * concentration * (total + 1))
    return scale * ((3 * total + 1) / total - (total + 3) / (concentration + 1) * z)


@_halves_in_float32
def dirichlet(z: Tensor, concentration: Tensor, change: Tensor) -> Tensor:
    r"""``(dz / d alpha) change``: how a Dirichlet draw moves with a change of the concentration.

    .. math::

        & \sum_k c_k\, f_k z_k (e_k - z), \\
        & f_k = \frac{t + 2}{2 \alpha_k (t + 1)}
        \Bigl[ \frac{3 t + 1}{t} - \frac{t + 3}{\alpha_k + 1}\, z_k \Bigr], \quad
        t = \textstyle\sum_k \alpha_k ,

    for the change ``c``: entry ``k`` moves as the beta draw that it is, the others make room in
    proportion.

    Args:
        z: draws ``(..., K)``, on the simplex.
        concentration: ``alpha``, positive, broadcasting to ``(..., K)``.
        change: ``c``, likewise.

    Returns:
        ``(..., K)``, of sum zero.  As an estimate biased, except for quadratic losses.

    Raises:
        RuntimeError: the shapes do not broadcast.

    Example:
        >>> import torch, ils
        >>> z, ones = torch.tensor([0.2, 0.3, 0.5]), torch.ones(3)
        >>> moved = ils.velocity.dirichlet(z, ones, torch.tensor([1.0, 0.0, 0.0]))
        >>> bool(moved.sum().abs() < 1e-6)
        True

    Source: this report; that the others make room in proportion, as in Jankowiak and Obermeyer
    (2018).
    """
    total = concentration.sum(-1, keepdim=True)
    # Zero times a factor that overflows would make the draw itself NaN.
    factor = (_towards(z, concentration, total) * z).nan_to_num()
    pushed = change * factor.masked_fill(z.isnan() | total.isnan(), torch.nan)
    return pushed - z * pushed.sum(-1, keepdim=True)


@_halves_in_float32
def von_mises(z: Tensor, loc: Tensor, concentration: Tensor) -> Tensor:
    r"""``dz / d kappa = -c_1 sin(z - loc) - 2 c_2 sin(2 (z - loc))`` of a von Mises draw.

    .. math::

        \frac1\kappa \begin{pmatrix} A_1 & 4 A_2 \\ 4 A_2 & 16 (A_1 - 3 A_2 / \kappa) \end{pmatrix}
        \begin{pmatrix} c_1 \\ c_2 \end{pmatrix}
        = \begin{pmatrix} A_1' \\ A_2' \end{pmatrix}, \qquad A_n = I_n(\kappa) / I_0(\kappa) .

    For ``loc`` the velocity is 1: the draw is ``loc`` plus an angle that does not depend on it.

    Args:
        z: draws ``(...)``, angles in radians.
        loc: likewise, broadcasting to ``(...)``.
        concentration: ``kappa``, positive, likewise.

    Returns:
        ``(...)``.  Biased, except for losses quadratic in the sine and cosine of ``z``.

    Raises:
        RuntimeError: the shapes do not broadcast.

    Example:
        >>> import math, torch, ils
        >>> z, one = torch.tensor([-math.pi / 2, 0.0]), torch.tensor(1.0)
        >>> ils.velocity.von_mises(z, torch.tensor(0.0), one)
        tensor([0.8887, -0.0000])

    Source: this report; the moments as in Mardia and Jupp (2000).
    """
    kappa = concentration.double()
    # Relative errors: eps * kappa^4 by rounding in the solution, 50 / kappa^6 in the series.
    large = kappa > 60
    first, second = _harmonics(kappa.where(~large, 1.0))
    inverse = 1 / kappa.where(large, 60.0)
    one = polynomial(inverse, (0.75, 7 / 8, 57 / 32, 157 / 32, 8325 / 512))
    two = polynomial(inverse, (-1 / 16, -3 / 16, -17 / 32, -207 / 128, -1399 / 256))
    angle = (z - loc).double()
    moved = torch.where(large, one, first) * angle.sin()
    moved = moved + 2 * torch.where(large, two, second) * (2 * angle).sin()
    return -moved.to(z.dtype)


def _harmonics(kappa: Tensor) -> tuple[Tensor, Tensor]:
    """The factors of the two harmonics, for concentrations that are not large."""
    small = kappa < 0.1
    near = kappa.where(~small, 0.1)
    a1 = torch.special.i1e(near) / torch.special.i0e(near)
    a2 = 1 - 2 * a1 / near
    a3 = a1 - 4 * a2 / near
    up1, up2 = (1 + a2) / 2 - a1**2, (a1 + a3) / 2 - a2 * a1
    g11, g12, g22 = a1, 4 * a2, 16 * (a1 - 3 * a2 / near)
    scale = near / (g11 * g22 - g12**2)
    first, second = scale * (g22 * up1 - g12 * up2), scale * (g11 * up2 - g12 * up1)
    square = kappa**2
    one = 1 - polynomial(square, (1 / 8, -1 / 64, 7 / 3072))
    two = -kappa / 8 * (1 - polynomial(square, (1 / 4, -3 / 64, 21 / 2560)))
    return torch.where(small, one, first), torch.where(small, two, second)


def polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    """``x (c_0 + c_1 x + ...)``."""
    value = torch.zeros_like(x)
    for coefficient in reversed(coefficients):
        value = (value + coefficient) * x
    return value
