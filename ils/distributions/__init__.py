"""Distributions of ``torch.distributions`` with an exact draw that carries a gradient.

Each is a subclass of the class of its name, with the same arguments, ``log_prob``, ``entropy``,
constraints and ``kl_divergence``; ``rsample`` and ``sample`` take a ``generator``.  An existing
program changes one import::

    from ils import distributions as dist  # instead of: from torch import distributions as dist

Parameters may be of any floating-point type.  For half types all noise but the normal is drawn in
float32 or wider and rounded at the end, so that draws, and gradients, beyond 65,504 are infinite in
float16.  PyTorch's check of a simplex is stricter than the rounding of a half type: use
``validate_args=False`` there.

Names that are not here are those of ``torch.distributions``.  The gradient of ``rsample`` is that
of the intermediate loss, in units of a gradient (:mod:`ils.velocity`).  It is *biased*: in a
program that also has gamma, beta or Dirichlet variables, for which PyTorch's ``rsample`` is
unbiased, import only the classes that you need::

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
    """Every other name is that of PyTorch: ``Uniform``, ``constraints``, ``register_kl``, ..."""
    return getattr(torch.distributions, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(torch.distributions)})
