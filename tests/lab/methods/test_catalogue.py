"""One catalogue: a method has one name and one look in every record, table, figure and sentence."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Iterable, Iterator
from itertools import combinations
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from ils import estimators
from lab.beyond.families import figures as families
from lab.beyond.families import quality
from lab.beyond.models.protocol import EXPERIMENTS
from lab.fixed_points import experiment as fixed_points
from lab.fixed_points import repaired
from lab.invariance.experiment import RULES
from lab.methods.catalogue import BESIDE, CATALOGUE, FAMILIES, METHODS, NAMES, Method, method
from lab.relatives.experiment import RELATIVES
from lab.search.candidates import CANDIDATES
from lab.search.values import ESTIMATORS
from lab.show.legible import lightness, told_by_colour_alone
from lab.show.looks import FAMILY_LOOKS, LOOKS, looks, method_in
from lab.speed import contestants as speed
from lab.speed.cost import COPY, LARGE_COPY
from lab.toy import experiment as toy
from lab.training import contestants as training
from lab.training.again import AGAIN
from lab.training.protocol import methods
from lab.training.tasks import TASKS

ROOT = Path(__file__).resolve().parents[3]
BOOK = ROOT / "book"
EVERY = (*CATALOGUE, *BESIDE)

# What is timed without being a method, or under the name that PyTorch or its authors give it.
TIMED = {one.name for one in speed.CONTESTANTS} | {COPY, LARGE_COPY}
# Where the forms of ILS are told by what they are made of, not by name; and what has no method.
FORMS = set(fixed_points.forms()) | {"original", "exact gradient of the bound"}
FORMS |= {one.name for one in CANDIDATES}

NUMBER = re.compile(r"[-+.\de]+|nan|inf")
# Names of the time before the catalogue.
OLD = re.compile(
    r"ILS, (default|as in the note|the note|sum-normalised|step|fused|relative step, Fisher)"
    r"|ILS \((note|corrected|mass-keeping)|ILS (corrected|mass-keeping|Fisher|centred)|note's ILS"
    r"|decoupled Gumbel|Gumbel, (T =|noise)|absolute step \(the note\)|Default of ils\.sample"
    r"|limit of small steps \(default\)|ReinMax(, the| at its) default"
)


def at_a_setting(label: str) -> bool:
    """Whether a label is a method's name, with or without a setting: ``, T = 1`` or ``order 2``."""
    found = method_in(label)
    named = found is not None and (label == found or label.startswith(f"{found}, "))
    return named or re.fullmatch(r"order \d", label) is not None


def test_names_are_unique() -> None:
    """Of methods, and of what is timed."""
    assert len(set(NAMES)) == len(NAMES) == len(EVERY)
    assert all(method(one.name) is one for one in EVERY)
    with pytest.raises(KeyError):
        method("ILS")
    # What one problem makes is named only.
    for one in BESIDE:
        assert one.family not in FAMILIES
        assert (one.settings, one.trained, one.factory) == ((), (), "")
        with pytest.raises(LookupError, match="by that problem"):
            one.make(0.0)


@pytest.mark.parametrize("one", CATALOGUE, ids=lambda one: one.name)
def test_method(one: Method) -> None:
    """Its factory exists, its family too, and it can be made where it is measured or trained."""
    assert one.family in FAMILIES
    assert hasattr(estimators, one.factory) or one.factory == ""
    assert one.factory or not one.settings  # the suite takes from ils.estimators alone
    settings = one.settings or one.trained or (0.1,)
    assert one.make(settings[0]).evaluations >= 1
    assert one.default in one.settings or not one.settings
    assert not (one.train and not one.trained)


def test_sources_are_in_the_bibliography() -> None:
    """Of every method."""
    keys = set(re.findall(r"^@\w+\{([^,]+),", (BOOK / "references.bib").read_text("utf-8"), re.M))
    assert {source for one in EVERY for source in one.source} <= keys
    assert all(one.source for one in METHODS)


def test_training_is_a_view_of_the_catalogue() -> None:
    """The same methods, with the settings and the maker of the training."""
    assert {one.name for one in training.CONTESTANTS} == {m.name for m in CATALOGUE if m.trained}
    for one in training.CONTESTANTS:
        own = method(one.name)
        assert (one.settings, one.family, one.source) == (own.trained, own.family, own.source)
        assert one.make is (own.train or own.make)
    assert len(training.MAIN) == 14


def records() -> Iterator[tuple[str, set[str]]]:
    """For each record the names in it: of its rows and of its columns."""
    for path in sorted((BOOK / "data").glob("*.csv.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            head, *rows = csv.reader(io.StringIO(file.read()))
        found: set[str] = set()
        for level in ("method", "contestant", "setting"):
            if level in head:
                found |= {row[head.index(level)].split(" | ")[0] for row in rows}
        if path.name.startswith("toy-gumbel-limits"):
            found |= set(head[1:])
        yield path.name, {name for name in found if not NUMBER.fullmatch(name)}


RECORDS = dict(records())


@pytest.mark.parametrize(("record", "names"), RECORDS.items(), ids=list(RECORDS))
def test_records(record: str, names: set[str]) -> None:
    """Every method in a record is in the catalogue."""
    if record.startswith("families"):  # its settings are distributions
        names = {name for name in names if "(" not in name}
    allowed = FORMS | (TIMED if record.startswith("bench") else set())
    if record.startswith("search"):
        allowed |= set(ESTIMATORS)
    unknown = {name for name in names - allowed if not at_a_setting(name)}
    assert not unknown


def test_laboratory() -> None:
    """What the chapters run and draw has the names of the catalogue."""
    named: list[Iterable[str]] = [
        AGAIN.values(),
        fixed_points.FLOWS,
        fixed_points.LADDER,
        repaired.METHODS,
        RULES,
        toy.ILS_METHODS,
        toy.GUMBEL_METHODS,
        toy.NOTE_SETTINGS,
        quality.METHODS,
        families.LETTERS,
        speed.FORMS,
        *(methods(task) for task in TASKS.values()),
        *(task.own for task in EXPERIMENTS.values()),
        (one.name for one in RELATIVES if one.ours),
        (one.method for one in speed.CONTESTANTS if one.method),
    ]
    for names in named:
        assert [name for name in names if not at_a_setting(name)] == []
    for one in speed.CONTESTANTS:
        assert one.method or one.group == "floor" or one.name in LOOKS
        assert method_in(one.name) or one.method
    # On the map the relatives that the package has bear the same names.
    ours = {name for one in RELATIVES for name in one.name.split(", ") if name in NAMES}
    assert {"SPIGOT", "SPIGOT-CE", "SPIGOT-EG", "straight-through", "I-MLE", "ReinMax"} <= ours


@pytest.mark.parametrize("ending", ["md", "ipynb", "py", "js", "json", "csv"])
def test_no_method_is_named_otherwise(ending: str) -> None:
    """No name of the time before the catalogue is left, but in the account of the renaming."""
    paths = [*BOOK.rglob(f"*.{ending}"), ROOT / "README.md", *ROOT.joinpath("tools").glob("*.py")]
    for path in paths:
        if {"_build", "vendor"} & set(path.parts):
            continue
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            text = json.dumps({k: v for k, v in json.loads(text).items() if k != "renamed"})
        text = text.replace('\\"', '"').replace("\\u2019", "'")
        assert not OLD.search(text), path
        # "ILS" in quotation marks, or at the head of a row, would be a method without a surname.
        named = re.search(r"""["']ILS["'](?!\])""", text)
        assert not named or path.name in ("toy.js", "toy-math.js"), path


def test_every_method_has_a_look() -> None:
    """And no two have the same dashes with the same mark."""
    assert set(NAMES) <= set(LOOKS)
    others = {"sparsemax", "softmax", "the loss alone", "ten lines by hand"}
    assert set(LOOKS) - set(NAMES) == others
    for first, second in combinations(LOOKS, 2):
        one, other = LOOKS[first], LOOKS[second]
        assert (one.dashes, one.mark) != (other.dashes, other.mark), (first, second)
    assert all(one.look is LOOKS[one.name] for one in EVERY)
    # Those that most figures draw have colours of their own.
    drawn = ["ReinMax (default)", "ILS (the note)", "ILS, centred", "ILS, relative step"]
    drawn += ["straight-through", "Gumbel-Softmax", "straight-through Gumbel", "leave-one-out"]
    drawn += ["exact gradient"]
    assert len({LOOKS[name].colour for name in drawn}) == len(drawn)
    # Families have looks, the same in the book and in the explorer, each its own.
    assert list(FAMILY_LOOKS) == list(FAMILIES)
    for attribute in ("colour", "mark", "bokeh", "variable"):
        found = [getattr(look, attribute) for look in FAMILY_LOOKS.values()]
        assert len(set(found)) == len(found)


SHOWN = (
    training.MAIN,
    tuple(fixed_points.FLOWS),
    tuple(toy.ILS_METHODS) + tuple(toy.GUMBEL_METHODS),
    toy.NOTE_SETTINGS,
    quality.METHODS,
    tuple(RULES),
    tuple(EXPERIMENTS["counts"].own),
    tuple(EXPERIMENTS["mixture"].own),
    NAMES,
)


@pytest.mark.parametrize("names", SHOWN, ids=lambda names: names[0])
def test_what_is_shown_together_is_told_apart(names: tuple[str, ...]) -> None:
    """As lines, without colour; settings of one method have its colour."""
    figure, ax = plt.subplots()
    for name, look in looks(names).items():
        ax.plot([0, 1], [0, 1], label=name, **look.line)
    ax.legend()
    assert told_by_colour_alone(figure) == []
    plt.close(figure)


def test_longest_name_wins() -> None:
    """A form is not a setting of what its name begins with."""
    assert method_in("ILS (the note), mass kept, c = 1") == "ILS (the note), mass kept"
    assert method_in("ILS (the note), step 0.1") == "ILS (the note)"
    assert method_in("order 2") == "order"
    assert method_in("ILS") is None
    with pytest.raises(ValueError, match="expected names of methods"):
        looks(["ILS", "ReinMax"])
    # Settings share a colour: the first has the look of the method, the later are darker.
    names = ["Gumbel-Softmax, T = 0.1", "ILS (the note)", "Gumbel-Softmax, T = 1"]
    found = looks(names)
    assert found[names[0]] == LOOKS["Gumbel-Softmax"]
    assert found[names[1]] == LOOKS["ILS (the note)"]
    assert max(found[names[2]].colour) < min(LOOKS["Gumbel-Softmax"].colour)
    assert found[names[2]] not in LOOKS.values()
    # The last is not too pale to be seen, and each has dashes of its own.
    for name in LOOKS:
        settings = list(looks(f"{name}, T = {place}" for place in range(6)).values())
        assert lightness(settings[-1].colour) < 75
        assert len({look.dashes for look in settings}) == 6
