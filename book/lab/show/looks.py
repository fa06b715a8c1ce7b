"""How each method looks in every figure: its colour, the dashes of its line, its mark.

The names are those of :mod:`lab.methods.catalogue`.  No two have the same dashes with the same
mark, so that two lines can be distinguished in grey too.  No number depends on this module.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any

import seaborn as sns

from lab.show.legible import lightness

__all__ = ["FAMILY_LOOKS", "LOOKS", "FamilyLook", "Look", "looks", "method_in"]

Colour = tuple[float, float, float]

_COLOURS = [*sns.color_palette("colorblind", 10), (0.15, 0.15, 0.15)]
_DASHES: tuple[tuple[float, ...], ...] = (
    (1, 0),
    (5, 2),
    (2, 1.5),
    (6, 2, 1, 2),
    (1, 1),
    (8, 3),
    (3, 1, 1, 1, 1, 1),
    (4, 4),
    (10, 2, 2, 2),
    (2, 4),
)
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "h")


@dataclass(frozen=True)
class Look:
    """Colour, dashes and mark of a method.

    Attributes:
        colour: red, green and blue.
        dashes: lengths on and off, in widths of the line.
        mark: of points, as matplotlib names it.
    """

    colour: Colour
    dashes: tuple[float, ...]
    mark: str

    @property
    def line(self) -> dict[str, Any]:
        """The arguments of ``Axes.plot``."""
        return {"color": self.colour, "dashes": self.dashes, "marker": self.mark}

    @property
    def points(self) -> dict[str, Any]:
        """The arguments of ``Axes.scatter``."""
        return {"color": self.colour, "marker": self.mark}


def _look(colour: int, dashes: int, mark: int) -> Look:
    return Look(_COLOURS[colour], _DASHES[dashes], _MARKS[mark])


LOOKS = {
    "ReinMax (default)": _look(0, 0, 0),
    "ILS (the note)": _look(1, 1, 1),
    "straight-through": _look(2, 4, 2),
    "leave-one-out": _look(3, 3, 3),
    "ILS, Fisher": _look(4, 8, 6),
    "DARN": _look(5, 6, 5),
    "ILS, mass kept": _look(6, 5, 10),
    "Gumbel-Softmax": _look(7, 7, 4),
    "ILS, centred": _look(8, 2, 8),
    "ILS, projected": _look(9, 9, 9),
    "ILS, relative step": _look(4, 6, 7),
    "ILS, relative step, Euclidean": _look(9, 3, 8),
    "ILS, relative step, projected": _look(2, 2, 9),
    "ILS, Fisher, mass free": _look(3, 4, 6),
    "ILS (the note's code)": _look(5, 1, 11),
    "ILS (the note), mass kept": _look(6, 8, 1),
    "ReinMax": _look(0, 5, 3),
    "straight-through Gumbel": _look(5, 9, 11),
    "decoupled straight-through Gumbel": _look(5, 3, 5),
    "Gumbel-Rao": _look(9, 5, 6),
    "gapped straight-through": _look(2, 6, 11),
    "ZGR": _look(0, 9, 5),
    "MVE": _look(0, 7, 11),
    "MVE, annealed": _look(8, 7, 10),
    "ReinMax, control variate": _look(4, 0, 11),
    "MVE for integers": _look(7, 6, 0),
    "ReinMax-Rao": _look(0, 8, 0),
    "SPIGOT": _look(4, 1, 9),
    "SPIGOT-CE": _look(4, 3, 10),
    "SPIGOT-EG": _look(4, 5, 8),
    "I-MLE": _look(6, 9, 6),
    "adaptive I-MLE": _look(6, 1, 7),
    "blackbox": _look(6, 4, 9),
    "identity": _look(6, 2, 3),
    "REINFORCE": _look(3, 9, 4),
    "REINFORCE, running baseline": _look(3, 5, 4),
    "double control variates": _look(3, 1, 3),
    "MuProp": _look(1, 9, 10),
    "REBAR": _look(5, 2, 7),
    "RELAX": _look(6, 3, 7),
    "ARM": _look(3, 6, 9),
    "DisARM": _look(3, 8, 8),
    "DisARM, categorical": _look(3, 8, 9),
    "unordered set": _look(9, 1, 4),
    "sum-and-sample": _look(9, 8, 4),
    # --- what stands beside the methods, or is made by one problem
    "exact gradient": _look(10, 0, 7),
    "no gradient": _look(10, 4, 10),
    "marginals": _look(8, 1, 10),
    "gold clusters": _look(10, 1, 6),
    "VQ-VAE": _look(8, 3, 11),
    "rotation trick": _look(8, 2, 0),
    "FSQ": _look(8, 8, 7),
    "DAPS": _look(6, 7, 1),
    "SparseMixer": _look(7, 0, 2),
    "SparseMixer 2": _look(7, 5, 9),
    "SIMPLE": _look(8, 5, 7),
    "SFESS": _look(3, 0, 5),
    "ILS, capped simplex": _look(8, 9, 1),
    "I-MLE, top-k": _look(6, 8, 11),
    "relaxed top-k": _look(7, 1, 8),
    # --- beyond categorical
    "ils.distributions": _look(0, 1, 0),
    "any distribution": _look(1, 6, 1),
    "order": _look(8, 4, 11),
    "pathwise": _look(10, 8, 3),
    "differences": _look(9, 0, 8),
    "arrival times": _look(4, 2, 10),
    "implicit": _look(5, 4, 5),
    "stratified": _look(4, 0, 9),
    "weights fixed": _look(8, 7, 2),
    # --- other operators that are timed
    "ten lines by hand": _look(10, 2, 1),
    "sparsemax": _look(4, 7, 6),
    "softmax": _look(8, 6, 2),
    "the loss alone": _look(10, 9, 0),
}


@dataclass(frozen=True)
class FamilyLook:
    """Colour and mark of a family in the bias-variance plane.

    Attributes:
        colour: red, green and blue.
        mark: as matplotlib names it.
        bokeh: the same as Bokeh names it.
        variable: the colour in the explorer, ``--explorer-...`` of its style sheet.
    """

    colour: Colour
    mark: str
    bokeh: str
    variable: str


FAMILY_LOOKS = {
    "straight-through": FamilyLook(_COLOURS[0], "o", "circle", "mean"),
    "relaxation": FamilyLook(_COLOURS[1], "D", "diamond", "bias"),
    "intermediate loss": FamilyLook(_COLOURS[2], "s", "square", "one"),
    "perturbation": FamilyLook(_COLOURS[3], "v", "inverted_triangle", "two"),
    "score function": FamilyLook(_COLOURS[4], "^", "triangle", "three"),
}


def method_in(label: str) -> str | None:
    """The method of a label, which may end with a setting: ``ILS (the note), step 0.1``.

    Returns:
        The longest name that begins it; None if there is none.
    """
    begins = [name for name in LOOKS if label == name or label.startswith((f"{name},", f"{name} "))]
    return max(begins, key=len, default=None)


def looks(labels: Iterable[str]) -> dict[str, Look]:
    """The look of each label of a figure.

    Settings of one method have its colour, the later the darker, or the paler if it is dark, and
    dashes and a mark of their own.

    Raises:
        ValueError: a label begins with no method's name.
    """
    labels = list(dict.fromkeys(labels))
    methods = {label: method_in(label) for label in labels}
    if unknown := [label for label, method in methods.items() if method is None]:
        raise ValueError(f"labels: expected names of methods, got {unknown}")
    found: dict[str, Look] = {}
    for label in labels:
        own = LOOKS[str(methods[label])]
        same = [other for other in labels if methods[other] == methods[label]]
        others = [LOOKS[str(method)] for method in set(methods.values())] + list(found.values())
        found[label] = _setting(own, same.index(label), len(same), others)
    return found


def _setting(own: Look, place: int, count: int, others: list[Look]) -> Look:
    """The look of one setting of several: of what no method has, what the others have least."""
    if place == 0:
        return own
    share = 0.5 * place / (count - 1)
    end = 1 if lightness(own.colour) < 50 else 0
    red, green, blue = (part + share * (end - part) for part in own.colour)
    used = {(look.dashes, look.mark) for look in [*others, *LOOKS.values()]}
    free = [pair for pair in product(_DASHES, _MARKS) if pair not in used]

    def shared(pair: tuple[tuple[float, ...], str]) -> int:
        return sum((look.dashes == pair[0]) + (look.mark == pair[1]) for look in others)

    if free:
        return Look((red, green, blue), *min(free, key=shared))
    raise ValueError(f"labels: more settings of one method than there are looks, {count}")
