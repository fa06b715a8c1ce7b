"""The operator as a module, for use within ``torch.nn.Sequential`` and the like."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ils.metric import fisher
from ils.operator import sample
from ils.rule import Rule, check_rule
from ils.simplex import sum_normalize

__all__ = ["Sampler"]


class Sampler(nn.Module):
    r"""Draw one-hot samples that carry a gradient: :func:`ils.sample` with its options fixed.

    It has no parameters and no state, and draws in training and evaluation alike; in evaluation
    a mode, ``logits.argmax``, is the caller's to take.  The gradient is *biased*, see
    :func:`ils.sample`.  A program of ``torch.export`` draws, and carries no gradient.

    Args:
        step_size, metric, normalizer, centred, relative, keep_mass, dim: as in :func:`ils.sample`.

    Shape:
        ``(..., K)`` to ``(*draws, ..., K)``, categories along ``dim``.

    Raises:
        TypeError, ValueError: options as in :func:`ils.sample`.

    Example:
        >>> import torch, ils
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), ils.Sampler())
        >>> model(torch.randn(2, 4)).sum(-1).tolist()
        [1.0, 1.0]

    Source: Shliselberg (2019), Algorithm 1; see :func:`ils.sample`.
    """

    def __init__(
        self,
        *,
        step_size: float | None = None,
        metric: Callable[[Tensor, Tensor], Tensor] = fisher,
        normalizer: Callable[[Tensor], Tensor] = sum_normalize,
        centred: bool = True,
        relative: bool = True,
        keep_mass: bool = False,
        dim: int = -1,
    ) -> None:
        super().__init__()
        rule = Rule(step_size, metric, normalizer, centred, relative, keep_mass)
        check_rule(rule, 2, torch.empty(0))
        self.rule = rule
        self.dim = dim

    def forward(
        self,
        logits: Tensor,
        mask: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        draws: int | Sequence[int] = (),
    ) -> Tensor:
        """Draw; the arguments are those of :func:`ils.sample`."""
        return sample(
            logits,
            **self.rule._asdict(),
            dim=self.dim,
            mask=mask,
            generator=generator,
            draws=draws,
        )

    def extra_repr(self) -> str:
        """The options, as one would write them."""
        options = {**self.rule._asdict(), "dim": self.dim}
        return ", ".join(
            f"{name}={getattr(value, '__name__', value)}" for name, value in options.items()
        )
