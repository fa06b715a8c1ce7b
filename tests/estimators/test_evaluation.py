"""How the loss is called: which axes are problems, how often, what it may return, what is kept."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from cases import generator, normal
from factories import JOINT, each_factory, loss_for, make, problem, shape_of
from torch import Tensor, nn

from ils import estimators, exact
from ils.estimators.evaluation import batch_dims
from ils.exact import Loss

# --- which axes are problems


@each_factory
def test_a_loss_that_averages_over_the_batch(name: str) -> None:
    """Values for each example are asked for by ``batch_dims``; a scalar is refused anyhow."""
    logits, loss = problem(name, 3, 2)
    estimator = make(name)
    right = estimator(logits, loss, draws=3, generator=generator(1), batch_dims=1)
    again = make(name)(logits, loss, draws=3, generator=generator(1))
    assert torch.equal(right, again)
    whole: Loss = lambda z: loss(z).sum(-1)  # noqa: E731
    summed = (
        make(name)(logits, whole, draws=3, generator=generator(1), batch_dims=dims)
        for dims in (0, None)
    )
    assert torch.equal(*summed)
    wrong: tuple[Loss, ...] = (
        lambda z: loss(z).mean(-1),
        lambda z: loss(z).mean(-1, keepdim=True),
        lambda z: loss(z).mean(),
        lambda z: loss(z).unsqueeze(-1),
        lambda z: loss(z)[:1] if len(z) > 1 else loss(z).mean(),
    )
    for other in wrong:
        with pytest.raises(ValueError, match=r"^loss: expected one value a draw"):
            estimator(logits, other, draws=3, generator=generator(1), batch_dims=1)
    with pytest.raises(ValueError, match=r"^loss: .*\(\d+, 3\), got \(\d+,\)$"):
        estimator(logits, wrong[0], draws=3, generator=generator(1), batch_dims=1)
    for number, error in ((-1, ValueError), (3, ValueError), (True, TypeError), (1.0, TypeError)):
        with pytest.raises(error, match=r"^batch_dims: expected "):
            estimator(logits, loss, batch_dims=number)


def test_exact_holds_the_loss_to_the_batch() -> None:
    """So do the exact sums."""
    logits, loss = problem("darn", 3, 2)
    mean: Loss = lambda z: loss(z).mean(-1)  # noqa: E731
    estimator = estimators.darn()
    assert torch.equal(
        exact.expectation(loss, logits, batch_dims=1), exact.expectation(loss, logits)
    )
    for held in (
        lambda: exact.expectation(mean, logits, batch_dims=1),
        lambda: exact.gradient(mean, logits, batch_dims=1),
        lambda: exact.moments(estimator, mean, logits, batch_dims=1),
    ):
        with pytest.raises(ValueError, match=r"^loss: expected .* got \(64,\)|\(16,\)$"):
            held()
    with pytest.raises(ValueError, match=r"^batch_dims: expected at most 2 "):
        exact.expectation(loss, logits, batch_dims=3)


@pytest.mark.parametrize("name", JOINT)
def test_losses_that_look_at_values(name: str) -> None:
    """They are asked to say how many axes count problems; of one axis there is no question."""
    logits, plain = problem("darn", 3, 2)

    def looking(z: Tensor) -> Tensor:
        assert float(z.sum()) > 0
        return plain(z)

    with pytest.raises(ValueError, match=r"^batch_dims: expected the number of leading axes"):
        make(name)(logits, looking, generator=generator(1))
    found = make(name)(logits, looking, generator=generator(1), batch_dims=1)
    assert torch.equal(found, make(name)(logits, plain, generator=generator(1)))
    row = make(name)(logits[0, 0], lambda z: z[..., 0] * float(z.sum()), generator=generator(1))
    assert row.shape == (1, 4)
    assert torch.equal(exact.expectation(looking, logits), exact.expectation(plain, logits))


def test_axes_are_asked_for_at_a_draw() -> None:
    """The loss is shown one one-hot draw like the logits, of a single category too."""
    seen = []
    for shape, dims in (((2, 3), 1), ((2, 1), 1), ((4,), 0)):
        for device in ("cpu", "meta"):

            def loss(z: Tensor, dims: int = dims) -> Tensor:
                seen.append((z.dtype, z.device.type))
                if not z.is_meta:
                    assert ((z == 0) | (z == 1)).all()
                    assert (z.sum(-1) == 1).all()
                return z.sum(tuple(range(1 + dims, z.dim())))

            assert batch_dims(loss, normal(*shape).to(device)) == dims
    assert set(seen) == {(torch.float64, "cpu"), (torch.float64, "meta")}


# --- how often it is called


class Decoder(nn.Module):
    """Values of examples behind batch normalisation."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2 * shape_of(name)[-1], dtype=torch.float64)
        self.calls = 0
        self.draws = 0

    def forward(self, z: Tensor) -> Tensor:
        y = self.norm(z.flatten(0, 1).flatten(1)) + z.flatten(0, 1).flatten(1)
        return (y**2).sum(-1).unflatten(0, z.shape[:2])

    def counted(self, z: Tensor) -> Tensor:
        self.calls += 1
        self.draws += len(z)
        return self(z)


# How often the loss is called; the draws of one call are shown together.
CALLS = {"arm": 2, "disarm": 2, "disarm_categorical": 2, "muprop": 2, "rebar": 3}


@each_factory
def test_the_loss_is_called_as_often_as_said(name: str) -> None:
    """As many draws as the table says, in as many calls; the statistics move with each call."""
    logits, decoder = normal(*shape_of(name, 3, 2), seed=1), Decoder(name)
    estimator = make(name)
    estimator(logits, decoder.counted, draws=4, generator=generator(1), batch_dims=1)
    assert decoder.draws == 4 * estimator.evaluations
    assert decoder.calls == CALLS.get(name, 1)
    assert int(decoder.norm.num_batches_tracked) == decoder.calls
    # Who does not say how many axes count problems has nothing evaluated for it either.
    other = Decoder(name)
    make(name)(logits, other, draws=4, generator=generator(1))
    assert int(other.norm.num_batches_tracked) == decoder.calls
    assert torch.equal(other.norm.running_mean, decoder.norm.running_mean)
    assert torch.equal(other.norm.running_var, decoder.norm.running_var)


# --- what is kept, and what it may return


@each_factory
def test_estimates_are_data(name: str) -> None:
    """No graph hangs on the estimates, and the decoder's is gone once they are made."""
    weight = normal(*shape_of(name, 2), seed=2).requires_grad_()
    kept: list[weakref.ref[Any]] = []

    def loss(z: Tensor) -> Tensor:
        hidden = (z * weight).tanh()
        kept.append(weakref.ref(hidden))
        return hidden.sum((-1, -2)) ** 2

    logits = normal(*shape_of(name, 3, 2), seed=1).requires_grad_()
    estimator = make(name)
    found = estimator(logits, loss, draws=3, generator=generator(1), batch_dims=1)
    assert not found.requires_grad
    assert found.grad_fn is None
    assert logits.grad is None
    assert weight.grad is None
    gc.collect()
    assert kept
    assert not [one for one in kept if one() is not None]
    with torch.no_grad():
        again = make(name)(logits, loss, draws=3, generator=generator(1), batch_dims=1)
    assert torch.equal(found, again)
    for held in ("baseline", "step"):
        for value in vars(getattr(estimator, held, estimator)).values():
            assert not (isinstance(value, Tensor) and value.requires_grad)


@each_factory
def test_values_of_other_types(name: str) -> None:
    """Counts, truth values and wider or shorter numbers serve as losses; complex ones do not."""
    logits = normal(*shape_of(name, 3, 2), seed=1).float()
    estimator = make(name)
    plain = loss_for(torch.ones(2, 1))
    for kind in (torch.float64, torch.bfloat16):
        found = make(name)(logits, lambda z, kind=kind: plain(z).to(kind), generator=generator(1))
        assert found.dtype == torch.float32
    if not estimator.differentiates:
        counts: Loss = lambda z: z[..., 0].sum(-1).round().long()  # noqa: E731
        found = make(name)(logits, counts, draws=3, generator=generator(1))
        again = make(name)(logits, lambda z: counts(z).float(), draws=3, generator=generator(1))
        assert torch.equal(found, again)
        truth: Loss = lambda z: counts(z) > 0  # noqa: E731
        assert make(name)(logits, truth, generator=generator(1)).dtype == torch.float32
    with pytest.raises(TypeError, match=r"^loss: expected real values, got torch\.complex64"):
        estimator(logits, lambda z: plain(z) + 1j, generator=generator(1))
