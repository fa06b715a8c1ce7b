"""Distributions of the tests beyond the categorical, in float64, with unlike parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ils import distributions as dist


def number(value: Any) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


COUNTS: dict[str, Any] = {
    "Bernoulli": dist.Bernoulli(number(0.3)),
    "Bernoulli logits": dist.Bernoulli(logits=number(1.2)),
    "binomial": dist.Binomial(number(10.0), number(0.3)),
    "binomial logits": dist.Binomial(number(7.0), logits=number(0.8)),
    "Poisson small": dist.Poisson(number(0.4)),
    "Poisson": dist.Poisson(number(6.5)),
    "geometric": dist.Geometric(number(0.35)),
    "geometric logits": dist.Geometric(logits=number(0.2)),
    "negative binomial": dist.NegativeBinomial(number(2.5), number(0.45)),
    "negative binomial logits": dist.NegativeBinomial(number(0.6), logits=number(0.3)),
}

CONTINUOUS: dict[str, Any] = {
    "normal": dist.Normal(number(0.7), number(1.6)),
    "gamma below 1": dist.Gamma(number(0.6), number(1.7)),
    "gamma": dist.Gamma(number(3.5), number(0.8)),
    "beta below 1": dist.Beta(number(0.6), number(0.8)),
    "beta": dist.Beta(number(2.5), number(4.0)),
    "von Mises": dist.VonMises(number(0.4), number(1.8)),
    "Dirichlet": dist.Dirichlet(number([0.8, 2.0, 3.5])),
}
