"""The classes of :mod:`ils.distributions` as Pyro wants them: ``import ils.pyro as dist``.

Needs the package ``pyro-ppl``.  Every name that is not here is that of ``pyro.distributions``.  The
gamma, beta and Dirichlet draws of Pyro are unbiased and those here are not: where a program has
some, take the classes that are needed by name.
"""

from __future__ import annotations

from typing import Any

import pyro.distributions as _pyro
from pyro.distributions.torch_distribution import TorchDistributionMixin

from ils import distributions as _ils

__all__ = list(_ils.__all__)  # pyright: ignore[reportUnsupportedDunderAll]


def _for_pyro(name: str) -> type:
    base: Any = getattr(_ils, name)
    text = f"``ils.distributions.{name}`` for Pyro; see there."
    return type(name, (base, TorchDistributionMixin), {"__doc__": text, "__module__": __name__})


globals().update({name: _for_pyro(name) for name in __all__})


def __getattr__(name: str) -> Any:
    return getattr(_pyro, name)
