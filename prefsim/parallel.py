"""Many independent calls on several processes, with one BLAS thread each, and their progress told to the parent.

Runs on joblib, so that ``joblib.parallel_config`` can put the calls on a Ray or Dask cluster
instead.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import Any, TypeVar

__all__ = ["Report", "check_jobs", "track", "unordered"]

Result = TypeVar("Result")

#: Told of a loop's progress: (name of the job, description of the loop, steps done, steps in all or
#: None).
Report = Callable[[str, str, int, int | None], None]

_PERIOD = 0.1  # seconds between two messages of one loop


def check_jobs(jobs: int) -> None:
    """Raise unless ``jobs`` is a number of processes >= 1, or -1 for one a core."""
    if isinstance(jobs, bool) or not isinstance(jobs, int) or (jobs < 1 and jobs != -1):
        raise ValueError(f"jobs must be an integer >= 1, or -1 for one a core, got {jobs!r}")


def track(items: Iterable[Any], description: str, *, name: str, report: Report) -> Iterator[Any]:
    """Pass ``items`` through, telling ``report`` how far the loop has come, at most ten times a second and at its end."""
    total = len(items) if isinstance(items, Sized) else None
    done, told = 0, -_PERIOD
    report(name, description, 0, total)
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if now - told >= _PERIOD:
            report(name, description, done, total)
            told = now
    report(name, description, done, done)


class _Queued:
    """A report that crosses into the parent; picklable because its queue is a manager's proxy."""

    def __init__(self, queue: Any) -> None:
        self.queue = queue

    def __call__(self, name: str, description: str, done: int, total: int | None) -> None:
        # A parent that is gone (interrupted) no longer wants to know.
        with contextlib.suppress(OSError, EOFError):
            self.queue.put((name, description, done, total))


@contextlib.contextmanager
def _across_processes(report: Report | None) -> Iterator[Report | None]:
    if report is None:
        yield None
        return
    # spawn: a fork would copy the threads' locks of a live progress display.
    with multiprocessing.get_context("spawn").Manager() as manager:
        queue = manager.Queue()

        def drain() -> None:
            with contextlib.suppress(OSError, EOFError):
                while (event := queue.get()) is not None:
                    report(*event)

        listener = threading.Thread(target=drain, daemon=True)
        listener.start()
        try:
            yield _Queued(queue)
        finally:
            queue.put(None)
            listener.join(timeout=5)


def unordered(
    function: Callable[..., Result],
    calls: Sequence[tuple[Any, ...]],
    *,
    jobs: int = 1,
    report: Report | None = None,
) -> Iterator[Result]:
    """Yield ``function(*call, report=report)`` of every call as it finishes.

    Parameters
    ----------
    function
        Of module level, so that a worker can import it; it catches its own errors where the other
        calls shall go on.
    calls
        Positional arguments of each call.
    jobs
        Number of processes; -1 for one a core. With 1, everything runs in order in this one.
    report
        Told of progress inside the calls, also from the workers; None where nobody looks.

    Raises
    ------
    ValueError
        If ``jobs`` is neither >= 1 nor -1.
    """
    import joblib
    from threadpoolctl import threadpool_limits

    check_jobs(jobs)
    if jobs == 1 or len(calls) <= 1:
        with threadpool_limits(1):
            for call in calls:
                yield function(*call, report=report)
        return
    with (
        _across_processes(report) as shared,
        joblib.parallel_config(backend="loky", inner_max_num_threads=1),
    ):
        pool = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
        yield from pool(joblib.delayed(_limited)(function, call, shared) for call in calls)


def _limited(
    function: Callable[..., Result], call: tuple[Any, ...], report: Report | None
) -> Result:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return function(*call, report=report)
