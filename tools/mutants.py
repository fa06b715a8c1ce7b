"""Mutation testing: small errors planted in ``ils/``, each of which some test must notice.

Usage: ``python tools/mutants.py [--fresh] [--jobs N] [GROUP ...]``, or ``make mutants``.

mutmut plants the errors, in a copy of the package under ``_build/mutants``, one folder a group, so
that a change of the sources meanwhile does no harm.  A group is a few modules with the tests that
hold them; mutmut finds out by itself which of these tests reach a function, and stops at the first
that fails.  What was killed before is not run again unless its function changed; ``--fresh``
forgets everything.

The outcome is ``tests/mutants.md``: the score of each module, and every survivor with the reason
that ``tests/mutants.toml`` gives for it.  Modules whose group has not been run in this checkout
keep what the page says of them.  A reason is found by the function, the line that was and the line
that is, so that it survives a change elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "_build" / "mutants"
REPORT = ROOT / "tests" / "mutants.md"
REASONS = ROOT / "tests" / "mutants.toml"

# The modules of a group, and the tests that should notice an error in them.
GROUPS: dict[str, tuple[list[str], list[str]]] = {
    "core": (
        ["simplex", "target", "metric", "exact", "squeeze", "states", "checks", "execution"],
        [
            "tests/test_checks.py",
            "tests/test_execution.py",
            "tests/test_states.py",
            "tests/test_simplex.py",
            "tests/test_target.py",
            "tests/test_exact.py",
            "tests/test_squeeze.py",
            "tests/test_docstrings.py::test_examples",
        ],
    ),
    "operator": (
        ["rules", "fast", "relaxation", "draw", "autograd", "operator", "lookup", "sampler"],
        [
            "tests/test_autograd.py",
            "tests/test_draw.py",
            "tests/test_fast.py",
            "tests/test_relaxation.py",
            "tests/test_rules.py",
            "tests/estimators/test_from_rule.py",
            "tests/estimators/test_straight_through.py",
            "tests/test_refusals.py",
            "tests/test_operator.py",
            "tests/test_lookup.py",
            "tests/test_sampler.py",
            "tests/test_everywhere.py",
            "tests/test_docstrings.py::test_examples",
        ],
    ),
    "distributions": (
        ["tangent", "velocity", "intermediate", "distributions/*", "pyro"],
        [
            "tests/test_tangent.py",
            "tests/test_velocity.py",
            "tests/test_beyond.py",
            "tests/test_intermediate_loss.py",
            "tests/test_everywhere.py",
            "tests/test_refusals.py",
            "tests/distributions",
            "tests/test_pyro.py",
            "tests/test_docstrings.py::test_examples",
        ],
    ),
    "estimators": (
        ["estimators/*"],
        ["tests/estimators", "tests/test_docstrings.py::test_examples"],
    ),
    "surrogate": (["surrogate"], ["tests/test_surrogate.py"]),
}

# How the reason of a mutant begins that no test can notice, as it computes the same.
EQUIVALENT = "| equivalent"

# Exit codes by which mutmut records that a test failed, or that the tests ran out of time.
KILLED = {1, 3}
TIMEOUT = {-24, 24, 36, 152, 255}


@dataclass(frozen=True)
class Mutant:
    """One planted error: where, the line that was, the line that is, and what became of it."""

    module: str
    function: str
    was: str
    now: str
    killed: bool


def prepare(group: str, fresh: bool, deselect: list[str]) -> Path:
    """A copy of package and tests, with mutmut told which modules and tests the group has."""
    folder = WORK / group
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    ignored = shutil.ignore_patterns("__pycache__", "*.ipynb")
    # The laboratory's catalogue tells the tests of estimators which there are.
    for name in ("ils", "tests", "book/lab"):
        shutil.rmtree(folder / name, ignore_errors=True)
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)  # with the dates of the files
    shutil.copy2(ROOT / "CHANGELOG.md", folder)  # its table of options is tested
    for name in ("tests", "book"):
        shutil.rmtree(folder / "mutants" / name, ignore_errors=True)

    modules, tests = GROUPS[group]
    tests = [test for test in tests if (folder / test.split("::")[0]).exists()]
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    mine = (
        'also_copy = ["book", "CHANGELOG.md"]\n'
        f"only_mutate = {json.dumps([f'ils/{module}.py' for module in modules])}\n"
        f"pytest_add_cli_args_test_selection = {json.dumps(tests)}\n"
    )
    settings = settings.replace("[tool.mutmut]\n", f"[tool.mutmut]\n{mine}")
    for test in deselect:
        settings = settings.replace("add_cli_args = [", f'add_cli_args = ["--deselect", "{test}", ')
    (folder / "pyproject.toml").write_text(settings, encoding="utf-8")

    # Tests may have changed: find anew which reach what, and give another chance to survivors, and
    # to what ran out of time on a machine that perhaps was busy.
    (folder / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)
    for record in folder.glob("mutants/ils/**/*.meta"):
        data = json.loads(record.read_text())
        codes = data["exit_code_by_key"]
        kept = {key: code if code in KILLED else None for key, code in codes.items()}
        record.write_text(json.dumps({**data, "exit_code_by_key": kept}))
    return folder


def run(folder: Path, jobs: int) -> None:
    """Let mutmut loose; its exit status does not depend on survivors."""
    # The compiled kernel would do the work in place of the functions that are mutated.
    settings = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "ILS_KERNEL": "0"}
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(jobs)]
    subprocess.run(command, cwd=folder, env={**os.environ, **settings}, check=True)


def plain(line: str) -> str:
    """A line without the blanks that differ, and without what is the same in most lines."""
    return re.sub(r"\s+", " ", line.strip())


def read(folder: Path) -> list[Mutant]:
    """Every mutant of a group with its fate, from the files that mutmut leaves."""
    from mutmut.configuration import reset_config
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    here, found = Path.cwd(), []
    os.chdir(folder)  # mutmut knows no other way
    try:
        reset_config()
        for record in sorted(folder.glob("mutants/ils/**/*.meta")):
            path = record.relative_to(folder / "mutants").with_suffix("")
            module = ".".join(path.with_suffix("").parts)
            for name, code in json.loads(record.read_text())["exit_code_by_key"].items():
                if code is None:
                    continue  # not run yet
                function = re.sub(r"__mutmut_\d+$", "", name).removeprefix(f"{module}.")
                function = re.sub(r"^x_|^xǁ", "", function).replace("ǁ", ".")
                if code in KILLED | TIMEOUT:
                    found.append(Mutant(module, function, "", "", True))
                    continue
                lines = get_diff_for_mutant(name, path=str(path)).splitlines()[3:]
                was, now = (
                    " ".join(plain(line[1:]) for line in lines if line.startswith(sign))
                    for sign in "-+"
                )
                found.append(Mutant(module, function, was, now, False))
    finally:
        os.chdir(here)
    return found


def not_run(folder: Path) -> int:
    """How many mutants of a group have no fate yet."""
    records = [json.loads(path.read_text()) for path in folder.glob("mutants/ils/**/*.meta")]
    return sum(code is None for data in records for code in data["exit_code_by_key"].values())


def reason(mutant: Mutant, reasons: list[dict[str, str]]) -> str:
    """The first reason whose function and lines fit, or nothing."""
    where = f"{mutant.module}.{mutant.function}"
    for entry in reasons:
        fits = re.fullmatch(entry["where"], where)
        if fits and entry.get("was", "") in mutant.was and entry.get("now", "") in mutant.now:
            return entry["why"]
    return ""


def escaped(text: str) -> str:
    """Code within a table."""
    return f"`` {text.replace('|', chr(92) + '|')} ``"


def source(module: str) -> Path:
    """Where a module lies."""
    return (ROOT / Path(*module.split("."))).with_suffix(".py")


def kept(page: str, fresh: set[str]) -> dict[str, tuple[int, int, list[tuple[Mutant, str]]]]:
    """Of each module on the page that was not run now: mutants, killed, survivors and reasons."""
    found = {}
    for name, total, killed in re.findall(r"^\| `(ils[\w.]*)` \| (\d+) \| (\d+) \|", page, re.M):
        if name not in fresh and source(name).exists():
            section = re.search(
                rf"^### `{re.escape(name)}`\n\n(?:\|.*\n){{2}}((?:\|.*\n)+)", page, re.M
            )
            rows = re.findall(
                r"^\| `(.*?)` \| `` (.*?) `` \| `` (.*?) `` \| (.*) \|$",
                section[1].replace("\\|", "|") if section else "",
                re.M,
            )
            survivors = [(Mutant(name, *row[:3], killed=False), row[3]) for row in rows]
            found[name] = int(total), int(killed), survivors
    return found


def score(mutants: int, killed: int, equivalent: int) -> str:
    """The share that is killed of what can be."""
    return f"{100 * killed / max(mutants - equivalent, 1):.1f} %"


def report(
    mutants: list[Mutant],
    reasons: list[dict[str, str]],
    left: int,
    before: dict[str, tuple[int, int, list[tuple[Mutant, str]]]],
) -> str:
    """The page: a table of scores, then the survivors of each module with their reasons."""
    total = Counter(mutant.module for mutant in mutants)
    killed = Counter(mutant.module for mutant in mutants if mutant.killed)
    total.update({name: count for name, (count, _, _) in before.items()})
    killed.update({name: count for name, (_, count, _) in before.items()})
    lines = [
        "# Mutation testing",
        "",
        "<!-- made by `make mutants`; the reasons are kept in tests/mutants.toml -->",
        "",
        "mutmut plants one small error at a time into a function of `ils`: another operator, a",
        "number that is one too large, an argument left out or replaced by `None`. A mutant is",
        "killed if a test fails or does not end. One is equivalent if the program that it makes",
        "does the same, as the reason then says; the score is killed / (mutants - equivalent).",
        "The wording of error messages is not mutated (the tests match it in part); whether an",
        "error is raised is. The laboratory `lab` is held by notebooks and by",
        "`tests/book/test_guard.py`, the compiled kernel by comparison with the Python path.",
        "",
    ]
    survivors = {
        name: [(m, "") for m in mutants if m.module == name and not m.killed] for name in total
    } | {name: found for name, (_, _, found) in before.items()}
    rows = {
        name: [
            f"| `{mutant.function}` | {escaped(mutant.was)} | {escaped(mutant.now)} "
            f"| {reason(mutant, reasons) or why or '**not explained**'} |"
            for mutant, why in sorted(found, key=lambda m: (m[0].function, m[0].was, m[0].now))
        ]
        for name, found in survivors.items()
    }
    same = Counter({name: sum(EQUIVALENT in row for row in found) for name, found in rows.items()})
    every, caught, alike = total.total(), killed.total(), same.total()
    lines += [
        f"**{caught} of {every - alike} killed: {score(every, caught, alike)}.**",
        f"{alike} more are equivalent; with them it would be {score(every, caught, 0)}.",
        *([f"{left} more had not been run when this was written."] if left else []),
        "",
        "| module | mutants | killed | equivalent | score |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{name}` | {total[name]} | {killed[name]} | {same[name]} "
        f"| {score(total[name], killed[name], same[name])} |"
        for name in sorted(total)
    ]
    lines += ["", "## Survivors", ""]
    for name in sorted(total):
        if rows[name]:
            lines += [f"### `{name}`", "", "| function | was | became | why it survives |"]
            lines += ["|---|---|---|---|", *rows[name], ""]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("groups", nargs="*", choices=[*GROUPS, []], default=[])
    parser.add_argument("--fresh", action="store_true", help="forget what was killed before")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--deselect", nargs="*", default=[], help="tests that fail at present")
    parser.add_argument("--report", action="store_true", help="only write the report anew")
    options = parser.parse_args()
    if not options.report:
        for group in options.groups or GROUPS:
            run(prepare(group, options.fresh, options.deselect), options.jobs)
    folders = [WORK / group for group in GROUPS if (WORK / group).exists()]
    mutants = [mutant for folder in folders for mutant in read(folder)]
    reasons = []
    if REASONS.exists():
        reasons = tomllib.loads(REASONS.read_text(encoding="utf-8"))["survivor"]
    left = sum(map(not_run, folders))
    page = REPORT.read_text(encoding="utf-8") if REPORT.exists() else ""
    before = kept(page, {mutant.module for mutant in mutants})
    REPORT.write_text(report(mutants, reasons, left, before), encoding="utf-8")
    unexplained = [m for m in mutants if not m.killed and not reason(m, reasons)]
    print(f"wrote {REPORT.relative_to(ROOT)}; {len(unexplained)} survivors without a reason")


if __name__ == "__main__":
    main()
