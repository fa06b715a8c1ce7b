r"""Rules: how the gradient at a draw becomes a gradient for the logits.

Forward, :func:`ils.sample` draws ``z`` exactly from ``pi = softmax(theta)``.  Backward, a
:class:`Rule` turns ``g = dL/dz`` at the draw into an estimate of the gradient for the logits::

    ils.sample(logits)                                       # ReinMax(), the default
    ils.sample(logits, rule=ils.rules.StraightThrough(2.0))
    ils.sample(logits, rule=ils.rules.Note(0.1))             # Algorithm 1 of the note

Rules are frozen values, and can be compared, hashed, copied and pickled, if their options can.  All
estimates are *biased*, and in the units of ``g`` unless stated otherwise;
:func:`ils.estimators.from_rule` makes an estimator of a rule, whose bias and variance
:func:`ils.exact.moments` computes.  The formulas here are the reference; fast forms of some of them
are in ``ils.fast``.

A rule of one's own is a subclass with its formula.  Here straight-through, with the incoming
gradient clipped to ``[-1, 1]``::

    >>> from dataclasses import dataclass
    >>> import torch, ils
    >>> @dataclass(frozen=True)
    ... class Clipped(ils.rules.Rule):
    ...     most: float = 1.0
    ...
    ...     def gradient(self, grad, z, logits, noise=None):
    ...         probs, grad = logits.softmax(-1), grad.clamp(-self.most, self.most)
    ...         return probs * (grad - (probs * grad).sum(-1, keepdim=True))
    >>> logits = torch.zeros(2, requires_grad=True)
    >>> (ils.sample(logits, rule=Clipped()) @ torch.tensor([0.0, 5.0])).backward()
    >>> logits.grad
    tensor([-0.2500,  0.2500])
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from ils.checks import check_count, check_not_negative, check_positive, check_same_shape
from ils.execution import holds_values
from ils.metric import euclidean, fisher
from ils.relaxation import (
    conditional_gumbel,
    relaxed_sample,
    relaxed_sample_vjp,
    softmax_vjp,
    tempered,
)
from ils.simplex import Normalizer, sum_normalize
from ils.target import direction, intermediate_target, logits_gradient, probs_gradient

__all__ = [
    "DARN",
    "Decoupled",
    "Gapped",
    "GumbelRao",
    "Identity",
    "Limit",
    "MVE",
    "Note",
    "NoteCode",
    "Ordinal",
    "ReinMax",
    "ReinMaxControlVariate",
    "ReinMaxRao",
    "Rule",
    "Step",
    "StraightThrough",
    "StraightThroughGumbel",
]

Metric = Callable[[Tensor, Tensor], Tensor]
Map = Callable[[Tensor], Tensor]


class Rule(ABC):
    """How the gradient at a draw becomes one for the logits; see the head of this module.

    A subclass has the method :meth:`gradient`, and :meth:`noise` if its formula is random.

    Shape:
        ``g``, ``z`` and the estimate ``(*draws, ..., K)``, ``theta`` ``(..., K)``.

    Raises:
        TypeError: a class without :meth:`gradient` is instantiated.

    Example:
        >>> import ils
        >>> ils.rules.ReinMax() == ils.rules.ReinMax(1), ils.rules.Step(0.5)
        (True, Step(0.5))

    Source: this report.
    """

    @abstractmethod
    def gradient(
        self, grad: Tensor, z: Tensor, logits: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """The estimate of the gradient for the logits, for each draw.

        The operator calls it with float32 in place of half types and with ``grad`` zero at masked
        categories.  It sets the estimate to zero there, and sums the estimates of several draws.

        Args:
            grad: ``g = dL/dz`` at the draws, ``(*draws, ..., K)``.
            z: one-hot draws, ``(*draws, ..., K)``.
            logits: ``(..., K)``; ``-inf`` masks a category.
            noise: what :meth:`noise` returned after the same draws.

        Returns:
            ``(*draws, ..., K)``.
        """

    def noise(
        self, shape: tuple[int, ...], logits: Tensor, generator: torch.Generator | None
    ) -> Tensor | None:
        """Random numbers of the formula, drawn after ``z`` in the forward pass; None for none.

        Args:
            shape: that of the draws, ``(*draws, ..., K)``.
            logits: ``(..., K)``, float32 or wider.
            generator: source of the numbers; None for PyTorch's own.
        """
        return None

    def __repr__(self) -> str:
        """The rule as one would write it: options that have their defaults are left out."""
        written: list[str] = []
        options = fields(self) if is_dataclass(self) else ()
        for option in sorted(options, key=lambda option: option.kw_only is True):
            value = getattr(self, option.name)
            if option.default is MISSING or value != option.default:
                named = "" if option.default is MISSING else f"{option.name}="
                written.append(named + _written(value))
        return f"{type(self).__name__}({', '.join(written)})"


def _written(value: Any) -> str:
    if value is fisher or value is euclidean:
        return f"ils.metric.{value.__name__}"
    if value == math.inf:
        return "math.inf"
    return repr(value) if isinstance(value, Normalizer) else getattr(value, "__name__", repr(value))


def _keep_positive(rule: Rule, *names: str) -> None:
    """Refuse options that are no positive finite numbers; keep them as Python's."""
    for name in names:
        check_positive(name, getattr(rule, name))
        object.__setattr__(rule, name, float(getattr(rule, name)))


@dataclass(frozen=True, repr=False)
class ReinMax(Rule):
    r"""ReinMax: ``2 m (g - <m, g>) - pi (g - <pi, g>) / 2``, ``2 m = softmax(theta / tau) + z``.

    At ``tau = 1``, the default of :func:`ils.sample`, it is half the limit of small steps in the
    Fisher metric: ``pi_k (g_k - g_i) / 2``, and minus their sum for the drawn category ``i``.  So
    it is ZGR, half of straight-through plus DARN.  *Biased*; exact in expectation at ``tau = 1``
    for a loss that is quadratic in each of several *independent* variables with the others held;
    not where the logits of one draw depend on another draw, even for a linear loss.

    Args:
        temperature: ``tau > 0`` inside ``m``; the draw itself has temperature 1.

    Shape:
        ``g``, ``z`` and the estimate ``(*draws, ..., K)``, ``theta`` ``(..., K)``.

    Raises:
        TypeError, ValueError: ``temperature`` is not a positive finite number.

    Example:
        >>> import torch, ils
        >>> logits, g = torch.zeros(2), torch.tensor([1.0, 3.0])
        >>> ils.rules.ReinMax().gradient(g, torch.tensor([1.0, 0.0]), logits)
        tensor([-0.5000,  0.5000])

    Source: Liu et al. (2023), as in the authors' published code; Shekhovtsov (2023).
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        _keep_positive(self, "temperature")

    def gradient(
        self, grad: Tensor, z: Tensor, logits: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """See :meth:`Rule.gradient`."""
        middle = (tempered(logits, self.temperature).softmax(-1) + z) / 2
        return 2 * softmax_vjp(middle, grad) - softmax_vjp(logits.softmax(-1), grad) / 2


@dataclass(frozen=True, repr=False)
class ReinMaxControlVariate(ReinMax):
    r"""ReinMax of several draws, each with the derivative at the others as control variate.

    With ``R(z) g`` for ReinMax's estimate, ``F g`` for its mean over the draw, and ``h_s`` for the
    mean of the derivatives at the other draws of the row, the estimate of draw ``s`` is ``F h_s +
    R(z_s) (g_s - h_s)``; at ``tau = 1``, ``F g = pi (g - <pi, g>)``.  Of one draw, which has no
    others, it is ReinMax.  *Biased* as ReinMax, of which it has the mean, provided that no loss
    depends on two draws of a row; its variance is zero for a linear loss, and can be larger than
    that of ReinMax for another.  No evaluation of the loss is added::

        z = ils.sample(logits, rule=ils.rules.ReinMaxControlVariate(), draws=4)
        loss(z).mean().backward()

    Args:
        temperature: ``tau > 0``, as in :class:`ReinMax`.

    Shape:
        ``g``, ``z`` and the estimate ``(*draws, ..., K)``, ``theta`` ``(..., K)``.

    Raises:
        TypeError, ValueError: ``temperature`` is not a positive finite number.

    Example:
        >>> import torch, ils
        >>> logits = torch.zeros(3, requires_grad=True)
        >>> z = ils.sample(logits, rule=ils.rules.ReinMaxControlVariate(), draws=2)
        >>> (z @ torch.tensor([0.0, 3.0, 6.0])).mean().backward()
        >>> logits.grad  # of a linear loss, exact
        tensor([-1.,  0.,  1.])

    Source: this report, chapter "What do several draws add?".
    """

    def gradient(
        self, grad: Tensor, z: Tensor, logits: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """See :meth:`Rule.gradient`."""
        axes = tuple(range(grad.dim() - logits.dim()))
        draws = math.prod(grad.shape[: len(axes)])
        if draws < 2:
            return super().gradient(grad, z, logits)
        others = (grad.sum(axes, keepdim=True) - grad) / (draws - 1)
        probs, warm = logits.softmax(-1), tempered(logits, self.temperature).softmax(-1)
        mean, warm_mean = ((p * others).sum(-1, keepdim=True) for p in (probs, warm))
        expected = warm * (others - (warm_mean + mean) / 2) - probs * (warm_mean - mean) / 2
        return expected + super().gradient(grad - others, z, logits)


@dataclass(frozen=True, repr=False)
class StraightThrough(Rule):
    r"""Straight-through: ``p (g - <p, g>) / tau`` with ``p = softmax(theta / tau)``.

    *Biased*; exact in expectation at ``tau = 1`` for a loss that is linear in each of several
    independent variables.

    Args:
        temperature: ``tau > 0`` of the backward pass; the draw itself has temperature 1.

    Shape:
        ``g``, ``z`` and the estimate ``(*draws, ..., K)``, ``theta`` ``(..., K)``.

    Raises:
        TypeError, ValueError: ``temperature`` is not a positive finite number.

    Example:
        >>> import torch, ils
        >>> logits, g = torch.zeros(2), torch.tensor([1.0, 3.0])
        >>> ils.rules.StraightThrough().gradient(g, torch.tensor([1.0, 0.0]), logits)
        tensor([-0.5000,  0.5000])

    Source: Bengio, Leonard and Courville (2013), here with the softmax Jacobian; the temperature
    as in Liu et al. (2023).
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        _keep_positive(self, "temperature")

    def gradient(
        self, grad: Tensor, z: Tensor, logits: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """See :meth:`Rule.gradient`."""
        return softmax_vjp(tempered(logits, self.temperature).softmax(-1), grad) / self.temperature


@dataclass(frozen=True, repr=False)
class MVE(Rule):
    r"""The least-variance family from straight-through (``tau = 0``) to exactness (``tau = inf``).

    After a draw of ``i`` it is ``J r`` with ``J = diag(pi) - pi pi^T``, ``A x = h`` and
    ``r_k = x_k (a + pi_k) / (a + 2 pi_k)``, where ``a = 1 / tau`` and

    .. math::

        A_{kj} = -\frac{\pi_k \pi_j}{a + \pi_k + \pi_j} \; (k \ne j), \qquad
        \sum_j A_{kj} = \sum_j \frac{a\, \pi_j}{a + \pi_k + \pi_j}, \qquad
        h_k = \frac{a + \pi_k}{a + \pi_k + \pi_i} (g_k - g_i) \; (k \ne i), \qquad
        h_i = -\sum_k \frac{\pi_k (g_k - g_i)}{a + \pi_k + \pi_i} .

    *Biased*; exact in expectation for a loss that is linear in each of
    several independent variables, and at ``tau = inf`` for one that is quadratic in each with the
    others held, as :class:`ReinMax`, with less variance for derivatives without a preferred
    direction.  A system of ``K`` equations a draw: ``K^3`` operations.

    Its authors anneal ``tau`` from 1 to 1e6 while they train.  A rule is a value: make a new one
    each step, ``ils.sample(logits, rule=ils.rules.MVE(10 ** (6 * step / steps)))``.

    Args:
        tau: from 0 to ``math.inf``; how much a bias for quadratic losses counts against variance.

    Shape:
        ``g``, ``z`` and the estimate ``(*draws, ..., K)``, ``theta`` ``(..., K)``.

    Raises:
        TypeError, ValueError: ``tau`` is not a number of at least zero.

    Example:
        >>> import torch, ils
        >>> logits, g = torch.zeros(2), torch.tensor([1.0, 3.0])
        >>> ils.rules.MVE().gradient(g, torch.tensor([1.0, 0.0]), logits)
        tensor([-0.5000,  0.5000])

    Source: Hooper and Shekhovtsov (2026), as in the authors' published code, with one right side
    in place of a matrix of them; the end as in this report, chapter "How good can one draw be?".
    """

    tau: float = math.inf

    def __post_init__(self) -> None:
        if not (isinstance(self.tau, float) and self.tau == math.inf):
            check_not_negative("tau", self.tau)
        object.__setattr__(self, "tau", float(self.tau))

    def gradient(
        self, grad: Tensor, z: Tensor, logits: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """See :meth:`Rule.gradient`."""
        # 1 + tau pi = (a + b pi) times a number that cancels everywhere.
        a, b = (1.0, self.tau) if self.tau <= 1 else (1 / self.tau, 1.0)
        probs = logits.softmax(-1)
        least = torch.finfo(probs.dtype).tiny  # of a denominator, for a = 0
        own = (probs * z).sum(-1, keepdim=True)
        rise = (grad - (grad * z).sum(-1, keepdim=True)).masked_fill(probs == 0, 0)
        moved = rise / (a + b * (probs + own)).clamp(min=least)
        right = (a + b * probs) * moved - z * (b * probs * moved).sum(-1, keepdim=True)
        matrix, sums = self._system(probs, a, b, least)
        # The unknown of the most likely category is replaced by what is common to all, times a:
        # without that the rows would add up to nothing at a = 0.
        top = torch.zeros_like(probs).scatter(-1, probs.argmax(-1, keepdim=True), 1) > 0
        corner = top.unsqueeze(-1) & top.unsqueeze(-2)
        matrix = torch.where(top.unsqueeze(-2), sums.unsqueeze(-1), matrix)
        matrix = torch.where(top.unsqueeze(-1), a * sums.unsqueeze(-2), matrix)
        matrix = torch.where(corner, sums.sum(-1)[..., None, None], matrix)
        right = torch.where(top, a * moved.sum(-1, keepdim=True), right)
        solution = torch.linalg.solve_ex(matrix, right.unsqueeze(-1)).result.squeeze(-1)
        common, solution = (solution * top).sum(-1, keepdim=True), solution.masked_fill(top, 0)
        solution = (solution + (a * solution + common) / (a + 2 * b * probs).clamp(min=least)) / 2
        return softmax_vjp(probs, solution - (solution * top).sum(-1, keepdim=True))

    @staticmethod
    def _system(probs: Tensor, a: float, b: float, least: float) -> tuple[Tensor, Tensor]:
        """The matrix ``A``, ``(..., K, K)``, and its row sums over ``a``."""
        pair = (a + b * (probs.unsqueeze(-1) + probs.unsqueeze(-2))).clamp(min=least)
        share = probs.unsqueeze(-2) / pair
        sums = share.sum(-1)
        flow = b * probs.unsqueeze(-1) * share
        flow = flow - torch.diag_embed(flow.diagonal(dim1=-2, dim2=-1))
        whole = a * sums + flow.sum(-1)
        # A category of probability zero: any number but zero.
        return torch.diag_embed(whole.masked_fill(whole == 0, 1)) - flow, sums


@dataclass(frozen=True, repr=False)
class Ordinal(Rule):
    r"""MVE of values: ``pi_k [d_k + d_i (d_k^2 - v) / 2 v]``, for losses of ``y = <values, z>``.

    ``d = g - <pi, g>`` and ``v = <pi, d^2>``, after a draw of ``i``.  For a loss that sees the draw
    through one number ``y`` alone, ``g`` has the direction of the values, so that they need not be
    given; then it is exact in expectation for a loss that is quadratic in each of several
    independent ``y`` with the others held, and of all such estimators has the least variance,
    entry by entry, for a loss linear in ``y``.  For two categories it is :class:`ReinMax`; for many
    levels it has much less variance.  *Biased* otherwise, but for linear losses of ``z``.

    Shape:
        ``g``, ``z`` and the estimate ``(*draws, ..., K)``, ``theta`` ``(..., K)``.

    Raises:
        Nothing: it has no options.

    Example:
        >>> import torch, ils
        >>> values, logits = torch.arange(4.0), torch.zeros(4, requires_grad=True)
        >>> y = ils.sample(logits, rule=ils.rules.Ordinal()) @ values  # an integer from 0 to 3
        >>> q = ils.distributions.Categorical(
        ...     logits=logits, weight=values[:, None], rule=ils.rules.Ordinal()
        ... )
        >>> q.rsample((5,)).shape
        torch.Size([5, 1])

    Source: Hooper and Shekhovtsov (2026), as in the authors' published code for integers, at the
    end ``tau = inf`` of their family; that the values cancel, this report.
    """

    def gradient(
        self, grad: Tensor, z: Tensor, logits: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """See :meth:`Rule.gradient`."""
        probs = logits.softmax(-1)
        rise = (grad - (grad * z).sum(-1, keepdim=True)).masked_fill(probs == 0, 0)
        # In units of the largest, as squares overflow.
        unit = rise.abs().amax(-1, keepdim=True)
        rise = rise / unit.clamp(min=torch.finfo(unit.dtype).tiny)
        mean = (probs * rise).sum(-1, keepdim=True)
        away = rise - mean
        variance = (probs * away**2).sum(-1, keepdim=True)
        bend = mean * (away**2 - variance) / (2 * variance.clamp(min=torch.finfo(unit.dtype).tiny))
        return unit * probs * (away - bend)


@dataclass(frozen=True, repr=False)
class DARN(Rule):
    """DARN: ``(z - pi) <g, z - pi>``, the score function with a first-order Taylor baseline.

    *Biased*; exact in expectation for a loss that is linear in each of several independent
    variables.

    Shape:
        ``g``, ``z`` and the estimate ``(*draws, ..., K)``, ``theta`` ``(..., K)``.

    Raises:
        Nothing: it has no options.

    Example:
        >>> import torch, ils
        >>> logits, g = torch.zeros(2), torch.tensor([1.0, 3.0])
        >>> ils.rules.DARN().gradient(g, torch.tensor([1.0, 0.0]), logits)
        tensor([-0.5000,  0.5000])

    Source: Gregor et al. (2014); named so, and extended to categories, by Gu et al. (2016).
    """

    def gradient(
        self, grad: Tensor, z: Tensor, logits: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """See :meth:`Rule.gradient`."""
        score = z - logits.softmax(-1)
        return score * (score * grad).sum(-1, keepdim=True)


@dataclass(frozen=True, repr=False)
class Identity(Rule):
    """Identity: ``g - mean(g)``, the mean over the categories that can be drawn.

    It does not depend on the logits, and is *biased* for a linear loss too.

    Shape:
        ``g``, ``z`` and the estimate ``(*draws, ..., K)``, ``theta`` ``(..., K)``.

    Raises:
        Nothing: it has no options.

    Example:
        >>> import torch, ils
        >>> logits, g = torch.zeros(2), torch.tensor([1.0, 3.0])
        >>> ils.rules.Identity().gradient(g, torch.tensor([1.0, 0.0]), logits)
        tensor([-1.,  1.])

    Source: Bengio, Leonard and Courville (2013); the projection as in Sahoo et al. (2023).
    """

    def gradient(
        self, grad: Tensor, z: Tensor, logits: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """See :meth:`Rule.gradient`."""
        mask = logits.isneginf()
        kept = grad.masked_fill(mask, 0)
        mean = kept.sum(-1, keepdim=True) / (~mask).sum(-1, keepdim=True)
        return (kept - mean).masked_fill(mask, 0)


@dataclass(frozen=True, repr=False)
class Gapped(Rule):
    r"""Gapped straight-through: ``J_tau(theta + m_1 - m_2) g`` with a fixed shift of the logits.

    ``m_1`` lifts the drawn category to the largest logit; ``m_2`` lowers every other one until it
    is at least ``gap`` below.  *Biased* for a linear loss too.

    Args:
        temperature: ``tau > 0`` of the backward pass.
        gap: in units of the logits; None for ``-log(1 - pi_i) / pi_i``, the mean distance of the
            largest perturbed logit from the second largest, given the draw.

    Shape:
        ``g``, ``z`` and the estimate ``(*draws, ..., K)``, ``theta`` ``(..., K)``.

    Raises:
        TypeError, ValueError: ``temperature`` or ``gap`` is not a positive finite number.

    Example:
        >>> import torch, ils
        >>> logits, g = torch.zeros(2), torch.tensor([1.0, 3.0])
        >>> ils.rules.Gapped().gradient(g, torch.tensor([1.0, 0.0]), logits)
        tensor([-0.3932,  0.3932])

    Source: Fan et al. (2022), as in the authors' published code.
    """

    temperature: float = 1.0
    gap: float | None = 1.0

    def __post_init__(self) -> None:
        _keep_positive(self, "temperature", *(() if self.gap is None else ("gap",)))

    def gradient(
        self, grad: Tensor, z: Tensor, logits: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """See :meth:`Rule.gradient`."""
        distance = logits - logits.amax(-1, keepdim=True)
        room: Any = self.gap
        if room is None:
            kind = torch.finfo(logits.dtype)
            # Above 0 too: an enumeration includes draws of probability zero, and 0 / 0 is NaN.
            drawn = (logits.softmax(-1) * z).sum(-1, keepdim=True).clamp(kind.tiny, 1 - kind.eps)
            room = -torch.log1p(-drawn) / drawn
        shifted = torch.where(z > 0, torch.zeros_like(distance), distance.clamp(max=-room))
        return softmax_vjp(tempered(shifted, self.temperature).softmax(-1), grad) / self.temperature


def _exponential(
    shape: tuple[int, ...], logits: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Standard exponential numbers, never zero, from uniform ones, which ``vmap`` can sample."""
    kind: dict[str, Any] = {"dtype": torch.float64, "device": logits.device}
    if generator is not None:  # passed on, even None would make a compiler fix the sizes
        kind["generator"] = generator
    numbers = -torch.log1p(-torch.rand(shape, **kind))
    return numbers.clamp(min=torch.finfo(logits.dtype).tiny).to(logits.dtype)


@dataclass(frozen=True, repr=False)
class GumbelRao(Rule):
    """Gumbel-Rao: the mean of ``y_s (g - <y_s, g>) / tau`` over relaxed samples given the draw.

    ``y_s = softmax(x_s / tau)`` with perturbed logits ``x_s``, sampled given that the drawn
    category has the largest.  *Biased*.

    Args:
        temperature: ``tau > 0``.
        samples: how many conditional samples are averaged.

    Shape:
        ``g``, ``z`` and the estimate ``(*draws, ..., K)``, ``theta`` ``(..., K)``.

    Raises:
        TypeError, ValueError: ``temperature`` is not a positive finite number, ``samples`` no
            count.

    Example:
        >>> import torch, ils
        >>> ils.sample(torch.zeros(2), rule=ils.rules.GumbelRao(0.5)).sum()
        tensor(1.)

    Source: Paulus, Maddison and Krause (2021), equations 9 and 10.
    """

    temperature: float
    samples: int = 10

    def __post_init__(self) -> None:
        _keep_positive(self, "temperature")
        check_count("samples", self.samples)
        object.__setattr__(self, "samples", int(self.samples))

    def noise(
        self, shape: tuple[int, ...], logits: Tensor, generator: torch.Generator | None
    ) -> Tensor | None:
        """Exponential numbers, ``(samples, *shape)``; see :meth:`Rule.noise`."""
        return _exponential((self.samples, *shape), logits, generator)

    def gradient(
        self, grad: Tensor, z: Tensor, logits: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """See :meth:`Rule.gradient`."""
        assert noise is not None
        y = tempered(conditional_gumbel(logits, z, noise), self.temperature).softmax(-1)
        return relaxed_sample_vjp(y, grad, self.temperature).mean(0)


@dataclass(frozen=True, repr=False)
class ReinMaxRao(GumbelRao):
    """ReinMax-Rao: twice Gumbel-Rao at ``log((pi + z) / 2)``, less half of straight-through.

    As ReinMax, with the mean Jacobian of a relaxed sample, given that it is largest at the drawn
    category, in place of that of the softmax at the middle ``(pi + z) / 2``.  *Biased* for a
    linear loss too: for ``tau -> 0`` its mean tends to half of the gradient.

    Args:
        temperature: ``tau > 0`` of the relaxed samples.
        samples: how many conditional samples are averaged.

    Shape:
        ``g``, ``z`` and the estimate ``(*draws, ..., K)``, ``theta`` ``(..., K)``.

    Raises:
        TypeError, ValueError: ``temperature`` is not a positive finite number, ``samples`` no
            count.

    Example:
        >>> import torch, ils
        >>> ils.sample(torch.zeros(2), rule=ils.rules.ReinMaxRao(0.5)).sum()
        tensor(1.)

    Source: Wang and Bui (2026), from their published code; see :func:`ils.estimators.reinmax_rao`.
    """

    def gradient(
        self, grad: Tensor, z: Tensor, logits: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """See :meth:`Rule.gradient`."""
        probs = logits.softmax(-1)
        middle = super().gradient(grad, z, ((probs + z) / 2).log(), noise)
        return 2 * middle - softmax_vjp(probs, grad) / 2


@dataclass(frozen=True, repr=False)
class StraightThroughGumbel(Rule):
    """Straight-through Gumbel-Softmax: ``y (g - <y, g>) / T``, ``y = softmax((theta + G) / T)``.

    The Gumbel noise ``G`` is sampled given ``z``; the joint law is that of sampling ``G`` first, as
    ``torch.nn.functional.gumbel_softmax`` does with ``hard=True``.  *Biased*.

    Args:
        temperature: ``T > 0``.

    Shape:
        ``g``, ``z`` and the estimate ``(*draws, ..., K)``, ``theta`` ``(..., K)``.

    Raises:
        TypeError, ValueError: ``temperature`` is not a positive finite number.

    Example:
        >>> import torch, ils
        >>> ils.sample(torch.zeros(2), rule=ils.rules.StraightThroughGumbel(0.5)).sum()
        tensor(1.)

    Source: Jang, Gu and Poole (2017), section 2.2.
    """

    temperature: float

    def __post_init__(self) -> None:
        _keep_positive(self, "temperature")

    def noise(
        self, shape: tuple[int, ...], logits: Tensor, generator: torch.Generator | None
    ) -> Tensor | None:
        """Exponential numbers, of the shape of the draws; see :meth:`Rule.noise`."""
        return _exponential(shape, logits, generator)

    def gradient(
        self, grad: Tensor, z: Tensor, logits: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """See :meth:`Rule.gradient`."""
        assert noise is not None
        y = tempered(conditional_gumbel(logits, z, noise), self.temperature).softmax(-1)
        return relaxed_sample_vjp(y, grad, self.temperature)


@dataclass(frozen=True, repr=False)
class Decoupled(StraightThroughGumbel):
    """Decoupled straight-through Gumbel: ``y (g - <y, g>) / T``, ``y = softmax(theta / T + G)``.

    The temperature divides the logits, and not the noise ``G``, which is that of the draw.  The
    forward temperature of the method is 1 here: ``z ~ softmax(theta)``.  *Biased*.

    Args:
        temperature: ``T > 0`` of the backward pass.

    Shape:
        ``g``, ``z`` and the estimate ``(*draws, ..., K)``, ``theta`` ``(..., K)``.

    Raises:
        TypeError, ValueError: ``temperature`` is not a positive finite number.

    Example:
        >>> import torch, ils
        >>> ils.sample(torch.zeros(2), rule=ils.rules.Decoupled(0.5)).sum()
        tensor(1.)

    Source: Shah et al. (2024); see :func:`ils.estimators.decoupled_straight_through_gumbel`.
    """

    def gradient(
        self, grad: Tensor, z: Tensor, logits: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """See :meth:`Rule.gradient`."""
        assert noise is not None
        scores = conditional_gumbel(logits, z, noise)
        return self.given(grad, logits, (scores - logits).masked_fill(logits.isneginf(), 0))

    def given(self, grad: Tensor, logits: Tensor, gumbel: Tensor) -> Tensor:
        """The estimate for given Gumbel noise ``G``, ``(*draws, ..., K)``."""
        y = relaxed_sample(tempered(logits, self.temperature), gumbel, 1.0)
        return relaxed_sample_vjp(y, grad, self.temperature)


@dataclass(frozen=True, repr=False)
class Limit(Rule):
    r"""Half the limit of small steps: ``J_h(z) M J_h(z)^T g / 2``, ``h`` the division by the sum.

    Half, because each pair of categories counts twice: once after a draw of each.  *Biased*.  In
    the Fisher metric it is :class:`ReinMax` at temperature 1.

    Args:
        metric: ``M``, :func:`ils.metric.fisher`, :func:`ils.metric.euclidean` or a function of the
            same arguments.

    Shape:
        ``g``, ``z`` and the estimate ``(*draws, ..., K)``, ``theta`` ``(..., K)``.

    Raises:
        TypeError: ``metric`` is not a function.

    Example:
        >>> import torch, ils
        >>> rule, g = ils.rules.Limit(ils.metric.euclidean), torch.tensor([1.0, 3.0])
        >>> rule.gradient(g, torch.tensor([1.0, 0.0]), torch.zeros(2))
        tensor([-1.,  1.])

    Source: this report, chapter "The construction".
    """

    metric: Metric = fisher

    def __post_init__(self) -> None:
        _check_function(self, "metric")

    def gradient(
        self, grad: Tensor, z: Tensor, logits: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """See :meth:`Rule.gradient`."""
        mask = _not_drawn(logits, z)
        probs = logits.softmax(-1).expand_as(grad)
        return direction(z, grad, metric=self.metric, probs=probs, keep_mass=True, mask=mask) / 2


def _check_function(rule: Rule, name: str) -> None:
    value = getattr(rule, name)
    if not callable(value):
        raise TypeError(f"{name}: expected a function, got {type(value).__name__}")


def _not_drawn(logits: Tensor, z: Tensor) -> Tensor:
    """True where a category is masked, except the drawn one, from which the step starts."""
    return logits.isneginf() & (z == 0)


@dataclass(frozen=True, repr=False, kw_only=True)
class _Stepped(Rule):
    """Base of the rules with a finite step: move the draw, and map it back to the simplex."""

    normalizer: Map = sum_normalize
    metric: Metric = fisher
    keep_mass: bool = False

    def __post_init__(self) -> None:
        _check_function(self, "normalizer")
        _check_function(self, "metric")

    def check_normalizer(self, categories: int, like: Tensor) -> None:
        """Raise for a map that moves a corner of the simplex, or changes the shape."""
        if isinstance(self.normalizer, Normalizer):
            return
        # Two corners only: all of them would be a K x K matrix.
        corners = torch.zeros(2, categories, dtype=like.dtype, device=like.device)
        corners[0, 0] = corners[1, -1] = 1
        mapped = self.normalizer(corners)
        check_same_shape("normalizer: its output", mapped, corners)
        if holds_values(mapped) and not torch.allclose(mapped, corners, atol=1e-3):
            raise ValueError(
                "normalizer: expected h(z) = z for every one-hot z, got a largest difference of "
                f"{(mapped - corners).abs().max():.3g}"
            )

    def step(self, grad: Tensor, z: Tensor, logits: Tensor) -> dict[str, Any]:
        """The arguments of the functions of :mod:`ils.target`."""
        return {
            "normalizer": self.normalizer,
            "metric": self.metric,
            "probs": logits.softmax(-1).expand_as(grad),
            "keep_mass": self.keep_mass,
            "mask": _not_drawn(logits, z),
        }

    def moved(self, target: Tensor, z: Tensor) -> Tensor:
        """The difference ``z - pi_D``."""
        if not isinstance(self.normalizer, Normalizer):
            return z - target
        # For the drawn entry 1 - pi_D would cancel after a small step; the sum of the others is
        # the same, as pi_D sums to 1.
        gained = target.masked_fill(z > 0, 0).sum(-1, keepdim=True)
        return torch.where(z > 0, gained, z - target)


@dataclass(frozen=True, repr=False)
class Step(_Stepped):
    r"""A step relative to the gradient: ``s (z - h(z - a Delta / s)) / a``, ``s = max |Delta_k|``.

    ``Delta = M J_h(z)^T g``.  Homogeneous of degree one in the ``g`` of each draw: the update of
    an example does not depend on the batch that it came in, and a factor on the loss is the same
    factor on the update.  *Biased*, in the units of ``g``.

    Args:
        size: ``a > 0``, without unit: the largest change of an entry, before ``h``.
        normalizer: the map ``h``: ``ils.sum_normalize``, ``ils.sum_normalize_unclamped``,
            ``ils.project_simplex``, or a function on the last axis that keeps shapes and one-hot
            vectors, and gives no mass to ``-inf``.
        metric: ``M``, :func:`ils.metric.fisher`, :func:`ils.metric.euclidean` or a function of the
            same arguments.
        keep_mass: step within the plane ``sum(x) = 1``; see :func:`ils.target.direction`.

    Shape:
        ``g``, ``z`` and the estimate ``(*draws, ..., K)``, ``theta`` ``(..., K)``.

    Raises:
        TypeError, ValueError: ``size`` is not a positive finite number, ``metric`` or
            ``normalizer`` not a function; where it is used, ``normalizer`` moves a corner.

    Example:
        >>> import torch, ils
        >>> logits, g = torch.zeros(2), torch.tensor([3.0, 1.0])
        >>> ils.rules.Step(0.5).gradient(g, torch.tensor([1.0, 0.0]), logits)
        tensor([ 0.6667, -0.6667])

    Source: this report, chapter "The scale of the loss".
    """

    size: float = field(kw_only=False)

    def __post_init__(self) -> None:
        _keep_positive(self, "size")
        super().__post_init__()

    def gradient(
        self, grad: Tensor, z: Tensor, logits: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """See :meth:`Rule.gradient`."""
        step = self.step(grad, z, logits)
        scale = direction(z, grad, **step).abs().amax(-1, keepdim=True)
        # Of this least size, so that its inverse is finite: a gradient can be zero or subnormal.
        step_size = (scale / self.size).clamp(min=torch.finfo(scale.dtype).tiny).reciprocal()
        target = intermediate_target(z, grad, step_size=step_size, **step)
        return (self.moved(target, z) / step_size).masked_fill(step["mask"], 0)


@dataclass(frozen=True, repr=False)
class Note(_Stepped):
    r"""Algorithm 1 of the note: ``pi - pi_D`` with the target ``pi_D = h(z - alpha Delta)``.

    ``Delta = M J_h(z)^T g``.  A factor on the loss, and so the mean over a batch, changes the
    direction of the update.  *Biased*, and without unit.

    Args:
        step_size: ``alpha > 0``, in units of one over the gradient of the loss.
        normalizer, keep_mass: as in :class:`Step`.
        metric: as in :class:`Step`; the note's is the Euclidean.
        centred: return ``z - pi_D``: the same expectation without the noise ``pi - z``.

    Shape:
        ``g``, ``z`` and the estimate ``(*draws, ..., K)``, ``theta`` ``(..., K)``.

    Raises:
        TypeError, ValueError: ``step_size`` is not a positive finite number; as :class:`Step`.

    Example:
        >>> import torch, ils
        >>> logits, g = torch.zeros(2), torch.tensor([3.0, 1.0])
        >>> ils.rules.Note(0.5).gradient(g, torch.tensor([1.0, 0.0]), logits)
        tensor([0., 0.])

    Source: Shliselberg (2019), Algorithm 1.
    """

    step_size: float = field(kw_only=False)
    metric: Metric = field(default=euclidean, kw_only=True)
    centred: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        _keep_positive(self, "step_size")
        super().__post_init__()

    def gradient(
        self, grad: Tensor, z: Tensor, logits: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """See :meth:`Rule.gradient`."""
        step = self.step(grad, z, logits)
        target = intermediate_target(z, grad, step_size=self.step_size, **step)
        if self.centred:
            update = self.moved(target, z)
        else:
            update = logits_gradient(target, step["probs"], z)
        return update.masked_fill(step["mask"], 0)


@dataclass(frozen=True, repr=False)
class NoteCode(_Stepped):
    r"""The note's published code: ``-pi_D / (pi + 1e-7)``, :func:`ils.target.probs_gradient`.

    The derivative for the *probabilities*, used as the gradient for the logits.  *Biased*, and
    without unit.

    Args:
        step_size: ``alpha > 0``, in units of one over the gradient of the loss.
        normalizer, keep_mass: as in :class:`Step`.
        metric: as in :class:`Step`; the note's is the Euclidean.

    Shape:
        ``g``, ``z`` and the estimate ``(*draws, ..., K)``, ``theta`` ``(..., K)``.

    Raises:
        TypeError, ValueError: ``step_size`` is not a positive finite number; as :class:`Step`.

    Example:
        >>> import torch, ils
        >>> logits, g = torch.zeros(2), torch.tensor([3.0, 1.0])
        >>> ils.rules.NoteCode(0.5).gradient(g, torch.tensor([1.0, 0.0]), logits)
        tensor([-1.0000, -1.0000])

    Source: the published code of Shliselberg (2019).
    """

    step_size: float = field(kw_only=False)
    metric: Metric = field(default=euclidean, kw_only=True)

    def __post_init__(self) -> None:
        _keep_positive(self, "step_size")
        super().__post_init__()

    def gradient(
        self, grad: Tensor, z: Tensor, logits: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """See :meth:`Rule.gradient`."""
        step = self.step(grad, z, logits)
        target = intermediate_target(z, grad, step_size=self.step_size, **step)
        return probs_gradient(target, step["probs"], z).masked_fill(step["mask"], 0)


DEFAULT = ReinMax()
"""The rule where none is given; a compiler finds it by this name, where it makes no defaults."""


def check_rule(rule: Rule, categories: int, like: Tensor) -> None:
    """Raise for what is no rule, or for a normaliser that is invalid for so many categories."""
    if isinstance(rule, _Stepped):
        rule.check_normalizer(categories, like)
    elif not isinstance(rule, Rule):
        given: Any = rule
        got = f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__
        hint = "; an estimator is for ils.surrogate" if hasattr(given, "evaluations") else ""
        raise TypeError(
            f"rule: expected a value of ils.rules, as ils.rules.ReinMax(), got {got}{hint}"
        )


_OLD = ("step_size", "metric", "normalizer", "centred", "relative", "keep_mass")
# Those of similar functions, such as torch.nn.functional.gumbel_softmax, and what stands for them.
_TEMPERED = (
    "the draw has no temperature; for one in the backward pass, rule=ils.rules.ReinMax(temperature)"
)
_ELSEWHERE = {
    "tau": _TEMPERED,
    "temperature": _TEMPERED,
    "hard": "every draw is one-hot; leave it out",
    "seed": "generator=torch.Generator().manual_seed(seed)",
}
_P = ParamSpec("_P")
_R = TypeVar("_R")


def refuses_old_options(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorator: an option of before, or of a similar function, raises and says what to write."""

    @functools.wraps(function)
    def refusing(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        for name in kwargs:
            if name in _OLD:
                raise TypeError(_instead({old: kwargs[old] for old in _OLD if old in kwargs}))
            if name in _ELSEWHERE:
                raise TypeError(f"{name}: {_ELSEWHERE[name]}")
        return function(*args, **kwargs)

    return refusing


def _instead(old: dict[str, Any]) -> str:
    """The message: the rule of the old options, as one would write it."""
    names = ", ".join(old)
    step, relative = old.pop("step_size", None), old.pop("relative", True)
    centred = old.pop("centred", True)
    try:
        if step is None:
            metric = old.get("metric", fisher)
            rule: Any = ReinMax() if metric is fisher else Limit(metric)
        elif relative:
            rule = Step(step, **old)
        else:
            shared: dict[str, Any] = {"metric": fisher, **old}
            rule = Note(step, centred=centred, **shared)
        written = f"rule=ils.rules.{rule!r}"
    except (TypeError, ValueError):
        written = "a rule of ils.rules"
    return f"{names}: expected {written} in place of options"
