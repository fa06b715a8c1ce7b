r"""DAPS: draws are weighted towards a better distribution, and made more likely by their weights.

For an objective ``E_q[L] - beta H(q)`` and the present distribution ``q`` the target is the minimum
of ``E_p[L] - beta H(p) + eta KL(p || q)`` over ``p``.  It is ``p`` in proportion to
``exp((eta log q - L) / (eta + beta))``.  Draws from ``q`` have the weights ``p / q``, normalised to
sum to 1, and what is minimised is minus their weighted log-likelihood.  Values of the loss suffice.
``eta`` is such that the effective number of draws, ``1 / sum_k w_k^2`` on average over examples, is
a given share of all.

Drolet et al. (2026), as in the authors' published code, but for ``eta``: there it follows by
gradient steps on the squared difference, here it is solved for at each step.  The code also takes a
baseline off the losses of an example, which the normalisation cancels.  Theirs is a model whose
variables follow one another, or, as here, one without (DAPS-NA).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["trust", "weights"]


def weights(log_probs: Tensor, losses: Tensor, eta: Tensor, beta: float) -> Tensor:
    """Of each draw, along the first axis; they sum to 1.

    Args:
        log_probs: ``log q`` at the draws, ``(D, ..., B)``.
        losses: at the draws, alike.
        eta: ``(...)``.
        beta: of the entropy.
    """
    return ((-losses - beta * log_probs) / (eta + beta).unsqueeze(-1)).softmax(0)


def trust(log_probs: Tensor, losses: Tensor, share: float, beta: float) -> Tensor:
    """The ``eta``, ``(...)``, at which the effective number of draws is this share, by bisection.

    It lies between 1e-6 and 1e6: the end that comes nearer, where no number within does it.
    """
    low = torch.full_like(losses[0, ..., 0], -6.0)
    high = -low
    for _ in range(40):
        middle = (low + high) / 2
        found = weights(log_probs, losses, 10**middle, beta)
        more = (1 / (found**2).sum(0)).mean(-1) > share * len(losses)
        low, high = torch.where(more, low, middle), torch.where(more, middle, high)
    return 10 ** ((low + high) / 2)
