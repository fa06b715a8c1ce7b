"""``Categorical``: a distribution over integers, or over the rows of an embedding table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical as _Categorical
from torch.distributions import constraints

from ils.checks import check_floating
from ils.distributions.draws import check_parameters, given, keep_given, log_law, wide
from ils.lookup import embedding, sample_index
from ils.rules import DEFAULT, Rule, check_rule, refuses_old_options

__all__ = ["Categorical"]


class Categorical(_Categorical):
    r"""``torch.distributions.Categorical``, whose draws can be rows of a table.

    Without a table it is the parent: its draws are integers, and there is no ``rsample``; but the
    density of a category of probability zero is zero, where the parent's is clamped to eps.  With a
    table ``weight`` a draw of category ``i`` is the row ``weight[i]``, and ``rsample`` carries the
    *biased* gradient of :func:`ils.embedding` for the parameters, and the gradient of a look-up
    for the table.  ``log_prob`` takes such rows, or integers; the probabilities of equal rows add
    up.  It looks rows up and so has no derivative for them: where a loss contains its own
    distribution, take ``kl_divergence`` and ``entropy``, which are those of the categories.

    Args:
        probs: event probabilities, ``(..., K)``, or unnormalised weights; either these
        logits: or event log-probabilities, ``(..., K)``, normalised or not.  A category of
            probability zero, or of the logit ``-inf``, is never drawn and has the gradient zero.
        weight: table of rows, ``(K, D)``, shared by the batch; None for integers.
        rule: as in :func:`ils.sample`; None for the default.
        validate_args: as in ``torch.distributions``.

    Raises:
        TypeError, ValueError: as the parent, and ``rule`` as in :func:`ils.sample`; ``weight`` is
            not a floating-point table of ``K`` rows; ``log_prob`` is given what is no row.
        NotImplementedError: ``rsample`` without a table.

    Example:
        >>> import torch
        >>> from ils.distributions import Categorical
        >>> logits = torch.zeros(2, 3, requires_grad=True)
        >>> q = Categorical(logits=logits, weight=torch.eye(3)[:, :2])
        >>> q.rsample((5,)).shape
        torch.Size([5, 2, 2])

    Source: Shliselberg (2019), Algorithm 1; see :func:`ils.sample`.
    """

    # Whether there is a table: integers have no gradient.
    has_rsample: Any = False

    @refuses_old_options
    def __init__(
        self,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
        *,
        weight: Tensor | None = None,
        rule: Rule | None = None,
    ) -> None:
        check_parameters(probs, logits)
        rule = DEFAULT if rule is None else rule
        check_rule(rule, 2, torch.empty(0))
        self._rule = rule
        self.weight = weight
        super().__init__(probs, logits, validate_args)
        if weight is None:
            return
        check_floating("weight", weight)
        if weight.dim() != 2 or len(weight) != self._num_events:
            raise ValueError(
                f"weight: expected shape ({self._num_events}, D), got {tuple(weight.shape)}"
            )
        self._event_shape = weight.shape[1:]
        self.has_rsample = True

    def expand(self, batch_shape: Any, _instance: Any = None) -> Categorical:
        """As the parent's; table and rule are kept."""
        new: Any = self._get_checked_instance(Categorical, _instance)
        new._rule, new.weight = self._rule, self.weight
        super().expand(torch.Size(batch_shape), new)
        keep_given(new, self)
        if self.weight is not None:
            new.has_rsample, new._event_shape = True, self._event_shape
        return new

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        """The categories; of rows, the real vectors, for lack of a constraint for a finite set."""
        if self.weight is None:
            return constraints.integer_interval(0, self._num_events - 1)
        return constraints.real_vector

    @property
    def mean(self) -> Tensor:
        """Mean row, ``(..., D)``; without a table NaN, as the parent's."""
        return super().mean if self.weight is None else self.probs @ self.weight

    @property
    def variance(self) -> Tensor:
        """Variance of each entry of a row, ``(..., D)``; without a table NaN, as the parent's."""
        if self.weight is None:
            return super().variance
        probs, weight = wide(self.probs), wide(self.weight)
        # Relative to the first row, and then to the mean: the variance of equal rows is exactly 0.
        rows = weight - weight[:1].detach()
        moved = rows - (probs @ rows).unsqueeze(-2)
        return (probs.unsqueeze(-1) * moved.square()).sum(-2).to(self.weight.dtype)

    @property
    def mode(self) -> Tensor:
        """The most probable category, or its row."""
        return self._rows(super().mode)

    def _rows(self, index: Tensor) -> Tensor:
        return index if self.weight is None else self.weight[index]

    def rsample(
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """Rows of exact draws, ``(*sample_shape, *batch_shape, D)``, that carry a gradient.

        Args:
            sample_shape: shape of the independent draws.
            generator: source of the draws; the default is PyTorch's own.
        """
        if self.weight is None:
            raise NotImplementedError("rsample: expected a Categorical with a weight, got none")
        logits = log_law(self)
        index = sample_index(logits, generator=generator, draws=tuple(sample_shape))
        return embedding(index, self.weight, logits, rule=self._rule, generator=generator)

    def sample(
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """The same draws without a gradient: rows, or integers where there is no table."""
        with torch.no_grad():
            index = sample_index(log_law(self), generator=generator, draws=tuple(sample_shape))
            return self._rows(index)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of rows ``(..., D)`` of the table, or of integer categories ``(...)``."""
        logits = log_law(self).to(given(self)[0].dtype)
        if self.weight is None or not value.is_floating_point():
            if self._validate_args:
                _Categorical(logits=self.logits, validate_args=False)._validate_sample(value)
            index, logits = torch.broadcast_tensors(value.long().unsqueeze(-1), logits)
            return logits.gather(-1, index[..., :1]).squeeze(-1)
        same = (value.detach().unsqueeze(-2) == self.weight.detach()).all(-1)
        if self._validate_args and not bool(same.any(-1).all()):
            raise ValueError("value: expected rows of the weight, got others")
        return torch.where(same, logits, -torch.inf).logsumexp(-1)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All categories, or rows, along a new first axis."""
        index = torch.arange(self._num_events, device=given(self)[0].device)
        index = index.view((-1,) + (1,) * len(self._batch_shape))
        if expand:
            index = index.expand((-1, *self._batch_shape))
        return self._rows(index)
