"""ils.sample in the company it keeps in PyTorch: transforms, precision, memory, processes."""

from __future__ import annotations

import itertools
import math
import os
import time
from contextlib import nullcontext
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from carriers import Carrier, by_sample, each_carrier, gradient
from cases import close, distribution, elsewhere, eye, generator, normal
from rules import COMBINATIONS, EVERY, NOISY, OTHERS, RULES, rule_of
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad
from torch.func import grad, jacrev, jvp, vjp, vmap
from torch.utils.checkpoint import checkpoint

import ils
from ils.rules import ReinMax

each_rule = pytest.mark.parametrize("options", RULES.values(), ids=RULES)


def update(z: Tensor, logits: Tensor, weights: Tensor) -> Tensor:
    """Gradient for the logits of a cubic loss of a draw."""
    return torch.autograd.grad(((z - 0.3) ** 3 * weights).sum(), logits)[0]


@each_carrier
def test_defaults(carrier: Carrier) -> None:
    """Left out, the rule is ReinMax at temperature 1."""
    logits = normal(50, 4, seed=1)
    z, update = gradient(carrier, logits)
    again, other = gradient(carrier, logits, rule=ReinMax(1.0))
    assert torch.equal(z, again)
    assert torch.equal(update, other)


@each_carrier
@pytest.mark.parametrize("name", RULES)
def test_rules_arrive(carrier: Carrier, name: str) -> None:
    """Every way to draw hands on by the same rule."""
    logits = normal(20, 4, seed=1)
    _, expected = gradient(by_sample, logits, rule=rule_of(RULES[name]))
    _, found = gradient(carrier, logits, rule=rule_of(RULES[name]))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@each_carrier
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("categories", [5, 70])
def test_device_and_type_are_those_of_the_logits(
    carrier: Carrier, name: str, categories: int
) -> None:
    """Nothing falls back on the default device or the default type."""
    logits = normal(3, categories, seed=1).float()
    logits[0, 1] = -torch.inf
    z, update = gradient(carrier, logits, rule=rule_of(RULES[name]))
    with elsewhere():
        found, other = gradient(carrier, logits, rule=rule_of(RULES[name]))
    assert found.dtype == other.dtype == torch.float32
    assert torch.equal(z, found)
    assert torch.equal(update, other)


@pytest.mark.parametrize(
    ("name", "categories"),
    [*((name, 4) for name in EVERY), *itertools.product(RULES, [5, 70, 100, 300])],
)
def test_gradients_per_example(name: str, categories: int) -> None:
    """vmap(grad(...)) gives each example the gradient that it has alone after the same draw."""
    rule, logits, weights = (
        EVERY[name],
        normal(6, categories, seed=1),
        normal(6, categories, seed=2),
    )
    if categories > 4:
        logits[:, 0] = logits[0, 1] = -torch.inf

    def loss(row: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        z = ils.sample(row, rule=rule)
        return ((z - 0.3) ** 3 * weight).sum(), z

    def attached(row: Tensor, z: Tensor, weight: Tensor) -> Tensor:
        return ((ils.differentiable_draw(row, z, rule=rule) - 0.3) ** 3 * weight).sum()

    def looked_up(row: Tensor, z: Tensor, weight: Tensor) -> Tensor:
        return ils.embedding(z.argmax(-1), weight.unsqueeze(-1), row, rule=rule).sum()

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        found, z = vmap(grad(loss, has_aux=True), randomness="different")(logits, weights)
    assert torch.equal(z, eye(categories)[z.argmax(-1)])
    assert not (z * logits.isneginf()).any()
    assert found.isfinite().all()
    assert found.abs().max() > 1e-3
    if name in NOISY:
        return
    leaf = logits.clone().requires_grad_()
    wanted = update(ils.differentiable_draw(leaf, z, rule=rule), leaf, weights)
    same = ils.differentiable_draw(leaf, z, rule=rule)
    (linear,) = torch.autograd.grad((same * weights).sum(), leaf)
    # Long rows are projected another way where values cannot be looked at.
    few = 1e-12 if categories <= 100 else 1e-9
    for one, other in (
        (found, wanted),
        (vmap(grad(attached))(logits, z, weights), wanted),
        (vmap(grad(looked_up))(logits, z, weights), linear),
    ):
        assert close(one, other, few * (1 + float(other.abs().max())))


@pytest.mark.parametrize("categories", [4, 100])
def test_randomness_under_vmap(categories: int) -> None:
    """'error' refuses, 'same' draws from the same numbers, 'different' from independent ones."""
    logits = normal(categories, seed=4).expand(200, -1)
    for function in (ils.sample, ils.sample_index):
        with pytest.raises(RuntimeError, match="randomness error mode"):
            vmap(function)(logits)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            same = vmap(function, randomness="same")(logits)
            different = vmap(function, randomness="different")(logits)
        assert torch.equal(same, same[:1].expand_as(same))
        assert not torch.equal(different, different[:1].expand_as(different))
        assert same.shape == different.shape == (200, *function(logits[0]).shape)


def test_law_under_vmap() -> None:
    """Each example has its own law: five deviations of each entry, one in a million."""
    probs = distribution(3, 4, seed=6)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        draw = vmap(lambda row: ils.sample(row, draws=20_000), randomness="different")
        z = draw(probs.log())
    error = (z.mean(1) - probs).abs() / (probs * (1 - probs) / 20_000).sqrt()
    assert error.max() < 5


def test_jacobian_of_a_draw() -> None:
    """jacrev has a row for each entry of the draw: the gradient of that entry."""
    logits, own = normal(4, seed=8), generator(9)
    state = own.get_state()
    found = jacrev(lambda x: ils.sample(x, generator=own))(logits)
    own.set_state(state)
    leaf = logits.clone().requires_grad_()
    z = ils.sample(leaf, generator=own)
    for row, entry in zip(found, z, strict=True):
        assert close(row, torch.autograd.grad(entry, leaf, retain_graph=True)[0])


def test_second_derivative_under_transforms() -> None:
    """A second derivative by torch.func is refused too."""
    weights = normal(4, seed=10)

    def loss(logits: Tensor) -> Tensor:
        return (ils.sample(logits, generator=generator(11)) * weights).sum() ** 2

    with pytest.raises(RuntimeError, match="ils: expected to be differentiated once"):
        grad(lambda x: grad(loss)(x).pow(2).sum())(normal(4, seed=12))


def network(width: int = 6) -> nn.Sequential:
    """A small model with a draw in the middle, the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(13)
        return nn.Sequential(nn.Linear(3, width), ils.Sampler(), nn.Linear(width, 1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(dtype: torch.dtype) -> None:
    """Within autocast the draw has the short type, and gradients are those of that type."""
    model, data = network(), normal(50, 3, seed=14).float()
    with torch.autocast("cpu", dtype=dtype):
        logits = model[0](data)
        z = ils.sample(logits, generator=generator(15))
        out = model[2](z)
        loss = (out.float() ** 2).sum()
    assert logits.dtype == z.dtype == dtype
    (found,) = torch.autograd.grad(loss, logits, retain_graph=True)
    loss.backward()
    exact = logits.detach().double().requires_grad_()
    same = ils.differentiable_draw(exact, z.detach().double())
    weight, bias = (x.detach().to(dtype).double() for x in (model[2].weight, model[2].bias))
    (wanted,) = torch.autograd.grad(((same @ weight.T + bias) ** 2).sum(), exact)
    size = float(wanted.abs().max())
    assert size > 0
    # Three roundings of the short type on the way: the output, its gradient, and the product.
    assert close(found.double(), wanted, 16 * torch.finfo(dtype).eps * size)
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@each_rule
def test_loss_scaling(options: dict[str, Any]) -> None:
    """A GradScaler's power of two leaves the update as it is where steps are relative."""
    data, updated = normal(50, 3, seed=16).float(), []
    for scale in (1.0, 2.0**16):
        model, scaler = network(), torch.amp.GradScaler("cpu", init_scale=scale)
        model[1] = ils.Sampler(rule=rule_of(options))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(17)
            scaler.scale(model(data).pow(2).mean()).backward()
        scaler.step(optimizer)
        scaler.update()
        assert scaler.get_scale() == scale  # nothing overflowed
        updated.append([parameter.detach().clone() for parameter in model.parameters()])
    exact = all(torch.equal(*pair) for pair in zip(*updated, strict=True))
    assert exact == options["relative"]


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("name", [*RULES, *OTHERS])
def test_activation_checkpointing(name: str, use_reentrant: bool) -> None:
    """Recomputed, the draw is the one of the forward pass, its noise too, and the gradient."""
    logits, weights = normal(60, 5, seed=18).requires_grad_(), normal(60, 5, seed=19)
    drawn: list[Tensor] = []

    def part(x: Tensor) -> Tensor:
        z = ils.sample(x * 1.5, rule=EVERY[name])
        drawn.append(z.detach())
        return (z - 0.3) ** 3 * weights

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20)
        out: Any = checkpoint(part, logits, use_reentrant=use_reentrant)
        torch.manual_seed(99)  # what the rest of the program does in between
        (found,) = _backward(out.sum(), logits)
        torch.manual_seed(20)
        (wanted,) = _backward(part(logits).sum(), logits)
    assert len(drawn) == 3
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])
    assert torch.equal(found, wanted)


def _backward(loss: Tensor, leaf: Tensor) -> tuple[Tensor]:
    """The gradient by backward(): re-entrant checkpoints know no other way."""
    leaf.grad = None
    loss.backward()
    assert leaf.grad is not None
    return (leaf.grad,)


def _replica(rank: int, folder: Path) -> None:
    """One of two processes: the gradients of a model that DistributedDataParallel averages."""
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=120),
    )
    found = []
    for wrap in (False, True):
        model = network().double()
        model = nn.parallel.DistributedDataParallel(model) if wrap else model
        torch.manual_seed(100 + rank)
        model(normal(7, 3, seed=rank)).pow(2).mean().backward()
        found.append([parameter.grad for parameter in model.parameters()])
    torch.save(found, folder / f"part{rank}")
    (folder / f"part{rank}").rename(folder / f"{rank}")
    while not (folder / f"{1 - rank}").exists():
        time.sleep(0.05)
    os._exit(0)  # taking gloo down can hang


def test_distributed_data_parallel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On two processes each has the mean of the gradients that they have alone."""
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("this PyTorch has no gloo to talk through")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    torch.multiprocessing.spawn(_replica, (tmp_path,), nprocs=2)
    (alone0, both0), (alone1, both1) = (torch.load(tmp_path / name) for name in "01")
    for one, two, first, second in zip(alone0, alone1, both0, both1, strict=True):
        assert torch.equal(first, second)
        assert close(first, (one + two) / 2)
        assert not torch.equal(one, two)


@each_rule
def test_layouts(options: dict[str, Any]) -> None:
    """Transposed, strided and broadcast logits give what their plain copies give."""
    base = normal(8, 6, 10, seed=21)
    for view in (
        base.mT,
        base[:, ::2, 1::3],
        base[0].expand(3, 6, 10),
        base[:, :, :1].expand_as(base),
    ):
        assert not view.is_contiguous()
        upstream, results = normal(*view.shape, seed=23), []
        for values in (view, view.contiguous()):
            leaf = values.detach().requires_grad_()
            z = ils.sample(leaf, generator=generator(22), rule=rule_of(options))
            results.append([z.detach()])
            for g in (upstream, upstream[..., :1].expand_as(upstream), upstream.mT.contiguous().mT):
                results[-1] += torch.autograd.grad(z, leaf, g, retain_graph=True)
        for one, two in zip(*results, strict=True):
            assert close(one, two, 1e-12 * (1 + float(two.abs().max())))
        assert torch.equal(results[0][0], results[1][0])


def test_broadcast_logits_collect_their_gradients() -> None:
    """Logits that are expanded over a batch get the sum of the updates of its rows."""
    logits, weights = normal(5, seed=24).requires_grad_(), normal(30, 5, seed=25)
    z = ils.sample(logits.expand(30, 5), generator=generator(26))
    found = update(z, logits, weights)
    rows = [
        update(ils.differentiable_draw(logits, one.detach()), logits, weight)
        for one, weight in zip(z, weights, strict=True)
    ]
    assert close(found, torch.stack(rows).sum(0))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_modes_without_gradient(mode: Any) -> None:
    """Without a graph or a leaf the draws are the same, and nothing is kept."""
    logits = normal(20, 5, seed=27).requires_grad_()
    wanted = ils.sample(logits, generator=generator(28)).detach()
    table = normal(5, 2, seed=29).requires_grad_()
    with mode():
        z = ils.sample(logits, generator=generator(28))
        index = ils.sample_index(logits, generator=generator(28))
        assert not ils.embedding(index, table, logits).requires_grad
        assert not ils.sample(logits, rule=ils.rules.Step(0.1)).requires_grad
    assert not z.requires_grad
    for rule in (ils.rules.DEFAULT, ils.rules.Step(0.1)):
        assert not ils.sample(logits.detach(), rule=rule).requires_grad
    assert torch.equal(z, wanted)
    assert torch.equal(index, wanted.argmax(-1))


def test_result_can_be_changed_in_place() -> None:
    """The draw is the caller's: changed in place, it still carries the gradient."""
    logits, weights = normal(20, 5, seed=32).requires_grad_(), normal(20, 5, seed=33)
    z = ils.sample(logits, generator=generator(34))
    hard = z.detach().clone()
    z.mul_(2).add_(1)
    (found,) = torch.autograd.grad((z * weights).sum(), logits)
    same = ils.differentiable_draw(logits, hard)
    assert close(found, torch.autograd.grad((2 * same * weights).sum(), logits)[0])


def _draw_and_update(logits: Tensor, options: dict[str, Any]) -> list[Tensor]:
    """The draw, rows that are looked up and attached draws, each with its gradient."""
    table = torch.zeros(logits.shape[-1], 2, dtype=logits.dtype, device=logits.device)
    found = []
    for draw in (
        lambda x: ils.sample(x, draws=2, rule=rule_of(options)),
        lambda x: ils.Sampler(rule=rule_of(options))(x),
        lambda x: ils.differentiable_draw(x, torch.zeros_like(x), rule=rule_of(options)),
        lambda x: ils.embedding(ils.sample_index(x), table, x, rule=rule_of(options)),
    ):
        leaf = logits.clone().requires_grad_()
        z = draw(leaf)
        found += [z, *torch.autograd.grad(z.sum(), leaf)]
    return found


@pytest.mark.parametrize(("rows", "categories"), [(5, 3), (0, 100), (5, 2000)])
@pytest.mark.parametrize("form", ["fake", "meta"])
@pytest.mark.parametrize("options", COMBINATIONS.values(), ids=COMBINATIONS)
def test_shapes_without_values(
    options: dict[str, Any], form: str, categories: int, rows: int
) -> None:
    """Fake tensors, and those of the device meta, give the shapes; no value is looked at."""
    device = "meta" if form == "meta" else "cpu"
    with FakeTensorMode() if form == "fake" else nullcontext():
        found = _draw_and_update(torch.zeros(rows, categories, device=device), options)
        index = ils.sample_index(torch.zeros(rows, categories, device=device), draws=(2, 3))
    shape = (rows, categories)
    wanted = [(2, *shape), shape, shape, shape, shape, shape, (rows, 2), shape]
    assert [tuple(one.shape) for one in found] == wanted
    assert all(one.device.type == device for one in found)
    assert tuple(index.shape) == (2, 3, rows)


@pytest.mark.parametrize("categories", [3, 16, 1100])
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize("options", COMBINATIONS.values(), ids=COMBINATIONS)
def test_gradients_that_are_not_finite(
    options: dict[str, Any], poison: float, categories: int
) -> None:
    """NaN is handed on, nothing is raised; other rows and masked categories know nothing of it."""
    at, rule = torch.full((5,), 1), rule_of(options)
    z, grad = eye(categories)[at], normal(5, categories, seed=40)
    grad[0] = poison
    first = grad.clone()
    for row, place in ((1, 1), (2, 0), (3, 2)):
        grad[row, place] = poison

    def alone(x: Tensor, drawn: Tensor, g: Tensor) -> Tensor:
        return vjp(lambda y: ils.differentiable_draw(y, drawn, rule=rule), x)[1](g)[0]

    for masked in (False, True):
        logits = normal(5, categories, seed=41)
        if masked:
            logits[:, 2] = -torch.inf
        leaf = logits.clone().requires_grad_()
        drawn = ils.differentiable_draw(leaf, z, rule=rule)
        looked_up = ils.embedding(at, eye(categories), leaf, rule=rule)
        bad = torch.tensor([True, True, True, not masked, False])
        for found, spoilt in (
            (vmap(alone)(logits, z, grad), bad),
            (torch.autograd.grad(drawn, leaf, grad)[0], bad),
            (torch.autograd.grad(looked_up, leaf, first)[0], torch.arange(5) == 0),
        ):
            finite = found.isfinite().all(-1)
            assert finite[~spoilt].all()
            assert not masked or not found[:, 2].any()
            assert not math.isnan(poison) or not finite[spoilt].any()


# What PyTorch loads for it uses parts that are on their way out.
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_forward_mode_is_refused() -> None:
    """A derivative in forward mode is refused, and not dropped, also where no graph is wanted."""
    z, index, table = eye(3)[:1], torch.tensor([1]), normal(3, 2, seed=43)
    for function in (
        ils.sample,
        ils.Sampler(),
        lambda x: ils.sample(x, mask=torch.tensor([True, False, False])),
        lambda x: ils.sample(x, dim=0, rule=ils.rules.Step(0.5)),
        lambda x: ils.differentiable_draw(x, z),
        lambda x: ils.differentiable_draw(normal(1, 3), x * 0 + z),
        lambda x: ils.embedding(index, table, x),
        lambda x: ils.embedding(index, x.mT.expand(3, 2), normal(1, 3)),
    ):
        logits, weights = normal(1, 3, seed=44), normal(1, 3, seed=45)
        for mode in (nullcontext, torch.no_grad):
            with forward_ad.dual_level(), mode():
                dual = forward_ad.make_dual(logits, weights)
                with pytest.raises(NotImplementedError, match=r"^ils: expected backward mode"):
                    function(dual)
                function(dual.detach())
        with pytest.raises(NotImplementedError):
            jvp(function, (logits,), (weights,))


def test_integers_and_step_sizes_of_numpy() -> None:
    """NumPy's integers and numbers are as good as Python's, and so are arrays without axes."""
    logits, table = normal(2, 3, 4, seed=46).requires_grad_(), normal(3, 5, seed=47)
    wanted = ils.sample(logits, dim=1, draws=2, generator=generator(48))
    for two, one in (
        (np.int64(2), np.int64(1)),
        (np.uint8(2), np.uint8(1)),
        (np.array(2), np.array(1)),
        (torch.tensor(2), 1),
        ([np.int32(2)], np.int32(1)),
    ):
        for axis in (one, -2):
            found = ils.sample(logits, dim=axis, draws=two, generator=generator(48))
            assert torch.equal(found, wanted)
        index = ils.sample_index(logits, dim=one, draws=two, generator=generator(48))
        assert torch.equal(index, wanted.argmax(2))
        assert ils.embedding(index, table, logits, dim=one).shape == (2, 2, 5, 4)
        module = ils.Sampler(dim=one)
        assert torch.equal(module(logits, draws=two, generator=generator(48)), wanted)
    for step in (np.float32(0.5), np.float64(0.5), np.float16(0.5), Fraction(1, 2)):
        relative, absolute = ils.rules.Step(step), ils.rules.Note(step)  # type: ignore[arg-type]
        assert (relative, absolute) == (ils.rules.Step(0.5), ils.rules.Note(0.5))
        assert type(relative.size) is type(absolute.step_size) is float
    for bad in (np.array([2, 3]), np.bool_(True), np.float64(2), torch.tensor(2.0)):
        with pytest.raises(TypeError, match="draws: expected an integer or a sequence"):
            ils.sample(logits, draws=bad)
