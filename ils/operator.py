r"""``ils.sample``: the exact draw forward, the gradient of the intermediate loss backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ils.checks import check_floating, check_logits, check_positive, check_same_shape
from ils.draw import draw_index, one_hot
from ils.metric import euclidean
from ils.simplex import Normalizer, sum_normalize
from ils.target import centred_gradient, intermediate_target, logits_gradient

__all__ = ["differentiable_draw", "sample"]


class _IntermediateLoss(torch.autograd.Function):
    """Identity on the draw; backward, the gradient of the intermediate loss for the logits."""

    @staticmethod
    def forward(
        logits: Tensor,
        z: Tensor,
        step_size: float,
        normalizer: Callable[[Tensor], Tensor],
        metric: Callable[[Tensor, Tensor], Tensor],
        centred: bool,
        keep_mass: bool,
    ) -> Tensor:
        return z.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        logits, z, ctx.step_size, ctx.normalizer, ctx.metric, ctx.centred, ctx.keep_mass = inputs
        ctx.save_for_backward(logits, z)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        logits, z = ctx.saved_tensors
        mask = logits.isneginf()
        probs = logits.softmax(-1)
        target = intermediate_target(
            z,
            grads[0],
            step_size=ctx.step_size,
            normalizer=ctx.normalizer,
            metric=ctx.metric,
            probs=probs,
            keep_mass=ctx.keep_mass,
            mask=mask,
        )
        gradient = centred_gradient if ctx.centred else logits_gradient
        update = gradient(target, probs, z)
        return update.masked_fill(mask, 0), None, None, None, None, None, None


def differentiable_draw(
    logits: Tensor,
    z: Tensor,
    *,
    step_size: float,
    normalizer: Callable[[Tensor], Tensor] = sum_normalize,
    metric: Callable[[Tensor, Tensor], Tensor] = euclidean,
    centred: bool = False,
    keep_mass: bool = False,
) -> Tensor:
    r"""Attach the gradient of Algorithm 1 to a draw that is already there.

    Forward: ``z``.  Backward: ``pi - pi_D`` (or ``z - pi_D``), see :func:`sample`.  Nothing is
    random here.

    Args:
        logits: ``theta``, floating point, ``(..., K)``, categories last.
        z: one-hot draws of the shape of ``logits``.
        step_size, normalizer, metric, centred, keep_mass: as in :func:`sample`.

    Returns:
        ``z``, with a gradient for ``logits``.

    Raises:
        TypeError, ValueError: as :func:`sample`, and where ``z`` has another shape.

    Source: Shliselberg (2019), Algorithm 1.
    """
    check_logits(logits)
    check_floating("z", z)
    check_same_shape("z", z, logits)
    _check_options(logits, step_size, normalizer)
    return _IntermediateLoss.apply(logits, z, step_size, normalizer, metric, centred, keep_mass)


def sample(
    logits: Tensor,
    *,
    step_size: float,
    normalizer: Callable[[Tensor], Tensor] = sum_normalize,
    metric: Callable[[Tensor, Tensor], Tensor] = euclidean,
    centred: bool = False,
    keep_mass: bool = False,
    generator: torch.Generator | None = None,
    dim: int = -1,
) -> Tensor:
    r"""Draw one-hot samples of ``Categorical(softmax(logits))`` that carry a gradient.

    Forward: ``z ~ pi = softmax(theta)``, exactly 0 and 1.  Backward, for ``g = dL/dz``:

    .. math::

        \Delta = J_h(z)^\top g, \qquad \pi_D = h(z - \alpha \Delta), \qquad
        \frac{\partial L}{\partial \theta} \leftarrow
        \nabla_\theta \mathrm{KL}(\pi_D \,\|\, \pi) = \pi - \pi_D .

    The estimate is *biased* and nonlinear in ``g``: doubling the loss is doubling
    ``step_size``, not the gradient.

    Args:
        logits: ``theta``, floating point, any shape.  ``-inf`` masks a category: it is never
            drawn, and its gradient is exactly zero.
        step_size: ``alpha > 0``, in units of one over the gradient of the loss.
        normalizer: the map ``h``: ``ils.sum_normalize``, ``ils.project_simplex`` or a function
            on the last axis that keeps shapes and one-hot vectors.
        metric: of the step: ``ils.metric.euclidean``, or ``ils.metric.fisher``, which weights the
            step by ``pi``.
        centred: hand on ``z - pi_D`` instead of ``pi - pi_D``: the same expectation without the
            term ``pi - z``, which has mean zero.
        keep_mass: step within the plane ``sum(x) = 1``; see :func:`ils.target.direction`.
        generator: source of the draw; the default is PyTorch's own.
        dim: the axis of the categories.

    Returns:
        One-hot draws, of the shape and type of ``logits``.

    Raises:
        TypeError: ``logits`` is not a floating-point tensor, ``step_size`` not a number,
            ``normalizer`` not a function.
        ValueError: ``logits`` has no category, NaN, +inf or a row of -inf; ``step_size`` is not
            positive and finite; ``normalizer`` changes the shape or moves a one-hot vector.

    Example:
        >>> import torch, ils
        >>> logits = torch.zeros(2, 3, requires_grad=True)
        >>> z = ils.sample(logits, step_size=0.1, generator=torch.Generator().manual_seed(0))
        >>> z.sum(-1)
        tensor([1., 1.], grad_fn=<SumBackward1>)
        >>> (z @ torch.tensor([1.0, 2.0, 3.0])).sum().backward()
        >>> logits.grad.shape
        torch.Size([2, 3])

    Source: Shliselberg (2019), Algorithm 1; the other options are this report's.
    """
    check_logits(logits, dim)
    last = logits.movedim(dim, -1)
    _check_options(last, step_size, normalizer)
    with torch.no_grad():
        z = one_hot(draw_index(last.softmax(-1), generator), last)
    draw = _IntermediateLoss.apply(last, z, step_size, normalizer, metric, centred, keep_mass)
    return draw.movedim(-1, dim)


def _check_options(
    logits: Tensor, step_size: float, normalizer: Callable[[Tensor], Tensor]
) -> None:
    """Refuse a step that is no step, and an ``h`` that is no normaliser, before anything runs."""
    check_positive("step_size", step_size)
    if isinstance(normalizer, Normalizer):
        return
    if not callable(normalizer):
        raise TypeError(f"normalizer: expected a function, got {type(normalizer).__name__}")
    # The first and the last corner stand for all: a full identity would be K x K.
    corners = torch.zeros(2, logits.shape[-1], dtype=logits.dtype, device=logits.device)
    corners[0, 0] = corners[1, -1] = 1
    mapped = normalizer(corners)
    check_same_shape("normalizer: its output", mapped, corners)
    if not torch.compiler.is_compiling() and not torch.allclose(mapped, corners, atol=1e-3):
        raise ValueError(
            "normalizer: expected h(z) = z for every one-hot z, got a largest difference of "
            f"{(mapped - corners).abs().max():.3g}"
        )
