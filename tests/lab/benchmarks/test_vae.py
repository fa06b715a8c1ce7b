"""VAEs of real size: measures, training, resumption, and the sweep over them, at tiny sizes."""

from __future__ import annotations

import math
import struct
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from ils.estimators import Estimator, from_rule, straight_through
from ils.rules import Rule, StraightThrough
from lab.benchmarks import published, vae_sweep
from lab.benchmarks.vae import _MAKE, CONTESTANTS, INDEX, SIZES, Contestant, Fit, fingerprint
from lab.benchmarks.vae_sweep import FINAL_SEEDS, RATES, TUNING_SEEDS
from lab.methods.annealed import Annealed
from lab.methods.catalogue import method
from lab.run import records
from lab.run.engine import Outcome
from lab.run.runs import write
from lab.training import epochs as program
from lab.training.epochs import factor, train
from lab.training.protocol import PLAIN
from lab.training.task import Stream
from lab.training.tasks import TASKS
from lab.training.tasks.digits import Images
from lab.training.tasks.vae import EMBEDDINGS, Vae

RANDOM = np.random.default_rng(0)
STATES = torch.cartesian_prod(torch.arange(3), torch.arange(3))
# Bars, one of five columns each, so that there is something to learn.
BARS = torch.eye(5)[torch.arange(40) % 5].unsqueeze(1).expand(40, 4, 5) * 0.9
TINY = Images(BARS[:25], BARS[25:30], BARS[30:], {})


def tiny(embedding: str = "one-hot", **options: int) -> Vae:
    """Two variables with three categories."""
    options = {"examples": 10} | options
    return Vae(3, 2, widths=(8, 6), images=TINY, embedding=embedding, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four small files in the IDX format."""
    made = tmp_path / "bars"
    made.mkdir()
    for stem, count in (("train", 24), ("t10k", 6)):
        pixels = RANDOM.integers(0, 256, (count, 4, 5)).astype("u1")
        for name, array in (("images-idx3", pixels), ("labels-idx1", pixels[:, 0, 0] % 10)):
            head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (made / f"{stem}-{name}-ubyte").write_bytes(head + array.tobytes())
    return made


def fit(folder: Path, **options: object) -> Fit:
    """A training of seconds."""
    small = {"shape": (2, 3, "one-hot"), "widths": (8, 6), "examples": 10, "samples": 2}
    small |= {"checkpoints": str(folder.parent / "kept")}
    base = Fit(str(folder), "128x4", CONTESTANTS[0], 1e-3, (1, 2), 3, "test", **small)
    return replace(base, **options)


def enumerated(task: Vae) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor, Tensor]:
    """Parameters, images, and of all nine joint states the log-probabilities, losses, weights."""
    parameters = {k: p.double() * 3 for k, p in task.start(Stream([1, 2])).items()}
    x = TINY.test.flatten(1).double().expand(2, -1, -1)
    log_probs = task.logits(parameters, (x, x)).log_softmax(-1)
    told = [task.weigh(parameters, x, log_probs, s.expand(2, 10, 2)) for s in STATES]
    losses, weights = (torch.stack(part) for part in zip(*told, strict=True))
    q = torch.stack([log_probs[..., 0, a] + log_probs[..., 1, b] for a, b in STATES.tolist()])
    return parameters, x, q, losses, weights


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_weights_add_up_to_the_likelihood(embedding: str) -> None:
    """Over all joint states, ``q`` times the weight is ``p(x)``; ``q`` times the loss, the ELBO."""
    task = tiny(embedding)
    parameters, x, q, losses, weights = enumerated(task)
    likelihood = (q + weights).exp().sum(0)
    bound = (q.exp() * (losses + q - 2 * math.log(1 / 3))).sum(0)
    # By other code: Bernoulli's formula for each pixel, the network by torch's functions.
    by_hand = torch.zeros(())
    for state in STATES:
        code = torch.eye(3).double()[state].flatten()
        h = (state.double() / 2 if embedding == "integer" else code).expand(2, 1, -1)
        for layer in (1, 2, 3):
            h = h @ parameters[f"out{layer}.weight"] + parameters[f"out{layer}.bias"][:, None]
            h = torch.where(h > 0, h, h * 0.2) if layer < 3 else h
        p = h.sigmoid()
        by_hand = by_hand + (x * p.log() + (1 - x) * (1 - p).log()).sum(-1).exp() / 9
    assert torch.allclose(likelihood, by_hand, rtol=1e-12)
    assert torch.allclose(bound, task._bound(parameters, (x, x)), rtol=1e-12)
    # False: numbers that are not divided by K - 1 are another code.
    if embedding == "integer":
        z = torch.eye(3).double()[[0, 2]].expand(2, 1, 2, 3)
        wrong = task._network(parameters, "out", z @ torch.arange(3.0).double())
        assert not torch.allclose(task.decode(parameters, z), wrong)


def test_bounds_are_means_of_the_enumerated_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within five standard errors, known by enumeration: an error once in a million.

    Sees a bound without its divergence, or of another posterior, or of a part of the images.
    """
    task, samples = tiny(), 2000
    parameters, x, q, losses, weights = enumerated(task)
    log_probs, q = task.logits(parameters, (x, x)).log_softmax(-1), q.exp()
    found = task.bounds(parameters, TINY.test, samples)
    spread = ((q * losses**2).sum(0) - (q * losses).sum(0) ** 2).mean(-1) / (samples * 10)
    exact = task._bound(parameters, (x, x)).mean(-1)
    assert ((found["negative ELBO"] - exact).abs() < 5 * spread.sqrt()).all()
    assert (found["divergence"] > 20 * spread.sqrt()).all()
    divergence = task.divergence(log_probs).mean(-1)
    assert torch.allclose(found["divergence"], divergence)
    monkeypatch.setattr("lab.training.tasks.vae._CHUNK", 3)
    assert torch.allclose(task.bounds(parameters, TINY.test, 1)["divergence"], divergence)
    likelihood = (q * weights.exp()).sum(0)
    relative = (q * (2 * weights).exp()).sum(0) / likelihood**2 - 1
    error = 5 * (relative.mean(-1) / (samples * 10)).sqrt() + relative.mean(-1) / samples
    tight = found["importance-weighted bound"]
    assert ((tight + likelihood.log().mean(-1)).abs() < error).all()
    assert (found["negative ELBO"] - tight > 2 * error).all()


def test_factor_is_that_of_the_schedulers_of_the_authors() -> None:
    """A linear warm-up and a cosine, as PyTorch's schedulers compute them; short runs have one."""
    schedulers = torch.optim.lr_scheduler
    for epochs, warm in ((500, 10), (50, 5)):
        optimizer = torch.optim.AdamW([torch.zeros(1)], lr=1.0)
        first = schedulers.LinearLR(optimizer, start_factor=1e-3, total_iters=warm)
        second = schedulers.CosineAnnealingLR(optimizer, T_max=epochs - warm)
        both = schedulers.SequentialLR(optimizer, [first, second], milestones=[warm])
        for epoch in range(epochs):
            assert optimizer.param_groups[0]["lr"] == pytest.approx(factor(epoch, epochs), abs=1e-9)
            optimizer.step()
            both.step()
    assert factor(0, 1) == factor(0, 5) == 1
    assert factor(0, 20) == factor(0, 10) == 1e-3


@pytest.mark.parametrize("one", CONTESTANTS, ids=lambda one: f"{one.method} {one.setting:g}")
def test_training_lowers_the_bound(one: Contestant) -> None:
    """Of every contestant, and by more than the seeds differ."""
    task = tiny()
    start = task.bounds(task.start(Stream([1, 2])), TINY.test, 50)["negative ELBO"]
    parameters, losses = train(
        task, lambda epoch: one.at(epoch, 40), learning_rate=1e-2, seeds=[1, 2], epochs=40
    )
    end = task.bounds(parameters, TINY.test, 50)["negative ELBO"]
    assert losses.shape == (40, 2)
    assert (end < start - 4).all()
    assert losses[-1] == pytest.approx(end.numpy(), abs=1.0)


def test_contestants_are_those_of_the_catalogue() -> None:
    """The same estimates from the same random numbers; of the same law where a rule has its own.

    The latter within five standard errors, for nine numbers and their squares: an error in 90,000.
    Another temperature is seen.
    """
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def estimates(one: Rule | Estimator, seed: int, draws: int) -> Tensor:
        made = from_rule(one) if isinstance(one, Rule) else one
        generator = torch.Generator().manual_seed(seed)
        # Linear in the draw, so that only its law matters.
        return made(logits, lambda z: z[..., 0] + 3 * z[..., 2], draws=draws, generator=generator)

    def differ(left: Tensor, right: Tensor) -> bool:
        error = (left.var(0) / len(left) + right.var(0) / len(right)).sqrt()
        return bool(((left.mean(0) - right.mean(0)).abs() > 5 * error).any())

    for one in CONTESTANTS:
        known, made = method(one.method), one.at(0, 2)
        wanted = (known.train or known.make)(one.setting)
        wanted = wanted.at(0.0) if isinstance(wanted, Annealed) else wanted
        if "Gumbel" not in one.method:
            assert torch.allclose(estimates(made, 1, 20), estimates(wanted, 1, 20))
            continue
        left, right = estimates(made, 1, 40_000), estimates(wanted, 2, 40_000)
        assert not differ(left, right)
        assert not differ(left**2, right**2)
        # False: at another temperature.
        assert differ(left**2, estimates((known.train or known.make)(0.7), 2, 40_000) ** 2)


RULES = [one for one in CONTESTANTS if isinstance(one.at(0, 2), Rule)]


@pytest.mark.parametrize("one", RULES, ids=lambda one: one.method)
def test_a_rule_is_the_estimator_made_of_it(one: Contestant) -> None:
    """By the operator, with one backward pass, and by ``ils.surrogate``: the same gradients.

    False: of the mean over a batch, for what is not linear in the gradient.
    """
    task, rule = tiny(), one.at(0, 2)
    assert isinstance(rule, Rule)
    x = TINY.train[:10].flatten(1).double().expand(2, -1, -1)

    def gradients(how: Rule | Estimator, weight: float) -> list[Tensor]:
        start = task.start(Stream([1, 2])).items()
        parameters = {name: p.double().requires_grad_() for name, p in start}
        generator = torch.Generator().manual_seed(0)
        bound = program._bound(task, how, parameters, x, generator).sum() * weight
        return [g / weight for g in torch.autograd.grad(bound, list(parameters.values()))]

    def same(left: list[Tensor], right: list[Tensor]) -> bool:
        return all(torch.allclose(a, b, rtol=1e-9) for a, b in zip(left, right, strict=True))

    whole = gradients(rule, 1.0)
    assert same(whole, gradients(from_rule(rule), 1.0))
    assert same(whole, gradients(rule, 0.1)) == (not one.method.startswith("ILS"))


def test_annealing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A geometric path from the first setting to the last."""
    seen: list[float] = []
    one, kept = Contestant("straight-through", 1.0, 0.1), _MAKE["straight-through"]
    monkeypatch.setitem(_MAKE, "straight-through", lambda t: seen.append(t) or kept(t))
    for epoch, epochs in ((0, 3), (1, 3), (2, 3), (0, 1)):
        one.at(epoch, epochs)
    assert seen == pytest.approx([1.0, 0.1**0.5, 0.1, 1.0])


@pytest.mark.parametrize("way", [StraightThrough(), straight_through()])
def test_a_run_that_fails_leaves_the_others_alone(
    way: Rule | Estimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, and its measures are not numbers."""
    plain = Vae.start

    def broken(self: Vae, stream: Stream) -> dict[str, Tensor]:
        made = plain(self, stream)
        made["in1.weight"][0] = torch.nan
        return made

    options = {"learning_rate": 1e-2, "seeds": [1, 2], "epochs": 3}
    fine, losses = train(tiny(), lambda _: way, **options)
    monkeypatch.setattr(Vae, "start", broken)
    mixed, others = train(tiny(), lambda _: way, **options)
    assert others[:, 0].isnan().all()
    assert torch.equal(others[:, 1], losses[:, 1])
    assert all(torch.equal(mixed[name][1], fine[name][1]) for name in fine)
    ends = tiny().bounds(mixed, TINY.test, 2)["negative ELBO"]
    assert ends.isnan().tolist() == [True, False]


class Interrupted(Exception):
    """Stands for a machine that is turned off."""


@pytest.mark.parametrize("lost", ["", "optimizer", "generator", "identity"])
def test_resumption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str) -> None:
    """An interrupted training ends with the bits of an uninterrupted one.

    False: without the optimiser's state, or the generator's. That of another run is ignored.
    """
    monkeypatch.setattr(program, "_PATIENCE", -1.0)
    began: list[int] = []
    ends = 5

    def method(epoch: int) -> Rule | Estimator:
        began.append(epoch)
        if epoch == ends:
            raise Interrupted
        return CONTESTANTS[3].at(epoch, 5)

    options = {"learning_rate": 1e-2, "seeds": [1, 2], "epochs": 5}
    whole, losses = train(tiny(), method, **options)
    path, ends = tmp_path / "run.pt", 2
    other = "another" if lost == "identity" else "a"
    with pytest.raises(Interrupted):
        train(tiny(), method, checkpoint=path, identity=other, **options)
    ends = 5
    kept = torch.load(path, weights_only=True)
    if lost == "optimizer":
        kept["optimizer"]["state"] = {}
    elif lost == "generator":
        kept["generator"] = torch.Generator().manual_seed(5).get_state()
    torch.save(kept, path)
    began.clear()
    resumed, again = train(tiny(), method, checkpoint=path, identity="a", **options)
    assert began == ([0, 1, 2, 3, 4] if lost == "identity" else [2, 3, 4])
    same = all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert same == torch.equal(again, losses) == (lost in ("", "identity"))
    began.clear()
    train(tiny(), method, checkpoint=path, identity="a", **options)
    assert began == []


def test_a_run_is_a_table(folder: Path) -> None:
    """A row an epoch and seed; the measures in the last; the same from its checkpoint."""
    run = fit(folder)
    table = run()
    assert len(table) == 6
    last = table.xs(3, level="epoch")
    assert last.notna().all(axis=None)
    assert table.drop(last.index, errors="ignore")["objective"].notna().all()
    assert (last["importance-weighted bound"] <= last["negative ELBO"] + 1e-6).all()
    assert run.checkpoint.exists()
    pd.testing.assert_frame_equal(run(), table)
    told = str(run.configuration)
    assert str(folder) not in told
    assert fingerprint(str(folder)) in told


def test_splits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate is chosen without the last sixth, on which the final run is trained."""
    seen: list[int] = []

    def watched(task: Vae, *_: object, **__: object) -> tuple[dict[str, Tensor], Tensor]:
        seen.append(len(task.images.train))
        return task.start(Stream([1, 2])), torch.zeros(3, 2)

    monkeypatch.setattr("lab.benchmarks.vae.train", watched)
    for split in ("validation", "test"):
        fit(folder, split=split)()
    assert seen == [20, 24]


def test_next_rates() -> None:
    """The middle three, then neighbours of the best."""
    assert vae_sweep.next_rates({}) == list(RATES[1:4])
    tried = dict(zip(RATES[1:4], (3.0, 2.0, 2.5), strict=True))
    assert vae_sweep.next_rates(tried) == []
    assert vae_sweep.next_rates(tried | {RATES[1]: 1.0}) == [RATES[0]]
    assert vae_sweep.next_rates(tried | {RATES[3]: 1.0}) == [RATES[4]]
    assert vae_sweep.next_rates(tried | {RATES[2]: math.nan, RATES[3]: math.nan}) == [RATES[0]]
    assert vae_sweep.next_rates(dict.fromkeys(RATES, math.nan)) == []


def test_standing() -> None:
    """By hand: two seeds, means 1 and 3, a difference of 2 give or take 12.7 times its error."""
    index = pd.MultiIndex.from_product(
        [["8x64"], ["ReinMax (default)", "ILS"], [0.0], [1e-3], [1, 2], [1, 2]], names=INDEX
    )
    values = [math.nan, 0.0, math.nan, 2.0, math.nan, 3.0, math.nan, 3.0]
    found = vae_sweep.standing(pd.DataFrame({"negative ELBO": values}, index))
    assert [name for name, _ in found.index] == ["ReinMax (default)", "ILS"]
    assert found["mean"].tolist() == [1.0, 3.0]
    assert found["difference"].tolist() == [0.0, 2.0]
    assert found["mean, half-width"].tolist() == pytest.approx([12.7062, 0.0], abs=1e-4)
    assert found["difference, half-width"].tolist() == pytest.approx([0.0, 12.7062], abs=1e-4)
    failed = vae_sweep.standing(pd.DataFrame({"negative ELBO": [*values[:7], math.nan]}, index))
    assert failed.loc["ILS"].isna().all(axis=None)
    alone = vae_sweep.standing(pd.DataFrame({"negative ELBO": values}, index).iloc[4:])
    assert alone["difference"].isna().all()


def test_beside_what_was_published() -> None:
    """The median over the seeds, and the mean of the published at the two temperatures around."""
    methods = [("ReinMax (default)", 0.0), ("ReinMax", 1.3), ("leave-one-out", 2.0)]
    keys = [("8x64", *method, 1e-3, seed, 8) for method in methods for seed in range(3)]
    values = np.array([5.0, 6.0, 7.0, 1.0, 2.0, 9.0, 8.0, 8.0, 8.0])
    table = {"negative ELBO": values, "importance-weighted bound": values - 1}
    final = pd.DataFrame(table, pd.MultiIndex.from_tuples(keys, names=INDEX))
    found = published.beside(final, "8x64").reset_index("setting", drop=True)
    assert found.index.tolist() == ["ReinMax", "ReinMax (default)", "leave-one-out"]
    assert found["median"].tolist() == [2.0, 6.0, 8.0]
    assert found["weighted"].tolist() == [3.0, 5.0, 7.0]
    assert found["difference"].tolist() == [-2.0, 0.0, 2.0]
    assert found["MNIST"].tolist()[:2] == pytest.approx([(93.73 + 93.72) / 2, 98.29])
    assert math.isnan(found.loc["leave-one-out", "MNIST"])


def test_polynomials_beside_what_was_published() -> None:
    """An excess that halves each twentieth, 100.5 of 500 steps before the end; two seeds apart."""
    names = ["task", "measure", "method", "seed", "budget", "copy", "exploration"]
    theirs, rows = published.polynomials(), {}
    for task, name in theirs.index:
        optimum = TASKS[task].optimum
        for seed, size in enumerate((0.9, 1.1)):
            left = {place: optimum + 0.01 * size * 2.0**-place for place in range(21)}
            rows[task, TASKS[task].measure, name, seed, 1, 0, PLAIN] = left
    table = pd.DataFrame(rows).T.rename_axis(names)
    found = published.polynomials_beside(table)
    task = "polynomial-4-p2-hooper"
    row, excess = found.loc[(task, "ReinMax")], 0.01 * 2.0 ** -(20 - 100.5 / 500)
    least, most = (0.50684655 - 0.45) ** 2, 0.55**2
    assert row["ours"] == pytest.approx(least + excess, abs=1e-7)
    noise = excess * (most - least - excess) / (200 * 1024)
    apart = 0.2 * excess / 2**0.5
    assert row["sd"] == pytest.approx((noise + apart**2) ** 0.5, rel=1e-4)
    assert row["apart"] == pytest.approx((row["ours"] - 0.004273) / row["sd"])
    assert found["theirs"].equals(theirs)


DATA = Path(__file__).resolve().parents[3] / "book" / "data"
RECORDED = sorted(path.stem for path in DATA.glob("fashion-mnist-*-final.json"))


@pytest.mark.parametrize("name", RECORDED)
def test_records_of_the_book(name: str) -> None:
    """Every contestant of the size, at the rate that was best, on all fresh seeds."""
    final = records.read(name, DATA)
    told = final.provenance["configuration"]
    entered = {(one["method"], one["setting"]) for one in told["contestants"]}
    embedding = SIZES[name.split("-", 2)[2].removesuffix("-final")][2]
    left_out = {"MVE, annealed", "straight-through Gumbel", "leave-one-out"}
    left_out = left_out if embedding == "integer" else set()
    serving = [one for one in CONTESTANTS if one.embedding in ("", embedding)]
    assert entered == {(o.method, o.setting) for o in serving if o.method not in left_out}
    assert told["failed"] == []
    ends = final.table["negative ELBO"].dropna().groupby(level=["method", "setting"])
    assert set(ends.groups) == entered
    assert (ends.size() == len(FINAL_SEEDS)).all()
    tuning = records.read(name.replace("final", "tuning"), DATA).table["negative ELBO"].dropna()
    best = tuning.groupby(level=["method", "setting", "learning_rate"]).mean()
    used = final.table.reset_index("learning_rate")["learning_rate"]
    for key in entered:
        assert set(used.xs(key, level=("method", "setting"))) == {best[key].idxmin()}


def test_affordable() -> None:
    """By hand: the time of ten epochs of five seeds, and of tuning for ten."""
    final, tuning = 5 * (10 + 2), 2 * 3.5 * (10 / 3) * 5 / 6
    assert vae_sweep.affordable([7.0, 3.0], (final + tuning) * 10.001 / 3600 / 2, 2) == 10
    assert vae_sweep.affordable([7.0, 3.0], (final + tuning) * 9.99 / 3600, 1) == 9
    assert vae_sweep.affordable([1e6], 1.0, 1) == 0
    # Sizes have names.
    for name, (variables, categories, embedding) in SIZES.items():
        assert name == f"{variables}x{categories}" + "-integer" * (embedding == "integer")


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["vae", *arguments])
    vae_sweep.main()


def test_command(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every trial, and the best of them on fresh seeds: two records, without what fails."""
    ran: list[Fit] = []

    def execute(fits: list[Fit], *, folder: Path, **_: object) -> Outcome:
        ran.extend(fits)
        whole = [one for one in fits if one.contestant == CONTESTANTS[0]]
        tables = {one: replace(one, shape=(2, 3, "one-hot"), widths=(8, 6))() for one in whole}
        for one, table in tables.items():
            write(one, table, 7.0, folder, {})
        return Outcome(tables, {one: "it broke" for one in fits if one not in tables})

    monkeypatch.setattr(vae_sweep, "execute", execute)
    names = [CONTESTANTS[0].method, "straight-through"]
    options = ["--sizes", "8x64", "--epochs", "3", "--methods", *names]
    options += ["--folder", str(tmp_path / "records"), "--runs", str(tmp_path / "runs")]
    with pytest.raises(SystemExit) as ended:
        command(monkeypatch, str(folder), *options)
    assert ended.value.code == 1
    record = records.read("bars-8x64-final", tmp_path / "records")
    assert record.provenance["seconds"] >= 4 * 7.0 / 2  # four runs at least, two at once
    assert record.provenance["configuration"]["images"] == fingerprint(str(folder))
    assert not list((tmp_path / "runs").glob("*.pt"))
    final = record.table.reset_index()
    tuning = records.read("bars-8x64-tuning", tmp_path / "records").table.reset_index()
    assert len(final) == 3 * len(FINAL_SEEDS)
    assert len(tuning) >= 3 * 2
    assert (set(tuning["seed"]), set(final["seed"])) == (set(TUNING_SEEDS), set(FINAL_SEEDS))
    assert set(final["method"]) == {names[0]}
    means = tuning.dropna(subset="negative ELBO").groupby("learning_rate")["negative ELBO"].mean()
    assert set(final["learning_rate"]) == {means.idxmin()}
    assert {one.epochs for one in ran} == {1, 3}
    # The failed one was tried at every rate that its neighbours ask for, and has no final run.
    assert {one.split for one in ran if one.contestant.method == names[1]} == {"validation"}


def test_refusals(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is missing or unknown is named, before anything runs; a plan runs nothing."""
    monkeypatch.setattr(vae_sweep, "execute", None)

    def refused(message: str, *arguments: str) -> None:
        with pytest.raises(SystemExit) as ended:
            command(monkeypatch, str(folder), *arguments)
        assert ended.value.code == 2
        assert message in capsys.readouterr().err

    missing = folder / "t10k-images-idx3-ubyte"
    hidden = missing.rename(folder / "hidden")
    refused(missing.name)
    hidden.rename(missing)
    refused("unknown methods", "--methods", "magic")
    refused("at least one epoch", "--epochs", "0")
    command(monkeypatch, str(folder), "--plan", "5", "--sizes", "8x64", "--methods", "ReinMax")
    told = capsys.readouterr().out
    assert "8x64            ReinMax" in told
    assert "epochs in 5 hours, 2 at once" in told
