r"""The pathwise velocity of a single number: implicit reparameterisation, by quadrature.

.. math:: v(z) = -\frac{\partial_\theta F(z)}{p(z)}, \qquad \partial_\theta F(z) = \int^z s\, p ,

the only field that is unbiased for every loss of a draw on a line (Figurnov et al., 2018).  Of
whole numbers the same flow goes from ``z`` to ``z + 1``: :func:`flow`.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.integrate import cumulative_simpson
from torch import Tensor

from lab.beyond.families.quadrature import Nodes

__all__ = ["flow", "galerkin", "pathwise"]


def pathwise(at: Nodes, score: Tensor) -> Tensor:
    """``v`` at the nodes of a continuous distribution.

    Args:
        at: nodes that are equally far apart in some coordinate.
        score: of one parameter, ``(S,)``.
    """
    # In the coordinate of the grid the density is the weight over the width of a cell.
    flux = (at.weights * score).numpy()
    below = cumulative_simpson(flux, initial=0)
    # From whichever side is nearer: the other would leave rounding where there is no mass.
    above = -cumulative_simpson(flux[::-1], initial=0)[::-1]
    lower = np.cumsum(at.weights.numpy()) < 0.5
    passed = torch.from_numpy(np.where(lower, below, above))
    return -passed / at.weights * at.volumes


def flow(at: Nodes, score: Tensor) -> Tensor:
    """``-d F(z) / d theta`` at the states: the mass that passes from ``z`` to ``z + 1``.

    Args:
        at: all states.
        score: of one parameter, ``(S,)``.
    """
    flux = at.weights * score
    below = -flux.cumsum(0)
    above = flux.flip(0).cumsum(0).flip(0) - flux
    return torch.where(at.weights.cumsum(0) < 0.5, below, above)


def galerkin(
    at: Nodes, score: Tensor, metric: Tensor, statistics: Tensor, slopes: Tensor
) -> Tensor:
    """The combination of the fields ``M t'`` that is exact for the statistics ``t``.

    Args:
        at: nodes.
        score: of one parameter, ``(S,)``.
        metric: ``M``, ``(S,)``.
        statistics, slopes: ``t`` and ``t'``, ``(S, n)``.
    """
    energy = torch.einsum("s,s,sp,sq->pq", at.weights, metric, slopes, slopes)
    wanted = torch.einsum("s,s,sp->p", at.weights, score, statistics)
    return metric * (slopes @ torch.linalg.solve(energy, wanted))
