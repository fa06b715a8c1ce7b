"""The classes of :mod:`ils.distributions` for Pyro: ``import ils.pyro as dist``.

Needs the package ``pyro-ppl``.  Every name that is not here is that of ``pyro.distributions``.  The
gradients of Pyro's gamma, beta and Dirichlet draws are unbiased and those here are not: in a
program that has such draws, import only the classes that you need.

A count whose log-likelihood has large curvature near zero, as that of a ``Poisson`` whose rate is
the count plus 0.01, trains badly here, and the loss may rise: the gradient is ten times too large
(see the head of ``ils.distributions.counts``).  Use Pyro's own class there, or enumerate.  With a
log-likelihood that is quadratic in the count, as a normal one, the gradient is unbiased.

Each class is a subclass of Pyro's class of its name too, with its arguments and settings.  A draw
carries the gradient of its ``rsample``, and has no score-function part; a value that carries none
(of an enumeration, or drawn without a gradient) has the score-function part of Pyro's own class.
Pyro's ``AutoDiscreteParallel`` accepts Pyro's own classes only, and raises for these
(``NotImplementedError``); it enumerates, so that a model with Pyro's classes loses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro.distributions as _pyro
import torch
from pyro.distributions.score_parts import ScoreParts
from torch import Tensor

from ils import distributions as _ils

__all__ = list(_ils.__all__)  # pyright: ignore[reportUnsupportedDunderAll]

# Looked up once: a program may replace Pyro's classes by these.
_own: dict[str, Any] = {name: getattr(_pyro, name) for name in __all__}
_Base: Any = object


class _Scored(_Base):
    """A distribution of Pyro that scores a value by whether it carries a gradient."""

    def __call__(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """A draw, as Pyro's; one of fixed parameters is marked, as it needs no score either."""
        z: Any = super().__call__(sample_shape)
        if self.has_rsample and not z.requires_grad:
            z._ils_drawn = True
        return z

    def score_parts(self, x: Tensor, *args: Any, **kwargs: Any) -> ScoreParts:
        """The pathwise parts for a draw with a gradient, those of the score for another value."""
        log_prob: Any = super().score_parts(x, *args, **kwargs).log_prob
        fixed = hasattr(x, "_ils_drawn") and not log_prob.requires_grad
        if self.has_rsample and (fixed or self.carries_gradient(x)):
            return ScoreParts(log_prob, 0, log_prob)  # pyright: ignore[reportArgumentType]
        return ScoreParts(log_prob, log_prob, 0)  # pyright: ignore[reportArgumentType]

    def carries_gradient(self, x: Tensor) -> bool:
        return x.requires_grad

    def to_event(self, reinterpreted_batch_ndims: int | None = None) -> Any:
        """As Pyro's, of this module's ``Independent``."""
        made: Any = super().to_event(reinterpreted_batch_ndims)
        if type(made) is _own["Independent"]:
            return _classes["Independent"](made.base_dist, made.reinterpreted_batch_ndims)
        return made

    def mask(self, mask: Any) -> Any:
        """As Pyro's, and scored as these are."""
        return _Masked(self, mask)


class _Masked(_Scored, _pyro.MaskedDistribution):
    """A masked distribution of this module."""

    def score_parts(self, x: Tensor, *args: Any, **kwargs: Any) -> ScoreParts:
        """Those of the base; the score is not masked, because later sites use the value.

        Of a mask of one boolean they are those of the masked density, as Pyro's.
        """
        if isinstance(self._mask, bool):
            return super().score_parts(x, *args, **kwargs)
        return self.base_dist.score_parts(x, *args, **kwargs).scale_and_mask(mask=self._mask)

    def carries_gradient(self, x: Tensor) -> bool:
        return _carries(self.base_dist, x)


class _Independent(_Scored):
    def carries_gradient(self, x: Tensor) -> bool:
        return _carries(self.base_dist, x)


class _Binomial(_Scored):
    def log_prob(self, value: Tensor) -> Tensor:
        """Exact, or with an ``approx_log_prob_tol`` Pyro's approximation."""
        if self.approx_log_prob_tol > 0:
            return _own["Binomial"].log_prob(self, value)
        return super().log_prob(value)

    def _draw(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        """Exact, or beyond ``approx_sample_thresh`` Pyro's approximation of large counts."""
        if bool((self.total_count <= self.approx_sample_thresh).all()):
            return super()._draw(shape, generator)
        if generator is not None:
            raise NotImplementedError(
                "generator: expected None beyond approx_sample_thresh, got one"
            )
        return _own["Binomial"].sample(self, shape[: len(shape) - len(self.batch_shape)])


class _Categorical(_Scored):
    @staticmethod
    def infer_shapes(
        probs: Sequence[int] | None = None,
        logits: Sequence[int] | None = None,
        weight: Sequence[int] | None = None,
    ) -> tuple[torch.Size, torch.Size]:
        """The shapes of a batch and of an event, from those of the arguments."""
        given: Any = probs if logits is None else logits
        event = () if weight is None else weight[-1:]
        return torch.Size(given[:-1]), torch.Size(event)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All categories, marked for Pyro's fast path, or rows, along a new first axis."""
        if self.weight is None:
            return _own["Categorical"].enumerate_support(self, expand)
        return super().enumerate_support(expand)

    def carries_gradient(self, x: Tensor) -> bool:
        if not x.requires_grad or self.weight is None or not self.weight.requires_grad:
            return x.requires_grad
        # Rows of a table that learns carry its gradient, enumerated or drawn.
        if not self.logits.requires_grad:
            return False
        gradients = torch.autograd.grad(x.sum(), self.logits, retain_graph=True, allow_unused=True)
        return gradients[0] is not None


def _carries(base: Any, x: Tensor) -> bool:
    # The base may be one of Pyro's own classes.
    return base.carries_gradient(x) if isinstance(base, _Scored) else x.requires_grad


_SCORED: dict[str, type] = {
    "Binomial": _Binomial,
    "Categorical": _Categorical,
    "Independent": _Independent,
}


def _for_pyro(name: str) -> type:
    bases: Any = (_SCORED.get(name, _Scored), getattr(_ils, name), _own[name])
    text = f"``ils.distributions.{name}`` for Pyro; see there."
    return type(name, bases, {"__doc__": text, "__module__": __name__})


_classes: dict[str, Any] = {name: _for_pyro(name) for name in __all__}
globals().update(_classes)


def __getattr__(name: str) -> Any:
    return getattr(_pyro, name)
