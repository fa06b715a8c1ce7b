"""The operators that are timed: from logits to a draw, or to a substitute for one."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import ils
from ils.rules import Note

__all__ = [
    "CONTESTANTS",
    "FORMS",
    "GUMBEL",
    "IN_DOUBLE",
    "LOSS",
    "TEN_LINES",
    "TenLines",
    "TenLinesInDouble",
    "Timed",
    "contestant",
]

GUMBEL = "Gumbel-Softmax, hard"
TEN_LINES = "ten lines by hand"
IN_DOUBLE = f"{TEN_LINES}, in float64"
LOSS = "the loss alone"
_HARD = "straight-through Gumbel"
_STEP = 0.1

Operator = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Timed:
    """One operator, and the comparisons in which it takes part.

    Attributes:
        name: as in the tables: that of its method in :mod:`lab.methods.catalogue`, unless
            ``method`` is given.
        group: ``gumbel``, ``straight-through``, ``by hand``, ``projection``, ``floor`` or ``ils``.
        prepare: from logits, whatever is not to be timed; returns the operator on logits.
        draws: whether its result is one-hot.
        compiled: whether it is timed compiled as well.
        kernel: whether ``ils.kernel`` can serve it.
        types: the types of number that it takes part in.
        method: of the catalogue, which PyTorch or its authors offer under this name; empty where
            the name is the method's, or where it is none.
    """

    name: str
    group: str
    prepare: Callable[[Tensor], Operator]
    draws: bool = True
    compiled: bool = False
    kernel: bool = False
    types: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16)
    method: str = ""

    def fits(self, dtype: torch.dtype, mode: str) -> bool:
        """Whether it takes part with this type and in this mode."""
        if dtype not in self.types or (self.group == "projection" and not _has_entmax()):
            return False
        return {"eager": True, "compiled": self.compiled, "kernel": self.kernel}[mode]


def _has_entmax() -> bool:
    return importlib.util.find_spec("entmax") is not None


def _gumbel(x: Tensor, hard: bool) -> Tensor:
    return F.gumbel_softmax(x, hard=hard)


def _gumbel_with_noise(like: Tensor) -> Operator:
    """The hard operator of PyTorch, line by line, with its noise drawn beforehand."""
    generator = torch.Generator().manual_seed(0)
    noise = -torch.empty_like(like).detach().exponential_(generator=generator).log()

    def operator(x: Tensor) -> Tensor:
        soft = (x + noise).softmax(-1)
        index = soft.max(-1, keepdim=True)[1]
        hard = torch.zeros_like(x).scatter_(-1, index, 1.0)
        return hard - soft.detach() + soft

    return operator


def _torch_distribution(x: Tensor) -> Tensor:
    # Without its checks, which read the draw twice more.
    return torch.distributions.OneHotCategoricalStraightThrough(
        logits=x, validate_args=False
    ).rsample()


def _straight_through(x: Tensor) -> Tensor:
    probs = x.softmax(-1)
    z = torch.zeros_like(probs).scatter_(-1, torch.multinomial(probs.detach(), 1), 1)
    return z + probs - probs.detach()


def _reinmax(x: Tensor) -> Tensor:
    """ReinMax as its authors published it, at temperature 1."""
    probs = x.softmax(-1)
    index = torch.multinomial(probs.detach(), 1)
    z = torch.zeros_like(probs).scatter_(-1, index, 1.0)
    middle = (z + probs) / 2
    middle = ((middle.log() - x).detach() + x).softmax(-1)
    estimate = 2 * middle - 0.5 * probs
    return estimate - estimate.detach() + z


class TenLines(torch.autograd.Function):
    """The default of :func:`ils.sample` as a user would write it: its draw and its update.

    What it lacks: a scan in float32 has no more than ``2**24`` different values, so that in long
    rows small categories are drawn too rarely or never; a uniform number in float32 has as few.
    A row with NaN or of -inf alone gives an index that is out of range, or a draw that is not
    one-hot.  A gradient that is infinite at a masked category makes the whole row NaN.
    bfloat16 is summed in bfloat16.  A second derivative is wrong and does not raise; forward mode,
    ``vmap``, a generator and several draws are not supported.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        probs = logits.softmax(-1)
        scan = probs.cumsum(-1)
        point = torch.rand((*scan.shape[:-1], 1), device=scan.device) * scan[..., -1:]
        at = torch.searchsorted(scan, point, right=True)
        ctx.save_for_backward(probs, at)
        return torch.zeros_like(logits).scatter_(-1, at, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        probs, at = ctx.saved_tensors
        update = (grads[0] - grads[0].gather(-1, at)) * probs / 2
        return update.scatter_(-1, at, -update.sum(-1, keepdim=True))


class TenLinesInDouble(TenLines):
    """The same with the scan and the uniform number in float64, as an exact draw needs them."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        probs = logits.softmax(-1)
        scan = probs.cumsum(-1, dtype=torch.float64)
        uniform = torch.rand((*scan.shape[:-1], 1), dtype=torch.float64, device=scan.device)
        at = torch.searchsorted(scan, uniform * scan[..., -1:], right=True)
        ctx.save_for_backward(probs, at)
        return torch.zeros_like(logits).scatter_(-1, at, 1)


def _ten_lines(x: Tensor) -> Tensor:
    return TenLines.apply(x)


def _ten_lines_in_double(x: Tensor) -> Tensor:
    return TenLinesInDouble.apply(x)


def _sparsemax(like: Tensor) -> Operator:
    from entmax import sparsemax

    return partial(sparsemax, dim=-1)


def _softmax(x: Tensor) -> Tensor:
    return x.softmax(-1)


def _itself(x: Tensor) -> Tensor:
    return x


def _plain(operator: Operator) -> Callable[[Tensor], Operator]:
    return lambda like: operator


FORMS = {
    "ReinMax (default)": partial(ils.sample),
    "ILS (the note)": partial(ils.sample, rule=Note(_STEP)),
    "ILS, centred": partial(ils.sample, rule=Note(_STEP, centred=True)),
    "ILS, projected": partial(
        ils.sample, rule=Note(_STEP, centred=True, normalizer=ils.project_simplex)
    ),
}
"""The forms of :func:`ils.sample` that are timed: its default, the note's, and two more."""

CONTESTANTS = (
    Timed(GUMBEL, "gumbel", _plain(partial(_gumbel, hard=True)), compiled=True, method=_HARD),
    Timed(
        "Gumbel-Softmax, soft",
        "gumbel",
        _plain(partial(_gumbel, hard=False)),
        draws=False,
        method="Gumbel-Softmax",
    ),
    Timed("Gumbel-Softmax, noise given", "gumbel", _gumbel_with_noise, method=_HARD),
    Timed(
        "OneHotCategoricalStraightThrough",
        "straight-through",
        _plain(_torch_distribution),
        method="straight-through",
    ),
    Timed("straight-through", "straight-through", _plain(_straight_through)),
    Timed(
        "ReinMax, as published",
        "straight-through",
        _plain(_reinmax),
        method="ReinMax (default)",
    ),
    *(
        Timed(name, "by hand", _plain(f), types=(torch.float32,), method="ReinMax (default)")
        for name, f in ((TEN_LINES, _ten_lines), (IN_DOUBLE, _ten_lines_in_double))
    ),
    # In bfloat16 its cumulative sums are too coarse to find the threshold.
    Timed("sparsemax", "projection", _sparsemax, draws=False, types=(torch.float32,)),
    Timed("softmax", "floor", _plain(_softmax), draws=False),
    Timed(LOSS, "floor", _plain(_itself), draws=False),
    *(
        Timed(name, "ils", _plain(f), compiled="centred" not in name, kernel=True)
        for name, f in FORMS.items()
    ),
)


def contestant(name: str) -> Timed:
    """The contestant of this name."""
    (found,) = [c for c in CONTESTANTS if c.name == name]
    return found
