"""The links that lead out of the built site; ``--check`` asks each whether it is there.

Usage: ``python tools/links.py [--check]``, or ``make links`` and ``make links CHECK=1``.  Nothing
else asks the network: not the build, not the tests, not the pages.
"""

from __future__ import annotations

import argparse
import sys
import urllib.error
import urllib.request
from collections import defaultdict
from pathlib import Path

from bs4 import BeautifulSoup

# Run as a script, this file has its own folder on the path and not the root.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.browser import SITE

__all__ = ["external", "problem"]

_SECONDS = 20
_AGENT = "Mozilla/5.0 (link check)"  # some sites answer nobody else


def external(site: Path) -> dict[str, list[str]]:
    """Each address outside of a site, with the pages that link to it."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted(site.rglob("*.html")):
        page = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for link in page.select("a[href^=http]"):
            found[str(link["href"])].add(path.relative_to(site).as_posix())
    return {address: sorted(pages) for address, pages in sorted(found.items())}


def problem(address: str) -> str:
    """What is wrong with an address, or nothing."""
    try:
        request = urllib.request.Request(address, headers={"User-Agent": _AGENT})
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            return "" if answer.status < 400 else f"status {answer.status}"
    except (urllib.error.URLError, OSError, ValueError) as error:
        return str(error)


def main() -> None:
    """List the links, or check them; the exit status is 1 if one is broken."""
    parser = argparse.ArgumentParser(description="Links that lead out of the built site.")
    parser.add_argument("--check", action="store_true", help="ask each of them")
    check = parser.parse_args().check
    broken = 0
    for address, pages in external(SITE).items():
        wrong = problem(address) if check else ""
        broken += bool(wrong)
        print(f"{address}  ({', '.join(pages)})" + (f"  BROKEN: {wrong}" if wrong else ""))
    sys.exit(min(broken, 1))


if __name__ == "__main__":
    main()
