"""The rules of :func:`ils.sample` as estimators."""

from __future__ import annotations

from torch import Tensor

from ils import metric, simplex
from ils.estimators import Estimator
from ils.estimators.evaluation import Loss, value_and_gradient
from ils.estimators.randomness import Draw
from ils.rule import Rule, estimate

__all__ = ["by_rule", "package_default"]


def by_rule(rule: Rule, name: str) -> Estimator:
    """What :func:`ils.sample` hands on, as an estimator."""

    def formula(logits: Tensor, z: Tensor, loss: Loss) -> Tensor:
        _, grad = value_and_gradient(loss, z, logits)
        probs = logits.softmax(-1).expand_as(z).contiguous()
        return estimate(rule, grad, z.argmax(-1, keepdim=True), probs, None)

    return Estimator(name, formula, Draw(), evaluations=1, biased=True, differentiates=True)


def package_default(step_size: float | None = None) -> Estimator:
    """The gradient of ``ils.sample(logits, step_size=step_size)``."""
    rule = Rule(step_size, metric.fisher, simplex.sum_normalize, True, True, False)
    return by_rule(rule, "ils.sample")
