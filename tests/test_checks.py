"""What each check refuses and lets pass, at the edge, under the name that it was given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from torch.autograd import forward_ad

from ils import checks, execution

NAN, INF = float("nan"), float("inf")


def refused(error: type[Exception], message: str, check: Callable[..., Any], *given: Any) -> None:
    """The check raises just this error, with a message that begins like this."""
    with pytest.raises(error, match=f"^{message}"):
        check(*given)


@pytest.mark.parametrize(
    ("check", "good", "bad", "expected"),
    [
        (checks.check_positive, (1e-300, 0.5, 3), (0, 0.0, -1e-300, NAN, INF), "a positive finite"),
        (
            checks.check_not_negative,
            (0, 0.0, 0.5, 3),
            (-1e-300, -1, NAN, INF),
            "zero or a positive",
        ),
        (checks.check_count, (1, 7), (0, -1), "at least 1"),
        (checks.check_fraction, (0, 0.0, 0.999), (1, 1.5, -1e-300, NAN), r"a number in \[0, 1\)"),
    ],
)
def test_numbers(check: Any, good: Any, bad: Any, expected: str) -> None:
    """Numbers on both sides of the edge; bools, strings and nothing are no numbers."""
    for value in good:
        assert check("alpha", value) is None
    for value in bad:
        refused(ValueError, f"alpha: expected {expected}.*, got {value}$", check, "alpha", value)
    kind = "an integer" if check is checks.check_count else "a real number"
    for value in (True, False, "1", None, 1j, torch.tensor(1.0)):
        named = type(value).__name__
        refused(TypeError, f"alpha: expected {kind}, got {named}$", check, "alpha", value)
    if check is checks.check_count:
        refused(TypeError, "alpha: expected an integer, got float$", check, "alpha", 1.0)


def test_logits() -> None:
    """Type, axes, and values: NaN before infinities before rows without a category."""
    check = checks.check_logits
    for good in (torch.zeros(1), torch.zeros(0, 3), torch.tensor([0.0, -INF]), torch.zeros(2, 3)):
        assert check(good) is None
    assert check(torch.zeros(3, 0), 0) is None
    refused(TypeError, r"logits: expected a torch\.Tensor, got list$", check, [0.0])
    refused(
        TypeError,
        r"logits: .* floating-point tensor, got torch\.int64; logits\.float\(\)$",
        check,
        torch.ones(2).long(),
    )
    refused(ValueError, "logits: .* got a scalar$", check, torch.tensor(0.0))
    refused(ValueError, r"logits: .* along dim -1, got shape \(2, 0\)$", check, torch.zeros(2, 0))
    refused(ValueError, r"logits: .* along dim 0, got shape \(0, 2\)$", check, torch.zeros(0, 2), 0)
    for dim in (-3, 2):
        refused(ValueError, f"dim: .* of a 2-d tensor, got {dim}$", check, torch.zeros(2, 2), dim)
    for dim in (-2, -1, 0, 1):
        assert check(torch.zeros(2, 2), dim) is None
    some = r"got NaN \(1 of 2 rows, the first \(0,\)\)$"
    refused(ValueError, f"logits: .*, {some}", check, torch.tensor([[NAN, 0], [INF, 0]]))
    some = r"got NaN \(2 of 4 rows, the first \(0, 1\)\)$"
    several = torch.tensor([[[0.0, 0], [NAN, 0]], [[NAN, 0], [0, 0]]])
    refused(ValueError, f"logits: .*, {some}", check, several)
    refused(ValueError, "logits: .*, got NaN$", check, torch.tensor([NAN]))
    some = r"got \+inf \(1 of 2 rows, the first \(1,\)\)$"
    refused(ValueError, f"logits: .*, {some}", check, torch.tensor([[-INF, -INF], [INF, 0]]))
    column = torch.tensor([[0, -INF], [0, -INF]])
    empty = (
        r"logits: .*, got a row of -inf or masked throughout \(1 of 2 rows, the first \(1,\)\); a "
    )
    empty += "mask is true where a category cannot be drawn"
    refused(ValueError, empty, check, column, 0)
    assert check(column) is None
    refused(ValueError, empty, check, column.T)
    refused(ValueError, empty, checks.check_logits_values, column.T)
    assert checks.check_logits_values(column) is None


def test_values_are_not_looked_at_under_a_transform() -> None:
    """Within vmap there are no values: bad ones pass, and shapes and types are checked still."""
    assert execution.eager()
    bad = torch.tensor([[NAN, 0.0]])

    def look(row: torch.Tensor) -> torch.Tensor:
        assert not execution.eager()
        checks.check_logits(row)
        checks.check_distribution("p", row)
        checks.check_one_hot("z", row, row)
        checks.check_index("index", row.long()[:0].sum() + 5, row)
        return row

    torch.func.vmap(look)(bad)
    for check in (checks.check_distribution, checks.check_floating):
        refused(
            TypeError, r"p: .*, got torch\.int64; p\.float\(\)$", check, "p", torch.ones(2).long()
        )


def test_mask() -> None:
    """Boolean, and broadcasting: axes may be missing in front or have length one."""
    check, logits = checks.check_mask, torch.zeros(4, 2, 3)
    for shape in ((), (3,), (1,), (2, 3), (2, 1), (1, 3), (4, 2, 3), (1, 1, 1), (4, 1, 3)):
        assert check(torch.zeros(shape).bool(), logits) is None
    for shape in ((2,), (4,), (3, 2), (4, 2), (4, 2, 1, 3), (1, 4, 2, 3), (2, 2, 3)):
        mask = torch.zeros(shape).bool()
        expected = rf"mask: expected a shape that broadcasts to \(4, 2, 3\), got \({shape[0]}"
        refused(ValueError, expected, check, mask, logits)
    refused(TypeError, r"mask: expected a torch\.Tensor, got list$", check, [True], logits)
    for wrong in (torch.zeros(3), torch.zeros(3).long()):
        refused(
            TypeError,
            rf"mask: .* boolean tensor, true .* got {wrong.dtype}; .* mask == 0$",
            check,
            wrong,
            logits,
        )


def test_draws() -> None:
    """A count or a shape, as a tuple of plain integers; zero draws are draws."""
    check = checks.check_draws
    for given, found in (
        ((), ()),
        ([], ()),
        (torch.Size([]), ()),
        (0, (0,)),
        (1, (1,)),
        (5, (5,)),
        ([2, 3], (2, 3)),
        ((0, 1), (0, 1)),
        (torch.Size([4]), (4,)),
    ):
        result = check(given)
        assert result == found
        assert type(result) is tuple
        assert all(type(size) is int for size in result)
    for wrong in (True, 1.0, "12", None, (1, True), (1.0,), ("1",), {1}, iter([1])):
        refused(TypeError, "draws: expected an integer or a sequence", check, wrong)
    for wrong in (-1, (-1,), (2, -1)):
        refused(ValueError, r"draws: expected sizes of at least 0, got \(", check, wrong)


def test_same_shape() -> None:
    """Equal shapes pass, others are named in the order wanted, found."""
    check = checks.check_same_shape
    assert check("x", torch.zeros(2, 3), torch.ones(2, 3)) is None
    refused(
        ValueError,
        r"x: expected shape \(2, 3\), got \(3,\)$",
        check,
        "x",
        torch.zeros(3),
        torch.zeros(2, 3),
    )


def test_one_hot() -> None:
    """Rows with a single one, of the shape of the logits or a stack of such."""
    check, logits = checks.check_one_hot, torch.zeros(2, 3)
    eye = torch.eye(3)
    for good in (eye[:2], eye[[0, 1]].expand(5, 2, 3), torch.zeros(0, 2, 3), eye[:2].double()):
        assert check("z", good, logits) is None
    assert check("z", torch.zeros(0, 3), torch.zeros(0, 3)) is None
    assert check("z", torch.ones(1, 1), torch.zeros(1, 1)) is None
    for wrong in (eye, eye[0], eye[:1], torch.zeros(3, 2), torch.zeros(2, 3, 1), torch.tensor(1.0)):
        expected = r"z: expected shape \(\*draws, \*\(2, 3\)\), got \("
        refused(ValueError, expected, check, "z", wrong, logits)
    two, half, none = eye[:2].clone(), eye[:2].clone(), eye[:2].clone()
    two[0, 1], half[0, 0], none[0, 0] = 1, 0.5, 0
    negative, single = -eye[:2], torch.full((1, 1), 2.0)
    for wrong in (two, half, none, negative, eye[:2] * NAN):
        refused(ValueError, "z: expected one-hot rows", check, "z", wrong, logits)
    refused(ValueError, "z: expected one-hot rows", check, "z", single, torch.zeros(1, 1))
    refused(ValueError, "z: expected one-hot", check, "z", torch.zeros(1, 1), torch.zeros(1, 1))
    refused(TypeError, r"z: .* got torch\.int64; z\.float\(\)$", check, "z", eye[:2].long(), logits)
    refused(TypeError, r"z: expected a torch\.Tensor, got list$", check, "z", [1.0], logits)


def test_index() -> None:
    """int64, a category each, of the shape of the logits without the last axis, or a stack."""
    check, logits = checks.check_index, torch.zeros(2, 3)
    for good in ([0, 2], [[1, 1], [0, 0], [2, 2]]):
        assert check("index", torch.tensor(good), logits) is None
    assert check("index", torch.zeros(0, 2).long(), logits) is None
    assert check("index", torch.tensor(2), torch.zeros(3)) is None
    for wrong in ([0], [0, 1, 2], [[0], [1]], 0):
        expected = r"index: expected shape \(\*draws, \*\(2,\)\), got \("
        refused(ValueError, expected, check, "index", torch.tensor(wrong), logits)
    for wrong, said in (([0, 3], "0 to 3"), ([-1, 0], "-1 to 0"), ([-1, 3], "-1 to 3")):
        expected = f"index: expected categories from 0 to 2, got {said}$"
        refused(ValueError, expected, check, "index", torch.tensor(wrong), logits)
    for wrong in (-1, 3):
        refused(ValueError, "index: expected categ", check, "index", torch.tensor(wrong), logits[0])
    refused(
        TypeError,
        r"index: expected int64, got torch\.int32$",
        check,
        "index",
        torch.zeros(2).int(),
        logits,
    )
    refused(
        TypeError, r"index: expected a torch\.Tensor, got list$", check, "index", [0, 1], logits
    )


def test_distribution() -> None:
    """Not negative, and a sum of one up to the rounding of its own type and length."""
    check = checks.check_distribution
    for good in ([1.0], [0.0, 1.0], [[0.5, 0.5], [0.25, 0.75]]):
        assert check("p", torch.tensor(good)) is None
    assert check("p", torch.zeros(0, 2)) is None
    for dtype in (torch.float16, torch.float32, torch.float64):
        # Eight units of the last place a category are let pass, and not much more.
        unit = torch.finfo(dtype).eps
        row = torch.tensor([0.5, 0.5], dtype=dtype)
        assert check("p", row + torch.tensor([16 * unit, 0], dtype=dtype)) is None
        assert check("p", row - torch.tensor([16 * unit, 0], dtype=dtype)) is None
        for off in (18 * unit, -18 * unit, 0.5):
            wrong = row + torch.tensor([off, 0], dtype=dtype)
            refused(ValueError, "p: expected entries of at least 0 that sum", check, "p", wrong)
    for wrong in ([-0.5, 1.5], [NAN, 1.0], [0.0, 0.0], [[0.5, 0.5], [0.5, 0.6]]):
        refused(ValueError, "p: expected entries of", check, "p", torch.tensor(wrong))
    for wrong in (torch.tensor(1.0), torch.zeros(2, 0)):
        refused(ValueError, r"p: expected at least one category .* got shape \(", check, "p", wrong)
    refused(TypeError, r"p: expected a torch\.Tensor, got list$", check, "p", [1.0])


def test_masked_categories() -> None:
    """A given draw or index of a masked category is refused by its name, where it can be seen."""
    logits = torch.tensor([[0.0, -INF, 1.0]])
    z, index = torch.eye(3)[:, None], torch.arange(3)[:, None]
    for at in (0, 2):
        assert checks.check_one_hot("z", z[at], logits) is None
        assert checks.check_index("index", index[at], logits) is None
    end = "can be drawn, got one that is masked$"
    refused(ValueError, f"z: .* {end}", checks.check_one_hot, "z", z[1], logits)
    refused(ValueError, f"index: .* {end}", checks.check_index, "index", index[1], logits)
    unseen = logits.to("meta")
    assert checks.check_one_hot("z", z[1], unseen) is None
    assert checks.check_index("index", index[1], unseen) is None


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_forward_mode() -> None:
    """A tangent is refused, on whichever tensor it is."""
    with forward_ad.dual_level():
        plain, dual = torch.zeros(2), forward_ad.make_dual(torch.zeros(2), torch.ones(2))
        assert checks.refuse_forward_mode(plain, plain) is None
        for tensors in ((dual,), (plain, dual)):
            refused(
                NotImplementedError,
                "ils: expected backward mode",
                checks.refuse_forward_mode,
                *tensors,
            )


def test_integers() -> None:
    """Those of Python, NumPy and PyTorch become Python's; a bool and a float are none."""
    for value in (3, numpy.int64(3), numpy.array(3), torch.tensor(3)):
        found = checks.whole(value)
        assert found == 3
        assert type(found) is int
    refused(TypeError, "expected an integer, got bool$", checks.whole, True)
    with pytest.raises(TypeError):
        checks.whole(3.0)


def test_generators() -> None:
    """A seed is no generator, and the error says how to make one of it."""
    message = r"generator: expected a torch\.Generator or None, got int; for a seed"
    refused(TypeError, message, checks.check_generator, 3)
