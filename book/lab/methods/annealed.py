"""A method whose parameter changes as it trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Annealed"]

Made = TypeVar("Made")


@dataclass(frozen=True)
class Annealed(Generic[Made]):
    """What is trained with, by the part of the training that is done.

    Attributes:
        at: from 0 at the first step towards 1 after the last.
    """

    at: Callable[[float], Made]
