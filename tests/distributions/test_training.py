"""The usual program of a variational autoencoder trains: rsample, log_prob and kl_divergence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import generator, normal
from torch import Tensor, nn
from torch.distributions import kl_divergence

from ils import distributions as dist


class Autoencoder(nn.Module):
    """A linear encoder to a latent distribution and a linear decoder to a normal one."""

    def __init__(self, latent: Callable[[Tensor], Any], prior: Any) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(6, 3), nn.Linear(3, 6)
        self.latent, self.prior = latent, prior

    def forward(self, x: Tensor, source: torch.Generator | None = None) -> Tensor:
        q = self.latent(self.encoder(x))
        z = q.rsample(generator=source)
        likelihood = dist.Independent(dist.Normal(self.decoder(z), torch.ones(6).double()), 1)
        return (kl_divergence(q, self.prior).sum(-1) - likelihood.log_prob(x)).mean()


def counts(seed: int = 1) -> Tensor:
    """Data that three hidden counts explain."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        z = torch.poisson(torch.ones(200, 3, dtype=torch.float64))
    return z @ normal(3, 6, seed=2) * 1.5 + 0.3 * normal(200, 6, seed=3)


def bits(seed: int = 4) -> Tensor:
    """Data that three hidden bits explain."""
    z = (normal(200, 3, seed=seed) > 0).double()
    return z @ normal(3, 6, seed=5) * 3 + 0.3 * normal(200, 6, seed=6)


ONE = torch.ones(3, dtype=torch.float64)
# PyTorch's divergence of Bernoullis does not broadcast.
HALF = torch.full((200, 3), 0.5, dtype=torch.float64)
CASES: dict[str, tuple[Callable[[], Tensor], Callable[[Tensor], Any], Any]] = {
    "Poisson": (counts, lambda h: dist.Poisson(h.exp()), dist.Poisson(ONE)),
    "Bernoulli": (
        bits,
        lambda h: dist.Bernoulli(logits=h),
        dist.Bernoulli(HALF),
    ),
    "Binomial": (
        counts,
        lambda h: dist.Binomial(4, logits=h),
        torch.distributions.Binomial(4, 0.25 * ONE),
    ),
}


def average(model: Autoencoder, x: Tensor) -> float:
    """The loss, over 200 draws of each datum."""
    with torch.no_grad():
        return float(torch.stack([model(x, generator(seed)) for seed in range(200)]).mean())


def train(case: str, *, blind: bool = False) -> tuple[float, float]:
    """The loss before and after; ``blind`` cuts the gradient that goes through the draw."""
    data, latent, prior = CASES[case]
    x, source = data(), generator(7)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(8)
        model = Autoencoder(latent, prior).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    before = average(model, x)
    for _ in range(300):
        optimizer.zero_grad()
        if blind:
            h = model.encoder(x)
            z = latent(h).sample(generator=source)
            likelihood = dist.Independent(dist.Normal(model.decoder(z), torch.ones(6).double()), 1)
            loss = (kl_divergence(latent(h), prior).sum(-1) - likelihood.log_prob(x)).mean()
        else:
            loss = model(x, source)
        loss.backward()
        optimizer.step()
    return before, average(model, x)


@pytest.mark.parametrize("case", CASES)
def test_autoencoder(case: str) -> None:
    """The loss falls by 20 nats, and 8 below that of an encoder that the draw tells nothing."""
    before, after = train(case)
    _, blind = train(case, blind=True)
    assert after < before - 20
    assert after < blind - 8


@pytest.mark.parametrize("case", CASES)
def test_training_repeats(case: str) -> None:
    """With a generator a run is the same every time, to the last bit."""
    assert train(case) == train(case)
