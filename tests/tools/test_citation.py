"""CITATION.cff and .zenodo.json say the same of the report, and what pyproject.toml says."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
import yaml

from tools.browser import ROOT

CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
DEPOSIT = json.loads((ROOT / ".zenodo.json").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SETTINGS = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))


def disagreements(cited: dict[str, Any], deposit: dict[str, Any]) -> set[str]:
    """The fields in which the files part; a deposit has room for one licence, the code's."""
    authors = [author["name"] for author in cited["authors"]]
    same = {
        "title": cited["title"] == deposit["title"] == SETTINGS["title"],
        "version": str(cited["version"]) == deposit["version"] == PROJECT["version"],
        "creators": authors
        == [creator["name"] for creator in deposit["creators"]]
        == [author["name"] for author in PROJECT["authors"]],
        "license": " AND ".join(cited["license"]) == PROJECT["license"]
        and cited["license"][0] == deposit["license"]
        and all(name in deposit["notes"] for name in cited["license"]),
        "upload_type": cited["type"] == deposit["upload_type"],
        "description": cited["abstract"] == deposit["description"],
        "keywords": cited["keywords"] == deposit["keywords"],
        "related_identifiers": [work["url"] for work in cited["references"]]
        == [work["identifier"] for work in deposit["related_identifiers"]],
    }
    return {field for field, equal in same.items() if not equal}


def test_the_files_agree() -> None:
    assert disagreements(CITATION, DEPOSIT) == set()


@pytest.mark.parametrize("field", sorted(DEPOSIT.keys() - {"access_right", "language", "notes"}))
def test_a_change_of_one_is_noticed(field: str) -> None:
    other = {str: "another", list: []}[type(DEPOSIT[field])]
    assert disagreements(CITATION, DEPOSIT | {field: other}) == {field}
