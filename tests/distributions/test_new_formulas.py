"""Entropies and divergences that torch.distributions has not, against sums and integrals."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import pytest
import torch
from cases import close
from torch.distributions import kl_divergence

from ils.distributions import NegativeBinomial, VonMises


def test_entropy_and_divergence_of_von_mises_are_integrals() -> None:
    """Of the density, by the trapezium rule, which is exponentially exact for a period."""
    x = torch.arange(4000, dtype=torch.float64)[:, None, None] * (2 * math.pi / 4000)
    kappa = torch.tensor([1e-3, 0.3, 4.0, 400.0], dtype=torch.float64)
    p = VonMises(torch.tensor(0.5).double(), kappa[:, None])
    q = VonMises(torch.tensor(-0.7).double(), kappa)
    weight = 2 * math.pi * p.log_prob(x).exp()
    assert close(p.entropy(), -(weight * p.log_prob(x)).mean(0), 1e-11)
    wanted = (weight * (p.log_prob(x) - q.log_prob(x))).mean(0)
    assert close(kl_divergence(p, q), wanted, 1e-12 * float(wanted.max()))
    assert not kl_divergence(p, p).any()


# Of both forms, on both sides of where the series takes over, and far beyond.
SHARPER = (1e-8, 1e-3, 0.3, 1.0, 10.0, 20.0, 59.0, 61.0, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e12)


def bessel(kappa: float) -> tuple[Any, Any, Any]:
    """``log(exp(-kappa) I_0)``, ``1 - A`` and ``A'``, to forty digits and more."""
    with mpmath.workdps(60):
        k = mpmath.mpf(kappa)
        zero, one = mpmath.besseli(0, k), mpmath.besseli(1, k)
        a = one / zero
        return mpmath.log(zero) - k, 1 - a, 1 - a / k - a * a


def exact_entropy(kappa: float) -> tuple[float, float]:
    """The entropy, and its derivative for the concentration."""
    log_zero, lost, slope = bessel(kappa)
    with mpmath.workdps(60):
        value = mpmath.log(2 * mpmath.pi) + log_zero + mpmath.mpf(kappa) * lost
        return float(value), float(-mpmath.mpf(kappa) * slope)


def exact_divergence(p: float, q: float, turn: float) -> tuple[float, float, float]:
    """The divergence, and its derivatives for the two concentrations."""
    (log_p, lost_p, slope_p), (log_q, lost_q, _) = bessel(p), bessel(q)
    with mpmath.workdps(60):
        p, q, cosine = mpmath.mpf(p), mpmath.mpf(q), mpmath.cos(mpmath.mpf(turn))
        value = q * (1 - (1 - lost_p) * cosine) - p * lost_p + log_q - log_p
        first = (p - q * cosine) * slope_p
        second = (1 - (1 - lost_p) * cosine) - lost_q
        return float(value), float(first), float(second)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_entropy_to_high_precision(dtype: torch.dtype) -> None:
    """Entropy and gradient have the digits of the type, up to a concentration of 1e12."""
    kappa = torch.tensor(SHARPER, dtype=dtype, requires_grad=True)
    q = VonMises(torch.zeros((), dtype=dtype), kappa)
    (slope,) = torch.autograd.grad(q.entropy().sum(), kappa)
    wanted = torch.tensor([exact_entropy(k) for k in kappa.tolist()], dtype=torch.float64)
    off = 1e-6 if dtype == torch.float32 else 1e-13
    assert torch.allclose(q.entropy().double(), wanted[:, 0], rtol=off, atol=off)
    sharp = kappa.detach() > 1e-2  # below it is smaller than the rounding of the terms
    loose = 1e-6 if dtype == torch.float32 else 1e-10
    assert torch.allclose(slope.double()[sharp], wanted[sharp, 1], rtol=loose, atol=0)
    assert bool((slope[sharp] < 0).all())
    lost = torch.tensor([float(bessel(k)[1]) for k in kappa.tolist()], dtype=torch.float64)
    assert torch.allclose(q.variance.double(), lost, rtol=max(off, 1e-12), atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_divergence_to_high_precision(dtype: torch.dtype) -> None:
    """Divergence and gradients, of nearly alike and of unlike concentrations, up to 1e12."""
    pairs = [(a, a * r) for a in SHARPER for r in (0.5, 1.001, 2.0)]
    p, q = (torch.tensor(x, dtype=dtype, requires_grad=True) for x in zip(*pairs, strict=True))
    turns = (0.0, 2.0**-13, 1.0)
    single = dtype == torch.float32
    for turn in turns:
        loc = torch.tensor(turn, dtype=dtype)
        found = kl_divergence(VonMises(loc, p), VonMises(0 * loc, q))
        slopes = torch.autograd.grad(found.sum(), [p, q])
        rows = [exact_divergence(*pair, turn) for pair in zip(p.tolist(), q.tolist(), strict=True)]
        wanted = torch.tensor(rows, dtype=torch.float64).T
        rounding = 1e-6 if single else 1e-12
        assert torch.allclose(found.double(), wanted[0], rtol=rounding, atol=1e-13)
        for slope, true, at in zip(slopes, wanted[1:], (p, q), strict=True):
            # Derivatives for the logarithm of the concentration, which all have one size.
            at = at.detach().double()
            assert torch.allclose(slope.double() * at, true * at, rtol=1e-5, atol=1e-10)
    loc, kappa = torch.zeros((), dtype=dtype), torch.tensor(1e8, dtype=dtype)
    assert float(VonMises(loc, kappa).entropy()) == pytest.approx(-7.791, abs=5e-4)
    found = kl_divergence(VonMises(loc, kappa), VonMises(loc, 2 * kappa))
    assert float(found) == pytest.approx(0.1534, abs=5e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_density_of_sharp_von_mises(dtype: torch.dtype) -> None:
    """The density at, and three standard deviations from, the location; and its gradient."""
    kappa = torch.tensor(SHARPER[3:], dtype=dtype, requires_grad=True)
    for steps in (0.0, 3.0):
        z = (steps * kappa.detach().rsqrt()).clamp(max=3)
        found = VonMises(torch.zeros((), dtype=dtype), kappa).log_prob(z)
        (slope,) = torch.autograd.grad(found.sum(), kappa)
        for k, x, value, moved in zip(
            kappa.tolist(), z.tolist(), found.tolist(), slope.tolist(), strict=True
        ):
            log_zero, lost, _ = bessel(k)
            with mpmath.workdps(60):
                turned = 2 * mpmath.sin(mpmath.mpf(x) / 2) ** 2
                true = float(-k * turned - mpmath.log(2 * mpmath.pi) - log_zero)
                by_kappa = float(lost - turned)
            off = 2e-6 if dtype == torch.float32 else 1e-12
            assert value == pytest.approx(true, rel=off, abs=off)
            assert moved == pytest.approx(by_kappa, rel=1e-5, abs=1e-12)


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
