"""Distributions made of others: independent axes as one event, and mixtures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributions import Independent as _Independent
from torch.distributions import MixtureSameFamily as _MixtureSameFamily

from ils.distributions.draws import keep_given, log_law
from ils.operator import sample as draw_one_hot

__all__ = ["Independent", "MixtureSameFamily"]

if TYPE_CHECKING:
    _IndependentOfAny = _Independent[Any]
else:
    _IndependentOfAny = _Independent


class Independent(_IndependentOfAny):
    r"""``torch.distributions.Independent``, which passes a generator to its base distribution.

    ``rsample`` has the gradient of the base distribution, whose draw has the velocity ``v(z)``, see
    :mod:`ils.velocity`,

    .. math::

        \frac{\partial L}{\partial \theta} \leftarrow v(z)^\top g , \qquad
        v(z) = \frac{dz}{d\theta} ,

    *biased* or not as it is there.  Where it is exact for losses quadratic in a draw, it is exact
    here for losses quadratic in each of the independent draws with the others held.

    Args:
        base_distribution: a distribution of :mod:`ils.distributions`.
        reinterpreted_batch_ndims: how many of its last batch axes become axes of the event.
        validate_args: as in ``torch.distributions``.

    Raises:
        TypeError, ValueError: as the parent.

    Example:
        >>> import torch
        >>> from ils.distributions import Independent, Poisson
        >>> q = Independent(Poisson(torch.ones(2, 3, requires_grad=True)), 1)
        >>> q.rsample((5,)).shape, q.log_prob(q.sample()).shape
        (torch.Size([5, 2, 3]), torch.Size([2]))

    Source: this report; draws, and gradients, have the shape ``(...)`` of the base distribution.
    """

    base_dist: Any

    def rsample(
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws ``(*sample_shape, *batch_shape, *event_shape)`` that carry a gradient.

        Args:
            sample_shape: shape of the independent draws.
            generator: source of the draws; the default is PyTorch's own.
        """
        return _drawn(self.base_dist.rsample, torch.Size(sample_shape), generator)

    def sample(
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """The same draws without a gradient."""
        return _drawn(self.base_dist.sample, torch.Size(sample_shape), generator)


class MixtureSameFamily(_MixtureSameFamily):
    r"""``torch.distributions.MixtureSameFamily`` with a reparameterised sample.

    ``rsample`` draws a component ``i`` with the weights ``w``, and a point ``z_k`` of each one; the
    draw is ``z = z_i``.  Its gradient for the parameters of the components is that of their own
    ``rsample``; for the logits of the weights it is that of :func:`ils.sample` for the loss of the
    one-hot draw of the component,

    .. math::

        \frac{\partial L}{\partial\,\mathrm{logits}_k} \leftarrow
        \tfrac12 w_k \langle g, z_k - z_i \rangle \quad (k \ne i) ,

    *biased*, and exact in expectation for losses quadratic in ``z`` with the others, independent
    draws, held.  Where the components are far apart, a gradient at one says nothing about the loss
    at another, and the gradient for the weights is useless: sum over the components, or compare
    values of the loss.

    Args:
        mixture_distribution: ``torch.distributions.Categorical`` or that of this package without a
            table, of batch shape ``(...)`` with ``K`` categories.
        component_distribution: with ``rsample``, of batch shape ``(..., K)``.
        validate_args: as in ``torch.distributions``.

    Raises:
        TypeError, ValueError: as the parent.
        NotImplementedError: ``rsample`` where the components have none.

    Example:
        >>> import torch
        >>> from ils.distributions import Categorical, MixtureSameFamily, Normal
        >>> weights = Categorical(logits=torch.zeros(2, 3, requires_grad=True))
        >>> q = MixtureSameFamily(weights, Normal(torch.zeros(2, 3), torch.ones(2, 3)))
        >>> q.rsample((5,)).shape
        torch.Size([5, 2])

    Source: this report.
    """

    _component_distribution: Any
    _mixture_distribution: Any
    # Whether the components have it.
    has_rsample: Any = False

    def __init__(
        self,
        mixture_distribution: Any,
        component_distribution: Any,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(mixture_distribution, component_distribution, validate_args)
        self.has_rsample = component_distribution.has_rsample

    def expand(self, batch_shape: Any, _instance: Any = None) -> MixtureSameFamily:
        """As the parent's; weights that are probabilities are expanded as such."""
        new: Any = self._get_checked_instance(MixtureSameFamily, _instance)
        super().expand(torch.Size(batch_shape), new)
        keep_given(new._mixture_distribution, self._mixture_distribution)
        new.has_rsample = new._component_distribution.has_rsample
        return new

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density, ``(...)``; components of weight zero are left out."""
        if self._validate_args:
            self._validate_sample(x)
        parts = self._component_distribution.log_prob(self._pad(x))
        weights = log_law(self._mixture_distribution).log_softmax(-1)
        weights = weights.to(self._mixture_distribution._param.dtype)
        joint = torch.where(weights.isneginf(), -torch.inf, parts + weights)
        return joint.logsumexp(-1)

    def rsample(
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws ``(*sample_shape, *batch_shape, *event_shape)`` that carry a gradient.

        Args:
            sample_shape: shape of the independent draws.
            generator: source of the draws; the default is PyTorch's own.
        """
        if not self.has_rsample:
            raise NotImplementedError("rsample: expected components that have it, got others")
        if getattr(self._mixture_distribution, "weight", None) is not None:
            raise TypeError("mixture_distribution: expected a Categorical without a table")
        shape = torch.Size(sample_shape)
        logits = log_law(self._mixture_distribution)
        component = draw_one_hot(logits, generator=generator, draws=tuple(shape))
        component = component.to(self._mixture_distribution._param.dtype)
        points = _drawn(self._component_distribution.rsample, shape, generator)
        component = component.reshape(component.shape + (1,) * self._event_ndims)
        # Not a product: zero times a point at infinity would be NaN.
        chosen = torch.where(component.detach() == 1, points, 0).sum(-1 - self._event_ndims)
        moved = (component - component.detach()) * points.detach().nan_to_num()
        return chosen + moved.sum(-1 - self._event_ndims)

    def sample(
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws of the same law without a gradient."""
        with torch.no_grad():
            if self.has_rsample:
                return self.rsample(sample_shape, generator)
            if generator is not None:
                raise NotImplementedError(
                    "generator: expected None where the components have no rsample, got one"
                )
            return super().sample(torch.Size(sample_shape))


def _drawn(draw: Any, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
    # Components may be PyTorch's own classes, which take no generator.
    return draw(shape) if generator is None else draw(shape, generator=generator)
