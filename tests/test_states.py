"""All joint states, in order, and their probabilities."""

from __future__ import annotations

import itertools

import pytest
import torch
from cases import close, needs_no_defaults, normal

from ils import states


@pytest.mark.parametrize("batch", [(), (2,), (0,)], ids=str)
@pytest.mark.parametrize("shape", [(4,), (1, 4), (2, 3), (5, 2), (1, 1), (3, 1), (0, 3)], ids=str)
def test_every_state_once(shape: tuple[int, ...], batch: tuple[int, ...]) -> None:
    """Every joint state comes once, in the order of its numerals, in the type of the logits."""
    z = states.states(torch.zeros(*batch, *shape), len(batch))
    rows, categories = torch.Size(shape[:-1]), shape[-1]
    wanted = torch.tensor([*itertools.product(range(categories), repeat=rows.numel())])
    wanted = wanted.view(categories ** rows.numel(), *[1] * len(batch), *rows)
    assert torch.equal(z.argmax(-1), wanted.expand(len(wanted), *batch, *rows))
    assert torch.equal(z.sum(-1), torch.ones(len(wanted), *batch, *rows))
    assert z.dtype == torch.float32


def test_probabilities() -> None:
    """The product over the variables, for batches and stacks."""
    logits = normal(2, 3, 4).float()
    z, p = states.states(logits, 1), logits.softmax(-1)
    assert close(states.probability(logits, z, 1), (p * z).sum(-1).prod(-1), 1e-7)
    one = logits[0, 0]
    assert close(states.probability(one, states.states(one)), one.softmax(-1), 1e-7)
    joint = states.probability(logits, states.states(logits))
    assert joint.shape == (4**6,)
    assert abs(float(joint.sum()) - 1) < 1e-5


def test_refusals() -> None:
    """Too many states, integers, and axes that are not there."""
    expected = r"^logits: expected at most 4194304 joint states, got 2\*\*23$"
    with pytest.raises(ValueError, match=expected):
        states.states(torch.zeros(23, 2))
    with pytest.raises(TypeError, match=r"^logits: expected a floating-point"):
        states.states(torch.zeros(2, 2).long())
    for wrong in (-1, 3):
        with pytest.raises(ValueError, match=r"^batch_dims: expected from 0 to 2 "):
            states.states(torch.zeros(2, 3, 4), wrong)


def test_most_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest number of states is let pass, one more variable is refused."""
    monkeypatch.setattr(states, "_MOST_STATES", 8)
    assert states.states(torch.zeros(3, 2)).shape == (8, 3, 2)
    with pytest.raises(ValueError, match=r"^logits: .* at most 8 joint states, got 2\*\*4$"):
        states.states(torch.zeros(4, 2))


def test_device_and_type() -> None:
    """Nothing that is made on the way falls back on the default device or type."""
    logits = normal(2, 3).float()
    assert needs_no_defaults(
        lambda: [states.states(logits), states.probability(logits, states.states(logits))]
    )
