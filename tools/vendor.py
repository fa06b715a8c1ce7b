"""Copy MathJax out of the installed package ``sphinx-mathjax-offline`` into a folder.

Usage: ``python tools/vendor.py FOLDER``.

The site must show its equations from file:// with the network off, so MathJax cannot come from
a content delivery network; and a third party's minified code does not belong in the repository.
Of the package's 24 MB the site needs one file: it draws SVG and so asks for no fonts.
"""

from __future__ import annotations

import shutil
import sys
from importlib.metadata import files
from pathlib import Path

WANTED = "tex-svg-full.js"


def main(folder: Path) -> None:
    found = [f for f in files("sphinx-mathjax-offline") or () if f.name == WANTED]
    if len(found) != 1:
        sys.exit(f"expected one {WANTED} in sphinx-mathjax-offline, found {len(found)}")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(str(found[0].locate()), folder / WANTED)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
