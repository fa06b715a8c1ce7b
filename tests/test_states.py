"""All joint states, in order, and their probabilities."""

from __future__ import annotations

import pytest
import torch
from cases import close, needs_no_defaults, normal

from ils import states


@pytest.mark.parametrize("shape", [(4,), (1, 4), (2, 3), (3, 3), (5, 2), (1, 1), (3, 1)], ids=str)
def test_every_state_once(shape: tuple[int, ...]) -> None:
    """Every joint state comes once, in the type of the logits."""
    z = states.states(torch.zeros(shape))
    variables, categories = (1, *shape)[-2:]
    assert z.shape == (categories**variables, *shape)
    assert z.dtype == torch.float32
    assert torch.equal(z.sum(-1), torch.ones(z.shape[:-1]))
    assert len({tuple(state.flatten().tolist()) for state in z}) == len(z)


def test_states_and_probabilities() -> None:
    """Order, batches, types, and the limit on the number of states."""
    logits = normal(2, 3, 4).float()
    z = states.states(logits, 1)
    assert z.shape == (64, 2, 3, 4)
    assert z.dtype == torch.float32
    assert z[:, 1].argmax(-1)[:6].tolist() == [
        [0, 0, 0],
        [0, 0, 1],
        [0, 0, 2],
        [0, 0, 3],
        [0, 1, 0],
        [0, 1, 1],
    ]
    assert len(z[:, 0].reshape(64, -1).unique(dim=0)) == 64
    assert states.states(torch.zeros(2, 3)).shape == (9, 2, 3)
    assert states.states(torch.zeros(5)).shape == (5, 5)
    assert states.states(torch.zeros(2, 5), 1).shape == (5, 2, 5)
    expected = r"^logits: expected at most 4194304 joint states, got 2\*\*23$"
    with pytest.raises(ValueError, match=expected):
        states.states(torch.zeros(23, 2))
    with pytest.raises(TypeError, match=r"^logits: expected a floating-point"):
        states.states(torch.zeros(2, 2).long())
    p = logits.softmax(-1)
    assert close(states.probability(logits, z, 1), (p * z).sum(-1).prod(-1), 1e-7)
    one = logits[0, 0]
    assert close(states.probability(one, states.states(one)), one.softmax(-1), 1e-7)
    joint = states.probability(logits, states.states(logits))
    assert joint.shape == (4**6,)
    assert abs(float(joint.sum()) - 1) < 1e-5


def test_most_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest number of states is let pass, one more variable is refused."""
    monkeypatch.setattr(states, "_MOST_STATES", 8)
    assert states.states(torch.zeros(3, 2)).shape == (8, 3, 2)
    with pytest.raises(ValueError, match=r"^logits: .* at most 8 joint states, got 2\*\*4$"):
        states.states(torch.zeros(4, 2))


def test_states_of_no_variables_and_wrong_axes() -> None:
    """No variables have one state; axes that are not there are refused."""
    assert states.states(torch.zeros(0, 3)).shape == (1, 0, 3)
    assert states.states(torch.zeros(2, 0, 3), 1).shape == (1, 2, 0, 3)
    assert states.states(torch.zeros(0, 2, 3), 1).shape == (9, 0, 2, 3)
    for wrong in (-1, 3):
        with pytest.raises(ValueError, match=r"^batch_dims: expected from 0 to 2 "):
            states.states(torch.zeros(2, 3, 4), wrong)


def test_device_and_type() -> None:
    """Nothing that is made on the way falls back on the default device or type."""
    logits = normal(2, 3).float()
    assert needs_no_defaults(
        lambda: [states.states(logits), states.probability(logits, states.states(logits))]
    )
