"""Entropies and divergences that torch.distributions has not, against sums and integrals."""

from __future__ import annotations

import math

import pytest
import torch
from cases import close
from torch import Tensor
from torch.distributions import kl_divergence

from ils.distributions import NegativeBinomial, VonMises

KAPPA = torch.tensor([1e-8, 1e-3, 0.3, 1.0, 4.0, 30.0, 400.0], dtype=torch.float64)


def circle(nodes: int = 4000) -> Tensor:
    """The trapezium rule, exponentially exact for a period."""
    return torch.arange(nodes, dtype=torch.float64)[:, None, None] * (2 * math.pi / nodes) - math.pi


def log_density(x: Tensor, loc: Tensor, kappa: Tensor) -> Tensor:
    """Von Mises, with the normaliser summed up too; the parent's is good to seven digits only."""
    raw = kappa * (torch.cos(x - loc) - 1)
    return raw - (2 * math.pi * raw.exp().mean(0)).log()


def test_entropy_of_von_mises() -> None:
    """It is the integral of minus p log p, and its derivative that of the integral."""
    kappa = KAPPA.clone().requires_grad_()
    log_p = log_density(circle(), torch.tensor(0.5).double(), kappa)
    wanted = -2 * math.pi * (log_p.exp() * log_p).mean(0).squeeze(0)
    found = VonMises(torch.zeros(7).double(), kappa).entropy()
    assert close(found, wanted, 1e-12)
    assert close(found[0], torch.tensor(2 * math.pi).double().log(), 1e-7)
    gradients = [torch.autograd.grad(x.sum(), kappa)[0] for x in (found, wanted)]
    assert close(*gradients, 1e-11)


def test_divergence_of_von_mises() -> None:
    """It is the integral of p (log p - log q), for all pairs of concentrations and a turn."""
    p_kappa, q_kappa = KAPPA[:, None], KAPPA
    p_loc, q_loc = torch.tensor(0.5).double(), torch.tensor(-0.7).double()
    log_p = log_density(circle(), p_loc, p_kappa)
    log_q = log_density(circle(), q_loc, q_kappa)
    wanted = 2 * math.pi * (log_p.exp() * (log_p - log_q)).mean(0)
    found = kl_divergence(VonMises(p_loc, p_kappa), VonMises(q_loc, q_kappa))
    assert close(found, wanted, 1e-12 * float(wanted.max()))
    assert found.min() >= 0
    assert kl_divergence(VonMises(p_loc, KAPPA), VonMises(p_loc, KAPPA)).abs().max() == 0


def test_divergence_of_sharp_von_mises() -> None:
    """Where both are nearly normal it is that of normals, to the relative order of one over kappa.

    The exponentials of kappa, which no number could hold, are not made.
    """
    kappa = torch.tensor([1e5, 1e6], dtype=torch.float64)
    loc = torch.tensor([0.0, 0.001]).double()
    p, q = VonMises(loc[0], kappa), VonMises(loc[1], kappa.flip(0))
    normals = [torch.distributions.Normal(x.loc, x.concentration.rsqrt()) for x in (p, q)]
    assert torch.allclose(kl_divergence(p, q), kl_divergence(*normals), rtol=1e-4)
    assert torch.allclose(p.entropy(), normals[0].entropy(), rtol=1e-4)


@pytest.mark.parametrize("by", ["probs", "logits"])
def test_divergence_of_negative_binomials(by: str) -> None:
    """It is the sum of p (log p - log q) over the counts, for whole and other total counts."""
    r = torch.tensor([0.3, 1.0, 2.5, 10.0], dtype=torch.float64)
    p_probs = torch.tensor([0.05, 0.3, 0.7], dtype=torch.float64)[:, None]
    q_probs = torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64)[:, None, None]
    p, q = (
        NegativeBinomial(r, **{by: x if by == "probs" else x.logit()}) for x in (p_probs, q_probs)
    )
    z = torch.arange(600, dtype=torch.float64)[:, None, None, None]
    log_p = p.log_prob(z)
    assert close(log_p.exp().sum(0), torch.ones(1, 3, 4).double(), 1e-12)
    wanted = (log_p.exp() * (log_p - q.log_prob(z))).sum(0)
    found = kl_divergence(p, q)
    assert close(found, wanted, 1e-11)
    assert found.max() > 1
    assert torch.equal(found[1, 1], torch.zeros(4).double())


def test_divergences_from_the_parents() -> None:
    """A prior may be the parent's: the divergence is the same, either way round."""
    one, two = torch.tensor(0.3).double(), torch.tensor(1.7).double()
    for ours, parent in (
        (VonMises, torch.distributions.VonMises),
        (NegativeBinomial, torch.distributions.NegativeBinomial),
    ):
        first, second = (two, one), (two, one / 2)
        wanted = kl_divergence(ours(*first), ours(*second))
        assert wanted > 0
        assert torch.equal(kl_divergence(ours(*first), parent(*second)), wanted)
        assert torch.equal(kl_divergence(parent(*first), ours(*second)), wanted)


def test_other_total_count() -> None:
    """Between different numbers of failures there is no closed form, and it is refused."""
    p, q = (NegativeBinomial(r, torch.tensor([0.3, 0.5])) for r in (2.0, 3.0))
    with pytest.raises(NotImplementedError, match="same total_count"):
        kl_divergence(p, q)
    mixed = NegativeBinomial(torch.tensor([2.0, 3.0]), torch.tensor([0.3, 0.5]))
    with pytest.raises(NotImplementedError, match="same total_count"):
        kl_divergence(p, mixed)
