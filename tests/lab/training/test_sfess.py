"""SFESS by enumeration in float64: its score, its mean, and what its published code does."""

from __future__ import annotations

import itertools

import torch
from cases import close, normal
from torch import Tensor

from ils.estimators import leave_one_out
from lab.training.tasks.subset import Subset, _Batch, subsets

TASK = Subset()
THETA, B = normal(10, seed=1), normal(10, seed=2)
EVERY = subsets().double()
PROBS = (EVERY @ THETA).softmax(-1)
LOSSES = ((EVERY - B) ** 2).sum(-1)
MEAN = PROBS @ EVERY
EXACT = (PROBS * LOSSES) @ (EVERY - MEAN)


def estimates(index: Tensor) -> Tensor:
    """The estimate of each row of draws, ``(R, samples)``, by way of the noise that gives them."""
    uniform = (PROBS.cumsum(0) - PROBS / 2)[index]
    noise = torch.zeros(len(index), 10, dtype=torch.float64)
    noise[:, : index.shape[1]] = -(-(1 - uniform).log()).log()
    theta = THETA.expand(len(index), 10).clone().requires_grad_()
    parameters = {"theta": theta, "b": B.expand_as(theta)}
    batch = _Batch(uniform[:, 0], noise)
    objective = TASK.own["SFESS"].objective(parameters, batch, float(index.shape[1]))
    return torch.autograd.grad(objective.sum(), theta)[0]


def test_score() -> None:
    """The logarithm of the probability is that of independent bits given their number."""
    theta = THETA.clone().requires_grad_()
    bits = theta.sigmoid()
    count = torch.ones(1, dtype=torch.float64)  # of bits that are one, term by term
    for bit in bits:
        more = torch.nn.functional.pad(count, (1, 0)) * bit
        count = torch.nn.functional.pad(count, (0, 1)) * (1 - bit) + more
    given = (EVERY * bits.log() + (1 - EVERY) * (1 - bits).log()).sum(-1) - count[5].log()
    assert close(given, PROBS.log(), 1e-10)
    for chosen, value in list(zip(EVERY, given, strict=True))[::25]:
        (score,) = torch.autograd.grad(value, theta, retain_graph=True)
        assert close(score, chosen - MEAN, 1e-10)


def test_no_bias() -> None:
    """Over all pairs of draws, and each estimate is that of leave-one-out."""
    total = torch.zeros(10, dtype=torch.float64)
    one = torch.arange(len(PROBS))
    for other in range(len(PROBS)):
        found = estimates(torch.stack([one, one.new_full(one.shape, other)], 1))
        total += PROBS[other] * (PROBS @ found)
        pair = EVERY[one] - EVERY[other]
        assert close(found, (LOSSES - LOSSES[other])[:, None] * pair / 2, 1e-10)
    assert close(total, EXACT, 1e-10)
    assert EXACT.abs().max() > 0.1


def test_it_is_leave_one_out() -> None:
    """Of the catalogue, by way of the logits of the subsets, with four draws."""
    index = torch.randint(252, (30, 4), generator=torch.Generator().manual_seed(0))
    z = torch.nn.functional.one_hot(index, 252).double()
    logits = (EVERY @ THETA).unsqueeze(0)

    def loss(states: Tensor) -> Tensor:
        return (states @ LOSSES).squeeze(-1)

    formula = leave_one_out(samples=4).formula
    wanted = formula(logits, z.unsqueeze(2), loss).squeeze(1) @ EVERY
    assert close(estimates(index), wanted, 1e-10)


def test_published_code_has_a_bias() -> None:
    """By its baseline a factor; by its draws, of which each choice leaves fewer, another law."""
    # Losses less the mean of all, in place of that of the others: half for two draws.
    pairs = (LOSSES[:, None] - LOSSES) / 2
    own = torch.einsum("s,t,st,si->i", PROBS, PROBS, pairs, EVERY - MEAN)
    assert close(own, EXACT / 2, 1e-10)
    # The five largest of perturbed scores: one after the other without replacement.
    weights = THETA.exp()
    law = torch.zeros(252, dtype=torch.float64)
    for order in itertools.permutations(range(5)):
        chosen = weights[EVERY.nonzero()[:, 1].view(252, 5)[:, list(order)]]
        left = weights.sum() - chosen.cumsum(-1) + chosen
        law += (chosen / left).prod(-1)
    assert abs(law.sum() - 1) < 1e-10
    assert (law - PROBS).abs().sum() / 2 > 0.05
    # Its mean with the score of the other law is no multiple of the gradient.
    mean = torch.einsum("s,t,st,si->i", law, law, pairs * 2, EVERY - MEAN)
    assert torch.nn.functional.cosine_similarity(mean, EXACT, dim=0) < 0.999
