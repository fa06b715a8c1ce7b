"""Draws beyond categories on real data: every gradient against a sum or an integral.

Exact where the noise is a draw of counts or can be put on a grid; the two statistical tests allow
five standard errors of their own estimates, about one failure in a million for each number, and
assert that this is below a tenth of what is measured.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from ils.distributions import Poisson
from lab.beyond.models import components, parts, posterior, protocol, rates, report
from lab.beyond.models.components import Mixture, Noise
from lab.beyond.models.counts import divergence, gumbel_noise, poisson_quantile
from lab.beyond.models.counts_quality import CountsQuality, enumerate_counts, moments_of
from lab.beyond.models.mixture_quality import in_both_modes, modes
from lab.beyond.models.moments import from_estimates, from_moments
from lab.run import records
from lab.training.task import Stream
from lab.training.train import train

DATA = Path(__file__).resolve().parents[3] / "book" / "data"
RATE = torch.tensor([0.3, 1.7], dtype=torch.float64)


def bumpy(z: Tensor) -> Tensor:
    """Neither symmetric nor a polynomial; at ``(..., 2)``."""
    first, second = z.unbind(-1)
    return torch.sin(first + 0.4 * second) + 0.1 * first * second**2


def quadratic(z: Tensor) -> Tensor:
    first, second = z.unbind(-1)
    return first**2 - 2 * first * second + 0.5 * second**2 + 3 * second


def exact_gradient(loss) -> Tensor:
    """Of the expected loss for the rates, by differentiating the sum over all counts."""
    z, _ = enumerate_counts(RATE)
    rate = RATE.clone().requires_grad_()
    probs = rates.log_prob(z, rate).sum(-1).exp()
    return torch.autograd.grad((probs * loss(z)).sum(), rate)[0]


def summed(surrogate) -> Tensor:
    """The mean of a surrogate's gradient over all single draws, by weighting each of them."""
    z, probs = enumerate_counts(RATE)
    copies = RATE.expand(len(z), -1).clone().requires_grad_()
    value = surrogate(copies, z.unsqueeze(0))
    return torch.autograd.grad((probs * value).sum(), copies)[0].sum(0)


@pytest.mark.parametrize("velocity", [rates.ils, rates.any_distribution])
def test_velocities_are_exact_for_quadratic_losses(velocity) -> None:
    """And not for others; that of straight-through is not even for these."""
    for loss, exact in ((quadratic, True), (bumpy, False)):
        found = summed(partial(rates.pathwise, loss, velocity=velocity))
        assert torch.allclose(found, exact_gradient(loss), atol=1e-9) == exact
    found = summed(partial(rates.pathwise, quadratic, velocity=rates.straight_through))
    assert not torch.allclose(found, exact_gradient(quadratic), atol=1e-1)


def test_differences_and_leave_one_out_are_unbiased() -> None:
    """Over all draws, and over all pairs of draws."""
    found = summed(partial(rates.differences, bumpy))
    assert torch.allclose(found, exact_gradient(bumpy), atol=1e-10)
    z, probs = enumerate_counts(RATE)
    z, probs = z[probs > 1e-9], probs[probs > 1e-9]
    first, second = torch.cartesian_prod(*[torch.arange(len(z))] * 2).T
    copies = RATE.expand(len(first), -1).clone().requires_grad_()
    value = rates.leave_one_out(bumpy, copies, torch.stack([z[first], z[second]]))
    found = torch.autograd.grad((probs[first] * probs[second] * value).sum(), copies)[0].sum(0)
    assert torch.allclose(found, exact_gradient(bumpy), atol=1e-6)


def test_the_objective_of_ils_is_the_distribution_of_the_package() -> None:
    """``rsample`` has the gradient of the velocity at the same draws."""
    rate = RATE.clone().requires_grad_()
    z = Poisson(rate).rsample((50,), torch.Generator().manual_seed(0))
    (found,) = torch.autograd.grad(bumpy(z).mean(), rate)
    value = rates.pathwise(bumpy, rate, z.detach(), rates.ils)
    assert torch.allclose(found, torch.autograd.grad(value.mean(), rate)[0], atol=1e-12)


@pytest.mark.parametrize("loss", [bumpy, quadratic])
def test_moments_are_those_of_the_surrogates(loss) -> None:
    exact, found = moments_of(loss, RATE)
    assert torch.allclose(exact, exact_gradient(loss), atol=1e-9)
    velocities = {"ils.distributions": rates.ils, "straight-through": rates.straight_through}
    for name, velocity in velocities.items():
        mean = summed(partial(rates.pathwise, loss, velocity=velocity))
        assert torch.allclose(found[name][0], mean, atol=1e-9)
    assert torch.allclose(found["differences"][0], exact, atol=1e-9)
    # The variance of leave-one-out, from moments of one draw, against all pairs.
    z, probs = enumerate_counts(RATE)
    values, score = loss(z), z / RATE - 1
    pair = (values[:, None] - values)[..., None] * (score[:, None] - score) / 2
    second = (probs[:, None, None] * probs[None, :, None] * pair**2).sum()
    mean = (probs[:, None, None] * probs[None, :, None] * pair).sum((0, 1))
    variance = float(second - (mean**2).sum())
    assert float(found["leave-one-out"][1]) == pytest.approx(variance, rel=1e-9)


def test_truncated_probabilities_are_whole() -> None:
    """The last category stands for all counts beyond; the gradient is finite at both ends."""
    rate = torch.tensor([1e-4, 2.0, 30.0], dtype=torch.float64, requires_grad=True)
    log_probs = rates.truncated(rate, 8)
    assert log_probs.exp().sum(-1).tolist() == pytest.approx([1, 1, 1], abs=1e-12)
    (gradient,) = torch.autograd.grad(log_probs[:, :2].sum(), rate)
    assert gradient.isfinite().all()
    # At a small temperature the relaxed count is the count of the largest noisy logarithm.
    generator = torch.Generator().manual_seed(0)
    gumbels = gumbel_noise((1, 2, 12), RATE, generator)
    counts = (rates.truncated(RATE, 12) + gumbels).argmax(-1).double()
    found = rates.relaxed(bumpy, RATE, gumbels, 1e-3)
    assert torch.allclose(found, bumpy(counts).squeeze(0), atol=1e-6)


def test_soft_events_become_counts() -> None:
    """At a small temperature the soft count is that of the events before time 1, a Poisson draw."""
    generator = torch.Generator().manual_seed(0)
    waits = -torch.log1p(-torch.rand(1, 40_000, 2, 20, dtype=torch.float64, generator=generator))
    counts = (waits.cumsum(-1) < RATE.unsqueeze(-1)).sum(-1).double()
    found = rates.arrivals(bumpy, RATE.expand(40_000, -1), waits, 1e-6)
    assert float((found - bumpy(counts).squeeze(0)).abs().median()) < 1e-9
    error = (counts.var((0, 1)) / 40_000).sqrt()
    assert ((counts.mean((0, 1)) - RATE).abs() < 5 * error).all()
    assert (5 * error < 0.1 * RATE).all()


def test_quantiles_of_counts() -> None:
    """A fine grid of uniform numbers has the probabilities of the counts."""
    u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    z = poisson_quantile(u, RATE[1].expand(len(u)))
    for count in range(4):
        expected = rates.log_prob(torch.tensor(float(count)), RATE[1]).exp()
        assert float((z == count).double().mean()) == pytest.approx(float(expected), abs=1e-4)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Poisson(RATE), torch.distributions.Poisson(torch.ones(2).double())
    )
    assert float(divergence(RATE)) == pytest.approx(float(expected.sum()))


def mixture(runs: int = 1) -> Mixture:
    """An asymmetric mixture of three components in the plane."""
    logits = torch.tensor([[0.2, -0.5, 0.9]], dtype=torch.float64)
    means = torch.tensor([[[0.0, 1.0], [2.0, -1.0], [-1.0, 0.5]]], dtype=torch.float64)
    scales = torch.tensor([[[0.0, 0.3], [-0.4, 0.1], [0.2, -0.3]]], dtype=torch.float64)
    return Mixture(*(x.expand(runs, *x.shape[1:]).clone() for x in (logits, means, scales)))


def wavy(z: Tensor) -> Tensor:
    first, second = z.unbind(-1)
    return torch.sin(first) * second + 0.2 * first**2 + torch.cos(2 * second)


def plane() -> Tensor:
    line = torch.arange(-10, 10, 0.08, dtype=torch.float64)
    return torch.cartesian_prod(line, line)


def integral(loss, q: Mixture) -> list[Tensor]:
    """The exact gradient of the expected loss, by quadrature."""
    moving = Mixture(*(x.requires_grad_() for x in q))
    mass = moving.log_prob(plane().unsqueeze(1)).exp() * 0.08**2
    assert float(mass.detach().sum()) == pytest.approx(1, abs=1e-9)
    value = (mass * loss(plane()).unsqueeze(-1)).sum()
    return list(torch.autograd.grad(value, list(moving)))


def test_transforms_are_conditional_distribution_functions() -> None:
    """The Jacobian is that of autograd, and its determinant the density."""
    q, z = mixture(), torch.tensor([[[0.3, -0.4]], [[1.5, 0.7]]], dtype=torch.float64)
    _, jacobian = components.transforms(q, z)
    for place in range(2):
        one = torch.autograd.functional.jacobian(
            lambda x: components.transforms(q, x[None, None])[0][0, 0], z[place, 0]
        )
        assert torch.allclose(jacobian[place, 0], one, atol=1e-10)
    density = q.distribution().log_prob(z)
    assert torch.allclose(q.log_prob(z), density, atol=1e-12)
    assert torch.allclose(torch.linalg.det(jacobian), density.exp(), atol=1e-12)


def test_the_implicit_gradient_is_exact() -> None:
    """The velocity integrated against the density, over the plane, is the exact gradient.

    The draw is put where the grid is by the noise of a component that the Gumbels choose.
    """
    z = plane()
    q = mixture(len(z))
    gumbels = torch.zeros(1, len(z), 3, dtype=torch.float64)
    gumbels[..., 0] = 100
    normal = torch.zeros(1, len(z), 3, 2, dtype=torch.float64)
    normal[0, :, 0] = (z - q.means[:, 0]) / q.log_scales[:, 0].exp()
    # At the rim of the plane the density underflows, and there is nothing to integrate.
    mass = q.log_prob(z).exp() * 0.08**2
    kept = mass > 1e-18
    q = Mixture(*(x[kept].requires_grad_() for x in q))
    noise = Noise(gumbels[:, kept], normal[:, kept])
    value = components.implicit(lambda x: mass[kept] * wavy(x), q, noise)
    found = torch.autograd.grad(value.sum(), list(q))
    for one, expected in zip(found, integral(wavy, mixture()), strict=True):
        assert torch.allclose(one.sum(0), expected.squeeze(0), atol=1e-7)


DRAWS = 400_000


def mean_and_error(surrogate, draws: int = DRAWS, inner: int = 1) -> list[tuple[Tensor, Tensor]]:
    q = Mixture(*(x.requires_grad_() for x in mixture(draws)))
    noise = components.draw_noise(q, inner, torch.Generator().manual_seed(0))
    value = surrogate(wavy, q, noise)
    found = torch.autograd.grad(value.sum(), list(q), materialize_grads=True)
    return [(x.mean(0), x.std(0) / draws**0.5) for x in found]


@pytest.mark.parametrize(
    ("surrogate", "inner"), [(components.leave_one_out, 2), (components.stratified, 1)]
)
def test_score_and_stratified_are_unbiased(surrogate, inner: int) -> None:
    found = mean_and_error(surrogate, inner=inner)
    for (mean, error), expected in zip(found, integral(wavy, mixture()), strict=True):
        assert ((mean - expected.squeeze(0)).abs() < 5 * error).all()
        assert 5 * error.max() < 0.1 * expected.abs().max()


def test_the_components_of_the_other_methods_are_exact() -> None:
    """The exact draw moves with its component; the weights' gradients differ from the exact one."""
    expected = integral(wavy, mixture())
    found = mean_and_error(partial(components.straight_through, temperature=0.5))
    for (mean, error), part in zip(found[1:], expected[1:], strict=True):
        assert ((mean - part.squeeze(0)).abs() < 5 * error).all()
    assert ((found[0][0] - expected[0].squeeze(0)).abs() > 5 * found[0][1]).any()
    fixed = mean_and_error(components.weights_fixed, 1000)
    assert not fixed[0][0].any()


def test_the_posterior_has_two_modes() -> None:
    """Whole on the grid, unequal, and far apart for their spread; starts know where both are."""
    mass = posterior.log_posterior().exp() * 0.01
    assert float(mass.sum()) == pytest.approx(1, abs=1e-12)
    above = float(posterior.share_above(mass))
    assert 0.6 < above < 0.8
    means, spreads = modes()
    assert ((means[0] - means[1]).abs() > 8 * spreads.max()).all()
    rim = (posterior.grid() < -4).any(-1) | (posterior.grid() > 10).any(-1)
    assert float(mass[rim].sum()) < 1e-6
    # A mixture of the two modes' normals is close; one mode alone lacks ``-log`` of its mass.
    logits = torch.tensor([[above, 1 - above], [1, 1e-30]], dtype=torch.float64).log()
    q = Mixture(logits, means.expand(2, 2, 2), spreads.log().expand(2, 2, 2))
    kl, mass, found = posterior.divergence(q)
    assert mass.tolist() == pytest.approx([1, 1], abs=1e-9)
    assert found.tolist() == pytest.approx([above, 1], abs=1e-3)
    assert 0 < float(kl[0]) < 0.2
    assert float(kl[1] - kl[0]) == pytest.approx(-torch.tensor(above).log().item(), abs=0.05)
    begun = in_both_modes(Stream([1, 2]))["means"]
    assert (begun[:, :2, 0] > begun[:, :2, 1]).all()
    assert (begun[:, 2:, 0] < begun[:, 2:, 1]).all()


def test_quality_from_estimates_and_from_moments_agree() -> None:
    generator = torch.Generator().manual_seed(0)
    gradient = torch.tensor([[1.0, -2.0], [0.5, 0.5]], dtype=torch.float64)
    noise = torch.randn(200_000, 2, 2, generator=generator).double()
    mean = 1.5 * gradient + 0.3
    known = from_moments(mean, torch.tensor([8.0, 8.0]).double(), gradient).measures()
    found = from_estimates(mean + 2 * noise, gradient).measures()
    for name, values in known.items():
        assert found[name].tolist() == pytest.approx(values.tolist(), rel=0.02)
    assert not from_estimates(mean + noise, gradient, biased=False).measures()["bias"].any()


SHORT = [(place, name) for place, task in protocol.EXPERIMENTS.items() for name in task.own]


@pytest.mark.parametrize(("experiment", "method"), SHORT)
def test_runs_are_the_same_again_and_learn(experiment: str, method: str) -> None:
    task = protocol.EXPERIMENTS[experiment]
    setting = task.own[method].settings[0]

    objective = protocol.objective_of(experiment, method, setting)
    options = {"learning_rates": [1e-2], "seeds": [5], "steps": 60, "records": 1}
    first, again = (train(task, objective, split="validation", **options) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    start, end = first[task.measure]
    assert end < start


def test_choice_is_the_least_mean_of_the_trials_that_end() -> None:
    index = pd.MultiIndex.from_tuples(
        [("a", 0.0, 0.1), ("a", 0.0, 0.2), ("b", 1.0, 0.1), ("b", 2.0, 0.1)],
        names=["method", "setting", "learning_rate"],
    )
    trials = pd.DataFrame([[1.0, 2.0], [0.0, float("nan")], [3, 3], [2, 3.5]], index, [1, 2])
    assert protocol.choose(trials) == (("a", 0.0, 0.1), ("b", 2.0, 0.1))


def test_both_modes_need_a_fifth_of_the_mass_of_each() -> None:
    """The posterior has 70% where the first mean is the larger: 14% there, 6% on the other side."""
    index = pd.MultiIndex.from_product(
        [["above", "KL divergence"], ["a"], [1, 2, 3, 4]], names=["measure", "method", "seed"]
    )
    final = pd.DataFrame({20: [0.13, 0.15, 0.93, 0.95, 4.0, 1.0, 3.0, 2.0]}, index)
    assert report.in_both(final).loc["a"].tolist() == [False, True, True, False]
    kl = report.ends(final, "KL divergence")
    assert report.median_seeds(kl)["a"] == 4
    assert report.intervals(kl).loc["a", "mean"] == 2.5


def test_a_listing_pairs_by_seed() -> None:
    values = pd.DataFrame([[2.0, 3.0], [1.0, 2.0]], ["other", "ils.distributions"], [1, 2])
    found = report.listing(values, (("ils.distributions", 0.0, 0.1), ("other", 0.5, 0.2)))
    assert list(found.index) == ["ils.distributions", "other"]
    assert found.loc["other", "against ils.distributions"] == "1.00 [1.00, 1.00]"
    assert found.loc["other", ["temperature", "learning rate"]].tolist() == [0.5, 0.2]


def test_equal_budgets() -> None:
    """Twelve trials for each method, and eight evaluations of the posterior for each estimate."""
    for task in protocol.EXPERIMENTS.values():
        for own in task.own.values():
            assert len(protocol.rates_of(task, own)) * len(own.settings) == 12
    four = Mixture(*posterior.MixturePosterior().start(Stream([1])).values())
    for surrogate, q, draws in (
        (components.implicit, mixture(), 8),
        (components.soft, mixture(), 8),
        (components.stratified, four, 2),
    ):
        counted: list[int] = []

        def loss(z: Tensor, counted: list[int] = counted) -> Tensor:
            counted.append(z[..., 0].numel())
            return wavy(z)

        surrogate(loss, q, components.draw_noise(q, draws, torch.Generator()), 1.0)
        assert sum(counted) == posterior.EVALUATIONS


@pytest.mark.parametrize("experiment", ["counts", "mixture"])
def test_the_records_are_of_these_runs(experiment: str) -> None:
    """All methods and fresh seeds are there and finite."""
    tuning = protocol.Tuning(experiment)
    trials = records.read(tuning.name, DATA)
    final = protocol.final_of(experiment, trials.table)
    task = protocol.EXPERIMENTS[experiment]
    ends = records.read(final.name, DATA).table.loc[task.measure][20].unstack("seed")
    assert set(ends.index) == set(task.own)
    assert tuple(ends.columns) == protocol.SEEDS[experiment]
    assert ends.notna().all(axis=None)
    seeds = set(protocol.SEEDS[experiment])
    assert not seeds & set(tuning.configuration["seed"])


def test_parts_need_their_tuning(tmp_path: Path) -> None:
    for name, runs in parts.FIRST.items():
        assert [run.name for run in runs(tmp_path)] == [name]
    for runs in parts.AFTER_TUNING.values():
        with pytest.raises(LookupError, match="needs the record 'models-"):
            runs(tmp_path)


def test_measures_along_a_run_of_counts() -> None:
    """The run trains: the measures of its first step and of its last are there and differ."""
    found = CountsQuality(0.1, (1.0, 1.0), variables=2, steps=2)()
    first, last = (found.xs(step, level="step") for step in (0, 2))
    assert set(first.index) == set(last.index) >= {"ils.distributions", "Gumbel-Softmax"}
    assert (first.loc["Gumbel-Softmax"] != last.loc["Gumbel-Softmax"]).all()
