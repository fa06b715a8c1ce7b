"""Sphinx: links to the repository and to Binder, once ``url`` in ``_config.yml`` names one."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

__all__ = ["setup", "with_links"]

BINDER = {"notebook_interface": "jupyterlab", "binderhub_url": "https://mybinder.org"}


def with_links(options: dict[str, Any]) -> dict[str, Any]:
    """The options of the theme: both links with an address, neither without."""
    named = bool(options.get("repository_url"))
    return {
        **options,
        "use_repository_button": named,
        "launch_buttons": dict(BINDER) if named else {},
    }


def decide(app: Sphinx, config: Config) -> None:
    config.html_theme_options = with_links(config.html_theme_options)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("config-inited", decide)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
