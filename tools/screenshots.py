"""Write a full-page picture of each page of the built site, at each width and theme.

Usage: ``python tools/screenshots.py FOLDER [DOCUMENT ...]``, documents as in ``_toc.yml``.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Run as a script, this file has its own folder on the path and not the root.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.browser import SITE, VIEWS, chromium, find_chromium, opened, toc_documents, window


def main(folder: Path, documents: list[str]) -> None:
    executable = find_chromium()
    if executable is None:
        sys.exit("no Chromium found: install the package chromium, or Google Chrome")
    folder.mkdir(parents=True, exist_ok=True)
    with chromium(executable) as browser:
        for view in VIEWS:
            with window(browser, view) as context:
                for document in documents:
                    target = folder / f"{document.replace('/', '-')}-{view}.png"
                    with opened(context, SITE / f"{document}.html") as (page, _):
                        page.screenshot(path=target, full_page=True)
                    print(target)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2:] or toc_documents())
