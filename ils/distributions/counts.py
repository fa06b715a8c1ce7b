r"""Distributions of counts: Bernoulli, binomial, Poisson, geometric and negative binomial.

The velocity of each draw is half the mean square of the jumps of a birth-death process that leaves
the distribution invariant (:mod:`ils.velocity`).  It is exact for losses that are quadratic in each
of several independent draws; otherwise the bias is at most a twelfth of the largest third
derivative, times the derivative of the mean.  For the number of failures of the negative binomial
the velocity is another one: exact for quadratic losses, without that bound.

A loss with large curvature at small counts, such as ``log(z + c)`` with a small ``c``, is far from
quadratic.  For ``-log Poisson(3; z + c)`` of a geometric draw of logits 0, summed over all draws:

====  ==========  ========================  ========================================
c     derivative  mean here (deviation)     deviation of the score function, centred
====  ==========  ========================  ========================================
1     0.16        0.21 (0.70)               0.94
0.5   0.58        0.78 (0.85)               0.80
0.1   1.71        4.04 (3.32)               1.59
0.01  3.42        37.9 (36.9)               3.23
====  ==========  ========================  ========================================

The other families behave alike: ten times too large at ``c = 0.01``.  In a loss of several terms
such a term dominates, and training converges to another point: enumerate the counts, or use the
score function.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli as _Bernoulli
from torch.distributions import Binomial as _Binomial
from torch.distributions import Geometric as _Geometric
from torch.distributions import NegativeBinomial as _NegativeBinomial
from torch.distributions import Poisson as _Poisson
from torch.distributions import register_kl

from ils import velocity
from ils.distributions.draws import (
    OfProbabilities,
    Reparameterized,
    binomial,
    carried,
    given,
    log_chances,
    poisson,
    probabilities,
    standard_gamma,
    times,
    wide,
)

__all__ = ["Bernoulli", "Binomial", "Geometric", "NegativeBinomial", "Poisson"]


class Bernoulli(OfProbabilities, _Bernoulli):
    r"""``torch.distributions.Bernoulli`` with a reparameterised sample.

    ``rsample`` draws 0 or 1 exactly and has the *biased* gradient

    .. math::

        \frac{\partial L}{\partial\,\mathrm{logits}} \leftarrow
        \tfrac12 [p (1 - z) + (1 - p) z]\; g ,

    which is that of :func:`ils.sample` with two categories, and exact in expectation for losses
    quadratic in the draw.  Density, entropy and divergence are those of the given probabilities;
    the parent clamps them first.

    Args:
        probs: probability of 1, ``(...)``; either this
        logits: or its log-odds, ``(...)``.
        validate_args: as in ``torch.distributions``.

    Raises:
        TypeError, ValueError: as the parent; parameters that are not floating point, when drawn.

    Example:
        >>> import torch
        >>> from ils.distributions import Bernoulli
        >>> p = torch.tensor([0.25, 0.5], requires_grad=True)
        >>> Bernoulli(p).rsample((5,)).shape
        torch.Size([5, 2])

    Source: Liu et al. (2023), ReinMax, for two categories; StochasticAD (2023).
    """

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of 0 or 1, ``(...)``; ``-inf`` for one that cannot be drawn."""
        if self._validate_args:
            self._validate_sample(value)
        up, down = log_chances(self)
        return (times(value, up) + times(1 - value, down)).to(_kind(self, value))

    def entropy(self) -> Tensor:
        """``-p log p - (1 - p) log(1 - p)``, in nats, ``(...)``."""
        up, down = log_chances(self)
        p, failure = _chances(self)
        return (-times(p, up) - times(failure, down)).to(given(self)[0].dtype)

    def _draw(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        return torch.bernoulli(probabilities(self).expand(shape), generator=generator)

    def _carry(self, z: Tensor) -> Tensor:
        param, logits = given(self)
        with torch.no_grad():
            probs = probabilities(self)
            moved = velocity.binomial(wide(z), torch.ones_like(probs), probs, logits=logits)
        return carried(z, (moved, param))


class Binomial(OfProbabilities, _Binomial):
    r"""``torch.distributions.Binomial`` with a reparameterised sample.

    ``rsample`` draws a count exactly and has the *biased* gradient

    .. math::

        \frac{\partial L}{\partial\,\mathrm{logits}} \leftarrow
        \tfrac12 [p (n - z) + (1 - p) z]\; g ,

    exact in expectation for losses quadratic in the draw; ``total_count`` gets no gradient.
    Density, entropy and divergence are those of the given probabilities; the parent clamps them
    first.

    Args:
        total_count: number ``n`` of trials, ``(...)``, or one for all.
        probs: probability of a success, ``(...)``; either this
        logits: or its log-odds, ``(...)``.
        validate_args: as in ``torch.distributions``.

    Raises:
        TypeError, ValueError: as the parent; parameters that are not floating point, when drawn.

    Example:
        >>> import torch
        >>> from ils.distributions import Binomial
        >>> p = torch.tensor([0.25, 0.5], requires_grad=True)
        >>> Binomial(10, p).rsample((5,)).shape
        torch.Size([5, 2])

    Source: He and Wu (2026), order two; StochasticAD (2023).
    """

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of a count, ``(...)``; ``-inf`` for one that cannot be drawn."""
        if self._validate_args:
            self._validate_sample(value)
        (up, down), z, count = log_chances(self), wide(value), wide(self.total_count)
        ways = (count + 1).lgamma() - (z + 1).lgamma() - (count - z + 1).lgamma()
        return (ways + times(z, up) + times(count - z, down)).to(_kind(self, value))

    def entropy(self) -> Tensor:
        """The sum over the support, in nats, ``(...)``; the parent's, without NaN."""
        log = self.log_prob(self.enumerate_support(False))
        return -times(log.exp(), log).sum(0)

    def _draw(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        count = wide(self.total_count).expand(shape)
        return binomial(count, probabilities(self).expand(shape), generator)

    def _carry(self, z: Tensor) -> Tensor:
        param, logits = given(self)
        with torch.no_grad():
            count, probs = wide(self.total_count), probabilities(self)
            moved = velocity.binomial(wide(z), count, probs, logits=logits)
        return carried(z, (moved, param))


class Poisson(Reparameterized, _Poisson):
    r"""``torch.distributions.Poisson`` with a reparameterised sample.

    ``rsample`` draws a count exactly and has the *biased* gradient

    .. math::

        \frac{\partial L}{\partial\,\mathrm{rate}} \leftarrow
        \tfrac12 \Bigl[1 + \frac{z}{\mathrm{rate}}\Bigr] g ,

    exact in expectation for losses quadratic in the draw.  Everything else is the parent's.

    For a loss with large curvature at small counts, such as ``log(z + 0.1)``, the gradient can be
    several times too large: see the head of ``ils.distributions.counts``.

    Args:
        rate: the mean, ``(...)``.
        validate_args: as in ``torch.distributions``.

    Raises:
        TypeError, ValueError: as the parent; a rate that is not floating point, when drawn.

    Example:
        >>> import torch
        >>> from ils.distributions import Poisson
        >>> rate = torch.tensor([0.5, 20.0], requires_grad=True)
        >>> Poisson(rate).rsample((5,)).shape
        torch.Size([5, 2])

    Source: He and Wu (2026), order two; StochasticAD (2023).
    """

    _floating = ("rate",)

    def _draw(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        return poisson(wide(self.rate).expand(shape), generator)

    def _carry(self, z: Tensor) -> Tensor:
        with torch.no_grad():
            moved = velocity.poisson(wide(z), wide(self.rate))
        return carried(z, (moved, self.rate))


class Geometric(OfProbabilities, _Geometric):
    r"""``torch.distributions.Geometric`` with a reparameterised sample.

    ``rsample`` draws the number of failures before the first success exactly and has the *biased*
    gradient

    .. math::

        \frac{\partial L}{\partial\,\mathrm{logits}} \leftarrow
        -\tfrac12 [(1 - q) (z + 1) + z]\; g ,

    exact in expectation for losses quadratic in the draw.  Density, entropy and divergence are
    those of the given probabilities; the parent clamps them first.

    For a loss with large curvature at small counts, such as ``log(z + 0.1)``, the gradient can be
    several times too large: see the head of ``ils.distributions.counts``.

    Args:
        probs: probability ``q`` of a success, ``(...)``; either this
        logits: or its log-odds, ``(...)``.
        validate_args: as in ``torch.distributions``.

    Raises:
        TypeError, ValueError: as the parent; parameters that are not floating point, when drawn.

    Example:
        >>> import torch
        >>> from ils.distributions import Geometric
        >>> q = torch.tensor([0.25, 0.5], requires_grad=True)
        >>> Geometric(q).rsample((5,)).shape
        torch.Size([5, 2])

    Source: He and Wu (2026), order two; StochasticAD (2023).
    """

    def log_prob(self, value: Tensor) -> Tensor:
        """``log q + z log(1 - q)``, ``(...)``; ``-inf`` for a count that cannot be drawn."""
        if self._validate_args:
            self._validate_sample(value)
        up, down = log_chances(self)
        return (up + times(value, down)).to(_kind(self, value))

    def entropy(self) -> Tensor:
        """``-log q - (1 - q) / q log(1 - q)``, in nats, ``(...)``."""
        up, down = log_chances(self)
        p, failure = _chances(self)
        return (-up - times(failure / p, down)).to(given(self)[0].dtype)

    def _draw(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        param, logits = given(self)
        probs = param.double().sigmoid() if logits else param.double()
        # In single precision the uniform number is too coarse for small probabilities and the tail.
        u = torch.rand(shape, dtype=probs.dtype, device=probs.device, generator=generator)
        u = u.clamp(min=torch.finfo(u.dtype).tiny)
        return (u.log() / (-probs).log1p()).floor().to(wide(param).dtype)

    def _carry(self, z: Tensor) -> Tensor:
        param, logits = given(self)
        with torch.no_grad():
            moved = velocity.geometric(wide(z), probabilities(self), logits=logits)
        return carried(z, (moved, param))


class NegativeBinomial(OfProbabilities, _NegativeBinomial):
    r"""``torch.distributions.NegativeBinomial`` with a reparameterised sample.

    ``rsample`` draws the number of successes before the ``total_count``-th failure exactly and
    has the *biased* gradient of :func:`ils.velocity.negative_binomial`, for the logits

    .. math::

        \frac{\partial L}{\partial\,\mathrm{logits}} \leftarrow \tfrac12 [p (z + r) + z]\; g ,

    exact in expectation for losses quadratic in the draw, as is that for ``total_count``.
    Density, divergence, mean and variance are those of the given probabilities; the parent clamps
    them first.

    For a loss with large curvature at small counts, such as ``log(z + 0.1)``, the gradient can be
    several times too large: see the head of ``ils.distributions.counts``.

    Args:
        total_count: number ``r`` of failures, not necessarily whole, ``(...)``, or one for all.
        probs: probability ``p`` of a success, ``(...)``; either this
        logits: or its log-odds, ``(...)``.
        validate_args: as in ``torch.distributions``.

    Raises:
        TypeError, ValueError: as the parent; parameters that are not floating point, when drawn.

    Example:
        >>> import torch
        >>> from ils.distributions import NegativeBinomial
        >>> p = torch.tensor([0.25, 0.5], requires_grad=True)
        >>> NegativeBinomial(3.5, p).rsample((5,)).shape
        torch.Size([5, 2])

    Source: He and Wu (2026), order two; StochasticAD (2023).
    """

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of a count, ``(...)``; ``-inf`` for one that cannot be drawn."""
        if self._validate_args:
            self._validate_sample(value)
        (up, down), z, count = log_chances(self), wide(value), wide(self.total_count)
        ways = (count + z).lgamma() - (1 + z).lgamma() - count.lgamma()
        # With total_count 0, zero successes have probability 1.
        ways = ways.masked_fill(count + z == 0, 0)
        return (ways + times(count, down) + times(z, up)).to(_kind(self, value))

    def _draw(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        count = wide(self.total_count).expand(shape)
        unit = standard_gamma(count, generator)
        return poisson((unit * self._odds()).masked_fill(count == 0, 0), generator)

    def _odds(self) -> Tensor:
        """Odds of a success, not from PyTorch's clamped logits: by those ``p = 0`` draws counts."""
        param, logits = given(self)
        param = wide(param)
        return param.exp() if logits else param / (1 - param)

    @property
    def mean(self) -> Tensor:
        """``r p / (1 - p)``, ``(...)``; the parent's is that of clamped probabilities."""
        count = wide(self.total_count)
        return (count * self._odds()).masked_fill(count == 0, 0).to(self.total_count.dtype)

    @property
    def variance(self) -> Tensor:
        """``r p / (1 - p)^2``, ``(...)``; the parent's is that of clamped probabilities."""
        count, odds = wide(self.total_count), self._odds()
        variance = (count * odds * (1 + odds)).masked_fill(count == 0, 0)
        return variance.to(self.total_count.dtype)

    def _carry(self, z: Tensor) -> Tensor:
        param, logits = given(self)
        with torch.no_grad():
            # In float32 the probability rounds to 1 at logits of 17, and 1 - p to 0.
            probs = param.double().sigmoid() if logits else wide(param)
            by_count, by_param = velocity.negative_binomial(
                wide(z), wide(self.total_count), probs, logits=logits
            )
        return carried(z, (by_count, self.total_count), (by_param, param))


def _kind(distribution: Any, value: Tensor) -> torch.dtype:
    return torch.result_type(given(distribution)[0], value)


def _chances(distribution: Any) -> tuple[Tensor, Tensor]:
    """Probabilities of a success and of a failure, of the half types in float32."""
    param, logits = given(distribution)
    param = wide(param)
    return (param.sigmoid(), (-param).sigmoid()) if logits else (param, 1 - param)


def _bernoulli(p: Any, q: Any) -> tuple[Tensor, Tensor, Tensor]:
    """``p log(p / q) + (1 - p) log((1 - p) / (1 - q))``, ``p`` and ``1 - p``, in float64."""
    p, q = (_double(one) for one in (p, q))
    success, failure = _chances(p)
    (p_up, p_down), (q_up, q_down) = log_chances(p), log_chances(q)
    up = times(success, p_up) - times(success, q_up)
    return up + times(failure, p_down) - times(failure, q_down), success, failure


def _double(distribution: Any) -> _Bernoulli:
    param, logits = given(distribution)
    name = "logits" if logits else "probs"
    return _Bernoulli(**{name: param.double()}, validate_args=False)


def _to_kind(divergence: Tensor, p: Any, q: Any) -> Tensor:
    return divergence.to(torch.result_type(given(p)[0], given(q)[0]))


@register_kl(Bernoulli, Bernoulli)
@register_kl(Bernoulli, _Bernoulli)
@register_kl(_Bernoulli, Bernoulli)
def _of_bernoulli(p: _Bernoulli, q: _Bernoulli) -> Tensor:
    return _to_kind(_bernoulli(p, q)[0], p, q)


@register_kl(Binomial, Binomial)
@register_kl(Binomial, _Binomial)
@register_kl(_Binomial, Binomial)
def _of_binomial(p: _Binomial, q: _Binomial) -> Tensor:
    """``n`` times the divergence of one trial; infinite if ``p`` has more trials than ``q``."""
    if bool((p.total_count < q.total_count).any()):
        raise NotImplementedError(
            "kl_divergence: expected a second binomial of no more trials; otherwise there is no "
            "closed form"
        )
    divergence = p.total_count * _bernoulli(p, q)[0]
    return _to_kind(divergence.masked_fill(p.total_count > q.total_count, torch.inf), p, q)


@register_kl(Geometric, Geometric)
@register_kl(Geometric, _Geometric)
@register_kl(_Geometric, Geometric)
def _of_geometric(p: _Geometric, q: _Geometric) -> Tensor:
    """The divergence of one trial, times the mean number of trials, ``1 / p``."""
    divergence, success, _ = _bernoulli(p, q)
    return _to_kind(divergence / success, p, q)


@register_kl(NegativeBinomial, NegativeBinomial)
@register_kl(NegativeBinomial, _NegativeBinomial)
@register_kl(_NegativeBinomial, NegativeBinomial)
def _of_negative_binomial(p: _NegativeBinomial, q: _NegativeBinomial) -> Tensor:
    """The divergence of one trial, times the mean number of trials, ``r / (1 - p)``."""
    if not bool((p.total_count == q.total_count).all()):
        raise NotImplementedError(
            "kl_divergence: expected negative binomials with the same total_count; otherwise there "
            "is no closed form"
        )
    divergence, _, failure = _bernoulli(p, q)
    return _to_kind(p.total_count * (divergence / failure), p, q)
