"""What ils.sample and its relatives refuse, and how they say so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import generator
from rules import NORMALIZERS

import ils
from ils.distributions import OneHotCategorical

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
    "dim too high": (ROW, {"dim": 2}, ValueError, "dim: expected an axis of a 2-d tensor, got 2"),
    "dim too low": (ROW, {"dim": -3}, ValueError, "dim: .* got -3"),
    "step 0": (ROW, {"step_size": 0.0}, ValueError, r"step_size: .* got 0\.0"),
    "step negative": (ROW, {"step_size": -0.5}, ValueError, r"step_size: .* got -0\.5"),
    "step NaN": (ROW, {"step_size": float("nan")}, ValueError, "step_size: .* got nan"),
    "step inf": (ROW, {"step_size": float("inf")}, ValueError, "step_size: .* got inf"),
    "step bool": (ROW, {"step_size": True}, TypeError, "step_size: .* got bool"),
    "step str": (ROW, {"step_size": "0.1"}, TypeError, "step_size: .* got str"),
    "step missing": (
        ROW,
        {"step_size": None, "normalizer": ils.project_simplex},
        ValueError,
        "step_size: expected a number for normalizer=ils.project_simplex, got None",
    ),
    "step missing, own map": (
        ROW,
        {"step_size": None, "normalizer": lambda x: x / x.sum(-1, keepdim=True)},
        ValueError,
        "step_size: expected a number for a normalizer of one's own, got None",
    ),
    "metric str": (ROW, {"metric": "fisher"}, TypeError, "metric: .* got str"),
    "noise of a relative step": (
        ROW,
        {"centred": False},
        ValueError,
        "centred=False: expected relative=False and a step_size",
    ),
    "noise of the limit": (
        ROW,
        {"step_size": None, "centred": False, "relative": False},
        ValueError,
        "centred=False: expected relative=False and a step_size",
    ),
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
    "normalizer str": (ROW, {"normalizer": "sum"}, TypeError, "normalizer: .* got str"),
    "normalizer shortens": (
        ROW,
        {"normalizer": lambda x: x[..., :2]},
        ValueError,
        r"normalizer: its output: expected shape \(2, 3\), got \(2, 2\)",
    ),
    "normalizer moves corners": (
        ROW,
        {"normalizer": lambda x: x.softmax(-1)},
        ValueError,
        r"normalizer: .* largest difference of 0\.424",
    ),
    "normalizer moves the last corner": (
        ROW,
        {"normalizer": lambda x: x * torch.tensor([1.0, 1.0, 0.75])},
        ValueError,
        r"normalizer: .* largest difference of 0\.25",
    ),
    "normalizer gives NaN": (
        ROW,
        {"normalizer": lambda x: x / (x * 0)},
        ValueError,
        r"normalizer: .* largest difference of nan",
    ),
}


# Values are looked at after the draw, whose cost they add nothing to: only then has it happened.
VALUES = ["NaN", "NaN beside infinities", "+inf", "row of -inf", "column of -inf", "mask of a row"]
NOT_FOR_GIVEN_DRAWS = {"dim", "mask", "draws"}
NOT_FOR_INDICES = {"step_size", "normalizer", "metric", "centred"}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input(case: str) -> None:
    """Each is refused by name and with what came; all but values before anything is drawn."""
    logits, options, error, message = BAD_INPUT[case]
    own = generator(29)
    state = own.get_state()
    with pytest.raises(error, match=message):
        ils.sample(logits, **({"step_size": 0.1, "generator": own} | options))
    assert case in VALUES or torch.equal(own.get_state(), state)
    if isinstance(logits, torch.Tensor) and logits.is_floating_point():
        with pytest.raises(error, match=message):
            ils.sample(
                logits.clone().requires_grad_(), **({"step_size": 0.1, "generator": own} | options)
            )
    if not NOT_FOR_GIVEN_DRAWS & set(options):
        with pytest.raises(error, match=message):
            ils.differentiable_draw(logits, torch.eye(3)[:2], **({"step_size": 0.1} | options))
        with pytest.raises(error, match=message):
            ils.embedding(
                torch.zeros(2).long(), torch.eye(3), logits, **({"step_size": 0.1} | options)
            )
    if not NOT_FOR_INDICES & set(options):
        with pytest.raises(error, match=message):
            ils.sample_index(logits, generator=own, **options)
        assert case in VALUES or torch.equal(own.get_state(), state)


@pytest.mark.parametrize(
    "case",
    [
        c
        for c, row in BAD_INPUT.items()
        if "metric" in row[1] or "step_size" in row[1] or "centred" in row[1]
    ],
)
def test_bad_options_of_objects(case: str) -> None:
    """A module and a distribution refuse their options when they are made."""
    _, options, error, message = BAD_INPUT[case]
    with pytest.raises(error, match=message):
        ils.Sampler(**({"step_size": 0.1} | options))
    with pytest.raises(error, match=message):
        OneHotCategorical(logits=ROW, **({"step_size": 0.1} | options))


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


@pytest.mark.parametrize(
    ("z", "error", "message"),
    [
        (torch.zeros(2, 2), ValueError, r"z: expected shape \(\*draws, \*\(2, 3\)\), got \(2, 2\)"),
        (torch.zeros(3), ValueError, r"z: .* got \(3,\)"),
        (torch.zeros(3, 2, 3, 1), ValueError, r"z: .* got \(3, 2, 3, 1\)"),
        (torch.zeros(2, 3), ValueError, "z: expected one-hot rows along the last axis, got others"),
        (torch.ones(2, 3), ValueError, "z: expected one-hot rows"),
        (torch.full((2, 3), 1 / 3), ValueError, "z: expected one-hot rows"),
        (torch.full((2, 3), torch.nan), ValueError, "z: expected one-hot rows"),
        (torch.zeros(2, 3).long(), TypeError, r"z: .* got torch\.int64"),
        ([[1.0, 0.0, 0.0]] * 2, TypeError, "z: expected a torch.Tensor, got list"),
    ],
    ids=["narrow", "one row", "deep", "zeros", "ones", "soft", "NaN", "integers", "list"],
)
def test_bad_input_draw(z: Any, error: type[Exception], message: str) -> None:
    """A draw of another shape, or that can carry no gradient, is refused."""
    with pytest.raises(error, match=message):
        ils.differentiable_draw(torch.zeros(2, 3, requires_grad=True), z)


@pytest.mark.parametrize(
    ("index", "weight", "error", "message"),
    [
        ([0, 1], torch.eye(3), TypeError, "index: expected a torch.Tensor, got list"),
        (torch.zeros(2), torch.eye(3), TypeError, r"index: expected int64, got torch\.float32"),
        (torch.zeros(3).long(), torch.eye(3), ValueError, r"index: expected shape .*, got \(3,\)"),
        (torch.tensor([0, 3]), torch.eye(3), ValueError, "index: .* from 0 to 2, got 0 to 3"),
        (torch.tensor([-1, 0]), torch.eye(3), ValueError, "index: .* from 0 to 2, got -1 to 0"),
        (torch.zeros(2).long(), torch.eye(4), ValueError, r"weight: .* \(3, D\), got \(4, 4\)"),
        (torch.zeros(2).long(), torch.ones(3), ValueError, r"weight: .* got \(3,\)"),
        (torch.zeros(2).long(), torch.eye(3).long(), TypeError, r"weight: .* got torch\.int64"),
    ],
)
def test_bad_input_embedding(index: Any, weight: Any, error: type[Exception], message: str) -> None:
    """An index that names no category, or a table of another height, is refused."""
    with pytest.raises(error, match=message):
        ils.embedding(index, weight, torch.zeros(2, 3))


@pytest.mark.parametrize("normalizer", NORMALIZERS, ids=repr)
def test_given_maps_are_not_tried_out(normalizer: ils.Normalizer) -> None:
    """The given maps are known to keep the corners; a row of a million is no work for a check."""
    z = ils.sample(torch.zeros(2, 3), step_size=0.1, normalizer=normalizer)
    assert z.sum(-1).tolist() == [1, 1]
