r"""Maps onto the simplex that fix its corners, and their transposed Jacobians at a corner.

A *normaliser* is a function ``h`` from real vectors (last axis) to distributions with
``h(z) = z`` for every one-hot ``z``.  Algorithm 1 of the note needs two things of it: its value,
and the product of its transposed Jacobian at ``z`` with a gradient.  A map that is differentiable
at a corner and never leaves the simplex has the Jacobian zero there (chapter "The construction",
proposition "no smooth normaliser"), so each normaliser here defines a surrogate gradient.

Any plain function can serve; its Jacobian is then computed by autograd.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ils.checks import check_same_shape
from ils.execution import holds_values

__all__ = [
    "Normalizer",
    "project_simplex",
    "pullback",
    "sum_normalize",
    "sum_normalize_unclamped",
]


class Normalizer:
    """A map ``h`` onto the simplex together with its transposed Jacobian at a corner.

    Calling the object calls ``h``; its docstring is that of ``h``.

    Args:
        name: the name under which it prints.
        h: maps ``(..., K)`` to distributions of the same shape.
        vjp: maps a one-hot ``z`` and a gradient, both ``(..., K)``, to ``J_h(z)^T grad``.

    Raises:
        Nothing: bad input is left to ``h`` and ``vjp``.

    Example:
        >>> import torch, ils
        >>> square = lambda x: x.square() / x.square().sum(-1, keepdim=True)
        >>> flat = ils.Normalizer("square", square, lambda z, grad: 0 * grad)
        >>> flat(torch.tensor([1.0, 3.0]))
        tensor([0.1000, 0.9000])

    Source: this report, chapter "The construction", proposition "no smooth normaliser".
    """

    def __init__(
        self,
        name: str,
        h: Callable[[Tensor], Tensor],
        vjp: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        self.h = h
        self.vjp = vjp
        self.__doc__ = h.__doc__
        self.__name__ = name

    def __call__(self, x: Tensor) -> Tensor:
        return self.h(x)

    def __repr__(self) -> str:
        return f"ils.{self.__name__}"

    def __reduce__(self) -> str | tuple[Any, ...]:
        return type(self), (self.__name__, self.h, self.vjp)


def pullback(normalizer: Callable[[Tensor], Tensor], z: Tensor, grad: Tensor) -> Tensor:
    r"""Transposed Jacobian of a normaliser at a draw, times a gradient: ``J_h(z)^T grad``.

    Args:
        normalizer: a :class:`Normalizer`, whose stated Jacobian is used, or any function, which
            is then differentiated by autograd.
        z: one-hot draws, ``(..., K)``.
        grad: gradients of the downstream loss at the draws, ``(..., K)``.

    Returns:
        ``Delta``, ``(..., K)``.

    Raises:
        ValueError: a function changes the shape.

    Example:
        >>> import torch, ils
        >>> from ils.simplex import pullback
        >>> z, grad = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([1.0, 2.0, 6.0])
        >>> pullback(ils.sum_normalize, z, grad), pullback(ils.project_simplex, z, grad)
        (tensor([0., 1., 5.]), tensor([-2., -1.,  3.]))

    Source: Shliselberg (2019), Algorithm 1; :func:`torch.func.vjp`.
    """
    if isinstance(normalizer, Normalizer):
        return normalizer.vjp(z, grad)
    result = torch.func.vjp(normalizer, z)
    check_same_shape("normalizer: its output", result[0], z)
    return result[1](grad)[0]


def _relative_to_draw(z: Tensor, grad: Tensor) -> Tensor:
    r"""``(I - z 1^T)^T g = g - <z, g> 1``: each category against the one that was drawn."""
    return grad - (z * grad).sum(-1, keepdim=True)


def _relative_to_mean(z: Tensor, grad: Tensor) -> Tensor:
    r"""``(I - 1 1^T / K) g``: the gradient within the plane that holds the simplex."""
    return grad - grad.mean(-1, keepdim=True)


def _clamp_and_normalize(x: Tensor) -> Tensor:
    r"""Divide the positive part of each row by its sum, ``h(x) = max(x, 0) / sum(max(x, 0))``.

    The note's ``h(x) = x / sum(x)``, made to stay on the simplex.  An entry of ``-inf`` gets no
    mass.  The transposed Jacobian at a draw of category ``i`` is that of the unclamped form,
    ``Delta_k = g_k - g_i``.

    Args:
        x: ``(..., K)``, each row with at least one positive entry (else the row is NaN; at a
            stepped draw the drawn entry is 1, or the row sums to 1).

    Returns:
        Distributions, ``(..., K)``.

    Raises:
        Nothing: the values of ``x`` are not looked at.

    Example:
        >>> import torch, ils
        >>> ils.sum_normalize(torch.tensor([1.0, 3.0, -2.0]))
        tensor([0.2500, 0.7500, 0.0000])

    Source: Shliselberg (2019), Algorithm 1, clamped.
    """
    positive = x.clamp(min=0)
    return positive / positive.sum(-1, keepdim=True)


def _normalize(x: Tensor) -> Tensor:
    r"""Divide each row by its sum, ``h(x) = x / sum(x)``, the note's own form.

    Not a map onto the simplex: entries can be negative, and where the sum is negative every
    entry changes sign.  Kept for the reproduction.  An entry of ``-inf`` gets no mass.  The
    transposed Jacobian at a draw of category ``i`` is ``Delta_k = g_k - g_i``.

    Args:
        x: ``(..., K)``, rows with a sum other than zero.

    Returns:
        Rows that sum to 1, ``(..., K)``.

    Raises:
        Nothing: the values of ``x`` are not looked at.

    Example:
        >>> import torch, ils
        >>> ils.sum_normalize_unclamped(torch.tensor([1.0, 3.0, -2.0]))
        tensor([ 0.5000,  1.5000, -1.0000])

    Source: Shliselberg (2019), Algorithm 1.
    """
    x = x.masked_fill(x.isneginf(), 0)
    return x / x.sum(-1, keepdim=True)


def _project(x: Tensor) -> Tensor:
    r"""Nearest distribution in the Euclidean norm, ``argmin_{q in simplex} |q - x|^2``.

    ``q = max(x - tau, 0)`` with the threshold ``tau`` for which the row sums to 1, found by
    sorting (Held, Wolfe and Crowder 1974; Duchi et al. 2008) or, for long rows in eager code, by
    Newton's method (Michelot 1986).  An entry of ``-inf`` gets no mass.
    Not differentiable at a corner; the transposed Jacobian used there is that of the projection
    onto the plane ``sum(x) = 1``, ``Delta = g - mean(g)``.  The projection ignores a constant
    added to all entries, so the target is the projection of ``z - step_size * g``.

    Args:
        x: ``(..., K)``, each row with at least one finite entry.

    Returns:
        Distributions, ``(..., K)``.

    Raises:
        Nothing: the values of ``x`` are not looked at.

    Example:
        >>> import torch, ils
        >>> ils.project_simplex(torch.tensor([1.0, 1.5, -2.0]))
        tensor([0.2500, 0.7500, 0.0000])

    Source: Held, Wolfe and Crowder (1974); Michelot (1986); Duchi et al. (2008).
    """
    # Half precision cannot hold the cumulative sums of a long row.
    work = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    work = work - work.amax(-1, keepdim=True)
    if not holds_values(x):
        return (work - _threshold_by_sorting(work)).clamp(min=0).to(x.dtype)
    few = x.shape[-1] < _SORTED
    threshold = _threshold_by_sorting(work) if few else _threshold_by_newton(work)
    return work.sub_(threshold).clamp_(min=0).to(x.dtype)


# From this many categories on a few passes over the row cost less than sorting it.
_SORTED = 16
# From this many on it pays to look at the largest entry of each block first.
_IN_BLOCKS = 1000


def _threshold_by_sorting(x: Tensor) -> Tensor:
    """``tau`` of each row with ``sum(max(x - tau, 0)) = 1``, ``(..., 1)``."""
    ordered = x.sort(-1, descending=True).values
    count = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
    threshold = (ordered.cumsum(-1) - 1) / count
    support = (ordered > threshold).sum(-1, keepdim=True)
    # A row that holds NaN has no support, and a first threshold that is NaN.
    return threshold.gather(-1, (support - 1).clamp(min=0))


def _threshold_by_newton(x: Tensor) -> Tensor:
    """The same for rows whose largest entry is zero.

    The threshold of a subset of the entries is a lower bound of that of all, from which Newton's
    method on the convex ``sum(max(x - tau, 0)) - 1`` increases to the root in finitely many passes
    (Michelot 1986).
    """
    categories = x.shape[-1]
    rows = x.reshape(-1, categories)
    if rows.shape[0] == 0:
        return x[..., :1]
    if categories < _IN_BLOCKS:
        return _climb(rows, torch.full_like(rows[:, :1], -1)).view(*x.shape[:-1], 1)
    # Blocks of whole vector registers, without padding where the number of categories allows.
    width = max((w for w in range(32, 129, 4) if categories % w == 0), default=64)
    if categories % width:
        short = width - categories % width
        rows = torch.nn.functional.pad(rows, (0, short), value=-torch.inf)
    blocks = rows.unflatten(-1, (-1, width))
    top = blocks.amax(-1)
    bound = _threshold_by_newton(top)
    # Only blocks with an entry above the bound can hold part of the support.
    row, block = (top > bound).nonzero(as_tuple=True)
    return _climb(blocks[row, block], bound, row).view(*x.shape[:-1], 1)


def _climb(x: Tensor, threshold: Tensor, row: Tensor | None = None) -> Tensor:
    """Newton's method from a lower bound ``(R, 1)``; ``x`` is rows, or blocks of the given rows."""
    while True:
        above = (x - (threshold if row is None else threshold[row])).clamp_(min=0)
        mass = above.sum(-1, keepdim=True)
        count = above.sign_().sum(-1, keepdim=True)  # several times faster than count_nonzero
        if row is not None:
            mass = torch.zeros_like(threshold).index_add_(0, row, mass)
            count = torch.zeros_like(threshold).index_add_(0, row, count)
        higher = mass.sub_(1).div_(count).add_(threshold)
        # Rounding can reverse the last step: a threshold that never falls converges.
        climbs = bool((higher > threshold).any())
        threshold = torch.maximum(threshold, higher)  # NaN where a row holds NaN
        if not climbs:
            return threshold


class _Given(Normalizer, enum.Enum):
    """The package's normalisers; an enum, so that copies, pickles and compilers keep identity."""

    SUM = "sum_normalize", _clamp_and_normalize, _relative_to_draw
    SUM_UNCLAMPED = "sum_normalize_unclamped", _normalize, _relative_to_draw
    PROJECTION = "project_simplex", _project, _relative_to_mean

    __str__ = Normalizer.__repr__

    def __reduce_ex__(self, protocol: Any) -> str:
        return self.__name__


sum_normalize: Normalizer = _Given.SUM
sum_normalize_unclamped: Normalizer = _Given.SUM_UNCLAMPED
project_simplex: Normalizer = _Given.PROJECTION
