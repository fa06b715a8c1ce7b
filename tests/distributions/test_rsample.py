"""The draw: its shape, source, type and law, and the gradient that comes with it."""

from __future__ import annotations

import pytest
import torch
from cases import close, generator, normal
from drop_in import FAMILIES, Family, every_family, some_families, update
from torch import Tensor

import ils
from ils import distributions

SCALARS = (
    *("Bernoulli", "Binomial", "Poisson", "Geometric", "NegativeBinomial"),
    *("Normal", "Gamma", "Beta", "VonMises"),
)
HALF = (torch.float16, torch.bfloat16)


@every_family
@pytest.mark.parametrize("batch", [(), (0,), (4, 2)], ids=str)
@pytest.mark.parametrize("draws", [(), (0,), (2, 3)], ids=str)
def test_shape(family: Family, batch: tuple[int, ...], draws: tuple[int, ...]) -> None:
    """Draws, then the batch, then the event, empty or not; the gradient has the leaf's shape."""
    leaves = family.leaves(*batch)
    if 0 in batch and family.name == "OneHotCategorical":
        for cls in (family.ours, family.parent):  # PyTorch cannot check rows that are not there.
            with pytest.raises(RuntimeError, match="0 elements"):
                cls(**leaves)
        return
    q = family.ours(**leaves, validate_args=0 not in batch)
    for shape in (draws, list(draws), torch.Size(draws)):
        assert q.sample(shape).shape == (*draws, *batch, *family.event)
        z = q.rsample(shape)
        assert z.shape == (*draws, *batch, *family.event)
    assert z.numel() == 0 or bool(q.support.check(z.detach()).all())
    for name, found in update(z, leaves).items():
        assert found.shape == leaves[name].shape
        assert bool(found.any()) is (z.numel() > 0)


@every_family
def test_generator(family: Family) -> None:
    """Numbers are those of the generator, or of PyTorch's own, which a seed fixes; as in sample."""
    leaves = family.leaves(50)
    q = family.ours(**leaves)
    state, own = torch.get_rng_state(), generator(1)
    z = q.rsample((3,), own)
    assert torch.equal(q.sample((3,), generator=generator(1)), z)
    assert torch.equal(q.rsample((3,), generator=generator(1)), z)
    assert not torch.equal(q.rsample((3,), own), z)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.random.fork_rng(devices=[]):
        found = []
        for seed in (3, 3, 4):
            torch.manual_seed(seed)
            z = q.rsample((3,))
            found.append((z, update(z, leaves)))
            torch.manual_seed(seed)
            assert torch.equal(q.sample((3,)), z)
    assert torch.equal(found[0][0], found[1][0])
    assert not torch.equal(found[0][0], found[2][0])
    for name in family.trained:
        assert torch.equal(found[0][1][name], found[1][1][name])


@every_family
def test_no_graph(family: Family) -> None:
    """There is no graph without a gradient to carry: no_grad, sample, and fixed parameters."""
    q = family.ours(**family.leaves(4))
    z = q.rsample(generator=generator(5))
    assert z.requires_grad
    with torch.no_grad():
        bare = q.rsample(generator=generator(5))
    for other in (bare, q.sample(generator=generator(5)), family.make(4).rsample((), generator(5))):
        assert not other.requires_grad
        assert torch.equal(other, z)


@every_family
def test_one_leaf_alone(family: Family) -> None:
    """Each parameter can be trained while the others are fixed, with the same gradient."""
    leaves = family.leaves(4)
    wanted = update(family.ours(**leaves).rsample((3,), generator(6)), leaves)
    for name in family.trained:
        alone = family.params(4)
        alone[name].requires_grad_()
        found = update(family.ours(**alone).rsample((3,), generator(6)), alone)
        assert torch.equal(found[name], wanted[name])


@every_family
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALF], ids=str)
def test_type(family: Family, dtype: torch.dtype) -> None:
    """Draw and gradient have the type of the parameters, where the parent does not draw too."""
    leaves = {name: p.to(dtype).requires_grad_() for name, p in family.params(200).items()}
    if dtype in HALF and "probs" in leaves and family.event:
        leaves["probs"] = leaves["probs"].detach().float().softmax(-1).to(dtype).requires_grad_()
    q = family.ours(**leaves, validate_args=False)
    z = q.rsample((2,), generator(7))
    assert z.dtype == dtype
    assert q.sample().dtype == dtype
    if dtype in (torch.float32, torch.float64):
        assert family.parent(**leaves, validate_args=False).sample().dtype == dtype
    if dtype in HALF and family.name == "Dirichlet":  # the check is closer than the digits are
        assert bool((z >= 0).all())
        assert bool(((z.float().sum(-1) - 1).abs() < 2 * torch.finfo(dtype).eps).all())
    else:
        assert bool(q.support.check(z.detach()).all())
    for name in family.trained:
        (found,) = torch.autograd.grad(z.sum() + (z**2).sum(), leaves[name], retain_graph=True)
        assert found.dtype == dtype
        # Numbers up to 65,504 do not hold every product of a slope and a velocity.
        assert not bool(found.isnan().any())
        assert dtype == torch.float16 or bool(found.isfinite().all())
        assert found.abs().max() > 1e-3


@every_family
@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_half_types_draw_in_single_precision(family: Family, dtype: torch.dtype) -> None:
    """Draw and velocity are those of the same parameters in float32, rounded once."""
    params = {name: p.to(dtype) for name, p in family.params(200).items()}
    if "probs" in params and family.event:
        # The parent divides by the sum, in the type that is given.
        params["probs"] = (params["probs"] > 0.3).to(dtype) + 0.25
        params["probs"] = params["probs"] / params["probs"].sum(-1, keepdim=True)
    if family.name == "Normal":
        return  # its noise is drawn in its type, and PyTorch's is right
    moved = []
    for kind in (dtype, torch.float32):
        leaves = {name: p.to(kind).requires_grad_() for name, p in params.items()}
        q = family.ours(**leaves, validate_args=False)
        if family.name == "OneHotCategorical":
            ((name, leaf),) = leaves.items()
            q._categorical.__dict__[name] = q._categorical._param = leaf
        z = q.rsample((2,), generator(7))
        slopes = torch.autograd.grad(z.sum(), [leaves[name] for name in family.trained])
        moved.append([z.detach(), *slopes])
    half, single = moved
    wanted = single[0].to(dtype)
    if family.name == "Gamma" and dtype == torch.float16:
        wanted = wanted.clamp(min=2.0**-24)
    assert torch.equal(half[0], wanted)
    for found, wanted in zip(half[1:], single[1:], strict=True):
        # Two velocities are rounded, added and rounded; those of rounded draws differ by as much.
        assert torch.allclose(found.float(), wanted, rtol=0.05, atol=0.05)


@every_family
def test_second_derivative(family: Family) -> None:
    """The estimate is the derivative of no function: it is differentiated once, a constant too."""
    if family.name == "Normal":
        return  # its gradient is a derivative: see test_normal_is_differentiated_twice
    leaves = family.leaves(4)
    z = family.ours(**leaves).rsample(generator=generator(8))
    trained = [leaves[name] for name in family.trained]
    linear = (z * torch.linspace(1, 2, z.shape[-1], dtype=z.dtype)).sum()
    losses = {"derivative": (z**3).sum(), "differentiated once": linear}
    if family.name == "OneHotCategorical":  # which has the operator's own tests of linear losses
        del losses["differentiated once"]
    for message, loss in losses.items():
        for first in torch.autograd.grad(loss, trained, create_graph=True):
            with pytest.raises(RuntimeError, match=message):
                torch.autograd.grad(first.sum(), trained, retain_graph=True, allow_unused=True)


def velocities(name: str, p: dict[str, Tensor], z: Tensor) -> dict[str, Tensor]:
    """The velocity of a draw for each parameter, by the public formulas."""
    by = "logits" if "logits" in p else "probs"
    logits = by == "logits"
    probs = p[by].sigmoid() if logits else p[by] if "probs" in p else None
    match name:
        case "Bernoulli":
            return {by: ils.velocity.binomial(z, torch.ones(()).double(), probs, logits=logits)}
        case "Binomial":
            return {by: ils.velocity.binomial(z, p["total_count"], probs, logits=logits)}
        case "Poisson":
            return {"rate": ils.velocity.poisson(z, p["rate"])}
        case "Geometric":
            return {by: ils.velocity.geometric(z, probs, logits=logits)}
        case "NegativeBinomial":
            found = ils.velocity.negative_binomial(z, p["total_count"], probs, logits=logits)
            return dict(zip(("total_count", by), found, strict=True))
        case "Normal":
            return {"loc": torch.ones_like(z), "scale": (z - p["loc"]) / p["scale"]}
        case "Gamma":
            found = ils.velocity.gamma(z, p["concentration"], p["rate"])
            return dict(zip(("concentration", "rate"), found, strict=True))
        case "Beta":
            found = ils.velocity.beta(z, p["concentration1"], p["concentration0"])
            return dict(zip(("concentration1", "concentration0"), found, strict=True))
        case _:
            moved = ils.velocity.von_mises(z, p["loc"], p["concentration"])
            return {"loc": torch.ones_like(z), "concentration": moved}


@some_families(*SCALARS)
def test_gradient_is_velocity_times_slope(family: Family) -> None:
    """The gradient is the velocity times g, summed over the draws of a parameter."""
    leaves = family.leaves(4)
    z = family.ours(**leaves).rsample((30,), generator(9))
    g = 3 * (z.detach() - 0.3) ** 2 * normal(30, 4, seed=99)
    params = {name: leaf.detach() for name, leaf in leaves.items()}
    found, moved = update(z, leaves), velocities(family.name, params, z.detach())
    assert set(found) == set(moved)
    for name, v in moved.items():
        wanted = (v * g).sum(0)
        assert close(found[name], wanted, 1e-12 * (1 + float((v * g).abs().sum()))), name
        assert wanted.abs().max() > 0.01


def test_gradient_of_dirichlet() -> None:
    """That of a Dirichlet draw is the product with each column of its velocity."""
    leaves = FAMILIES["Dirichlet"].leaves(4)
    z = distributions.Dirichlet(**leaves).rsample((30,), generator(10))
    g = 3 * (z.detach() - 0.3) ** 2 * normal(30, 4, 3, seed=99)
    columns = [
        ils.velocity.dirichlet(z.detach(), leaves["concentration"].detach(), one)
        for one in torch.eye(3).double()
    ]
    wanted = torch.stack([(column * g).sum(-1).sum(0) for column in columns], -1)
    assert close(update(z, leaves)["concentration"], wanted, 1e-11)
    assert wanted.abs().max() > 0.01


@pytest.mark.parametrize("name", ["Bernoulli", "Binomial", "Geometric", "NegativeBinomial"])
def test_probs_and_logits(name: str) -> None:
    """The same draw has gradients for probs and logits that the chain rule joins."""
    logits = FAMILIES[f"{name}-logits"].leaves(40)
    probs = {n: leaf.detach() for n, leaf in logits.items()}
    probs["probs"] = probs.pop("logits").sigmoid().requires_grad_()
    by_logits, by_probs = (
        FAMILIES[f"{name}-logits"].ours(**p).rsample((3,), generator(11)) for p in (logits, probs)
    )
    assert torch.equal(by_logits, by_probs)
    p = probs["probs"].detach()
    found = update(by_logits, logits)["logits"]
    wanted = update(by_probs, probs)["probs"] * p * (1 - p)
    assert torch.allclose(found, wanted, rtol=1e-10, atol=1e-12)
    # A layer before either changes nothing.
    x = logits["logits"].detach().requires_grad_()
    fixed = {n: leaf.detach() for n, leaf in logits.items() if n != "logits"}
    through = FAMILIES[f"{name}-probs"].ours(probs=x.sigmoid(), **fixed)
    z = through.rsample((3,), generator(11))
    assert torch.allclose(update(z, {"x": x})["x"], found, rtol=1e-10, atol=1e-12)


@some_families(*SCALARS[:-1], "Dirichlet", "OneHotCategorical")
def test_vmap(family: Family) -> None:
    """Mapped over a batch each one is drawn afresh, and has a gradient.

    The von Mises draws by rejection, which vmap does not follow; nor does it the parent's.
    """
    params = family.params(6)
    names = list(params)

    def draw(*values: Tensor) -> Tensor:
        return family.ours(**dict(zip(names, values, strict=True)), validate_args=False).rsample(
            (20,)
        )

    def slope(*values: Tensor) -> Tensor:
        return draw(*values).pow(2).mean()

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12)
        z = torch.func.vmap(draw, randomness="different")(*params.values())
        assert z.shape == (6, 20, *family.event)
        same = [p[:1].expand_as(p) for p in params.values()]
        z = torch.func.vmap(draw, randomness="different")(*same)
        assert not torch.equal(z[0], z[1])
        last = len(names) - 1
        mapped = torch.func.vmap(torch.func.grad(slope, argnums=last), randomness="different")
        found = mapped(*params.values())
    assert found.shape == params[names[-1]].shape
    assert bool(found.isfinite().all())
    assert bool(found.abs().amax() > 1e-3)


@every_family
def test_functional_gradient(family: Family) -> None:
    """torch.func.grad gives what autograd gives after the same draw."""
    leaves = family.leaves(4)
    names, last = list(leaves), len(leaves) - 1

    def loss(*values: Tensor) -> Tensor:
        q = family.ours(**dict(zip(names, values, strict=True)), validate_args=False)
        z = q.rsample((3,), generator(13))
        return ((z - 0.3) ** 3 * normal(*z.shape, seed=99)).sum()

    found = torch.func.grad(loss, argnums=last)(*(leaf.detach() for leaf in leaves.values()))
    z = family.ours(**leaves).rsample((3,), generator(13))
    assert close(found, update(z, leaves)[names[-1]], 1e-12 * (1 + float(found.abs().max())))


@every_family
def test_integers_are_refused(family: Family) -> None:
    """A parameter of whole numbers, which can be no leaf, is refused by its name."""
    for name in family.trained:
        integers = torch.ones(4, *family.event, dtype=torch.int64)
        params = family.params(4)
        if family.name == "NegativeBinomial" and name == "total_count":
            # Converted, as the parent's.
            assert family.ours(**(params | {name: integers})).rsample().dtype == torch.float64
            continue
        if family.name == "Beta":
            params = dict.fromkeys(params, integers)
        with pytest.raises(
            TypeError, match=rf"{name.replace('0', '.')}|concentration1: expected a"
        ):
            family.ours(**(params | {name: integers}), validate_args=False).rsample()


def test_normal_keeps_its_noise() -> None:
    """Beside a large mean the noise of a small scale is not recomputed from the draw."""
    loc, scale = torch.tensor(1000.0), torch.tensor(1e-5, requires_grad=True)
    z = distributions.Normal(loc, scale).rsample((5,), generator(3))
    noise = torch.randn(5, generator=generator(3))
    for place in range(5):
        (found,) = torch.autograd.grad(z[place], scale, retain_graph=True)
        assert found == noise[place] != 0


def test_normal_is_differentiated_twice() -> None:
    """The pathwise gradient of a normal is the derivative of a function of its parameters."""
    loc, scale = torch.tensor(0.3).double(), torch.tensor(1.7).double()

    def loss(loc: Tensor, scale: Tensor) -> Tensor:
        return distributions.Normal(loc, scale).rsample(generator=generator(5)) ** 3

    noise = torch.randn((), dtype=torch.float64, generator=generator(5))
    z = loc + scale * noise
    found = torch.autograd.functional.hessian(loss, (loc, scale))
    assert close(found[0][0], 6 * z)
    assert close(found[1][1], 6 * z * noise**2)
    assert close(found[0][1], 6 * z * noise)


# PyTorch scripts its forward-mode formulas, and warns that it should not.
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@some_families("Bernoulli", "Poisson", "Geometric", "Gamma", "Dirichlet", "VonMises", "Normal")
def test_forward_mode(family: Family) -> None:
    """A Jacobian-vector product is the velocity times the direction, as backward mode has it."""
    leaves = {name: leaf.detach() for name, leaf in family.leaves(20).items()}
    change = tuple(torch.ones_like(leaf) for leaf in leaves.values())

    def draw(*values: Tensor) -> Tensor:
        q = family.ours(**dict(zip(leaves, values, strict=True)), validate_args=False)
        return q.rsample(generator=generator(7))

    z, moved = torch.func.jvp(draw, tuple(leaves.values()), change)
    wanted, back = torch.func.vjp(draw, *leaves.values())
    assert torch.equal(z, wanted)
    total = sum(part.sum() for part in back(torch.ones_like(wanted)))
    assert torch.allclose(moved.sum(), total)
    assert float(moved.abs().max()) > 0
