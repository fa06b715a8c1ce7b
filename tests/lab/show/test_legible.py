"""Figures that tell something by colour alone are noticed, and not published."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab.show.legible import lightness, told_by_colour_alone
from lab.show.publish import publish


@pytest.fixture
def drawn() -> Iterator[tuple[Figure, Axes]]:
    with mpl.rc_context({"backend": "agg"}):
        figure, ax = plt.subplots()
        yield figure, ax
        plt.close(figure)


def test_lightness() -> None:
    """Black, white, and a grey in the middle, by the formula of the CIE."""
    assert lightness("black") == pytest.approx(0, abs=1e-9)
    assert lightness("white") == pytest.approx(100, abs=1e-3)
    assert lightness("#777777") == pytest.approx(50.03, abs=0.01)
    assert lightness("red") == pytest.approx(53.24, abs=0.01)


PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "colour": ({"color": "red"}, {"color": "blue"}, True),
    "dashes": ({"color": "red"}, {"color": "blue", "dashes": (3, 1)}, False),
    "marker": ({"color": "red", "marker": "o"}, {"color": "blue", "marker": "s"}, False),
    "hollow": ({"marker": "o"}, {"marker": "o", "markerfacecolor": "none"}, False),
    "width": ({"color": "red"}, {"color": "blue", "linewidth": 4}, False),
    "one dash": ({"dashes": (3, 1)}, {"color": "blue", "dashes": (3, 1)}, True),
}


@pytest.mark.parametrize("case", PAIRS)
def test_lines(drawn: tuple[Figure, Axes], case: str) -> None:
    """Two lines must differ in dashes, marker or width."""
    figure, ax = drawn
    one, other, bad = PAIRS[case]
    ax.plot([0, 1], label="one", **one)
    ax.plot([1, 0], label="other", **other)
    assert not told_by_colour_alone(figure)  # without a legend nothing is told
    ax.legend()
    told = ["legend: 'one' and 'other' differ in colour alone"]
    assert told_by_colour_alone(figure) == (told if bad else [])


def test_points_and_areas(drawn: tuple[Figure, Axes]) -> None:
    """Points differ in shape or filling, areas in lightness or hatching."""
    figure, ax = drawn
    ax.scatter([0], [0], label="disc")
    ax.scatter([1], [0], label="square", marker="s")
    ax.scatter([1], [0], label="ring", facecolor="none", edgecolor="red")
    ax.fill_between([0, 1], [0, 1], color="0.9", label="pale")
    ax.fill_between([0, 1], [1, 2], color="0.5", label="dark")
    ax.legend()
    assert not told_by_colour_alone(figure)
    ax.scatter([2], [0], label="another disc", color="red")
    ax.bar([0], [1], color="0.52", label="nearly dark")
    ax.bar([0], [1], color="0.52", hatch="/", label="hatched")
    figure.legend()
    told = " ".join(told_by_colour_alone(figure))
    assert "'disc' and 'another disc'" in told
    assert "'dark' and 'nearly dark'" in told
    assert "hatched" not in told


def test_colour_maps(drawn: tuple[Figure, Axes]) -> None:
    """A map whose lightness turns is refused, unless every cell says what it is."""
    figure, ax = drawn
    image = ax.imshow(np.eye(2), cmap="viridis")
    assert not told_by_colour_alone(figure)
    image.set_cmap("RdBu")
    assert told_by_colour_alone(figure) == ["colour map 'RdBu': its lightness goes up and down"]
    for place in np.ndindex(2, 2):
        ax.text(*place, "1")
    assert not told_by_colour_alone(figure)
    # What is told by colour alone does not reach a page.
    figure, ax = drawn
    for name in ("one", "other"):
        ax.plot([0, 1], label=name)
    ax.legend()
    with pytest.raises(ValueError, match="fig-x: legend: 'one' and 'other'"):
        publish(figure, "fig-x", pd.DataFrame())
