"""Gradient estimators under one signature: ``estimator(logits, loss) -> estimates``.

Each function here makes an :class:`Estimator` from the method's own options.  Its docstring says
what the method approximates, with what, what it requires, whether it is biased, how often one
estimate evaluates the loss, and where it was published.
"""

from ils.estimators.estimator import Estimator
from ils.estimators.gumbel import gumbel_softmax, straight_through_gumbel
from ils.estimators.intermediate import intermediate_loss_sampling
from ils.estimators.running_baseline import score_function_running
from ils.estimators.score_function import score_function
from ils.estimators.straight_through import straight_through

__all__ = [
    "Estimator",
    "gumbel_softmax",
    "intermediate_loss_sampling",
    "score_function",
    "score_function_running",
    "straight_through",
    "straight_through_gumbel",
]
