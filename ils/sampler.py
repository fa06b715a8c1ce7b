"""The operator as a module, for use within ``torch.nn.Sequential`` and the like."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ils.checks import check_axis, check_draws, check_logits, check_mask
from ils.operator import differentiable_draw, sample
from ils.rules import DEFAULT, Rule, check_rule, refuses_old_options

__all__ = ["Sampler"]


class Sampler(nn.Module):
    r"""Draw one-hot samples that carry a gradient: :func:`ils.sample` with a rule and an axis.

    It has no parameters and no state, and draws in training and evaluation alike, unless
    ``argmax_in_eval`` is set.  The gradient is *biased*, see :func:`ils.sample`.  A program of
    ``torch.export`` is the forward pass alone: it draws, and carries no gradient.

    Args:
        rule: as in :func:`ils.sample`; None for the default.
        dim: the axis of the categories.
        argmax_in_eval: after ``eval()``, return the likeliest category (the first of several),
            one-hot, in place of a draw, and of several draws as many copies; the gradient is that
            of the rule at this point.

    Shape:
        ``(..., K)`` to ``(*draws, ..., K)``, categories along ``dim``.

    Raises:
        TypeError, ValueError: ``rule`` and ``dim`` as in :func:`ils.sample`; ``argmax_in_eval`` is
            no bool.

    Example:
        >>> import torch, ils
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), ils.Sampler())
        >>> model(torch.randn(2, 4)).sum(-1).tolist()
        [1.0, 1.0]

    Source: Shliselberg (2019), Algorithm 1; see :func:`ils.sample`.
    """

    @refuses_old_options
    def __init__(
        self,
        *,
        rule: Rule | None = None,
        dim: int = -1,
        argmax_in_eval: bool = False,
    ) -> None:
        super().__init__()
        rule = DEFAULT if rule is None else rule
        check_rule(rule, 2, torch.empty(0))
        check_axis(dim)
        if not isinstance(argmax_in_eval, bool):
            raise TypeError(f"argmax_in_eval: expected a bool, got {type(argmax_in_eval).__name__}")
        self.rule = rule
        self.dim = dim
        self.argmax_in_eval = argmax_in_eval

    def forward(
        self,
        logits: Tensor,
        mask: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        draws: int | Sequence[int] = (),
    ) -> Tensor:
        """Draw; the arguments are those of :func:`ils.sample`."""
        if not self.training and self.argmax_in_eval:
            return self._likeliest(logits, mask, generator, check_draws(draws))
        return sample(
            logits, rule=self.rule, dim=self.dim, mask=mask, generator=generator, draws=draws
        )

    def _likeliest(
        self,
        logits: Tensor,
        mask: Tensor | None,
        generator: torch.Generator | None,
        draws: tuple[int, ...],
    ) -> Tensor:
        check_logits(logits, self.dim)
        if mask is not None:
            check_mask(mask, logits)
            logits = logits.masked_fill(mask, -torch.inf)
        last = logits.movedim(self.dim, -1)
        top = torch.zeros_like(last).scatter(-1, last.argmax(-1, keepdim=True), 1)
        top = top.detach().expand(*draws, *top.shape)
        z = differentiable_draw(last, top, rule=self.rule, generator=generator)
        return z.movedim(-1, self.dim if self.dim < 0 else self.dim - logits.dim())

    def extra_repr(self) -> str:
        """The options, as one would write them."""
        return f"rule={self.rule!r}, dim={self.dim}, argmax_in_eval={self.argmax_in_eval}"
