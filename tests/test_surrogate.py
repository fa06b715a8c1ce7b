"""ils.surrogate: value, gradients, evaluations and training, against the same made by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import close, generator, normal
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

import ils
from ils.estimators import Estimator
from lab.methods.catalogue import METHODS, Method

each_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)

# Their formulas evaluate a one-hot draw and, with the derivative, points inside the simplex.
MIXED = {"rebar", "muprop"}


def make(method: Method, control: Callable[[Tensor], Tensor] | None = None) -> Estimator:
    """The estimator at its default; RELAX with a control variate without parameters."""
    if method.factory == "relax":
        return ils.estimators.relax(control or (lambda y: (y**2).sum((-1, -2))))
    return method.make(method.default)


def grad_of(tensor: Tensor) -> Tensor:
    """The gradient that a tensor has by now."""
    assert tensor.grad is not None
    return tensor.grad


def sizes(method: Method) -> tuple[int, int, int]:
    return (3, 2, 2 if method.binary else 4)


class Model:
    """An encoder, and a decoder with parameters, examples and features of the encoder."""

    def __init__(self, method: Method, seed: int = 0) -> None:
        self.shape = sizes(method)
        _, n, k = self.shape
        self.x = normal(self.shape[0], 3, seed=seed)
        self.encoder = normal(3, n * k, seed=seed + 1).requires_grad_()
        self.skip = normal(3, 3, seed=seed + 2).requires_grad_()
        self.decoder = (normal(n * k, 3, seed=seed + 3) / 2).requires_grad_()
        self.parameters = [self.encoder, self.skip, self.decoder]

    def logits(self) -> Tensor:
        return (self.x @ self.encoder).reshape(self.shape)

    def features(self) -> Tensor:
        """What the encoder hands round the draw: no leaf, and with a graph."""
        return (self.x @ self.skip).tanh()

    def loss(self, features: Tensor) -> Callable[[Tensor], Tensor]:
        def values(z: Tensor) -> Tensor:
            return ((z.flatten(-2) @ self.decoder + features - self.x) ** 2).sum(-1) + (
                z.flatten(-2) @ self.decoder
            ).sin().sum(-1)

        return values


class Watched:
    """A loss that keeps the points where it was called."""

    def __init__(self, loss: Callable[[Tensor], Tensor]) -> None:
        self.loss, self.points = loss, list[Tensor]()

    def __call__(self, z: Tensor) -> Tensor:
        self.points.append(z.detach().clone())
        return self.loss(z)

    def trained_at(self) -> Tensor:
        """One-hot points if there are any, and else all, ``(S, *logits.shape)``."""
        hard = [z for z in self.points if bool(((z == 0) | (z == 1)).all())]
        return torch.cat(hard or self.points)


def by_hand(
    estimator: Estimator,
    model: Model,
    weights: Tensor | None,
    generator: torch.Generator,
    draws: int,
) -> Tensor:
    """Gradients in two passes, as one writes them without ils.surrogate; returns the values."""
    logits, watched = model.logits(), Watched(model.loss(model.features().detach()))
    estimates = estimator(logits, watched, draws=draws, generator=generator, batch_dims=1)
    values = model.loss(model.features())(watched.trained_at()).mean(0)
    weights = torch.full_like(values, 1 / len(values)) if weights is None else weights
    logits.backward(weights.view(-1, 1, 1) * estimates.detach().mean(0))
    values.backward(weights)
    return values.detach()


@each_method
@pytest.mark.parametrize("draws", [1, 3])
def test_gradients_by_hand(method: Method, draws: int) -> None:
    """Value, estimates and the gradient of all else, a weight an example, are those by hand."""
    model, weights = Model(method), torch.tensor([0.5, -2.0, 0.0], dtype=torch.float64)
    # The first estimator learns in no other way than the second.
    expected = by_hand(make(method), model, weights, generator(3), draws)
    wanted = [grad_of(p) for p in model.parameters]
    for p in model.parameters:
        p.grad = None
    found = ils.surrogate(
        make(method),
        model.logits(),
        model.loss(model.features()),
        draws=draws,
        generator=generator(3),
    )
    assert found.shape == (3,)
    assert close(found.detach(), expected)
    (found * weights).sum().backward()
    for p, grad in zip(model.parameters, wanted, strict=True):
        assert close(grad_of(p), grad, 1e-12 * (1 + float(grad.abs().max())))
    assert grad_of(model.decoder).any()
    assert grad_of(model.skip).any()


@each_method
def test_estimates_bit_for_bit(method: Method) -> None:
    """Logits get exactly what the estimator returns, for weights of one, in every type."""
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        table = normal(*sizes(method), seed=5).to(dtype)
        logits = normal(*sizes(method), seed=4).to(dtype).requires_grad_()

        def loss(z: Tensor, table: Tensor = table) -> Tensor:
            return ((z * table).sum((-1, -2)) - 0.5) ** 2

        wanted = make(method)(logits, loss, draws=2, generator=generator(1), batch_dims=1)
        found = ils.surrogate(make(method), logits, loss, draws=2, generator=generator(1))
        assert found.dtype == dtype
        found.sum().backward()
        assert grad_of(logits).dtype == dtype
        assert torch.equal(grad_of(logits), wanted.mean(0))


@each_method
def test_evaluations(method: Method) -> None:
    """The loss is called as often as by the estimator alone, at as many points as it states."""
    model = Model(method)
    alone, within = (Watched(model.loss(model.features())) for _ in range(2))
    estimator = make(method)
    estimator(model.logits(), alone, draws=5, generator=generator(2), batch_dims=1)
    values = ils.surrogate(make(method), model.logits(), within, draws=5, generator=generator(2))
    values.mean().backward()
    assert sum(map(len, within.points)) == 5 * estimator.evaluations
    assert len(within.points) == len(alone.points)
    for one, other in zip(within.points, alone.points, strict=True):
        assert torch.equal(one, other)


@each_method
def test_training_by_hand(method: Method) -> None:
    """Twenty steps of Adam end where those of two passes by hand end."""
    ends = []
    for written in (True, False):
        model, random, estimator = Model(method, seed=7), generator(11), make(method)
        optimizer = torch.optim.Adam(model.parameters, lr=0.02)
        for _ in range(20):
            optimizer.zero_grad()
            if written:
                by_hand(estimator, model, None, random, 2)
            else:
                loss = model.loss(model.features())
                values = ils.surrogate(estimator, model.logits(), loss, draws=2, generator=random)
                values.mean().backward()
            optimizer.step()
        ends.append([p.detach().clone() for p in model.parameters])
    start = Model(method, seed=7).parameters
    for one, other, first in zip(*ends, start, strict=True):
        assert not close(one, first.detach(), 0.05)  # it went somewhere
        assert close(one, other, 1e-8)  # rounding, twenty times through Adam


# They call the loss twice at draws: two gradients of the decoder are added, by hand it is one.
TWO_CALLS = {"arm", "disarm", "disarm_categorical"}


@each_method
def test_module_training_is_bit_for_bit(method: Method) -> None:
    """Modules in float32 whose by-hand form sums in the same order train to the same bits."""
    x, (_, n, k) = normal(8, 5, seed=1).float(), sizes(method)
    ends: list[Tensor] = []
    for written in (True, False):
        torch.manual_seed(0)
        encoder, head = nn.Linear(5, n * k), nn.Linear(6, 5)
        decoder = nn.Sequential(nn.Flatten(-2), nn.Linear(n * k, 6), nn.Tanh())
        parts = nn.ModuleList([encoder, decoder, head])
        optimizer = torch.optim.Adam(parts.parameters(), lr=0.01)
        random, estimator = generator(5), make(method)

        def loss(z: Tensor, decoder: nn.Module = decoder, head: nn.Module = head) -> Tensor:
            return ((head(decoder(z)) - x) ** 2).sum(-1)

        for _ in range(20):
            optimizer.zero_grad()
            logits = encoder(x).unflatten(-1, (n, k))
            if written:
                watched = Watched(loss)
                estimates = estimator(logits, watched, generator=random, batch_dims=1).detach()
                logits.backward(estimates[0] * torch.full((8, 1, 1), 1 / 8))
                loss(watched.trained_at()).mean(0).mean().backward()
            else:
                ils.surrogate(estimator, logits, loss, generator=random).mean().backward()
            optimizer.step()
        ends.append(nn.utils.parameters_to_vector(parts.parameters()).detach())
    assert torch.equal(*ends) or method.factory in TWO_CALLS
    assert close(*ends, 1e-5)


@pytest.mark.parametrize("method", [m for m in METHODS if m.factory in MIXED | {"relax"}][:4])
def test_mixed_points_train_at_the_draw(method: Method) -> None:
    """Where relaxed points are evaluated too, value and decoder see the one-hot draw alone."""
    model = Model(method)
    watched = Watched(model.loss(model.features()))
    found = ils.surrogate(make(method), model.logits(), watched, generator=generator(4))
    first = watched.points[0]
    assert bool(((first == 0) | (first == 1)).all())
    assert len(watched.points) > 1 or method.factory == "relax"
    assert torch.equal(found.detach(), model.loss(model.features())(first).mean(0).detach())


class Network(nn.Module):
    """A quadratic control variate with parameters, ``(D, B, n, K)`` to ``(D, B)``."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(2, 4, dtype=torch.float64))
        self.pairs = nn.Parameter(torch.zeros(8, 8, dtype=torch.float64))

    def forward(self, y: Tensor) -> Tensor:
        flat = y.flatten(-2)
        return (y * self.table).sum((-1, -2)) + ((flat @ self.pairs) * flat).sum(-1)


def test_relax_learns() -> None:
    """The network of RELAX gets the gradient of the variance, as by hand, and it falls."""
    logits = normal(3, 2, 4, seed=1).requires_grad_()
    table = normal(2, 4, seed=2) * 2
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)

    def loss(z: Tensor) -> Tensor:
        return scale * ((z * table).sum((-1, -2)) - 1) ** 2

    def variance(network: Network) -> float:
        estimator = ils.estimators.relax(network)
        return float(
            estimator(logits, loss, draws=2000, generator=generator(9)).detach().var(0).sum()
        )

    network = Network()
    estimator = ils.estimators.relax(network)
    estimates = estimator(logits, loss, draws=2, generator=generator(1))
    weights = torch.tensor([0.5, 0.1, 2.0], dtype=torch.float64)
    second = ((estimates**2).sum((-1, -2)).mean(0) * weights).sum()
    by_hand = torch.autograd.grad(second, [network.table, network.pairs])
    # Its sign does not follow that of the objective.
    for sign in (1.0, -1.0):
        logits.grad = scale.grad = network.table.grad = network.pairs.grad = None
        found = ils.surrogate(estimator, logits, loss, draws=2, generator=generator(1))
        (sign * weights * found).sum().backward()
        assert close(grad_of(network.table), by_hand[0], 1e-10)
        assert close(grad_of(network.pairs), by_hand[1], 1e-10)
        assert close(grad_of(logits), sign * weights.view(3, 1, 1) * estimates.detach().mean(0))
        assert close(grad_of(scale), sign * (weights * found.detach()).sum())

    network.table.grad = None
    fixed = ils.surrogate(estimator, logits, loss, generator=generator(1), lower_variance=False)
    fixed.mean().backward()
    assert network.table.grad is None

    before = variance(network)
    optimizer, random = torch.optim.Adam(network.parameters(), lr=0.05), generator(2)
    for _ in range(150):
        optimizer.zero_grad()
        ils.surrogate(estimator, logits, loss, generator=random).mean().backward()
        optimizer.step()
    assert variance(network) < before / 2


def test_relax_learns_in_half() -> None:
    """Squares that a half type cannot hold do not stop the network from learning."""
    logits = normal(3, 2, 4, seed=1).half().requires_grad_()
    network = Network().float()
    found = ils.surrogate(
        ils.estimators.relax(network),
        logits,
        lambda z: 1000 * z[..., 0].sum(-1),
        generator=generator(1),
    )
    found.mean().backward()
    assert grad_of(logits).dtype == torch.float16
    assert grad_of(network.table).isfinite().all()
    assert grad_of(network.table).any()


def test_batch_statistics_move_once() -> None:
    """Batch normalisation in the decoder sees each evaluation once."""
    logits = normal(6, 4, seed=1).float().requires_grad_()
    for factory, calls in (
        ("reinmax", 1),
        ("leave_one_out", 1),
        ("rebar", 3),
        ("unordered_set", 1),
    ):
        norm = nn.BatchNorm1d(4)
        estimator = getattr(ils.estimators, factory)()

        def loss(z: Tensor, norm: nn.BatchNorm1d = norm) -> Tensor:
            return norm(z.flatten(0, 1)).pow(3).sum(-1).unflatten(0, z.shape[:2])

        ils.surrogate(estimator, logits, loss, generator=generator(1)).mean().backward()
        assert int(norm.num_batches_tracked) == calls  # type: ignore[arg-type]
        assert norm.weight.grad is not None


def test_shapes() -> None:
    """Several batch axes, none, and no problem at all."""
    estimator = ils.estimators.straight_through()
    for shape, batch_dims, wanted in (
        ((4,), None, ()),
        ((2, 4), 0, ()),
        ((2, 4), None, (2,)),
        ((2, 3, 4), 2, (2, 3)),
        ((0, 2, 4), None, (0,)),
    ):
        logits = normal(*shape, seed=1).requires_grad_()
        axes = tuple(range(1 + len(wanted), 1 + len(shape)))

        def loss(z: Tensor, axes: tuple[int, ...] = axes) -> Tensor:
            return z.sum(axes) ** 2

        found = ils.surrogate(estimator, logits, loss, batch_dims=batch_dims, draws=2)
        assert found.shape == wanted
        found.sum().backward()
        assert grad_of(logits).shape == shape


def test_type_of_the_value() -> None:
    """It is the wider of the types of values and logits; the gradient has that of the logits."""
    for logits_type, loss_type in (
        (torch.float64, torch.float32),
        (torch.float32, torch.float64),
        (torch.float32, torch.int64),
    ):
        logits = normal(3, 4, seed=1).to(logits_type).requires_grad_()

        def loss(z: Tensor, kind: torch.dtype = loss_type) -> Tensor:
            return z[..., 0].to(kind)

        found = ils.surrogate(ils.estimators.leave_one_out(), logits, loss)
        assert found.dtype == torch.promote_types(logits_type, loss_type)
        found.sum().backward()
        assert grad_of(logits).dtype == logits_type


def test_refusals() -> None:
    """Losses over the batch, other estimators and other functions are refused by name."""
    logits, table = normal(3, 2, 4, seed=1), normal(2, 4, seed=2)

    def loss(z: Tensor) -> Tensor:
        return (z * table).sum((-1, -2))

    estimator: Any = ils.estimators.leave_one_out()
    with pytest.raises(ValueError, match=r"loss: .* shape \(2, 3\), got \(2,\)"):
        ils.surrogate(estimator, logits, lambda z: loss(z).mean(-1))
    with pytest.raises(ValueError, match=r"loss: .* got \(\)"):
        ils.surrogate(estimator, logits, lambda z: loss(z).mean())
    with pytest.raises(TypeError, match=r"loss: expected a torch\.Tensor, got float"):
        ils.surrogate(estimator, logits, lambda z: 1.0)  # type: ignore[arg-type,return-value]
    with pytest.raises(TypeError, match="loss: expected a function, got Tensor"):
        ils.surrogate(estimator, logits, loss(logits))  # type: ignore[arg-type]
    for wrong, written in (
        (ils.estimators.leave_one_out, r"leave_one_out; write leave_one_out\(\)"),
        (ils.rules.MVE(), r"the rule MVE\(\); write ils\.estimators\.from_rule\(MVE\(\)\)"),
        ("reinmax", "str$"),
    ):
        with pytest.raises(
            TypeError, match=rf"estimator: expected an .*\.Estimator, got {written}"
        ):
            ils.surrogate(wrong, logits, loss)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"generator: expected a torch\.Generator or None, got int"):
        ils.surrogate(estimator, logits, loss, generator=0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"logits: expected a torch\.Tensor, got list"):
        ils.surrogate(estimator, [0.0, 1.0], loss)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"batch_dims: expected at most 2 .* got 3"):
        ils.surrogate(estimator, logits, loss, batch_dims=3)
    with pytest.raises(ValueError, match="draws: expected at least 1, got 0"):
        ils.surrogate(estimator, logits, loss, draws=0)


# PyTorch warns of its own torch.jit when forward mode is first used.
@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")
def test_forward_mode_is_refused() -> None:
    """A derivative in forward mode would be dropped in silence."""
    with forward_ad.dual_level():
        logits = forward_ad.make_dual(normal(3, 4), normal(3, 4))
        with pytest.raises(NotImplementedError, match="ils: expected backward mode"):
            ils.surrogate(ils.estimators.reinmax(), logits, lambda z: z.sum(-1))


def test_what_goes_round_the_draw() -> None:
    """The logits themselves may be part of the loss: their gradient has both ways."""
    logits, table = normal(3, 4, seed=1).requires_grad_(), normal(4, seed=2)
    estimator = ils.estimators.leave_one_out(samples=3)

    def entropy() -> Tensor:
        return logits.softmax(-1).square().sum(-1)

    (plain,) = torch.autograd.grad(entropy().sum(), logits)
    wanted = estimator(logits, lambda z: z @ table + entropy().detach(), generator=generator(1))
    found = ils.surrogate(
        estimator, logits, lambda z: z @ table + entropy(), generator=generator(1)
    )
    found.sum().backward()
    assert close(grad_of(logits), wanted[0] + plain)


@pytest.mark.parametrize("factory", ["reinmax", "muprop"])
def test_a_loss_without_the_draw(factory: str) -> None:
    """What an estimator that differentiates refuses alone it refuses here: the encoder would stop.

    A graph that does not lead to the draw is as good as none.
    """
    logits, other = normal(3, 4, seed=1).requires_grad_(), normal(3, seed=2).requires_grad_()
    estimator = getattr(ils.estimators, factory)()
    for loss in (
        lambda z: other.expand(len(z), 3),
        lambda z: other * z.argmax(-1),
        lambda z: z.detach().sum(-1),
    ):
        for call in (ils.surrogate, Estimator.__call__):
            with pytest.raises(ValueError, match=r"loss: .* differentiated in the draw"):
                call(estimator, logits, loss)


@each_method
def test_only_the_decoder_learns(method: Method) -> None:
    """Logits without a graph are no obstacle, and get none."""
    model = Model(method)
    logits = model.logits().detach()
    found = ils.surrogate(make(method), logits, model.loss(model.features()))
    found.mean().backward()
    assert model.encoder.grad is None
    assert grad_of(model.decoder).any()
    assert grad_of(model.skip).any()


@each_method
def test_no_grad(method: Method) -> None:
    """Without gradients the value is the same, the draws are made, and nothing is kept."""
    model = Model(method)
    kept, plain = generator(3), generator(3)
    loss = Watched(model.loss(model.features()))
    wanted = ils.surrogate(make(method), model.logits(), loss, generator=kept)
    again = Watched(model.loss(model.features()))
    with torch.no_grad():
        found = ils.surrogate(make(method), model.logits(), again, generator=plain)
    assert not found.requires_grad
    assert torch.equal(found, wanted.detach())
    assert torch.equal(kept.get_state(), plain.get_state())
    assert len(loss.points) == len(again.points)


@each_method
def test_what_is_not_finite_stays_with_its_problem(method: Method) -> None:
    """A loss of NaN spoils its own value and estimate, and no other."""
    logits = normal(*sizes(method), seed=4).requires_grad_()
    spoilt = torch.tensor([1.0, torch.nan, 1.0], dtype=torch.float64)
    table = normal(*sizes(method)[1:], seed=5)

    def loss(z: Tensor) -> Tensor:
        return ((z * table).sum((-1, -2)) - 0.5) ** 2 * spoilt

    found = ils.surrogate(make(method), logits, loss, generator=generator(1))
    assert found.isfinite().tolist() == [True, False, True]
    found.sum().backward()
    fine = grad_of(logits).isfinite().flatten(1).all(-1)
    assert bool(fine[[0, 2]].all())


def test_masked_categories() -> None:
    """A category of -inf, or masked, disturbs neither value nor gradient."""
    mask, seen = torch.tensor([False, False, True, False]), []
    for given in (normal(3, 4, seed=1).masked_fill(mask, -torch.inf), normal(3, 4, seed=1)):
        logits, masked = given.requires_grad_(), None if given.isinf().any() else mask
        how: dict[str, Any] = {"mask": masked, "generator": generator(2)}
        found = ils.surrogate(ils.estimators.rebar(), logits, lambda z: (z**2 * 2).sum(-1), **how)
        found.sum().backward()
        assert found.isfinite().all()
        assert grad_of(logits).isfinite().all()
        assert not grad_of(logits)[:, 2].any()
        seen.append(grad_of(logits))
    assert torch.equal(*seen)
    with pytest.raises(TypeError, match=r"^mask: expected a boolean tensor"):
        ils.surrogate(ils.estimators.rebar(), logits, lambda z: z.sum(-1), mask=mask.long())


def test_twice() -> None:
    """For the logits a second derivative is refused; for the decoder it is that of the values."""
    logits, scale = normal(3, 4, seed=1).requires_grad_(), normal(4, seed=2).requires_grad_()
    found = ils.surrogate(
        ils.estimators.reinmax(), logits, lambda z: ((z * scale) ** 3).sum(-1)
    ).sum()
    for_logits, for_scale = torch.autograd.grad(found, [logits, scale], create_graph=True)
    with pytest.raises(RuntimeError, match="expected to be differentiated once"):
        for_logits.sum().backward(retain_graph=True)
    weights = torch.ones(3, dtype=torch.float64, requires_grad=True)
    found = ils.surrogate(ils.estimators.reinmax(), logits, lambda z: (z * scale).sum(-1))
    (weighted,) = torch.autograd.grad((weights * found).sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="expected to be differentiated once"):
        torch.autograd.grad(weighted.sum(), weights)
    (second,) = torch.autograd.grad(for_scale.sum(), scale)
    assert close(second, 2 * for_scale.detach() / scale.detach())


def test_autocast() -> None:
    """Under autocast the estimates have the type of the logits, and the decoder its own."""
    x, decoder = normal(3, 5, seed=1).float(), nn.Linear(4, 5)
    for factory in ("reinmax", "leave_one_out", "rebar"):
        logits = normal(3, 4, seed=2).float().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = ils.surrogate(
                getattr(ils.estimators, factory)(),
                logits,
                lambda z: ((decoder(z) - x) ** 2).sum(-1),
            )
        found.mean().backward()
        assert found.dtype == torch.float32
        assert grad_of(logits).dtype == torch.float32
        assert grad_of(decoder.weight).isfinite().all()


def test_accumulation_and_retention() -> None:
    """Two objectives add up, and one may go back twice where its graph is retained."""
    model = Model(next(m for m in METHODS if m.factory == "reinmax"))
    estimator = ils.estimators.reinmax()
    found = ils.surrogate(estimator, model.logits(), model.loss(model.features()))
    found.mean().backward(retain_graph=True)
    once = [grad_of(p).clone() for p in model.parameters]
    found.mean().backward()
    for p, grad in zip(model.parameters, once, strict=True):
        assert close(grad_of(p), 2 * grad)


def test_checkpoint() -> None:
    """A decoder that is recomputed in the backward pass gets the gradients of one that is not."""
    found: list[list[Tensor]] = []
    for recomputed in (True, False):
        model = Model(next(m for m in METHODS if m.factory == "double_control_variate"))
        plain = model.loss(model.features())

        def loss(
            z: Tensor, recomputed: bool = recomputed, plain: Callable[..., Any] = plain
        ) -> Tensor:
            return checkpoint(plain, z, use_reentrant=False) if recomputed else plain(z)

        estimator = ils.estimators.double_control_variate()
        ils.surrogate(estimator, model.logits(), loss, generator=generator(1)).mean().backward()
        found.append([grad_of(p) for p in model.parameters])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
