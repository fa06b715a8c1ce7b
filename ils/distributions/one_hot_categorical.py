"""``OneHotCategorical`` of ``torch.distributions``, with :func:`ils.sample` as ``rsample``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import OneHotCategorical as _OneHotCategorical

from ils.distributions.draws import check_parameters, keep_given, log_law
from ils.operator import sample
from ils.rules import DEFAULT, Rule, check_rule, refuses_old_options

__all__ = ["OneHotCategorical"]


class OneHotCategorical(_OneHotCategorical):
    r"""``torch.distributions.OneHotCategorical`` with a reparameterised sample.

    ``rsample`` draws exactly, as ``sample`` does, and carries the *biased* gradient of
    :func:`ils.sample` for the parameters: ``[pi_k (g_k - g_i) + z_k (g_i - <pi, g>)] / 2`` for the
    logit ``k`` after a draw of ``i``.  ``log_prob(z)`` is the inner product of ``z`` and the
    log-probabilities, and so has a derivative for ``z``, where the parent looks the category up
    and has none.  The rest (``entropy``, ``kl_divergence``, the constraints) is the parent's.

    Args:
        probs: event probabilities, ``(..., K)``, or unnormalised weights; either these
        logits: or event log-probabilities, ``(..., K)``, normalised or not.  A category of
            probability zero, or of the logit ``-inf``, is never drawn and has the gradient zero.
        rule: as in :func:`ils.sample`; None for the default.
        validate_args: as in ``torch.distributions``.

    Raises:
        TypeError, ValueError: as the parent, and ``rule`` as in :func:`ils.sample`.

    Example:
        >>> import torch
        >>> from ils.distributions import OneHotCategorical
        >>> q = OneHotCategorical(logits=torch.zeros(2, 3, requires_grad=True))
        >>> q.rsample((5,)).shape
        torch.Size([5, 2, 3])

    Source: Shliselberg (2019), Algorithm 1; see :func:`ils.sample`.
    """

    has_rsample = True

    @refuses_old_options
    def __init__(
        self,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
        *,
        rule: Rule | None = None,
    ) -> None:
        check_parameters(probs, logits)
        rule = DEFAULT if rule is None else rule
        check_rule(rule, 2, torch.empty(0))
        self._rule = rule
        super().__init__(probs, logits, validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> OneHotCategorical:
        """As the parent's; the rule is kept."""
        new: Any = self._get_checked_instance(OneHotCategorical, _instance)
        new._rule = self._rule
        super().expand(torch.Size(batch_shape), new)
        keep_given(new._categorical, self._categorical)
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """``sum_k z_k log pi_k``, ``(...)``; ``-inf`` for a category that cannot be drawn."""
        if self._validate_args:
            self._validate_sample(value)
        # Zero times -inf would be NaN: masked logits enter only where their category is drawn.
        logits = log_law(self._categorical).to(self._param.dtype)
        masked = logits.isneginf()
        log_prob = (value * logits.masked_fill(masked, 0)).sum(-1)
        return log_prob.masked_fill((masked & (value != 0)).any(-1), -torch.inf)

    def rsample(
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """Exact draws ``(*sample_shape, *batch_shape, K)`` that carry a gradient.

        Args:
            sample_shape: shape of the independent draws.
            generator: source of the draws; the default is PyTorch's own.
        """
        logits = log_law(self._categorical)
        z = sample(logits, rule=self._rule, generator=generator, draws=tuple(sample_shape))
        return z.to(self._param.dtype)

    def sample(
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """The same draws without a gradient."""
        # detach() also drops forward-mode tangents, which no_grad keeps.
        logits = log_law(self._categorical).detach()
        z = sample(logits, generator=generator, draws=tuple(sample_shape))
        return z.to(self._param.dtype)
