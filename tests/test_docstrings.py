"""Every public name is documented, and every example in the documentation is true."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from types import FunctionType, ModuleType

import pytest

import ils

MODULES = sorted(
    {"ils", *(module.name for module in pkgutil.walk_packages(ils.__path__, prefix="ils."))}
)


def documented(thing: object) -> bool:
    return bool((inspect.getdoc(thing) or "").strip())


@pytest.mark.parametrize("name", MODULES)
def test_public_names_have_docstrings(name: str) -> None:
    """Modules, functions and classes have docstrings, and public methods of the classes too."""
    module = importlib.import_module(name)
    assert documented(module), name
    for public in getattr(module, "__all__", []):
        thing = getattr(module, public)
        if inspect.isclass(thing):
            # inspect.getdoc would be content with the docstring of a base class.
            assert (thing.__doc__ or "").strip(), f"{name}.{public}"
            # That of a dataclass without one is made up of its signature.
            assert not thing.__doc__.startswith(f"{public}("), f"{name}.{public}"
            for method, value in vars(thing).items():
                if not method.startswith("_") and (
                    inspect.isfunction(value) or isinstance(value, property)
                ):
                    assert documented(value), f"{name}.{public}.{method}"
        elif isinstance(thing, (FunctionType, ModuleType, ils.Normalizer)):
            assert documented(thing), f"{name}.{public}"


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    """The examples print what the documentation says they print."""
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_examples_exist() -> None:
    """The functions that a reader meets first have an example each."""
    finder = doctest.DocTestFinder()
    found = {
        test.name
        for name in MODULES
        for test in finder.find(importlib.import_module(name))
        if test.examples
    }
    for name in ("operator.sample", "simplex.Normalizer", "target.intermediate_target"):
        assert f"ils.{name}" in found
    assert {"ils.exact.moments", "ils.squeeze.kl", "ils.squeeze.jensen_bound"} <= found
