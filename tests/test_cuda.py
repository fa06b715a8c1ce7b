"""On a GPU: devices, generators, gradients and the law, where there is one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import close, generator, normal
from rules import RULES, rule_of
from scipy import stats

import ils
from ils.distributions import OneHotCategorical

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device: what runs on a GPU is not tested here"
)
each_rule = pytest.mark.parametrize("options", RULES.values(), ids=RULES)
DEVICE = torch.device("cuda")
ERROR_RATE = 1e-6


def on_device(seed: int = 0) -> torch.Generator:
    """A generator on the device with a fixed seed."""
    return torch.Generator(DEVICE).manual_seed(seed)


@each_rule
@pytest.mark.parametrize("categories", [5, 100, 2000])
def test_gradient_is_that_of_the_cpu(options: dict[str, Any], categories: int) -> None:
    """After the same draw the gradient on the device is the one on the CPU, to rounding."""
    logits, weights = normal(6, categories, seed=1), normal(6, categories, seed=2)
    leaf = logits.to(DEVICE).requires_grad_()
    z = ils.sample(leaf, generator=on_device(3), rule=rule_of(options))
    (found,) = torch.autograd.grad((z * weights.to(DEVICE)).sum(), leaf)
    assert z.device.type == found.device.type == "cuda"
    assert torch.equal(z.sum(-1).cpu(), torch.ones(6, dtype=torch.float64))
    here = logits.clone().requires_grad_()
    same = ils.differentiable_draw(here, z.detach().cpu(), rule=rule_of(options))
    (wanted,) = torch.autograd.grad((same * weights).sum(), here)
    assert close(found.cpu(), wanted, 1e-9 * (1 + float(wanted.abs().max())))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("categories", [10, 1000])
def test_law(categories: int, dtype: torch.dtype) -> None:
    """The law is softmax by a chi-square test; odds that are off by a tenth are found out."""
    logits = normal(categories, seed=4).clamp(-2, 2).to(dtype)
    law = logits.double().softmax(-1)
    index = ils.sample_index(logits.to(DEVICE).expand(100, -1), draws=1000, generator=on_device(5))
    counts = torch.bincount(index.flatten().cpu(), minlength=categories).numpy()
    assert stats.chisquare(counts, (law * 100_000).numpy()).pvalue > ERROR_RATE
    tilt = torch.where(torch.arange(categories) % 2 == 0, 0.05, -0.05).double()
    wrong = (law.log() + tilt).softmax(-1) * 100_000
    assert stats.chisquare(counts, wrong.numpy()).pvalue < ERROR_RATE


def test_generators() -> None:
    """A generator of the device is followed, and the default is the device's own."""
    logits = normal(100, 20, seed=6).to(DEVICE)
    first = ils.sample(logits, generator=on_device(7))
    assert torch.equal(ils.sample(logits, generator=on_device(7)), first)
    assert torch.equal(ils.sample_index(logits, generator=on_device(7)), first.argmax(-1))
    with torch.random.fork_rng(devices=[torch.cuda.current_device()]):
        torch.cuda.manual_seed(8)
        one = ils.sample(logits)
        torch.cuda.manual_seed(8)
        assert torch.equal(ils.sample(logits), one)
    with pytest.raises(RuntimeError, match=r"(?i)generator"):
        ils.sample(logits, generator=generator(9))


def test_nothing_waits_for_the_device() -> None:
    """Neither pass looks at a value: nothing makes the program wait for the device."""
    logits = normal(50, 100, seed=10).to(DEVICE).requires_grad_()
    table = normal(100, 4, seed=11).to(DEVICE).requires_grad_()
    mask = torch.zeros(100, dtype=torch.bool, device=DEVICE)
    for options in RULES.values():
        if options["normalizer"] is ils.project_simplex:
            continue  # Newton's method ends when the values say so
        torch.cuda.set_sync_debug_mode("error")
        try:
            z = ils.sample(logits, mask=mask, draws=2, rule=rule_of(options))
            (z @ table).sum().backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_bad_rows_are_nan() -> None:
    """A row with NaN, +inf or only -inf holds NaN and stops nothing; its neighbours are draws."""
    rows = [[0.0, 1.0], [torch.nan, 0.0], [torch.inf, 0.0], [-torch.inf, -torch.inf]]
    z = ils.sample(torch.tensor(rows, device=DEVICE)).cpu()
    assert z[0].sum() == 1
    assert z[1:].isnan().any(-1).all()


def test_masked_categories() -> None:
    """Masked categories are never drawn and have a gradient of exactly zero."""
    mask = (torch.arange(100) % 3 == 0).to(DEVICE)
    for options in RULES.values():
        logits = normal(500, 100, seed=12).to(DEVICE).requires_grad_()
        z = ils.sample(logits, mask=mask, rule=rule_of(options))
        upstream = normal(500, 100, seed=13).to(DEVICE).masked_fill(mask, torch.inf)
        (found,) = torch.autograd.grad(z, logits, upstream)
        assert not z[:, mask].any()
        assert not found[:, mask].any()
        assert found.isfinite().all()


def test_relatives() -> None:
    """Look-up, module and distribution stay on the device."""
    logits = normal(6, 5, seed=14).to(DEVICE).requires_grad_()
    table = normal(5, 3, seed=15).to(DEVICE).requires_grad_()
    index = ils.sample_index(logits, generator=on_device(16))
    out = ils.embedding(index, table, logits)
    z = ils.Sampler()(logits, generator=on_device(16))
    assert torch.equal(z.argmax(-1), index)
    found = torch.autograd.grad(out.pow(2).sum(), (logits, table))
    wanted = torch.autograd.grad((z @ table).pow(2).sum(), (logits, table))
    for one, other in zip(found, wanted, strict=True):
        assert close(one.cpu(), other.cpu())
    q = OneHotCategorical(logits=logits)
    assert q.rsample(torch.Size([4])).device.type == "cuda"


def test_autocast_and_loss_scaling() -> None:
    """A step in float16 with a GradScaler moves the weights, and by finite amounts."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), ils.Sampler(), torch.nn.Linear(8, 1))
    model = model.to(DEVICE)
    before = model[0].weight.detach().clone()
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.1), torch.amp.GradScaler("cuda")
    with torch.autocast("cuda", dtype=torch.float16):
        loss = model(normal(64, 3, seed=17).float().to(DEVICE)).pow(2).mean()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    assert not torch.equal(model[0].weight, before)
    assert model[0].weight.isfinite().all()
