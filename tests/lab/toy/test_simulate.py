"""Runs of the toy: against a plain implementation of the note, and independent of company."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from cases import generator
from scipy.special import softmax
from torch import Tensor

import ils
from ils.rules import Note
from ils.target import centred_gradient, probs_gradient
from lab.problems.toy import Toy, random_toy
from lab.toy import simulate as runs
from lab.toy.simulate import Block, Bound, Gumbel, Intermediate, linear_decay

TOY = random_toy(3, generator=generator(1), problems=4, categories=5)
SEED = 77


def first_logit_probability(probs: Tensor) -> Tensor:
    """A measure that sees single entries, so that no two runs share it by chance."""
    return probs[..., 0, 0]


def run(blocks: list[Block], steps: int, toy: Toy = TOY, **options: object) -> pd.DataFrame:
    arguments: dict[str, object] = {
        "steps": steps,
        "seed": SEED,
        "record": range(steps + 1),
        "measures": [toy.divergence, first_logit_probability],
    }
    return runs.simulate(toy, blocks, **(arguments | options))


def np_divergence(toy: Toy, group: int, logits: np.ndarray) -> float:
    """The note's curve, entry by entry."""
    total = 0.0
    for problem, theta in enumerate(logits):
        for p, q in zip(toy.p[group, problem].tolist(), softmax(theta), strict=True):
            total -= p * (math.log(q + toy.eps) - math.log(p + toy.eps))
    return total / logits.size


def test_steps_are_those_of_the_note() -> None:
    """Algorithm 1 as the note's code has it, problem by problem in numpy, gives the same curves."""
    alpha, rate, steps = 0.01, 0.05, 12
    rule = Intermediate([alpha], gradient=probs_gradient, normalizer=ils.sum_normalize_unclamped)
    found = run([Block(["note"], rule, [rate])], steps)
    uniforms = generator(SEED)
    logits = TOY.start.numpy().copy()
    curves = [[np_divergence(TOY, group, logits[group]) for group in range(3)]]
    for _ in range(steps):
        uniform = torch.rand(3, 4, generator=uniforms, dtype=torch.float64).numpy()
        for group, problem in itertools.product(range(3), range(4)):
            pi = softmax(logits[group, problem])
            drawn = int(np.searchsorted(np.cumsum(pi), uniform[group, problem], side="right"))
            z = np.eye(5)[drawn]
            grad = -TOY.p[group, problem].numpy() / (20 * (z + 1e-8))
            jacobian = np.eye(5) - np.outer(z, np.ones(5))
            moved = z - alpha * jacobian.T @ grad
            target = moved / moved.sum()
            logits[group, problem] -= rate * -target / (pi + 1e-7)
        curves.append([np_divergence(TOY, group, logits[group]) for group in range(3)])
    expected = np.array(curves).T
    assert np.abs(found.xs("divergence", level="measure").to_numpy() - expected).max() < 1e-12
    assert (np.abs(np.diff(expected)) > 1e-6).all()  # each step moves each curve


def test_gumbel_steps() -> None:
    """A relaxed sample, its loss and autograd give the curves of the Gumbel rule."""
    temperature, rate, steps = 0.7, 2.0, 8
    found = run([Block(["gumbel"], Gumbel([temperature]), [rate])], steps)
    uniforms, theta = generator(SEED + 1), TOY.start.clone()
    curves = [TOY.divergence(theta.softmax(-1))]
    for _ in range(steps):
        uniform = torch.rand(3, 4, 5, generator=uniforms, dtype=torch.float64)
        leaf = theta.clone().requires_grad_()
        y = ((leaf - (-uniform.log()).log()) / temperature).softmax(-1)
        loss = (-TOY.p * (y + TOY.eps).log()).mean((-1, -2)).sum()
        theta = theta - rate * torch.autograd.grad(loss, leaf)[0]
        curves.append(TOY.divergence(theta.softmax(-1)))
    expected = torch.stack(curves, -1).numpy()
    assert np.abs(found.xs("divergence", level="measure").to_numpy() - expected).max() < 1e-12


def test_steps_through_the_operator() -> None:
    """The corrected rule is the gradient that ils.sample's backward hands on."""
    note = Note(1e-7, keep_mass=True, centred=True)
    rule = Intermediate([1e-7], gradient=centred_gradient, keep_mass=True)
    found = run([Block(["ils"], rule, [0.5])], 6)
    uniforms, theta = generator(SEED), TOY.start.clone()
    for _ in range(6):
        leaf = theta.clone().requires_grad_()
        z = ils.sample(leaf, generator=uniforms, rule=note)
        loss = (-TOY.p * ((z + TOY.eps).log() - (TOY.p + TOY.eps).log())).mean((-1, -2)).sum()
        theta = theta - 0.5 * torch.autograd.grad(loss, leaf)[0]
    expected = TOY.divergence(theta.softmax(-1)).numpy()
    last = found.xs("divergence", level="measure")[6].to_numpy()
    assert np.abs(last - expected).max() < 1e-12


def blocks() -> list[Block]:
    return [
        Block(["a", "b"], Intermediate([0.1, 1e-7]), [0.05, 0.2]),
        Block(["c", "d"], Gumbel([0.3, 2.0]), [1.0, 3.0], linear_decay),
        Block(["e"], Intermediate([1e-7], keep_mass=True), [0.1]),
        Block(["f"], Bound(), [4.0]),
        Block(["g"], Gumbel([0.3]), [1.0]),
    ]


def test_settings_do_not_depend_on_their_company() -> None:
    """A block alone, in another order, or cut to one setting gives the curves it gives in all."""
    together = run(blocks(), 30)
    assert together.index.is_unique
    assert not together.drop(columns=0).T.duplicated().any()
    for block in blocks():
        alone = run([block], 30)
        pd.testing.assert_frame_equal(alone, together.loc[alone.index], check_exact=True)
    backwards = run(blocks()[::-1], 30)
    pd.testing.assert_frame_equal(backwards.loc[together.index], together, check_exact=True)
    for single in (
        Block(["b"], Intermediate([1e-7]), [0.2]),
        Block(["d"], Gumbel([2.0]), [3.0], linear_decay),
    ):
        # Cut to one setting an entry takes another place in a vector register, and rounds anew.
        wanted = together.loc[single.names]
        pd.testing.assert_frame_equal(run([single], 30), wanted, rtol=1e-12, atol=0)
    # The same temperature and draws under another schedule is another curve: none is ignored.
    assert (together.loc["c"] - together.loc["g"])[30].abs().min() > 1e-6


@pytest.mark.parametrize("stop", [0, 1, 17])
def test_stopped_run_is_the_beginning(stop: int) -> None:
    """A run that ends early has the columns of the full run up to there, to the bit."""
    full = run(blocks(), 30)
    part = run(blocks(), 30, stop=stop)
    assert part.columns.tolist() == [*range(stop + 1)]
    pd.testing.assert_frame_equal(part, full[part.columns], check_exact=True)
    if stop:
        # A run that is planned shorter is another run where the rate decays.
        planned = run(blocks(), stop)
        changed = (planned[stop] != full[stop]).groupby(level="setting").any()
        assert set(changed[changed].index) == ({"c", "d"} if stop > 1 else set())


def test_recording_changes_nothing() -> None:
    """Which steps are recorded does not matter to what is recorded; the inputs stay as they are."""
    start, p = TOY.start.clone(), TOY.p.clone()
    state = torch.get_rng_state()
    full, few = run(blocks(), 30), run(blocks(), 30, record=[3, 30])
    pd.testing.assert_frame_equal(few, full[[3, 30]], check_exact=True)
    assert torch.equal(TOY.start, start)
    assert torch.equal(TOY.p, p)
    assert torch.equal(torch.get_rng_state(), state)
    assert full.index.names == ["setting", "measure", "group"]
    begun = full[0].xs("divergence", level="measure").unstack("group").to_numpy()
    expected = TOY.divergence(TOY.start.softmax(-1)).numpy()
    assert np.abs(begun - expected).max() < 1e-15


def test_schedules() -> None:
    """The constant rate is one throughout, the other falls from one to zero in a straight line."""
    for fraction in (0.0, 0.25, 1.0):
        assert runs.constant(fraction) == 1.0
        assert linear_decay(fraction) == 1.0 - fraction


@pytest.mark.parametrize("steps", [1, 7, 100, 50_000])
@pytest.mark.parametrize("every", [None, 250])
def test_record_steps(steps: int, every: int | None) -> None:
    """Sorted, from 0 to the last step, ten a decade; a shorter run's list begins a longer one's."""
    grid = runs.record_steps(steps, every=every)
    assert grid == sorted(set(grid))
    assert grid[0] == 0
    assert grid[-1] == steps
    longer = runs.record_steps(10 * steps + 3, every=every)
    assert grid[:-1] == [step for step in longer if step < steps]
    expected = {0, steps} | {round(10 ** (power / 10)) for power in range(60)}
    if every is not None:
        expected |= set(range(0, steps, every))
    assert set(grid) == {step for step in expected if step <= steps}
    assert len(runs.record_steps(1000, per_decade=3)) == 1 + 1 + 9
