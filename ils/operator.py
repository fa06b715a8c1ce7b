r"""``ils.sample``: the exact draw forward, the gradient of the intermediate loss backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ils.autograd import attach, sample_with_rule
from ils.checks import (
    check_draws,
    check_logits,
    check_logits_shape,
    check_mask,
    check_one_hot,
    whole,
)
from ils.metric import fisher
from ils.rule import Rule, check_rule
from ils.simplex import sum_normalize

__all__ = ["differentiable_draw", "sample"]


def sample(
    logits: Tensor,
    *,
    step_size: float | None = None,
    metric: Callable[[Tensor, Tensor], Tensor] = fisher,
    normalizer: Callable[[Tensor], Tensor] = sum_normalize,
    centred: bool = True,
    relative: bool = True,
    keep_mass: bool = False,
    dim: int = -1,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
    draws: int | Sequence[int] = (),
) -> Tensor:
    r"""Draw one-hot samples of ``Categorical(softmax(logits))`` that carry a gradient.

    Forward: ``z ~ pi = softmax(theta)``, exactly 0 and 1.  Backward, for ``g = dL/dz`` after a
    draw of category ``i``, by default half the limit of small steps in the Fisher metric,

    .. math::

        \frac{\partial L}{\partial \theta_k} \leftarrow \tfrac12 \pi_k (g_k - g_i)
        \quad (k \ne i), \qquad
        \frac{\partial L}{\partial \theta_i} \leftarrow -\tfrac12 \sum_k \pi_k (g_k - g_i) ,

    which is ReinMax at temperature 1.  (Half, because each pair of categories counts twice, after
    a draw of the one and of the other; clamped, a step moves mass only to the better one.)  With a
    ``step_size``, ``Delta = M J_h(z)^T g`` and the
    target ``pi_D = h(z - alpha Delta / s)``, it is

    .. math::

        \frac{s}{\alpha} (z - \pi_D), \quad s = \max_k |\Delta_k| ,
        \qquad \text{or, with } \mathtt{relative=False}, \quad z - \pi_D, \quad s = 1 .

    Algorithm 1 of the note is ``step_size=alpha, metric=ils.metric.euclidean, centred=False,
    relative=False``.

    Every estimate is *biased*; the default is exact in expectation for losses that are quadratic
    in each variable with the others held.  The default is linear in ``g``, and a relative step
    homogeneous of degree one in the ``g`` of each draw: the update of an example depends neither
    on the batch it came in nor on a factor of the loss, apart from that factor.  With
    ``relative=False`` a factor on the loss, and so the mean over a batch, changes the direction.

    A program of ``torch.export`` draws, and carries no gradient: it holds the forward pass alone.

    Args:
        logits: ``theta``, floating point, any shape.  ``-inf`` masks a category: it is never
            drawn, and its gradient is exactly zero.
        step_size: ``alpha > 0``; None for half the limit of small steps.  Without unit if
            ``relative``, else in units of one over the gradient of the loss.  Without a step
            size ``normalizer``, ``relative`` and ``keep_mass`` have no effect, and any but the
            defaults are refused.
        metric: of the step: ``ils.metric.fisher``, which weights it by ``pi``,
            ``ils.metric.euclidean``, or a function of the same arguments.
        normalizer: the map ``h``: ``ils.sum_normalize``, ``ils.project_simplex`` or a function
            on the last axis that keeps shapes and one-hot vectors, and with a mask gives no mass to
            ``-inf``.  ``step_size=None`` is the limit of ``ils.sum_normalize_unclamped``.
        centred: hand on ``z - pi_D``; ``False``, only with ``relative=False``, ``pi - pi_D``: the
            same expectation with the noise ``pi - z``, which has mean zero.
        relative: measure the step in units of the largest entry of ``Delta``, row by row.
        keep_mass: step within the plane ``sum(x) = 1``; see :func:`ils.target.direction`.
        dim: the axis of the categories.
        mask: boolean, broadcasting to ``logits``; true where a category cannot be drawn, as if
            its logit were ``-inf``.
        generator: source of the draw; the default is PyTorch's own, which activation
            checkpointing restores, as it does no other.
        draws: shape, or number, of independent draws for each row; their gradients are added.

    Returns:
        One-hot draws of the type of ``logits`` and the shape ``(*draws, *logits.shape)``.

    Raises:
        TypeError: ``logits`` is not a floating-point tensor, ``mask`` not a boolean one,
            ``step_size`` not a number, ``metric`` or ``normalizer`` not a function, ``draws`` not
            integers.
        ValueError: ``logits`` has no category, NaN, +inf or a row of -inf; ``mask`` does not
            broadcast; ``step_size`` is not positive and finite, or missing where an option has
            no effect without one; ``centred=False`` without ``relative=False`` and a ``step_size``;
            ``normalizer`` changes the shape or moves a one-hot vector; ``draws`` has a negative
            entry.  Values are looked at in eager code on a CPU; elsewhere (an accelerator,
            ``torch.compile``, ``torch.func``, tensors that have a shape alone) a row with NaN,
            +inf or only -inf gives NaN.
        NotImplementedError: a derivative in forward mode is asked for.
        RuntimeError: the gradient is differentiated again.

    Example:
        >>> import torch, ils
        >>> logits = torch.zeros(2, 3, requires_grad=True)
        >>> z = ils.sample(logits, generator=torch.Generator().manual_seed(0))
        >>> z.sum(-1)
        tensor([1., 1.], grad_fn=<SumBackward1>)
        >>> (z @ torch.tensor([1.0, 2.0, 3.0])).sum().backward()
        >>> logits.grad.shape
        torch.Size([2, 3])

    Source: Shliselberg (2019), Algorithm 1; the default is Liu et al. (2023), reached from the
    note's construction; the other options are this report's.
    """
    rule = Rule(step_size, metric, normalizer, centred, relative, keep_mass)
    dim = whole(dim)
    check_logits_shape(logits, dim)
    check_rule(rule, logits.shape[dim], logits)
    shape = check_draws(draws)
    if mask is not None:
        check_mask(mask, logits)
        logits = logits.masked_fill(mask, -torch.inf)
    last = dim in (-1, logits.dim() - 1)
    z = sample_with_rule(logits if last else logits.movedim(dim, -1), rule, generator, shape)
    return z if last else z.movedim(-1, dim if dim < 0 else dim - logits.dim())


def differentiable_draw(
    logits: Tensor,
    z: Tensor,
    *,
    step_size: float | None = None,
    metric: Callable[[Tensor, Tensor], Tensor] = fisher,
    normalizer: Callable[[Tensor], Tensor] = sum_normalize,
    centred: bool = True,
    relative: bool = True,
    keep_mass: bool = False,
) -> Tensor:
    r"""Attach the gradient of :func:`sample` to a draw that is already there.

    Forward: ``z``.  Backward: the estimate of :func:`sample`.  Nothing is random here.

    Args:
        logits: ``theta``, floating point, ``(..., K)``, categories last.
        z: one-hot draws of the shape ``(*draws, *logits.shape)``; the gradients of several draws
            are added.
        step_size, metric, normalizer, centred, relative, keep_mass: as in :func:`sample`.

    Returns:
        ``z``, with a gradient for ``logits``.

    Raises:
        TypeError, ValueError: as :func:`sample`, and where ``z`` has another shape or rows that
            are not one-hot, or one-hot at a category that is masked.
        NotImplementedError: a derivative in forward mode is asked for.

    Example:
        >>> import torch, ils
        >>> logits, z = torch.zeros(3, requires_grad=True), torch.tensor([0.0, 1.0, 0.0])
        >>> (ils.differentiable_draw(logits, z) @ torch.tensor([1.0, 2.0, 4.0])).backward()
        >>> (logits.grad * 6).round()
        tensor([-1., -1.,  2.])

    Source: Shliselberg (2019), Algorithm 1.
    """
    rule = Rule(step_size, metric, normalizer, centred, relative, keep_mass)
    check_logits(logits)
    check_one_hot("z", z, logits)
    check_rule(rule, logits.shape[-1], logits)
    return attach(logits, z, rule)
