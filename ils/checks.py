"""Checks of the arguments of public functions, with their error messages.

A message names the argument, what was expected and what was given.  Checks of values are skipped
where there are no values: while a program is being compiled, traced or transformed (``vmap``,
``grad``), and for meta and fake tensors.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from ils.execution import holds_values


def refuse_forward_mode(*tensors: Tensor) -> None:
    """Refuse forward-mode tangents, which a draw would drop silently; for eager code only."""
    for tensor in tensors:
        if unpack_dual(tensor).tangent is not None:
            raise NotImplementedError(
                "ils: expected backward mode; the gradient of a draw is an estimate that forward "
                "mode does not have (take detach() of the tensors for a draw alone)"
            )


def check_logits(logits: Tensor, dim: int = -1) -> None:
    """Refuse what is not a batch of logits with at least one category that can be drawn."""
    check_logits_shape(logits, dim)
    if not holds_values(logits) or logits.numel() == 0:
        return
    check_logits_values(logits, dim)


def check_logits_shape(logits: Tensor, dim: int = -1) -> None:
    """Refuse what is not a floating-point tensor with a category along an axis it has."""
    check_floating("logits", logits)
    axes = logits.dim()
    if axes == 0:
        raise ValueError("logits: expected at least one dimension (the categories), got a scalar")
    if not -axes <= dim < axes:
        raise ValueError(f"dim: expected an axis of a {axes}-d tensor, got {dim}")
    if logits.size(dim) == 0:
        raise ValueError(
            f"logits: expected at least one category along dim {dim}, got shape "
            f"{tuple(logits.shape)}"
        )


def check_logits_values(logits: Tensor, dim: int = -1) -> None:
    """Refuse NaN, +inf and rows of -inf."""
    # One pass decides all: the maximum of a row is NaN if any entry is, +inf if any entry is,
    # and -inf if all entries are.
    top = logits.detach().amax(dim)
    if not bool(torch.isfinite(top).all()):
        if bool(top.isnan().any()):
            raise ValueError(f"logits: expected numbers or -inf, got NaN{_rows(top.isnan())}")
        if bool(top.isposinf().any()):
            raise ValueError(f"logits: expected numbers or -inf, got +inf{_rows(top.isposinf())}")
        raise ValueError(
            "logits: expected a category to draw in every row, got a row of -inf or masked "
            f"throughout{_rows(top.isneginf())}; a mask is true where a category cannot be drawn, "
            "and for padded positions leave it out and drop their loss"
        )


def _rows(bad: Tensor) -> str:
    """How many rows, and the first of them; nothing for a single row."""
    first = tuple(bad.nonzero()[0].tolist())
    return f" ({int(bad.sum())} of {bad.numel()} rows, the first {first})" if bad.dim() else ""


def check_mask(mask: Tensor, logits: Tensor) -> None:
    """Refuse a mask that is not boolean or does not broadcast to the logits."""
    if not isinstance(mask, Tensor):
        raise TypeError(f"mask: expected a torch.Tensor, got {type(mask).__name__}")
    if mask.dtype != torch.bool:
        raise TypeError(
            f"mask: expected a boolean tensor, true where a category cannot be drawn, got "
            f"{mask.dtype}; where 1 means that it can, mask == 0"
        )
    shape, wanted = tuple(mask.shape), tuple(logits.shape)
    tail = wanted[len(wanted) - len(shape) :]
    if len(shape) > len(wanted) or any(
        size not in (1, full) for size, full in zip(shape, tail, strict=True)
    ):
        raise ValueError(f"mask: expected a shape that broadcasts to {wanted}, got {shape}")


def check_draws(draws: int | Sequence[int]) -> tuple[int, ...]:
    """The shape of the draws as a tuple; refuse what is not a count or a shape."""
    if isinstance(draws, tuple) and not draws:
        return ()
    given: Any = draws
    if isinstance(given, Integral) or not isinstance(given, Sequence):
        given = (given,)
    try:
        shape = tuple(whole(size) for size in given)
    except TypeError:
        raise TypeError(
            f"draws: expected an integer or a sequence of them, got {draws!r}"
        ) from None
    if any(size < 0 for size in shape):
        raise ValueError(f"draws: expected sizes of at least 0, got {shape}")
    return shape


def whole(value: Any) -> int:
    """A Python int from any integer, such as NumPy's or that of a zero-dimensional array."""
    if type(value) is int:
        return value
    if isinstance(value, bool):
        raise TypeError("expected an integer, got bool")
    return operator.index(value)


def check_axis(dim: int) -> None:
    """Refuse what is not an integer."""
    try:
        whole(dim)
    except TypeError:
        raise TypeError(f"dim: expected an integer, got {dim!r}") from None


def check_generator(generator: torch.Generator | None) -> None:
    """Refuse what is neither a generator nor None, such as a seed."""
    if generator is not None and not isinstance(generator, torch.Generator):
        got = type(generator).__name__
        raise TypeError(
            f"generator: expected a torch.Generator or None, got {got}; for a seed, "
            "torch.Generator().manual_seed(seed)"
        )


def check_floating(name: str, value: Tensor) -> None:
    """Refuse what is not a floating-point tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(
            f"{name}: expected a floating-point tensor, got {value.dtype}; {name}.float()"
        )


def check_same_shape(name: str, value: Tensor, expected: Tensor) -> None:
    """Refuse a tensor whose shape is not that of another."""
    if value.shape != expected.shape:
        raise ValueError(
            f"{name}: expected shape {tuple(expected.shape)}, got {tuple(value.shape)}"
        )


def check_one_hot(name: str, value: Tensor, logits: Tensor) -> None:
    """Refuse what is not one-hot rows of the shape of the logits, or a stack of such."""
    check_floating(name, value)
    shape, wanted = tuple(value.shape), tuple(logits.shape)
    if shape[max(len(shape) - len(wanted), 0) :] != wanted:
        raise ValueError(f"{name}: expected shape (*draws, *{wanted}), got {shape}")
    if holds_values(value) and value.numel() > 0:
        plain = value.detach()
        zero_or_one = bool(((plain == 0) | (plain == 1)).all())
        if not (zero_or_one and bool((plain.count_nonzero(-1) == 1).all())):
            raise ValueError(f"{name}: expected one-hot rows along the last axis, got others")
        _check_drawable(name, plain.argmax(-1, keepdim=True), logits)


def check_index(name: str, value: Tensor, logits: Tensor) -> None:
    """Refuse what is not a category for each row of the logits, or a stack of such."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")
    if value.dtype != torch.int64:
        raise TypeError(f"{name}: expected int64, got {value.dtype}")
    shape, wanted = tuple(value.shape), tuple(logits.shape[:-1])
    if shape[max(len(shape) - len(wanted), 0) :] != wanted:
        raise ValueError(f"{name}: expected shape (*draws, *{wanted}), got {shape}")
    if holds_values(value) and value.numel() > 0:
        low, high = (int(end) for end in value.aminmax())
        if low < 0 or high >= logits.shape[-1]:
            raise ValueError(
                f"{name}: expected categories from 0 to {logits.shape[-1] - 1}, got {low} to {high}"
            )
        _check_drawable(name, value.unsqueeze(-1), logits)


def _check_drawable(name: str, at: Tensor, logits: Tensor) -> None:
    """Refuse categories ``(*draws, ..., 1)`` whose logit is -inf."""
    if not holds_values(logits):
        return
    drawn = logits.detach().expand(*at.shape[:-1], logits.shape[-1]).gather(-1, at)
    if float(drawn.amin()) == -math.inf:
        raise ValueError(f"{name}: expected categories that can be drawn, got one that is masked")


def check_positive(name: str, value: float) -> None:
    """Refuse what is not a positive finite real number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected a real number, got {type(value).__name__}")
    if not 0 < value < math.inf:
        raise ValueError(f"{name}: expected a positive finite number, got {value}")


def check_not_negative(name: str, value: float) -> None:
    """Refuse what is not zero or a positive finite real number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected a real number, got {type(value).__name__}")
    if not 0 <= value < math.inf:
        raise ValueError(f"{name}: expected zero or a positive finite number, got {value}")


def check_count(name: str, value: int) -> None:
    """Refuse what is not an integer of at least one."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")


def check_distribution(name: str, probs: Tensor) -> None:
    """Refuse what is not a batch of distributions along the last axis."""
    check_floating(name, probs)
    if probs.dim() == 0 or probs.shape[-1] == 0:
        raise ValueError(
            f"{name}: expected at least one category along the last axis, got shape "
            f"{tuple(probs.shape)}"
        )
    if not holds_values(probs):
        return
    tolerance = probs.shape[-1] * 8 * torch.finfo(probs.dtype).eps
    sums = probs.detach().sum(-1)
    # Written so that NaN is refused too: every comparison with NaN is false.
    if not bool((probs.detach() >= 0).all() & ((sums - 1).abs() <= tolerance).all()):
        raise ValueError(
            f"{name}: expected entries of at least 0 that sum to 1 along the last axis, got "
            f"a smallest entry of {probs.detach().min():.3g} and sums from {sums.min():.6g} to "
            f"{sums.max():.6g}"
        )


def check_fraction(name: str, value: float) -> None:
    """Refuse what is not a real number in ``[0, 1)``."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected a real number, got {type(value).__name__}")
    if not 0 <= value < 1:
        raise ValueError(f"{name}: expected a number in [0, 1), got {value}")
