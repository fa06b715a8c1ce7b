r"""Draws as indices, and look-ups in a table by them, without ever building the one-hot vector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ils.autograd import draw_index_of, embed
from ils.checks import (
    check_axis,
    check_draws,
    check_floating,
    check_generator,
    check_index,
    check_logits,
    check_logits_shape,
    check_mask,
    whole,
)
from ils.rules import DEFAULT, Rule, check_rule, refuses_old_options

__all__ = ["embedding", "sample_embedding", "sample_index"]


def sample_index(
    logits: Tensor,
    *,
    dim: int = -1,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
    draws: int | Sequence[int] = (),
) -> Tensor:
    r"""Draw categories of ``Categorical(softmax(logits))``, as integers.

    The same draws as :func:`ils.sample` with the same generator: ``z = one_hot(index)``.  An
    integer carries no gradient; :func:`embedding` attaches it to the rows that are looked up, and
    needs the same ``mask`` and ``dim``: an index does not record the distribution it came from.

    Args:
        logits: ``theta``, floating point, any shape; ``-inf`` masks a category.
        dim: the axis of the categories.
        mask: boolean, broadcasting to ``logits``; true where a category cannot be drawn.
        generator: source of the draw; the default is PyTorch's own.
        draws: shape, or number, of independent draws for each row.

    Returns:
        int64, ``(*draws, ...)``: the shape of ``logits`` without ``dim``.

    Raises:
        TypeError, ValueError: as :func:`ils.sample`.  Where values are not checked (an
            accelerator, ``torch.compile``, ``torch.func``), a row with NaN, +inf or only -inf
            gives the last category.

    Example:
        >>> import torch, ils
        >>> logits = torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0]])
        >>> ils.sample_index(logits)
        tensor([0, 1])

    Source: the inversion method, as in Devroye (1986), chapter III.2.
    """
    check_axis(dim)
    check_generator(generator)
    dim = whole(dim)
    check_logits_shape(logits, dim)
    shape = check_draws(draws)
    with torch.no_grad():
        if mask is not None:
            check_mask(mask, logits)
            logits = logits.masked_fill(mask, -torch.inf)
        last = logits if dim in (-1, logits.dim() - 1) else logits.movedim(dim, -1)
        return draw_index_of(last, generator, shape)


@refuses_old_options
def embedding(
    index: Tensor,
    weight: Tensor,
    logits: Tensor,
    *,
    rule: Rule = DEFAULT,
    dim: int = -1,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Look up rows of a table by drawn indices, with a gradient for the logits of the draw.

    Forward: ``weight[index]``, as ``torch.nn.functional.embedding``.  Backward: that of
    ``ils.sample(logits) @ weight`` after the same draw, that is ``g = weight @ u`` for the
    upstream gradient ``u``.  Neither ``z`` nor ``g`` is saved for the backward pass: beyond the
    arguments themselves, that is one integer a draw.

    Args:
        index: drawn categories, int64, ``(*draws, *batch)``; see :func:`sample_index`.
        weight: the table, floating point, ``(K, D)``.
        logits: ``theta``, floating point, ``(*batch, K)``, which the indices were drawn from.
        rule: as in :func:`ils.sample`; the gradients of several draws are summed.
        dim: the axis of the categories in ``logits``, and of the row in the result.
        mask: that of the draw: boolean, broadcasting to ``logits``; true where a category cannot
            be drawn.
        generator: source of the rule's noise, if it has any.

    Returns:
        ``(*draws, *batch, D)``, with ``D`` along ``dim``, and with gradients for ``weight``
        (unbiased, as the look-up's) and for ``logits`` (*biased*, as :func:`ils.sample`'s).

    Raises:
        TypeError: ``index`` is not int64; ``weight`` or ``logits`` is not floating point;
            ``mask`` is not boolean, ``rule`` not a rule.
        ValueError: shapes do not fit; an index is not a category, or one that is masked; the
            rule's normaliser as in :func:`ils.sample`.
        NotImplementedError: a derivative in forward mode is asked for.
        RuntimeError: a gradient is differentiated again.

    Example:
        >>> import torch, ils
        >>> logits, table = torch.zeros(4, 3, requires_grad=True), torch.randn(3, 8)
        >>> index = ils.sample_index(logits)
        >>> ils.embedding(index, table, logits).sum().backward()
        >>> logits.grad.shape
        torch.Size([4, 3])

    Source: Shliselberg (2019), Algorithm 1, through the chain rule.
    """
    check_axis(dim)
    check_generator(generator)
    dim = whole(dim)
    check_logits_shape(logits, dim)
    check_rule(rule, logits.shape[dim], logits)
    if mask is not None:
        check_mask(mask, logits)
        logits = logits.masked_fill(mask, -torch.inf)
    last = dim in (-1, logits.dim() - 1)
    if not last:
        logits = logits.movedim(dim, -1)
    check_logits(logits)
    check_floating("weight", weight)
    if weight.dim() != 2 or weight.shape[0] != logits.shape[-1]:
        raise ValueError(
            f"weight: expected shape ({logits.shape[-1]}, D), got {tuple(weight.shape)}"
        )
    check_index("index", index, logits)
    rows = embed(index, weight, logits, rule, generator)
    # Counted from the end, as the axes of the draws come first.
    return rows if last else rows.movedim(-1, dim if dim < 0 else dim - logits.dim())


@refuses_old_options
def sample_embedding(
    logits: Tensor,
    weight: Tensor,
    *,
    rule: Rule = DEFAULT,
    dim: int = -1,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
    draws: int | Sequence[int] = (),
) -> tuple[Tensor, Tensor]:
    """Draw rows of a table, with their indices: :func:`sample_index`, and :func:`embedding` of it.

    Args:
        logits: ``theta``, floating point, ``(*batch, K)`` with the categories along ``dim``.
        weight: the table, floating point, ``(K, D)``.
        rule, dim, mask, generator, draws: as in :func:`ils.sample`.

    Returns:
        The rows ``(*draws, *batch, D)``, with ``D`` along ``dim``, which carry gradients for
        ``weight`` (unbiased) and ``logits`` (*biased*), and the int64 categories
        ``(*draws, *batch)``.

    Raises:
        TypeError, ValueError: as :func:`sample_index` and :func:`embedding`.
        NotImplementedError, RuntimeError: as :func:`embedding`.

    Example:
        >>> import torch, ils
        >>> rows, index = ils.sample_embedding(torch.zeros(4, 3), torch.randn(3, 8), draws=2)
        >>> rows.shape, index.shape
        (torch.Size([2, 4, 8]), torch.Size([2, 4]))

    Source: Shliselberg (2019), Algorithm 1, through the chain rule.
    """
    index = sample_index(logits, dim=dim, mask=mask, generator=generator, draws=draws)
    rows = embedding(index, weight, logits, rule=rule, dim=dim, mask=mask, generator=generator)
    return rows, index
