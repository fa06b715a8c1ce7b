"""What a training problem is: parameters, a batch, logits, a loss of the draw, a measure.

A leading axis ``R`` counts *runs* that share nothing: every parameter is ``(R, ...)``, and a run
is a seed with a learning rate.  Draws have the shape ``(D, R, *B, n, K)`` for ``D`` draws from
the same logits, examples ``*B``, variables ``n`` and categories ``K``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Own", "Parameters", "Stream", "Task", "dense", "linear"]

Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class Own:
    """A method that exists for one problem alone, or a reference there.

    Attributes:
        objective: of parameters, a batch and a setting; what it returns, ``(R,)``, is
            differentiated as it stands.
        option: what the setting is; empty for a method without.
        settings: the trials of the setting.
        evaluate: in place of the problem's, for a method with a forward pass of its own.
    """

    objective: Callable[[Parameters, Any, float], Tensor]
    option: str = ""
    settings: tuple[float, ...] = (0.0,)
    evaluate: Callable[[Parameters, str], dict[str, Tensor]] | None = None


class Stream:
    """Randomness of the problem, one generator a seed: the same for every method.

    Runs with the same seed get the same numbers, whatever else is in their batch; the numbers are
    made on the CPU, so that they are the same on every device.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        distinct = list(dict.fromkeys(seeds))
        self._generators = [torch.Generator().manual_seed(seed) for seed in distinct]
        self._which = torch.tensor([distinct.index(seed) for seed in seeds])
        self.device = torch.device(device)

    def __call__(self, make: Callable[[torch.Generator], Tensor]) -> Tensor:
        """The tensors that ``make`` returns for each run's generator, stacked: ``(R, ...)``."""
        return self.stack([make(generator) for generator in self._generators])

    def each(self, make: Callable[[torch.Generator], Parameters]) -> Parameters:
        """The same for several tensors at once."""
        made = [make(generator) for generator in self._generators]
        return {name: self.stack([one[name] for one in made]) for name in made[0]}

    def stack(self, values: Sequence[Tensor]) -> Tensor:
        """One tensor a distinct seed, laid out over the runs: ``(R, ...)``."""
        return torch.stack(list(values))[self._which].to(self.device)

    def indices(self, size: int, count: int) -> Tensor:
        """Indices into a data set, with replacement, ``(R, count)``."""
        return self(lambda g: torch.randint(size, (count,), generator=g))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, ``(R, *shape)``."""
        return self(lambda g: torch.randn(shape, generator=g))


class Task:
    """A training problem.  Subclasses say what differs from these defaults.

    Attributes:
        name: unique, a file name.
        title: as in tables.
        measure: what the first number of :meth:`evaluate` is; smaller is better.
        optimum: the least value of the measure, where it is known.
        categories: ``K``.
        variables: ``n``.
        draws: ``D``, draws a step from the same logits.
        steps: of a final run.
        step_unit: of absolute step sizes, where a loss is a mean over variables.
        tuning_seeds: runs of each trial in the first round of the tuning.
        rates: the least and the largest learning rate that is tried first.
        ordinal: whether the loss sees of a draw the numbers of its categories alone.
        main_only: whether only the main methods take part, see ``contestants.MAIN``.
        decoder: the parameters that the loss of a draw depends on.
        fixed_rates: learning rates of parameters that are not tuned.
        own: methods of this problem alone, by name.
    """

    name: str
    title: str
    measure: str
    optimum: float | None = None
    categories: int
    variables: int
    draws: int = 1
    steps: int = 1000
    step_unit: float = 1.0
    tuning_seeds: int = 3
    rates: tuple[float, float] = (10**-2.5, 1e-1)
    ordinal: bool = False
    main_only: bool = False
    decoder: tuple[str, ...] = ()
    fixed_rates: Mapping[str, float] = {}

    @property
    def own(self) -> Mapping[str, Own]:
        """Methods of this problem alone, by name."""
        return {}

    def start(self, stream: Stream) -> Parameters:
        """Initial parameters, each ``(R, ...)``."""
        raise NotImplementedError

    def batch(self, parameters: Parameters, stream: Stream, generator: torch.Generator) -> Any:
        """The batch of a step; ``generator`` is for draws that depend on the parameters."""
        return None

    def logits(self, parameters: Parameters, batch: Any) -> Tensor:
        """``(R, *B, n, K)``."""
        raise NotImplementedError

    def loss(self, parameters: Parameters, batch: Any, z: Tensor) -> Tensor:
        """Values ``(D, R, *B)`` at draws ``(D, R, *B, n, K)``."""
        raise NotImplementedError

    def penalty(self, parameters: Parameters, batch: Any, logits: Tensor) -> Tensor | None:
        """A term added to the objective, ``(R,)``: a function of the logits or other parameters."""
        return None

    def evaluate(self, parameters: Parameters, split: str) -> dict[str, Tensor]:
        """Measures ``(R,)``, the first of them the one that counts.

        Args:
            parameters: of all runs.
            split: ``validation`` or ``test``.
        """
        raise NotImplementedError


def dense(generator: torch.Generator, name: str, inputs: int, outputs: int) -> Parameters:
    """A layer as ``torch.nn.Linear`` starts it: uniform within one over the root of the inputs."""
    bound = inputs**-0.5
    return {
        f"{name}.weight": torch.empty(inputs, outputs).uniform_(-bound, bound, generator=generator),
        f"{name}.bias": torch.empty(outputs).uniform_(-bound, bound, generator=generator),
    }


def linear(parameters: Parameters, name: str, x: Tensor) -> Tensor:
    """The layer of each run on ``(R, N, inputs)`` or ``(D, R, N, inputs)``."""
    weight, bias = parameters[f"{name}.weight"], parameters[f"{name}.bias"].unsqueeze(1)
    if x.dim() == 3:
        return torch.baddbmm(bias, x, weight)
    # Draws become examples: broadcasting would copy the weights once a draw.
    lead, runs, count, width = x.shape
    flat = x.transpose(0, 1).reshape(runs, lead * count, width)
    return torch.baddbmm(bias, flat, weight).unflatten(1, (lead, count)).transpose(0, 1)
