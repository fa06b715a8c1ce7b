r"""Continuous draws: normal, gamma, beta, Dirichlet and von Mises.

Where the parent of a class has an unbiased ``rsample`` (all but the von Mises), that one is the
better choice for training; these are here so that one rule can be had, and judged, throughout.
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
from ils.checks import check_floating
from ils.distributions.draws import Reparameterized, carried, standard_dirichlet, standard_gamma
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
        for name in self._floating:
            check_floating(name, getattr(self, name))
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            kind, device = self.loc.dtype, self.loc.device
            noise = torch.randn(shape, dtype=kind, device=device, generator=generator)
        # An ordinary function of the parameters, which can be differentiated again.
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

    ``rsample`` hands on the gradient of :func:`ils.velocity.gamma`: *unbiased* for the rate, and
    *biased* for the concentration, but for losses quadratic in the draw.  The parent's implicit
    gradient is unbiased for both.

    Args:
        concentration: shape, ``(...)``.
        rate: inverse scale, ``(...)``, in one over the units of a draw.
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
        unit = standard_gamma(self.concentration.expand(shape), generator)
        return (unit / self.rate).clamp(min=torch.finfo(unit.dtype).tiny)

    def _carry(self, z: Tensor) -> Tensor:
        with torch.no_grad():
            by_concentration, by_rate = velocity.gamma(z, self.concentration, self.rate)
        return carried(z, (by_concentration, self.concentration), (by_rate, self.rate))


class Beta(Reparameterized, _Beta):
    r"""``torch.distributions.Beta`` with the reparameterisation of the intermediate loss.

    ``rsample`` hands on the gradient of :func:`ils.velocity.beta`, *biased*, but for losses
    quadratic in the draw.  The parent's implicit gradient is unbiased.

    Args:
        concentration1: ``a``, ``(...)``, the power of ``z``, plus one.
        concentration0: ``b``, ``(...)``, the power of ``1 - z``, plus one.
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

    def _draw(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        both = self._dirichlet.concentration
        return standard_dirichlet(both.expand(*shape, 2), generator).select(-1, 0)

    def _carry(self, z: Tensor) -> Tensor:
        a, b = self.concentration1, self.concentration0
        with torch.no_grad():
            by_a, by_b = velocity.beta(z, a, b)
        return carried(z, (by_a, a), (by_b, b))


class Dirichlet(Reparameterized, _Dirichlet):
    r"""``torch.distributions.Dirichlet`` with the reparameterisation of the intermediate loss.

    ``rsample`` hands on the gradient of :func:`ils.velocity.dirichlet`, *biased*, but for losses
    quadratic in the draw.  The parent's gradient is unbiased.

    Args:
        concentration: ``(..., K)``.
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

    def _draw(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        return standard_dirichlet(self.concentration.expand(shape), generator)

    def _carry(self, z: Tensor) -> Tensor:
        concentration = self.concentration.detach()
        return z + velocity.dirichlet(z, concentration, tangent(self.concentration))


class VonMises(Reparameterized, _VonMises):
    r"""``torch.distributions.VonMises`` with a reparameterised sample, which the parent has not.

    ``rsample`` draws an angle exactly and hands on ``g`` for ``loc``, *unbiased* for losses with
    the period of the circle, and the gradient of :func:`ils.velocity.von_mises` for the
    concentration, *biased*, but for losses quadratic in the sine and cosine of the angle.

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

    def entropy(self) -> Tensor:
        """``log(2 pi I_0(kappa)) - kappa A(kappa)``, in nats, ``(...)``."""
        kappa = self.concentration
        scaled = torch.special.i0e(kappa)
        resultant = torch.special.i1e(kappa) / scaled
        return math.log(2 * math.pi) + scaled.log() + kappa * (1 - resultant)

    def _draw(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        return _best_fisher(self.loc.expand(shape), self.concentration.expand(shape), generator)

    def _carry(self, z: Tensor) -> Tensor:
        with torch.no_grad():
            moved = velocity.von_mises(z, self.loc, self.concentration)
        return carried(z + tangent(self.loc), (moved, self.concentration))


def _best_fisher(loc: Tensor, concentration: Tensor, generator: torch.Generator | None) -> Tensor:
    """Von Mises draws by rejection from a wrapped Cauchy law, between -pi and pi."""
    kappa = concentration.double()
    # In single precision the envelope never accepts at small concentrations.
    root = 1 + (1 + 4 * kappa**2).sqrt()
    rho = (root - (2 * root).sqrt()) / (2 * kappa)
    envelope = torch.where(kappa < 1e-5, 1 / kappa + kappa, (1 + rho**2) / (2 * rho))
    # Beyond this the law is normal to more digits than there are, and the envelope loses its own.
    sharp = torch.randn(kappa.shape, dtype=kappa.dtype, device=kappa.device, generator=generator)
    angle = sharp * kappa.rsqrt()
    waiting = kappa < 1e8
    while bool(waiting.any()):
        turn, height, side = torch.rand(
            3, *kappa.shape, dtype=kappa.dtype, device=kappa.device, generator=generator
        )
        cosine = torch.cos(math.pi * turn)
        proposed = ((1 + envelope * cosine) / (envelope + cosine)).clamp(-1, 1)
        excess = kappa * (envelope - proposed)
        accepted = waiting & ((excess / height).log() + 1 - excess >= 0)
        angle = torch.where(accepted, (side - 0.5).sign() * proposed.acos(), angle)
        waiting = waiting & ~accepted
    turned = (angle + math.pi + loc.double()) % (2 * math.pi) - math.pi
    return turned.to(loc.dtype)


@register_kl(VonMises, VonMises)
@register_kl(VonMises, _VonMises)
@register_kl(_VonMises, VonMises)
def _von_mises(p: _VonMises, q: _VonMises) -> Tensor:
    """``kappa_p A_p - kappa_q A_p cos(mu_p - mu_q) - log I_0(kappa_p) + log I_0(kappa_q)``."""
    at_p, at_q = torch.special.i0e(p.concentration), torch.special.i0e(q.concentration)
    resultant = torch.special.i1e(p.concentration) / at_p
    # i0e is exp(-kappa) I_0: what it leaves out is added in a form that does not cancel.
    turned = q.concentration * (1 - resultant * torch.cos(p.loc - q.loc))
    return turned - p.concentration * (1 - resultant) + at_q.log() - at_p.log()
