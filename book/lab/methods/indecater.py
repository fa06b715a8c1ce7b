"""IndeCateR: every category of every variable in turn, the other variables as drawn.

Its number of evaluations depends on the problem, and so it stands beside the catalogue: the
reference where the loss is cheap.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ils.estimators import Estimator
from ils.estimators.estimator import unbiased
from ils.estimators.evaluation import Loss, value
from ils.estimators.randomness import Draw
from ils.relaxation import softmax_vjp

__all__ = ["indecater"]


def _formula(logits: Tensor, z: Tensor, loss: Loss, *, variables: int) -> Tensor:
    rows = z.reshape(len(z), -1, variables, z.shape[-1])
    count, problems, _, categories = rows.shape
    # [draw, variable, category, problem]: its own state, whose row ``variable`` is replaced.
    states = rows[:, None, None].expand(count, variables, categories, problems, -1, -1)
    own = torch.eye(variables, dtype=torch.bool, device=z.device)[:, None, None, :, None]
    # A masked category is not evaluated: the drawn one stands for it, with probability zero.
    allowed = ~logits.isneginf().reshape(problems, variables, categories).permute(1, 2, 0)
    taken = own & allowed[..., None, None]
    every = torch.eye(categories, dtype=z.dtype, device=z.device)[:, None, None, :]
    states = torch.where(taken, every, states)
    losses = value(loss, states.reshape(count, variables, categories, *logits.shape), logits)
    losses = losses.reshape(count, variables, categories, problems).permute(0, 3, 1, 2)
    return softmax_vjp(logits.softmax(-1), losses.reshape(z.shape))


def indecater(variables: int, categories: int) -> Estimator:
    r"""``J(pi) L`` for each variable, ``L_k`` the loss with its category ``k``, the others drawn.

    *Approximates* the gradient of ``E[L]`` *with* one draw of all variables; *requires* values of
    the loss; **unbiased**, and of one variable exact.  It is the mean of REINFORCE for a variable
    given the others.  ``variables * categories`` evaluations an estimate.

    Args:
        variables: of each problem.
        categories: of each variable.

    Source: De Smet, Sansone and Zuidberg Dos Martires (2023), as in the authors' published code.
    """
    calls = variables * categories
    return unbiased("IndeCateR", Draw(), calls, _formula, variables=variables)
