"""Density, entropy and divergence of counts whose probabilities are next to 0 or 1, or there.

PyTorch's are those of probabilities clamped to the type's precision.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from ils import distributions

HALF = (torch.float16, torch.bfloat16)
KINDS = [torch.float64, torch.float32, *HALF]
COUNT = 5


def values(kind: torch.dtype, *, ends: bool) -> list[float]:
    """Probabilities as they are in a type."""
    ends_of = torch.finfo(kind)
    given = [ends_of.tiny, 1e-12, 1e-5, 0.3, 1 - ends_of.eps / 2] + ([0.0, 1.0] if ends else [])
    kept = {float(torch.tensor(p, dtype=torch.float64).to(kind)) for p in given}
    return sorted(p for p in kept if ends or 0 < p < 1)


def times(count: float, log: float) -> float:
    return count * log if count else 0.0


def logs(p: float) -> tuple[float, float]:
    return (math.log(p) if p else -math.inf), (math.log1p(-p) if p < 1 else -math.inf)


def made(name: str, param: Tensor, of: str = "probs") -> Any:
    family: Any = getattr(distributions, name)
    count = [torch.tensor(float(COUNT), dtype=param.dtype)] if "inomial" in name else []
    return family(*count, **{of: param}, validate_args=False)


def density(name: str, z: int, p: float) -> float:
    up, down = logs(p)
    if name == "Bernoulli":
        return times(z, up) + times(1 - z, down)
    if name == "Binomial":
        return math.log(math.comb(COUNT, z)) + times(z, up) + times(COUNT - z, down)
    if name == "Geometric":
        return up + times(z, down)
    return math.log(math.comb(COUNT + z - 1, z)) + times(COUNT, down) + times(z, up)


NAMES = ["Bernoulli", "Binomial", "Geometric", "NegativeBinomial"]
each_name = pytest.mark.parametrize("name", NAMES)
each_kind = pytest.mark.parametrize("kind", KINDS, ids=str)


def close(found: Tensor, wanted: float, kind: torch.dtype, room: float = 8) -> None:
    assert found.dtype == kind
    # What the type can hold of the exact value.
    exact = float(torch.tensor(wanted, dtype=torch.float64).to(kind))
    least = torch.finfo(kind).smallest_normal * 2
    off = pytest.approx(exact, rel=room * torch.finfo(kind).eps, abs=least)
    assert float(found) == off


@each_kind
@each_name
def test_density(name: str, kind: torch.dtype) -> None:
    for p in values(kind, ends=True):
        for z in (0, 1) if name == "Bernoulli" else (0, 1, 4, 5):
            found = made(name, torch.tensor(p, dtype=kind)).log_prob(torch.tensor(z, dtype=kind))
            wanted = density(name, z, p)
            # The factorials of a count are rounded on the way, and may cancel.
            if "inomial" in name and math.isfinite(wanted) and abs(wanted) < 1:
                assert abs(float(found) - wanted) < 8 * torch.finfo(kind).eps
            else:
                close(found, wanted, kind)


@each_kind
@pytest.mark.parametrize("name", NAMES[:3])
def test_entropy(name: str, kind: torch.dtype) -> None:
    for p in values(kind, ends=True):
        if name == "Geometric":
            if p == 0:
                continue
            up, down = logs(p)
            wanted = -up - times((1 - p) / p, down)
        else:
            size = 1 if name == "Bernoulli" else COUNT
            law = [density(name, z, p) for z in range(size + 1)]
            wanted = -sum(times(math.exp(log), log) for log in law)
        # A sum of densities, each of which is rounded.
        room = 64 if name == "Binomial" else 8
        close(made(name, torch.tensor(p, dtype=kind)).entropy(), wanted, kind, room)


@each_kind
@each_name
def test_divergence(name: str, kind: torch.dtype) -> None:
    """That of each trial, times their mean number, as a sum that does not cancel."""
    for p in values(kind, ends=True):
        for q in values(kind, ends=True):
            trials = {"Bernoulli": 1.0, "Binomial": float(COUNT)}.get(name)
            if trials is None:
                rare = p if name == "Geometric" else 1 - p
                if rare == 0:
                    continue
                trials = (1 if name == "Geometric" else COUNT) / rare
            pair = [made(name, torch.tensor(one, dtype=kind)) for one in (p, q)]
            (p_up, p_down), (q_up, q_down) = logs(p), logs(q)
            each = times(p, p_up - q_up if p else 0.0) + times(1 - p, p_down - q_down)
            wanted = trials * each
            found = kl_divergence(*pair)
            assert found.dtype == kind
            assert not bool(found.isnan())
            exact = float(torch.tensor(wanted, dtype=torch.float64).to(kind))
            off = 4 * torch.finfo(kind).eps * abs(exact) + trials * 1e-15
            assert float(found) == exact or abs(float(found) - exact) <= off


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_slope_at_a_probability_of_zero(dtype: torch.dtype) -> None:
    """``log(1 - p)`` has the derivative -1 at zero, which a clamp of ``p`` would make zero."""
    probs = torch.tensor([0.0, 1e-12, 0.5], dtype=dtype, requires_grad=True)
    value = distributions.Bernoulli(probs).log_prob(torch.zeros(3, dtype=dtype))
    (slope,) = torch.autograd.grad(value.sum(), probs)
    assert torch.allclose(slope, torch.tensor([-1.0, -1.0, -2.0], dtype=dtype), 1e-6)


@each_name
def test_gradients_are_finite_at_the_ends(name: str) -> None:
    """Also for the value, which a draw is; the impossible has the gradient zero."""
    param = torch.tensor([0.0, 1e-12, 0.4, 1.0], requires_grad=True)
    q = made(name, param)
    z = torch.zeros(4, requires_grad=True)
    found = torch.autograd.grad(q.log_prob(z).clamp(min=-1e6).sum(), (param, z))
    assert all(bool(grad.isfinite().all()) for grad in found)
    if name in NAMES[:2]:
        (grad,) = torch.autograd.grad(q.entropy().sum(), param)
        assert bool(grad.isfinite().all())


@each_name
def test_large_logits(name: str) -> None:
    """Where the probability rounds to 0 or 1 the log-odds still count."""
    for logit in (-80.0, -20.0, 20.0, 80.0):
        q = made(name, torch.tensor(logit), "logits")
        p_up, p_down = -math.log1p(math.exp(-logit)), -math.log1p(math.exp(logit))
        wanted = {
            "Bernoulli": p_up,
            "Binomial": math.log(COUNT) + p_up + (COUNT - 1) * p_down,
            "Geometric": p_up + p_down,
            "NegativeBinomial": math.log(COUNT) + COUNT * p_down + p_up,
        }[name]
        assert float(q.log_prob(torch.tensor(1.0))) == pytest.approx(wanted, rel=1e-6, abs=1e-30)
        other = made(name, torch.tensor(logit + 1), "logits")
        assert float(kl_divergence(q, other)) > 0


def test_types_of_densities() -> None:
    """That of the parameter and of the value together, and of both parameters of a divergence."""
    narrow, wide = torch.tensor(0.3), torch.tensor(0.4, dtype=torch.float64)
    value = torch.tensor(1.0)
    for make in (distributions.Bernoulli, distributions.Geometric):
        assert make(wide).log_prob(value).dtype == torch.float64
        assert make(narrow).log_prob(value).dtype == torch.float32
        for p, q in ((narrow, wide), (wide, narrow)):
            found = torch.distributions.kl_divergence(make(p), make(q))
            assert found.dtype == torch.float64


def test_no_failures_are_waited_for() -> None:
    """A negative binomial of count zero is zero, surely."""
    q = distributions.NegativeBinomial(torch.tensor(0.0), torch.tensor(0.3), validate_args=False)
    assert q.log_prob(torch.tensor(0.0)) == 0
