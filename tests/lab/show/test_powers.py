"""How small numbers are written in a sentence."""

from __future__ import annotations

import pytest

from lab.show.powers import power_of_ten


@pytest.mark.parametrize(
    ("number", "text"),
    [(2.6e-6, "3·10⁻⁶"), (1e-12, "10⁻¹²"), (9.7e-7, "10⁻⁶"), (-4e-10, "-4·10⁻¹⁰"), (2e3, "2·10³")],
)
def test_power_of_ten(number: float, text: str) -> None:
    """One digit, which is not written if it is one, and the exponent raised."""
    assert power_of_ten(number) == text
