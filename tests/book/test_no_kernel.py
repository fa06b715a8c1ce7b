"""Reading needs no computing: the book is built where no kernel can start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

from tools.browser import ROOT

# In a process that cannot import ipykernel, and says which others it starts.
BUILD = """
import sys
for name in ("ipykernel", "ipykernel_launcher", "lab.run", "lab.training"):
    sys.modules[name] = None
def heard(event, told):
    if event in ("subprocess.Popen", "os.posix_spawn", "os.exec", "os.system", "os.fork"):
        sys.exit(f"a process was started: {told}")
sys.addaudithook(heard)
from jupyter_book.cli.main import main
main(["build", ".", "--all", "-W", "--keep-going", "-n", "--path-output", sys.argv[1]])
"""


def test_the_book_is_built_without_a_kernel(tmp_path: Path) -> None:
    """Every page, out of committed outputs, without ipykernel and without another process."""
    settings = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert settings["execute"]["execute_notebooks"] == "off"
    ran = subprocess.run(
        [sys.executable, "-c", BUILD, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "build succeeded" in ran.stdout
    pages = {path.stem for path in (tmp_path / "_build" / "html" / "book").glob("*.html")}
    assert {path.stem for path in (ROOT / "book").glob("*.ipynb")} <= pages
