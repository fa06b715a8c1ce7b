r"""The squeeze: Kullback-Leibler divergences, their Jensen bounds by draws, and fixed points.

``kl(p, q)`` uses the note's guard: ``sum_k p_k [log(p_k + eps) - log(q_k + eps)]``, which is the
divergence for ``eps = 0`` and stays finite for ``eps > 0``.  Last axis: the categories.  Sums are
in float64, and results in the type of the arguments.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ils.checks import (
    check_count,
    check_distribution,
    check_floating,
    check_not_negative,
)

__all__ = ["gap", "jensen_bound", "kl", "stationary", "transition"]


def kl(p: Tensor, q: Tensor, *, eps: float = 0.0) -> Tensor:
    r"""Divergence ``KL_eps(p || q) = sum_k p_k [log(p_k + eps) - log(q_k + eps)]``, in nats.

    Args:
        p: the true distribution, ``(..., K)``.
        q: the model, ``(..., K)``; broadcasts.
        eps: the guard inside both logarithms, at least 0.

    Returns:
        ``(...)``.  At least 0 for ``eps = 0``; for ``eps > 0`` it can be negative by less than
        ``K * eps``.

    Raises:
        TypeError, ValueError: an argument is no distribution, or ``eps`` is negative.

    Example:
        >>> import torch, ils
        >>> ils.squeeze.kl(torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75]))
        tensor(0.1438)

    Source: Kullback and Leibler (1951); the guard is that of Shliselberg (2019).
    """
    check_distribution("p", p)
    check_distribution("q", q)
    check_not_negative("eps", eps)
    kind = torch.promote_types(p.dtype, q.dtype)
    p, q = p.double(), q.double()
    divergence = (torch.special.xlogy(p, p + eps) - torch.special.xlogy(p, q + eps)).sum(-1)
    return divergence.to(kind)


def jensen_bound(p: Tensor, probs: Tensor, *, n: int = 1, eps: float) -> Tensor:
    r"""The bound by the mean of ``n`` hard draws, ``L_n = E[KL_eps(p || mean of n draws)]``.

    Exact: the count of category ``k`` is binomial, so ``L_n = sum_k p_k [log(p_k + eps) -
    E log(B_k / n + eps)]`` with ``B_k ~ Binomial(n, probs_k)``.  Differentiable in ``probs``.
    ``n = 1`` is the note's bound.

    Args:
        p: the true distribution, ``(..., K)``.
        probs: the model that is drawn from, ``(..., K)``.
        n: number of draws that are averaged, at least 1.
        eps: the guard inside the logarithms; with 0 the bound is infinite.

    Returns:
        ``(...)``, in nats.

    Raises:
        TypeError, ValueError: an argument is no distribution, ``n < 1``, or ``eps`` negative.

    Example:
        >>> import torch, ils
        >>> p = torch.tensor([0.5, 0.5], dtype=torch.float64)
        >>> ils.squeeze.jensen_bound(p, p, n=1, eps=1e-8)
        tensor(8.5172, dtype=torch.float64)

    Source: Shliselberg (2019) for ``n = 1``.  For more draws a sum of Bernstein polynomials of
    ``-log(. + eps)``, whose fall with ``n`` is classical (Temple, 1954); Burda, Grosse and
    Salakhutdinov (2016) have such a ladder for the likelihood.
    """
    check_distribution("p", p)
    check_distribution("probs", probs)
    check_count("n", n)
    check_not_negative("eps", eps)
    kind = torch.promote_types(p.dtype, probs.dtype)
    p, probs = p.double(), probs.double()
    count = torch.arange(n + 1, dtype=probs.dtype, device=probs.device)
    size = torch.tensor(float(n), dtype=probs.dtype, device=probs.device)
    choose = (size + 1).lgamma() - (count + 1).lgamma() - (size - count + 1).lgamma()
    q = probs.unsqueeze(-1)
    mass = torch.exp(
        choose + torch.special.xlogy(count, q) + torch.special.xlog1py(size - count, -q)
    )
    expected_log = torch.special.xlogy(mass, count / n + eps).sum(-1)
    if eps == 0:
        # Also where the probability of a count of zero rounds to zero.
        expected_log = expected_log.masked_fill(probs < 1, -torch.inf)
    # Without a guard the logarithm is -inf; it counts only where p has mass.
    weighted = p * expected_log.masked_fill(p == 0, 0)
    return (torch.special.xlogy(p, p + eps) - weighted).sum(-1).to(kind)


def gap(p: Tensor, probs: Tensor, *, n: int = 1, eps: float) -> Tensor:
    """The gap between the bound and the divergence, ``L_n - KL_eps(p || probs)``.

    Args:
        p: the true distribution, ``(..., K)``.
        probs: the model that is drawn from, ``(..., K)``.
        n: number of draws that are averaged, at least 1.
        eps: the guard inside the logarithms.

    Returns:
        ``(...)``, in nats; at least 0.

    Raises:
        TypeError, ValueError: as :func:`jensen_bound`.

    Example:
        >>> import torch, ils
        >>> p = torch.tensor([0.5, 0.5], dtype=torch.float64)
        >>> gaps = [ils.squeeze.gap(p, p, n=n, eps=0.01).item() for n in (1, 2, 100)]
        >>> [round(gap, 3) for gap in gaps]
        [1.624, 0.812, 0.005]

    Source: the difference of :func:`jensen_bound` and :func:`kl`.
    """
    return jensen_bound(p, probs, n=n, eps=eps) - kl(p, probs, eps=eps)


def transition(target_of: Callable[[Tensor], Tensor], categories: int) -> Tensor:
    r"""The matrix whose row ``i`` is the target after a draw of category ``i``, ``(..., K, K)``.

    Args:
        target_of: maps the draws, the identity matrix ``(K, K)`` in float64, to targets
            ``(..., K, K)``.
        categories: ``K``, at least 1.

    Returns:
        ``T``; a stochastic matrix if the targets lie on the simplex.

    Raises:
        TypeError, ValueError: ``categories`` is no count.

    Example:
        >>> import torch, ils
        >>> grad = torch.tensor([0.0, 1.0], dtype=torch.float64)
        >>> step = lambda z: ils.target.intermediate_target(z, grad.expand_as(z), step_size=1.0)
        >>> ils.squeeze.transition(step, 2)
        tensor([[1.0000, 0.0000],
                [0.5000, 0.5000]], dtype=torch.float64)

    Source: this report, chapter "Fixed points".
    """
    check_count("categories", categories)
    return target_of(torch.eye(categories, dtype=torch.float64))


def stationary(matrix: Tensor) -> Tensor:
    r"""The distribution ``pi`` with ``pi T = pi``: where the expected ILS update is zero.

    Args:
        matrix: ``T``, rows that sum to 1, ``(..., K, K)``, with one recurrent class (else the
            solution is not unique and an error is raised).

    Returns:
        ``(..., K)``.

    Raises:
        ValueError: the matrix is not square, or its rows do not sum to 1.
        torch.linalg.LinAlgError: no unique solution.

    Example:
        >>> import torch, ils
        >>> ils.squeeze.stationary(torch.tensor([[0.5, 0.5], [0.25, 0.75]]))
        tensor([0.3333, 0.6667])

    Source: the stationary distribution of a Markov chain, by its linear equations.
    """
    check_floating("matrix", matrix)
    if matrix.dim() < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise ValueError(f"matrix: expected shape (..., K, K), got {tuple(matrix.shape)}")
    kind = matrix.dtype
    if kind in (torch.float16, torch.bfloat16):
        matrix = matrix.float()
    ones = torch.ones_like(matrix[..., 0])
    sums = matrix.sum(-1)
    tolerance = max(1e-5, matrix.shape[-1] * torch.finfo(kind).eps / 2)
    if not matrix.is_meta and not torch.allclose(sums, ones, atol=tolerance):
        raise ValueError(
            "matrix: expected rows that sum to 1, got sums from "
            f"{sums.min():.6g} to {sums.max():.6g}"
        )
    # pi (T - I) = 0 has rank K - 1; the last equation is replaced by sum(pi) = 1.
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    system = (matrix - identity).transpose(-1, -2).clone()
    system[..., -1, :] = 1
    right = torch.zeros_like(ones)
    right[..., -1] = 1
    return torch.linalg.solve(system, right).to(kind)
