"""A contextual bandit: eight actions, six numbers of context, a reward that is not linear."""

from __future__ import annotations

import torch
from torch import Tensor

from ils.draw import draw_index
from lab.training.task import Parameters, Stream
from lab.training.tasks.critic import ActorCritic, Experience

__all__ = ["Bandit"]

_TRUTH_SEED = 11
_NOISE = 0.3


class Bandit(ActorCritic):
    """See the head of this module; the measure is the regret against the best action."""

    name = "bandit"
    title = "Contextual bandit"
    measure = "regret"
    optimum = 0.0
    categories = 8
    inputs = 6
    examples = 64
    steps = 1500

    def rewards(self, context: Tensor) -> Tensor:
        """Mean reward of every action, ``(..., 8)``: a fixed network of random weights."""
        generator = torch.Generator().manual_seed(_TRUTH_SEED)
        inner = torch.randn(self.inputs, 16, generator=generator).to(context)
        outer = torch.randn(16, self.categories, generator=generator).to(context)
        return (context @ inner / 2).tanh() @ outer / 4

    def batch(
        self, parameters: Parameters, stream: Stream, generator: torch.Generator
    ) -> Experience:
        """Contexts, the policy's actions, and minus their noisy rewards."""
        context = stream.normal(self.examples, self.inputs)
        noise = stream.normal(self.examples)
        with torch.no_grad():
            probs = self.policy(parameters, context).softmax(-1)
            action = torch.nn.functional.one_hot(draw_index(probs, generator), self.categories)
            reward = (action * self.rewards(context)).sum(-1) + _NOISE * noise
        return Experience(context, action.to(probs), -reward)

    def evaluate(self, parameters: Parameters, split: str) -> dict[str, Tensor]:
        """Regret of the drawn action, exactly, over 1,000 contexts; other ones for each split."""
        generator = torch.Generator().manual_seed({"validation": 1, "test": 2}[split])
        weight = parameters["p1.weight"]
        context = torch.randn(1000, self.inputs, generator=generator).to(weight)
        probs = self.policy(parameters, context.expand(len(weight), -1, -1)).softmax(-1)
        rewards = self.rewards(context)
        regret = rewards.amax(-1) - (probs * rewards).sum(-1)
        return {self.measure: regret.mean(-1)}
