"""Images: the bundled digits and their split, and files in the IDX format."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from lab.training.tasks.digits import bundled, mnist, read_idx

KINDS = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def idx(array: np.ndarray, kind: int = 0x08) -> bytes:
    """A file in the IDX format."""
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape)
    return head + array.astype(KINDS[kind]).tobytes()


def write_mnist(folder: Path, *, packed: bool = False) -> dict[str, np.ndarray]:
    """Four small files; what is in them."""
    random = np.random.default_rng(0)
    arrays = {}
    for stem, count in (("train", 24), ("t10k", 6)):
        arrays[f"{stem}-images-idx3-ubyte"] = random.integers(0, 256, (count, 6, 5))
        arrays[f"{stem}-labels-idx1-ubyte"] = random.integers(0, 10, count)
    for name, array in arrays.items():
        data = idx(array)
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(data) if packed else data)
    return arrays


def test_bundled() -> None:
    """1,797 binary images in three parts that share none; the same split every time."""
    images = bundled()
    assert [len(images.part(name)) for name in ("train", "validation", "test")] == [1197, 300, 300]
    assert set(images.train.unique().tolist()) == {0.0, 1.0}
    assert images.train.shape[1:] == (8, 8)
    assert all(len(images.labels[n]) == len(images.part(n)) for n in images.labels)
    from sklearn.datasets import load_digits

    counts = np.bincount(load_digits().target)
    assert (sum(images.labels[n].bincount() for n in images.labels).numpy() == counts).all()
    bundled.cache_clear()
    assert torch.equal(bundled().test, images.test)


@pytest.mark.parametrize("kind", list(KINDS))
def test_read_idx(tmp_path: Path, kind: int) -> None:
    """Every type of number, big-endian, comes back."""
    array = np.arange(-3, 9).reshape(3, 2, 2) if kind != 0x08 else np.arange(12).reshape(3, 2, 2)
    (tmp_path / "x").write_bytes(idx(array, kind))
    assert np.array_equal(read_idx(tmp_path / "x").numpy(), array)


BAD = {
    b"\x1f\x8b\x08\x00": "expected an IDX file",
    b"\0\0\x07\x01\0\0\0\x01\0": "expected an IDX file",
    b"\0\0": "expected an IDX file",
    b"\0\0\x08\x02\0\0\0\x01": "2 lengths in the head",
    b"\0\0\x08\x01\0\0\0\x03\x01\x02": "expected 3 bytes",
    b"\0\0\x0d\x01\0\0\0\x01\x01\x02": "expected 4 bytes",
}


@pytest.mark.parametrize("data", BAD)
def test_bad_idx(tmp_path: Path, data: bytes) -> None:
    """What is no such file is refused, and the file is named."""
    (tmp_path / "bad-file").write_bytes(data)
    with pytest.raises(ValueError, match=f"bad-file: .*{BAD[data]}"):
        read_idx(tmp_path / "bad-file")


@pytest.mark.parametrize("packed", [False, True])
def test_mnist(tmp_path: Path, packed: bool) -> None:
    """Grey values between 0 and 1, or bits; the last sixth of the training images validates."""
    arrays = write_mnist(tmp_path, packed=packed)
    images = mnist(tmp_path)
    raw = arrays["train-images-idx3-ubyte"]
    assert np.allclose(images.train.numpy() * 255, raw[:20], atol=1e-4)
    assert np.allclose(images.validation.numpy() * 255, raw[20:], atol=1e-4)
    assert np.allclose(images.test.numpy() * 255, arrays["t10k-images-idx3-ubyte"], atol=1e-4)
    assert (images.labels["validation"].numpy() == arrays["train-labels-idx1-ubyte"][20:]).all()
    bits = mnist(tmp_path, binary=True)
    assert np.array_equal(bits.train.numpy(), raw[:20] >= 128)


def test_mnist_without_a_file(tmp_path: Path) -> None:
    """The missing file is named; files that do not belong together are refused."""
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.arange(5)))
    with pytest.raises(ValueError, match="t10k: expected images"):
        mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="t10k-labels-idx1-ubyte"):
        mnist(tmp_path)
