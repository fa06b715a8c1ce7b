"""One signature for every gradient estimator: ``estimator(logits, loss) -> estimates``."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, TypeVar

import torch
from torch import Tensor

from ils.checks import check_count, check_generator, check_logits, check_logits_shape
from ils.estimators.evaluation import Loss, check_batch_dims, widened, with_batch
from ils.estimators.evaluation import batch_dims as found_batch_dims
from ils.estimators.randomness import Noise, Randomness
from ils.execution import holds_values
from ils.relaxation import levelled
from ils.rules import Rule

__all__ = ["Estimator", "Formula", "biased", "documented", "unbiased"]


class Formula:
    """A formula with fixed options, as a value: it can be compared, hashed and pickled.

    Args:
        function: ``function(logits, noise, loss, **options)``, see :class:`Estimator`.
        options: the method's own; numbers of any kind are converted to Python's.

    Raises:
        ValueError: at a call, where the type of the logits cannot hold an option.

    Example:
        >>> import ils
        >>> ils.estimators.reinmax().formula == ils.estimators.reinmax(temperature=1).formula
        True

    Source: this report.
    """

    def __init__(self, function: Callable[..., Tensor], **options: Any) -> None:
        self.function = function
        self.options: dict[str, Any] = {name: _plain(option) for name, option in options.items()}

    def __call__(self, logits: Tensor, noise: Noise, loss: Loss) -> Tensor:
        for name, option in self.options.items():
            held = vars(option) if isinstance(option, Rule) else {name: option}
            for part, value in held.items():
                _check_held(part, value, logits.dtype)
        return self.function(self._prepared(logits), noise, loss, **self.options)

    def _prepared(self, logits: Tensor) -> Tensor:
        """The logits as the function receives them; only their differences matter."""
        return levelled(logits)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Formula):
            return NotImplemented
        return self.function == other.function and same(self.options, other.options)

    def __hash__(self) -> int:
        # Without options that can change (a running baseline) or have no hash (some callables).
        fixed = ((k, v) for k, v in self.options.items() if isinstance(v, int | float | str | Rule))
        return hash((self.function, *fixed))

    def __repr__(self) -> str:
        options = "".join(f", {name}={option!r}" for name, option in self.options.items())
        where = self.function
        return f"Formula({where.__module__}.{where.__qualname__}{options})"


def _check_held(name: str, option: Any, dtype: torch.dtype) -> None:
    """Refuse a number that the type of the logits rounds to zero, to few digits or to infinity."""
    kind = torch.finfo(dtype)
    given = isinstance(option, float) and option and not math.isinf(option)
    if given and not kind.tiny <= abs(option) <= kind.max:
        raise ValueError(
            f"{name}: expected a number from {kind.tiny:.2g} to {kind.max:.2g} for {dtype}, "
            f"got {option:g}"
        )


def _plain(option: Any) -> Any:
    """Numbers of other libraries as Python's own."""
    if isinstance(option, bool) or not isinstance(option, Real):
        return option
    return int(option) if isinstance(option, Integral) else float(option)


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two sets of options or of attributes are equal; tensors are by type and entries."""

    def equal(left: Any, right: Any) -> bool:
        if isinstance(left, Tensor) and isinstance(right, Tensor):
            return left.dtype == right.dtype and torch.equal(left, right)
        if isinstance(left, Tensor) or isinstance(right, Tensor):
            return False
        return left is right or bool(left == right)

    return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)


@dataclass(frozen=True)
class Estimator:
    """A stochastic estimator of the gradient of ``E_{z ~ softmax(logits)}[L(z)]`` for the logits.

    It is a pure ``formula`` of the logits, some noise and the loss, and the ``randomness`` that
    makes the noise.  Calling it does both; :func:`ils.exact.moments` sums the formula over all
    noise instead.

    As a value it can be compared, hashed, copied and pickled, if its parts can.  State that a
    method learns counts for equality, and not for the hash.

    Attributes:
        name: the method's usual name.
        formula: ``formula(logits, noise, loss)``, one estimate for each entry of the noise's
            leading axis.
        randomness: what the noise is, see :mod:`ils.estimators.randomness`.
        evaluations: at how many draws one estimate evaluates the loss; a value together with its
            gradient counts once.
        biased: whether its expectation differs from the gradient, for some loss.
        differentiates: whether it needs the derivative of the loss.

    Shape:
        Logits ``(*batch, *variables, K)`` to estimates ``(D, *batch, *variables, K)``.

    Raises:
        TypeError, ValueError: at a call, see :meth:`Estimator.__call__`.

    Example:
        >>> import torch, ils
        >>> loss = lambda z: (z @ torch.tensor([1.0, 2.0, 4.0])) ** 2
        >>> generator = torch.Generator().manual_seed(0)
        >>> estimator = ils.estimators.straight_through()
        >>> estimator(torch.zeros(3), loss, draws=5, generator=generator).shape
        torch.Size([5, 3])

    Source: this report.
    """

    name: str
    formula: Callable[[Tensor, Noise, Loss], Tensor]
    randomness: Randomness
    evaluations: int
    biased: bool
    differentiates: bool

    def __call__(
        self,
        logits: Tensor,
        loss: Loss,
        *,
        draws: int = 1,
        generator: torch.Generator | None = None,
        batch_dims: int | None = None,
    ) -> Tensor:
        """Draw estimates of the gradient.

        Args:
            logits: ``(*batch, *variables, K)``; ``-inf`` masks a category.
            loss: maps one-hot (for relaxations: real) ``(D, *batch, *variables, K)`` to values
                ``(D, *batch)``; draws must not interact.  One that averages over the batch makes
                one problem of all examples, see :mod:`ils.estimators.evaluation`.
            draws: ``D``, how many independent estimates.
            generator: source of the randomness; the default is PyTorch's own.
            batch_dims: how many leading axes of the logits count problems; a loss that returns
                other values than ``(D, *batch)`` then raises.  None to infer it from these values.
                The unordered set and sum-and-sample need it before they draw: with None they
                call the loss with draws that have a shape and no values (``FakeTensor``), which
                evaluates nothing; give it for a loss that stores what it computes.

        Returns:
            ``(D, *logits.shape)``, in the units of the loss unless the method says otherwise, and
            in the type of the logits: what overflows it is infinite.  They are detached from the
            graph, unless the method says otherwise.  Half types are computed in float32; the
            loss gets draws of their own type.  Where the loss or its gradient is not finite, the
            estimates of that draw and problem are not finite, and no others.

        Raises:
            TypeError, ValueError: ``logits`` as in :func:`ils.sample`; ``draws`` is no count,
                ``batch_dims`` no number of leading axes; the loss returns other shapes, or is
                called to infer ``batch_dims`` and reads values.
        """
        valued = not isinstance(logits, Tensor) or holds_values(logits)
        (check_logits if valued else check_logits_shape)(logits)
        check_count("draws", draws)
        check_generator(generator)
        batch_dims = check_batch_dims(batch_dims, logits)
        seen: list[Tensor] = []
        held = with_batch(loss, logits, batch_dims)

        def watched(z: Tensor) -> Tensor:
            values = held(z)
            if isinstance(values, Tensor):  # the formula raises for anything else
                seen[:] = [values.detach()]
            return values

        work, wide = widened(logits.detach(), watched)
        problems = batch_dims or 0
        if self.randomness.joint and batch_dims is None:
            problems = found_batch_dims(widened(logits, loss)[1], work, evaluate=False)
        noise = self.randomness.sample(work, int(draws), generator, problems)
        estimates = self._handed_on(self.formula(work, noise, wide).to(logits.dtype))
        if valued:
            self._learn(estimates, seen[0])
        return estimates

    def _handed_on(self, estimates: Tensor) -> Tensor:
        """The estimates as they are returned to the caller."""
        return estimates.detach()

    def _learn(self, estimates: Tensor, values: Tensor) -> None:
        """Update learnt state from the estimates of a call and the last values of the loss."""


def biased(
    name: str, randomness: Randomness, function: Callable[..., Tensor], /, **options: Any
) -> Estimator:
    """A biased method, which takes the derivative of the loss at one point."""
    return Estimator(
        name,
        Formula(function, **options),
        randomness,
        evaluations=1,
        biased=True,
        differentiates=True,
    )


def unbiased(
    name: str,
    randomness: Randomness,
    evaluations: int,
    function: Callable[..., Tensor],
    /,
    *,
    differentiates: bool = False,
    **options: Any,
) -> Estimator:
    """An unbiased method, which takes values of the loss, and its derivative if told so."""
    return Estimator(
        name,
        Formula(function, **options),
        randomness,
        evaluations=evaluations,
        biased=False,
        differentiates=differentiates,
    )


_RETURNS = """\
Returns:
    An :class:`Estimator`, whose estimates have the shape ``(D, *logits.shape)`` for logits
    ``(*batch, *variables, K)``, and the units of the loss unless said otherwise above.

Raises:
"""
_RAISES = "    TypeError, ValueError: at a call, as :class:`Estimator`.\n\n"

_Factory = TypeVar("_Factory", bound=Callable[..., Estimator])


def documented(factory: _Factory) -> _Factory:
    """Say in the docstring of a factory what all of them return, and what a call raises."""
    head, example, rest = inspect.cleandoc(factory.__doc__ or "").partition("Example:\n")
    about, _, own = head.partition("Raises:\n")
    factory.__doc__ = f"{about}{_RETURNS}{own.removesuffix(chr(10))}{_RAISES}{example}{rest}"
    return factory
