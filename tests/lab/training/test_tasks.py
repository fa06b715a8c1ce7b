"""The problems: their losses, measures and references against independent computations."""

from __future__ import annotations

import re

import pytest
import torch

from ils import exact
from lab.training.task import Parameters, Stream, Task
from lab.training.tasks import PUBLISHED, TASKS, TUNED, VAES
from lab.training.tasks.autoencoder import Autoencoder, Halves
from lab.training.tasks.bits import TARGETS, Bits
from lab.training.tasks.clusters import Clusters
from lab.training.tasks.experts import Experts
from lab.training.tasks.polynomial import Polynomial
from lab.training.tasks.subset import Subset, project_capped, subsets


def begun(task: Task, seeds: tuple[int, ...] = (1, 2)) -> tuple[Parameters, object]:
    stream, generator = Stream(seeds), torch.Generator().manual_seed(0)
    parameters = task.start(stream)
    return parameters, task.batch(parameters, stream, generator)


def test_names() -> None:
    """Names are file names, and say which problem it is."""
    assert len(TASKS) == len(TUNED) + len(PUBLISHED)
    assert all(name == TASKS[name].name for name in TASKS)
    assert all(re.fullmatch(r"[a-z\d.-]+", name) for name in TASKS)
    assert {f"vae-{c}x{n}" for c, n in VAES} <= set(TUNED)
    assert Autoencoder(8, 4).enumerable()
    assert not Autoencoder(4, 24).enumerable()


def test_bits() -> None:
    """Expected losses and the probability of the worse value, by hand."""
    logits = torch.tensor([[0.3, -0.2]]).expand(1, 4, 2).unsqueeze(-2).clone()
    found = Bits().evaluate({"logits": logits}, "test")
    one = logits[0, 0, 0].softmax(-1)[1].item()
    for place, t in enumerate(TARGETS):
        wrong = one if t < 0.5 else 1 - one
        assert float(found[f"wrong, t = {t}"]) == pytest.approx(wrong)
        loss = (1 - one) * t**2 + one * (1 - t) ** 2
        assert float(found[f"loss, t = {t}"]) == pytest.approx(loss)
        z = torch.tensor([0.0, 1.0]).expand(1, 1, 4, 1, 2)
        assert Bits().loss({}, None, z)[0, 0, place] == pytest.approx((1 - t) ** 2)


@pytest.mark.parametrize(("power", "optimum"), [(1.5, 0.45**1.5), (2.0, 0.2025), (3.0, 0.091125)])
def test_polynomial(power: float, optimum: float) -> None:
    """The optima of the paper; the exact expectation is that over all draws."""
    assert Polynomial(power=power).optimum == pytest.approx(optimum)
    small = Polynomial(power=power, categories=3, variables=2)
    parameters, _ = begun(small)
    found = small.evaluate(parameters, "test")["expected loss"]
    wanted = exact.expectation(lambda z: small.loss({}, None, z), parameters["logits"])
    torch.testing.assert_close(found, wanted)


def test_subsets() -> None:
    """252 subsets of five; the loss of a one-hot draw is the distance of its subset."""
    assert subsets().shape == (252, 10)
    assert (subsets().sum(-1) == 5).all()
    assert len(subsets().unique(dim=0)) == 252
    task = Subset()
    parameters, batch = begun(task)
    parameters["theta"] = torch.randn(2, 10, generator=torch.Generator().manual_seed(1))
    logits = task.logits(parameters, batch)
    wanted = exact.expectation(lambda z: task.loss(parameters, batch, z), logits)
    best = (parameters["b"] ** 2).sum(-1) + torch.stack(
        [(1 - 2 * b).sort().values[:5].sum() for b in parameters["b"]]
    )
    found = task.evaluate(parameters, "test")["excess loss"]
    torch.testing.assert_close(found, wanted - best, rtol=1e-4, atol=1e-5)


def test_project_capped() -> None:
    """The conditions of optimality: box, sum, and a common shift where neither bound is met."""
    x = 2 * torch.randn(50, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = project_capped(x, 5.0)
    assert (found >= 0).all()
    assert (found <= 1).all()
    torch.testing.assert_close(found.sum(-1), torch.full((50,), 5.0, dtype=torch.float64))
    shift = x - found
    inside = (found > 1e-9) & (found < 1 - 1e-9)
    for row in range(50):
        t = shift[row][inside[row]]
        if len(t) == 0:
            continue
        assert t.max() - t.min() < 1e-9
        assert (shift[row][found[row] <= 1e-9] <= t.min() + 1e-9).all()
        assert (shift[row][found[row] >= 1 - 1e-9] >= t.max() - 1e-9).all()
    corner = subsets()[:20].double()
    torch.testing.assert_close(project_capped(corner, 5.0), corner)


def test_simple_is_straight_through_with_marginals() -> None:
    """Its gradient is the covariance of the subset times the gradient at the draw."""
    task = Subset()
    parameters, batch = begun(task, (1,))
    theta = torch.randn(1, 10, generator=torch.Generator().manual_seed(2)).requires_grad_()
    parameters["theta"] = theta
    objective = task.own["SIMPLE"].objective(parameters, batch, 0.0)
    (found,) = torch.autograd.grad(objective.sum(), theta)
    probs = (theta @ subsets().T).softmax(-1)[0].detach()
    mean = probs @ subsets()
    spread = torch.einsum("s,si,sj->ij", probs, subsets() - mean, subsets() - mean)
    index = int((probs.cumsum(0) <= batch.uniform[0]).sum())
    grad = 2 * (subsets()[index] - parameters["b"][0])
    torch.testing.assert_close(found[0], spread @ grad, rtol=1e-4, atol=1e-5)


def test_clusters() -> None:
    """Half of each cluster's training labels are on; the encoder that is told has V-measure 1."""
    task = Clusters(categories=3)
    train = task.data["train"]
    for cluster in range(3):
        share = train.label[train.cluster == cluster].mean()
        assert 0.45 < share < 0.55
    assert len(train.x) == 5000
    parameters, _ = begun(task)
    centres = torch.stack([train.x[train.cluster == k].mean(0) for k in range(3)])
    parameters["cluster.weight"] = centres.T.expand(2, 100, 3)
    parameters["cluster.bias"] = (-(centres**2).sum(-1) / 2).expand(2, 3)
    found = task.evaluate(parameters, "test")
    assert (found["V-measure"] == 1).all()
    assert (found[task.measure] > 0.2).all()  # the classifiers have learnt nothing yet


def test_bound_of_the_vae() -> None:
    """By enumeration, against the sum over states written out; the measure is the mean of it."""
    task = Autoencoder(3, 2, widths=(5,), examples=4)
    parameters, batch = begun(task)
    logits = task.logits(parameters, batch)
    wanted = exact.expectation(lambda z: task.loss(parameters, batch, z), logits)
    laws = [torch.distributions.Categorical(logits=x) for x in (logits, torch.zeros(3))]
    divergence = torch.distributions.kl_divergence(*laws).sum(-1)
    torch.testing.assert_close(task.divergence(logits), divergence)
    objective = task.own["exact gradient"].objective(parameters, batch, 0.0)
    torch.testing.assert_close(objective, (wanted + divergence).mean(-1), rtol=1e-5, atol=1e-5)
    images = task.images.test.flatten(-2).expand(2, -1, -1)
    whole = task.logits(parameters, (images, images))
    bound = exact.expectation(lambda z: task.loss(parameters, (images, images), z), whole)
    found = task.evaluate(parameters, "test")["negative ELBO"]
    torch.testing.assert_close(found, (bound + task.divergence(whole)).mean(-1))
    # The loss is the negative log-likelihood of Bernoulli pixels.
    z = torch.nn.functional.one_hot(torch.randint(3, (6, 2, 4, 2)), 3).float()
    law = torch.distributions.Bernoulli(logits=task.decode(parameters, z))
    torch.testing.assert_close(task.loss(parameters, batch, z), -law.log_prob(batch[1]).sum(-1))


def test_halves() -> None:
    """The upper half goes in; the mean likelihood of several draws is above that of one."""
    task = Halves(4, 2, widths=(5,))
    images = task.images.train[:3]
    upper, lower = task.split(images)
    assert torch.equal(torch.cat([upper, lower], -1), images.flatten(-2))
    parameters, _ = begun(task)
    found = task.evaluate(parameters, "test")
    assert (found[task.measure] < found["expected loss"]).all()
    parameters["out1.weight"] *= 0  # the draw no longer matters, and the bound is tight
    found = task.evaluate(parameters, "test")
    torch.testing.assert_close(found[task.measure], found["expected loss"])


def test_experts() -> None:
    """An oracle's error is that of the noise."""
    task = Experts()
    x = torch.randn(4, 100, 4, generator=torch.Generator().manual_seed(0))
    assert task.truth(x).shape == (4, 100)
    assert task.optimum == pytest.approx(0.01)
    # A piece is linear: halfway between neighbours of one piece lies the mean of their values.
    close = x + 1e-4
    middle = task.truth((x + close) / 2)
    assert ((middle - (task.truth(x) + task.truth(close)) / 2).abs() < 1e-5).float().mean() > 0.95


@pytest.mark.parametrize("name", ["bandit", "control"])
def test_critic(name: str) -> None:
    """The reference is the critic's expectation; the critic learns from what was drawn alone."""
    task = TASKS[name]
    parameters, batch = begun(task)
    parameters = {n: p.requires_grad_() for n, p in parameters.items()}
    logits = task.logits(parameters, batch)
    frozen = {n: p.detach() for n, p in parameters.items()}
    expected = exact.expectation(lambda z: task.loss(frozen, batch, z), logits).mean(-1)
    penalty = task.penalty(parameters, batch, logits)
    objective = task.own["exact gradient"].objective(parameters, batch, 0.0)
    torch.testing.assert_close(objective, expected + penalty, rtol=1e-4, atol=1e-5)
    found = torch.autograd.grad(objective.sum(), parameters["q1.weight"], retain_graph=True)
    wanted = torch.autograd.grad(penalty.sum(), parameters["q1.weight"])
    torch.testing.assert_close(found[0], wanted[0])


def test_control_costs() -> None:
    """The cost to come sums what follows within the episode."""
    task = TASKS["control"]
    _, batch = begun(task)
    cost = batch.cost.view(2, 10, 16)
    assert (cost[:, :-1] >= cost[:, 1:] - 1e-5).all()
    times = batch.state[..., 0].view(2, 10, 16)
    torch.testing.assert_close(times, (torch.arange(10) / 10)[:, None].expand(2, 10, 16))


def test_logits_of_the_codebook() -> None:
    """Minus the squared distance of piece and code, up to what all codes share."""
    task = TASKS["codebook"]
    parameters, batch = begun(task)
    pieces, codes = task._pieces(parameters, batch), parameters["codes"]
    distance = ((pieces.unsqueeze(-2) - codes[:, None, None]) ** 2).sum(-1)
    shifted = task.logits(parameters, batch) + distance
    torch.testing.assert_close(shifted, shifted[..., :1].expand_as(shifted), rtol=1e-4, atol=1e-3)
