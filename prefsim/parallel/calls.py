"""What every backend does with a call: limit its threads, pickle it, tell of its progress."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, TypeVar

__all__ = [
    "PATIENCE",
    "RETURNED",
    "TOLD",
    "Call",
    "Lost",
    "Report",
    "Result",
    "check_jobs",
    "dumps",
    "limited",
    "made_up",
    "track",
]

Result = TypeVar("Result")

#: Told of a loop's progress: (name of the job, description of the loop, steps done, steps in all or
#: None).
Report = Callable[[str, str, int, int | None], None]

Call = tuple[Any, ...]
#: What to yield for a call whose worker died: told the call and the reason.
Lost = Callable[[Call, str], Result]

PERIOD = 0.1  # seconds between two messages of one loop
PATIENCE = 10  # seconds that a cluster has to answer, and a worker process to end

TOLD, RETURNED = "told", "returned"
"""Kinds of news of a call: how far it is, and that it has ended."""


def check_jobs(jobs: int) -> None:
    """Raise unless ``jobs`` is a number of processes >= 1, or -1 for one a core."""
    if isinstance(jobs, bool) or not isinstance(jobs, int) or (jobs < 1 and jobs != -1):
        raise ValueError(f"jobs must be an integer >= 1, or -1 for one a core, got {jobs!r}")


def track(items: Iterable[Any], description: str, *, name: str, report: Report) -> Iterator[Any]:
    """Pass ``items`` through, and tell ``report`` how far the loop has come.

    At most ten times a second, and at the end.
    """
    total = len(items) if isinstance(items, Sized) else None
    done, told = 0, -PERIOD
    report(name, description, 0, total)
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if now - told >= PERIOD:
            report(name, description, done, total)
            told = now
    report(name, description, done, done)


@contextlib.contextmanager
def _torch_limited_when_it_comes(threads: int) -> Iterator[None]:
    """Give torch so many threads if it is imported only now.

    A pool that is not loaded yet cannot be limited, and torch loads one of its own: on operations
    as small as ours its threads spend several times the work on waiting for each other.
    """
    from joblib import cpu_count

    if "torch" in sys.modules:
        yield
        return
    given = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        yield
    finally:
        if given is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = given
        if "torch" in sys.modules:
            usual = int(given) if given is not None and given.isdigit() else cpu_count()
            sys.modules["torch"].set_num_threads(usual)


@contextlib.contextmanager
def _limited_by_a_keeper(threads: int) -> Iterator[None]:
    """Limit the BLAS pools of this process from a thread made for that.

    Only the thread that limited a pool can lift its limit, and the call that comes first need not
    be in the thread of the one that goes last.
    """
    from threadpoolctl import threadpool_limits

    begun, over = threading.Event(), threading.Event()

    def keep() -> None:
        try:
            with threadpool_limits(threads):
                begun.set()
                over.wait()
        finally:
            begun.set()

    keeper = threading.Thread(target=keep, name="limit on BLAS threads", daemon=True)
    keeper.start()
    begun.wait()
    try:
        yield
    finally:
        over.set()
        keeper.join()


class _ThreadLimit:
    """The limit on the BLAS threads of this process while calls run in it.

    Calls may overlap, each in a thread of its own. The limit on what the process shares begins with
    the first and ends with the last: if each put back what it found, one would put back the limit
    of another. What is a thread's own, as with OpenMP, each call limits for itself.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._held = contextlib.ExitStack()

    @contextlib.contextmanager
    def __call__(self, threads: int) -> Iterator[None]:
        from threadpoolctl import threadpool_limits

        with self._lock:
            if self._running == 0:
                self._held.enter_context(_limited_by_a_keeper(threads))
                self._held.enter_context(_torch_limited_when_it_comes(threads))
            self._running += 1
        try:
            with threadpool_limits(threads):
                yield
        finally:
            with self._lock:
                self._running -= 1
                if self._running == 0:
                    self._held.close()


_thread_limit = _ThreadLimit()


def limited(
    function: Callable[..., Result], call: Call, threads: int, report: Report | None
) -> Result:
    """Run a call with so many BLAS threads."""
    with _thread_limit(threads):
        return function(*call, report=report)


def dumps(value: Any) -> bytes:
    """Pickle, by value what only the caller's main module defines."""
    import cloudpickle

    dumped: bytes = cloudpickle.dumps(value)
    return dumped


def made_up(lost: Lost[Result] | None, call: Call, reason: str) -> Result:
    """Return what stands for the result of a call whose worker died."""
    if lost is None:
        raise RuntimeError(f"{reason}, in the call {call!r}")
    return lost(call, reason)
