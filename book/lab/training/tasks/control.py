"""Short-horizon control with a discrete force.

A mass on a line is to be brought to rest at zero in ten steps by one of five forces.  The cost of
a step is ``(x^2 + v^2 / 10 + u^2 / 20) / 10``, with noise in the motion.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ils.draw import draw_index
from lab.training.task import Parameters, Stream
from lab.training.tasks.critic import ActorCritic, Experience

__all__ = ["Control"]

_FORCES = (-1.0, -0.4, 0.0, 0.4, 1.0)
_HORIZON = 10
_STEP, _NOISE = 0.5, 0.05


class Control(ActorCritic):
    """See the head of this module; the measure is the mean cost of an episode."""

    name = "control"
    title = "Control"
    measure = "cost of an episode"
    categories = len(_FORCES)
    inputs = 3
    episodes = 16
    rates = (1e-4, 10**-2.5)
    tuning_seeds = 5  # a policy that settles too early costs ten times as much
    steps = 1000

    def _episodes(
        self,
        parameters: Parameters,
        begin: Tensor,
        noise: Tensor,
        draw: Callable[[int, Tensor], Tensor],
    ) -> Experience:
        """Time, place and speed ``(T, R, N, 3)``, forces ``(T, R, N, 5)``, costs ``(T, R, N)``."""
        place, speed = begin.unbind(-1)
        forces = torch.tensor(_FORCES, device=begin.device)
        states, actions, costs = [], [], []
        for t in range(_HORIZON):
            state = torch.stack([torch.full_like(place, t / _HORIZON), place, speed], -1)
            index = draw(t, self.policy(parameters, state).softmax(-1))
            force = forces[index]
            speed = 0.9 * speed + _STEP * force + _NOISE * noise[..., t]
            place = place + _STEP * speed
            states.append(state)
            actions.append(torch.nn.functional.one_hot(index, self.categories).to(begin))
            costs.append((place**2 + speed**2 / 10 + force**2 / 20) / 10)
        return Experience(torch.stack(states), torch.stack(actions), torch.stack(costs))

    def batch(
        self, parameters: Parameters, stream: Stream, generator: torch.Generator
    ) -> Experience:
        """Episodes under the policy; each step of each is an example, its cost that to the end."""
        begin = stream.normal(self.episodes, 2)
        noise = stream.normal(self.episodes, _HORIZON)
        with torch.no_grad():
            seen = self._episodes(parameters, begin, noise, lambda _, p: draw_index(p, generator))
        to_go = seen.cost.flip(0).cumsum(0).flip(0)
        return Experience(
            *(x.movedim(0, 1).flatten(1, 2) for x in (seen.state, seen.action, to_go))
        )

    def evaluate(self, parameters: Parameters, split: str) -> dict[str, Tensor]:
        """Mean cost over 500 episodes that begin alike for every run, with the same noise."""
        generator = torch.Generator().manual_seed({"validation": 1, "test": 2}[split])
        weight = parameters["p1.weight"]
        runs = len(weight)
        begin = torch.randn(500, 2, generator=generator).to(weight)
        noise = torch.randn(500, _HORIZON, generator=generator).to(weight)
        uniform = torch.rand(500, _HORIZON, generator=generator).to(weight)

        def draw(t: int, probs: Tensor) -> Tensor:
            index = (probs.cumsum(-1) < uniform[:, t, None]).sum(-1)
            return index.clamp(max=self.categories - 1)

        begin, noise = begin.expand(runs, -1, -1), noise.expand(runs, -1, -1)
        cost = self._episodes(parameters, begin, noise, draw).cost
        return {self.measure: cost.sum(0).mean(-1)}
