"""Links that lead out are listed; asking them is left to a command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import links


def test_external_links(tmp_path: Path) -> None:
    """Addresses on the web, each with its pages; those within the site are left out."""
    (tmp_path / "a").mkdir()
    web = '<a href="https://x.org/1">x</a>'
    (tmp_path / "a" / "one.html").write_text(f'{web}<a href="two.html">t</a><a href="#h">h</a>')
    (tmp_path / "two.html").write_text(f'{web}{web}<a href="http://y.org">y</a>')
    assert links.external(tmp_path) == {
        "http://y.org": ["two.html"],
        "https://x.org/1": ["a/one.html", "two.html"],
    }


def test_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is there is fine; one that is not, and what is no address, are told."""
    (tmp_path / "page").write_text("x")
    assert "No such file" in links.problem((tmp_path / "none").as_uri())
    assert "unknown url type" in links.problem("nonsense")

    class Answer:
        status = 404

        def __enter__(self) -> Answer:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: Answer())
    assert links.problem("https://x.org") == "status 404"
    Answer.status = 200
    assert links.problem("https://x.org") == ""
