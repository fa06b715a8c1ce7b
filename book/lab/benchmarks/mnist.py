"""``python -m lab.benchmarks.mnist FOLDER``: the VAE on MNIST, at the sizes of Liu et al. (2023).

The four files of MNIST are not fetched; :mod:`lab.training.tasks.digits` says what they are.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from lab.run import records
from lab.run.checkout import describe_checkout
from lab.training.protocol import method_of, methods
from lab.training.tasks.autoencoder import Autoencoder
from lab.training.tasks.digits import mnist
from lab.training.train import train

__all__ = ["main", "vae"]

_WIDTHS = (512, 256)
_EXAMPLES = 100


def vae(folder: Path, categories: int, variables: int) -> Autoencoder:
    """The VAE with the widths and the batch of the authors' code."""
    images = mnist(folder)
    return Autoencoder(categories, variables, widths=_WIDTHS, examples=_EXAMPLES, images=images)


def main() -> None:
    """Train, print the test bound, and write a record."""
    parser = argparse.ArgumentParser(description="Train the categorical VAE on MNIST.")
    parser.add_argument("images", type=Path, help="folder with the four files")
    parser.add_argument("--categories", type=int, default=8)
    parser.add_argument("--variables", type=int, default=4)
    parser.add_argument("--method", default="ReinMax (default)")
    parser.add_argument("--setting", type=float, default=0.0)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=160)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, default=Path("_build/mnist"), help="of the record")
    wanted = parser.parse_args()
    task = vae(wanted.images, wanted.categories, wanted.variables)
    if wanted.method not in methods(task):
        parser.error(f"unknown method {wanted.method!r}; there are {list(methods(task))}")
    steps = wanted.epochs * len(task.images.train) // _EXAMPLES
    start = time.perf_counter()
    table = train(
        task,
        method_of(task, wanted.method, wanted.setting),
        learning_rates=[wanted.learning_rate],
        seeds=wanted.seeds,
        steps=steps,
        split="test",
        device=wanted.device,
    )
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(wanted).items()}
    name = f"mnist-{task.name}"
    records.write(
        name,
        table,
        configuration={"seed": wanted.seeds, **settings},
        seconds=time.perf_counter() - start,
        checkout=describe_checkout("lab.benchmarks.mnist"),
        folder=wanted.folder,
    )
    last = table.xs(steps, level="step")[task.measure]
    print(f"{task.measure} after {steps} steps: {last.mean():.2f} over {len(last)} seeds")


if __name__ == "__main__":
    main()
