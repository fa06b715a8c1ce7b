"""The candidates of the search: their rule by autograd, their fading, their units."""

from __future__ import annotations

from itertools import product

import pandas as pd
import pytest
import torch

from ils.estimators import from_rule
from ils.rules import MVE, ReinMax, Rule, StraightThrough
from lab.methods.annealed import Annealed
from lab.search.candidates import CANDIDATES, Candidate, Exploring
from lab.search.protocol import BUDGETS, DESIGN, FINAL, Tried, choice, progress
from lab.search.values import WITH_VALUES
from lab.training.protocol import DEFAULT, PLAIN, Entry, Training
from lab.training.task import Stream
from lab.training.tasks import TASKS


def case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    grad, logits = torch.randn(2, 5, 4, generator=generator, dtype=torch.float64)
    return grad, torch.eye(4, dtype=torch.float64)[[0, 1, 2, 3, 0]], logits


def test_the_added_term_is_that_of_the_entropy_and_fades() -> None:
    grad, z, logits = case()
    leaf = logits.clone().requires_grad_()
    probs = leaf.softmax(-1)
    entropy = -(probs * probs.log()).sum(-1)
    (slope,) = torch.autograd.grad(entropy.sum(), leaf)
    probs = probs.detach()
    size = ((probs * grad.square()).sum(-1) - (probs * grad).sum(-1).square()).sqrt()
    found = Exploring(2.0, 0.3).gradient(grad, z, logits)
    expected = ReinMax(2.0).gradient(grad, z, logits) - 0.3 * size[:, None] * slope
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    # In the units of the gradient, and nothing for a category that cannot be drawn.
    torch.testing.assert_close(Exploring(2.0, 0.3).gradient(7 * grad, z, logits), 7 * found)
    logits[:, 3] = -torch.inf
    masked = Exploring(2.0, 0.3).gradient(grad, z, logits)[:3]
    assert masked.isfinite().all()
    assert (masked[:, 3] == 0).all()
    # What fades ends at the default.
    grad, z, logits = case()
    default = ReinMax().gradient(grad, z, logits)
    rule = Candidate(3.0, 0.3, fades=True).rule
    assert rule(0.0) == Exploring(3.0, 0.3)
    assert rule(0.5) == Exploring(2.0, 0.15)
    assert torch.equal(rule(1.0).gradient(grad, z, logits), default)
    assert Candidate(3.0, 0.0, fades=False).rule(0.9) == Exploring(3.0)


def test_an_entry_trains_its_candidate() -> None:
    one = Tried("bits", DEFAULT, candidate=CANDIDATES[5])
    assert one.settings == (5.0,)
    method, _ = one.at(5.0)
    assert method.at(0.25).formula == from_rule(CANDIDATES[5].rule(0.25)).formula
    other = Tried("bits", DEFAULT, candidate=CANDIDATES[6])
    names = {Training(e, *e.settings, (0.1,), (1,), 10, "validation").name for e in (one, other)}
    assert len(names) == 2


@pytest.mark.parametrize("task", [*DESIGN, *FINAL])
def test_as_many_evaluations_as_an_entry_of_the_benchmarks(task: str) -> None:
    for candidate, budget in [(CANDIDATES[3], 1), *product(WITH_VALUES, BUDGETS)]:
        method, count = Tried(task, DEFAULT, budget, candidate=candidate).at(0.0)
        one = method.at(0.0) if isinstance(method, Annealed) else method
        entry, repeated = Entry(task, DEFAULT, budget).at(0.0)
        assert one.evaluations * count == entry.evaluations * repeated


def test_the_choice() -> None:
    """The greatest mean, but for what loses more than a tenth; on problems of its own."""
    assert not set(DESIGN) & set(FINAL)
    assert len({one.name for one in CANDIDATES}) == len(CANDIDATES)
    default, (fading, other) = CANDIDATES[0], [one for one in CANDIDATES if one.fades][:2]
    steady = next(one for one in CANDIDATES[1:] if not one.fades)
    rows = {
        default.name: (0.5, 0.9),
        steady.name: (0.6, 0.85),
        fading.name: (0.9, 0.81),
        other.name: (1.0, 0.79),
    }
    found = pd.DataFrame(rows, ["a", "b"]).T
    assert choice(found) == fading
    assert choice(found, steady=True) == steady
    assert choice(found.loc[[default.name]]) == default


def test_progress_of_candidates() -> None:
    """0 where runs begin, 1 where the best candidate ends."""
    ends = ((CANDIDATES[0], 0.4), (CANDIDATES[3], 0.2))
    values = {("bits", one.name, 1): {"validation": value} for one, value in ends}
    design = pd.DataFrame(values).T.rename_axis(["task", "candidate", "budget"])
    levels = ["task", "measure", "method", "budget", "copy", "exploration", "seed"]
    rows = [("bits", TASKS["bits"].measure, DEFAULT, 1, 0, PLAIN, seed) for seed in (1, 2)]
    final = pd.DataFrame({0: [0.5, 0.7], 20: 0.0}, pd.MultiIndex.from_tuples(rows, names=levels))
    found = progress(design, final)
    assert found["bits"].round(12).tolist() == [0.5, 1.0]
    assert list(found.index) == [one.name for one, _ in ends]


def test_on_the_experts_exact_rules_have_the_mean_of_the_gradient() -> None:
    """Rules that are exact for quadratic losses have the mean of the exact gradient there."""
    task = TASKS["experts"]
    stream, generator = Stream([3]), torch.Generator().manual_seed(0)
    parameters = {name: p.double() for name, p in task.start(stream).items()}
    batch = task.batch(parameters, stream, generator)
    batch = type(batch)(*(part.double() for part in batch))
    logits = task.logits(parameters, batch).detach().requires_grad_()
    draws = torch.eye(task.categories, dtype=torch.float64)[:, None, None, None]
    draws = draws.expand(-1, *logits.shape).clone().requires_grad_()
    losses = torch.stack([task.loss(parameters, batch, z) for z in draws])
    (grads,) = torch.autograd.grad(losses.sum(), draws)
    probs = logits.softmax(-1)
    chances = probs.squeeze(-2).movedim(-1, 0)
    (exact,) = torch.autograd.grad((chances * losses.detach()).sum(), logits)

    def bias(rule: Rule) -> float:
        each = [rule.gradient(g, z, logits.detach()) for g, z in zip(grads, draws, strict=True)]
        mean = (chances[..., None, None] * torch.stack(each)).sum(0).detach()
        return float((mean - exact).abs().max())

    assert max(map(bias, (ReinMax(), MVE(), Exploring()))) < 1e-10
    # False of a rule with a temperature, of first order, or with an entropy.
    assert min(map(bias, (ReinMax(3.0), StraightThrough(), Exploring(1.0, 0.1)))) > 1e-2
