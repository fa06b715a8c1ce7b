"""Pools of workers, and jobs submitted to them: local processes, or those of a dask scheduler.

Both are executors of :mod:`concurrent.futures`: joblib's own process pool, loky, and that of
:mod:`distributed`.  ``joblib.Parallel`` would choose between them by name, but it runs a single
worker in the calling process, where a job that dies takes everything along, and waits for ever
when dask gives a job up (joblib 1.6).
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from joblib.externals.loky import ProcessPoolExecutor

__all__ = ["ENGINES", "Pool", "as_they_end", "cluster", "open_pool", "processes"]

ENGINES = ("processes", "dask")

Key = TypeVar("Key", bound=Hashable)

BEAT = 1.0
"""Seconds between two looks at whether the other side is still there, when no job has ended."""

PATIENCE = 60.0
"""Seconds without any worker after which a pool is given up."""

# Libraries read these as they are loaded; sums of one thread have one order.
_ONE_THREAD = {
    f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS", "VECLIB", "NUMEXPR")
}


@dataclass(frozen=True)
class Pool:
    """Workers that take jobs.

    Attributes:
        executor: takes them.
        alive: whether there is a worker, now.
        name: for messages.
    """

    executor: Executor
    alive: Callable[[], bool]
    name: str


@contextmanager
def processes(workers: int) -> Generator[Pool]:
    """Processes on this machine; if the block is left by an exception, they are killed."""
    executor = ProcessPoolExecutor(
        workers, env=_ONE_THREAD, initializer=_end_with, initargs=(os.getpid(),)
    )
    try:
        yield Pool(executor, lambda: True, "this machine")
    except BaseException:
        executor.shutdown(wait=True, kill_workers=True)
        raise
    executor.shutdown(wait=True)


def _end_with(caller: int) -> None:
    """End this worker when its caller has died: no process would read its result."""

    def watch() -> None:
        while os.getppid() == caller:
            time.sleep(BEAT)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def cluster(address: str) -> Generator[Pool]:
    """The workers of a dask scheduler; if the block is left by an exception, jobs are cancelled.

    Raises:
        ImportError: distributed is not installed.
        OSError: nothing answers there.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError("the engine 'dask' needs distributed: `pip install ils[cluster]`") from (
            error
        )
    with Client(address, set_as_default=False) as client:
        # Not pure: a job that is tried again must be run again.
        executor = client.get_executor(pure=False, retries=0)

        def alive() -> bool:
            try:
                return client.status == "running" and bool(client.ncores())
            except (OSError, ValueError, RuntimeError):
                return False

        try:
            yield Pool(executor, alive, address)
        except BaseException:
            executor.shutdown(wait=False)
            raise


def open_pool(engine: str, workers: int, address: str | None) -> Any:
    """A context manager for the pool of an engine."""
    return cluster(address or "") if engine == "dask" else processes(workers)


def as_they_end(
    waiting: deque[Key], job: Callable[[Key], Any], pool: Pool, limit: int
) -> Iterator[tuple[Key, Future[Any]]]:
    """Give jobs to a pool, so many at once, and return each as it ends.

    A job is taken out of ``waiting`` when it is begun.  If the pool breaks, those under way end
    with its error, and the others stay in ``waiting``.

    Args:
        waiting: what the jobs are of, in the order in which they begin.
        job: called with each.
        pool: where.
        limit: how many are under way at once.

    Raises:
        OSError: the pool has been without workers for too long.
    """
    under_way: dict[Future[Any], Key] = {}
    broken = False
    lonely_since: float | None = None
    while (waiting and not broken) or under_way:
        while waiting and not broken and len(under_way) < limit:
            try:
                future = pool.executor.submit(job, waiting[0])
            except BrokenExecutor:
                broken = True
            else:
                under_way[future] = waiting.popleft()
        done, _ = wait(under_way, timeout=BEAT, return_when=FIRST_COMPLETED)
        if done or pool.alive():
            lonely_since = None
        else:
            lonely_since = lonely_since or time.monotonic()
            if time.monotonic() - lonely_since > PATIENCE:
                raise ConnectionError(f"no worker at {pool.name} for {PATIENCE:.0f} s")
        for future in done:
            if not future.cancelled() and isinstance(future.exception(), BrokenExecutor):
                broken = True
            yield under_way.pop(future), future
