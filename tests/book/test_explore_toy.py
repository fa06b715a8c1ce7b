"""The toy explorer: its runs and limits are those of the laboratory, on the same noise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from browsers import in_both_browsers
from explorer import SITE, enter, explorer_page, fresh, number
from playwright.sync_api import Browser, Page
from torch import Tensor

from ils import estimators
from ils.draw import inverse_cdf, one_hot
from ils.target import centred_gradient, logits_gradient, probs_gradient
from lab.fixed_points import experiment as fixed_points
from lab.methods.gumbel_limit import gumbel_limit, sobol_gumbel
from lab.problems.toy import Toy, ils_limit, sum_normalize_limit
from lab.toy.simulate import Gumbel, Intermediate

pytestmark = pytest.mark.usefixtures("built_site")

PAGE = SITE / "book" / "explore-toy.html"
EPS = 1e-8
GRADIENTS = {"probs": probs_gradient, "logits": logits_gradient, "centred": centred_gradient}
PEERS = {"straight-through": estimators.straight_through, "ReinMax": estimators.reinmax}


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    yield from explorer_page(browser, PAGE)


@pytest.fixture(autouse=True)
def reset(page: Page) -> None:
    fresh(page)
    press(page, "Reset")  # it runs by itself


class Run:
    """The same experiment by the laboratory: a group of problems, and the noise of the page."""

    def __init__(self, page: Page) -> None:
        self.count = int(page.get_by_label("Problems at once").input_value())
        seed = int(page.get_by_label("Seed").input_value())
        script = "seed => Array.from({length: 50000}, ilsExplorer.random.generator(seed))"
        self.numbers = iter(page.evaluate(script, seed))
        start, weights = self.uniform(self.count, 5), self.uniform(self.count, 5)
        p = weights / weights.sum(-1, keepdim=True)
        self.toy = Toy(p=p.unsqueeze(0), start=start.unsqueeze(0), eps=EPS)
        self.logits = start.clone()
        self.name = page.get_by_label("Method", exact=True).input_value()
        self.rate = number(page, "Learning rate")
        self.temperature = number(page, "Temperature")
        self.step_size = number(page, "Step size α")
        self.keep_mass = page.get_by_label("Way back").input_value() == "keep"
        self.gradient = GRADIENTS[page.get_by_label("Gradient").input_value()]

    def uniform(self, *shape: int) -> Tensor:
        numbers = list(itertools.islice(self.numbers, math.prod(shape)))
        return torch.tensor(numbers, dtype=torch.float64).reshape(shape)

    @property
    def p(self) -> Tensor:
        return self.toy.p[0]

    def update(self) -> Tensor:
        noise: Any = type("Given", (), {})()
        if self.name == "Gumbel-Softmax":
            noise.gumbel = -(-self.uniform(1, self.count, 5).log()).log()
            return Gumbel([self.temperature])(self.logits, self.toy, noise)[0, 0]
        noise.uniform = self.uniform(1, self.count)
        if self.name == "ILS":
            options = {"gradient": self.gradient, "keep_mass": self.keep_mass}
            rule = Intermediate([self.step_size], **options)
            return rule(self.logits.expand(1, 1, -1, -1), self.toy, noise)[0, 0]
        probs = self.logits.softmax(-1)
        z = one_hot(inverse_cdf(probs, noise.uniform[0]), probs).unsqueeze(0)
        found = PEERS[self.name]().formula(self.logits, z, self.loss)[0]
        return found * EPS * self.toy.size

    def loss(self, z: Tensor) -> Tensor:
        return -(self.p * (z + EPS).log()).sum((-1, -2)) / self.toy.size

    def advance(self, steps: int) -> None:
        for _ in range(steps):
            self.logits = self.logits - self.rate * self.update()

    def divergence(self, model: Tensor | None = None) -> float:
        model = self.logits.softmax(-1) if model is None else model
        return float(self.toy.divergence(model.unsqueeze(0)))

    def limit(self) -> Tensor:
        if self.name == "straight-through":
            return fixed_points.straight_through_limit(self.p)
        if self.name == "ReinMax":
            return fixed_points.ascent_limit(self.p)
        if self.name == "Gumbel-Softmax":
            noise = sobol_gumbel(2**12, 5)
            return gumbel_limit(self.p, self.temperature, eps=EPS, noise=noise)[0]
        if not self.keep_mass:
            return sum_normalize_limit(self.p, self.step_size, EPS, self.toy.size)
        return ils_limit(self.toy, step_size=self.step_size, keep_mass=True)[0]


def readings(page: Page) -> list[float]:
    """Step, divergence, divergence at the limit."""
    outputs = page.locator(".readings output").all()
    return [float(output.get_attribute("data-value") or "nan") for output in outputs]


def shown_row(page: Page, name: str) -> list[float]:
    cells = page.locator(f"tr[data-row={name}] td").all()
    return [float(cell.get_attribute("data-value") or "nan") for cell in cells]


def press(page: Page, name: str, times: int = 1) -> None:
    for _ in range(times):
        page.get_by_role("button", name=name, exact=True).click()


SETTINGS = (
    "ILS (the note's code)",
    "ILS (the note), mass kept, c = 1",
    "Gumbel-Softmax",
    "ReinMax (default)",
    "straight-through",
)


@pytest.mark.parametrize("setting", SETTINGS)
def test_steps_and_limit_are_those_of_the_laboratory(page: Page, setting: str) -> None:
    """Problems, draws and steps on the same numbers; the limit of every problem."""
    press(page, setting)
    press(page, "Step", 7)
    run = Run(page)
    run.advance(7)
    step, now, rest = readings(page)
    assert step == 7
    assert now == pytest.approx(run.divergence(), rel=1e-9)
    assert shown_row(page, "truth") == pytest.approx(run.p[0].tolist(), abs=1e-12)
    assert shown_row(page, "model") == pytest.approx(run.logits.softmax(-1)[0].tolist(), rel=1e-9)
    # That of Gumbel-Softmax is computed on another set of noise.
    tolerance = 0.01 if setting == "Gumbel-Softmax" else 1e-6
    assert shown_row(page, "limit") == pytest.approx(run.limit()[0].tolist(), abs=tolerance)
    expected = run.divergence(run.limit())
    assert rest == pytest.approx(
        expected, rel=0.1 if setting == "Gumbel-Softmax" else 1e-6, abs=1e-9
    )


@in_both_browsers
def test_every_control_counts(page: Page) -> None:
    """Rate, step, way back, gradient, seed and number of problems change the run as they should."""
    press(page, "ILS (the note's code)")
    enter(page, "Problems at once", "3")
    enter(page, "Seed", "77")
    page.get_by_label("Way back").select_option("keep")
    page.get_by_label("Gradient").select_option("centred")
    page.get_by_label("Step size α").fill("-62")
    page.get_by_label("Learning rate").fill("-3")
    press(page, "Step", 5)
    run = Run(page)
    assert (run.count, run.keep_mass, run.rate, run.step_size) == (3, True, 0.5, 6.3e-7)
    run.advance(5)
    assert readings(page)[1] == pytest.approx(run.divergence(), rel=1e-9)
    assert readings(page)[2] == pytest.approx(run.divergence(run.limit()), rel=1e-6)
    enter(page, "Problem in the lower picture", "3")
    assert shown_row(page, "model") == pytest.approx(run.logits.softmax(-1)[2].tolist(), rel=1e-9)


@in_both_browsers
def test_run_pause_step_reset(page: Page) -> None:
    """By the keyboard: a run moves, a pause holds, a step is one, a reset repeats the run."""
    first = readings(page)
    go = page.get_by_role("button", name="Run")
    go.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('.readings output').dataset.value > 300")
    page.get_by_role("button", name="Pause").press("Space")
    held = readings(page)
    # A picture that the run had asked for would come before this one.
    page.evaluate("() => new Promise(requestAnimationFrame)")
    assert readings(page) == held
    assert held[0] % 100 == 0
    press(page, "Step")
    assert readings(page)[0] == held[0] + 1
    press(page, "Reset")
    assert readings(page) == first
    # The same seed gives the same run, whatever came before, and however many steps per frame.
    page.get_by_label("Steps per frame").select_option("10")
    go.click()
    page.wait_for_function("document.querySelector('.readings output').dataset.value > 50")
    page.get_by_role("button", name="Pause").click()
    again = readings(page)
    run = Run(page)
    run.advance(int(again[0]))
    assert again[1] == pytest.approx(run.divergence(), rel=1e-6)


def to_the_end(page: Page) -> list[float]:
    page.get_by_label("Steps per frame").select_option("1000")
    page.wait_for_function("document.querySelector('.readings output').dataset.value == 50000")
    page.wait_for_selector("button:text-is('Run')")
    return readings(page)


def test_first_thing_to_try(page: Page) -> None:
    """The note's steps have one limit, and the run settles near it and not at zero."""
    limits = []
    for name, step in (("Step 0.1, as the note", 0.1), ("Step 0.001", 0.001)):
        press(page, name)
        assert number(page, "Step size α") == step
        limits.append(readings(page)[2])
    assert limits[0] == pytest.approx(limits[1], rel=2e-3)
    assert limits[0] > 1e-3
    _, now, rest = to_the_end(page)
    assert 0.3 < now / rest < 3


def test_second_thing_to_try(page: Page) -> None:
    """The mass-keeping step at c = 1 goes to the truth without noise; a larger one does not."""
    press(page, "Draw loses what others gain, c = 1")
    assert readings(page)[2] == 0
    _, now, _ = to_the_end(page)
    assert now < 1e-6
    press(page, "Draw loses what others gain, c = 40")
    assert readings(page)[2] > 1e-4


def test_third_and_fourth_thing_to_try(page: Page) -> None:
    """ReinMax collapses: the divergence rises, one category takes all. Straight-through comes near
    the truth, and leaves it for a limit without some categories; it does not get there."""
    before = readings(page)[1]
    press(page, "ReinMax")
    _, now, rest = to_the_end(page)
    assert now > 5 * before
    assert rest > now
    assert max(shown_row(page, "model")) > 0.99
    press(page, "Straight-through")
    assert page.get_by_label("Method", exact=True).input_value() == "straight-through"
    _, now, limit = to_the_end(page)
    curve = page.evaluate("[...Bokeh.documents[0].get_model_by_name('curve').data.y]")
    assert min(curve) < min(before, now) / 3
    assert now < limit / 3 < rest / 3
    assert min(shown_row(page, "limit")) == 0 < min(shown_row(page, "model"))


@in_both_browsers
def test_a_box_shows_what_is_computed_with(page: Page) -> None:
    """What cannot be served is put right, and the line beside the box says so."""
    box = page.get_by_label("Problems at once")
    note = page.locator(f"#{box.get_attribute('aria-describedby')}")
    for typed, used in (("0", 1), ("-5", 1), ("1e9", 20), ("2.5", 3), ("", 3), ("20", 20)):
        enter(page, "Problems at once", typed)
        assert box.input_value() == str(used)
        press(page, "Step")
        run = Run(page)
        run.advance(1)
        assert run.count == used
        assert readings(page)[1] == pytest.approx(run.divergence(), rel=1e-9)
        served = typed == str(used)
        assert note.is_visible() is not served
        said = f"{used} in place of {typed or 'what was typed'}."
        assert note.inner_text().endswith(said) is not served


@in_both_browsers
def test_there_is_no_problem_beyond_the_last(page: Page) -> None:
    """The problem in the lower picture is one of those that are run, however many these are."""
    box = page.get_by_label("Problem in the lower picture")
    note = page.locator(f"#{box.get_attribute('aria-describedby')}")
    enter(page, "Problem in the lower picture", "7")
    assert box.input_value() == "5"
    assert note.inner_text() == "Whole numbers from 1 to 5: 5 in place of 7."
    enter(page, "Problems at once", "3")
    assert box.input_value() == "3"
    assert note.inner_text() == "Whole numbers from 1 to 3: 3 in place of 5."
    enter(page, "Problem in the lower picture", "2")
    assert not note.is_visible()
    assert shown_row(page, "truth") == pytest.approx(Run(page).p[1].tolist(), abs=1e-12)


def said(page: Page) -> str:
    return page.locator(".summary").inner_text()


@in_both_browsers
def test_it_runs_when_one_arrives(page: Page) -> None:
    """Once it is seen; while it runs no text says that it rests, and at rest all agree."""
    fresh(page)
    page.locator(".explorer").scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('.readings output').dataset.value > 300")
    assert said(page).startswith("Running")
    assert "Running" in (page.locator(".plot").first.get_attribute("aria-label") or "")
    press(page, "Pause")
    step = page.locator(".readings output").first.inner_text()
    assert said(page).startswith(f"After {step} steps")
    assert f"After {step} steps" in (page.locator(".plot").first.get_attribute("aria-label") or "")


@in_both_browsers
def test_the_address_holds_the_state(page: Page) -> None:
    """What is set is in the address, which leads to it; what is wrong in one is put right."""
    page.get_by_label("Method", exact=True).select_option("Gumbel-Softmax")
    page.get_by_label("Temperature").fill("-3")
    enter(page, "Problems at once", "9")
    enter(page, "Problem in the lower picture", "8")
    state = "#method=Gumbel-Softmax&temperature=0.5&problems=9&problem=8"
    page.wait_for_function("state => location.hash === state", arg=state)
    shown = readings(page), shown_row(page, "truth")
    fresh(page, state)
    press(page, "Reset")
    assert (readings(page), shown_row(page, "truth")) == shown
    assert page.get_by_label("Method", exact=True).input_value() == "Gumbel-Softmax"
    page.evaluate("location.hash = '#method=none&step=-1&rate=x&problems=1e9&problem=77'")
    page.wait_for_function("location.hash === '#problems=20&problem=20'")
    assert page.get_by_label("Method", exact=True).input_value() == "ILS"
    assert [number(page, name) for name in ("Step size α", "Learning rate")] == [0.01, 0.01]
    page.evaluate("location.hash = '#four-things-to-try'")
    page.evaluate("() => new Promise(requestAnimationFrame)")
    assert page.get_by_label("Problems at once").input_value() == "20"


def test_less_motion(browser: Browser) -> None:
    """Who asks for less motion starts a run, and sees its end and nothing between."""
    context = browser.new_context(reduced_motion="reduce", offline=True)
    page = context.new_page()
    page.goto(PAGE.as_uri())
    page.wait_for_selector(".explorer[data-ready]")
    page.locator(".explorer").scroll_into_view_if_needed()
    for _ in range(3):
        page.evaluate("() => new Promise(requestAnimationFrame)")
    assert readings(page)[0] == 0
    page.evaluate("""() => {
      globalThis.seen = [];
      const node = document.querySelector('.readings output');
      new MutationObserver(() => seen.push(node.dataset.value)).observe(node, {childList: true});
    }""")
    press(page, "Run")
    page.wait_for_function("document.querySelector('.readings output').dataset.value == 50000")
    assert set(page.evaluate("seen")) == {"50000"}
    context.close()
