"""How small numbers are written in a sentence."""

from __future__ import annotations

__all__ = ["power_of_ten"]

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def power_of_ten(number: float) -> str:
    """One digit and a power of ten: ``3·10⁻⁶``, ``10⁻¹²``."""
    digit, power = f"{number:.0e}".split("e")
    raised = f"10{str(int(power)).translate(_RAISED)}"
    return raised if digit == "1" else f"{digit}·{raised}"
