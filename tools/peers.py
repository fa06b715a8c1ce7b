"""Run the suites of PyTorch and Pyro with our classes in place of theirs: ``make peers PEERS=...``.

The folder holds unpacked sources, anywhere below it: of PyTorch ``test/distributions``, of Pyro
``tests``.  Each suite runs with its own classes, which is the control, and with ours; what fails
with ours alone, and is not among ``EXPECTED``, makes the command fail.  Nothing of theirs is kept.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

__all__ = ["EXPECTED", "SUITES", "compared", "find", "outcomes", "run", "swap"]

# For each suite: a file by which it is known, the folders above it where it starts, and what runs.
SUITES = {
    "PyTorch, distributions": (
        "test/distributions/test_distributions.py",
        0,
        ["test_distributions.py", "test_constraints.py"],
    ),
    "Pyro, enumeration": ("tests/infer/test_enum.py", 2, ["tests/infer/test_enum.py"]),
    "Pyro, distributions": ("tests/infer/test_enum.py", 2, ["tests/distributions"]),
}

# The end of a test's name, and why it must fail with ours.
_NO_GRADIENT = "asks that the draw of a discrete distribution has no gradient"
_IMPLICIT = "asks for the implicit gradient, which ours is not"
_BIASED = "takes the gradient of a gamma draw for an unbiased one"
_PICKLED = "pickles a class of Pyro's own by the name that ours has taken"
_MADE = "asks for the swapped class of a distribution that Pyro makes with its own"
EXPECTED = {
    **dict.fromkeys(
        [
            "TestDistributions::test_bernoulli",
            "TestDistributions::test_binomial",
            "TestDistributions::test_binomial_bfloat16",
            "TestDistributions::test_binomial_half",
            "TestDistributions::test_geometric",
            "TestDistributions::test_negative_binomial",
            "TestDistributions::test_one_hot_categorical_1d",
        ],
        _NO_GRADIENT,
    ),
    **dict.fromkeys(
        [
            "TestRsample::test_beta_wrt_alpha",
            "TestRsample::test_dirichlet_on_diagonal",
            "TestRsample::test_dirichlet_tangent_field",
            "TestRsample::test_gamma",
        ],
        _IMPLICIT,
    ),
    **dict.fromkeys(
        [
            "test_rejector::test_gamma_elbo",
            "test_rejector::test_shape_augmented_gamma_elbo",
            "test_rejector::test_standard_gamma_elbo",
        ],
        _BIASED,
    ),
    **dict.fromkeys(
        [
            "test_pickle::test_pickle[AffineBeta]",
            "test_pickle::test_pickle[BetaBinomial]",
            "test_pickle::test_pickle[ExtendedBetaBinomial]",
            "test_pickle::test_pickle[GammaPoisson]",
            "test_pickle::test_pickle[LogNormalNegativeBinomial]",
        ],
        _PICKLED,
    ),
    "test_mask::test_mask_type[mask2]": "masks the score of a value that carries no gradient",
    "test_hmm::test_discrete_hmm_shape": _MADE,
    "test_hmm::test_gamma_gaussian_hmm_shape": _MADE,
    "TestNumericalStability::test_bernoulli_gradient": "expects the zero that a clamp leaves of -1",
    "TestDistributions::test_mode": "knows discrete distributions by PyTorch's own classes",
}


def find(folder: Path, known: str, above: int) -> Path | None:
    """The folder where a suite starts, or None where the folder has it not."""
    places = sorted(folder.glob(f"**/{known}"), key=lambda path: len(path.parts))
    return places[0].parents[above] if places else None


def swap(library: str) -> None:
    """Put our classes in place of those of ``torch`` or ``pyro``, in this process."""
    if library == "torch":
        import torch

        from ils import distributions

        for name in distributions.__all__:
            setattr(torch.distributions, name, getattr(distributions, name))
    else:
        import pyro.distributions.torch

        import ils.pyro

        for name in ils.pyro.__all__:
            for module in (pyro.distributions, pyro.distributions.torch):
                setattr(module, name, getattr(ils.pyro, name))


def run(start: Path, paths: list[str], library: str | None, extra: list[str]) -> dict[str, str]:
    """The outcome of each test of a suite, with our classes or, for None, with its own."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        # Their settings make an error of each warning of a PyTorch that is newer than they are.
        flags = ["-q", "--tb=short", "-c", os.devnull, "--rootdir", str(start), *extra]
        flags += ["-p", "no:cacheprovider", "-W", "ignore", f"--junitxml={report}"]
        there = [path for path in paths if (start / path).exists()]
        root = str(Path(__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        env = os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, str(Path(__file__).resolve()), "--inside", library or "-"]
        subprocess.run([*command, *flags, *there], cwd=start, env=env, check=False)
        return outcomes(report) if report.exists() else {}


def outcomes(report: Path) -> dict[str, str]:
    """``passed``, ``failed`` or ``skipped`` for each test of a report in JUnit's form."""
    found: dict[str, str] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        kind = "failed" if kinds & {"failure", "error"} else "passed"
        name = f"{case.get('classname')}::{case.get('name')}"
        found[name] = "skipped" if "skipped" in kinds else kind
    return found


def compared(own: dict[str, str], ours: dict[str, str]) -> tuple[list[str], list[str]]:
    """Lines with the counts and with what fails with ours alone; the failures without reason."""
    lines: list[str] = []
    for title, found in (("with its own classes", own), ("with ours", ours)):
        kinds = list(found.values())
        counts = ", ".join(
            f"{kinds.count(kind)} {kind}" for kind in ("passed", "failed", "skipped")
        )
        lines.append(f"  {title}: {counts}")
    unexplained: list[str] = []
    for name in (name for name, kind in ours.items() if kind == "failed"):
        # With its parameters, or for all of them.
        ends = (name, name.split("[")[0])
        reasons = [why for end, why in EXPECTED.items() if any(n.endswith(end) for n in ends)]
        if own.get(name) == "failed":
            reasons = ["fails with its own classes too"]
        elif not reasons:
            unexplained.append(name)
        lines.append(f"    {name}: {reasons[0] if reasons else 'UNEXPLAINED'}")
    if not ours:
        unexplained.append("no test ran")
    return lines, unexplained


class _Restored:
    """Some of PyTorch's tests, where they fail, leave another default type to those after them."""

    def pytest_runtest_setup(self) -> None:
        import torch

        self._kind = torch.get_default_dtype()

    def pytest_runtest_teardown(self) -> None:
        import torch

        torch.set_default_dtype(self._kind)


def _inside(library: str, arguments: list[str]) -> int:
    import pytest

    sys.path.insert(0, os.getcwd())
    if library != "-":
        swap(library)
    return int(pytest.main(arguments, plugins=[_Restored()]))


def main() -> int:
    if sys.argv[1:2] == ["--inside"]:
        return _inside(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="unpacked sources of PyTorch, of Pyro, or both")
    parser.add_argument("--only", default="", help="the suites whose name has this part")
    arguments, extra = parser.parse_known_args()
    lines: list[str] = []
    unexplained: list[str] = []
    for title, (known, above, paths) in SUITES.items():
        start = find(arguments.folder.resolve(), known, above)
        if start is None or arguments.only not in title:
            lines.append(f"{title}: not run" if start else f"{title}: no {known}")
            continue
        library = "torch" if title.startswith("PyTorch") else "pyro"
        found, wrong = compared(run(start, paths, None, extra), run(start, paths, library, extra))
        lines += [title, *found]
        unexplained += wrong
    print("\n".join(lines))
    if all(": no " in line for line in lines):
        return 2
    return int(bool(unexplained))


if __name__ == "__main__":
    sys.exit(main())
