"""Gradient estimators under one signature: ``estimator(logits, loss) -> estimates``.

Each function here makes an :class:`Estimator` from the method's own options.  Its docstring says
what the method approximates, with what, what it requires, whether it is biased, how often one
estimate evaluates the loss, and where it was published.
"""

from ils.estimators.aimle import adaptive_implicit_mle
from ils.estimators.arm import arm
from ils.estimators.blackbox import blackbox
from ils.estimators.darn import darn
from ils.estimators.decoupled import decoupled_straight_through_gumbel
from ils.estimators.disarm import disarm
from ils.estimators.disarm_categorical import disarm_categorical
from ils.estimators.estimator import Estimator
from ils.estimators.from_rule import from_rule
from ils.estimators.gapped import gapped_straight_through
from ils.estimators.gumbel import gumbel_softmax, straight_through_gumbel
from ils.estimators.gumbel_rao import gumbel_rao
from ils.estimators.identity import identity
from ils.estimators.imle import implicit_mle
from ils.estimators.intermediate import intermediate_loss_sampling
from ils.estimators.leave_one_out import leave_one_out
from ils.estimators.muprop import muprop
from ils.estimators.rebar import rebar
from ils.estimators.reinmax import reinmax
from ils.estimators.relax import relax
from ils.estimators.running_baseline import score_function_running
from ils.estimators.score_function import score_function
from ils.estimators.spigot import spigot
from ils.estimators.spigot_ce import spigot_ce
from ils.estimators.spigot_eg import spigot_eg
from ils.estimators.straight_through import straight_through
from ils.estimators.sum_and_sample import sum_and_sample
from ils.estimators.taylor import double_control_variate
from ils.estimators.unordered_set import unordered_set
from ils.estimators.zgr import zgr

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
    "rebar",
    "reinmax",
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
