"""What ils.sample and its relatives refuse, and how they say so."""

from __future__ import annotations

import math
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from carriers import Carrier, each_carrier
from cases import generator, normal
from rules import NORMALIZERS

import ils
from ils import rules
from ils.distributions import Categorical, OneHotCategorical
from ils.metric import euclidean, fisher
from ils.rules import Note, Step

ROW = torch.zeros(2, 3)

BAD_INPUT: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "list": ([0.0, 1.0], {}, TypeError, "logits: expected a torch.Tensor, got list"),
    "integers": (torch.zeros(2, 3).long(), {}, TypeError, r"logits: .* got torch\.int64"),
    "bools": (torch.zeros(2, 3).bool(), {}, TypeError, r"logits: .* got torch\.bool"),
    "complex": (ROW + 0j, {}, TypeError, r"logits: .* got torch\.complex64"),
    "scalar": (torch.tensor(0.0), {}, ValueError, "logits: .* got a scalar"),
    "no category": (torch.zeros(2, 0), {}, ValueError, r"logits: .* got shape \(2, 0\)"),
    "no category, first axis": (
        torch.zeros(0, 2),
        {"dim": 0},
        ValueError,
        r"logits: .* along dim 0, got shape \(0, 2\)",
    ),
    "NaN": (torch.tensor([0.0, torch.nan]), {}, ValueError, "logits: .* got NaN"),
    "NaN beside infinities": (
        torch.tensor([[torch.inf, -torch.inf], [torch.nan, 0.0]]),
        {},
        ValueError,
        "logits: .* got NaN",
    ),
    "+inf": (torch.tensor([0.0, torch.inf]), {}, ValueError, r"logits: .* got \+inf"),
    "row of -inf": (
        torch.tensor([[0.0, 1.0], [-torch.inf, -torch.inf]]),
        {},
        ValueError,
        "logits: .* got a row of -inf",
    ),
    "column of -inf": (
        torch.tensor([[0.0, -torch.inf], [0.0, -torch.inf]]),
        {"dim": 0},
        ValueError,
        "logits: .* got a row of -inf",
    ),
    "dim float": (ROW, {"dim": 1.0}, TypeError, r"dim: expected an integer, got 1\.0"),
    "dim str": (ROW, {"dim": "x"}, TypeError, "dim: expected an integer, got 'x'"),
    "dim None": (ROW, {"dim": None}, TypeError, "dim: expected an integer, got None"),
    "generator": (
        ROW,
        {"generator": 0},
        TypeError,
        r"generator: expected a torch\.Generator or None, got int; for a seed, ",
    ),
    "dim too high": (ROW, {"dim": 2}, ValueError, "dim: expected an axis of a 2-d tensor, got 2"),
    "dim too low": (ROW, {"dim": -3}, ValueError, "dim: .* got -3"),
    "rule str": (ROW, {"rule": "ReinMax"}, TypeError, "rule: expected a value .* got str"),
    "rule class": (ROW, {"rule": Step}, TypeError, "rule: expected .* got the class Step"),
    "rule estimator": (
        ROW,
        {"rule": ils.estimators.reinmax()},
        TypeError,
        r"rule: expected .* got Estimator; an estimator is for ils\.surrogate",
    ),
    "rule None": (ROW, {"rule": None}, TypeError, "rule: expected .* got NoneType"),
    "mask list": (ROW, {"mask": [True]}, TypeError, "mask: expected a torch.Tensor, got list"),
    "mask numbers": (ROW, {"mask": ROW}, TypeError, r"mask: .* got torch\.float32"),
    "mask wide": (
        ROW,
        {"mask": torch.zeros(4, dtype=torch.bool)},
        ValueError,
        r"mask: expected a shape that broadcasts to \(2, 3\), got \(4,\)",
    ),
    "mask deep": (
        ROW,
        {"mask": torch.zeros(1, 2, 3, dtype=torch.bool)},
        ValueError,
        r"mask: .* got \(1, 2, 3\)",
    ),
    "mask of a row": (
        ROW,
        {"mask": torch.tensor([[True], [False]])},
        ValueError,
        "logits: .* got a row of -inf",
    ),
    "draws float": (ROW, {"draws": 2.0}, TypeError, r"draws: .* got 2\.0"),
    "draws bool": (ROW, {"draws": (True,)}, TypeError, r"draws: .* got \(True,\)"),
    "draws str": (ROW, {"draws": "2"}, TypeError, "draws: .* got '2'"),
    "draws negative": (ROW, {"draws": (2, -1)}, ValueError, r"draws: .* got \(2, -1\)"),
    "normalizer shortens": (
        ROW,
        {"rule": Step(0.1, normalizer=lambda x: x[..., :2])},
        ValueError,
        r"normalizer: its output: expected shape \(2, 3\), got \(2, 2\)",
    ),
    "normalizer moves corners": (
        ROW,
        {"rule": Step(0.1, normalizer=lambda x: x.softmax(-1))},
        ValueError,
        r"normalizer: .* largest difference of 0\.424",
    ),
    "normalizer moves corners, two": (
        ROW,
        {"rule": Note(0.1, normalizer=lambda x: x / 2)},
        ValueError,
        r"normalizer: expected h\(z\) = z .* largest difference of 0\.5",
    ),
    "normalizer moves the last corner": (
        ROW,
        {"rule": Step(0.1, normalizer=lambda x: x * torch.tensor([1.0, 1.0, 0.75]))},
        ValueError,
        r"normalizer: .* largest difference of 0\.25",
    ),
    "normalizer gives NaN": (
        ROW,
        {"rule": Step(0.1, normalizer=lambda x: x / (x * 0))},
        ValueError,
        r"normalizer: .* largest difference of nan",
    ),
}


# Values are looked at after the draw, whose cost they add nothing to: only then has it happened.
VALUES = ["NaN", "NaN beside infinities", "+inf", "row of -inf", "column of -inf", "mask of a row"]
NOT_FOR_GIVEN_DRAWS = {"dim", "mask", "draws"}
NOT_FOR_INDICES = {"rule"}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input(case: str) -> None:
    """Each is refused by name and with what came; all but values before anything is drawn."""
    logits, options, error, message = BAD_INPUT[case]
    own = generator(29)
    state = own.get_state()
    with pytest.raises(error, match=f"^{message}"):
        ils.sample(logits, **({"generator": own} | options))
    assert case in VALUES or torch.equal(own.get_state(), state)
    if isinstance(logits, torch.Tensor) and logits.is_floating_point():
        with pytest.raises(error, match=f"^{message}"):
            ils.sample(logits.clone().requires_grad_(), **({"generator": own} | options))
    if not NOT_FOR_GIVEN_DRAWS & set(options):
        with pytest.raises(error, match=f"^{message}"):
            ils.differentiable_draw(logits, torch.eye(3)[:2], **options)
        with pytest.raises(error, match=f"^{message}"):
            ils.embedding(torch.zeros(2).long(), torch.eye(3), logits, **options)
    if not NOT_FOR_INDICES & set(options):
        with pytest.raises(error, match=f"^{message}"):
            ils.sample_index(logits, **({"generator": own} | options))
        assert case in VALUES or torch.equal(own.get_state(), state)


@pytest.mark.parametrize("case", ["rule str", "rule class", "normalizer moves corners, two"])
def test_bad_rules_of_objects(case: str) -> None:
    """A module, distributions and an estimator refuse their rule when they are made."""
    _, options, error, message = BAD_INPUT[case]
    for make in (
        ils.Sampler,
        partial(OneHotCategorical, logits=ROW),
        partial(Categorical, logits=ROW),
        ils.estimators.from_rule,
    ):
        with pytest.raises(error, match=f"^{message}"):
            make(**options)


@each_carrier
def test_refusals_of_normalizers(carrier: Carrier) -> None:
    """Each way to draw tries the normaliser itself, and names it."""
    logits = normal(2, 3)
    for broken, message in (
        (lambda x: x[..., :1], r"normalizer: its output: expected shape \(2, \d\), got \(2, 1\)"),
        (lambda x: 0.99 * x, r"normalizer: expected h\(z\) = z for every one-hot z, got .* 0\.01$"),
        (lambda x: x.flip(-1), r"normalizer: expected h\(z\) = z for every one-hot z, got .* 1$"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            carrier(logits, rule=Step(0.5, normalizer=broken))
    # A difference that rounding could make is let pass.
    carrier(logits, rule=Step(0.5, normalizer=lambda x: (1 + 5e-4) * x))


BAD_OPTIONS: dict[str, tuple[Any, type[Exception], str]] = {
    "temperature 0": (lambda: rules.ReinMax(0.0), ValueError, r"temperature: .* got 0\.0"),
    "temperature bool": (lambda: rules.StraightThrough(True), TypeError, "temperature: .* bool"),
    "temperature inf": (lambda: rules.Gapped(math.inf), ValueError, "temperature: .* got inf"),
    "gap": (lambda: rules.Gapped(gap=-1.0), ValueError, r"gap: .* got -1\.0"),
    "samples": (lambda: rules.GumbelRao(1.0, 0), ValueError, "samples: expected at least 1"),
    "samples float": (lambda: rules.GumbelRao(1.0, 2.0), TypeError, "samples: .* got float"),
    "temperature of noise": (lambda: rules.GumbelRao(-1.0), ValueError, r"temperature: .* -1\.0"),
    "Gumbel": (lambda: rules.StraightThroughGumbel("1"), TypeError, "temperature: .* got str"),
    "decoupled": (lambda: rules.Decoupled(math.nan), ValueError, "temperature: .* got nan"),
    "limit": (lambda: rules.Limit("fisher"), TypeError, "metric: expected a function, got str"),
    "size 0": (lambda: Step(0.0), ValueError, r"size: expected a positive finite .* got 0\.0"),
    "size bool": (lambda: Step(True), TypeError, "size: expected a real number, got bool"),
    "step negative": (lambda: Note(-0.5), ValueError, r"step_size: .* got -0\.5"),
    "step NaN": (lambda: Note(math.nan), ValueError, "step_size: .* got nan"),
    "step str": (lambda: rules.NoteCode("0.1"), TypeError, "step_size: .* got str"),
    "step inf": (lambda: rules.NoteCode(math.inf), ValueError, "step_size: .* got inf"),
    "metric": (lambda: Step(0.1, metric=1), TypeError, "metric: expected a function, got int"),
    "normalizer": (lambda: Note(0.1, normalizer=1), TypeError, "normalizer: .*, got int"),
    "no formula": (lambda: rules.Rule(), TypeError, "abstract"),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_bad_options_of_rules(case: str) -> None:
    """A rule refuses by name what it cannot be."""
    make, error, message = BAD_OPTIONS[case]
    with pytest.raises(error, match=f"^{message}" if case != "no formula" else message):
        make()


OLD_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"step_size": 0.5}, "step_size: expected rule=ils.rules.Step(0.5) in place of options"),
    ({"keep_mass": True}, "keep_mass: expected rule=ils.rules.ReinMax() in place"),
    ({"metric": fisher}, "metric: expected rule=ils.rules.ReinMax() in place"),
    ({"metric": euclidean}, "metric: expected rule=ils.rules.Limit(metric=ils.metric.euclidean)"),
    ({"step_size": 1, "keep_mass": True}, "keep_mass: expected rule=ils.rules.Step(1.0, keep_mas"),
    (
        {"step_size": 0.5, "normalizer": ils.project_simplex},
        "rule=ils.rules.Step(0.5, normalizer=ils.project_simplex)",
    ),
    (
        {"step_size": 0.1, "metric": euclidean, "centred": False, "relative": False},
        "step_size, metric, centred, relative: expected rule=ils.rules.Note(0.1) in place",
    ),
    (
        {"step_size": 0.1, "relative": False},
        "rule=ils.rules.Note(0.1, metric=ils.metric.fisher, centred=True)",
    ),
    ({"step_size": 0}, "step_size: expected a rule of ils.rules in place of options"),
    # Of similar functions.
    ({"hard": True}, "hard: every draw is one-hot; leave it out"),
    ({"tau": 0.5}, "tau: the draw has no temperature; for one in the backward pass, rule=ils.rul"),
    ({"temperature": 2.0}, "temperature: the draw has no temperature; for one in the backward"),
    ({"seed": 0}, "seed: generator=torch.Generator().manual_seed(seed)"),
]


@pytest.mark.parametrize(("options", "message"), OLD_OPTIONS)
def test_old_options(options: dict[str, Any], message: str) -> None:
    """Names of the time before rules, and of similar functions, say everywhere what to write."""
    index, eye = torch.zeros(2).long(), torch.eye(3)
    for call in (
        partial(ils.sample, ROW),
        partial(ils.differentiable_draw, ROW, eye[:2]),
        partial(ils.embedding, index, eye, ROW),
        partial(ils.sample_embedding, ROW, eye),
        ils.Sampler,
        partial(OneHotCategorical, logits=ROW),
        partial(Categorical, logits=ROW),
    ):
        with pytest.raises(TypeError, match=re.escape(message)):
            call(**options)
    with pytest.raises(TypeError, match="unexpected keyword argument 'steps'"):
        ils.sample(ROW, steps=1)


def test_the_table_of_changes() -> None:
    """Each row of the changelog that names old options is what the message says to write."""
    text = (Path(__file__).parents[1] / "CHANGELOG.md").read_text(encoding="utf-8")
    rows = re.findall(r"^ *\| `(\w+=[^`]*)` \| `(rule=[^`]*)`", text, re.MULTILINE)
    assert len(rows) == 5
    for before, now in rows:
        # The letters of the table are numbers and a metric here.
        options = eval(f"dict({before})", {"ils": ils, "a": 0.5, "m": euclidean})
        wanted = eval(f"dict({now})", {"ils": ils, "a": 0.5, "m": euclidean})["rule"]
        with pytest.raises(TypeError, match=re.escape(f"expected rule=ils.rules.{wanted!r} in")):
            ils.sample(ROW, **options)


@pytest.mark.parametrize("case", VALUES)
def test_bad_values_that_cannot_be_looked_at(case: str) -> None:
    """Under a transform a bad row holds NaN, and its neighbours are draws."""
    logits, options, _, _ = BAD_INPUT[case]
    dim, mask = options.get("dim", -1), options.get("mask")
    rows = torch.atleast_2d(logits)
    filled = rows if mask is None else rows.masked_fill(mask, -torch.inf)
    good = filled.amax(dim).isfinite()
    z = torch.func.vmap(
        lambda x: ils.sample(x, dim=dim, mask=mask, generator=generator(30)), randomness="same"
    )(rows[None])[0]
    assert torch.equal(z.isnan().any(dim), ~good)
    assert z.sum(dim)[good].eq(1).all()


@pytest.mark.parametrize("categories", [1, 2, 5, 100, 1000])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_bad_rows_under_a_transform(categories: int, dtype: torch.dtype) -> None:
    """A row without a law gives NaN, and as an index the last category; others are drawn still."""
    last = torch.full((2, categories), -torch.inf, dtype=dtype)
    last[:, -1] = 0
    bad = torch.zeros(3, categories, dtype=dtype)
    bad[0, 0], bad[1, -1], bad[2] = torch.nan, torch.inf, -torch.inf
    rows = torch.cat([last, bad])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        z = torch.func.vmap(ils.sample, randomness="different")(rows)
        index = torch.func.vmap(ils.sample_index, randomness="different")(rows)
    assert z.dtype == dtype
    assert torch.equal(z[:2], (last == 0).to(dtype))
    assert z[2:].isnan().any(-1).all()
    assert index.tolist() == [categories - 1] * 5


@pytest.mark.parametrize(
    ("z", "error", "message"),
    [
        (torch.zeros(2, 2), ValueError, r"z: expected shape \(\*draws, \*\(2, 3\)\), got \(2, 2\)"),
        (torch.zeros(3), ValueError, r"z: .* got \(3,\)"),
        (torch.eye(3)[:1], ValueError, r"z: .* got \(1, 3\)"),
        (torch.zeros(3, 2, 3, 1), ValueError, r"z: .* got \(3, 2, 3, 1\)"),
        (torch.zeros(2, 3), ValueError, "z: expected one-hot rows along the last axis, got others"),
        (torch.ones(2, 3), ValueError, "z: expected one-hot rows"),
        (torch.full((2, 3), 1 / 3), ValueError, "z: expected one-hot rows"),
        (torch.full((2, 3), torch.nan), ValueError, "z: expected one-hot rows"),
        (torch.zeros(2, 3).long(), TypeError, r"z: .* got torch\.int64"),
        ([[1.0, 0.0, 0.0]] * 2, TypeError, "z: expected a torch.Tensor, got list"),
    ],
    ids=["narrow", "row", "one row", "deep", "zeros", "ones", "soft", "NaN", "integers", "list"],
)
def test_bad_input_draw(z: Any, error: type[Exception], message: str) -> None:
    """A draw of another shape, or that can carry no gradient, is refused."""
    with pytest.raises(error, match=f"^{message}"):
        ils.differentiable_draw(torch.zeros(2, 3, requires_grad=True), z)


@pytest.mark.parametrize(
    ("index", "weight", "error", "message"),
    [
        ([0, 1], torch.eye(3), TypeError, "index: expected a torch.Tensor, got list"),
        (torch.zeros(2), torch.eye(3), TypeError, r"index: expected int64, got torch\.float32"),
        (
            torch.zeros(3).long(),
            torch.eye(3),
            ValueError,
            r"index: expected shape \(\*draws, \*\(2,\)\), got \(3,\)",
        ),
        (torch.tensor([0, 3]), torch.eye(3), ValueError, "index: .* from 0 to 2, got 0 to 3"),
        (torch.tensor([-1, 0]), torch.eye(3), ValueError, "index: .* from 0 to 2, got -1 to 0"),
        (torch.zeros(2).long(), torch.eye(4), ValueError, r"weight: .* \(3, D\), got \(4, 4\)"),
        (torch.zeros(2).long(), torch.ones(3), ValueError, r"weight: .* got \(3,\)"),
        (torch.zeros(2).long(), torch.eye(3)[:2], ValueError, r"weight: .* got \(2, 3\)"),
        (torch.zeros(2).long(), torch.eye(3)[None], ValueError, r"weight: .* got \(1, 3, 3\)"),
        (torch.zeros(2).long(), torch.eye(3).long(), TypeError, r"weight: .* got torch\.int64"),
    ],
)
def test_bad_input_embedding(index: Any, weight: Any, error: type[Exception], message: str) -> None:
    """An index that names no category, or a table of another height, is refused."""
    with pytest.raises(error, match=f"^{message}"):
        ils.embedding(index, weight, torch.zeros(2, 3))


@pytest.mark.parametrize("normalizer", NORMALIZERS, ids=repr)
def test_given_maps_are_not_tried_out(normalizer: ils.Normalizer) -> None:
    """The given maps are known to keep the corners; a row of a million is no work for a check."""
    z = ils.sample(torch.zeros(2, 3), rule=Step(0.1, normalizer=normalizer))
    assert z.sum(-1).tolist() == [1, 1]


def test_draws_of_masked_categories_are_refused() -> None:
    """By the mask or by a logit of -inf, in look-ups and attached draws; a tiny law is no mask."""
    logits, table = torch.tensor([[0.0, -torch.inf, 1.0], [0.0, -1e4, 1.0]]), torch.eye(3)
    refused = "expected categories that can be drawn, got one that is masked"
    for draws in ((), (2,)):
        bad, good = torch.tensor([1, 1]).expand(*draws, 2), torch.tensor([0, 1]).expand(*draws, 2)
        with pytest.raises(ValueError, match=f"^index: {refused}"):
            ils.embedding(bad, table, logits)
        with pytest.raises(ValueError, match=f"^z: {refused}"):
            ils.differentiable_draw(logits, table[bad])
        assert torch.equal(ils.embedding(good, table, logits), table[good])
        assert torch.equal(ils.differentiable_draw(logits, table[good]), table[good])
        with pytest.raises(ValueError, match=f"^index: {refused}"):
            ils.embedding(good, table, logits, mask=torch.tensor([True, False, False]))
    with pytest.raises(TypeError, match=r"^mask: expected a boolean tensor"):
        ils.embedding(torch.tensor([0, 0]), table, logits, mask=table)
    with pytest.raises(ValueError, match=r"^dim: expected an axis"):
        ils.embedding(torch.tensor([0, 0]), table, logits, dim=2)
