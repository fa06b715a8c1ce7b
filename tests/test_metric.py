"""The metrics: one leaves the direction, the other weighs it by the probabilities."""

from __future__ import annotations

import torch
from cases import distribution, normal

from ils.metric import euclidean, fisher


def test_values() -> None:
    """The direction as it is, and entry by entry times the probability."""
    delta, probs = normal(2, 3, 4), distribution(2, 3, 4, seed=1)
    assert euclidean(delta, probs) is delta
    assert torch.equal(fisher(delta, probs), probs * delta)
