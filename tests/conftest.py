"""Settings shared by all tests."""

# ruff: noqa: E402 (the settings come before the imports that they are for)

import os

# Before torch is imported: with one thread sums have one order, whatever the machine, and
# parallel workers do not fight over cores.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
# For the kernels of notebooks and other processes: the book's outputs are those of the pure form.
os.environ["ILS_KERNEL"] = "0"

from collections.abc import Iterator

import pytest

from ils import kernel
from ils.kernel.build import build


@pytest.fixture(scope="session")
def built_kernel() -> None:
    """The compiled kernel, built unless it has been; about half a minute."""
    build()
    # Asked before it was built, the answer has been kept.
    kernel._state["asked"] = False
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ILS_KERNEL", "1")
        assert kernel.available()


@pytest.fixture(autouse=True)
def form(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests are of the pure form, built kernel or not, unless they are marked ``kernel``."""
    if request.node.get_closest_marker("kernel"):
        request.getfixturevalue("built_kernel")
        yield
    else:
        with kernel.disabled():
            yield
