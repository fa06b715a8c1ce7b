r"""Intermediate Loss Sampling: differentiate through a categorical draw.

A draw from ``Categorical(softmax(logits))`` has no derivative.  Intermediate Loss Sampling
(Shliselberg 2019) draws an exact one-hot sample forward; backward it moves the sample one
gradient step, maps it back to the simplex as a target ``pi_D``, and returns the gradient of
``KL(pi_D || pi)``::

    z = ils.sample(logits)      # in place of F.gumbel_softmax(logits, hard=True)
    loss(z).backward()

The tour:

- :func:`ils.sample` draws and carries the gradient; :class:`ils.Sampler` is its module,
  :class:`ils.distributions.OneHotCategorical` its distribution; :func:`ils.differentiable_draw`
  attaches the gradient to a given draw.
- :func:`ils.sample_index` draws integers, and :func:`ils.embedding` looks rows up by them with
  the same gradient; :func:`ils.sample_embedding` does both.
- :mod:`ils.rules` holds the rules by which the gradient at a draw becomes one for the logits:
  ReinMax (the default), straight-through, a relative step, the note's Algorithm 1, and others.
- :mod:`ils.distributions` holds other distributions with such draws (Poisson, binomial, mixtures),
  :mod:`ils.velocity` their formulas, and :mod:`ils.intermediate` the rule for any distribution.
- :data:`ils.sum_normalize`, :data:`ils.sum_normalize_unclamped` and :data:`ils.project_simplex`
  map the stepped sample back to the simplex (:mod:`ils.simplex`).
- :mod:`ils.metric` holds the metrics of the step, :mod:`ils.target` the formulas, of a given draw.
- :mod:`ils.estimators` holds other estimators, :mod:`ils.exact` their exact bias and variance;
  :func:`ils.surrogate` trains a model with any of them, decoder and all, by one ``backward``.
- :mod:`ils.squeeze` holds the note's bound, its ladder of ``n`` draws, and fixed points.

``import ils`` needs PyTorch alone.  The experiments of the report, their records and figures lie in
``book/lab`` and need the extra ``ils[lab]``.
"""

from ils import (
    distributions,
    estimators,
    exact,
    intermediate,
    metric,
    rules,
    squeeze,
    target,
    velocity,
)
from ils.lookup import embedding, sample_embedding, sample_index
from ils.operator import differentiable_draw, sample
from ils.sampler import Sampler
from ils.simplex import Normalizer, project_simplex, sum_normalize, sum_normalize_unclamped
from ils.surrogate import surrogate

__version__ = "0.1.0"

__all__ = [
    "Normalizer",
    "Sampler",
    "differentiable_draw",
    "distributions",
    "embedding",
    "estimators",
    "exact",
    "intermediate",
    "metric",
    "project_simplex",
    "rules",
    "sample",
    "sample_embedding",
    "sample_index",
    "squeeze",
    "sum_normalize",
    "sum_normalize_unclamped",
    "surrogate",
    "target",
    "velocity",
]
