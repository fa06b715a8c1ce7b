"""The simplex explorer: what the hand does changes what is shown to what ``ils`` says."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from browsers import bring_into_view, in_both_browsers
from explorer import SITE, explorer_page, fresh, number, shown_numbers
from playwright.sync_api import Browser, Page
from rules import rule_of
from torch import Tensor

import ils
from ils import estimators, exact
from ils.metric import euclidean, fisher
from tools.browser import View, opened, window

pytestmark = pytest.mark.usefixtures("built_site")

PAGE = SITE / "book" / "explore-simplex.html"
NORMALIZERS = {
    "sum_normalize": ils.sum_normalize,
    "sum_normalize_unclamped": ils.sum_normalize_unclamped,
    "project_simplex": ils.project_simplex,
}
METRICS = {"euclidean": euclidean, "fisher": fisher}
CORNERS = torch.eye(3, dtype=torch.float64)
CATEGORIES = [f"Probability of category {k}" for k in (1, 2, 3)]
PI = "[role=slider][aria-label^='Distribution']"
TURN = "[role=slider][aria-label^='Direction']"


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    yield from explorer_page(browser, PAGE)


@pytest.fixture(autouse=True)
def reset(page: Page) -> None:
    fresh(page)


class State:
    """What the controls of the page say."""

    def __init__(self, page: Page) -> None:
        self.probs = torch.tensor([number(page, name) for name in CATEGORIES], dtype=torch.float64)
        self.logits = self.probs.log()
        angle = math.radians(number(page, "Direction in which the loss falls"))
        size = number(page, "Size of its gradient")
        x, y = -size * math.cos(angle), -size * math.sin(angle)
        third = y / (math.sqrt(3) / 2)
        second = x - third / 2
        self.weights = torch.tensor([-second - third, second, third], dtype=torch.float64)
        curved = page.get_by_label("Loss", exact=True).input_value() == "quadratic"
        self.curvature = number(page, "Curvature") if curved else 0.0
        self.temperature = number(page, "Temperature")
        ticked = {
            name: page.get_by_label(label, exact=True).is_checked()
            for name, label in (
                ("limit", "limit of small steps"),
                ("centred", "centred"),
                ("relative", "relative step"),
                ("keep_mass", "keep the mass"),
            )
        }
        self.step_size = None if ticked.pop("limit") else number(page, "Step size")
        self.rule: dict[str, Any] = ticked | {
            "step_size": self.step_size,
            "metric": METRICS[page.get_by_label("Metric").input_value()],
            "normalizer": NORMALIZERS[page.get_by_label("Normaliser").input_value()],
        }

    def loss(self, q: Tensor) -> Tensor:
        return (self.weights * q).sum(-1) + self.curvature * ((q**2).sum(-1) - 1) / 2

    def moments(self, estimates: Tensor) -> list[float]:
        """The row of the table, from the estimates after each draw."""
        gradient = exact.gradient(self.loss, self.logits)
        mean = self.probs @ estimates
        variance = float(self.probs @ ((estimates - mean) ** 2).sum(-1))
        length = float(gradient.norm())
        cosine = float(mean @ gradient) / length / float(mean.norm())
        bias = float((mean - gradient).norm()) / length
        return [*mean.tolist(), bias, math.sqrt(variance) / length, cosine]

    def rows(self) -> dict[str, list[float]]:
        """The table by the package; Gumbel-Softmax is left out, which is a mean over noise."""
        updates, through, second = [], [], []
        for z in CORNERS:
            logits = self.logits.clone().requires_grad_()
            self.loss(ils.differentiable_draw(logits, z, rule=rule_of(self.rule))).backward()
            assert logits.grad is not None
            relative = self.rule["relative"] or self.step_size is None
            updates.append(logits.grad / (1 if relative else self.step_size))
            one = z.unsqueeze(0)
            through.append(estimators.straight_through().formula(self.logits, one, self.loss)[0])
            second.append(estimators.reinmax().formula(self.logits, one, self.loss)[0])
        return {
            "exact": exact.gradient(self.loss, self.logits).tolist(),
            "ils": self.moments(torch.stack(updates)),
            "through": self.moments(torch.stack(through)),
            "reinmax": self.moments(torch.stack(second)),
        }

    def targets(self) -> list[list[float]] | None:
        if self.step_size is None:
            return None
        found = []
        for z in CORNERS:
            grad = self.weights + self.curvature * z
            options = {k: self.rule[k] for k in ("metric", "normalizer", "keep_mass")}
            step = self.step_size
            if self.rule["relative"]:
                delta = ils.target.direction(z, grad, probs=self.probs, **options)
                step = step / float(delta.abs().max())
            target = ils.target.intermediate_target(
                z, grad, probs=self.probs, step_size=step, **options
            )
            found.append(target.tolist())
        return found


def shown_targets(page: Page) -> list[list[float]] | None:
    found = [
        json.loads(x.get_attribute("data-value") or "")
        for x in page.locator(".targets output").all()
    ]
    return None if found[0] is None else found


def hold_against_package(page: Page) -> State:
    """Every number that is shown is that of the package at the settings that are shown."""
    state = State(page)
    for method, expected in state.rows().items():
        found = shown_numbers(page, method)
        assert found == pytest.approx(expected, abs=1e-8), method
    targets, expected_targets = shown_targets(page), state.targets()
    assert (targets is None) == (expected_targets is None)
    for left, right in zip(targets or [], expected_targets or [], strict=True):
        assert left == pytest.approx(right, abs=1e-8)
    return state


def middle(page: Page, handle: str) -> tuple[float, float]:
    bring_into_view(page.locator(handle))
    box = page.locator(f"{handle} .ring").bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def by_mouse(page: Page, handle: str, dx: float, dy: float) -> None:
    x, y = middle(page, handle)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx / 2, y + dy / 2)
    page.mouse.move(x + dx, y + dy)
    page.mouse.up()
    # Let go; beyond the window Firefox's driver does not move.
    page.mouse.move(max(x + 3 * dx, 0), min(max(y + 3 * dy, 0), 899))


def by_touch(page: Page, handle: str, dx: float, dy: float) -> None:
    x, y = middle(page, handle)
    client = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        touches = [{"x": a, "y": b} for a, b in points]
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    touch("touchStart", (x, y))
    touch("touchMove", (x + dx / 2, y + dy / 2))
    touch("touchMove", (x + dx, y + dy))
    touch("touchEnd")


def by_key(page: Page, handle: str, dx: float, dy: float) -> None:
    page.locator(handle).focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight" if dx > 0 else "ArrowLeft")
        page.keyboard.press("ArrowUp" if dy < 0 else "ArrowDown")
    page.keyboard.press("Shift+ArrowUp" if dy < 0 else "Shift+ArrowDown")


def move_both(page: Page, move: Callable[..., None]) -> None:
    before = hold_against_package(page)
    move(page, PI, 30, -25)
    moved = hold_against_package(page)
    assert (moved.probs - before.probs).abs().max() > 0.02
    assert moved.probs[2] > before.probs[2]  # upwards is towards category 3
    assert torch.equal(moved.weights, before.weights)
    middle(page, TURN)
    scrolled = page.evaluate("scrollY")
    move(page, TURN, 12, 10)
    turned = hold_against_package(page)
    assert (turned.weights - moved.weights).abs().max() > 0.02
    assert torch.equal(turned.probs, moved.probs)
    assert page.evaluate("scrollY") == scrolled
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("Direc")


@in_both_browsers
@pytest.mark.parametrize("move", [by_mouse, by_key])
def test_a_handle_moves_what_is_shown(page: Page, move: Callable[..., None]) -> None:
    """The distribution and the loss; the page does not scroll."""
    move_both(page, move)


def test_a_handle_moves_by_touch(page: Page) -> None:
    """The same; Firefox's driver has no finger."""
    move_both(page, by_touch)


def test_a_distribution_stays_in_the_triangle(page: Page) -> None:
    by_mouse(page, PI, -400, 300)
    probs = hold_against_package(page).probs
    assert probs.min() > 0
    assert probs[0] > 0.9
    page.locator(PI).press("Home")
    assert State(page).probs.tolist() == pytest.approx([1 / 3] * 3)


@in_both_browsers
def test_focus_is_seen(page: Page) -> None:
    width = 'getComputedStyle(document.querySelector("[role=slider] .ring")).strokeWidth'
    before = page.evaluate(width)
    page.locator("[role=slider]").first.focus()
    assert page.evaluate(width) != before


def set_slider(page: Page, label: str, value: str) -> None:
    page.get_by_label(label, exact=True).fill(value)


def test_controls_change_what_is_shown(page: Page) -> None:
    """Each control in turn, and each rule that is offered."""
    seen = [shown_numbers(page, "ils")]

    def changed() -> None:
        hold_against_package(page)
        found = shown_numbers(page, "ils")
        assert found != seen[-1]
        seen.append(found)

    changes: list[Callable[[], Any]] = [
        lambda: set_slider(page, "Step size", "3"),
        lambda: page.get_by_label("Metric").select_option("fisher"),
        lambda: page.get_by_label("Normaliser").select_option("project_simplex"),
        lambda: page.get_by_label("Normaliser").select_option("sum_normalize_unclamped"),
        lambda: page.get_by_label("centred").check(),
        lambda: page.get_by_label("relative step").check(),
        lambda: page.get_by_label("keep the mass").check(),
        lambda: page.get_by_label("Normaliser").select_option("sum_normalize"),
        lambda: page.get_by_label("centred").uncheck(),
        lambda: page.get_by_label("limit of small steps").check(),
        lambda: page.get_by_label("Metric").select_option("euclidean"),
        lambda: set_slider(page, "Curvature", "-2"),
        lambda: set_slider(page, "Direction in which the loss falls", "200"),
        lambda: set_slider(page, "Size of its gradient", "1.7"),
        lambda: set_slider(page, CATEGORIES[1], "0.7"),
        lambda: page.get_by_label("Loss", exact=True).select_option("linear"),
    ]
    for change in changes:
        change()
        changed()
    for rule in page.locator(".buttons button").all():
        rule.click()
        changed()


def test_rules_that_are_refused_cannot_be_chosen(page: Page) -> None:
    """Those of ``ils.sample``: a relative step is centred, the limit has no projection."""
    page.get_by_label("centred").uncheck()
    assert page.get_by_label("relative step").is_disabled()
    page.get_by_label("Normaliser").select_option("project_simplex")
    page.get_by_label("limit of small steps").check()
    assert page.get_by_label("Normaliser").is_disabled()
    hold_against_package(page)


def test_the_mean_of_gumbel_softmax(page: Page) -> None:
    """Over the fixed noise, against a million draws: within 0.01 of the gradient's length."""
    state = State(page)
    for temperature in ("-3", "0", "5"):
        set_slider(page, "Temperature", temperature)
        state = State(page)
        estimator = estimators.gumbel_softmax(temperature=state.temperature)
        generator = torch.Generator().manual_seed(1)
        rows = estimator(state.logits, state.loss, draws=300_000, generator=generator)
        found = torch.tensor(shown_numbers(page, "gumbel"), dtype=torch.float64)
        error = 5 * rows.std(0) / math.sqrt(len(rows))
        gradient = exact.gradient(state.loss, state.logits).norm()
        assert float(error.max() / gradient) < 0.05
        assert ((found[:3] - rows.mean(0)).abs() < error + 0.01 * gradient).all()


# --- what the page tells the reader to try ----------------------------------------------------


def rule(page: Page, name: str) -> None:
    page.locator("#explore-simplex").get_by_role("button", name=name).click()


def test_first_thing_to_try(page: Page) -> None:
    """The default has no bias anywhere, straight-through none for the linear loss only."""
    rule(page, "ReinMax (default)")
    for dx, dy in ((20, -40), (-50, 20), (60, 30), (-10, -60)):
        by_mouse(page, PI, dx, dy)
        for loss in ("quadratic", "linear"):
            page.get_by_label("Loss", exact=True).select_option(loss)
            assert shown_numbers(page, "ils")[3] < 1e-9
            assert shown_numbers(page, "reinmax")[3] < 1e-9
            assert (shown_numbers(page, "through")[3] < 1e-9) == (loss == "linear")


def test_second_thing_to_try(page: Page) -> None:
    """Of the note's rule a shorter step takes away no bias; the noise grows unless centred."""
    rule(page, "ILS (the note)")
    biases, noises = [], []
    for step in ("-10", "-20"):
        set_slider(page, "Step size", step)
        biases.append(shown_numbers(page, "ils")[3])
        noises.append(shown_numbers(page, "ils")[4])
    assert biases[1] > 0.9 * biases[0] > 0.5
    assert noises[1] > 8 * noises[0]
    page.get_by_label("centred").check()
    centred = shown_numbers(page, "ils")[4]
    assert centred < noises[1] / 10
    set_slider(page, "Step size", "-10")
    assert shown_numbers(page, "ils")[4] == pytest.approx(centred, rel=0.3)


def test_third_thing_to_try(page: Page) -> None:
    """Unclamped, only the worst category's target stays in the triangle, whatever the step."""
    rule(page, "ILS (the note)")
    page.get_by_label("Loss", exact=True).select_option("linear")
    for normalizer, outside in (
        ("sum_normalize_unclamped", 2),
        ("sum_normalize", 0),
        ("project_simplex", 0),
    ):
        page.get_by_label("Normaliser").select_option(normalizer)
        for step in ("-20", "-10", "0", "10", "20"):
            set_slider(page, "Step size", step)
            targets = torch.tensor(shown_targets(page))
            left = targets.amin(-1) < -1e-9
            assert int(left.sum()) == outside
            assert page.locator(".targets li", has_text="outside").count() == outside
            if outside:
                assert not left[State(page).weights.argmax()]
    page.get_by_label("Normaliser").select_option("sum_normalize_unclamped")
    page.wait_for_function(
        "document.querySelector('[role=status]').textContent.includes('outside the triangle: 2')"
    )


@in_both_browsers
def test_the_triangle_stays_in_sight_on_a_phone(browser: Browser) -> None:
    with window(browser, View(390, "light")) as context, opened(context, PAGE) as (page, _):
        page.wait_for_selector(".explorer[data-ready]")
        last = page.locator(".explorer fieldset").last
        last.evaluate("box => box.scrollIntoView({block: 'end', behavior: 'instant'})")
        box, size = page.locator("svg.stage").bounding_box(), page.viewport_size
        assert box is not None
        assert size is not None
        assert 0 <= box["y"] < box["y"] + box["height"] < 0.6 * size["height"]
