"""The plane explorer: its points are the records', filters filter, marks and names can be read."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browsers import bring_into_view, in_both_browsers
from explorer import SITE, explorer_page, fresh
from playwright.sync_api import Browser, Page

from lab.bias_variance import plane
from lab.methods.catalogue import FAMILIES, METHODS
from lab.run import records
from tools.browser import ROOT
from tools.explorer import plane_data

pytestmark = pytest.mark.usefixtures("built_site")

PAGE = SITE / "book" / "explore-plane.html"
FAMILY = {method.name: method.family for method in METHODS}
EVALUATIONS = {m.name: lambda setting, m=m: m.make(setting).evaluations for m in METHODS}


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    yield from explorer_page(browser, PAGE)


@pytest.fixture(autouse=True)
def reset(page: Page) -> None:
    fresh(page)


@cache
def table() -> pd.DataFrame:
    folder = ROOT / "book" / "data"
    names = ("quality-pathwise", "quality-score")
    return pd.concat([records.read(name, folder=folder).table for name in names])


@cache
def given() -> dict[str, Any]:
    return plane_data()


def shown(page: Page) -> dict[str, tuple[float, float]]:
    """Bias and noise of the methods in the list."""
    found = page.locator(".methods label").evaluate_all(
        "labels => labels.map(l => [l.dataset.name, l.querySelector('.measures').dataset])"
    )
    return {name: (float(data["bias"]), float(data["noise"])) for name, data in found}


def drawn(page: Page, source: str = "points") -> int:
    script = "name => Bokeh.documents[0].get_model_by_name(name).data.x.length"
    return page.evaluate(script, source)


def choose(page: Page, kind: str = "all", shape: str = "all", scale: str = "all") -> None:
    page.get_by_label("Loss", exact=True).select_option(kind)
    page.get_by_label("Variables × categories").select_option(shape)
    page.get_by_label("Logits").select_option(scale)


@in_both_browsers
def test_the_whole_plane_is_the_book_s(page: Page) -> None:
    """All methods at their usual settings, as in the notebook; and every setting as a dot."""
    points = plane.points(table())
    usual = plane.defaults(points)
    found = shown(page)
    assert set(found) == set(usual.index)
    for name, row in usual.iterrows():
        # Three digits are handed over.
        assert found[str(name)] == pytest.approx((row["bias"], row["noise"]), rel=6e-3, abs=1e-8)
    assert drawn(page) == len(usual)
    assert drawn(page, "rest") == len(points)


@pytest.mark.parametrize("kind", ["quadratic", "toy"])
@pytest.mark.parametrize("scale", ["all", "peaked"])
def test_filters_of_problems(page: Page, kind: str, scale: str) -> None:
    """Kind, shape and scale choose the cells; a single cell is the record's own row."""
    choose(page, kind, "3 x 4", scale)
    cells = table().xs(kind, level="kind").xs("3 x 4", level="shape")
    if scale != "all":
        cells = cells.xs(scale, level="scale")
    means = cells.groupby(level=["method", "setting"]).mean()
    found = shown(page)
    assert 20 < len(found) < len(METHODS)  # two categories only: ARM and DisARM
    for method in METHODS:
        if method.name in found:
            row = means.loc[(method.name, method.default)]
            noise = row["deviation"] * method.make(method.default).evaluations ** 0.5
            expected = (row["bias"] if abs(row["bias"]) > 1e-9 else 0, noise)
            assert found[method.name] == pytest.approx(expected, rel=6e-3, abs=1e-8)


def pooled(kind: str, shape: str, scale: str) -> pd.DataFrame:
    """The plane for a choice of problems, from the records; as the book has it where it has it."""
    if shape == "all" and (kind == "all" or scale == "all"):
        return plane.points(table(), scale, kind)[["bias", "noise"]]
    cells = table().drop(index="all", level="kind")
    for level, value in (("kind", kind), ("shape", shape), ("scale", scale)):
        if value != "all":
            cells = cells[cells.index.get_level_values(level) == value]
    grouped = cells.groupby(level=["method", "setting"], sort=False)[["bias", "deviation"]]
    # A mean over kinds would be one over the toy.
    found = grouped.median() if kind == "all" else grouped.mean()
    calls = [EVALUATIONS[name](setting) for name, setting in found.index]
    return pd.DataFrame(
        {"bias": found["bias"].clip(lower=0), "noise": found["deviation"] * np.sqrt(calls)}
    )


POINTS = """([kind, shape, scale]) =>
  ilsExplorer.plane.pointsOf(ilsExplorer.given.plane, kind, shape, scale)"""


def test_pooling_and_front(page: Page) -> None:
    """For every choice of problems: the points, and what no other beats of all and of some."""
    plane_of = given()
    for choice in itertools.product(plane_of["kinds"], plane_of["shapes"], plane_of["scales"]):
        points = page.evaluate(POINTS, list(choice))
        index = pd.MultiIndex.from_tuples([(p["name"], p["setting"]) for p in points])
        found = pd.DataFrame(points, index=index)[["bias", "noise"]].astype(float)
        expected = pooled(*choice)
        assert set(found.index) == set(expected.index)
        # Three digits are handed over; in a mean of biases of both signs some cancel.
        error = (found - expected.loc[found.index]).abs()
        assert (error <= 6e-3 * expected.abs().loc[found.index] + 1e-3).all(axis=None), choice
        for hidden in ("none", "score function"):
            kept = found[[FAMILY[name] != hidden for name, _ in found.index]]
            script = "points => ilsExplorer.plane.front(points).map(p => [p.bias, p.noise])"
            rows = [{"bias": b, "noise": n} for b, n in kept.to_numpy().tolist()]
            # Two methods can share a point: ReinMax and ZGR.
            assert page.evaluate(script, rows) == plane.front(kept).to_numpy().tolist()


def test_filters_of_families(page: Page) -> None:
    """Each box takes away its methods, their dots and their part of the front."""
    for family in FAMILIES:
        page.get_by_label(family, exact=True).uncheck()
        found = shown(page)
        assert found
        assert set(found) == {m.name for m in METHODS if m.family != family}
        assert drawn(page) == len(found)
        page.get_by_label(family, exact=True).check()
    for family in FAMILIES:
        page.get_by_label(family, exact=True).uncheck()
    assert not shown(page)
    assert drawn(page) == drawn(page, "rest") == drawn(page, "front") == 0
    page.wait_for_function("document.querySelector('[role=status]').textContent.startsWith('0 of')")


def test_the_dots_can_be_hidden(page: Page) -> None:
    page.get_by_label("all settings").uncheck()
    assert drawn(page, "rest") == 0
    assert drawn(page) == len(METHODS)


def test_axes(page: Page) -> None:
    """Linear to 0.1, logarithmic beyond, continuous, odd."""
    values = page.evaluate(
        "[0, 0.05, 0.1, 0.1 + 1e-9, 1, 10, -0.05].map(ilsExplorer.plane.position)"
    )
    assert values == pytest.approx([0, 0.3, 0.6, 0.6, 1.6, 2.6, -0.3], abs=1e-6)
    choose(page, "toy")
    script = """() => { const axis = Bokeh.documents[0].get_model_by_name('bias axis');
      return [...axis.major_label_overrides.values()]; }"""
    labels = page.evaluate(script)
    assert labels[0] == "0"
    assert "100" in labels


def label(page: Page) -> str | None:
    """The name in the picture, if one is shown; it lies within the frame."""
    found = page.evaluate("""() => {
      const model = Bokeh.documents[0].get_model_by_name('label');
      const {start, end} = Bokeh.documents[0].get_model_by_name('biases');
      const room = Bokeh.documents[0].roots()[0].inner_width;
      const left = (model.x - start) / (end - start) * room + model.x_offset;
      const right = left + ilsExplorer.chart.width(model, model.text);
      return model.visible ? [model.text, left, right, room] : null; }""")
    if found is None:
        return None
    text, left, right, room = found
    assert left >= 0
    assert right <= room
    return text


def place(page: Page, name: str) -> tuple[float, float]:
    """Where the mark of a method is in the window."""
    bring_into_view(page.locator(".plot"))
    x, y = page.evaluate(
        """name => {
      const view = Bokeh.index.roots[0];
      const {frame} = view;
      const data = Bokeh.documents[0].get_model_by_name('points').data;
      const names = [...document.querySelectorAll('.methods label')].map(l => l.dataset.name);
      const k = names.indexOf(name);
      const {left, top} = document.querySelector('.plot').getBoundingClientRect();
      return [left + frame.x_scale.compute(data.x[k]), top + frame.y_scale.compute(data.y[k])];
    }""",
        name,
    )
    return x, y


def by_mouse(page: Page, name: str) -> None:
    x, y = place(page, name)
    page.mouse.move(x - 40, y + 30)
    page.mouse.move(x, y, steps=3)


def by_touch(page: Page, name: str) -> None:
    x, y = place(page, name)
    client = page.context.new_cdp_session(page)
    for kind, points in (("touchStart", [{"x": x, "y": y}]), ("touchEnd", [])):
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def by_list(page: Page, name: str) -> None:
    page.locator(f".methods label[data-name='{name}'] input").focus()


def by_pointer_on_list(page: Page, name: str) -> None:
    page.locator(f".methods label[data-name='{name}']").hover()


def read_methods(page: Page, point_at: Callable[..., None]) -> None:
    assert label(page) is None
    for name in ("ILS (the note)", "REINFORCE", "SPIGOT-EG"):
        point_at(page, name)
        page.wait_for_function(
            "name => Bokeh.documents[0].get_model_by_name('label').text === name", arg=name
        )
        assert label(page) == name
        assert drawn(page, "chosen") == 1
        assert page.locator(".methods label.chosen").get_attribute("data-name") == name
        said = "name => document.querySelector('[role=status]').textContent.startsWith(name + ', ')"
        page.wait_for_function(said, arg=name)


@in_both_browsers
@pytest.mark.parametrize("point_at", [by_mouse, by_list, by_pointer_on_list])
def test_a_method_can_be_read(page: Page, point_at: Callable[..., None]) -> None:
    """Its name stands beside its mark, its numbers in the sentence below."""
    read_methods(page, point_at)


def test_a_method_can_be_read_by_touch(page: Page) -> None:
    """The same; Firefox's driver has no finger."""
    read_methods(page, by_touch)


@in_both_browsers
def test_the_list_is_walked_by_keys(page: Page) -> None:
    """One stop of the tab key, arrows within; what is hidden is no longer chosen."""
    page.get_by_label("all settings").focus()
    page.keyboard.press("Tab")
    first = label(page)
    page.keyboard.press("ArrowDown")
    second = label(page)
    page.keyboard.press("ArrowDown")
    assert [first, second, label(page)] == [m.name for m in METHODS[:3]]
    page.get_by_label(FAMILY[METHODS[2].name], exact=True).uncheck()
    assert label(page) is None
    # One that stays in sight stays chosen, at its new place; no pointer rests on the picture.
    page.mouse.move(0, 0)
    by_list(page, "ILS (the note)")
    before = place(page, "ILS (the note)")
    choose(page, scale="flat")
    assert label(page) == "ILS (the note)"
    assert place(page, "ILS (the note)") != before


# --- what the page tells the reader to try ------------------------------------------------------


def test_first_thing_to_try(page: Page) -> None:
    choose(page, "quadratic")
    assert shown(page)["ReinMax"][0] == 0
    assert shown(page)["straight-through"][0] > 0.1
    choose(page, "linear")
    assert shown(page)["straight-through"] == (0, 0)
    assert shown(page)["ReinMax"][0] == 0


def test_second_thing_to_try(page: Page) -> None:
    found = {}
    for scale in ("flat", "nearly deterministic"):
        choose(page, scale=scale)
        found[scale] = shown(page)
    assert (
        found["nearly deterministic"]["ILS (the note)"][0] > 5 * found["flat"]["ILS (the note)"][0]
    )
    assert found["nearly deterministic"]["ILS, Fisher"][0] < 1.3 * found["flat"]["ILS, Fisher"][0]


def test_third_thing_to_try(page: Page) -> None:
    unbiased = {name for name, (bias, _) in shown(page).items() if bias == 0}
    assert unbiased == {name for name, family in FAMILY.items() if family == "score function"}
    page.get_by_label("score function", exact=True).uncheck()
    found = shown(page)
    least = min(found.values())[0]
    assert found["ReinMax"][0] == least
    said = "front is ReinMax, control variate;"
    page.wait_for_function(
        f"document.querySelector('[role=status]').textContent.includes('{said}')"
    )
    front = """() => {
      const {pointsOf, front} = ilsExplorer.plane;
      const points = pointsOf(ilsExplorer.given.plane, 'all', 'all', 'all');
      return front(points.filter(p => p.family !== 4))[0]; }"""
    left = page.evaluate(front)
    assert left["name"] == "Gumbel-Softmax"
    assert left["setting"] < 1
    assert left["noise"] > found["ReinMax"][1]
