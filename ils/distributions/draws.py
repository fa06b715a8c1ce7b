"""Shared by the distributions: base classes, samplers, and probabilities without clamping."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from ils.checks import check_floating, check_generator
from ils.execution import eager
from ils.tangent import tangent

__all__ = [
    "OfProbabilities",
    "Reparameterized",
    "binomial",
    "carried",
    "check_parameters",
    "given",
    "keep_given",
    "log_law",
    "log_chances",
    "poisson",
    "probabilities",
    "standard_dirichlet",
    "standard_gamma",
    "times",
    "wide",
]

# For PyTorch's private gamma and Dirichlet samplers: only they take a generator.
_native: Any = torch
_HALF = (torch.float16, torch.bfloat16)


class Reparameterized(Distribution):
    """A distribution whose draws come from a generator and carry a gradient.

    A subclass defines the sampler, ``_draw``, and the velocity of a draw for the parameters,
    ``_carry``; this class makes ``rsample`` and ``sample`` of them.
    """

    has_rsample: Any = True
    _floating: tuple[str, ...] = ()

    def _draw(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        """Exact draws of this shape, without a gradient; float32 or wider for half types."""
        raise NotImplementedError

    def _carry(self, z: Tensor) -> Tensor:
        """The draw ``z`` with its derivative for the parameters attached."""
        raise NotImplementedError

    def rsample(
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """Exact draws ``(*sample_shape, *batch_shape, *event_shape)`` that carry a gradient.

        Args:
            sample_shape: shape of the independent draws.
            generator: source of the draws; the default is PyTorch's own.
        """
        # detach() also drops forward-mode tangents, which no_grad keeps.
        z = self.sample(sample_shape, generator).detach()
        return self._carry(z) if torch.is_grad_enabled() else z

    def sample(
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """The same draws without a gradient."""
        check_generator(generator)
        kinds: list[torch.dtype] = []
        for name in self._floating:
            # Of probs and logits only the one that was given is checked; the other is computed.
            if name not in ("probs", "logits") or name in self.__dict__:
                check_floating(name, getattr(self, name))
                kinds.append(getattr(self, name).dtype)
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            z = self._draw(shape, generator)
            return z.to(kinds[0]) if all(kind in _HALF for kind in kinds) else z


class OfProbabilities(Reparameterized):
    """Base of families with ``probs`` or ``logits``; ``expand`` keeps the one that was given."""

    _floating = ("probs", "logits")

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """As the parent's, which mistakes computed (clamped) logits for given ones."""
        return keep_given(super().expand(torch.Size(batch_shape), _instance), self)


def carried(z: Tensor, *moves: tuple[Tensor, Tensor]) -> Tensor:
    """``z`` with a velocity for each parameter; infinite ones become the largest finite number."""
    for velocity, parameter in moves:
        velocity = velocity.to(z.dtype)
        # Zero times infinity would make the draw itself NaN.
        z = z + velocity.nan_to_num() * tangent(parameter)
    return z


def check_parameters(probs: Tensor | None, logits: Tensor | None) -> None:
    """Raise if ``probs`` or ``logits`` is given and not floating point."""
    for name, value in (("probs", probs), ("logits", logits)):
        if value is not None:
            check_floating(name, value)


def given(distribution: Any) -> tuple[Tensor, bool]:
    """The parameter that was given, and whether it is ``logits`` and not ``probs``."""
    names = [name for name in distribution.__dict__ if name in ("probs", "logits")]
    # The other one is a lazy property: it is set after this one, or not at all.
    param = getattr(distribution, "_param", distribution.__dict__[names[0]])
    return param, param is distribution.__dict__.get("logits")


def keep_given(new: Any, old: Any) -> Any:
    """``new``, the expansion of ``old``, with the given parameter only, and not the computed one.

    The parents of the discrete families mistake computed (clamped) logits for given ones.
    """
    name, other = ("logits", "probs") if given(old)[1] else ("probs", "logits")
    new.__dict__.pop(other, None)
    if "_param" in new.__dict__:
        new._param = new.__dict__[name]
    return new


def wide(value: Tensor) -> Tensor:
    """The same in float32, if it is of a half type."""
    return value.float() if value.dtype in _HALF else value


def probabilities(distribution: Any) -> Tensor:
    """Probabilities of a success, of the half types in float32."""
    param, logits = given(distribution)
    return wide(param).sigmoid() if logits else wide(param)


def log_chances(distribution: Any) -> tuple[Tensor, Tensor]:
    """Logarithms of the probabilities of a success and of a failure, ``-inf`` for one of zero.

    PyTorch's are those of clamped probabilities.  For half types they are in float32.
    """
    param, logits = given(distribution)
    param = wide(param)
    if logits:
        return torch.nn.functional.logsigmoid(param), torch.nn.functional.logsigmoid(-param)
    # Where the logarithm is infinite its derivative is zero, as where PyTorch clamps.
    never, ever = param == 0, param == 1
    up = param.masked_fill(never, 1).log().masked_fill(never, -torch.inf)
    return up, (-param.masked_fill(ever, 0)).log1p().masked_fill(ever, -torch.inf)


def times(count: Tensor, log: Tensor) -> Tensor:
    """``count * log``, of which zero times ``-inf`` is zero."""
    never = log.isneginf()
    log_power = count * log.masked_fill(never, 0)
    return log_power.masked_fill(never & (count > 0), -torch.inf)


def log_law(categorical: Any) -> Tensor:
    """Log-probabilities of the categories, of probabilities ``-inf`` where they are zero.

    PyTorch clamps probabilities to eps before it takes the logarithm.  For half types the result is
    in float32, in which the logarithms keep the digits of the probabilities.
    """
    param, logits = given(categorical)
    if logits:
        probs = categorical.__dict__.get("probs")
        if probs is None:
            return param
        # The parent's expand mistakes logits that it clamped at eps for given ones.  Given logits
        # whose probability underflows are far below that.
        clamped = param > math.log(torch.finfo(param.dtype).eps) - 1
        return param.masked_fill((probs == 0) & clamped, -torch.inf)
    param = wide(param)
    never = param == 0
    return param.masked_fill(never, 1).log().masked_fill(never, -torch.inf)


def poisson(rate: Tensor, generator: torch.Generator | None) -> Tensor:
    """Poisson draws, of the shape of the rate.

    PyTorch's rejection sampler loses precision from rates of ``1e13`` on, and counts in 64 bits.
    Beyond ``2^40`` the draw has the deviation of one at ``2^40``, in units of its standard
    deviation: the distribution is normal there, apart from a skewness of ``1e-6``.
    """
    most = 2.0**40
    within = rate.clamp(max=most)
    count = torch.poisson(within, generator)
    moved = (count - within) * (rate / within).sqrt()
    far = torch.where(rate.isinf(), rate, (rate + moved).round())
    return torch.where(rate > most, far, count)


def binomial(count: Tensor, probs: Tensor, generator: torch.Generator | None) -> Tensor:
    """Binomial draws, of the shape of the count.

    PyTorch's rejection sampler loses precision beyond ``1e14`` trials.  Beyond ``2^46`` trials
    the rarer outcome has the deviation of a Poisson draw, times the root of the probability of the
    other outcome: mean and variance are exact, the distribution is to within ``1e-6``.
    """
    many = count > 2.0**46
    within = torch.binomial(count.masked_fill(many, 0), probs, generator=generator)
    rare = torch.minimum(probs, 1 - probs)
    mean = (count * rare).masked_fill(~many, 0)
    moved = (poisson(mean, generator) - mean) * (1 - rare).sqrt()
    count_moved = (mean + moved).round().clamp(min=0)
    return torch.where(many, torch.where(probs > 0.5, count - count_moved, count_moved), within)


def standard_gamma(concentration: Tensor, generator: torch.Generator | None) -> Tensor:
    """Gamma draws of rate 1, of the shape of the concentration."""
    return _native._standard_gamma(concentration.detach(), generator=generator)


def standard_dirichlet(concentration: Tensor, generator: torch.Generator | None) -> Tensor:
    """Dirichlet draws, of the shape of the concentration.

    PyTorch divides gamma draws by their sum.  Where all concentrations are small, all of the gamma
    draws can underflow, and it returns equal shares; there their logarithms are drawn instead.
    """
    concentration = concentration.detach()
    z = _native._sample_dirichlet(concentration, generator=generator)
    small = concentration.amax(-1, keepdim=True) < 0.1
    if eager() and concentration.device.type == "cpu" and not bool(small.any()):
        return z
    shape, kind = concentration.shape, torch.float64
    u = torch.rand(shape, dtype=kind, device=z.device, generator=generator)
    # log(1 - u): a gamma draw is one of a concentration larger by one, times u^(1 / concentration).
    power = (-u).log1p() / concentration.double()
    logs = standard_gamma(concentration.double() + 1, generator).log() + power
    logs = logs.clamp(min=torch.finfo(kind).min)
    ends = torch.finfo(z.dtype)
    shares = logs.softmax(-1).to(z.dtype).clamp(ends.tiny, 1 - ends.eps / 2)
    return torch.where(small, shares, z)
