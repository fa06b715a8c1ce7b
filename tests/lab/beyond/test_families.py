"""The comparison of estimators beyond the categorical: each method's moments, and the tables."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from cases import close
from torch import Tensor

from lab.beyond.families import methods, quality, steps
from lab.beyond.families.curves import curves, own_statistics
from lab.beyond.families.settings import KINDS, SETTINGS, make_losses

BY_TITLE = {setting.title: setting for setting in SETTINGS}
each_setting = pytest.mark.parametrize("title", BY_TITLE)


def exact(where: methods.Place, values: Tensor) -> Tensor:
    return torch.einsum("s,sp,is->ip", where.at.weights, where.score, values)


@each_setting
def test_unbiased_methods_are(title: str) -> None:
    """Leave-one-out, differences and the pathwise velocity have the exact gradient as mean."""
    where = methods.place(BY_TITLE[title])
    losses = make_losses("network", where.centre, where.spread, instances=5)
    values, gradients = losses.values(where.z), losses.gradients(where.z)
    wanted = exact(where, values)
    found = [methods.leave_one_out(where, values, draws) for draws in (2, 8)]
    if where.discrete:
        found.append(methods.differences(where, losses))
    # On the circle and in the plane the losses, or PyTorch's formula, are exact to fewer digits.
    elif where.z.shape[-1] == 1 and where.setting.family != "von Mises":
        field = methods.velocities(where)["pathwise"]
        found.append(methods.measure_field(where, field, gradients))
    for one in found:
        assert close(one.mean, wanted, 1e-7)
        assert bool((one.variance > 0).all())


@pytest.mark.parametrize("title", ["Bernoulli(.2)", "binomial(10, .3)"])
@pytest.mark.parametrize("draws", [2, 3])
def test_variance_of_leave_one_out(title: str, draws: int) -> None:
    """Against the sum over all joint draws."""
    where = methods.place(BY_TITLE[title])
    values = make_losses("wave", where.centre, where.spread, instances=4).values(where.z)
    w, s = where.at.weights, where.score.squeeze(-1)
    index = torch.cartesian_prod(*[torch.arange(len(w))] * draws)
    chance = w[index].prod(-1)
    picked = values[:, index]  # (I, joint, draws)
    others = (picked.sum(-1, keepdim=True) - picked) / (draws - 1)
    estimates = (s[index] * (picked - others)).mean(-1)
    mean = estimates @ chance
    variance = estimates**2 @ chance - mean**2
    found = methods.leave_one_out(where, values, draws)
    assert close(found.mean.squeeze(-1), mean, 1e-12)
    assert close(found.variance, draws * variance, 1e-12)


@pytest.mark.parametrize("title", ["Poisson(4)", "gamma(3, 1), shape", "beta(.5, .5), first"])
def test_finite_orders(title: str) -> None:
    """A polynomial of order D is exact for losses up to degree D, and not for the next."""
    where = methods.place(BY_TITLE[title])
    u = (where.z - where.centre) / where.spread
    fields = methods.velocities(where)
    for name, field in fields.items():
        if not name.startswith("order"):
            continue
        order = int(name[-1])
        for degree in range(1, order + 2):
            values = (u**degree).squeeze(-1).unsqueeze(0)
            gradients = (degree * u ** (degree - 1) / where.spread).unsqueeze(0)
            found = methods.measure_field(where, field, gradients).mean
            assert close(found, exact(where, values), 1e-8) == (degree <= order), degree


def test_order_two_of_counts_is_the_method() -> None:
    """Of counts in their natural parameter, He and Wu's second order is what the package has."""
    for title in ("binomial(10, .3)", "Poisson(4)", "geometric(.3)", "neg. binomial(3, .5), r"):
        where = methods.place(BY_TITLE[title])
        own = methods.velocities(where)["ils.distributions"]
        assert close(methods._finite_order(where, 2), own, 1e-7 * float(own.abs().max()))


def test_gumbel_softmax() -> None:
    """Its mean is the derivative of the mean relaxed loss, with the same noise."""
    where = methods.place(BY_TITLE["binomial(10, .3)"])
    losses = make_losses("network", where.centre, where.spread, instances=3)
    draws, temperature = 500, 0.7
    found = methods.gumbel_softmax(where, losses, temperature, seed=3, draws=draws)
    probs = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    logits = torch.distributions.Binomial(10, probs).log_prob(where.z.squeeze(-1))
    noise = torch.rand(draws, 11, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    relaxed = ((logits - (-noise.log()).log()) / temperature).softmax(-1) @ where.z
    for instance, loss in enumerate(losses.values(relaxed).mean(-1)):
        (wanted,) = torch.autograd.grad(loss, probs, retain_graph=True)
        assert close(found.mean[instance, 0], wanted, 1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_losses(kind: str) -> None:
    """Random losses are those of their seed, and their gradients are derivatives."""
    centre, spread = torch.tensor([1.0]).double(), torch.tensor([2.0]).double()
    losses = make_losses(kind, centre, spread, instances=3)
    z = torch.linspace(-2, 5, 40, dtype=torch.float64).unsqueeze(-1)
    again = make_losses(kind, centre, spread, instances=3)
    assert torch.equal(losses.values(z), again.values(z))
    other = make_losses(kind, centre, spread, instances=3, seed=1)
    assert not torch.equal(losses.values(z), other.values(z))
    step = 1e-5
    slope = (losses.values(z + step) - losses.values(z - step)) / (2 * step)
    assert close(losses.gradients(z).squeeze(-1), slope, 1e-8)
    assert len({float(value) for value in losses.values(z)[:, 0]}) == 3


def test_summary_and_error() -> None:
    """Roots of ratios of means, with an interval around them; the error adds bias and noise."""
    named = [BY_TITLE[name] for name in ("Bernoulli(.2)", "normal(0, 1), mean")]
    table = quality.quality(named, ["quadratic", "wave"], 6)
    quadratic = table.xs(("quadratic", "ils.distributions"), level=("kind", "method"))
    assert bool((quadratic["bias"] < 1e-18 * (1 + quadratic["gradient"])).all())
    summary = quality.summarise(table)
    place = ("Bernoulli(.2)", "wave", "ils.distributions")
    part = table.xs(place, level=["setting", "kind", "method"])
    row = summary.loc[place]
    gradient = part["gradient"].mean()
    assert row["bias"] == pytest.approx((part["bias"].mean() / gradient) ** 0.5)
    assert row["noise"] == pytest.approx((part["variance"].mean() / gradient) ** 0.5)
    assert row["noise_low"] < row["noise"] < row["noise_high"]
    found = quality.error(table, 4)[("Bernoulli(.2)", "wave", "ils.distributions")]
    assert found == pytest.approx((row["bias"] ** 2 + row["noise"] ** 2 / 4) ** 0.5)
    pooled = quality.summarise(table, ["setting", "method"])
    assert list(pooled.index.names) == ["setting", "method"]
    assert len(pooled) == len(set(zip(*map(table.index.get_level_values, (0, 2)), strict=True)))


def test_winners() -> None:
    """The least error among those that the evaluations suffice for; ties go to the first."""
    index = pd.MultiIndex.from_tuples(
        [("s", "k", name, 0) for name in ("ils.distributions", "pathwise", "leave-one-out, 8")],
        names=["setting", "kind", "method", "instance"],
    )
    table = pd.DataFrame(
        {"gradient": 1.0, "bias": [0.0, 0.0, 0.0], "variance": [1.0, 0.9999, 0.5]}, index=index
    )
    names = ["ils.distributions", "pathwise", "leave-one-out, 8"]
    found = quality.winners(table, [7, 8], names)
    assert found.loc[("s", "k")].tolist() == ["ils.distributions", "leave-one-out, 8"]
    table["variance"] = [1.0, 0.9, 5.0]
    assert quality.winners(table, [7], names).loc[("s", "k"), 7] == "pathwise"


@pytest.mark.parametrize("title", steps.STUDIED)
def test_small_steps_are_the_method(title: str) -> None:
    """Where no bound is met, a small step has the bias of the velocity of the package."""
    found = steps.by_step([title], [1e-6], "network")["bias"].droplevel("step")
    where = methods.place(BY_TITLE[title])
    losses = make_losses("network", where.centre, where.spread)
    values, gradients = losses.values(where.z), losses.gradients(where.z)
    wanted = exact(where, values)
    limit = methods.measure_field(
        where, methods.velocities(where)["ils.distributions"], gradients
    ).mean
    bias = float(((limit - wanted) ** 2).mean().sqrt() / (wanted**2).mean().sqrt())
    chosen = "stop at the bounds" if where.discrete else "unconstrained"
    if title == "Poisson(.5)":
        assert found[(title, chosen)] > bias + 0.1  # it is at the bound more often than not
    else:
        assert found[(title, chosen)] == pytest.approx(bias, rel=0.05)
    raw = steps.by_step([title], [1e-3, 2e-3], "network")["noise"].xs(
        "not centred", level="variant"
    )
    assert raw.iloc[0] / raw.iloc[1] == pytest.approx(2, rel=0.01)


def test_curves() -> None:
    """For counts the method is the trapezium rule of the exact flow; elsewhere it is near."""
    table = curves(["Poisson(4)", "gamma(3, 1), shape"])
    counts = table[table["setting"] == "Poisson(4)"]
    assert (counts["exact"] - counts["ils.distributions"]).abs().max() < 1e-9
    gamma = table[table["setting"] != "Poisson(4)"]
    assert 0.01 < (gamma["exact"] - gamma["ils.distributions"]).abs().median() < 0.2
    assert table["law"].between(0, 1).all()
    # The gamma is worse off with the statistics of its own family.
    found = own_statistics()
    assert (found.loc["own"] > 2 * found.loc["added"]).all()
    # Rounding at random has the bias of stopping at the bounds, and more noise.
    found = steps.by_step(["Poisson(4)"], [0.01], "network").droplevel(["setting", "step"])
    rounded, stopped = found.loc["round at random"], found.loc["stop at the bounds"]
    assert rounded["bias"] == pytest.approx(stopped["bias"], rel=1e-9)
    assert rounded["noise"] > 3 * stopped["noise"]
