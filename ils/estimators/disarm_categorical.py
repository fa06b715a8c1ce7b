"""DisARM for categorical variables, by breaking a stick."""

from __future__ import annotations

import torch
from torch import Tensor

from ils.estimators.disarm import disarm_factor
from ils.estimators.estimator import Estimator, Formula
from ils.estimators.evaluation import Loss, like_draws, value
from ils.estimators.uniform import Uniform, antithetic_pair, stick_logits

__all__ = ["disarm_categorical"]


def _formula(logits: Tensor, numbers: Tensor, loss: Loss) -> Tensor:
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


def disarm_categorical() -> Estimator:
    r"""DisARM-SB: ``[L(z) - L(z')] / 2`` times, for each stick ``k``, a factor ``s_k``.

    A category is drawn by a sequence of binary draws ``b_1, b_2, ...`` with the logits of
    :func:`ils.estimators.uniform.stick_logits`: the first that is 1.  The second sequence ``b'`` is
    antithetic.  ``s_k`` is the DisARM factor ``(b_k - b'_k) sigmoid(|phi_k|)`` while both sequences
    still run, ``b_k - sigmoid(phi_k)`` where only the first does, minus the same of ``b'`` where
    only the second does, and 0 after both have ended.  The chain rule takes it from ``phi``
    to the logits.  With two categories this is DisARM.

    *Approximates* the gradient of ``E[L]`` *with* two dependent draws; *requires* values of the
    loss; **unbiased**.  Two evaluations an estimate.

    Returns:
        An :class:`Estimator`: ``(D, *logits.shape)`` for logits ``(*batch, *variables, K)``.

    Raises:
        TypeError, ValueError: at a call, as :class:`Estimator`.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> estimator = ils.estimators.disarm_categorical()
        >>> bool(ils.exact.moments(estimator, loss, torch.zeros(3)).bias.abs().max() < 1e-5)
        True

    Source: Dong, Mnih and Tucker (2021), the stick-breaking form, categories in the given order, as
    in the authors' published code.
    """

    return Estimator(
        name="DisARM, categorical",
        formula=Formula(_formula),
        randomness=Uniform(),
        evaluations=2,
        biased=False,
        differentiates=False,
    )


def _still_running(bits: Tensor) -> Tensor:
    """1 up to and with the first 1 of each row."""
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
