r"""The intermediate loss of any distribution: ``-log p(z - alpha M g; theta)``, at a given draw.

For a one-hot draw this is the note's cross-entropy; for another it needs a log-density that can be
differentiated for the draw and for the parameters.  The result has the units of a score and not of
a gradient: :mod:`ils.velocity` has the same rule in the units of a gradient.

Only :func:`round_at_random` is random.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, biject_to, constraints

from ils.checks import check_floating, check_positive, check_same_shape
from ils.execution import holds_values

__all__ = ["at_each_draw", "clamp", "intermediate_gradient", "round_at_random", "unconstrained"]

Move = Callable[[Tensor, Tensor], Tensor]


def intermediate_gradient(
    distribution: Distribution,
    z: Tensor,
    grad: Tensor,
    *,
    step_size: float | None = None,
    metric: Callable[[Tensor], Tensor] | None = None,
    move: Move | None = None,
    centred: bool = True,
) -> dict[str, Tensor]:
    r"""Gradient of the intermediate loss for each parameter, for each draw, over the step size.

    .. math::

        & \frac1\alpha \bigl[ s(z) - s(z') \bigr], \quad z' = z - \alpha M(z) g, \quad
        s(z) = \partial_\theta \log p(z; \theta), \\
        & \text{or its limit}\quad
        \bigl(\partial_z \partial_\theta \log p\bigr) M(z) g

    for ``step_size=None``; with ``centred=False`` the term ``s(z)``, of mean zero, is left out.

    *Biased*, and in the units of the Fisher matrix times a gradient where ``M`` has no unit.

    Args:
        distribution: with a ``log_prob`` that is differentiable in the draw and the parameters.
        z: draws ``(*draws, *batch_shape, *event_shape)``.
        grad: ``g = dL/dz`` at the draws, of the same shape.
        step_size: ``alpha > 0``; None for the limit of small steps.
        metric: ``M``, diagonal: a function of the draws with values that broadcast to them.
        move: maps the step back to the support: a function of ``z`` and ``alpha M g``, such as
            :func:`clamp`; None for ``z - alpha M g`` on the real line and the integers between
            their bounds, and for :func:`unconstrained` on other supports.
        centred: whether ``s(z)`` is subtracted.

    Returns:
        By the name of each floating-point parameter that the distribution was made of, the shape
        ``(*draws, *batch_shape)`` and that of the parameter of one event.

    Raises:
        TypeError: ``distribution`` is not one, or its ``log_prob`` has no derivative for the draw,
            such as one that looks a category up; ``z`` not floating point; ``step_size`` not a
            number.
        ValueError: shapes differ; ``step_size`` is not positive and finite; ``z`` is not in the
            support; ``centred=False`` without a ``step_size``; ``move`` leaves the bounds.

    Example:
        >>> import torch, ils
        >>> normal = torch.distributions.Normal(torch.tensor(0.0), torch.tensor(2.0))
        >>> z, g = torch.tensor([1.0, -4.0]), torch.tensor([1.0, 1.0])
        >>> ils.intermediate.intermediate_gradient(normal, z, g)["loc"]
        tensor([0.2500, 0.2500])

    Source: Shliselberg (2019), who proposes it for other than categorical variables.
    """
    if not isinstance(distribution, Distribution):
        raise TypeError(
            f"distribution: expected a torch Distribution, got {type(distribution).__name__}"
        )
    if step_size is None:
        if not centred:
            raise ValueError("centred=False: expected a step_size; the noise grows without bound")
    else:
        check_positive("step_size", step_size)
    check_floating("z", z)
    check_same_shape("grad", grad, z)
    support: Any = distribution.support
    if holds_values(z) and not bool(support.check(z).all()):
        raise ValueError(f"z: expected draws in {support}, got others")
    z = z.detach()
    direction = grad if metric is None else metric(z) * grad
    with torch.enable_grad():
        leaves, bound = at_each_draw(distribution, z)
        at = z.clone().requires_grad_()
        slope = _slope(bound, at, support)
        if step_size is None:
            total = (slope * direction).sum()
            if not total.requires_grad:
                return {name: torch.zeros_like(value) for name, value in leaves.items()}
            gradients = _derivatives(total, [*leaves.values()])
            return {name: value.detach() for name, value in zip(leaves, gradients, strict=True)}

    def score(at: Tensor) -> dict[str, Tensor]:
        with torch.enable_grad():
            leaves, bound = at_each_draw(distribution, at)
            gradients = _derivatives(bound.log_prob(at).sum(), [*leaves.values()])
            return {name: value.detach() for name, value in zip(leaves, gradients, strict=True)}

    stepped = (move or _default_move(support))(z, step_size * direction)
    low, high = _bounds(support)
    if holds_values(z) and not bool(((stepped >= low) & (stepped <= high)).all()):
        raise ValueError("move: expected values within the bounds of the support, got others")
    after = score(stepped)
    if not centred:
        return {name: -value / step_size for name, value in after.items()}
    before = score(z)
    return {name: (before[name] - after[name]) / step_size for name in after}


def _slope(distribution: Distribution, at: Tensor, support: Any) -> Tensor:
    """The derivative of ``log p`` for the draw; raises where a probability is looked up."""
    density = distribution.log_prob(at)
    gradient: Any = None
    if density.requires_grad:
        (gradient,) = torch.autograd.grad(density.sum(), at, create_graph=True, allow_unused=True)
    if gradient is None and support.is_discrete:
        raise TypeError(
            "distribution: expected a log_prob that has a derivative for the draw, got that of "
            f"{type(distribution).__name__}"
        )
    return torch.zeros_like(at) if gradient is None else gradient  # a constant density


def _derivatives(total: Tensor, sources: list[Tensor]) -> tuple[Tensor, ...]:
    """Derivatives that can be differentiated again; zero where there is no dependence."""
    return torch.autograd.grad(total, sources, create_graph=True, materialize_grads=True)


def at_each_draw(distribution: Distribution, z: Tensor) -> tuple[dict[str, Tensor], Distribution]:
    """A leaf for each parameter and draw, and the distribution made of them.

    Args:
        distribution: of floating-point parameters.
        z: draws ``(*draws, *batch_shape, *event_shape)``; only their shape is used.

    Returns:
        By its name each parameter that the distribution was made of, ``(*draws, *batch_shape)`` and
        its shape for one event, without integer ones such as the number of trials.

    Raises:
        TypeError: the distribution cannot be made of its parameters alone.

    Example:
        >>> import torch, ils
        >>> normal = torch.distributions.Normal(torch.tensor(0.0), torch.tensor(2.0))
        >>> leaves, bound = ils.intermediate.at_each_draw(normal, torch.zeros(5))
        >>> bound.log_prob(torch.ones(5)).sum().backward()
        >>> leaves["loc"].grad
        tensor([0.2500, 0.2500, 0.2500, 0.2500, 0.2500])

    Source: this report.
    """
    given: dict[str, Any] = distribution.__dict__
    constraint: dict[str, Any] = distribution.arg_constraints
    # Of these two the given one was set first; the other is computed from it.
    twins = [name for name in given if name in ("probs", "logits")]
    names = [name for name in constraint if name not in ("probs", "logits")] + twins[:1]
    draws = z.shape[: z.dim() - len(distribution.batch_shape) - len(distribution.event_shape)]
    parameters = {name: getattr(distribution, name).detach() for name in names}
    values = {name: value.expand(draws + value.shape) for name, value in parameters.items()}
    leaves = {
        name: value.clone().requires_grad_()
        for name, value in values.items()
        if value.is_floating_point() and not constraint[name].is_discrete
    }
    family: Any = type(distribution)
    refusal = f"distribution: expected one that is made of {sorted(values)}, got {family.__name__}"
    try:
        made = family(**{**values, **leaves}, validate_args=False)
    except (TypeError, ValueError) as error:
        raise TypeError(refusal) from error
    if made.event_shape != distribution.event_shape:  # something else that it was made of is lost
        raise TypeError(refusal)
    return leaves, made


def _bounds(support: Any) -> tuple[Any, Any]:
    if support is constraints.boolean:
        return 0.0, 1.0
    low = getattr(support, "lower_bound", -torch.inf)
    return low, getattr(support, "upper_bound", torch.inf)


def _default_move(support: Any) -> Move:
    if support.is_discrete:
        return clamp(*_bounds(support))
    if support is constraints.real or support is constraints.real_vector:
        return torch.sub
    return unconstrained(support)


def clamp(low: Tensor | float, high: Tensor | float) -> Move:
    """Step, and stop at the bounds: ``min(max(z - step, low), high)``.

    Between whole numbers the log-density is continued.

    Args:
        low, high: bounds, broadcasting to the draws ``(...)``.

    Returns:
        A ``move`` for :func:`intermediate_gradient`.

    Raises:
        RuntimeError: the bounds do not broadcast, when it is called.

    Example:
        >>> import torch, ils
        >>> ils.intermediate.clamp(0, 5)(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 0.5]))
        tensor([0.0000, 1.5000])

    Source: this report.
    """

    def move(z: Tensor, step: Tensor) -> Tensor:
        ends = (torch.as_tensor(end, dtype=z.dtype, device=z.device) for end in (low, high))
        return (z - step).clamp(*ends)

    return move


def round_at_random(
    low: Tensor | float, high: Tensor | float, generator: torch.Generator | None = None
) -> Move:
    """Step, stop at the bounds, and round at random to a neighbouring integer, with that mean.

    ``floor(x) + 1{u < x - floor(x)}`` with ``x = min(max(z - step, low), high)`` and ``u`` uniform.

    Args:
        low, high: bounds, whole numbers, broadcasting to the draws ``(...)``.
        generator: source of the rounding; the default is PyTorch's own.

    Returns:
        A ``move`` for :func:`intermediate_gradient`.

    Raises:
        RuntimeError: the bounds do not broadcast, when it is called.

    Example:
        >>> import torch, ils
        >>> ils.intermediate.round_at_random(0, 5)(torch.tensor([2.0]), torch.tensor([1.0]))
        tensor([1.])

    Source: this report.
    """
    clamped = clamp(low, high)

    def move(z: Tensor, step: Tensor) -> Tensor:
        stepped = clamped(z, step)
        u = torch.rand(z.shape, dtype=z.dtype, device=z.device, generator=generator)
        return stepped.floor() + (u < stepped - stepped.floor())

    return move


def unconstrained(support: Any) -> Move:
    """Step in the unconstrained coordinate of a support, such as the logarithm or the logit.

    To first order the same step: ``y - (dy/dz) step``, which never leaves the support.

    Args:
        support: a constraint of ``torch.distributions`` for scalars ``(...)``.

    Returns:
        A ``move`` for :func:`intermediate_gradient`.

    Raises:
        NotImplementedError: PyTorch has no transform for the support, or it is one of vectors.

    Example:
        >>> import torch, ils
        >>> positive = torch.distributions.constraints.positive
        >>> ils.intermediate.unconstrained(positive)(torch.tensor(1.0), torch.tensor(5.0)) > 0
        tensor(True)

    Source: this report; the coordinates are those of ``torch.distributions.biject_to``.
    """
    if support.event_dim > 0:
        raise NotImplementedError(f"support: expected one of single numbers, got {support}")
    transform: Any = biject_to(support)
    low, high = _bounds(support)

    def move(z: Tensor, step: Tensor) -> Tensor:
        y = transform.inv(z)
        slope = transform.sign * transform.log_abs_det_jacobian(y, z).exp()
        return transform(y - step / slope).clamp(*_inside(low, high, z))

    return move


def _inside(low: Any, high: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    """The first and last numbers within bounds: a step too large for the type ends on these."""
    low, high = (torch.as_tensor(x, dtype=like.dtype, device=like.device) for x in (low, high))
    first = low.nextafter(torch.full_like(low, torch.inf))
    last = high.nextafter(torch.full_like(high, -torch.inf))
    # Next to zero they are too small to be divided by.
    tiny = torch.finfo(like.dtype).tiny
    return torch.maximum(first, low + tiny), torch.minimum(last, high - tiny)
