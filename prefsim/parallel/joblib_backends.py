"""Calls on any other backend that joblib has."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from prefsim.parallel.calls import Call, Report, Result, limited

__all__ = ["by_joblib"]


def by_joblib(
    backend: Any,
    workers: int | None,
    function: Callable[..., Result],
    calls: Sequence[Call],
    threads: int,
    report: Report | None,
) -> Iterator[Result]:
    """Yield the results of calls on the workers of a backend of joblib."""
    import joblib

    if workers is None:
        # joblib gives a call within a call few workers, which the outer ones leave it.
        workers = backend.default_n_jobs if backend.nesting_level else -1
    shared = None
    if report is not None and getattr(backend, "supports_sharedmem", False):
        shared = _one_at_a_time(report)
    return_as = "generator_unordered" if backend.supports_return_generator else "list"
    pool = joblib.Parallel(n_jobs=workers, return_as=return_as, batch_size=1)
    yield from pool(joblib.delayed(limited)(function, call, threads, shared) for call in calls)


def _one_at_a_time(report: Report) -> Report:
    lock = threading.Lock()

    def told(*event: Any) -> None:
        with lock:
            report(*event)

    return told
