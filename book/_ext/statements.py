"""What the book states, and what the tests that it names say, read from the sources of both."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import dedent

from docutils import nodes

__all__ = [
    "KINDS",
    "STATEMENT",
    "TEST",
    "Chapter",
    "Check",
    "Claim",
    "Statement",
    "anchor",
    "chapters",
    "check",
    "other_tests",
    "prose",
    "refuted",
    "statements",
]

KINDS = "proposition|lemma|corollary|theorem|conjecture"
STATEMENT = re.compile(
    rf"^(?P<fence>`{{3,}}|:{{3,}})\{{prf:(?P<kind>{KINDS})\}}(?P<title>[^\n]*)\n"
    r"(?P<body>.*?)^(?P=fence)[ \t]*$"
    # What follows, its proof among it, up to the next statement or heading.
    rf"(?P<after>.*?)(?=^(?:`{{3,}}|:{{3,}})\{{prf:(?:{KINDS})\}}|^\#|\Z)",
    re.M | re.S,
)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
LABEL = re.compile(r"^:label:[ \t]*(\S+)", re.M)
PROOF = re.compile(r"^\*Proof\.\*|\{prf:proof\}|\[proof\]\((?P<elsewhere>[^)]+)\)", re.M)
# A quotation with a label, and below it, before the next quotation or heading, what refutes it.
CLAIM = re.compile(
    r"^\((?P<label>claim-[\w-]+)\)=\n(?P<quotation>(?:>.*\n)+)"
    r"(?P<body>(?:(?!>|#).*\n)*?)^Refuted by: (?P<by>.+(?:\n.+)*)",
    re.M,
)


@dataclass(frozen=True)
class Statement:
    """A numbered statement of a chapter.

    Attributes:
        tests: those that it names, as file and function.
        proof: where its proof is, if not in its place; None if there is none.
    """

    label: str
    title: str
    tests: tuple[tuple[str, str], ...]
    kind: str = "proposition"
    proof: str | None = None


@dataclass(frozen=True)
class Claim:
    """What one might claim, and what refutes it: statements and notebooks, and tests."""

    label: str
    quotation: str
    by: str
    tests: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Check:
    """A test.

    Attributes:
        says: the first paragraph of its docstring.
        source: with its decorators.
        calls: what it uses of the package, as ``ils.squeeze.kl``, by itself or through the
            functions of its file.
    """

    says: str
    source: str
    calls: tuple[str, ...]


def prose(document: Path) -> str:
    """The Markdown of a page or of a notebook."""
    text = document.read_text(encoding="utf-8")
    if document.suffix == ".md":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def statements(text: str) -> list[Statement]:
    """The statements of a chapter, in their order."""
    found = []
    for match in STATEMENT.finditer(text):
        label = LABEL.search(match["body"])
        tests = TEST.findall(match["body"] + match["after"])
        proof = PROOF.search(match["body"] + match["after"])
        found.append(
            Statement(
                label[1] if label else "",
                match["title"].strip(),
                tuple(dict.fromkeys(tests)),
                match["kind"],
                (proof["elsewhere"] or "") if proof else None,
            )
        )
    return found


def refuted(text: str) -> list[Claim]:
    """The claims of a chapter that it refutes, in their order."""
    found = []
    for match in CLAIM.finditer(text):
        quotation = " ".join(line.lstrip("> ") for line in match["quotation"].splitlines())
        by = re.sub(rf",?\s*{TEST.pattern}", "", match["by"]).strip(" ,\n")
        tests = tuple(TEST.findall(match["by"]))
        found.append(Claim(match["label"], quotation, " ".join(by.split()), tests))
    return found


def other_tests(text: str) -> list[tuple[str, str]]:
    """The tests that a chapter names elsewhere."""
    known = {test for one in (*statements(text), *refuted(text)) for test in one.tests}
    return [test for test in dict.fromkeys(TEST.findall(text)) if test not in known]


@dataclass(frozen=True)
class Chapter:
    """A chapter that names tests or refutes claims, and tests that it names for neither."""

    file: Path
    title: str
    statements: list[Statement]
    refuted: list[Claim]
    others: list[tuple[str, str]]

    def tests(self) -> Iterator[tuple[str, str]]:
        for one in (*self.statements, *self.refuted):
            yield from one.tests
        yield from self.others


def chapters(root: Path) -> Iterator[Chapter]:
    """In the order of the contents."""
    toc = (root / "_toc.yml").read_text(encoding="utf-8")
    for name in re.findall(r"file: (book/[\w-]+)", toc):
        for file in (root / f"{name}.md", root / f"{name}.ipynb"):
            text = prose(file) if file.exists() else ""
            if TEST.search(text) or CLAIM.search(text):
                title = re.search(r"^# (.+)$", text, re.M)
                heading = title[1] if title else name
                yield Chapter(file, heading, statements(text), refuted(text), other_tests(text))


def anchor(file: str, name: str) -> str:
    """The id of a test on the page of statements."""
    return nodes.make_id(f"{file}-{name}")


# --- reading a test --------------------------------------------------------------------------


@cache
def parsed(file: Path) -> tuple[str, ast.Module]:
    text = file.read_text(encoding="utf-8")
    return text, ast.parse(text)


def check(file: Path, name: str) -> Check:
    """The test of this name, at the top of the file or in a class."""
    text, tree = parsed(file)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            source = "\n".join(text.splitlines()[first - 1 : node.end_lineno])
            says = (ast.get_docstring(node) or "").split("\n\n")[0]
            calls = dict.fromkeys(called(node, tree, set()))
            return Check(" ".join(says.split()), dedent(source), tuple(calls))
    raise LookupError(f"there is no {file}::{name}")


def imported(tree: ast.Module) -> dict[str, str]:
    """What the names of a file stand for, of those that it has from the package."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "ils":
                    found[alias.asname or "ils"] = alias.name if alias.asname else "ils"
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ils":
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return found


def called(node: ast.AST, tree: ast.Module, seen: set[str]) -> Iterator[str]:
    """Dotted names of the package in ``node``, and in the functions of the file that it uses."""
    names = imported(tree)
    functions = {f.name: f for f in tree.body if isinstance(f, ast.FunctionDef)}
    pending: list[ast.AST] = [node]
    while pending:
        at = pending.pop(0)
        if isinstance(at, ast.Attribute | ast.Name):
            root, path = at, []
            while isinstance(root, ast.Attribute):
                path.insert(0, root.attr)
                root = root.value
            if isinstance(root, ast.Name) and root.id in names:
                yield ".".join([names[root.id], *path])
                continue
            if isinstance(at, ast.Name) and at.id in functions and at.id not in seen:
                seen.add(at.id)
                yield from called(functions[at.id], tree, seen)
        pending += ast.iter_child_nodes(at)
