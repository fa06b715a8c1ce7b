"""Train an autoencoder over whole epochs, all seeds as one tensor program, and resume.

As ``VAE/VAE.py`` and ``VAE/VAE/train_VAE.py`` of the code of Hooper and Shekhovtsov (2026) do:
AdamW with PyTorch's defaults (weight decay 0.01 on every parameter), its learning rate constant
within an epoch, raised linearly over the first epochs and then lowered along a cosine; each epoch
takes all images once, in an order of its own.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import ils
from ils.estimators import Estimator
from ils.rules import Rule
from lab.training.task import Parameters, Stream
from lab.training.tasks.vae import Vae

__all__ = ["factor", "train"]

_LONGEST_WARM_UP = 10
_LEAST = 1e-3
_PATIENCE = 60.0
"""Seconds between two checkpoints, at least."""


def factor(epoch: int, epochs: int) -> float:
    """What the learning rate is multiplied by in an epoch, counted from 0.

    The warm-up takes a tenth of the epochs and ten at most: the 10 of 500 and the 5 of 50 that the
    authors' code has.
    """
    warm = min(_LONGEST_WARM_UP, epochs // 10)
    if epoch < warm:
        return _LEAST + (1 - _LEAST) * epoch / warm
    return (1 + math.cos(math.pi * (epoch - warm) / (epochs - warm))) / 2


def train(
    task: Vae,
    method: Callable[[int], Rule | Estimator],
    *,
    learning_rate: float,
    seeds: Sequence[int],
    epochs: int,
    device: str = "cpu",
    checkpoint: Path | None = None,
    identity: str = "",
) -> tuple[Parameters, Tensor]:
    """Train on ``task.images.train``.

    A seed fixes the initial parameters and the order of the images; the draws of all seeds come
    from one generator, so a run is bound to the seeds it is trained with.  A run that fails has
    parameters and losses that are not numbers; the others go on.

    Args:
        task: the autoencoder.
        method: for each epoch.
        learning_rate: its largest value.
        seeds: one run each.
        epochs: how many.
        device: where.
        checkpoint: file in which parameters, optimiser, generator and losses are kept after an
            epoch, once a minute at most and at the end; what is in it is taken up, bit for bit.
        identity: of the run; a checkpoint of another is ignored.

    Returns:
        Parameters ``(R, ...)``, and the mean objective of each epoch, ``(epochs, R)``.
    """
    parameters = {k: p.requires_grad_() for k, p in task.start(Stream(seeds, device)).items()}
    optimizer = torch.optim.AdamW(parameters.values(), lr=learning_rate, fused=True)
    generator = torch.Generator(device).manual_seed(1_000_003 + sum(seeds))
    losses: list[Tensor] = []
    saved = time.monotonic()
    if checkpoint is not None and (kept := _kept(checkpoint, identity)):
        for name, p in parameters.items():
            p.data.copy_(kept["parameters"][name])
        optimizer.load_state_dict(kept["optimizer"])
        generator.set_state(kept["generator"])
        losses = list(kept["losses"])
    images = task.images.train.flatten(1).to(device)
    for epoch in range(len(losses), epochs):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * factor(epoch, epochs)
        now = method(epoch)
        total = torch.zeros(len(seeds), dtype=torch.float64, device=device)
        for index in _order(seeds, epoch, len(images)).to(device).split(task.examples, dim=1):
            x = images[index]
            bound = _bound(task, now, parameters, x, generator)
            optimizer.zero_grad()
            # Not of the mean: a rule need not be linear in the gradient of an example.
            bound.sum().backward()
            for p in parameters.values():
                if p.grad is not None:
                    p.grad /= index.shape[1]
            optimizer.step()
            total += bound.detach().sum(-1)
        losses.append((total / len(images)).cpu())
        late = time.monotonic() - saved > _PATIENCE
        if checkpoint is not None and (late or epoch + 1 == epochs):
            _keep(
                checkpoint,
                {
                    "identity": identity,
                    "parameters": {name: p.detach() for name, p in parameters.items()},
                    "optimizer": optimizer.state_dict(),
                    "generator": generator.get_state(),
                    "losses": losses,
                },
            )
            saved = time.monotonic()
    return {name: p.detach() for name, p in parameters.items()}, torch.stack(losses)


def _bound(
    task: Vae,
    method: Rule | Estimator,
    parameters: Parameters,
    x: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Negative ELBO of each image, ``(R, B)``, with the method's gradient for the logits."""
    logits = task.logits(parameters, (x, x))
    # What is not a number is refused; a run that fails keeps it in its divergence.
    given = logits.nan_to_num(0.0, 0.0, 0.0)
    if isinstance(method, Rule):
        losses = task.loss(parameters, (x, x), ils.sample(given, rule=method, generator=generator))
    else:
        losses = ils.surrogate(
            method,
            given,
            lambda z: task.loss(parameters, (x, x), z),
            generator=generator,
            batch_dims=2,
        )
    return losses + task.divergence(logits)


def _order(seeds: Sequence[int], epoch: int, count: int) -> Tensor:
    """The order of the images in an epoch, ``(R, count)``: by seed and epoch, nothing else."""
    return torch.stack(
        [
            torch.randperm(count, generator=torch.Generator().manual_seed(10_000 * seed + epoch))
            for seed in seeds
        ]
    )


def _kept(path: Path, identity: str) -> dict[str, Any] | None:
    """The checkpoint, if there is one of this run."""
    if not path.exists():
        return None
    kept: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return kept if kept["identity"] == identity else None


def _keep(path: Path, state: dict[str, Any]) -> None:
    """Write it whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"partial-{path.name}")
    torch.save(state, partial)
    os.replace(partial, path)
