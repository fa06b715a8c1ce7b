"""``make device``: whether ``ils`` is right on an accelerator, how fast, and whether it learns.

One script for a machine that has PyTorch and nothing else of the environment; pandas is not needed,
and pytest and scipy are used if they are there.  In this order, each within its share of the time:

1. checks of draws and gradients, here and, on CUDA, those of ``tests/test_cuda.py``;
2. a training of a small autoencoder with discrete codes, whose loss must fall;
3. the grid of ``make bench``: the default, ReinMax as published, the ten lines of a user, and the
   hard Gumbel-Softmax, in turns, and then compiled.

Each part writes its record as it goes, in the format of ``book/data``: what is interrupted leaves
what was done.  The exit status is 1 if a check failed, and 3 if time ran out before the end.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import datetime
import gzip
import hashlib
import importlib.util
import io
import json
import os
import platform
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "book")]

import torch  # noqa: E402 (the paths come before the imports that they are for)
from torch import Tensor, nn  # noqa: E402

import ils  # noqa: E402
from lab.run.checkout import describe_checkout  # noqa: E402
from lab.run.machine import describe_machine  # noqa: E402
from lab.speed.calls import SHAPES, Call, block, call, inputs  # noqa: E402
from lab.speed.contestants import GUMBEL, LOSS, TEN_LINES, contestant  # noqa: E402

SEED = 20
SHARES = {"checks": 0.3, "training": 0.15}  # of the time; the grid has the rest
EAGER = ("ReinMax (default)", "ReinMax, as published", TEN_LINES, GUMBEL, "softmax", LOSS)
COMPILED = ("ReinMax (default)", GUMBEL)
REPEATS = 11
TURN = 0.01  # seconds

Row = dict[str, Any]


class OutOfTime(BaseException):
    """The time is over; no error, so that no compiler takes it for one of its own."""


def log(text: str) -> None:
    """A line with the time of day, at once."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


# --- the record ------------------------------------------------------------------------------


class Record:
    """Rows that are written after each one that is added."""

    def __init__(self, name: str, index: tuple[str, ...], folder: Path, about: Row) -> None:
        self.name, self.index, self.folder, self.about = name, index, folder, about
        self.rows: list[Row] = []
        self.start = time.perf_counter()

    def add(self, *rows: Row) -> None:
        """Add rows and write all: the table, then the file that describes it."""
        self.rows += rows
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _number(value) for key, value in row.items()} for row in self.rows)
        data = gzip.compress(text.getvalue().encode(), mtime=0)
        columns = {key: value for key, value in self.rows[0].items() if key not in self.index}
        kinds = {bool: "bool", int: "int64", float: "float64"}
        described = {
            "name": self.name,
            "configuration": self.about,
            "index": list(self.index),
            "schema": {key: kinds.get(type(value), "str") for key, value in columns.items()},
            "rows": len(self.rows),
            "digits": 7,
            "seconds": round(time.perf_counter() - self.start, 1),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "versions": {
                "ils": ils.__version__,
                "python": platform.python_version(),
                "torch": torch.__version__,
            },
            "machine": {"system": platform.system(), "processor": platform.machine()},
            **describe_checkout("lab.speed.contestants"),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        about = json.dumps(described, indent=2) + "\n"
        for ending, content in (("csv.gz", data), ("json", about.encode())):
            partial = self.folder / f"partial-{self.name}.{ending}"
            partial.write_bytes(content)
            os.replace(partial, self.folder / f"{self.name}.{ending}")


def _number(value: Any) -> Any:
    return f"{value:.7g}" if isinstance(value, float) else value


def describe_device(device: torch.device) -> Row:
    """The card, its driver and its memory, or the processor."""
    about: Row = {"device": device.type, **describe_machine()}
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        about |= {"card": card.name, "card_bytes": card.total_memory}
        about |= {"compute": f"{card.major}.{card.minor}", "cuda": torch.version.cuda}
        about["driver"] = _driver()
    return about


def _driver() -> str | None:
    if not shutil.which("nvidia-smi"):
        return None
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    told = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=60).stdout
    return told.split("\n")[0].strip() or None


# --- checks ----------------------------------------------------------------------------------


def _gradient(device: torch.device) -> bool:
    """After the same draw, the gradient of the CPU, to rounding."""
    numbers = torch.Generator().manual_seed(1)
    for categories in (5, 100, 2000):
        logits, weights = torch.randn(2, 6, categories, generator=numbers, dtype=torch.float64)
        leaf = logits.to(device).requires_grad_()
        z = ils.sample(leaf)
        (found,) = torch.autograd.grad((z * weights.to(device)).sum(), leaf)
        here = logits.clone().requires_grad_()
        same = ils.differentiable_draw(here, z.detach().cpu())
        (wanted,) = torch.autograd.grad((same * weights).sum(), here)
        if not torch.allclose(found.cpu(), wanted, rtol=0, atol=1e-12):
            return False
    return True


def _law(device: torch.device) -> bool:
    """Counts of 100,000 draws lie within what chance allows, and odds off by a tenth do not."""
    for categories in (10, 1000):
        numbers = torch.Generator().manual_seed(2)
        logits = torch.randn(categories, generator=numbers).clamp(-2, 2)
        law = logits.double().softmax(-1)
        rows = logits.to(device).expand(100, -1)
        counts = ils.sample_index(rows, draws=1000).flatten().cpu().bincount(minlength=categories)
        tilt = torch.where(torch.arange(categories) % 2 == 0, 0.05, -0.05).double()
        for expected, right in ((law, True), ((law.log() + tilt).softmax(-1), False)):
            square = ((counts - expected * 1e5) ** 2 / (expected * 1e5)).sum()
            # Of chi-square, nearly normal after Wilson and Hilferty: five deviations.
            spread = 2 / (9 * (categories - 1))
            deviations = ((square / (categories - 1)) ** (1 / 3) - (1 - spread)) / spread**0.5
            if (float(deviations) < 5) != right:
                return False
    return True


def _masked(device: torch.device) -> bool:
    """Masked categories are never drawn, and their gradient is zero although theirs is not."""
    mask = (torch.arange(100) % 3 == 0).to(device)
    logits = torch.zeros(500, 100, device=device, requires_grad=True)
    z = ils.sample(logits, mask=mask)
    upstream = torch.ones_like(z).masked_fill(mask, torch.inf)
    (found,) = torch.autograd.grad(z, logits, upstream)
    return not (z[:, mask].any() or found[:, mask].any()) and bool(found.isfinite().all())


def _bad_rows(device: torch.device) -> bool:
    """A row with NaN, +inf or -inf alone is refused on a CPU, and is NaN elsewhere."""
    rows = [[0.0, 1.0], [torch.nan, 0.0], [torch.inf, 0.0], [-torch.inf, -torch.inf]]
    logits = torch.tensor(rows, device=device)
    if device.type == "cpu":
        try:
            ils.sample(logits)
        except ValueError:
            return True
        return False
    z = ils.sample(logits).cpu()
    return float(z[0].sum()) == 1 and bool(z[1:].isnan().any(-1).all())


def _generators(device: torch.device) -> bool:
    """A generator of the device decides the draw."""
    logits = torch.zeros(100, 20, device=device)
    one, again = (
        ils.sample(logits, generator=torch.Generator(device).manual_seed(3)) for _ in range(2)
    )
    return torch.equal(one, again)


CHECKS: dict[str, Callable[[torch.device], bool]] = {
    "gradient of the CPU": _gradient,
    "law of the draw": _law,
    "masked categories": _masked,
    "rows that are no logits": _bad_rows,
    "generators": _generators,
}


def checks(device: torch.device, record: Record, until: float) -> None:
    """The checks of this file, then the tests of CUDA where all that they need is there."""
    for name, check in CHECKS.items():
        try:
            passed, said = check(device), ""
        except Exception as error:
            passed, said = False, f"{type(error).__name__}: {error}"
        record.add({"check": name, "passed": passed, "said": said})
        log(f"{name}: {'passed' if passed else 'FAILED'} {said}")
    missing = [name for name in ("pytest", "scipy") if importlib.util.find_spec(name) is None]
    if device.type != "cuda" or missing:
        log(f"tests/test_cuda.py: left out, {'no CUDA' if device.type != 'cuda' else missing}")
        return
    # Without the settings of the tree: they need more of the environment.
    command = [sys.executable, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider"]
    limit = max(1.0, until - time.perf_counter())
    environment = {**os.environ, "ILS_KERNEL": "0"}
    try:
        ran = subprocess.run(
            [*command, "tests/test_cuda.py"], cwd=ROOT, env=environment, timeout=limit, check=False
        )
        passed, said = ran.returncode == 0, f"status {ran.returncode}"
    except subprocess.TimeoutExpired:
        passed, said = False, f"not done in {limit:.0f} s"
    record.add({"check": "tests/test_cuda.py", "passed": passed, "said": said})
    log(f"tests/test_cuda.py: {'passed' if passed else 'FAILED'}, {said}")


# --- the grid --------------------------------------------------------------------------------


def seconds(function: Call, times: int, device: torch.device) -> float:
    """Seconds a call, of the device's own clock where it has one."""
    if device.type == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(times):
            function()
        end.record()
        torch.cuda.synchronize(device)
        return begin.elapsed_time(end) / 1e3 / times
    start = time.perf_counter()
    for _ in range(times):
        function()
    return (time.perf_counter() - start) / times


def timed(calls: dict[tuple[str, str], Call], device: torch.device) -> Iterator[Row]:
    """Median and quartiles of each call, in turns; what does not compile is left out."""
    inner = {}
    for key, function in calls.items():
        try:
            fastest = min(seconds(function, 1, device) for _ in range(4))
        except Exception as error:
            if key[0] != "compiled":
                raise
            log(f"left out, {key[1]} does not compile: {type(error).__name__}")
            continue
        inner[key] = max(1, min(200, int(TURN / fastest)))
    found: dict[tuple[str, str], list[float]] = {key: [] for key in inner}
    order, shuffle = list(inner), random.Random(SEED).shuffle
    for _ in range(REPEATS):
        shuffle(order)
        for key in order:
            found[key].append(seconds(calls[key], inner[key], device))
    for (mode, name), values in found.items():
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        row = {"mode": mode, "contestant": name, "median": median, "low": low, "high": high}
        yield row | {"repeats": REPEATS, "inner": inner[mode, name]}


def grid(device: torch.device, record: Record, until: float) -> bool:
    """All shapes without a compiler, then with one; whether there was time for all."""
    cells = [(mode, shape) for mode in ("eager", "compiled") for shape in SHAPES]
    for place, (mode, shape) in enumerate(cells):
        if time.perf_counter() > until:
            log(f"grid: no time for {len(cells) - place} of {len(cells)} cells")
            return False
        if mode == "compiled":
            torch.compiler.reset()
        x, w = inputs(shape, torch.float32, SEED)
        x, w = x.detach().to(device).requires_grad_(), w.to(device)
        calls = {
            (mode, name): call(contestant(name), x, w, compiled=mode == "compiled")
            for name in (EAGER if mode == "eager" else COMPILED)
        }
        cell = {"dtype": "float32", "threads": torch.get_num_threads()}
        cell |= {"batch": shape[0], "categories": shape[1]}
        with block("eager"):
            rows = [cell | row for row in timed(calls, device)]
        if rows:
            record.add(*rows)
        told = {row["contestant"]: row["median"] for row in rows}
        parts = [f"{name} {value * 1e6:.0f}" for name, value in told.items()]
        log(f"{mode}, {shape[0]} x {shape[1]}, microseconds: {', '.join(parts)}")
    return True


# --- training --------------------------------------------------------------------------------


def training(device: torch.device, record: Record, until: float, steps: int = 500) -> bool:
    """An autoencoder of points around 16 centres with four codes of eight; whether it learns."""
    torch.manual_seed(SEED)
    centres = 2 * torch.randn(16, 32, device=device)
    encoder, decoder = nn.Linear(32, 4 * 8).to(device), nn.Linear(4 * 8, 32).to(device)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-2)
    losses: list[Tensor] = []
    for step in range(steps):
        chosen = torch.randint(16, (256,), device=device)
        x = centres[chosen] + 0.1 * torch.randn(256, 32, device=device)
        z = ils.sample(encoder(x).unflatten(-1, (4, 8)))
        loss = (decoder(z.flatten(-2)) - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        if step % 50 == 49:
            record.add({"step": step + 1, "loss": float(torch.stack(losses[-50:]).mean())})
            if time.perf_counter() > until:
                log(f"training: no time for more than {step + 1} of {steps} steps")
                break
    first, last = float(losses[0]), float(record.rows[-1]["loss"])
    log(f"training: loss {first:.3f} at first, {last:.3f} at last")
    return last < 0.7 * first


# --- the run ---------------------------------------------------------------------------------


@contextlib.contextmanager
def at_most(limit: float) -> Iterator[None]:
    """Raise :class:`OutOfTime` when so many seconds are over, in the middle of whatever it is."""

    def over(*_: Any) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def main(arguments: list[str] | None = None) -> int:
    """Run the three parts; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    has_cuda = torch.cuda.is_available()
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if has_cuda else "cpu")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--out", type=Path, default=ROOT / "_build" / "device")
    chosen = parser.parse_args(arguments)
    if chosen.device == "cuda" and not has_cuda:
        parser.error("--device cuda: PyTorch finds no CUDA device")
    device, start, limit = torch.device(chosen.device), time.perf_counter(), 60 * chosen.minutes
    about = {"seed": SEED, "minutes": chosen.minutes, "repeats": REPEATS, "turn": TURN}
    about |= {"threads": torch.get_num_threads(), **describe_device(device)}
    log(f"{about.get('card', about['processor'])}, torch {torch.__version__}, {about}")

    def record(name: str, *index: str) -> Record:
        return Record(f"device-{name}", index, chosen.out, about)

    def until(*parts: str) -> float:
        return start + limit * sum(SHARES[part] for part in parts)

    failed, cut = [], False
    try:
        with at_most(limit):
            torch.manual_seed(SEED)
            checked = record("checks", "check")
            checks(device, checked, until("checks"))
            failed += [row["check"] for row in checked.rows if not row["passed"]]
            # Before the grid, whose compilers take as long as they take.
            if not training(device, record("training", "step"), until("checks", "training")):
                failed.append("training")
            levels = ("dtype", "threads", "batch", "categories", "mode", "contestant")
            cut = not grid(device, record("grid", *levels), start + 0.97 * limit)
    except OutOfTime:
        cut = True
    taken = time.perf_counter() - start
    log(f"{taken:.0f} s; failed: {failed or 'nothing'}; {'cut short; ' * cut}see {chosen.out}")
    return 1 if failed else 3 if cut else 0


if __name__ == "__main__":
    sys.exit(main())
