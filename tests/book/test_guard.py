"""The guard guards: a mutation of the mathematics makes a notebook fail.

``make test`` runs every notebook and compares its outputs with the committed ones. That is worth
something only if a wrong formula changes an output by more than ``tools/outputs.py`` lets pass.
Each mutation below puts one plausible error into a copy of the package and demands that nbval
notices in the notebook which rests on it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Mutation:
    """One error to plant: in ``file``, ``old`` (which occurs once) becomes ``new``.

    ``notebook`` is the file in ``book/`` that must fail because of it.
    """

    file: str
    old: str
    new: str
    notebook: str

    def __str__(self) -> str:
        return f"{self.file}: {self.old} -> {self.new}"


# By the notebook that must fail, and by file. Where half a per cent is noticed, no larger error is
# planted beside it: so fine is the mesh.
ERRORS: dict[str, dict[str, list[tuple[str, str]]]] = {
    "construction-evidence": {
        "ils/target.py": [
            ("z - step_size * delta", "z - 0.995 * step_size * delta"),
            ("z - step_size * delta", "z + step_size * delta"),
            ("delta - z * delta.sum", "delta - 0 * delta.sum"),
            ("return z - target", "return probs - target"),
        ],
        "ils/simplex.py": [
            ("(z * grad).sum(-1", "grad.mean(-1"),
            ("positive = x.clamp(min=0)", "positive = x.abs()"),
            ("ordered.cumsum(-1) - 1", "ordered.cumsum(-1) - 1.005"),
        ],
    },
    "method": {
        "ils/fast.py": [
            ("share = (1 / step - lost", "share = (1.005 / step - lost"),
            ("alpha=0.5).mul_(probs)", "alpha=0.5025).mul_(probs)"),
        ]
    },
    "experiment-1": {
        "ils/target.py": [("eps: float = 1e-7", "eps: float = 1e-3")],
        "ils/relaxation.py": [
            (
                "return softmax_vjp(y, grad) / temperature",
                "return softmax_vjp(y, grad) / (1.005 * temperature)",
            )
        ],
        "ils/draw.py": [
            ("searchsorted(cumulative, point", "searchsorted(cumulative, 0.995 * point")
        ],
    },
    "squeeze-evidence": {
        "book/lab/problems/toy.py": [
            ("eps=1e-8", "eps=1.1e-8"),
            ("cost = -math.log1p", "cost = -1.005 * math.log1p"),
        ],
        "ils/squeeze.py": [("count / n + eps", "count / n + 1.005 * eps")],
    },
    "benchmarks-evidence": {
        "book/lab/training/train.py": [("value=1 - slow", "value=0.995 - 0.995 * slow")],
        "book/lab/training/tasks/codebook.py": [("2 * products -", "2.01 * products -")],
        "book/lab/training/tasks/experts.py": [
            ("sum(-1) - batch.y)", "sum(-1) - 1.005 * batch.y)")
        ],
    },
    "vae": {
        "book/lab/training/tasks/autoencoder.py": [
            ("math.log(self.categories) - entropy", "math.log(self.categories) - 0.995 * entropy")
        ]
    },
    "beyond-models": {
        "ils/velocity.py": [("(1 + _over(z, rate)) / 2", "(1 + _over(z, rate)) / 2.01")],
        "book/lab/beyond/models/components.py": [
            ("(weight * change * part[..., row])", "(0.995 * weight * change * part[..., row])")
        ],
    },
    "beyond-evidence": {
        "ils/velocity.py": [("(3 - rate * z", "(2.985 - rate * z")],
        "book/lab/beyond/families/methods.py": [
            ("product + separate) / 2", "product + separate) / 2.01")
        ],
    },
    "invariance": {"ils/fast.py": [("top = scale.div_(step)", "top = torch.ones_like(scale)")]},
    "relatives-evidence": {
        "ils/metric.py": [("return probs * delta", "return probs.sqrt() * delta")],
        "ils/rules.py": [("softmax(-1), grad) / 2", "softmax(-1), grad) / 2.01")],
    },
    "bias-variance": {
        "book/lab/methods/quality.py": [
            ("1 - self.product_squared", "1 - 0.995 * self.product_squared")
        ],
        "book/lab/bias_variance/plane.py": [
            ('np.sqrt(found["evaluations"])', 'found["evaluations"]')
        ],
    },
    "fixed-points-evidence": {
        "book/lab/fixed_points/experiment.py": [("kept - 1) / p)", "kept - 1) / p * 0.995)")],
        "book/lab/fixed_points/repaired.py": [("return 1 / (2 * n)", "return 1 / (2.01 * n)")],
    },
    "optimality-evidence": {
        "book/lab/methods/pairs.py": [
            (
                "cross = first * _of_others(dot(change, first)) - second",
                "cross = 0.995 * first * _of_others(dot(change, first)) - second",
            ),
            ("dot(others, d.z - d.probs)", "dot(others, d.z - 0.99 * d.probs)"),
        ]
    },
}
MUTATIONS = [
    Mutation(file, old, new, f"{notebook}.ipynb")
    for notebook, files in ERRORS.items()
    for file, pairs in files.items()
    for old, new in pairs
]

each_mutation = pytest.mark.parametrize("mutation", MUTATIONS, ids=str)


def copy_of_the_tree(folder: Path) -> None:
    skipped = shutil.ignore_patterns("__pycache__", ".*", "assets")
    for name in ("ils", "book", "tools"):
        shutil.copytree(ROOT / name, folder / name, ignore=skipped)
    shutil.copy(ROOT / "conftest.py", folder)
    # An empty configuration of its own: the real one would put the real tree on the path.
    (folder / "pytest.ini").write_text("[pytest]\n")


def environment(folder: Path) -> dict[str, str]:
    """This process's, with the copy first on the path and nothing of this run of pytest."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "ILS_"))}
    kept |= {
        "PYTHONPATH": os.pathsep.join((str(folder), str(folder / "book"))),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return kept | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def run_python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=300,
    )


def run_notebook(folder: Path, notebook: str) -> subprocess.CompletedProcess[str]:
    """nbval on one notebook of the copy, until its first failure."""
    # The copy must win over the editable installation, or no mutation would be seen.
    find = "import importlib.util as u; print(u.find_spec('ils').origin)"
    found = run_python(folder, "-c", find)
    assert Path(found.stdout.strip()).is_relative_to(folder), found.stdout + found.stderr
    options = ["--nbval", "--nbval-current-env", "--color=no", "-x"]
    plugins = ["-p", "no:xdist", "-p", "no:cacheprovider"]
    return run_python(folder, "-m", "pytest", *plugins, *options, f"book/{notebook}")


@each_mutation
def test_mutation_applies(mutation: Mutation) -> None:
    assert (ROOT / mutation.file).read_text(encoding="utf-8").count(mutation.old) == 1
    assert (ROOT / "book" / mutation.notebook).is_file()


@pytest.mark.parametrize("notebook", sorted({mutation.notebook for mutation in MUTATIONS})[:1])
def test_unmutated_copy_passes(notebook: str, tmp_path: Path) -> None:
    """The control: what fails below does not fail because of the copying."""
    copy_of_the_tree(tmp_path)
    ran = run_notebook(tmp_path, notebook)
    assert ran.returncode == 0, ran.stdout


@each_mutation
def test_mutation_is_noticed(mutation: Mutation, tmp_path: Path) -> None:
    copy_of_the_tree(tmp_path)
    file = tmp_path / mutation.file
    source = file.read_text(encoding="utf-8")
    file.write_text(source.replace(mutation.old, mutation.new), encoding="utf-8")
    compile(file.read_text(encoding="utf-8"), str(file), "exec")  # an error of mathematics only

    ran = run_notebook(tmp_path, mutation.notebook)
    assert ran.returncode == 1, f"unnoticed: {mutation}\n{ran.stdout}"
    # It must be noticed as a wrong result, not as a program that no longer runs.
    said = re.sub(r"\x1b\[[\d;]*m", "", ran.stdout)
    assert "Cell outputs differ" in said or re.search(r"^AssertionError", said, re.M), said
    assert not re.search(r"^(?:Import|ModuleNotFound|Syntax|Name|Attribute)Error", said, re.M), said
