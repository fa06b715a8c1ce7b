"""The gradient of the downstream loss at given draws."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def upstream_gradient(z: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """``g = dL/dz`` at each draw, of the shape of ``z``; draws do not interact."""
    leaf = z.detach().clone().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(loss(leaf).sum(), leaf)[0]
