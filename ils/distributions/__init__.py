"""Distributions of ``torch.distributions`` with an exact draw that carries a gradient.

Each is a subclass of the class of its name, with the same arguments, ``log_prob``, ``entropy``,
constraints and ``kl_divergence``; ``rsample`` and ``sample`` take a ``generator``.  An existing
program changes one import::

    from ils import distributions as dist  # instead of: from torch import distributions as dist

Parameters may be of any floating-point type.  Of the half types all but normal noise is drawn in
float32 or wider and rounded at the end, so that draws, and gradients, beyond 65,504 are infinite in
float16.  PyTorch's check of a simplex is closer than the digits of shares in a half type: take
``validate_args=False`` there.

Names that are not here are those of ``torch.distributions``.  What ``rsample`` hands on is the
gradient of the intermediate loss, in units of a gradient (:mod:`ils.velocity`).  It is biased: in a
program that draws gamma, beta or Dirichlet variables too, of which PyTorch's ``rsample`` is
unbiased, take the classes that are needed by name::

    from ils.distributions import MixtureSameFamily, Poisson
"""

from typing import Any

import torch

from ils.distributions.categorical import Categorical
from ils.distributions.composite import Independent, MixtureSameFamily
from ils.distributions.continuous import Beta, Dirichlet, Gamma, Normal, VonMises
from ils.distributions.counts import Bernoulli, Binomial, Geometric, NegativeBinomial, Poisson
from ils.distributions.one_hot_categorical import OneHotCategorical

__all__ = [
    "Bernoulli",
    "Beta",
    "Binomial",
    "Categorical",
    "Dirichlet",
    "Gamma",
    "Geometric",
    "Independent",
    "MixtureSameFamily",
    "NegativeBinomial",
    "Normal",
    "OneHotCategorical",
    "Poisson",
    "VonMises",
]


def __getattr__(name: str) -> Any:
    """What is not here is PyTorch's: ``Uniform``, ``constraints``, ``register_kl`` and the rest."""
    return getattr(torch.distributions, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(torch.distributions)})
