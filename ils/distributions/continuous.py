r"""Continuous draws: normal, gamma, beta, Dirichlet and von Mises.

Where the parent of a class has an unbiased ``rsample`` (all but the von Mises), that one is the
better choice for training; these exist so that one rule can be assessed on every distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Beta as _Beta
from torch.distributions import Dirichlet as _Dirichlet
from torch.distributions import Gamma as _Gamma
from torch.distributions import Normal as _Normal
from torch.distributions import VonMises as _VonMises
from torch.distributions import register_kl

from ils import velocity
from ils.checks import check_floating, check_generator
from ils.distributions.draws import (
    Reparameterized,
    carried,
    standard_dirichlet,
    standard_gamma,
    wide,
)
from ils.tangent import tangent

__all__ = ["Beta", "Dirichlet", "Gamma", "Normal", "VonMises"]


class Normal(Reparameterized, _Normal):
    r"""``torch.distributions.Normal``, with a generator: here the rule *is* the pathwise gradient.

    The limit of the intermediate loss, in units of the gradient, is ``g`` for the mean and
    ``(z - mu) / sigma * g`` for the scale: *unbiased*, and what the parent has.

    Args:
        loc: mean, ``(...)``.
        scale: standard deviation, ``(...)``, in the units of the mean.
        validate_args: as in ``torch.distributions``.

    Raises:
        TypeError, ValueError: as the parent; parameters that are not floating point, when drawn.

    Example:
        >>> import torch
        >>> from ils.distributions import Normal
        >>> Normal(torch.zeros(2, requires_grad=True), torch.ones(2)).rsample((5,)).shape
        torch.Size([5, 2])

    Source: this report; the pathwise gradient as in Kingma and Welling (2014).
    """

    _floating = ("loc", "scale")

    def rsample(
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws ``(*sample_shape, *batch_shape)`` that carry the pathwise gradient.

        Args:
            sample_shape: shape of the independent draws.
            generator: source of the draws; the default is PyTorch's own.
        """
        check_generator(generator)
        for name in self._floating:
            check_floating(name, getattr(self, name))
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            kind, device = self.loc.dtype, self.loc.device
            noise = torch.randn(shape, dtype=kind, device=device, generator=generator)
        # An ordinary function of the parameters, so that second derivatives exist.
        return self.loc + self.scale * noise

    def sample(
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """The same draws without a gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator)

    def _carry(self, z: Tensor) -> Tensor:
        with torch.no_grad():
            noise = (z - self.loc) / self.scale
        return carried(z + tangent(self.loc), (noise, self.scale))


class Gamma(Reparameterized, _Gamma):
    r"""``torch.distributions.Gamma`` with the reparameterisation of the intermediate loss.

    ``rsample`` has the gradient of :func:`ils.velocity.gamma`,

    .. math::

        \frac{\partial L}{\partial a} \leftarrow \frac{z}{2a}
        \Bigl[ 3 - \frac{b z}{a + 1} \Bigr] g , \qquad
        \frac{\partial L}{\partial b} \leftarrow -\frac{z}{b}\, g ,

    *unbiased* for the rate, and *biased* for the concentration, except for losses quadratic in the
    draw.  The parent's implicit gradient is unbiased for both.

    Args:
        concentration: ``a``, the shape, ``(...)``.
        rate: ``b``, the inverse scale, ``(...)``, in one over the units of a draw; if it is so
            small (for instance subnormal) that a draw overflows, the draw is infinite.
        validate_args: as in ``torch.distributions``.

    Raises:
        TypeError, ValueError: as the parent; parameters that are not floating point, when drawn.

    Example:
        >>> import torch
        >>> from ils.distributions import Gamma
        >>> Gamma(torch.ones(2, requires_grad=True), torch.ones(2)).rsample((5,)).shape
        torch.Size([5, 2])

    Source: this report.
    """

    _floating = ("concentration", "rate")

    def _draw(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        unit = standard_gamma(wide(self.concentration).expand(shape), generator)
        z = unit / wide(self.rate)
        least = torch.finfo(z.dtype).tiny
        if self.concentration.dtype == self.rate.dtype == torch.float16:
            least = 2.0**-24  # the smallest subnormal: much of the mass can lie below tiny
        return z.clamp(min=least)

    def _carry(self, z: Tensor) -> Tensor:
        with torch.no_grad():
            by_concentration, by_rate = velocity.gamma(
                wide(z), wide(self.concentration), wide(self.rate)
            )
        return carried(z, (by_concentration, self.concentration), (by_rate, self.rate))


class Beta(Reparameterized, _Beta):
    r"""``torch.distributions.Beta`` with the reparameterisation of the intermediate loss.

    ``rsample`` has the gradient of :func:`ils.velocity.beta`,

    .. math::

        \frac{\partial L}{\partial a} \leftarrow z (1 - z) \, \frac{t + 2}{2 a (t + 1)}
        \Bigl[ \frac{3 t + 1}{t} - \frac{t + 3}{a + 1}\, z \Bigr] g , \qquad t = a + b ,

    and for ``b`` likewise in ``1 - z``, with the opposite sign: *biased*, except for losses
    quadratic in the draw.  The parent's implicit gradient is unbiased.

    Args:
        concentration1: ``a``, ``(...)``: the density has the factor ``z^(a - 1)``.
        concentration0: ``b``, ``(...)``: the density has the factor ``(1 - z)^(b - 1)``.
        validate_args: as in ``torch.distributions``.

    Raises:
        TypeError, ValueError: as the parent; parameters that are not floating point, when drawn.

    Example:
        >>> import torch
        >>> from ils.distributions import Beta
        >>> Beta(torch.ones(2, requires_grad=True), torch.ones(2)).rsample((5,)).shape
        torch.Size([5, 2])

    Source: this report.
    """

    _floating = ("concentration1", "concentration0")

    @property
    def variance(self) -> Tensor:
        """``m (1 - m) / (a + b + 1)`` for the mean ``m``, ``(...)``, without overflow."""
        return _spread_of_shares(self._dirichlet.concentration)[..., 0]

    def _draw(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        both = wide(self._dirichlet.concentration)
        return standard_dirichlet(both.expand(*shape, 2), generator).select(-1, 0)

    def _carry(self, z: Tensor) -> Tensor:
        a, b = self.concentration1, self.concentration0
        with torch.no_grad():
            by_a, by_b = velocity.beta(wide(z), wide(a), wide(b))
        return carried(z, (by_a, a), (by_b, b))


class Dirichlet(Reparameterized, _Dirichlet):
    r"""``torch.distributions.Dirichlet`` with the reparameterisation of the intermediate loss.

    ``rsample`` has the gradient of :func:`ils.velocity.dirichlet`,

    .. math::

        & \frac{\partial L}{\partial \alpha_k} \leftarrow
        f_k z_k \langle g, e_k - z \rangle , \\
        & f_k = \frac{t + 2}{2 \alpha_k (t + 1)}
        \Bigl[ \frac{3 t + 1}{t} - \frac{t + 3}{\alpha_k + 1}\, z_k \Bigr], \quad
        t = \textstyle\sum_k \alpha_k ,

    *biased*, except for losses quadratic in the draw.  The parent's gradient is unbiased.

    Args:
        concentration: ``alpha``, ``(..., K)``.
        validate_args: as in ``torch.distributions``.

    Raises:
        TypeError, ValueError: as the parent; parameters that are not floating point, when drawn.

    Example:
        >>> import torch
        >>> from ils.distributions import Dirichlet
        >>> Dirichlet(torch.ones(2, 3, requires_grad=True)).rsample((5,)).shape
        torch.Size([5, 2, 3])

    Source: this report.
    """

    _floating = ("concentration",)

    @property
    def variance(self) -> Tensor:
        """``m (1 - m) / (t + 1)``, with the mean ``m`` and the sum ``t``, ``(..., K)``."""
        return _spread_of_shares(self.concentration)

    def _draw(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        return standard_dirichlet(wide(self.concentration).expand(shape), generator)

    def _carry(self, z: Tensor) -> Tensor:
        concentration, change = self.concentration.detach(), tangent(self.concentration)
        return z + velocity.dirichlet(wide(z), wide(concentration), wide(change)).to(z.dtype)


def _spread_of_shares(concentration: Tensor) -> Tensor:
    """Variances of a Dirichlet's entries; the parents' powers of the sum overflow or underflow."""
    alpha = wide(concentration)
    total = alpha.sum(-1, keepdim=True)
    spread = (alpha / total) * ((total - alpha) / total) / (total + 1)
    return spread.to(concentration.dtype)


class VonMises(Reparameterized, _VonMises):
    r"""``torch.distributions.VonMises`` with a reparameterised sample, which the parent lacks.

    ``rsample`` draws an angle exactly.  Its gradient is ``g`` for ``loc``, *unbiased* for losses
    with the period of the circle, and ``-[c_1 sin(z - loc) + 2 c_2 sin(2 (z - loc))] g`` for the
    concentration, with ``c_1`` and ``c_2`` as in :func:`ils.velocity.von_mises`: *biased*, except
    for losses quadratic in the sine and cosine of the angle.

    Density, entropy, divergence and variance are computed in float64 and in forms that do not
    cancel, where the parent's fail for large concentrations: entropy and divergence are off by
    some 1e-14, times ``1 + kappa_q / kappa_p``, before they are rounded to the type.

    Args:
        loc: an angle in radians, ``(...)``.
        concentration: ``kappa``, ``(...)``.
        validate_args: as in ``torch.distributions``.

    Raises:
        TypeError, ValueError: as the parent; parameters that are not floating point, when drawn.

    Example:
        >>> import torch
        >>> from ils.distributions import VonMises
        >>> VonMises(torch.zeros(2, requires_grad=True), torch.ones(2)).rsample((5,)).shape
        torch.Size([5, 2])

    Source: this report; the draw by Best and Fisher (1979).
    """

    _floating = ("loc", "concentration")

    def log_prob(self, value: Tensor) -> Tensor:
        """``-2 kappa sin^2((x - mu) / 2) - log(2 pi exp(-kappa) I_0(kappa))``, in nats, ``(...)``.

        The parent's is the difference of two numbers of the size of ``kappa``.
        """
        if self._validate_args:
            self._validate_sample(value)
        half = (value - self.loc).double() / 2
        normalizer = math.log(2 * math.pi) + _log_scaled(self.concentration)
        log_prob = -2 * self.concentration.double() * half.sin().square() - normalizer
        return log_prob.to(torch.result_type(value, self.loc))

    def entropy(self) -> Tensor:
        """``log(2 pi I_0(kappa)) - kappa A(kappa)``, in nats, ``(...)``."""
        kappa = self.concentration
        entropy = math.log(2 * math.pi) + _log_scaled(kappa) + _spread(kappa)
        return entropy.to(kappa.dtype)

    @property
    def variance(self) -> Tensor:  # type: ignore[override]
        """The circular variance, ``1 - A(kappa)``, ``(...)``."""
        kappa = self.concentration
        return (_spread(kappa) / kappa.double()).to(kappa.dtype)

    def _draw(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        return _best_fisher(self.loc.expand(shape), self.concentration.expand(shape), generator)

    def _carry(self, z: Tensor) -> Tensor:
        with torch.no_grad():
            moved = velocity.von_mises(wide(z), wide(self.loc), self.concentration)
        return carried(z + tangent(self.loc), (moved, self.concentration))


def _best_fisher(loc: Tensor, concentration: Tensor, generator: torch.Generator | None) -> Tensor:
    """Von Mises draws by rejection from a wrapped Cauchy law, between -pi and pi."""
    # In single precision the envelope never accepts at small concentrations; below this it is inf.
    kappa = concentration.double().clamp(min=1e-300)
    root = 1 + (1 + 4 * kappa**2).sqrt()
    rho = (root - (2 * root).sqrt()) / (2 * kappa)
    envelope = torch.where(kappa < 1e-5, 1 / kappa + kappa, (1 + rho**2) / (2 * rho))
    # For kappa of 1e8 and more: normal to machine precision, where the envelope loses its digits.
    sharp = torch.randn(kappa.shape, dtype=kappa.dtype, device=kappa.device, generator=generator)
    angle = sharp * kappa.rsqrt()
    angle = _accepted(kappa, envelope, angle, generator)
    turned = (angle + math.pi + loc.double()) % (2 * math.pi) - math.pi
    return turned.to(loc.dtype)


# A trace would fix the number of rounds of its example; a script keeps the loop.
@torch.jit.script_if_tracing
def _accepted(
    kappa: Tensor, envelope: Tensor, angle: Tensor, generator: torch.Generator | None
) -> Tensor:
    """The first accepted proposal for each angle with ``kappa < 1e8``; the others are kept."""
    waiting = kappa < 1e8
    while bool(waiting.any()):
        turn, height, side = torch.rand(
            [3] + list(kappa.shape),  # noqa: RUF005
            dtype=kappa.dtype,
            device=kappa.device,
            generator=generator,
        ).unbind()
        cosine = torch.cos(math.pi * turn)
        proposed = ((1 + envelope * cosine) / (envelope + cosine)).clamp(-1, 1)
        excess = kappa * (envelope - proposed)
        accepted = waiting & ((excess / height).log() + 1 - excess >= 0)
        angle = torch.where(accepted, (side - 0.5).sign() * proposed.acos(), angle)
        waiting = waiting & ~accepted
    return angle


# Asymptotically, log(sqrt(2 pi x) exp(-x) I_0(x)) = sum_n c_n / x^n, n = 1, 2, ...
_LOG_I0 = (
    1 / 8,
    1 / 16,
    25 / 384,
    13 / 128,
    1073 / 5120,
    103 / 192,
    375733 / 229376,
    23797 / 4096,
    55384775 / 2359296,
    2180461 / 20480,
)
# Above this the error of the ten terms is 2e-17, and 2e-16 in the spread.
_LARGE = 60.0


def _log_scaled(concentration: Tensor) -> Tensor:
    """``log(exp(-kappa) I_0(kappa))``, in float64, to some 1e-15."""
    kappa = concentration.double()
    large = kappa > _LARGE
    near, far = kappa.where(~large, 1.0), kappa.where(large, _LARGE)
    series = velocity.polynomial(1 / far, _LOG_I0) - (2 * math.pi * far).log() / 2
    return torch.where(large, series, torch.special.i0e(near).log())


def _spread(concentration: Tensor) -> Tensor:
    """``kappa (1 - I_1(kappa) / I_0(kappa))``, which tends to 1/2, in float64, to some 1e-14."""
    kappa = concentration.double()
    large = kappa > _LARGE
    near, far = kappa.where(~large, 1.0), kappa.where(large, _LARGE)
    series = 0.5 + velocity.polynomial(1 / far, [n * c for n, c in enumerate(_LOG_I0, 1)])
    resultant = torch.special.i1e(near) / torch.special.i0e(near)
    return torch.where(large, series, near * (1 - resultant))


@register_kl(VonMises, VonMises)
@register_kl(VonMises, _VonMises)
@register_kl(_VonMises, VonMises)
def _von_mises(p: _VonMises, q: _VonMises) -> Tensor:
    """``kappa_p A_p - kappa_q A_p cos(mu_p - mu_q) - log I_0(kappa_p) + log I_0(kappa_q)``."""
    p_kappa, q_kappa = p.concentration.double(), q.concentration.double()
    lost = _spread(p_kappa) / p_kappa
    # 1 - A cos(d) is 1 - A and A (1 - cos(d)), and exp(-kappa) is left out of I_0: none cancels.
    turned = 2 * q_kappa * (1 - lost) * ((p.loc - q.loc).double() / 2).sin().square()
    wider = (q_kappa - p_kappa) * lost + _log_scaled(q_kappa) - _log_scaled(p_kappa)
    return (turned + wider).to(torch.result_type(p.concentration, q.concentration))
