"""Actions whose cost is known only through a learned critic: what bandit and control share.

A critic ``q(s, z)`` is fitted to the costs that followed the actions which the policy drew; the
policy follows the gradient of ``q(s, z)`` through its draw.  The cost itself is never
differentiated.  A small entropy bonus keeps the policy from settling before the critic has learnt.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lab.training.task import Own, Parameters, Stream, Task, dense, linear

__all__ = ["ActorCritic", "Experience"]

_HIDDEN = 32
_ENTROPY = 0.03
_CRITIC_RATES = {f"q{layer}.{part}": 3e-3 for layer in (1, 2) for part in ("weight", "bias")}


class Experience(NamedTuple):
    """States, actions and the costs that followed."""

    state: Tensor  # (R, B, inputs)
    action: Tensor  # one-hot, (R, B, K)
    cost: Tensor  # (R, B)


class ActorCritic(Task):
    """See the head of this module.

    Attributes:
        inputs: numbers that describe a state.
    """

    inputs: int
    variables = 1
    rates = (1e-3, 10**-1.5)
    fixed_rates = _CRITIC_RATES

    @property
    def own(self) -> dict[str, Own]:
        """Descent on the critic's expectation over all actions."""
        return {"exact gradient": Own(self._expected)}

    def start(self, stream: Stream) -> Parameters:
        """Policy ``p`` and critic ``q``, each of one hidden layer."""
        return stream.each(
            lambda generator: {
                **dense(generator, "p1", self.inputs, _HIDDEN),
                **dense(generator, "p2", _HIDDEN, self.categories),
                **dense(generator, "q1", self.inputs + self.categories, 2 * _HIDDEN),
                **dense(generator, "q2", 2 * _HIDDEN, 1),
            }
        )

    def policy(self, parameters: Parameters, state: Tensor) -> Tensor:
        """Logits of the actions, ``(R, N, K)``."""
        return linear(parameters, "p2", linear(parameters, "p1", state).tanh())

    def critic(self, parameters: Parameters, state: Tensor, action: Tensor) -> Tensor:
        """Estimated costs ``(..., R, N)`` of one-hot actions ``(..., R, N, K)``."""
        both = torch.cat([state.expand(*action.shape[:-1], -1), action], -1)
        return linear(parameters, "q2", linear(parameters, "q1", both).relu()).squeeze(-1)

    def logits(self, parameters: Parameters, batch: Experience) -> Tensor:
        """``(R, B, 1, K)``."""
        return self.policy(parameters, batch.state).unsqueeze(-2)

    def loss(self, parameters: Parameters, batch: Experience, z: Tensor) -> Tensor:
        """``q(s, z)``."""
        return self.critic(parameters, batch.state, z.squeeze(-2))

    def penalty(self, parameters: Parameters, batch: Experience, logits: Tensor) -> Tensor:
        """The critic's squared error at what was drawn, less a little of the policy's entropy."""
        error = self.critic(parameters, batch.state, batch.action) - batch.cost
        log_probs = logits.log_softmax(-1)
        entropy = -(log_probs.exp() * log_probs).sum((-1, -2))
        return (error**2).mean(-1) - _ENTROPY * entropy.mean(-1)

    def _expected(self, parameters: Parameters, batch: Experience, _: float = 0.0) -> Tensor:
        logits = self.logits(parameters, batch)
        probs = logits.squeeze(-2).softmax(-1)
        every = torch.eye(self.categories, device=probs.device)[:, None, None]
        frozen: dict[str, Any] = {name: p.detach() for name, p in parameters.items()}
        values = self.critic(frozen, batch.state, every.expand(self.categories, *probs.shape))
        expected = (probs * values.movedim(0, -1)).sum(-1).mean(-1)
        return expected + self.penalty(parameters, batch, logits)
