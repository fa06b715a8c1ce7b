"""Details of the core that no proposition needs: long rows, half types, defaults, copies."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from cases import close, distribution, draws, eye, normal
from torch import Tensor

import ils
from ils import exact, metric, simplex, squeeze, states, target

INF = float("inf")


def nearest(x: Tensor) -> Tensor:
    """The projection onto the simplex by bisection in float64, as it is defined."""
    x = x.double()
    low, high = x.amax(-1, keepdim=True) - 1, x.amax(-1, keepdim=True)
    for _ in range(80):
        middle = (low + high) / 2
        above = (x - middle).clamp(min=0).sum(-1, keepdim=True) > 1
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return (x - low).clamp(min=0)


# Up to 15 sorted, up to 255 in one piece, and then in blocks: of a divisor of the length where
# there is a good one, else with a short last block.
LENGTHS = [1, 2, 3, 15, 16, 17, 100, 255, 256, 257, 260, 263, 318, 319, 320, 384, 1021, 1024, 4099]


@pytest.mark.parametrize("categories", LENGTHS)
@pytest.mark.parametrize("spread", [1e-3, 0.1, 1.0, 30.0])
def test_projection_of_long_rows(categories: int, spread: float) -> None:
    """The nearest distribution, with few categories in its support or all of them."""
    for shape in ((), (1,), (3,), (2, 3)):
        x = spread * normal(*shape, categories, seed=categories)
        before = x.clone()
        found = ils.project_simplex(x)
        assert close(found, nearest(x), 1e-12)
        assert torch.equal(x, before)
        assert close(ils.project_simplex(x + 1000), found, 1e-12)
        # The support in the last places, where a last block is short.
        rising = x.sort(-1).values
        assert close(ils.project_simplex(rising), nearest(rising), 1e-12)
        if categories > 2:
            x[..., 1:-1:2] = -INF
            assert close(ils.project_simplex(x), nearest(x), 1e-12)


@pytest.mark.parametrize("categories", [3, 40, 300, 319])
def test_projection_of_edges(categories: int) -> None:
    """Corners stay, ties share, an empty batch stays empty, the last axis is the categories'."""
    corners = eye(categories)[[0, categories // 2, -1]]
    assert torch.equal(ils.project_simplex(corners), corners)
    level = torch.zeros(2, categories, dtype=torch.float64)
    assert close(ils.project_simplex(level), level + 1 / categories, 1e-12)
    for shape in ((0,), (0, 2), (2, 0)):
        empty = torch.zeros(*shape, categories)
        assert ils.project_simplex(empty).shape == empty.shape
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        x = normal(2, categories, seed=1).to(dtype)
        before = x.clone()
        found = ils.project_simplex(x)
        assert found.dtype == dtype
        assert torch.equal(x, before)
        assert close(found.double(), nearest(x), 4 * torch.finfo(dtype).eps)
        # Where values cannot be looked at, rows of any length are sorted.
        batched = torch.func.vmap(ils.project_simplex)(x)
        assert batched.dtype == dtype
        assert close(batched.double(), nearest(x), 4 * torch.finfo(dtype).eps)


def test_half_types_are_projected_in_float32() -> None:
    """A cumulative sum of thousands of float16 numbers would be off by more than an entry."""
    x = (1e-3 * normal(1, 3000, seed=2)).half()
    found = ils.project_simplex(x)
    assert abs(float(found.double().sum()) - 1) < 1e-3
    assert close(torch.func.vmap(ils.project_simplex)(x), found, 1e-6)


def test_sum_normalised_maps() -> None:
    """Positive parts over their sum, and the note's form; -inf gets nothing in both."""
    x = torch.tensor([[1.0, 3.0, -2.0, -INF], [0.0, 0.5, 0.5, -1.0]])
    before = x.clone()
    assert ils.sum_normalize(x).tolist() == [[0.25, 0.75, 0, 0], [0, 0.5, 0.5, 0]]
    assert ils.sum_normalize_unclamped(x[:1]).tolist() == [[0.5, 1.5, -1, 0]]
    assert torch.equal(x, before)


def square(x: Tensor) -> Tensor:
    """A normaliser of one's own."""
    return x.square() / x.square().sum(-1, keepdim=True)


def nothing(z: Tensor, grad: Tensor) -> Tensor:
    """Its derivative at a corner."""
    return torch.zeros_like(grad)


def test_normalizer() -> None:
    """Name, docstring, parts, call, and what a copy or a pickle of one is."""
    mine = ils.Normalizer("square", square, nothing)
    assert repr(mine) == "ils.square"
    assert mine.__name__ == "square"
    assert mine.__doc__ == square.__doc__
    assert (mine.h, mine.vjp) == (square, nothing)
    x = normal(2, 3)
    assert torch.equal(mine(x), square(x))
    for again in (copy.copy(mine), copy.deepcopy(mine), pickle.loads(pickle.dumps(mine))):
        assert type(again) is ils.Normalizer
        assert again is not mine
        assert (again.__name__, again.h, again.vjp) == ("square", square, nothing)
    # Under the name of a given one, one's own is still one's own.
    other = pickle.loads(pickle.dumps(ils.Normalizer("sum_normalize", square, nothing)))
    assert other.h is square
    for name in ("sum_normalize", "sum_normalize_unclamped", "project_simplex"):
        given = getattr(ils, name)
        assert getattr(simplex, name) is given
        assert repr(given) == f"ils.{name}"
        for again in (copy.deepcopy(given), pickle.loads(pickle.dumps(given))):
            assert again is given


def test_pullback_of_functions() -> None:
    """A normaliser's own derivative, or autograd's; a function that changes the shape is named."""
    z, grad = draws(4, 3), normal(4, 3, seed=1)
    mine = ils.Normalizer("square", square, lambda z, grad: 2 * grad)
    assert torch.equal(simplex.pullback(mine, z, grad), 2 * grad)
    assert close(simplex.pullback(lambda x: 3 * x, z, grad), 3 * grad)
    expected = r"^normalizer: its output: expected shape \(4, 3\), got \(4, 2\)$"
    with pytest.raises(ValueError, match=expected):
        simplex.pullback(lambda x: x[..., :2], z, grad)
    with pytest.raises(ValueError, match=expected):
        target.intermediate_target(
            z, grad, step_size=0.5, normalizer=ils.Normalizer("cut", lambda x: x[:, :2], nothing)
        )


@pytest.mark.parametrize("keep_mass", [False, True])
def test_target_defaults_and_masks(keep_mass: bool) -> None:
    """The Euclidean metric and the sum by default; what is masked is as if it were not there."""
    z, grad, probs = draws(5, 4), normal(5, 4, seed=1), distribution(5, 4, seed=2)
    plain = target.direction(z, grad)
    spelt = target.direction(
        z,
        grad,
        normalizer=ils.sum_normalize,
        metric=metric.euclidean,
        probs=probs,
        keep_mass=False,
        mask=torch.zeros_like(z, dtype=torch.bool),
    )
    assert close(plain, spelt, 1e-15)
    step = target.intermediate_target(z, grad, step_size=0.3)
    assert close(step, ils.sum_normalize(z - 0.3 * plain), 1e-15)

    weighted = target.direction(z, grad, metric=metric.fisher, probs=probs)
    assert close(weighted, probs * (grad - (z * grad).sum(-1, keepdim=True)), 1e-15)
    options = {"metric": metric.fisher, "probs": probs}
    step = target.intermediate_target(z, grad, step_size=0.3, **options)
    assert close(step, ils.sum_normalize(z - 0.3 * weighted), 1e-15)

    z = torch.nn.functional.pad(draws(5, 3), (0, 2))
    mask = torch.zeros(5, 5, dtype=torch.bool)
    mask[:, 3:] = True
    grad = normal(5, 5, seed=3)
    wild = grad.masked_fill(mask, INF)
    probs = torch.nn.functional.pad(distribution(5, 3, seed=4), (0, 2))
    for normalizer in (ils.sum_normalize, ils.sum_normalize_unclamped, ils.project_simplex):
        for measure in (metric.euclidean, metric.fisher):
            options = {"normalizer": normalizer, "metric": measure, "keep_mass": keep_mass}
            short = target.direction(z[:, :3], grad[:, :3], probs=probs[:, :3], **options)
            found = target.direction(z, wild, probs=probs, mask=mask, **options)
            assert close(found[:, :3], short, 1e-14)
            assert not found[:, 3:].any()
            if keep_mass:
                assert close(found.sum(-1), torch.zeros(5, dtype=torch.float64), 1e-14)
            step = {**options, "step_size": torch.tensor(0.2, dtype=torch.float64)}
            short = target.intermediate_target(z[:, :3], grad[:, :3], probs=probs[:, :3], **step)
            found = target.intermediate_target(z, wild, probs=probs, mask=mask, **step)
            assert close(found[:, :3], short, 1e-14)
            assert not found[:, 3:].any()
    expected = "^probs: expected the distribution that the metric needs, got None$"
    with pytest.raises(ValueError, match=expected):
        target.direction(z, grad, metric=metric.fisher)


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4), (2, 1, 3, 4)])
@pytest.mark.parametrize("masked", [False, True])
def test_target_of_stacks(shape: tuple[int, ...], masked: bool) -> None:
    """Whatever stands before the categories, each row is treated as if it were alone."""
    z, grad, probs = draws(*shape), normal(*shape, seed=1), distribution(*shape, seed=2)
    hidden = (normal(*shape, seed=3) > 0.3) & (z == 0)
    for normalizer in (ils.sum_normalize, ils.sum_normalize_unclamped, ils.project_simplex):
        for keep_mass in (False, True):
            options = {"normalizer": normalizer, "metric": metric.fisher, "keep_mass": keep_mass}

            def both(*row: Tensor, options: dict[str, object] = options) -> tuple[Tensor, Tensor]:
                more = {"probs": row[2], "mask": row[3] if masked else None, **options}
                moved = target.direction(row[0], row[1], **more)
                return moved, target.intermediate_target(row[0], row[1], step_size=0.3, **more)

            together = both(z, grad, probs, hidden)
            rows = (x.reshape(-1, shape[-1]) for x in (z, grad, probs, hidden))
            alone = [both(*row) for row in zip(*rows, strict=True)]
            for found, parts in zip(together, zip(*alone, strict=True), strict=True):
                assert found.shape == shape
                assert close(found.reshape(-1, shape[-1]), torch.stack(parts), 1e-14)


def test_loss_and_gradients_of_stacks() -> None:
    """The last axis is summed, whatever stands before it."""
    aim, probs, z = distribution(2, 3, 4), distribution(2, 3, 4, seed=1), draws(2, 3, 4)
    loss = target.intermediate_loss(aim, probs)
    assert close(loss, (aim * (aim / probs).log()).sum(-1), 1e-14)
    assert close(target.logits_gradient(2 * aim, probs, z), 2 * probs - 2 * aim, 1e-14)
    assert close(target.centred_gradient(aim, probs, z), z - aim, 0)
    assert close(target.probs_gradient(aim, probs, z), -aim / (probs + 1e-7), 0)
    assert close(target.probs_gradient(aim, probs, z, eps=0.5), -aim / (probs + 0.5), 0)
    assert torch.equal(metric.euclidean(aim, probs), aim)
    assert torch.equal(metric.fisher(aim, probs), probs * aim)


def test_states_and_probabilities() -> None:
    """Order, batches, types, and the limit on the number of states."""
    logits = normal(2, 3, 4).float()
    z = states.states(logits, 1)
    assert z.shape == (64, 2, 3, 4)
    assert z.dtype == torch.float32
    assert z[:, 1].argmax(-1)[:6].tolist() == [
        [0, 0, 0],
        [0, 0, 1],
        [0, 0, 2],
        [0, 0, 3],
        [0, 1, 0],
        [0, 1, 1],
    ]
    assert len(z[:, 0].reshape(64, -1).unique(dim=0)) == 64
    assert states.states(torch.zeros(2, 3)).shape == (9, 2, 3)
    assert states.states(torch.zeros(5)).shape == (5, 5)
    assert states.states(torch.zeros(2, 5), 1).shape == (5, 2, 5)
    expected = r"^logits: expected at most 4194304 joint states, got 2\*\*23$"
    with pytest.raises(ValueError, match=expected):
        states.states(torch.zeros(23, 2))
    with pytest.raises(TypeError, match=r"^logits: expected a floating-point"):
        states.states(torch.zeros(2, 2).long())
    p = logits.softmax(-1)
    assert close(states.probability(logits, z, 1), (p * z).sum(-1).prod(-1), 1e-7)
    one = logits[0, 0]
    assert close(states.probability(one, states.states(one)), one.softmax(-1), 1e-7)
    joint = states.probability(logits, states.states(logits))
    assert joint.shape == (4**6,)
    assert abs(float(joint.sum()) - 1) < 1e-5


def test_most_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest number of states is let pass, one more variable is refused."""
    monkeypatch.setattr(states, "_MOST_STATES", 8)
    assert states.states(torch.zeros(3, 2)).shape == (8, 3, 2)
    with pytest.raises(ValueError, match=r"^logits: .* at most 8 joint states, got 2\*\*4$"):
        states.states(torch.zeros(4, 2))


def test_device_and_type() -> None:
    """Nothing that is made on the way falls back on the default device or type."""
    logits = normal(2, 3).float()
    p, matrix = distribution(4).float(), distribution(3, 3).float()

    def results() -> list[Tensor]:
        z = states.states(logits)
        quality = exact.moments(
            ils.estimators.straight_through(), lambda z: z[..., 0].sum(-1) ** 2, logits
        )
        long = ils.project_simplex(normal_row)
        return [
            z,
            states.probability(logits, z),
            quality.gradient,
            quality.variance,
            squeeze.jensen_bound(p, p, n=3, eps=0.1),
            squeeze.stationary(matrix),
            ils.project_simplex(p),
            long,
            torch.func.vmap(ils.project_simplex)(logits),
        ]

    normal_row = normal(2, 263).float()
    plain, before = results(), torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = results()
    finally:
        torch.set_default_dtype(before)
    for one, other in zip(plain, found, strict=True):
        assert one.dtype == other.dtype == torch.float32
        assert torch.equal(one, other)


def test_moments_take_given_nodes() -> None:
    """Nodes and weights are used as they are, with weights for each problem too."""
    logits, loss = normal(2, 3), lambda z: (z * torch.arange(3.0).double()).sum(-1) ** 2
    estimator = ils.estimators.score_function()
    z = states.states(logits, 1)
    weights = states.probability(logits, z, 1)
    given = exact.moments(estimator, loss, logits, nodes=(z, weights))
    found = exact.moments(estimator, loss, logits)
    for name in ("gradient", "mean", "bias", "variance", "cosine"):
        assert close(getattr(given, name), getattr(found, name), 1e-12)
    assert close(found.mean, found.gradient, 1e-12)
    assert close(found.bias, found.mean - found.gradient, 0)
    # Over variables as well as categories.
    both = exact.moments(estimator, lambda z: (z[..., 0].sum(-1) - 1) ** 2, logits)
    assert both.variance.shape == both.cosine.shape == ()
    assert abs(float(both.cosine) - 1) < 1e-12
    flat = torch.full((3,), 1 / 3, dtype=torch.float64)
    uniform = exact.moments(estimator, loss, logits, nodes=(z, flat))
    estimates = estimator.formula(logits, z, loss)
    assert close(uniform.mean, estimates.mean(0), 1e-12)
    spread = ((estimates - estimates.mean(0)) ** 2).sum(-1).mean(0)
    assert close(uniform.variance, spread, 1e-12)
    wrong = ils.estimators.Estimator(
        "wrong", lambda logits, noise, loss: noise[:2], estimator.randomness, 1, True, False
    )
    expected = r"^estimator: expected one estimate a node, shape \(3, 2, 3\), got \(2, 2, 3\)$"
    with pytest.raises(ValueError, match=expected):
        exact.moments(wrong, loss, logits)


def test_exact_refuses_bad_logits() -> None:
    """Each of the three functions says so itself, before it calls the loss."""
    bad, loss = torch.zeros(2, 3).long(), lambda z: z.sum((-1, -2))
    for call in (
        lambda: exact.expectation(loss, bad),
        lambda: exact.gradient(loss, bad),
        lambda: exact.moments(ils.estimators.zgr(), loss, bad),
    ):
        with pytest.raises(TypeError, match=r"^logits: .* got torch\.int64$"):
            call()


def test_gradient_ignores_no_grad() -> None:
    """The exact gradient is there under no_grad, and leaves none behind."""
    logits = normal(3).requires_grad_()
    with torch.no_grad():
        found = exact.gradient(lambda z: z[:, 0], logits)
    assert logits.grad is None
    p = logits.detach().softmax(-1)
    assert close(found, p[0] * (eye(3)[0] - p), 1e-12)


def test_squeeze_refusals_name_the_argument() -> None:
    """Distributions, counts and guards, each under its own name."""
    p, bad = torch.tensor([0.5, 0.5]), torch.tensor([0.5, 0.6])
    for name, call in {
        "p": lambda: squeeze.kl(bad, p),
        "q": lambda: squeeze.kl(p, bad),
        "eps": lambda: squeeze.kl(p, p, eps=-1.0),
    }.items():
        with pytest.raises(ValueError, match=f"^{name}: expected "):
            call()
    for bound in (squeeze.jensen_bound, squeeze.gap):
        for name, call in {
            "p": lambda bound=bound: bound(bad, p, eps=0.1),
            "probs": lambda bound=bound: bound(p, bad, eps=0.1),
            "n": lambda bound=bound: bound(p, p, n=0, eps=0.1),
            "eps": lambda bound=bound: bound(p, p, eps=-0.1),
        }.items():
            with pytest.raises(ValueError, match=f"^{name}: expected "):
                call()
        assert torch.equal(bound(p, p, eps=0.1), bound(p, p, n=1, eps=0.1))
    assert torch.equal(squeeze.kl(p, p), squeeze.kl(p, p, eps=0.0))
    with pytest.raises(ValueError, match=r"^categories: expected at least 1, got 0$"):
        squeeze.transition(lambda z: z, 0)


def test_stationary_refusals() -> None:
    """Square, of rows that sum to one up to 1e-5."""
    with pytest.raises(TypeError, match=r"^matrix: .* got torch\.int64$"):
        squeeze.stationary(torch.ones(1, 1).long())
    for shape in ((), (2,), (2, 3), (2, 2, 3)):
        with pytest.raises(ValueError, match=r"^matrix: expected shape \(\.\.\., K, K\), got \("):
            squeeze.stationary(torch.ones(shape) / 2)
    good = distribution(3, 3)
    for off in (2e-6, -2e-6, 1.5e-5, -1.5e-5):
        squeeze.stationary(good + off / 3)
    for off in (4e-5, -4e-5, 0.5):
        with pytest.raises(
            ValueError, match=r"^matrix: expected rows that sum to 1, got sums from"
        ):
            squeeze.stationary(good + off / 3)
    assert squeeze.stationary(torch.ones(1, 1)).tolist() == [1.0]
