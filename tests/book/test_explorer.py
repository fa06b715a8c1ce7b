"""The formulas of the explorer, evaluated in Chromium, against the package's."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from playwright.sync_api import Browser, Page
from rules import rule_of
from torch import Tensor

import ils
from ils import estimators, exact
from ils.draw import inverse_cdf
from ils.estimators import Estimator
from ils.metric import euclidean, fisher
from ils.relaxation import relaxed_sample, relaxed_sample_vjp, softmax_vjp
from ils.target import (
    centred_gradient,
    direction,
    intermediate_target,
    logits_gradient,
    probs_gradient,
)
from lab.fixed_points import experiment as fixed_points
from lab.methods.gumbel_limit import gumbel_limit
from lab.problems.toy import Toy, ils_limit, sum_normalize_limit
from lab.toy.simulate import Gumbel, Intermediate
from tools.browser import ROOT

ASSETS = ROOT / "book" / "assets" / "explorer"
SCRIPTS = ("math.js", "random.js", "toy-math.js")
INPUTS = 200
TOLERANCE = 1e-10
EPS = 1e-8
NORMALIZERS = {
    "sum_normalize": ils.sum_normalize,
    "sum_normalize_unclamped": ils.sum_normalize_unclamped,
    "project_simplex": ils.project_simplex,
}
METRICS = {"euclidean": euclidean, "fisher": fisher}
GRADIENTS = {"logits": logits_gradient, "centred": centred_gradient, "probs": probs_gradient}


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """An empty page with the formulas alone."""
    opened = browser.new_page()
    opened.set_content("<title>formulas</title>")
    for name in SCRIPTS:
        opened.add_script_tag(path=ASSETS / name)
    # Handed over once: most of the time would go into it.
    opened.evaluate("cases => { globalThis.cases = cases; }", [case.passed() for case in CASES])
    yield opened
    opened.close()


class Case:
    """One random input: logits, gradient, draw and options, three to six categories."""

    def __init__(self, seed: int, categories: int | None = None) -> None:
        self.seed = seed
        picks = random.Random(seed)
        self.categories = categories or picks.randint(3, 6)
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        self.logits = 1.5 * normal(self.categories)
        self.probs = self.logits.softmax(-1)
        self.grad = 2 * normal(self.categories)
        self.at = picks.randrange(self.categories)
        self.z = torch.eye(self.categories, dtype=torch.float64)[self.at]
        self.noise = -(-torch.rand(40, self.categories, generator=generator).double().log()).log()
        self.uniform = picks.random()
        self.p = normal(self.categories).softmax(-1)
        self.step_size = 10 ** picks.uniform(-4, 1)
        self.temperature = 10 ** picks.uniform(-0.7, 0.7)
        self.curvature = picks.uniform(-3, 3)
        self.size = 5 * self.categories
        self.normalizer = picks.choice(list(NORMALIZERS))
        self.metric = picks.choice(list(METRICS))
        self.keep_mass = picks.random() < 0.5
        self.gradient = picks.choice(list(GRADIENTS))
        self.centred = picks.random() < 0.7
        self.relative = self.centred and picks.random() < 0.6
        self.rule_step: float | None = self.step_size
        if picks.random() < 0.3:  # the limit of small steps, which takes a metric alone
            self.rule_step, self.normalizer, self.keep_mass = None, "sum_normalize", False
            self.centred = self.relative = True

    @property
    def options(self) -> dict[str, Any]:
        """Those of the target in Python."""
        return {
            "normalizer": NORMALIZERS[self.normalizer],
            "metric": METRICS[self.metric],
            "keep_mass": self.keep_mass,
        }

    @property
    def rule(self) -> dict[str, Any]:
        """Those of ``ils.sample`` in Python."""
        return self.options | {
            "step_size": self.rule_step,
            "centred": self.centred,
            "relative": self.relative,
        }

    def passed(self) -> dict[str, Any]:
        """The same for JavaScript."""
        all_of = {k: v.tolist() if isinstance(v, Tensor) else v for k, v in vars(self).items()}
        rule = {k: all_of[k] for k in ("normalizer", "metric", "centred", "relative")}
        return all_of | {"rule": rule | {"stepSize": self.rule_step, "keepMass": self.keep_mass}}


CASES = [Case(seed) for seed in range(INPUTS)]


def compare(
    page: Page,
    script: str,
    expected: list[Tensor],
    tolerance: float = TOLERANCE,
    cases: list[Case] = CASES,
) -> None:
    """Evaluate ``(c, math, toy) => script`` on every case; relative above 1, absolute below."""
    names = "const math = ilsExplorer.math, toy = ilsExplorer.toyMath;"
    call = f"seeds => seeds.map(seed => {{ const c = cases[seed]; {names} return {script}; }})"
    found = page.evaluate(call, [case.seed for case in cases])
    assert len(found) == len(expected) == len(cases)
    for number, (left, right) in enumerate(zip(found, expected, strict=True)):
        left = torch.tensor(left, dtype=torch.float64)
        assert left.shape == right.shape
        worst = (left - right).abs() / right.abs().clamp(min=1)
        assert bool((worst <= tolerance).all()), f"input {number}: {left} for {right}"


def quadratic(case: Case) -> exact.Loss:
    """The explorer's loss, ``<w, q> + curvature (|q|^2 - 1) / 2``, with the gradient as ``w``."""
    return lambda q: (case.grad * q).sum(-1) + case.curvature * ((q**2).sum(-1) - 1) / 2


def slope(case: Case, q: Tensor) -> Tensor:
    return case.grad + case.curvature * q


def test_softmax(page: Page) -> None:
    compare(page, "math.softmax(c.logits)", [c.probs for c in CASES])
    compare(page, "math.softmaxVjp(c.probs, c.grad)", [softmax_vjp(c.probs, c.grad) for c in CASES])


@pytest.mark.parametrize("name", NORMALIZERS)
def test_normalizers(page: Page, name: str) -> None:
    """The map at points on and off the simplex, and its transposed Jacobian at a draw."""
    normalizer = NORMALIZERS[name]
    points = [c.z - c.step_size * c.grad for c in CASES]
    # A sum near zero magnifies rounding without bound; clamped, a row needs a positive entry.
    safe = [
        c
        for c, x in zip(CASES, points, strict=True)
        if abs(float(x.sum())) > 1e-3 and float(x.max()) > 0
    ]
    assert len(safe) > 150
    expected = [normalizer(c.z - c.step_size * c.grad) for c in safe]
    at = "math.subtract(c.z, math.scale(c.grad, c.step_size))"
    compare(page, f"math.normalizers.{name}.h({at})", expected, cases=safe)
    pulled = [ils.simplex.pullback(normalizer, c.z, c.grad) for c in CASES]
    compare(page, f"math.normalizers.{name}.pullback(c.at, c.grad)", pulled)


def test_targets(page: Page) -> None:
    steps = [direction(c.z, c.grad, probs=c.probs, **c.options) for c in CASES]
    compare(page, "math.direction(c.at, c.grad, c.probs, c.rule)", steps)
    expected = [
        intermediate_target(c.z, c.grad, step_size=c.step_size, probs=c.probs, **c.options)
        for c in CASES
    ]
    script = "math.intermediateTarget(c.at, c.grad, c.probs, c.rule, c.step_size)"
    # Unclamped, the sum can be near zero.
    compare(page, script, expected, 1e-8)


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_of_the_intermediate_loss(page: Page, name: str) -> None:
    expected = [GRADIENTS[name](c.p, c.probs, c.z) for c in CASES]
    compare(page, f"math.gradients.{name}(c.p, c.probs, c.at)", expected)


def handed_back(case: Case, **rule: Any) -> Tensor:
    logits = case.logits.clone().requires_grad_()
    (ils.differentiable_draw(logits, case.z, **rule) * case.grad).sum().backward()
    assert logits.grad is not None
    return logits.grad


def test_sample(page: Page) -> None:
    """The gradient of ``ils.sample`` for every kind of options, its default among them."""
    kinds = {tuple(map(str, c.rule.values())) for c in CASES}
    assert len(kinds) > 30
    expected = [handed_back(c, rule=rule_of(c.rule)) for c in CASES]
    compare(page, "math.sampleGradient(c.rule, c.grad, c.at, c.probs)", expected, 1e-8)
    default = [handed_back(c) for c in CASES]
    compare(page, "math.sampleGradient(math.DEFAULT, c.grad, c.at, c.probs)", default)


def test_sample_is_the_draw_less_its_target(page: Page) -> None:
    """Where a rule has a target, the gradient is what the target says."""
    with_step = [c for c in CASES if c.rule_step is not None and c.centred and not c.relative]
    assert len(with_step) > 20
    script = "math.subtract(c.z, math.sampleTarget(c.rule, c.grad, c.at, c.probs))"
    found = [handed_back(c, rule=rule_of(c.rule)) for c in with_step]
    compare(page, script, found, 1e-8, with_step)
    without = [c for c in CASES if c.rule_step is None]
    script = "seeds => seeds.every(s => ilsExplorer.math.sampleTarget(cases[s].rule) === null)"
    assert page.evaluate(script, [c.seed for c in without])


def test_losses(page: Page) -> None:
    expected = [quadratic(c)(c.p) for c in CASES]
    compare(page, "math.loss(c.grad, c.curvature, c.p)", expected)
    compare(page, "math.lossGradient(c.grad, c.curvature, c.p)", [slope(c, c.p) for c in CASES])
    # The curvature changes nothing at a corner.
    compare(page, "math.loss(c.grad, c.curvature, c.z)", [c.grad[c.at] for c in CASES])
    expected = [exact.gradient(quadratic(c), c.logits) for c in CASES]
    compare(page, "math.exactGradient(c.probs, c.grad)", expected)


PEERS = {
    "straightThrough(c.probs, g)": estimators.straight_through(),
    "reinmax(c.probs, g, at)": estimators.reinmax(),
    "sampleGradient(math.DEFAULT, g, at, c.probs)": estimators.reinmax(),
}


@pytest.mark.parametrize("call", PEERS)
def test_expectations(page: Page, call: str) -> None:
    """Mean and variance over all draws, with the derivative at each draw."""
    estimates = (
        "c.probs.map((_, at) => { const z = math.oneHot(at, c.probs.length);"
        f" const g = math.lossGradient(c.grad, c.curvature, z); return math.{call}; }})"
    )
    found = [exact.moments(PEERS[call], quadratic(c), c.logits) for c in CASES]
    means, variances = [m.mean for m in found], [m.variance for m in found]
    compare(page, f"math.moments(c.probs, {estimates}).mean", means)
    compare(page, f"math.moments(c.probs, {estimates}).variance", variances)


def test_gumbel_softmax(page: Page) -> None:
    """At each of a set of noise."""
    found = []
    for c in CASES:
        y = relaxed_sample(c.logits, c.noise, c.temperature)
        found.append(relaxed_sample_vjp(y, slope(c, y), c.temperature))
    at = "q => math.lossGradient(c.grad, c.curvature, q)"
    rows = f"c.noise.map(noise => math.gumbelSoftmax(c.logits, noise, c.temperature, {at}))"
    compare(page, rows, found)


def test_the_set_of_noise_stands_for_the_law(page: Page) -> None:
    """Its largest entry falls on each category as often as softmax says; its mean is Euler's."""
    points = page.evaluate("ilsExplorer.random.gumbelPoints(2048, 3)")
    noise = torch.tensor(points, dtype=torch.float64)
    assert noise.shape == (2048, 3)
    assert float((noise.mean(0) - 0.5772156649).abs().max()) < 0.02
    assert float((noise.var(0) - math.pi**2 / 6).abs().max()) < 0.05
    for seed in range(20):
        case = Case(seed, 3)
        shares = torch.bincount((case.logits + noise).argmax(-1), minlength=3) / len(noise)
        # For independent points five standard errors would be 0.055.
        assert float((shares - case.probs).abs().max()) < 0.012


def test_random_numbers(page: Page) -> None:
    """Uniform, decided by the seed, and never 0 or 1."""
    script = "seed => Array.from({length: 20000}, ilsExplorer.random.generator(seed))"
    numbers = torch.tensor(page.evaluate(script, 7), dtype=torch.float64)
    assert page.evaluate(script, 7) == numbers.tolist()
    assert page.evaluate(script, 8) != numbers.tolist()
    assert 0 < float(numbers.min()) < float(numbers.max()) < 1
    # Five standard errors of the mean, and the 1e-6 quantile of Kolmogorov's statistic.
    assert abs(float(numbers.mean()) - 0.5) < 5 / math.sqrt(12 * 20_000)
    ordered = numbers.sort().values
    grid = torch.arange(1, 20_001, dtype=torch.float64) / 20_000
    assert float((ordered - grid).abs().max()) < 2.7 / math.sqrt(20_000)


# --- the toy -------------------------------------------------------------------------------------


class Fixed:
    """The noise of :mod:`lab.toy.simulate`, given."""

    def __init__(self, case: Case) -> None:
        self.uniform = torch.tensor([[case.uniform]], dtype=torch.float64)
        self.gumbel = case.noise[0].reshape(1, 1, -1)


class Sized(Toy):
    """One problem of a group with a size of its own."""

    @property
    def size(self) -> int:
        return 5 * self.p.shape[-1]


def toy(case: Case) -> Sized:
    return Sized(p=case.p.reshape(1, 1, -1), start=case.logits.reshape(1, 1, -1), eps=EPS)


def test_toy_formulas(page: Page) -> None:
    gradients = [toy(c).gradient(c.z).flatten() for c in CASES]
    compare(page, "toy.gradient(c.p, c.z, 1e-8, c.size)", gradients)
    curves = [fixed_points.divergence(c.p, c.probs) for c in CASES]
    compare(page, "toy.divergence(c.p, c.probs, 1e-8)", curves)
    draws = [inverse_cdf(c.probs, torch.tensor(c.uniform)).double() for c in CASES]
    compare(page, "toy.inverseCdf(c.probs, c.uniform)", draws)


def test_toy_steps(page: Page) -> None:
    """One step of gradient descent at given noise, for each method, as the laboratory takes it."""
    call = "toy.step(c.logits, toy.estimate({}, c.p, c.logits, {}, 1e-8, c.size), 0.3)"

    def hold(method: str, noise: str, update: Callable[[Case], Tensor]) -> None:
        expected = [case.logits - 0.3 * update(case).flatten() for case in CASES]
        compare(page, call.format(method, noise), expected)

    def laboratory(rule: Any, case: Case) -> Tensor:
        return rule(toy(case).start.unsqueeze(0), toy(case), Fixed(case))

    def at_draw(estimator: Estimator, case: Case) -> Tensor:
        index = inverse_cdf(case.probs, torch.tensor(case.uniform))
        z = torch.eye(case.categories, dtype=torch.float64)[index]
        loss: exact.Loss = lambda q: -(case.p * (q + EPS).log()).sum(-1) / case.size  # noqa: E731
        return estimator.formula(case.logits, z.unsqueeze(0), loss)

    def intermediate(case: Case) -> Intermediate:
        return Intermediate(
            [case.step_size * 1e-4],
            gradient=GRADIENTS[case.gradient],
            normalizer=ils.sum_normalize,
            keep_mass=case.keep_mass,
        )

    method = (
        "{name: 'ILS', stepSize: c.step_size * 1e-4, gradient: c.gradient,"
        " normalizer: 'sum_normalize', metric: 'euclidean', keepMass: c.rule.keepMass}"
    )
    hold(method, "c.uniform", lambda c: laboratory(intermediate(c), c))
    method = "{name: 'Gumbel-Softmax', temperature: c.temperature}"
    hold(method, "c.noise[0]", lambda c: laboratory(Gumbel([c.temperature]), c))
    for name, one in (
        ("straight-through", estimators.straight_through()),
        ("ReinMax", estimators.reinmax()),
    ):
        hold(f"{{name: '{name}'}}", "c.uniform", lambda c, one=one: at_draw(one, c))


@pytest.mark.parametrize("factor", [0.01, 1.0, 4000.0])
def test_limits_of_ils(page: Page, factor: float) -> None:
    """The closed form, and the stationary distribution of the chain with and without the mass."""
    steps = [factor * EPS * c.size for c in CASES]
    closed = [sum_normalize_limit(c.p, a, EPS, c.size) for c, a in zip(CASES, steps, strict=True)]
    compare(page, f"toy.sumNormalizeLimit(c.p, {factor} * 1e-8 * c.size, 1e-8, c.size)", closed)
    for keep in (False, True):
        chains = [
            ils_limit(toy(c), step_size=a, keep_mass=keep).flatten()
            for c, a in zip(CASES, steps, strict=True)
        ]
        method = (
            f"{{stepSize: {factor} * 1e-8 * c.size, normalizer: 'sum_normalize',"
            f" metric: 'euclidean', keepMass: {str(keep).lower()}}}"
        )
        script = f"toy.stationary(toy.transition({method}, c.p, 1e-8, c.size))"
        compare(page, script, chains, 1e-8)


def test_limits_of_the_peers(page: Page) -> None:
    expected = [fixed_points.straight_through_limit(c.p) for c in CASES]
    assert any(bool((limit == 0).any()) for limit in expected)
    compare(page, "toy.straightThroughLimit(c.p)", expected)
    compare(page, "toy.ascentLimit(c.p)", [fixed_points.ascent_limit(c.p) for c in CASES])


def test_limit_of_gumbel_softmax(page: Page) -> None:
    """On the same noise; with 40 numbers the limit exists for all but extreme temperatures."""
    expected = []
    for case in CASES:
        temperature = max(case.temperature, 0.5)
        model, left = gumbel_limit(
            case.p.unsqueeze(0), temperature, eps=EPS, noise=case.noise, tolerance=1e-11
        )
        assert float(left) < 1e-8
        expected.append(model.flatten())
    script = "toy.gumbelLimit(c.p, Math.max(c.temperature, 0.5), 1e-8, c.noise, 200, 1e-11)"
    compare(page, script, expected, 1e-6)


# --- the looks -----------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb``, as WCAG defines it."""
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(left: str, right: str) -> float:
    low, high = sorted((luminance(left), luminance(right)))
    return (high + 0.05) / (low + 0.05)


def test_colours_can_be_seen() -> None:
    """In both themes text and marks have a contrast of 4.5 on both grounds, lines one of 3."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    text = (ASSETS / "explorer.css").read_text(encoding="utf-8")
    for theme in ("html {", 'html[data-theme="dark"] {'):
        block = text[text.index(theme) :].split("}")[0]
        colours = dict(re.findall(r"--explorer-(\w+): (#\w{6});", block))
        assert len(colours) == 10
        for ground in (colours.pop("ground"), colours.pop("panel")):
            for name, colour in colours.items():
                assert contrast(colour, ground) >= (3 if name == "line" else 4.5), (theme, name)
