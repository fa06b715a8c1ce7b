"""Open pages of the built site in a headless browser, as the site tests and screenshots do."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"

EXECUTABLES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",  # Chromium's own sandbox does not start as root
    "--disable-gpu",
    # The rest keep Chromium from talking to hosts of its own accord.
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
FIREFOXES = ("firefox-esr", "firefox")
# Playwright's own preferences turn off first runs, updates and telemetry.
PREFERENCES: dict[str, str | float | bool] = {"network.dns.disabled": True}
LOCAL = ("file:", "data:", "blob:", "about:")


@dataclass(frozen=True)
class View:
    """A width of the window in pixels and a theme, ``light`` or ``dark``."""

    width: int
    theme: str

    def __str__(self) -> str:
        return f"{self.width}-{self.theme}"


VIEWS = tuple(itertools.starmap(View, itertools.product((1280, 390), ("light", "dark"))))


@dataclass
class Report:
    """What went wrong in the browser while a page was open."""

    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def toc_documents() -> list[str]:
    """The documents of ``_toc.yml`` in order, without suffix: ``book/index`` and so on."""

    def walk(node: object) -> Iterator[str]:
        if isinstance(node, dict):
            for key, value in node.items():
                if key in ("root", "file"):
                    yield str(Path(value).with_suffix("")) if "." in value else value
                else:
                    yield from walk(value)
        elif isinstance(node, list):
            for item in node:
                yield from walk(item)

    return list(walk(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))))


def find_chromium() -> str | None:
    """The path of an installed Chromium or Chrome, or None."""
    return next(filter(None, map(shutil.which, EXECUTABLES)), None)


@contextmanager
def chromium(executable: str) -> Iterator[Browser]:
    """A headless browser; each has an empty profile of its own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


def find_firefox() -> str | None:
    """The path of an installed Firefox, or None."""
    return next(filter(None, map(shutil.which, FIREFOXES)), None)


@contextmanager
def firefox(executable: str) -> Iterator[Browser]:
    """The same of an unmodified Firefox, which Playwright drives by WebDriver BiDi.

    There it can emulate neither touch nor a wish for less motion.
    """
    with sync_playwright() as playwright:
        browser = playwright.firefox.launch(
            channel="moz-firefox", executable_path=executable, firefox_user_prefs=PREFERENCES
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def window(browser: Browser, view: View) -> Iterator[BrowserContext]:
    """A context of the given width and theme, cut off from the network."""
    context = browser.new_context(
        viewport={"width": view.width, "height": 900}, color_scheme=view.theme, offline=True
    )
    # The theme reads these before it draws; emulating the system's setting does not override
    # a reader's own choice, and the tests must see the very theme that they name. Firefox runs
    # the script on its empty first page too, which has no storage.
    context.add_init_script(
        "if (location.protocol === 'file:') {"
        f"localStorage.setItem('mode', '{view.theme}');"
        f"localStorage.setItem('theme', '{view.theme}');"
        "}"
    )
    try:
        yield context
    finally:
        context.close()


def show(page: Page, view: View) -> None:
    """An open page at another width and in another theme, set as the theme's own switch sets it."""
    page.add_style_tag(content="* { transition: none !important; }")
    page.set_viewport_size({"width": view.width, "height": 900})
    page.evaluate(
        "theme => Object.assign(document.documentElement.dataset, {mode: theme, theme})",
        view.theme,
    )


@contextmanager
def opened(context: BrowserContext, file: Path) -> Iterator[tuple[Page, Report]]:
    """The page of a file, typeset and with its images loaded, and a report on its loading."""
    report = Report()
    page = context.new_page()

    def on_request(url: str) -> None:
        if not url.startswith(LOCAL):
            report.requests.append(url)

    page.on("request", lambda request: on_request(request.url))
    page.on("websocket", lambda socket: report.requests.append(socket.url))
    page.on("pageerror", lambda error: report.errors.append(f"page error: {error}"))
    page.on(
        "console",
        lambda message: message.type == "error" and report.errors.append(message.text),
    )
    try:
        page.goto(file.as_uri(), wait_until="load")
        page.evaluate("() => window.MathJax?.startup?.promise")
        page.evaluate(
            "() => Promise.all([...document.images].map(i => i.decode().catch(() => null)))"
        )
        yield page, report
    finally:
        page.close()
