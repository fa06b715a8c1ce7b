"""A mixture of experts that evaluates the drawn expert alone, times its probability.

So do models with sparse experts: the router then has a gradient without the others, by the factor.
With ``g(s)`` the loss of the output ``s``, and expert ``i`` with probability ``p_i`` and output
``f_i``, the gradient of ``E g(p_i f_i)`` has two parts.  The *draw's* is ``sum_i g(p_i f_i) dp_i``,
where ``g(p_i f_i)`` may be replaced by ``g(p_i f_i) - g(0)``; the *factor's* is
``sum_i p_i g'(p_i f_i) f_i dp_i``.  An estimator gets the second by differentiating the loss.

SparseMixer (Liu et al., 2023) multiplies by ``p_i`` or, half of the time, by ``p_i / 2``, and
doubles the derivative for the factor.  The first half is the factor's part, the second the draw's
by the midpoint rule, exact for quadratic ``g``.  SparseMixer 2 (Liu et al., 2024) multiplies by
``p_i`` in a quarter of the steps and by ``p_i / 3`` in the others: Heun's rule, exact for the
draw's part of a cubic ``g``.  It leaves the factor's part out.  Both are as in the authors'
published code, where the likeliest expert, whenever it is drawn, is multiplied by ``p_i``: so it
has the slope at the end in place of the rule.  The drawn expert learns at the same factors.  The
constants .3333 and .6667 are thirds here.  Left out are what that code has besides: a mask of
experts whose logits are a fifth below the largest, and in the first version a learnt scale of each
output.

Estimators for any loss take part as everywhere, and the model then evaluates all experts: those
that take the derivative for the draw need them.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ils.draw import inverse_cdf
from lab.training.task import Own, Parameters, Stream, linear
from lab.training.tasks.experts import Experts

__all__ = ["FORMS", "Form", "SparseExperts", "multiplier"]


class Form(NamedTuple):
    """A version: the lower factor, how often it is taken, and the derivative for the factor."""

    low: float
    share: float
    slope: float


FORMS = {"SparseMixer": Form(1 / 2, 1 / 2, 2.0), "SparseMixer 2": Form(1 / 3, 3 / 4, 1.0)}


class _Batch(NamedTuple):
    x: Tensor  # (R, B, 4)
    y: Tensor  # (R, B)
    uniform: Tensor  # (R, B), which expert
    coin: Tensor  # (R, B), which factor


def multiplier(form: Form, prob: Tensor, low: Tensor) -> Tensor:
    """What the drawn expert is multiplied by, with a derivative of its own.

    Args:
        form: the version.
        prob: probability of the drawn expert.
        low: whether it has the lower factor.
    """
    value = torch.where(low, form.low * prob, prob)
    return value.detach() + form.slope * (prob - prob.detach())


class SparseExperts(Experts):
    """See the head of this module; the measure is the expected squared error."""

    name = "experts-sparse"
    title = "Sparse experts"
    main_only = True
    decoder = (
        *(f"router{layer}.{kind}" for layer in (1, 2) for kind in ("weight", "bias")),
        *Experts.decoder,
    )

    @property
    def own(self) -> dict[str, Own]:
        """Descent on the exact expectation, and what evaluates the drawn expert alone."""
        sparse = {name: Own(partial(self._sparse, form)) for name, form in FORMS.items()}
        return {**super().own, **sparse}

    def batch(self, parameters: Parameters, stream: Stream, generator: torch.Generator) -> _Batch:
        """Randomness for the methods that draw by themselves, too."""
        x, y = super().batch(parameters, stream, generator)
        uniform, coin = torch.rand(2, *y.shape, generator=generator, device=y.device)
        return _Batch(x, y, uniform, coin)

    def _outputs(self, parameters: Parameters, x: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities, and outputs times these, of every expert, ``(R, B, K)``."""
        probs = self.logits(parameters, _Batch(x, x, x, x)).squeeze(-2).softmax(-1)
        return probs, probs * linear(parameters, "experts", x)

    def loss(self, parameters: Parameters, batch: _Batch, z: Tensor) -> Tensor:
        """Squared error of the drawn expert times its probability."""
        outputs = self._outputs(parameters, batch.x)[1]
        return ((z.squeeze(-2) * outputs).sum(-1) - batch.y) ** 2

    def _errors(self, parameters: Parameters, batch: _Batch) -> tuple[Tensor, Tensor]:
        probs, outputs = self._outputs(parameters, batch.x)
        return probs, (outputs - batch.y.unsqueeze(-1)) ** 2

    def _sparse(self, form: Form, parameters: Parameters, batch: _Batch, _: float = 0.0) -> Tensor:
        logits = self.logits(parameters, batch)
        probs = logits.squeeze(-2).softmax(-1)
        index = inverse_cdf(probs.detach(), batch.uniform).unsqueeze(-1)
        low = (batch.coin < form.share) & (index != probs.argmax(-1, keepdim=True)).squeeze(-1)
        factor = multiplier(form, probs.gather(-1, index).squeeze(-1), low)
        # The drawn expert alone: its row of the weights for each example.
        rows = parameters["experts.weight"].mT.gather(1, index.expand_as(batch.x))
        output = (rows * batch.x).sum(-1) + parameters["experts.bias"].gather(-1, index.squeeze(-1))
        return ((factor * output - batch.y) ** 2).mean(-1) + self.penalty(parameters, batch, logits)
