"""Antithetic pairs of draws from one uniform number: ARM and DisARM."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ils.draw import uniform
from ils.estimators.estimator import Estimator, documented, unbiased
from ils.estimators.evaluation import Loss, like_draws, value

__all__ = [
    "Uniform",
    "antithetic_pair",
    "arm",
    "as_draws",
    "check_binary",
    "disarm",
    "disarm_categorical",
    "disarm_factor",
    "stick_logits",
]


# Two Gauss-Legendre nodes on [0, 1]: exact for polynomials up to the third degree.
_NODES = (0.5 - 0.5 / 3**0.5, 0.5 + 0.5 / 3**0.5)


def stick_logits(logits: Tensor) -> Tensor:
    r"""Logits of "this category, if none before it": ``theta_k - log sum_{j > k} exp theta_j``.

    Args:
        logits: ``(..., K)``.

    Returns:
        ``(..., K - 1)``; ``-inf`` for a masked category, ``+inf`` where only masked ones follow.
    """
    following = logits.flip(-1).logcumsumexp(-1).flip(-1)[..., 1:]
    first = logits[..., :-1]
    return torch.where(first.isneginf(), first, first - following)


def antithetic_pair(logits: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Binary draws from ``u`` and ``1 - u``: ``(u >= 1 - p, u < p)`` with ``p = sigmoid(logits)``.

    As ``u`` can be 0 but not 1, this choice of ``<`` and ``<=`` keeps draws with ``p`` of 0 or 1
    certain.

    Args:
        logits: ``(..., sticks)``.
        numbers: ``u``, uniform on ``[0, 1)``, broadcasts.
    """
    p = logits.sigmoid()
    return (1 - numbers <= p).to(p), (numbers < p).to(p)


@dataclass(frozen=True)
class Uniform:
    """One number in ``[0, 1)`` for each category but the last, ``(D, *batch, *variables, K - 1)``.

    The support is a quadrature: ``[0, 1)`` is cut where either draw of the pair changes.  Each
    piece has one node, exact for estimates that are constant there, or two, exact for the mean and
    the variance of estimates linear in ``u``.
    """

    linear: bool = False
    joint: bool = False

    def sample(
        self, logits: Tensor, draws: int, generator: torch.Generator | None, batch_dims: int
    ) -> Tensor:
        """Noise for ``draws`` estimates."""
        shape = (draws, *logits.shape[:-1], logits.shape[-1] - 1)
        return uniform(shape, logits, generator)

    def support(self, logits: Tensor, batch_dims: int) -> tuple[Tensor, Tensor]:
        """All noise and its weights."""
        p = stick_logits(logits).sigmoid()
        low, high = torch.minimum(p, 1 - p), torch.maximum(p, 1 - p)
        zero, one = torch.zeros_like(p), torch.ones_like(p)
        pieces = ((zero, low), (low, high), (high, one))
        inner = _NODES if self.linear else (0.5,)
        nodes = torch.stack([a + (b - a) * x for a, b in pieces for x in inner])
        weights = torch.stack([(b - a) / len(inner) for a, b in pieces for _ in inner])
        batch, count = logits.shape[:batch_dims], p.shape[batch_dims:].numel()
        nodes, weights = (x.reshape(len(nodes), *batch, count) for x in (nodes, weights))
        every = torch.arange(len(nodes), device=logits.device)
        index = torch.cartesian_prod(*[every] * count).reshape(-1, count)
        # Number s of every stick, from the nodes of that stick.
        place = index.reshape(-1, *[1] * batch_dims, count).expand(-1, *batch, count)
        chosen = nodes.gather(0, place).reshape(len(place), *p.shape)
        return chosen, weights.gather(0, place).prod(-1)


def check_binary(logits: Tensor) -> None:
    """Refuse variables with another number of categories than two."""
    if logits.shape[-1] != 2:
        raise ValueError(f"logits: expected two categories, got {logits.shape[-1]}")


def as_draws(first: Tensor) -> Tensor:
    """One-hot draws ``(..., 2)`` from indicators ``(..., 1)`` of the first category."""
    return torch.cat([first, 1 - first], -1)


def _arm(logits: Tensor, numbers: Tensor, loss: Loss) -> Tensor:
    check_binary(logits)
    first, second = antithetic_pair(stick_logits(logits), numbers)
    difference = value(loss, as_draws(first), logits) - value(loss, as_draws(second), logits)
    slope = like_draws(difference, numbers) * (numbers - 0.5)
    # A draw that is certain has no gradient; its two draws are alike, its u is not one half.
    slope = slope.masked_fill(stick_logits(logits).isinf(), 0)
    return torch.cat([slope, -slope], -1)


@documented
def arm() -> Estimator:
    r"""ARM: ``[L(1{u >= 1 - p}) - L(1{u < p})] (u - 1/2)`` for the log-odds of binary variables.

    The log-odds are ``theta_1 - theta_2``; the gradient for ``theta_2`` is minus that for
    ``theta_1``.  All variables are drawn together.

    *Approximates* the gradient of ``E[L]`` *with* two dependent draws; *requires* values of the
    loss; **unbiased**.  Two categories only.  Two evaluations an estimate.

    Raises:
        ValueError: at a call, where there are not two categories.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0])) ** 2
        >>> estimator = ils.estimators.arm()
        >>> bool(ils.exact.moments(estimator, loss, torch.zeros(2)).bias.abs().max() < 1e-5)
        True

    Source: Yin and Zhou (2019).
    """
    return unbiased("ARM", Uniform(linear=True), 2, _arm)


def disarm_factor(logits: Tensor, first: Tensor, second: Tensor) -> Tensor:
    r"""``(b - b') sigmoid(|logits|)``: zero where the pair agrees, and with the sign of ``b``."""
    return (first - second) * logits.abs().sigmoid()


def _disarm(logits: Tensor, numbers: Tensor, loss: Loss) -> Tensor:
    check_binary(logits)
    odds = stick_logits(logits)
    first, second = antithetic_pair(odds, numbers)
    difference = value(loss, as_draws(first), logits) - value(loss, as_draws(second), logits)
    slope = like_draws(difference, numbers) * disarm_factor(odds, first, second) / 2
    return torch.cat([slope, -slope], -1)


@documented
def disarm() -> Estimator:
    r"""DisARM / U2G: ``[L(b) - L(b')] (b - b') sigmoid(|alpha|) / 2`` for the log-odds ``alpha``.

    ``b = 1{u >= 1 - p}`` and ``b' = 1{u < p}`` are an antithetic pair; the estimate is the mean of
    ARM given the pair.

    *Approximates* the gradient of ``E[L]`` *with* two dependent draws; *requires* values of the
    loss; **unbiased**.  Two categories only.  Two evaluations an estimate.

    Raises:
        ValueError: at a call, where there are not two categories.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0])) ** 2
        >>> estimator = ils.estimators.disarm()
        >>> bool(ils.exact.moments(estimator, loss, torch.zeros(2)).bias.abs().max() < 1e-5)
        True

    Source: Dong, Mnih and Tucker (2020); Yin et al. (2020).
    """
    return unbiased("DisARM", Uniform(), 2, _disarm)


def _disarm_categorical(logits: Tensor, numbers: Tensor, loss: Loss) -> Tensor:
    phi = stick_logits(logits)
    pair = antithetic_pair(phi, numbers)
    running = [_still_running(bits) for bits in pair]
    draws = [_category(bits, run) for bits, run in zip(pair, running, strict=True)]
    losses = [value(loss, z, logits) for z in draws]
    both = running[0] * running[1]
    p = phi.sigmoid()
    factor = (
        both * disarm_factor(phi, *pair)
        + running[0] * (1 - running[1]) * (pair[0] - p)
        - running[1] * (1 - running[0]) * (pair[1] - p)
    )
    signal = like_draws((losses[0] - losses[1]) / 2, numbers) * factor
    return (signal.unsqueeze(-2) @ _jacobian(logits).to(signal.dtype)).squeeze(-2)


@documented
def disarm_categorical() -> Estimator:
    r"""DisARM-SB: ``[L(z) - L(z')] / 2`` times, for each stick ``k``, a factor ``s_k``.

    A category is drawn by a sequence of binary draws ``b_1, b_2, ...`` with the logits of
    :func:`~ils.estimators.antithetic.stick_logits`: the first that is 1.  The second sequence
    ``b'`` is antithetic.  ``s_k`` is the DisARM factor ``(b_k - b'_k) sigmoid(|phi_k|)`` while both
    sequences still run, ``b_k - sigmoid(phi_k)`` where only the first does, minus the same of
    ``b'`` where only the second does, and 0 after both have ended.  The chain rule takes it from
    ``phi`` to the logits.  With two categories this is DisARM.

    *Approximates* the gradient of ``E[L]`` *with* two dependent draws; *requires* values of the
    loss; **unbiased**.  Two evaluations an estimate.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.disarm_categorical()
        >>> bool(ils.exact.moments(estimator, loss, torch.zeros(3)).bias.abs().max() < 1e-5)
        True

    Source: Dong, Mnih and Tucker (2021), the stick-breaking form, categories in the given order, as
    in the authors' published code.
    """
    return unbiased("DisARM, categorical", Uniform(), 2, _disarm_categorical)


def _still_running(bits: Tensor) -> Tensor:
    """1 up to and including the first 1 of each row."""
    before = bits.cumsum(-1) - bits
    return (before == 0).to(bits)


def _category(bits: Tensor, running: Tensor) -> Tensor:
    """One-hot draws ``(..., K)``: the place of the first 1, or the last category."""
    chosen = bits * running
    return torch.cat([chosen, 1 - chosen.sum(-1, keepdim=True)], -1)


def _jacobian(logits: Tensor) -> Tensor:
    """``d phi_k / d theta_j``, ``(..., K - 1, K)``: 1 at ``j = k``, minus the later's softmax."""
    categories = logits.shape[-1]
    rows = logits.unsqueeze(-2).expand(*logits.shape[:-1], categories - 1, categories)
    later = torch.ones_like(rows, dtype=torch.bool).triu(1)
    weights = rows.masked_fill(~later, -torch.inf).softmax(-1)
    # A stick that cannot break, or after which nothing is left, is not drawn from.
    alive = ~stick_logits(logits).isinf().unsqueeze(-1)
    identity = torch.eye(categories, dtype=logits.dtype, device=logits.device)[:-1]
    return torch.where(alive, identity - weights, torch.zeros_like(rows))
