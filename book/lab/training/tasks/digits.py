"""Images of digits: scikit-learn's 1,797 of 8 x 8, or MNIST from files in the IDX format.

MNIST is not fetched.  Readers who have it put the four files, compressed or not, in one folder:
``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
``t10k-labels-idx1-ubyte`` (with ``.gz`` at the end if compressed).
"""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

__all__ = ["Images", "bundled", "mnist", "read_idx"]

_SPLIT_SEED = 0
_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


@dataclass(frozen=True, eq=False)
class Images:
    """Images and their labels in three parts.

    Attributes:
        train, validation, test: pixels between 0 and 1, ``(N, height, width)``, float32.
        labels: of each part, by its name, ``(N)``.
    """

    train: Tensor
    validation: Tensor
    test: Tensor
    labels: dict[str, Tensor]

    def part(self, name: str) -> Tensor:
        """``train``, ``validation`` or ``test``."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]


@cache
def bundled() -> Images:
    """scikit-learn's digits: 1,197 to train, 300 to validate, 300 to test; always the same.

    A pixel is on where it has at least half of the largest value.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = torch.from_numpy(data.images >= 8).float()
    labels = torch.from_numpy(data.target)
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(_SPLIT_SEED))
    parts = dict(zip(("train", "validation", "test"), order.split([1197, 300, 300]), strict=True))
    return Images(
        **{name: pixels[index] for name, index in parts.items()},
        labels={name: labels[index] for name, index in parts.items()},
    )


def mnist(folder: Path, *, binary: bool = False) -> Images:
    """MNIST from its four files; the last sixth of the training images validates.

    Args:
        folder: see the head of this module.
        binary: pixels 0 or 1; else grey values between, as in the code of Liu et al. (2023).

    Raises:
        FileNotFoundError: a file is missing; the message names it.
        ValueError: a file is not in the IDX format, or images and labels do not fit together.
    """
    images, labels = {}, {}
    for part, stem in (("train", "train"), ("test", "t10k")):
        images[part] = read_idx(_find(folder, f"{stem}-images-idx3-ubyte"))
        labels[part] = read_idx(_find(folder, f"{stem}-labels-idx1-ubyte"))
        if images[part].dim() != 3 or labels[part].shape != images[part].shape[:1]:
            raise ValueError(
                f"{stem}: expected images (N, height, width) and labels (N), got "
                f"{tuple(images[part].shape)} and {tuple(labels[part].shape)}"
            )
    held = len(images["train"]) // 6
    images["train"], images["validation"] = images["train"].split(
        [len(images["train"]) - held, held]
    )
    labels["train"], labels["validation"] = labels["train"].split(
        [len(labels["train"]) - held, held]
    )
    scaled = {name: (x >= 128).float() if binary else x / 255 for name, x in images.items()}
    return Images(**scaled, labels=labels)


def read_idx(path: Path) -> Tensor:
    """A file in the IDX format: two zero bytes, type, number of axes, their lengths, the numbers.

    Raises:
        ValueError: the head is of another format, or the length does not fit it.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as file:
        raw = file.read()
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _TYPES:
        raise ValueError(f"{path.name}: expected an IDX file, got one that begins {raw[:4]!r}")
    axes = raw[3]
    start = 4 + 4 * axes
    if len(raw) < start:
        raise ValueError(f"{path.name}: expected {axes} lengths in the head, the file ends before")
    shape = struct.unpack(f">{axes}I", raw[4:start])
    kind = np.dtype(_TYPES[raw[2]])
    expected = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    if len(raw) - start != expected:
        raise ValueError(
            f"{path.name}: expected {expected} bytes for shape {shape}, got {len(raw) - start}"
        )
    numbers = np.frombuffer(raw, dtype=kind, offset=start).reshape(shape)
    return torch.from_numpy(numbers.astype(kind.newbyteorder("=")))


def _find(folder: Path, stem: str) -> Path:
    for name in (stem, f"{stem}.gz"):
        if (folder / name).exists():
            return folder / name
    raise FileNotFoundError(f"{folder}: expected {stem} or {stem}.gz, found neither")
