"""Many calls, each yielded as it finishes, wherever the caller wants them to run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prefsim.parallel.calls import Call, Lost, Report, Result, check_jobs, limited
from prefsim.parallel.dask_cluster import dask_client, on_dask
from prefsim.parallel.joblib_backends import by_joblib
from prefsim.parallel.processes import on_processes

__all__ = ["unordered"]


def unordered(
    function: Callable[..., Result],
    calls: Sequence[Call],
    *,
    jobs: int = 1,
    report: Report | None = None,
    lost: Lost[Result] | None = None,
) -> Iterator[Result]:
    """Yield ``function(*call, report=report)`` of every call as it finishes.

    Parameters
    ----------
    function
        Of a module that the workers can import; it catches its own errors where the other calls
        shall go on.
    calls
        Positional arguments of each call.
    jobs
        Number of processes; -1 for one a core. 1 leaves it to ``joblib.parallel_config``: its
        ``n_jobs``; else all workers of its backend; and without a backend this process, in order.
        A Dask cluster uses all its workers whatever ``jobs`` is.
    report
        Told of progress inside the calls, also from the workers; None where nobody looks. Called in
        the thread that iterates; under ``"threading"`` in any, one at a time.
    lost
        Told a call and a reason when the worker that ran the call has died; what it returns is
        yielded in place of the result. None raises.

    Yields
    ------
    Result
        Of one call each, in the order in which they finish. Leaving the loop early ends the
        workers here, and cancels what a cluster has not begun.

    Raises
    ------
    ValueError
        If ``jobs`` is neither >= 1 nor -1.
    RuntimeError
        If a worker has died and ``lost`` is None.
    ConnectionError
        If the connection to the cluster is lost.
    """
    from joblib.parallel import LokyBackend, SequentialBackend, get_active_backend

    check_jobs(jobs)
    backend, configured = get_active_backend()
    wanted = configured if jobs == 1 else jobs
    threads = getattr(backend, "inner_max_num_threads", None) or 1
    client = dask_client(backend)
    if client is not None and calls:
        options = backend.submit_kwargs
        yield from on_dask(client, options, function, calls, threads, report, lost)
        return
    processes = 1
    if isinstance(backend, LokyBackend):
        processes = min(backend.effective_n_jobs(wanted), len(calls))
    elif calls and not isinstance(backend, SequentialBackend):
        yield from by_joblib(backend, wanted, function, calls, threads, report)
        return
    if processes > 1:
        yield from on_processes(processes, function, calls, threads, report, lost)
        return
    for call in calls:
        yield limited(function, call, threads, report)
