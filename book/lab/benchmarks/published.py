"""What others have published, to be held against.

From the result files of Hooper and Shekhovtsov (2026), repository
``James-Hooper123/Generalized-and-Optimal-Straight-Through-Estimators`` at commit 073ff8e, one seed.
"""

from __future__ import annotations

import pandas as pd

__all__ = ["polynomials"]

_POWERS = (1.5, 2.0, 3.0)
_POLYNOMIALS = {
    "hooper": {
        "straight-through": (0.227228, 0.148042, 0.068797),
        "straight-through Gumbel": (0.020329, 0.007509, 0.002530),
        "Gumbel-Rao": (0.015613, 0.004484, 0.000815),
        "ReinMax": (0.015156, 0.004273, 0.000709),
        "MVE": (0.015206, 0.004353, 0.000751),
    },
    "integers": {
        "straight-through": (0.207902, 0.135738, 0.062297),
        "straight-through Gumbel": (0.058384, 0.020612, 0.004482),
        "Gumbel-Rao": (0.046340, 0.015533, 0.002316),
        "ReinMax": (0.042597, 0.014819, 0.002114),
        "MVE for integers": (0.042287, 0.014449, 0.001986),
    },
}


def polynomials() -> pd.Series:
    """The mean training loss over the last 200 of 10,000 steps; index (task, method).

    From the last entries of ``Results/polynomial_programming/poly_p_*.pkl`` and, for numbers at
    equal distances, ``Results/polynomial_programming_int/poly_p_int_*.pkl``.
    """
    rows = {
        (f"polynomial-4-p{power:g}-{numbers}", method): value
        for numbers, methods in _POLYNOMIALS.items()
        for method, values in methods.items()
        for power, value in zip(_POWERS, values, strict=True)
    }
    return pd.Series(rows).rename_axis(["task", "method"])
