"""Copy a browser library out of the installed package that carries it.

Usage: ``python tools/vendor.py FILE``, a path that ends in one of the names below.

The site must show its equations and plots from file:// with the network off, so these cannot come
from a content delivery network; and a third party's minified code does not belong in the
repository. Of the 24 MB of ``sphinx-mathjax-offline`` the site needs one file: it draws SVG and so
asks for no fonts.
"""

from __future__ import annotations

import shutil
import sys
from importlib.metadata import files
from pathlib import Path

CARRIERS = {"tex-svg-full.js": "sphinx-mathjax-offline", "bokeh.min.js": "bokeh"}


def main(target: Path) -> None:
    package = CARRIERS[target.name]
    found = [file for file in files(package) or () if file.name == target.name]
    if len(found) != 1:
        sys.exit(f"expected one {target.name} in {package}, found {len(found)}")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(str(found[0].locate()), target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
