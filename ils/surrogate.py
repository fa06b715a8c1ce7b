r"""``ils.surrogate``: a mean loss whose backward pass uses any estimator for the logits.

An estimator evaluates the loss, or its derivative for the draw.  Everything else that the loss
depends on (a decoder, a codebook, features that bypass the draw) needs a gradient at the same
draws.  Each evaluation is therefore stored with its graph; the estimator differentiates it and
retains the graph, and ``backward`` propagates through it to the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ils.autograd import refuse_derivative
from ils.checks import check_logits_shape, check_mask, refuse_forward_mode
from ils.estimators import Estimator
from ils.estimators.evaluation import Loss, check_batch_dims, like_draws
from ils.execution import eager

__all__ = ["surrogate"]


def surrogate(
    estimator: Estimator,
    logits: Tensor,
    loss: Callable[[Tensor], Tensor],
    *,
    mask: Tensor | None = None,
    draws: int = 1,
    generator: torch.Generator | None = None,
    batch_dims: int | None = None,
    lower_variance: bool = True,
) -> Tensor:
    r"""Mean loss of each problem, whose ``backward`` trains all that it depends on.

    Forward, for problem ``b`` with the ``S`` one-hot draws ``z_s`` that the estimator evaluates,

    .. math::

        \hat L_b = \frac 1 S \sum_s L_b(z_s) .

    Backward, for ``w_b``, the gradient of what is minimised for the value of problem ``b``
    (``1 / B`` for ``.mean()``), and the estimates ``e`` of the estimator,

    .. math::

        \text{logits}_b \leftarrow w_b \, \frac 1 D \sum_d e_{d b} , \qquad
        \phi \leftarrow \sum_b w_b \, \frac 1 S \sum_s \frac{\partial L_b(z_s)}{\partial \phi}

    for every other tensor ``phi`` that the loss depends on: parameters, and tensors with a graph
    of their own.  None has to be listed.  An estimator that evaluates one-hot and relaxed points
    (REBAR, MuProp) trains ``phi`` at the one-hot ones alone; one that evaluates relaxed points
    alone trains it, and is averaged, there.

    *Learning estimators.*  Where estimates have a graph, as those of
    :func:`ils.estimators.relax`, ``backward`` also gives the tensors that they depend on the
    gradient of ``sum_b |w_b| mean_d |e_db|**2``.  The mean of the estimates does not depend on
    these, so this is an unbiased gradient of the variance.  Give the parameters of RELAX's network
    to an optimiser, and it is trained by the same ``backward``.  Running averages are updated at
    the call.

    *Bias.*  For the logits that of the estimator.  For ``phi``, and for the value, none where the
    evaluated points are draws from ``softmax(logits)``, dependent ones included.  There is a bias
    where they are not: for draws without replacement (unordered set, sum-and-sample), to which the
    plain mean gives equal weights; for the likeliest category or the mean; for another temperature.

    *Cost.*  The loss is called as often, at as many points, as ``estimator.evaluations`` states.
    An estimator that differentiates has a backward pass to the draws at the call, which cannot be
    merged with the one for ``phi``: the weights ``w_b`` are not known yet.  The graphs of the calls
    are kept until ``backward``.

    Eager code only: ``torch.compile`` breaks its graph here, and ``torch.func`` raises.

    Args:
        estimator: one of :mod:`ils.estimators`.
        logits: ``(*batch, *variables, K)``; ``-inf`` masks a category.  Without a graph, only the
            rest learns.
        loss: maps draws ``(S, *batch, *variables, K)`` to values ``(S, *batch)``; draws and
            problems must not interact.
        mask: boolean, broadcasting to ``logits``; true where a category cannot be drawn.
        draws: ``D``, how many independent estimates are averaged.
        generator: source of the randomness; the default is PyTorch's own.
        batch_dims: how many leading axes of the logits are ``batch``.  The default is one, or none
            for logits ``(K,)``; 0 makes all variables those of one problem.
        lower_variance: whether the tensors that the estimates depend on get the gradient of the
            variance, as above.  False where the network of RELAX shares parameters with the loss,
            or has the encoder's features as inputs, which would get that gradient too.

    Returns:
        ``(*batch)``, in the units of the loss, of the type of its values or of the logits,
        whichever is wider.  Under :class:`torch.no_grad` the value alone: the estimator draws and
        evaluates as usual, and no graph is kept.  A value that is not finite affects its own
        problem only.

    Raises:
        TypeError: ``estimator`` is no :class:`ils.estimators.Estimator`, ``loss`` no function, or
            as the estimator raises at a call.
        ValueError: the loss returns other shapes than ``(S, *batch)``, as one does that averages
            over the batch; its graph does not lead to the draw and the estimator differentiates;
            ``batch_dims`` is no number of leading axes; as the estimator raises at a call.
        NotImplementedError: a derivative in forward mode is asked for.
        RuntimeError: the gradient for the logits is differentiated again; the others can be.

    Example:
        >>> import torch, ils
        >>> generator = torch.Generator().manual_seed(0)
        >>> table = torch.tensor([[0.0, 3.0], [2.0, 0.5], [4.0, 4.0]]).repeat(4, 1)
        >>> encoder, decoder = torch.nn.Linear(2, 4), torch.nn.Linear(4, 2)
        >>> for p in (*encoder.parameters(), *decoder.parameters()):
        ...     _ = torch.nn.init.normal_(p, generator=generator)
        >>> optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=0.1)
        >>> estimator = ils.estimators.leave_one_out(samples=4)
        >>> for step in range(100):
        ...     values = ils.surrogate(
        ...         estimator,
        ...         encoder(table),
        ...         lambda z: ((decoder(z) - table) ** 2).sum(-1),
        ...         generator=generator,
        ...     )
        ...     optimizer.zero_grad()
        ...     values.mean().backward()
        ...     optimizer.step()
        >>> values.shape, bool(values.mean() < 4)  # from 14
        (torch.Size([12]), True)

    Source: this report; surrogate losses in general are Schulman et al. (2015).
    """
    given: Any = estimator
    if not isinstance(given, Estimator):
        got, name = type(given).__name__, getattr(given, "__name__", "")
        if hasattr(given, "gradient"):
            got = f"the rule {given!r}; write ils.estimators.from_rule({given!r})"
        elif callable(given) and name:
            got = f"{name}; write {name}(), with its options"
        raise TypeError(f"estimator: expected an ils.estimators.Estimator, got {got}")
    if not callable(loss):
        raise TypeError(f"loss: expected a function, got {type(loss).__name__}")
    check_logits_shape(logits)
    if mask is not None:
        check_mask(mask, logits)
        logits = logits.masked_fill(mask, -torch.inf)
    if eager():
        refuse_forward_mode(logits)
    batch = check_batch_dims(min(1, logits.dim() - 1) if batch_dims is None else batch_dims, logits)
    assert batch is not None
    seen = _Seen(loss, logits.dtype)
    estimates = estimator(logits, seen, draws=draws, generator=generator, batch_dims=batch)
    mean = seen.mean()
    if not torch.is_grad_enabled():
        return mean
    if logits.requires_grad:
        # Empty, but part of the logits' graph: a second derivative then reaches the node that
        # raises.
        anchor = logits.narrow(-1, 0, 0).clone()
        mean = mean + _Estimate.apply(mean.detach(), logits, anchor, estimates.detach().mean(0))
    if lower_variance and estimates.requires_grad:
        second = (estimates**2).flatten(1 + batch).sum(-1).mean(0)
        mean = mean + _Learning.apply(mean.detach(), second)
    return mean


class _Seen:
    """A loss that stores its values, with their graphs, at the points where it is called.

    Args:
        loss: the user's.
        dtype: that of the logits.
    """

    def __init__(self, loss: Loss, dtype: torch.dtype) -> None:
        self._loss, self._dtype = loss, dtype
        self._values: list[Tensor] = []
        self._hard = False

    def __call__(self, z: Tensor) -> Tensor:
        hard = bool(((z == 0) | (z == 1)).all())
        point = z.detach().requires_grad_(z.requires_grad)
        values = self._loss(point)
        if not isinstance(values, Tensor):
            return values  # refused by the estimator
        if hard and not self._hard:
            self._values, self._hard = [], True  # only one-hot points count from now on
        if hard or not self._hard:
            self._values.append(values)
        # An estimator that differentiates refuses what has no graph at all.
        return _Values.apply(z, (point, values)) if values.requires_grad else values

    def mean(self) -> Tensor:
        """Over all points that count: values ``(S, *batch)`` to ``(*batch)``."""
        values = torch.cat(self._values)
        return values.to(torch.promote_types(values.dtype, self._dtype)).mean(0)


class _Values(torch.autograd.Function):
    """The values of one call; backward differentiates for the points only, and keeps the graph."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, call: tuple[Tensor, Tensor]) -> Tensor:
        # Not by save_for_backward: backward needs the graph of the values.
        ctx.call = call
        return call[1].detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        point, values = ctx.call
        (at,) = torch.autograd.grad(values, point, grads[0], allow_unused=True, retain_graph=True)
        if at is None:
            raise ValueError("loss: expected a function that can be differentiated in the draw")
        return at, None


class _Estimate(torch.autograd.Function):
    """Zeros ``(*batch)``; for the logits, backward is the incoming gradient times the estimates."""

    @staticmethod
    def forward(ctx: Any, like: Tensor, logits: Tensor, anchor: Tensor, estimate: Tensor) -> Tensor:
        ctx.save_for_backward(anchor, estimate)
        return torch.zeros_like(like)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        anchor, estimate = ctx.saved_tensors
        with torch.no_grad():
            update = like_draws(grads[0], estimate) * estimate
        if torch.is_grad_enabled():
            update = refuse_derivative(update, grads[0], anchor)
        return None, update, None, None


class _Learning(torch.autograd.Function):
    """Zeros ``(*batch)``; for ``second``, backward is ``|w|`` for the incoming gradient ``w``."""

    @staticmethod
    def forward(ctx: Any, like: Tensor, second: Tensor) -> Tensor:
        return torch.zeros_like(like)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        # The variance is minimised also where the objective is maximised.
        return None, grads[0].abs()
