"""The rules of :func:`ils.sample` as estimators."""

from __future__ import annotations

from torch import Tensor

from ils.estimators import Estimator
from ils.estimators.evaluation import Loss, value_and_gradient
from ils.estimators.randomness import Draw
from ils.fast import estimate, form_of
from ils.rules import ReinMax, Rule, Step

__all__ = ["by_rule", "package_default"]


def by_rule(rule: Rule, name: str) -> Estimator:
    """The gradient of :func:`ils.sample` as an estimator: by the fast form, equal bit for bit."""

    def formula(logits: Tensor, z: Tensor, loss: Loss) -> Tensor:
        _, grad = value_and_gradient(loss, z, logits)
        form = form_of(rule)
        assert form is not None
        probs = logits.softmax(-1).expand_as(z).contiguous()
        return estimate(form, grad, z.argmax(-1, keepdim=True), probs, None)

    return Estimator(name, formula, Draw(), evaluations=1, biased=True, differentiates=True)


def package_default(step_size: float | None = None) -> Estimator:
    """The gradient of ``ils.sample(logits)``, or of a relative step of this size."""
    return by_rule(ReinMax() if step_size is None else Step(step_size), "ils.sample")
