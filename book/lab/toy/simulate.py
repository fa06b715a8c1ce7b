"""Gradient descent on the toy, for all settings and replicates as one tensor program.

A *rule* turns the logits of its settings into gradients; settings of one rule differ in numbers
only (step size, temperature, learning rate) and are the first axis.  All settings use the same
random numbers, so that they can be compared in pairs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from ils.draw import inverse_cdf, one_hot
from ils.relaxation import relaxed_sample, relaxed_sample_vjp
from ils.simplex import sum_normalize
from ils.target import intermediate_target, logits_gradient
from lab.problems.toy import Toy

__all__ = [
    "Block",
    "Bound",
    "Gumbel",
    "Intermediate",
    "Noise",
    "constant",
    "linear_decay",
    "record_steps",
    "simulate",
]


class Noise:
    """Random numbers of a run, drawn only where a rule asks and the same for all that ask.

    Uniform and Gumbel numbers come from generators of their own, so that the draws of one rule
    do not depend on which others run beside it.

    Args:
        shape: ``(groups, N, K)``.
        seed: of both generators.
    """

    def __init__(self, shape: Sequence[int], seed: int) -> None:
        self._shape = tuple(shape)
        self._for_uniform = torch.Generator().manual_seed(seed)
        self._for_gumbel = torch.Generator().manual_seed(seed + 1)
        self._uniform: Tensor | None = None
        self._gumbel: Tensor | None = None

    def next_step(self) -> None:
        """Forget the numbers of the step that is over."""
        self._uniform = self._gumbel = None

    @property
    def uniform(self) -> Tensor:
        """Numbers in ``[0, 1)``, one a draw, ``(groups, N)``."""
        if self._uniform is None:
            self._uniform = torch.rand(
                self._shape[:-1], generator=self._for_uniform, dtype=torch.float64
            )
        return self._uniform

    @property
    def gumbel(self) -> Tensor:
        """Standard Gumbel numbers, ``(groups, N, K)``."""
        if self._gumbel is None:
            uniform = torch.rand(self._shape, generator=self._for_gumbel, dtype=torch.float64)
            self._gumbel = _categories_outermost(-(-uniform.log()).log())
        return self._gumbel


def _column(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1, 1)


def _categories_outermost(values: Tensor) -> Tensor:
    """The same tensor, laid out in memory with the categories outermost.

    Sums over five neighbouring numbers are slow; sums over five planes are vectorised.
    """
    return values.movedim(-1, 0).contiguous().movedim(0, -1)


def _softmax(logits: Tensor) -> Tensor:
    """Softmax that keeps the layout; PyTorch's own takes three times as long on short rows."""
    weights = (logits - logits.amax(-1, keepdim=True)).exp()
    return weights / weights.sum(-1, keepdim=True)


@dataclass(frozen=True)
class Intermediate:
    """Algorithm 1 with a single draw; one setting for each step size."""

    step_sizes: Sequence[float]
    gradient: Callable[[Tensor, Tensor, Tensor], Tensor] = logits_gradient
    normalizer: Callable[[Tensor], Tensor] = sum_normalize
    keep_mass: bool = False

    def __call__(self, logits: Tensor, toy: Toy, noise: Noise) -> Tensor:
        probs = _softmax(logits)
        z = one_hot(inverse_cdf(probs, noise.uniform.expand(probs.shape[:-1])), probs)
        target = intermediate_target(
            z,
            toy.gradient(z),
            step_size=_column(self.step_sizes),
            normalizer=self.normalizer,
            keep_mass=self.keep_mass,
        )
        return self.gradient(target, probs, z)


@dataclass(frozen=True)
class Gumbel:
    """The relaxed (soft) Gumbel-Softmax sample; one setting for each temperature."""

    temperatures: Sequence[float]

    def __call__(self, logits: Tensor, toy: Toy, noise: Noise) -> Tensor:
        temperature = _column(self.temperatures)
        y = relaxed_sample(logits, noise.gumbel, temperature)
        return relaxed_sample_vjp(y, toy.gradient(y), temperature)


@dataclass(frozen=True)
class Bound:
    """The exact gradient of the toy's own objective, the expected loss of a hard draw."""

    def __call__(self, logits: Tensor, toy: Toy, noise: Noise) -> Tensor:
        return toy.bound_gradient(_softmax(logits))


def constant(fraction: float) -> float:
    """The learning rate of the note: the same throughout."""
    return 1.0


def linear_decay(fraction: float) -> float:
    """A learning rate that falls in a straight line to zero at the last step."""
    return 1.0 - fraction


@dataclass(frozen=True)
class Block:
    """Settings of one rule: their names, learning rates and schedule.

    Attributes:
        names: one name a setting.
        rule: the gradient; broadcasts over the settings.
        learning_rates: one a setting.
        schedule: factor of the learning rate at a fraction of the run.
    """

    names: Sequence[str]
    rule: Callable[[Tensor, Toy, Noise], Tensor]
    learning_rates: Sequence[float]
    schedule: Callable[[float], float] = field(default=constant)


def record_steps(steps: int, per_decade: int = 10, every: int | None = None) -> list[int]:
    """Steps at which curves are recorded: 0, evenly on a logarithmic axis, and the last.

    Args:
        steps: the last step.
        per_decade: points a decade.
        every: record each multiple of this too, for a linear axis.

    Returns:
        A sorted list.  Apart from its last step, the list of a shorter run is the beginning of
        the list of a longer one.
    """
    grid = {0, steps}
    if every is not None:
        grid.update(range(0, steps + 1, every))
    power = 0
    while (step := round(10 ** (power / per_decade))) <= steps:
        grid.add(step)
        power += 1
    return sorted(grid)


def simulate(
    toy: Toy,
    blocks: Sequence[Block],
    *,
    steps: int,
    seed: int,
    record: Sequence[int],
    measures: Sequence[Callable[[Tensor], Tensor]],
    stop: int | None = None,
    progress: str | None = None,
) -> pd.DataFrame:
    """Run plain gradient descent for every setting on every group.

    Args:
        toy: the groups.
        blocks: the settings.
        steps: length of the run, for the schedule.
        seed: of all draws.
        record: steps at which to measure.
        measures: functions of the model's probabilities ``(settings, groups, N, K)`` with values
            ``(settings, groups)``, known by their names.
        stop: end after so many steps (the schedule is still that of ``steps``).
        progress: title of a progress bar; it shows in a terminal only.

    Returns:
        One row for each setting, measure and group (the index), one column for each recorded
        step.
    """
    last = steps if stop is None else stop
    recorded = [step for step in record if step <= last]
    shape = toy.p.shape
    logits = [
        _categories_outermost(toy.start.expand(len(block.names), *shape)).clone()
        for block in blocks
    ]
    toy = replace(toy, p=_categories_outermost(toy.p))
    rates = [_column(block.learning_rates) for block in blocks]
    curves: dict[tuple[str, str], list[Tensor]] = defaultdict(list)

    def measure() -> None:
        for block, theta in zip(blocks, logits, strict=True):
            probs = _softmax(theta)
            for function in measures:
                for name, values in zip(block.names, function(probs), strict=True):
                    curves[name, function.__name__].append(values)

    if 0 in recorded:
        measure()
    wanted, noise = set(recorded), Noise(shape, seed)
    # disable=None shows the bar in a terminal and nowhere else.
    with tqdm(total=last, desc=progress, disable=True if progress is None else None) as bar:
        for step in range(1, last + 1):
            noise.next_step()
            for block, theta, rate in zip(blocks, logits, rates, strict=True):
                factor = block.schedule((step - 1) / steps)
                theta -= rate * factor * block.rule(theta, toy, noise)
            if step in wanted:
                measure()
            if step % 100 == 0:
                bar.update(100)
    rows = {
        (*name, group): series
        for name, values in curves.items()
        for group, series in enumerate(torch.stack(values, -1).tolist())
    }
    index = pd.MultiIndex.from_tuples(rows, names=["setting", "measure", "group"])
    return pd.DataFrame(list(rows.values()), index=index, columns=recorded)
