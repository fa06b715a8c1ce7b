"""Random inputs of the tests, each from a generator with a fixed seed, and how to compare."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def generator(seed: int = 0) -> torch.Generator:
    """A generator with a fixed seed; the global one is left alone."""
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def distribution(*shape: int, seed: int = 0) -> Tensor:
    """Distributions along the last axis, no two entries alike, in float64."""
    return normal(*shape, seed=seed).mul(1.5).softmax(-1)


def draws(*shape: int, seed: int = 0) -> Tensor:
    """One-hot rows with a category at random, in float64."""
    index = torch.randint(shape[-1], shape[:-1], generator=generator(seed))
    return torch.eye(shape[-1], dtype=torch.float64)[index]


def eye(categories: int) -> Tensor:
    """All corners of the simplex, as rows, in float64."""
    return torch.eye(categories, dtype=torch.float64)


def close(left: Tensor, right: Tensor, tolerance: float = 1e-12) -> bool:
    """Whether two tensors of one shape agree everywhere up to an absolute tolerance."""
    assert left.shape == right.shape, (left.shape, right.shape)
    # Written so that NaN is no agreement.
    return bool(((left - right).abs() <= tolerance).all())


def cubic_loss(weights: Tensor, events: int) -> Callable[[Tensor], Tensor]:
    """A cubic loss over the last ``events`` axes, smooth inside the simplex too."""
    axes = tuple(range(-events, 0))

    def loss(z: Tensor) -> Tensor:
        linear = (z * weights).sum(axes)
        return (linear - 0.4) ** 3 + linear

    return loss


def derivative(loss: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """The derivative of a loss at draws that do not interact, by autograd."""
    leaf = z.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf).sum(), leaf)[0]


def logistic_nodes(half_width: float = 34.0, step: float = 0.25) -> tuple[Tensor, Tensor]:
    """Nodes and weights for the standard logistic law: the trapezium rule, exponentially exact."""
    nodes = torch.arange(-half_width, half_width + step, step, dtype=torch.float64)
    weights = step * nodes.sigmoid() * (-nodes).sigmoid()
    return nodes, weights / weights.sum()


def exponential_nodes(half_width: float = 34.0, step: float = 0.25) -> tuple[Tensor, Tensor]:
    """The same for the standard exponential law: minus the logarithm of a uniform number."""
    nodes, weights = logistic_nodes(half_width, step)
    return -torch.nn.functional.logsigmoid(nodes), weights


@contextmanager
def elsewhere() -> Iterator[None]:
    """Tensors that are made without a device or a type get the wrong ones."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            yield
    finally:
        torch.set_default_dtype(before)


def needs_no_defaults(results: Callable[[], list[Tensor]]) -> bool:
    """Whether results in float32 are the same where the default device and type are wrong."""
    before = results()
    with elsewhere():
        found = results()
    assert all(one.dtype == torch.float32 for one in before + found)
    return all(torch.equal(one, other) for one, other in zip(before, found, strict=True))
