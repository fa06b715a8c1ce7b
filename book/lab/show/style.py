"""Figures of the report: each function draws a table on given axes, and computes nothing."""

from __future__ import annotations

import seaborn as sns

__all__ = ["WIDTH", "use_style"]

WIDTH = 7.0
"""Width of a figure in inches; the text column of a page."""


def use_style() -> None:
    """Set the look of all figures: legible in print, in grey and to the colour-blind."""
    sns.set_theme(
        context="paper",
        style="ticks",
        palette="colorblind",
        font_scale=1.05,
        rc={
            "axes.spines.right": False,
            "axes.spines.top": False,
            "figure.constrained_layout.use": True,
            "font.family": "DejaVu Sans",
            "legend.frameon": False,
            "lines.linewidth": 1.6,
        },
    )
