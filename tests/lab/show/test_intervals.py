"""How means and their intervals are written."""

from __future__ import annotations

import numpy as np
import pytest

from lab.show.intervals import Estimate, estimate


@pytest.mark.parametrize(
    ("values", "digits", "text"),
    [
        ((0.00204, 0.00191, 0.00212), 4, "0.0020 [0.0019, 0.0021]"),
        ((9.1e-6, 0.0, 1.2e-5), 4, "9.1e-06 [0.0000, 1.2e-05]"),
        ((-0.04, -0.06, 0.2), 1, "-4.0e-02 [-0.1, 0.2]"),
        ((12.5, 11.0, 14.0), 0, "12 [11, 14]"),
    ],
)
def test_text(values: tuple[float, float, float], digits: int, text: str) -> None:
    """Nothing is written as zero that is none."""
    assert Estimate(*values).text(digits) == text


def test_estimate() -> None:
    """The mean, inside its interval; without spread the interval is the mean."""
    found = estimate(np.arange(10.0))
    assert found.mean == 4.5
    assert 2.5 < found.low < 4.5 < found.high < 6.5
    assert estimate([2.0, 2.0]) == Estimate(2.0, 2.0, 2.0)
