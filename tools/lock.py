"""Write requirements.lock: every package of every extra, pinned, from a fresh environment.

What the extra ``notebook`` adds, JupyterLab for the most part, stands in a file of its own,
requirements-notebook.lock: only ``make lab`` needs it.

Usage: ``python tools/lock.py TORCH_VERSION``, or ``make lock``.

No other resolver is used, on purpose: those tried either wrote paths of the machine into the lock
or took a CUDA build of torch. Installing with pip, torch at a stated version, and freezing the
outcome has neither fault.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
NOTEBOOK_LOCK = ROOT / "requirements-notebook.lock"
HEADER = """\
# Made by `make lock` on Python {python}; edit pyproject.toml, not this file.
# Each line is what pip froze in a fresh environment that holds torch, the extras of
# pyproject.toml and the build backend. Local labels such as +cpu are stripped, because
# the public index does not know them.
"""
NOTEBOOK_HEADER = """\
# Made by `make lock` on Python {python}; edit pyproject.toml, not this file.
# What the extra `notebook` of pyproject.toml needs beyond requirements.lock: `make lab`
# installs it on first use.
"""


def direct_requirements(*, notebook: bool = False) -> list[str]:
    """The requirements of pyproject.toml: build backend, package and all extras but ``notebook``.

    With ``notebook`` those of that extra alone.

    Read rather than installed with the project, whose build would litter the checkout.
    """
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = settings["project"]
    extras = project["optional-dependencies"]
    own = extras.pop("notebook")
    if notebook:
        return [line for line in own if not line.startswith("ils[")]
    listed = [*settings["build-system"]["requires"], *project["dependencies"]]
    listed += [line for extra in extras.values() for line in extra if not line.startswith("ils[")]
    return listed


def frozen_lines(freeze: str) -> list[str]:
    """The pins of ``pip freeze`` without local labels, and without pip, which is the installer."""
    lines = []
    for line in freeze.splitlines():
        pin = re.fullmatch(r"([A-Za-z0-9._-]+)==([^+\s]+)(\+\S+)?", line.strip())
        if pin and pin[1] != "pip":
            lines.append(f"{pin[1]}=={pin[2]}")
    return sorted(lines, key=str.lower)


def freeze(python: str) -> str:
    """What is installed beside a Python."""
    command = [python, "-m", "pip", "freeze", "--all"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main(torch_version: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder, "bin", "python"))

        # torch is pinned in the same call: --upgrade would otherwise take the newest build.
        # --upgrade is for setuptools, of which the fresh environment may hold an old version.
        requirements = [f"torch=={torch_version}", *direct_requirements()]
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--upgrade", *requirements], check=True
        )
        lines = frozen_lines(freeze(python))
        # The pins hold for what comes on top of them.
        pins = Path(folder, "pins.txt")
        pins.write_text("\n".join(lines) + "\n")
        more = ["--constraint", str(pins), *direct_requirements(notebook=True)]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *more], check=True)
        added = [line for line in frozen_lines(freeze(python)) if line not in lines]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for path, header, found in ((LOCK, HEADER, lines), (NOTEBOOK_LOCK, NOTEBOOK_HEADER, added)):
        path.write_text(header.format(python=version) + "\n".join(found) + "\n")
        print(f"wrote {path.name}: {len(found)} packages")


if __name__ == "__main__":
    main(sys.argv[1])
