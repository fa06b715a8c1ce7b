"""One setting decides on the links to the repository and to Binder; empty, nothing is shown."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from jupyter_book.config import yaml_to_sphinx
from sphinx_book_theme import header_buttons
from sphinx_book_theme.header_buttons import launch, source

from _ext.repository_links import with_links
from tools.browser import ROOT

SETTINGS = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))


def buttons(url: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses of the theme's buttons on a notebook's page."""
    settings = {**SETTINGS, "repository": {**SETTINGS["repository"], "url": url}}
    options = with_links(yaml_to_sphinx(settings)[0]["html_theme_options"])
    context: dict[str, Any] = {"header_buttons": [], "page_source_suffix": ".ipynb"}
    context["sourcename"] = "book/speed.ipynb"
    app: Any = SimpleNamespace(env=SimpleNamespace(doc2path=lambda name: f"{name}.ipynb"))
    app.config = type("Config", (dict,), {})({"html_theme_options": options})
    app.config.html_context = context
    for module in (header_buttons, source):
        monkeypatch.setattr(module, "get_theme_options_dict", lambda app: options)
    monkeypatch.setattr(launch, "_is_notebook", lambda app, context: True)
    header_buttons.update_context_with_repository_info(app)
    launch.add_launch_buttons(app, "book/speed", "", context, None)
    source.add_source_buttons(app, "book/speed", "", context, None)
    shown = context["header_buttons"]
    return [b["url"] for button in shown for b in button.get("buttons", [button])]


def test_nothing_is_shown_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    assert buttons("", monkeypatch) == []


def test_the_address_alone_shows_both(monkeypatch: pytest.MonkeyPatch) -> None:
    assert buttons("https://github.com/some/report", monkeypatch) == [
        "https://mybinder.org/v2/gh/some/report/main?urlpath=lab/tree/book/speed.ipynb",
        "https://github.com/some/report",
    ]


def test_no_other_setting_decides() -> None:
    """Buttons are named nowhere else, so that the address cannot be filled in halfway."""
    assert "launch_buttons" not in SETTINGS
    assert not [key for key in SETTINGS["html"] if key.endswith("_button")]
