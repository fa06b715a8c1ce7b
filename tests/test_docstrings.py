"""Every public name is documented, and every example in the documentation is true."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
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


# The modules that the tour of the package names; the others are parts from which these are built.
PUBLIC = (
    "ils",
    "ils.distributions",
    "ils.estimators",
    "ils.exact",
    "ils.intermediate",
    "ils.metric",
    "ils.rules",
    "ils.simplex",
    "ils.squeeze",
    "ils.target",
    "ils.velocity",
)
# What a docstring owes, and by what it is recognised.
OWED = {
    "shapes": r"``\(.*?(K|\.\.\.|shape).*?\)``",
    "errors": r"^ *Raises:$",
    "source": r"^ *Source: ",
    "example": r"^ *>>> ",
}
EXEMPT = {
    "ils.exact.Loss": "a type alias: what it means stands at the head of ils.estimators.evaluation",
    "ils.exact.Moments": "what ils.exact.moments returns, where errors, source and example stand",
}


def public_things() -> dict[str, object]:
    """Every public name that is no module, once, under the first module that lists it."""
    found: dict[str, object] = {}
    for module in map(importlib.import_module, PUBLIC):
        for name in module.__all__:
            thing = getattr(module, name)
            if not isinstance(thing, ModuleType) and not any(
                thing is one for one in found.values()
            ):
                found[f"{module.__name__}.{name}"] = thing
    return found


def test_the_tour_is_public() -> None:
    """The modules that ``ils`` lists are among those whose names must be documented in full."""
    modules = {f"ils.{name}" for name in ils.__all__ if isinstance(getattr(ils, name), ModuleType)}
    assert modules <= set(PUBLIC)
    assert set(EXEMPT) <= set(public_things())


@pytest.mark.parametrize("name", public_things())
def test_docstring_is_complete(name: str) -> None:
    """Shapes, errors, source and an example, of every public name, with few exceptions."""
    text = inspect.getdoc(public_things()[name]) or ""
    lacking = {owed for owed, pattern in OWED.items() if not re.search(pattern, text, re.MULTILINE)}
    assert (name in EXEMPT) == bool(lacking), f"{name} lacks {lacking}"


@pytest.mark.parametrize("name", sorted(set(public_things()) - set(EXEMPT)))
def test_example_stands_alone(name: str) -> None:
    """The example of a name runs where nothing else was imported or defined."""
    text = inspect.getdoc(public_things()[name]) or ""
    example = doctest.DocTestParser().get_doctest(text, {}, name, None, None)
    told: list[str] = []
    doctest.DocTestRunner(verbose=False).run(example, out=told.append)
    assert not told, "".join(told)


FACTORIES = [n for n in ils.estimators.__all__ if inspect.isfunction(getattr(ils.estimators, n))]


@pytest.mark.parametrize("name", FACTORIES)
def test_estimators_say_what_they_share(name: str) -> None:
    """Once each and in this order: what is returned, what is raised, an example, the source."""
    text = inspect.getdoc(getattr(ils.estimators, name)) or ""
    found = re.findall(r"^(Returns|Raises|Example|Source):", text, re.MULTILINE)
    assert found == ["Returns", "Raises", "Example", "Source"]
    assert (
        text.count("    TypeError, ValueError: at a call, as :class:`Estimator`.\n\nExample") == 1
    )


RULES = {f"rules.{name}" for name in ils.rules.__all__} - {"rules.Rule"}


@pytest.mark.parametrize("name", [*sorted(RULES), *(f"estimators.{name}" for name in FACTORIES)])
def test_bias_is_told(name: str) -> None:
    """Whether the estimate is biased, of every rule and every estimator."""
    module, _, public = name.partition(".")
    thing = getattr(getattr(ils, module), public)
    if inspect.isclass(thing) or inspect.isfunction(thing):
        assert re.search(r"(?i)\bbias|\bunbias", inspect.getdoc(thing) or ""), name
