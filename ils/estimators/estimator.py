"""One signature for every gradient estimator: ``estimator(logits, loss) -> estimates``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ils.checks import check_count, check_logits
from ils.estimators.evaluation import Loss, batch_dims
from ils.estimators.randomness import Noise, Randomness

__all__ = ["Estimator"]


@dataclass(frozen=True)
class Estimator:
    """A stochastic estimator of the gradient of ``E_{z ~ softmax(logits)}[L(z)]`` for the logits.

    It is a pure ``formula`` of the logits, some noise and the loss, and the ``randomness`` that
    makes the noise.  Calling it does both; :func:`ils.exact.moments` sums the formula over all
    noise instead.

    Attributes:
        name: the method's usual name.
        formula: ``formula(logits, noise, loss)``, one estimate for each entry of the noise's
            leading axis.
        randomness: what the noise is, see :mod:`ils.estimators.randomness`.
        evaluations: how often one estimate evaluates the loss; with its gradient counts once.
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
    ) -> Tensor:
        """Draw estimates of the gradient.

        Args:
            logits: ``(*batch, *variables, K)``; ``-inf`` masks a category.
            loss: maps one-hot (for relaxations: real) ``(D, *batch, *variables, K)`` to values
                ``(D, *batch)``; draws must not interact.
            draws: ``D``, how many independent estimates.
            generator: source of the randomness; the default is PyTorch's own.

        Returns:
            ``(D, *logits.shape)``, in the units of the loss unless the method says otherwise.

        Raises:
            TypeError, ValueError: ``logits`` as in :func:`ils.sample`; ``draws`` is no count; the
                loss returns other shapes.
        """
        check_logits(logits)
        check_count("draws", draws)
        logits = logits.detach()
        problems = batch_dims(loss, logits) if self.randomness.joint else 0
        noise = self.randomness.sample(logits, draws, generator, problems)
        return self.formula(logits, noise, loss)
