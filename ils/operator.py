r"""``ils.sample``: the exact draw forward, the gradient of the intermediate loss backward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

import torch
from torch import Tensor

from ils.autograd import attach, sample_with_rule
from ils.checks import (
    check_axis,
    check_draws,
    check_generator,
    check_logits,
    check_logits_shape,
    check_mask,
    check_one_hot,
    whole,
)
from ils.rules import DEFAULT, Rule, check_rule, refuses_old_options

__all__ = ["differentiable_draw", "sample"]


@overload
def sample(
    logits: Tensor,
    *,
    rule: Rule = ...,
    dim: int = ...,
    mask: Tensor | None = ...,
    generator: torch.Generator | None = ...,
    draws: int | Sequence[int] = ...,
    return_index: Literal[False] = ...,
) -> Tensor: ...
@overload
def sample(
    logits: Tensor,
    *,
    rule: Rule = ...,
    dim: int = ...,
    mask: Tensor | None = ...,
    generator: torch.Generator | None = ...,
    draws: int | Sequence[int] = ...,
    return_index: Literal[True],
) -> tuple[Tensor, Tensor]: ...
@refuses_old_options
def sample(
    logits: Tensor,
    *,
    rule: Rule = DEFAULT,
    dim: int = -1,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
    draws: int | Sequence[int] = (),
    return_index: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Draw one-hot samples of ``Categorical(softmax(logits))`` that carry a gradient.

    Forward: ``z ~ pi = softmax(theta)``, exactly 0 and 1.  Backward, for the incoming gradient
    ``g = dL/dz`` after a draw of category ``i``, the estimate of the rule; by default ReinMax,

    .. math::

        \frac{\partial L}{\partial \theta_k} \leftarrow \tfrac12 \pi_k (g_k - g_i)
        \quad (k \ne i), \qquad
        \frac{\partial L}{\partial \theta_i} \leftarrow -\tfrac12 \sum_k \pi_k (g_k - g_i) .

    Every estimate is *biased*; the default is exact in expectation for losses that are quadratic
    in each of several *independent* variables with the others held.  Where the logits of one draw
    depend on another draw, it is not, even for a linear loss.  Units: those of ``g``, unless the
    rule says otherwise.  A program of ``torch.export`` is the forward pass alone: it draws, and
    carries no gradient.

    Args:
        logits: ``theta``, floating point, any shape.  ``-inf`` masks a category: it is never
            drawn, and its gradient is exactly zero.
        rule: how the gradient at the draw becomes one for the logits: a value of :mod:`ils.rules`.
        dim: the axis of the categories.
        mask: boolean, broadcasting to ``logits``; true where a category cannot be drawn, as if
            its logit were ``-inf``.
        generator: source of the draw, and then of the rule's noise if it has any; the default is
            PyTorch's own, which activation checkpointing restores, as it does no other.
        draws: shape, or number, of independent draws for each row; their gradients are summed.
        return_index: return the drawn categories too.

    Returns:
        One-hot draws of the type of ``logits`` and the shape ``(*draws, *logits.shape)``; with
        ``return_index`` a pair of these and the int64 categories, without the axis ``dim``.

    Raises:
        TypeError: ``logits`` is not a floating-point tensor, ``mask`` not a boolean one, ``rule``
            not a rule, ``draws`` not integers.
        ValueError: ``logits`` has no category, NaN, +inf or a row of -inf; ``mask`` does not
            broadcast; the normaliser of the rule changes the shape or moves a one-hot vector;
            ``draws`` has a negative entry.  Values are checked in eager code on a CPU only;
            elsewhere (an accelerator, ``torch.compile``, ``torch.func``, meta and fake tensors) a
            row with NaN, +inf or only -inf gives NaN.
        NotImplementedError: a derivative in forward mode is asked for.
        RuntimeError: the gradient is differentiated again.

    Example:
        >>> import torch, ils
        >>> logits = torch.zeros(2, 3, requires_grad=True)
        >>> z = ils.sample(logits, generator=torch.Generator().manual_seed(0))
        >>> z.sum(-1)
        tensor([1., 1.], grad_fn=<SumBackward1>)
        >>> (z @ torch.tensor([1.0, 2.0, 3.0])).sum().backward()
        >>> logits.grad.shape
        torch.Size([2, 3])

    Source: Shliselberg (2019), Algorithm 1; the default is Liu et al. (2023), reached from the
    note's construction.
    """
    check_axis(dim)
    check_generator(generator)
    dim = whole(dim)
    check_logits_shape(logits, dim)
    check_rule(rule, logits.shape[dim], logits)
    shape = check_draws(draws)
    if mask is not None:
        check_mask(mask, logits)
        logits = logits.masked_fill(mask, -torch.inf)
    last = dim in (-1, logits.dim() - 1)
    z = sample_with_rule(logits if last else logits.movedim(dim, -1), rule, generator, shape)
    index = z.detach().argmax(-1) if return_index else None
    z = z if last else z.movedim(-1, dim if dim < 0 else dim - logits.dim())
    return z if index is None else (z, index)


@refuses_old_options
def differentiable_draw(
    logits: Tensor,
    z: Tensor,
    *,
    rule: Rule = DEFAULT,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Attach the gradient of :func:`sample` to a given draw.

    Forward: ``z``.  Backward: the *biased* estimate of :func:`sample`.  Random only if the rule
    has noise.

    Args:
        logits: ``theta``, floating point, ``(..., K)``, categories last.
        z: one-hot draws of the shape ``(*draws, *logits.shape)``; the gradients of several draws
            are summed.
        rule: as in :func:`sample`.
        generator: source of the rule's noise, if it has any.

    Returns:
        ``z``, with a gradient for ``logits``.

    Raises:
        TypeError, ValueError: as :func:`sample`, and where ``z`` has another shape or rows that
            are not one-hot, or one-hot at a category that is masked.
        NotImplementedError: a derivative in forward mode is asked for.

    Example:
        >>> import torch, ils
        >>> logits, z = torch.zeros(3, requires_grad=True), torch.tensor([0.0, 1.0, 0.0])
        >>> (ils.differentiable_draw(logits, z) @ torch.tensor([1.0, 2.0, 4.0])).backward()
        >>> (logits.grad * 6).round()
        tensor([-1., -1.,  2.])

    Source: Shliselberg (2019), Algorithm 1.
    """
    check_logits(logits)
    check_one_hot("z", z, logits)
    check_generator(generator)
    check_rule(rule, logits.shape[-1], logits)
    return attach(logits, z, rule, generator)
