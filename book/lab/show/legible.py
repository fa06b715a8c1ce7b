"""Whether a figure is legible in grey and to the colour-blind: nothing depends on colour alone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

__all__ = ["lightness", "told_by_colour_alone"]

_APART = 20.0
"""Of two areas side by side: a difference of lightness that grey keeps, from 0 to 100."""


def lightness(color: Any) -> float:
    """CIE lightness ``L*`` of a colour, from 0 (black) to 100 (white)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    luminance = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
    return 116 * luminance ** (1 / 3) - 16 if luminance > 0.008856 else 903.3 * luminance


def told_by_colour_alone(figure: Figure) -> list[str]:
    """Pairs of a legend that differ in colour only, and colour maps that are ambiguous in grey.

    Args:
        figure: finished.

    Returns:
        What is wrong, in words; empty if nothing is.
    """
    found = []
    for handles, labels in _legends(figure):
        for (one, first), (other, second) in combinations(zip(handles, labels, strict=True), 2):
            if _alike(one, other):
                found.append(f"legend: {first!r} and {second!r} differ in colour alone")
    for ax in figure.axes:
        for artist in [*ax.images, *ax.collections]:
            if _maps_numbers(artist) and not _labelled(ax) and not _monotone(artist):
                name = artist.get_cmap().name
                found.append(f"colour map {name!r}: its lightness goes up and down")
    return found


def _legends(figure: Figure) -> Iterator[tuple[list[Artist], list[str]]]:
    """Handles and labels of each legend, of the figure or of its axes."""
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes)]
    for legend in legends:
        if legend is not None:
            yield list(legend.legend_handles), [text.get_text() for text in legend.get_texts()]


def _alike(one: Artist, other: Artist) -> bool:
    if isinstance(one, Line2D) and isinstance(other, Line2D):
        return _line(one) == _line(other)
    if isinstance(one, PathCollection) and isinstance(other, PathCollection):
        return _marker(one) == _marker(other)
    if isinstance(one, Patch) and isinstance(other, Patch):
        same = (one.get_hatch(), one.get_fill()) == (other.get_hatch(), other.get_fill())
        grey = lightness(one.get_facecolor()) - lightness(other.get_facecolor())
        return same and abs(grey) < _APART
    return False


def _line(line: Line2D) -> tuple[Any, ...]:
    """What distinguishes a line, apart from its colour."""
    marker = line.get_marker()
    hollow = marker not in ("None", "", " ", None) and line.get_markerfacecolor() in ("none", "w")
    dashes = tuple(line._dash_pattern[1] or ()) if line.get_linestyle() != "None" else None  # type: ignore[attr-defined]
    return dashes, str(marker), hollow, round(line.get_linewidth(), 2)


def _marker(points: PathCollection) -> tuple[Any, ...]:
    path = points.get_paths()[0]
    return np.round(np.asarray(path.vertices), 4).tobytes(), len(points.get_facecolor()) == 0


def _maps_numbers(artist: Artist) -> bool:
    return isinstance(artist, ScalarMappable) and artist.get_array() is not None


def _labelled(ax: Axes) -> bool:
    """Whether what an image shows is written into it, cell by cell."""
    cells = sum(image.get_size()[0] * image.get_size()[1] for image in ax.images)  # type: ignore[attr-defined]
    return cells > 0 and len(ax.texts) >= cells


def _monotone(artist: Any) -> bool:
    if isinstance(artist, (PathCollection, PolyCollection)) and artist.get_array() is None:
        return True
    grey = [lightness(artist.get_cmap()(x)) for x in np.linspace(0, 1, 33)]
    steps = np.diff(grey)
    return bool((steps > -1).all() or (steps < 1).all())
