"""Write requirements.lock: every package of every extra, pinned, for the oldest Python claimed.

What the extra ``notebook`` adds, JupyterLab for the most part, stands in a file of its own,
requirements-notebook.lock: only ``make lab`` needs it.

Usage: ``python tools/lock.py TORCH_VERSION``, or ``make lock``.

No other resolver is used, on purpose: those tried either wrote paths of the machine into the lock
or took a CUDA build of torch. Installing with pip, torch at a stated version, and freezing the
outcome has neither fault. pip installs into a folder, because only then can it be told to take
what the first patch level of the oldest Python may have: a later one would admit more.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.environment import OLDEST, dotted

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
NOTEBOOK_LOCK = ROOT / "requirements-notebook.lock"
HEADER = """\
# Made by `make lock` for Python {python}; edit pyproject.toml, not this file.
# Each line is what pip froze in an empty folder into which it had installed torch, the
# extras of pyproject.toml and the build backend. Local labels such as +cpu are stripped, because
# the public index does not know them.
"""
NOTEBOOK_HEADER = """\
# Made by `make lock` for Python {python}; edit pyproject.toml, not this file.
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


def install(pip: list[str], folder: Path, python: str, requirements: list[str]) -> list[str]:
    """Install into an empty folder what a Python may have, and tell the pins."""
    command = [*pip, "install", "--quiet", "--no-compile", "--target", str(folder)]
    command += ["--python-version", python, "--only-binary", ":all:", *requirements]
    subprocess.run(command, check=True)
    command = [*pip, "freeze", "--all", "--path", str(folder)]
    frozen = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return frozen_lines(frozen)


def main(torch_version: str) -> None:
    # Markers are those of the Python that runs this: it must be of the same minor version.
    oldest = dotted(OLDEST)
    if sys.version_info[:2] != OLDEST:
        sys.exit(f"the lock is made by the oldest Python: make lock PYTHON=python{oldest}")
    python = f"{oldest}.0"
    with tempfile.TemporaryDirectory() as folder:
        # A pip beside which nothing else is installed.
        venv.create(Path(folder, "pip"), with_pip=True)
        pip = [str(Path(folder, "pip", "bin", "python")), "-m", "pip"]
        requirements = [f"torch=={torch_version}", *direct_requirements()]
        lines = install(pip, Path(folder, "all"), python, requirements)
        # The pins hold for what comes on top of them.
        pins = Path(folder, "pins.txt")
        pins.write_text("\n".join(lines) + "\n")
        requirements = ["--constraint", str(pins), *direct_requirements(notebook=True)]
        more = install(pip, Path(folder, "notebook"), python, requirements)
        added = [line for line in more if line not in lines]
    for path, header, found in ((LOCK, HEADER, lines), (NOTEBOOK_LOCK, NOTEBOOK_HEADER, added)):
        path.write_text(header.format(python=python) + "\n".join(found) + "\n")
        print(f"wrote {path.name}: {len(found)} packages; now make lock-check")


if __name__ == "__main__":
    main(sys.argv[1])
