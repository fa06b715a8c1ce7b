"""DAPS by enumeration in float64: its target, weights and limit, and what the VAE minimises."""

from __future__ import annotations

import pytest
import torch
from cases import close, normal

from ils.states import states
from lab.methods.daps import trust, weights
from lab.training.task import Stream
from lab.training.tasks.autoencoder import Autoencoder

LOGITS = normal(2, 3, seed=1).requires_grad_()
EVERY = states(LOGITS.detach(), 0)  # all nine states of two variables
LOG_Q = (LOGITS.log_softmax(-1) * EVERY).sum((-1, -2))
LOSSES = 2 * normal(9, seed=2)


@pytest.mark.parametrize(("eta", "beta"), [(0.3, 1.0), (2.0, 0.1), (1.0, 0.0)])
def test_target(eta: float, beta: float) -> None:
    """The derivative of its objective is the same for every state: it is the minimum."""
    q = LOG_Q.detach()
    found = weights(q[:, None], LOSSES[:, None], torch.tensor(eta, dtype=torch.float64), beta)[:, 0]
    p = found * q.exp()
    p = p / p.sum()
    slope = LOSSES + beta * p.log() + eta * (p.log() - q)
    assert close(slope, slope[:1].expand(9), 1e-10)
    # False: that of the present distribution.
    assert (LOSSES + beta * q).std() > 0.1


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_effective_number(share: float) -> None:
    """The share is met, run by run; the less of it, the farther the target."""
    log_probs, losses = normal(8, 3, 20, seed=6) - 3, 5 * normal(8, 3, 20, seed=7)
    losses[:, 1] *= 10
    eta = trust(log_probs, losses, share, 1.0)
    found = weights(log_probs, losses, eta, 1.0)
    assert close((1 / (found**2).sum(0)).mean(-1), torch.full((3,), 8 * share).double(), 1e-6)
    assert (trust(log_probs, losses, share + 0.1, 1.0) > eta).all()
    assert eta[1] > 5 * eta[0]


def test_small_steps() -> None:
    """For large ``eta``, over all pairs of draws, it is half of the gradient of the bound.

    That is ``1 - 1/D`` for ``D`` draws, over ``eta + beta``.
    """
    beta = 0.7
    bound = (LOG_Q.exp() * (LOSSES + beta * LOG_Q)).sum()
    wanted = torch.autograd.grad(bound, LOGITS, retain_graph=True)[0] / 2
    q = LOG_Q.detach()
    pairs = torch.stack(torch.meshgrid(*[torch.arange(9)] * 2, indexing="ij")).flatten(1)
    errors = []
    for size in (1e3, 1e4, 1e5):
        eta = torch.tensor(size, dtype=torch.float64)
        found = weights(q[pairs], LOSSES[pairs], eta, beta)
        likelihood = -(found * LOG_Q[pairs]).sum(0)
        mean = (q[pairs].sum(0).exp() * likelihood).sum() * (size + beta)
        grad = torch.autograd.grad(mean, LOGITS, retain_graph=True)[0]
        errors.append(float((grad - wanted).abs().max()))
    assert wanted.abs().max() > 0.1
    assert errors[0] < 1e-2
    assert errors[1] < errors[0] / 5
    assert errors[2] < errors[1] / 5


def test_what_the_vae_minimises() -> None:
    """Minus the weighted log-likelihood for the encoder, the mean loss for the decoder."""
    task = Autoencoder(3, 2, widths=(5,), examples=4)
    stream = Stream([1, 2])
    parameters = {n: p.double().requires_grad_() for n, p in task.start(stream).items()}
    batch = [x.double() for x in task.batch(parameters, stream, torch.Generator())]
    logits = task.logits(parameters, batch)
    index = torch.randint(3, (8, 2, 4, 2), generator=torch.Generator().manual_seed(1))
    z = torch.nn.functional.one_hot(index, 3).double()
    losses = task.loss(parameters, batch, z)
    log_probs = torch.distributions.Categorical(logits=logits).log_prob(index.double()).sum(-1)
    given = log_probs.detach(), losses.detach()
    eta = trust(*given, 0.5, 1.0)[:, None]
    target = (eta * given[0] - given[1]) / (eta + 1)
    ratio = (target - given[0]).exp()
    weight = ratio / ratio.sum(0)
    objective = task.reweighted(parameters, batch, logits, index, 0.5).sum()
    for name, parameter in parameters.items():
        (found,) = torch.autograd.grad(objective, parameter, retain_graph=True)
        value = losses.mean(0) if name in task.decoder else -(weight * log_probs).sum(0)
        (wanted,) = torch.autograd.grad(value.mean(-1).sum(), parameter, retain_graph=True)
        assert close(found, wanted, 1e-10), name
        assert wanted.abs().max() > 1e-4
