"""Zeros with the identity as Jacobian, in backward and in forward mode."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import forward_ad

from ils import tangent as module
from ils.tangent import tangent


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_zeros_with_the_identity_as_jacobian() -> None:
    """The value is zero, and both modes hand a derivative on as it is."""
    theta = torch.tensor([0.5, -2.0], dtype=torch.float64, requires_grad=True)
    z, direction = tangent(theta), torch.tensor([3.0, -7.0], dtype=torch.float64)
    assert torch.equal(z, torch.zeros(2, dtype=torch.float64))
    assert torch.equal(torch.autograd.grad(z, theta, direction)[0], direction)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(theta.detach(), direction)
        found = forward_ad.unpack_dual(tangent(dual)).tangent
    assert found is not None
    assert torch.equal(found, direction)


def test_a_compiler_is_given_no_forward_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a program is compiled, the function is the one that defines no forward mode."""
    theta = torch.zeros(2, requires_grad=True)
    assert type(tangent(theta).grad_fn).__name__ == "_BothBackward"
    monkeypatch.setattr(module, "compiling", lambda: True)
    assert type(tangent(theta).grad_fn).__name__ == "_TangentBackward"
