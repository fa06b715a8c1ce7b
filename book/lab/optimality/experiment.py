r"""Estimators of one draw as flows, the losses that are worst for them, and chains of draws.

An estimator of one draw that is linear in the derivative and exact for quadratic losses is, for
each entry ``b`` of its estimate, a flow ``f[b, a, c] = -f[b, c, a]`` between categories that takes
``pi_a pi_b`` out of every ``a != b`` and brings it to ``b``.  After a draw of ``a`` the estimate is
``sum_c f[b, a, c] (g_c - g_a) / (2 pi_a)``.  Everything here is a finite sum in float64.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from ils import estimators, exact

__all__ = [
    "CHAINS",
    "EDGE",
    "LastDraw",
    "bound",
    "chain_gradients",
    "corner_slopes",
    "cubic_bias",
    "current",
    "direct_flow",
    "edge_cubic",
    "electrical_flow",
    "estimates",
    "fisher",
    "growth",
    "heavy",
    "lowest_ratio",
    "mean_estimate",
    "noise_ratio",
    "noise_table",
    "optimal_straight_through",
    "second_moment",
    "smooth_step",
    "supplies",
    "worst_bias",
    "worst_found",
    "worst_table",
]

EDGE = 12
"""The error of the trapezium rule on a unit segment is the third derivative over this."""


def fisher(probs: Tensor) -> Tensor:
    """``diag(pi) - pi pi'``, ``(K, K)``."""
    return torch.diag(probs) - torch.outer(probs, probs)


def supplies(probs: Tensor) -> Tensor:
    """What leaves category ``a`` in the flow of entry ``b``, ``[b, a]``: minus Fisher's matrix."""
    return -fisher(probs)


# --- flows ---------------------------------------------------------------------------------------


def direct_flow(probs: Tensor) -> Tensor:
    """Every category sends what it has straight to ``b``; ``(K, K, K)``, the flow of ReinMax."""
    at = torch.eye(len(probs), dtype=probs.dtype)
    # Forwards where c = b, backwards where a = b.
    return torch.outer(probs, probs) * (at[:, None, :] - at[:, :, None])


def current(probs: Tensor, conductance: Tensor) -> Tensor:
    """The electrical current of the supplies through these conductances, ``(K, K, K)``."""
    laplacian = torch.diag(conductance.sum(-1)) - conductance
    # The last category is grounded; voltage[b, a].
    free = torch.linalg.solve(laplacian[:-1, :-1], supplies(probs)[:, :-1].T).T
    voltage = torch.cat([free, torch.zeros_like(free[:, :1])], -1)
    return conductance * (voltage[:, :, None] - voltage[:, None, :])


def electrical_flow(probs: Tensor) -> Tensor:
    """The current with conductances ``pi_a pi_c / (pi_a + pi_c)``: of least second moment."""
    conductance = torch.outer(probs, probs) / (probs[:, None] + probs)
    return current(probs, conductance - torch.diag(conductance.diagonal()))


def estimates(flow: Tensor, probs: Tensor, grads: Tensor) -> Tensor:
    """The estimate after each draw.

    Args:
        flow: ``(K, K, K)``.
        probs: ``(K,)``.
        grads: ``[a, c]``, entry ``c`` of the derivative after a draw of ``a``.

    Returns:
        ``[a, b]``, entry ``b`` of the estimate after a draw of ``a``.
    """
    rise = grads - grads.diagonal()[:, None]
    return torch.einsum("bac,ac->ab", flow, rise) / (2 * probs[:, None])


def mean_estimate(flow: Tensor, probs: Tensor, grads: Tensor) -> Tensor:
    """The mean of :func:`estimates` over draws, ``(K,)``."""
    return probs @ estimates(flow, probs, grads)


def worst_bias(flow: Tensor) -> Tensor:
    """The largest bias of each entry over losses with ``M = 1``, ``(K,)``."""
    return flow.abs().sum((-1, -2)) / (2 * EDGE)


def bound(probs: Tensor) -> Tensor:
    """``pi_k (1 - pi_k) / 12``: no estimator that sees derivatives at draws does better."""
    return probs * (1 - probs) / EDGE


def second_moment(flow: Tensor, probs: Tensor) -> Tensor:
    """The mean square of the estimate for a derivative with covariance ``I`` and mean zero."""
    weights = 1 / (4 * probs)
    return (weights * ((flow**2).sum(-1) + flow.sum(-1) ** 2)).sum()


def noise_ratio(probs: Tensor) -> float:
    """Second moment of the electrical flow over that of the direct one."""
    least, direct = electrical_flow(probs), direct_flow(probs)
    return float(second_moment(least, probs) / second_moment(direct, probs))


def lowest_ratio(categories: int) -> float:
    """What :func:`noise_ratio` tends to where one category has nearly all mass, the rest alike."""
    return 3 * (categories + 2) / (4 * (categories + 1))


def optimal_straight_through(probs: Tensor, tau: float) -> Tensor:
    """The estimator of Hooper and Shekhovtsov (2026) as matrices: ``[a, b, c]`` acts on ``g_c``."""
    count = len(probs)
    pair = 1 + tau * (probs[:, None] + probs)
    own = 1 + 2 * tau * probs
    matrix = -tau * torch.outer(probs, probs) / pair
    diagonal = (1 + tau * probs) * (probs / pair).sum(-1) - tau * probs**2 / own
    matrix = matrix - torch.diag(matrix.diagonal()) + torch.diag(diagonal)
    right = ((1 + tau * probs) / own)[:, None] * fisher(probs)
    v = torch.linalg.lstsq(matrix, right, driver="gelsd").solution
    found = torch.zeros(count, count, count, dtype=probs.dtype)
    for draw in range(count):
        rows = (1 + tau * probs)[:, None] * v - tau * probs[:, None] * v[draw]
        rows[draw] += tau * fisher(probs)[draw]
        found[draw] = (rows / pair[:, draw, None]).T
    return found


# --- losses --------------------------------------------------------------------------------------


def smooth_step(category: int, bound_on_third: float = 1.0) -> exact.Loss:
    """``(M / 12) x_k^2 (3 - 2 x_k)``: slope zero at every corner, third derivative ``M``."""

    def loss(z: Tensor) -> Tensor:
        x = z[..., category]
        return bound_on_third / EDGE * x**2 * (3 - 2 * x)

    return loss


def edge_cubic(third: Tensor, quadratic: Tensor, linear: Tensor) -> exact.Loss:
    """A cubic loss of one variable with a chosen third derivative on every edge.

    Args:
        third: antisymmetric, ``[i, j]`` on the way from category ``i`` to ``j``.
        quadratic: ``(K, K)``; adds no third derivative.
        linear: ``(K,)``.
    """

    def loss(z: Tensor) -> Tensor:
        # On the edge from i to j, x_i x_j (x_i - x_j) is t (1 - t) (1 - 2 t).
        pairs = torch.einsum("...i,...j,ij->...", z**2, z, third) / EDGE
        return pairs + torch.einsum("...i,...j,ij->...", z, z, quadratic) + z @ linear

    return loss


def _antisymmetric(count: int, values: Tensor) -> Tensor:
    """A matrix from the entries above its diagonal."""
    matrix = torch.zeros(count, count, dtype=values.dtype)
    matrix[tuple(torch.triu_indices(count, count, 1))] = values
    return matrix - matrix.T


def corner_slopes(loss: exact.Loss, categories: int) -> Tensor:
    """The derivative at every corner, ``[a, c]``."""
    corners = torch.eye(categories, dtype=torch.float64).requires_grad_()
    (slopes,) = torch.autograd.grad(loss(corners).sum(), corners)
    return slopes


def cubic_bias(probs: Tensor, losses: int, seed: int) -> Tensor:
    """Bias of ReinMax on random cubics with third derivatives of size one, ``(losses, K)``."""
    generator = torch.Generator().manual_seed(seed)
    count, found = len(probs), []
    for _ in range(losses):
        size = count * (count - 1) // 2
        signs = torch.randint(0, 2, (size,), generator=generator).double() * 2 - 1
        quadratic = torch.randn(count, count, generator=generator, dtype=torch.float64)
        linear = torch.randn(count, generator=generator, dtype=torch.float64)
        loss = edge_cubic(_antisymmetric(count, signs), quadratic, linear)
        found.append(exact.moments(estimators.reinmax(), loss, probs.log()).bias)
    return torch.stack(found)


def worst_found(flow: Tensor, probs: Tensor, entry: int = 0) -> float:
    """The bias of an entry on the cubic loss that is worst for its flow, by enumeration."""
    count = len(probs)
    nothing = torch.zeros(count, dtype=probs.dtype)
    loss = edge_cubic(flow[entry].sign(), torch.outer(nothing, nothing), nothing)
    mean = mean_estimate(flow, probs, corner_slopes(loss, count))
    return float((mean - exact.gradient(loss, probs.log()))[entry].abs())


# --- tables of the figures -----------------------------------------------------------------------


def heavy(categories: int, mass: float) -> Tensor:
    """One category with this mass, the others alike."""
    rest = (1 - mass) / (categories - 1)
    return torch.tensor([mass] + [rest] * (categories - 1), dtype=torch.float64)


def worst_table(categories: int = 4, points: int = 19, losses: int = 12) -> pd.DataFrame:
    """Bias of one entry against its probability: what is found, and the bound, for ``M = 1``.

    The rest of the mass lies on the other categories as the squares 1, 4, 9 and so on.

    Returns:
        Columns ``probability``, ``what``, ``bias``.
    """
    rows = []
    for place in range(1, points + 1):
        mass = place / (points + 1)
        others = torch.arange(1, categories, dtype=torch.float64) ** 2
        probs = torch.cat(
            [torch.tensor([mass], dtype=torch.float64), (1 - mass) * others / others.sum()]
        )
        rows.append((mass, "lower bound", float(bound(probs)[0])))
        step = exact.moments(estimators.reinmax(), smooth_step(0), probs.log()).bias
        rows.append((mass, "ReinMax, worst loss", float(step[0].abs())))
        rows.append(
            (mass, "electrical flow, worst loss", worst_found(electrical_flow(probs), probs))
        )
        for value in cubic_bias(probs, losses, place)[:, 0].abs().tolist():
            rows.append((mass, "ReinMax, random cubic losses", value))
    return pd.DataFrame(rows, columns=["probability", "what", "bias"])


def noise_table(sizes: tuple[int, ...] = (3, 10, 100), points: int = 40) -> pd.DataFrame:
    """Ratio of second moments where one category has a given mass and the others are alike.

    Returns:
        Columns ``categories``, ``rest`` (the mass of the others together), ``ratio``.
    """
    rows = []
    for count in sizes:
        # Up to the uniform distribution.
        last = math.log10(1 - 1 / count)
        for rest in torch.logspace(-4, last, points, dtype=torch.float64).tolist():
            rows.append((count, rest, noise_ratio(heavy(count, 1 - rest))))
    return pd.DataFrame(rows, columns=["categories", "rest", "ratio"])


# --- chains of draws -----------------------------------------------------------------------------

Link = Callable[[Tensor, Tensor], Tensor]


def _logits(z: Tensor, table: Tensor) -> Tensor:
    """A row of logits for each category, mixed by ``z`` before the softmax."""
    return torch.einsum("bk,bkj->bj", z, table)


def _probabilities(z: Tensor, table: Tensor) -> Tensor:
    """The same distribution at every draw; but the probabilities are mixed, not the logits."""
    return torch.einsum("bk,bkj->bj", z, table.softmax(-1)).log()


CHAINS: dict[str, Link] = {"logits": _logits, "probabilities": _probabilities}
"""How the logits of a draw come from the draw before it, out of a table with a row for each."""


def _reinmax(logits: Tensor, z: Tensor, grad: Tensor) -> Tensor:
    probs = logits.softmax(-1)
    own, mean = (z * grad).sum(-1, keepdim=True), (probs * grad).sum(-1, keepdim=True)
    return (probs * (grad - own) + z * (own - mean)) / 2


def _paths(length: int, batch: int, categories: int) -> Iterator[list[Tensor]]:
    eye = torch.eye(categories, dtype=torch.float64)
    for path in itertools.product(range(categories), repeat=length):
        yield [eye[k].expand(batch, -1) for k in path]


@dataclass(frozen=True)
class LastDraw:
    """The loss ``<weights, z>`` of the last draw ``z`` of a chain; ``weights`` is ``(B, K)``."""

    weights: Tensor

    def __call__(self, draws: list[Tensor]) -> Tensor:
        return (self.weights * draws[-1]).sum(-1)


def chain_gradients(
    first: Tensor, tables: list[Tensor], loss: Callable[[list[Tensor]], Tensor], link: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Exact gradient for the first logits; mean and variance of ReinMax through a chain of draws.

    Args:
        first: logits of the first draw, ``(B, K)``.
        tables: for each later draw ``(B, K, K)``, a row for each category of the draw before.
        loss: maps the list of draws, each ``(B, K)``, to ``(B,)``.
        link: a key of ``CHAINS``.

    Returns:
        Gradient and mean, ``(B, K)``, and the trace of the covariance, ``(B,)``.
    """
    batch, count = first.shape
    leaf = first.detach().clone().requires_grad_()
    total, mean = torch.zeros(batch, dtype=first.dtype), torch.zeros_like(first)
    square = torch.zeros(batch, dtype=first.dtype)
    for path in _paths(len(tables) + 1, batch, count):
        draws = [z.clone().requires_grad_() for z in path]
        logits = [leaf]
        logits += [CHAINS[link](z, table) for z, table in zip(draws, tables, strict=False)]
        value = loss(draws)
        chance = torch.ones(batch, dtype=first.dtype)
        for row, z in zip(logits, draws, strict=True):
            chance = chance * (row.softmax(-1) * z.detach()).sum(-1)
        total = total + chance * value.detach()
        slopes = list(torch.autograd.grad(value.sum(), draws, allow_unused=True))
        slopes = [torch.zeros_like(first) if s is None else s for s in slopes]
        hand = torch.zeros_like(first)
        for place in reversed(range(len(draws))):
            hand = _reinmax(logits[place].detach(), draws[place].detach(), slopes[place])
            if place:
                (back,) = torch.autograd.grad(
                    logits[place], draws[place - 1], hand, retain_graph=True
                )
                slopes[place - 1] = slopes[place - 1] + back
        mean = mean + chance.detach()[:, None] * hand
        square = square + chance.detach() * (hand**2).sum(-1)
    (truth,) = torch.autograd.grad(total.sum(), leaf)
    return truth, mean, square - (mean**2).sum(-1)


def growth(
    lengths: tuple[int, ...] = (1, 2, 3, 4),
    categories: int = 3,
    instances: int = 200,
    seed: int = 1,
    scale: float = 1.5,
    links: tuple[str, ...] = tuple(CHAINS),
) -> pd.DataFrame:
    """Relative bias for the first logits of chains with a loss that is linear in the last draw.

    Args:
        lengths: numbers of draws.
        categories: of every draw.
        instances: random chains of each length.
        seed: of all of them.
        scale: standard deviation of the entries of the tables; the first logits have one half.
        links: keys of ``CHAINS``.

    Returns:
        Columns ``draws``, ``link``, ``median``, ``low``, ``high`` (the quartiles) of
        ``|bias| / |gradient|``, and the medians of ``cosine`` and of ``noise``, the standard
        deviation over ``|gradient|``.
    """
    generator = torch.Generator().manual_seed(seed)
    shape, rows = (instances, categories), []

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64)

    for length in lengths:
        first, weights = normal(*shape) / 2, normal(*shape)
        tables = [scale * normal(*shape, categories) for _ in range(length - 1)]
        for link in links:
            truth, mean, variance = chain_gradients(first, tables, LastDraw(weights), link)
            size = truth.norm(dim=-1)
            relative, noise = (mean - truth).norm(dim=-1) / size, (variance.sqrt() / size).median()
            # Rounding is no bias, and differs between processors.
            relative = relative.where(relative > 1e-9, 0)
            cosine = torch.cosine_similarity(mean, truth, dim=-1).median()
            quarters = relative.quantile(torch.tensor([0.5, 0.25, 0.75], dtype=torch.float64))
            rows.append((length, link, *quarters.tolist(), float(cosine), float(noise)))
    columns = ["draws", "link", "median", "low", "high", "cosine", "noise"]
    return pd.DataFrame(rows, columns=columns)
