"""What is asked about the mode of execution and the device, in every mode that can be had here."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from ils import execution


class Subclass(Tensor):
    """A tensor of another type."""


def seen(question: Callable[[Tensor], bool]) -> bool:
    """The answer to a question that is asked within ``vmap``."""
    answers: list[bool] = []

    def ask(x: Tensor) -> Tensor:
        answers.append(question(x))
        return x

    torch.func.vmap(ask)(torch.zeros(2, 3))
    return answers[0]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_eager() -> None:
    """Eager code is what no transform and no trace is active in."""
    assert execution.eager()
    assert not execution.compiling()
    assert not seen(lambda x: execution.eager())
    traced: list[bool] = []
    torch.jit.trace(
        lambda x: (traced.append(execution.eager()), x + 1)[1], torch.zeros(1), check_trace=False
    )
    assert traced
    assert not any(traced)


def test_values() -> None:
    """They are there in eager code, but for meta and fake tensors."""
    with FakeTensorMode():
        fake = torch.zeros(2)
    for question in (execution.holds_values, execution.may_look):
        assert question(torch.zeros(2))
        assert not question(torch.zeros(2, device="meta"))
        assert not question(fake)
        assert not seen(question)


def test_plain_on_cpu() -> None:
    """A parameter is plain; meta, sparse and subclassed tensors are not."""
    plain = execution.plain_on_cpu
    assert plain(torch.zeros(2))
    assert plain(nn.Parameter(torch.zeros(2)))
    assert not plain(torch.zeros(2, device="meta"))
    assert not plain(torch.zeros(2).as_subclass(Subclass))
    assert not plain(torch.zeros(2).to_sparse())
