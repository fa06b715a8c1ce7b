"""Settings shared by all tests."""

# ruff: noqa: E402 (the settings come before the imports that they are for)

import os
from pathlib import Path

# Before torch is imported: with one thread sums have one order, whatever the machine, and
# parallel workers do not fight over cores.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
# For the kernels of notebooks and other processes: the book's outputs are those of the pure form.
os.environ["ILS_KERNEL"] = "0"
# And for them the laboratory, which is not installed.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(
        None, (str(Path(__file__).resolve().parent.parent / "book"), os.environ.get("PYTHONPATH"))
    )
)

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from torch.distributions import Distribution

from ils import kernel
from ils.kernel.build import build
from tools.jitter import Jitter

if TYPE_CHECKING:
    from playwright.sync_api import Browser


# Left when the process ends: see tools/cpu.py.
_seed = os.environ.get("ILS_JITTER")
if _seed:
    Jitter(int(_seed)).__enter__()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Under jitter, leave out what it cannot enter."""
    for item in items:
        if _seed and item.get_closest_marker("unmoved"):
            item.add_marker(pytest.mark.skip(reason="jitter does not enter here"))


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


@pytest.fixture(autouse=True)
def checks_of_distributions() -> Iterator[None]:
    """They are on for each test: PyTorch's compiler turns them off for the whole process."""
    yield
    Distribution.set_default_validate_args(__debug__)


@pytest.fixture(scope="module")
def built_site() -> None:
    """The site is there; these tests do not build it."""
    from tools.browser import SITE

    if not (SITE / "index.html").exists():
        pytest.fail("there is no site in _build/html: run make book", pytrace=False)


@pytest.fixture(scope="module", params=["chromium"])
def browser(request: pytest.FixtureRequest) -> Iterator["Browser"]:
    """Chromium, and Firefox for the tests that are marked ``in_both_browsers``.

    Where a browser is missing its tests are skipped, but in continuous integration they fail.
    """
    from tools import browser as tool  # few tests need it

    if request.param == "firefox":
        executable, start = tool.find_firefox(), tool.firefox
        message = "no Firefox found: install the package firefox-esr, or firefox"
    else:
        executable, start = tool.find_chromium(), tool.chromium
        message = "no Chromium found: install the package chromium, or Google Chrome"
    if executable is None:
        if os.environ.get("CI") == "true":
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    with start(executable) as started:
        yield started
