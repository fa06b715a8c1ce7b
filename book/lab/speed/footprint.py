"""How much memory a call needs: at its peak, and kept from its forward for its backward pass."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from lab.speed.calls import TYPES, Call, block, call, inputs, modes
from lab.speed.contestants import CONTESTANTS
from lab.speed.cost import SHAPES

__all__ = ["memory", "peak", "saved"]


def peak(function: Call) -> int:
    """The most bytes that PyTorch's allocator has given out at once during a call.

    What was there before does not count; what is returned does.  The events are the allocator's
    own, those within an operation among them.
    """
    from torch._C._profiler import _EventType

    settings = {"activities": [torch.profiler.ProfilerActivity.CPU], "profile_memory": True}
    with torch.profiler.profile(**settings) as profiled:
        kept = function()
    del kept
    assert profiled.profiler is not None
    assert profiled.profiler.kineto_results is not None
    waiting = list(reversed(profiled.profiler.kineto_results.experimental_event_tree()))
    changes = []
    while waiting:
        event = waiting.pop()
        waiting += reversed(event.children)
        kind, fields = event.typed
        if kind == _EventType.Allocation:
            changes.append((event.start_time_ns, fields.alloc_size))
    now = most = 0
    for _, size in sorted(changes, key=lambda change: change[0]):
        now += size
        most = max(most, now)
    return most


def saved(function: Callable[[], Tensor], known: tuple[Tensor, ...]) -> int:
    """Bytes that a forward pass keeps for its backward pass, without those of known tensors."""
    storages: dict[int, tuple[int, Tensor]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        result = function()
    del result
    known_storages = {tensor.untyped_storage().data_ptr() for tensor in known}
    return sum(size for at, (size, _) in storages.items() if at not in known_storages)


def memory(
    seed: int,
    shapes: tuple[tuple[int, int], ...] = SHAPES,
    types: tuple[str, ...] = tuple(TYPES),
) -> pd.DataFrame:
    """Peak bytes of a call and bytes kept for backward; index: type, shape, mode, contestant."""
    rows = []
    cells = [(d, s, m, c) for d in types for s in shapes for m in modes() for c in CONTESTANTS]
    for dtype, shape, mode, one in cells:
        if not one.fits(TYPES[dtype], mode):
            continue
        x, w = inputs(shape, TYPES[dtype], seed)
        place = {"dtype": dtype, "batch": shape[0], "categories": shape[1], "mode": mode}
        with block(mode):
            function, operator = call(one, x, w), one.prepare(x)
            function()
            kept = saved(lambda f=operator, x=x: f(x), (x, w))
            rows.append(place | {"contestant": one.name, "peak": peak(function), "saved": kept})
    index = ["dtype", "batch", "categories", "mode", "contestant"]
    return pd.DataFrame(rows).set_index(index)
