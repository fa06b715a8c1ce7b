"""Ask the index that pip uses whether every pin of the locks has a wheel for each claimed target.

Nothing is downloaded but the lists of files: each says for which Python and platform a wheel is,
and which Pythons its package admits, to the patch level. What was found is written into
requirements.checked, with a digest of the locks; tests/tools/test_environment.py reads it, so that
a lock that changed must be checked anew.

Usage: ``python tools/lock_check.py``, or ``make lock-check``. Exit status 1: a pin has no wheel.
"""

from __future__ import annotations

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.environment import GLIBC, MACHINES, MACOS, NEWEST, OLDEST

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("requirements.lock", "requirements-notebook.lock")
RECORD = ROOT / "requirements.checked"
HEADER = """\
# Made by `make lock-check`. Every pin of the two locks has a wheel for each of these targets.
# The last column: what is needed there beyond the pins, of which pip takes the newest.
"""

# The first patch level of each version: what it may install the others may too.
PYTHONS = [f"{OLDEST[0]}.{minor}.0" for minor in range(OLDEST[1], NEWEST[1] + 1)]
LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


def platforms() -> dict[str, tuple[list[str], dict[str, str]]]:
    """For each claimed platform the tags of its wheels and what the markers of packages ask."""
    found = {}
    for machine in MACHINES["Linux"]:
        # aarch64 has wheels since glibc 2.17.
        oldest = 5 if machine == "x86_64" else 17
        names = [f"manylinux_{GLIBC[0]}_{minor}" for minor in range(GLIBC[1], oldest - 1, -1)]
        names += [name for minor, name in LEGACY.items() if minor >= oldest]
        tags = [f"{name}_{machine}" for name in names]
        markers = {"sys_platform": "linux", "platform_system": "Linux"}
        found[f"Linux {machine}"] = (tags, {**markers, "platform_machine": machine})
    for machine in MACHINES["Darwin"]:
        markers = {"sys_platform": "darwin", "platform_system": "Darwin"}
        tags = list(mac_platforms(MACOS, machine))
        found[f"macOS {machine}"] = (tags, {**markers, "platform_machine": machine})
    return found


def supported(python: str, tags: list[str]) -> set[Tag]:
    """The tags of the wheels that a CPython takes."""
    version = Version(python).release[:2]
    abi = f"cp{version[0]}{version[1]}"
    return {*cpython_tags(version, [abi], tags), *compatible_tags(version, abi, tags)}


def pins() -> dict[str, str]:
    lines = [line for lock in LOCKS for line in (ROOT / lock).read_text().splitlines()]
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def wheels(page: dict[str, Any], version: str) -> list[tuple[frozenset[Tag], str, str]]:
    """Tags, the Pythons that are admitted and why it was withdrawn, of a version's wheels."""
    found = []
    for file in page["files"]:
        try:
            _, stated, _, tags = parse_wheel_filename(file["filename"])
        except InvalidWheelFilename:
            continue
        if stated.public == version:
            yanked = file.get("yanked") and f"withdrawn: {file['yanked']}"
            found.append((tags, file.get("requires-python") or "", yanked or ""))
    return found


def fault(found: list[tuple[frozenset[Tag], str, str]], python: str, tags: set[Tag]) -> str:
    """Why none of some wheels can be installed, or nothing."""
    fitting = [wheel for wheel in found if wheel[0] & tags]
    if not fitting:
        return "no wheel"
    admitted = [wheel for wheel in fitting if SpecifierSet(wheel[1]).contains(python)]
    if not admitted:
        return f"needs Python {fitting[0][1]}"
    return min(withdrawn for _, _, withdrawn in admitted)


def unpinned(pinned: set[str], python: str, markers: dict[str, str]) -> list[str]:
    """What the pinned packages need there that is not pinned; of those installed here."""
    version = ".".join(python.split(".")[:2])
    there = {**markers, "python_version": version, "python_full_version": python, "extra": ""}
    there |= {"os_name": "posix", "implementation_name": "cpython"}
    found = set()
    for name in pinned:
        try:
            lines = requires(name) or []
        except PackageNotFoundError:
            continue
        for requirement in map(Requirement, lines):
            if requirement.marker is None or requirement.marker.evaluate(there):
                found.add(canonicalize_name(requirement.name))
    return sorted(found - pinned - {"pip"})


def pages(names: list[str]) -> list[dict[str, Any]]:
    """The index's lists of files, by pip's own session: with its index, certificates, proxy."""
    from pip._internal.commands import create_command

    command: Any = create_command("index")
    options, _ = command.parse_args([])
    session = command._build_session(options)

    def page(name: str) -> dict[str, Any]:
        headers = {"Accept": "application/vnd.pypi.simple.v1+json"}
        answer = session.get(f"{options.index_url.rstrip('/')}/{name}/", headers=headers)
        answer.raise_for_status()
        return answer.json()

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(page, names))


def digests() -> list[str]:
    found = [(hashlib.sha256((ROOT / lock).read_bytes()).hexdigest(), lock) for lock in LOCKS]
    return [f"{digest}  {lock}" for digest, lock in found]


def main() -> int:
    pinned = pins()
    found = {
        name: wheels(page, version)
        for (name, version), page in zip(pinned.items(), pages(list(pinned)), strict=True)
    }
    rows, faults = [], []
    for python in PYTHONS:
        for platform, (tags, markers) in platforms().items():
            accepted = supported(python, tags)
            said = {name: fault(found[name], python, accepted) for name in pinned}
            wrong = [f"{name}=={pinned[name]} {why}" for name, why in said.items() if why]
            more = ", ".join(unpinned(set(pinned), python, markers)) or "-"
            row = f"{python:7} {platform:14} {len(pinned) - len(wrong)}/{len(pinned)}  {more}"
            rows.append(row)
            faults += [f"{python} {platform}: {line}" for line in wrong]
    print("\n".join([*rows, *faults]))
    if not faults:
        RECORD.write_text(HEADER + "\n".join([*digests(), *rows]) + "\n", encoding="utf-8")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
