"""Gradient estimators under one signature: ``estimator(logits, loss) -> estimates``.

Each function here makes an :class:`Estimator` from the method's own options.  Its docstring says
what the method approximates, with what, what it requires, whether it is biased, how often one
estimate evaluates the loss, and where it was published.
"""

from ils.estimators.antithetic import arm, disarm, disarm_categorical
from ils.estimators.control_variates import double_control_variate, muprop, rebar, relax
from ils.estimators.estimator import Estimator
from ils.estimators.from_rule import from_rule
from ils.estimators.gumbel import (
    decoupled_straight_through_gumbel,
    gumbel_rao,
    gumbel_softmax,
    reinmax_rao,
    straight_through_gumbel,
)
from ils.estimators.intermediate import intermediate_loss_sampling, spigot, spigot_ce, spigot_eg
from ils.estimators.perturbation import adaptive_implicit_mle, blackbox, identity, implicit_mle
from ils.estimators.score_function import leave_one_out, score_function, score_function_running
from ils.estimators.straight_through import (
    darn,
    gapped_straight_through,
    mve,
    reinmax,
    reinmax_control_variate,
    straight_through,
    zgr,
)
from ils.estimators.without_replacement import sum_and_sample, unordered_set

__all__ = [
    "Estimator",
    "adaptive_implicit_mle",
    "arm",
    "blackbox",
    "darn",
    "decoupled_straight_through_gumbel",
    "disarm",
    "disarm_categorical",
    "double_control_variate",
    "from_rule",
    "gapped_straight_through",
    "gumbel_rao",
    "gumbel_softmax",
    "identity",
    "implicit_mle",
    "intermediate_loss_sampling",
    "leave_one_out",
    "muprop",
    "mve",
    "rebar",
    "reinmax",
    "reinmax_control_variate",
    "reinmax_rao",
    "relax",
    "score_function",
    "score_function_running",
    "spigot",
    "spigot_ce",
    "spigot_eg",
    "straight_through",
    "straight_through_gumbel",
    "sum_and_sample",
    "unordered_set",
    "zgr",
]
