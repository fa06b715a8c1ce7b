"""The noise of estimators: its type, and where it is finite all of it with its weights."""

from __future__ import annotations

import pytest
import torch
from cases import generator
from factories import each_factory, make, problem
from test_signatures import elsewhere

from ils.estimators import randomness as kinds


@each_factory
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_noise_has_the_type_of_the_logits(name: str, dtype: torch.dtype) -> None:
    """One entry an estimate, of the type of the logits."""
    logits, _ = problem(name, 3, dtype=dtype)
    noise = make(name).randomness.sample(logits, 5, generator(1), 0)
    for part in noise if isinstance(noise, tuple) else (noise,):
        assert part.dtype == dtype
        assert len(part) == 5


@each_factory
def test_support_on_the_device_of_the_logits(name: str) -> None:
    """The enumerated noise too is on the device of the logits and has their type."""
    estimator = make(name)
    logits = problem(name, 3, dtype=torch.float32)[0][:2]
    if isinstance(estimator.randomness, kinds.Gumbel | kinds.Exponential):
        with pytest.raises(ValueError, match=r"^estimator: expected finite randomness, got "):
            estimator.randomness.support(logits, 0)
        return
    plain = estimator.randomness.support(logits, 1)
    with elsewhere():
        found = estimator.randomness.support(logits, 1)
    for one, other in zip(plain, found, strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)
    noise, weights = plain
    assert weights.shape == (len(noise), 2)
    assert torch.allclose(weights.sum(0), torch.ones(2), atol=1e-5)
    again, joint = estimator.randomness.support(logits, 0)
    assert joint.shape == (len(again),)
    assert torch.allclose(joint.sum(), torch.tensor(1.0), atol=1e-5)
    # How many values one problem can take, and what they look like.
    sizes = {
        "Deterministic": (1, (0,)),
        "Draw": (4, (2, 4)),
        "Draws": (16, (2, 2, 4)),
        "DistinctDraws": (12, (2, 2, 4)),
        "Uniform": (6, (2, 1))
        if name == "arm"
        else (3, (2, 1))
        if name == "disarm"
        else (27, (2, 3)),
    }
    assert (len(noise), noise.shape[1:]) == sizes[type(estimator.randomness).__name__]
