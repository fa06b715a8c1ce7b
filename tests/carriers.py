"""Every way to draw that carries the gradient of a rule, on one draw of the same logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import generator, normal
from torch import Tensor

import ils
from ils.distributions import OneHotCategorical

Carrier = Callable[..., Tensor]
# Made once: in some tests what is made on the way is to go astray.
WEIGHTS = normal(1000, seed=2)


def by_sample(logits: Tensor, **options: Any) -> Tensor:
    """The function."""
    return ils.sample(logits, generator=generator(1), **options)


def by_module(logits: Tensor, **options: Any) -> Tensor:
    """The module."""
    return ils.Sampler(**options)(logits, generator=generator(1))


def by_distribution(logits: Tensor, **options: Any) -> Tensor:
    """The distribution."""
    return OneHotCategorical(logits=logits, **options).rsample(generator=generator(1))


def by_attaching(logits: Tensor, **options: Any) -> Tensor:
    """A draw that is there already."""
    z = ils.sample(logits.detach(), generator=generator(1))
    return ils.differentiable_draw(logits, z, **options)


def by_embedding(logits: Tensor, **options: Any) -> Tensor:
    """The look-up, in the identity."""
    index = ils.sample_index(logits, generator=generator(1))
    eye = torch.eye(logits.shape[-1], dtype=logits.dtype, device=logits.device)
    return ils.embedding(index, eye, logits, **options)


CARRIERS = [by_sample, by_module, by_distribution, by_attaching, by_embedding]
each_carrier = pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.__name__)


def gradient(carrier: Carrier, logits: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    """Draw and update for a loss of its own in every entry."""
    leaf = logits.detach().clone().requires_grad_()
    weights = WEIGHTS[: logits.numel()].view(logits.shape).to(logits)
    z = carrier(leaf, **options)
    return z.detach(), torch.autograd.grad((z * weights).sum(), leaf)[0]
