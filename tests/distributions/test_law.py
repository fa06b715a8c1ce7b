"""The law of a draw, by tests whose false alarms have a stated probability.

Every p-value is compared with one in a million: with some twenty of them, a correct program fails
with another seed once in fifty thousand times.  Each test is then given the draws of a parameter
that is off by a fifth, and must see that.
"""

from __future__ import annotations

import math

import pytest
import scipy.stats
import torch
from cases import generator
from torch import Tensor

from ils import distributions

DRAWS = 20_000
LEVEL = 1e-6

COUNTS: dict[str, tuple[str, dict[str, float]]] = {
    "Bernoulli": ("Bernoulli", {"probs": 0.3}),
    "Bernoulli-logits": ("Bernoulli", {"logits": -1.0}),
    "Binomial": ("Binomial", {"total_count": 7, "probs": 0.3}),
    "Binomial-large": ("Binomial", {"total_count": 100, "probs": 0.4}),
    "Poisson": ("Poisson", {"rate": 2.5}),
    "Poisson-large": ("Poisson", {"rate": 40.0}),
    "Geometric": ("Geometric", {"probs": 0.3}),
    "Geometric-logits": ("Geometric", {"logits": 1.0}),
    "NegativeBinomial": ("NegativeBinomial", {"total_count": 2.5, "probs": 0.4}),
    "NegativeBinomial-small": ("NegativeBinomial", {"total_count": 0.2, "logits": 2.0}),
}
CONTINUOUS: dict[str, tuple[str, dict[str, float]]] = {
    "Normal": ("Normal", {"loc": 1.0, "scale": 2.0}),
    "Gamma-small": ("Gamma", {"concentration": 0.3, "rate": 2.0}),
    "Gamma": ("Gamma", {"concentration": 4.0, "rate": 0.5}),
    "Beta": ("Beta", {"concentration1": 0.5, "concentration0": 2.0}),
    "VonMises-flat": ("VonMises", {"loc": 0.5, "concentration": 0.2}),
    "VonMises": ("VonMises", {"loc": -3.0, "concentration": 1.5}),
    "VonMises-sharp": ("VonMises", {"loc": 2.0, "concentration": 400.0}),
}


def draw(name: str, params: dict[str, float], seed: int = 1) -> Tensor:
    """Draws that carry a gradient, without it."""
    leaves = {k: torch.tensor(v, dtype=torch.float64).requires_grad_() for k, v in params.items()}
    leaves = {k: v.detach() if k == "total_count" else v for k, v in leaves.items()}
    z = getattr(distributions, name)(**leaves).rsample((DRAWS,), generator(seed))
    assert z.requires_grad
    return z.detach()


def off(params: dict[str, float]) -> dict[str, float]:
    """The same with the last parameter a fifth larger, or, of a flat law, doubled."""
    last = [*params][-1]
    return params | {last: params[last] * (1.2 if params[last] != 0.2 else 2)}


def chi_square(name: str, params: dict[str, float], z: Tensor) -> float:
    """The p-value of counts, pooled so that every class has 20 expected ones or more."""
    q = getattr(torch.distributions, name)(
        **{k: torch.tensor(v, dtype=torch.float64) for k, v in params.items()}, validate_args=False
    )
    most = int(z.max()) + 1 if q.support.is_discrete and name not in ("Bernoulli",) else 2
    if name == "Binomial":
        most = int(params["total_count"]) + 1
    probs = q.log_prob(torch.arange(most, dtype=torch.float64)).exp()
    wanted = torch.cat([probs, (1 - probs.sum()).clamp(min=0)[None]]) * DRAWS
    found = torch.bincount(z.long(), minlength=most + 1).double()
    classes, row = [], torch.zeros(2, dtype=torch.float64)
    for pair in torch.stack([found, wanted], -1):
        row = row + pair
        if row[1] >= 20:
            classes.append(row)
            row = torch.zeros(2, dtype=torch.float64)
    classes[-1] = classes[-1] + row
    observed, expected = torch.stack(classes, -1)
    return float(scipy.stats.chisquare(observed, expected, sum_check=False).pvalue)


def kolmogorov(name: str, params: dict[str, float], z: Tensor) -> float:
    """The p-value of the largest distance between distribution functions."""
    if name == "VonMises":
        z = (z - params["loc"] + math.pi) % (2 * math.pi) - math.pi
    law = {
        "Normal": lambda p: scipy.stats.norm(p["loc"], p["scale"]),
        "Gamma": lambda p: scipy.stats.gamma(p["concentration"], scale=1 / p["rate"]),
        "Beta": lambda p: scipy.stats.beta(p["concentration1"], p["concentration0"]),
        "VonMises": lambda p: scipy.stats.vonmises(p["concentration"]),
    }[name](params)
    return float(scipy.stats.kstest(z.numpy(), law.cdf).pvalue)


@pytest.mark.parametrize("case", COUNTS)
def test_law_of_counts(case: str) -> None:
    """Counts have the frequencies of the parent's density."""
    name, params = COUNTS[case]
    z = draw(name, params)
    assert torch.equal(z, z.floor())
    assert chi_square(name, params, z) > LEVEL
    assert chi_square(name, params, draw(name, off(params), 2)) < LEVEL


@pytest.mark.parametrize("case", CONTINUOUS)
def test_law_of_numbers(case: str) -> None:
    """Numbers have the distribution function of the family."""
    name, params = CONTINUOUS[case]
    z = draw(name, params)
    assert kolmogorov(name, params, z) > LEVEL
    assert kolmogorov(name, params, draw(name, off(params), 2)) < LEVEL


def test_law_of_dirichlet() -> None:
    """Each entry of a Dirichlet draw is a beta draw, and two of them are correlated as they should.

    The correlation is taken to five of its standard errors, one in two million.
    """
    concentration = torch.tensor([0.4, 1.0, 3.0], dtype=torch.float64, requires_grad=True)
    z = distributions.Dirichlet(concentration).rsample((DRAWS,), generator(3)).detach()
    a = concentration.detach()
    total = float(a.sum())
    for entry in range(3):
        law = scipy.stats.beta(float(a[entry]), total - float(a[entry]))
        assert scipy.stats.kstest(z[:, entry].numpy(), law.cdf).pvalue > LEVEL
        wrong = scipy.stats.beta(1.2 * float(a[entry]), total - float(a[entry]))
        assert scipy.stats.kstest(z[:, entry].numpy(), wrong.cdf).pvalue < LEVEL
    product = (z[:, 0] - a[0] / total) * (z[:, 2] - a[2] / total)
    wanted = -a[0] * a[2] / (total**2 * (total + 1))
    error = product.std() / DRAWS**0.5
    assert abs(product.mean() - wanted) < 5 * error
    assert 5 * error < 0.2 * abs(wanted)


def test_law_of_nearly_flat_and_very_sharp_angles() -> None:
    """At the ends of the range angles are uniform, or normal with the variance 1 / kappa."""
    for kappa in (1e-8, 1e-4):
        z = draw("VonMises", {"loc": 1.0, "concentration": kappa})
        uniform = scipy.stats.uniform(-math.pi, 2 * math.pi)
        assert scipy.stats.kstest(z.numpy(), uniform.cdf).pvalue > LEVEL
    for kappa in (1e4, 1e6, 1e8):
        z = draw("VonMises", {"loc": 1.0, "concentration": kappa})
        assert scipy.stats.kstest(((z - 1) * kappa**0.5).numpy(), "norm").pvalue > LEVEL
        assert scipy.stats.kstest(((z - 1) * (1.2 * kappa) ** 0.5).numpy(), "norm").pvalue < LEVEL
