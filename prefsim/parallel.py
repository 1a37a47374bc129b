"""Many independent calls on several processes or machines, and their progress told to the caller.

Where the calls run is for the caller to say, by ``joblib.parallel_config`` or by :func:`cluster`:

=====================  ===========================================================================
backend                what happens
=====================  ===========================================================================
none, or ``"loky"``    Processes of this machine. One that dies costs the call that it ran, and the
                       others do not notice. All end with the process that started them.
``"dask"``             The workers of a Dask cluster. A call whose worker dies is tried again as
                       often as the scheduler allows, and costs no other call. Results and progress
                       come home over the connection: nothing is written where a worker runs.
``"threading"``,       This process.
``"sequential"``
any other              Whatever joblib has a backend for, such as Ray. Progress inside the calls
                       stays unknown, and a worker that dies is that backend's own affair.
=====================  ===========================================================================

Each call runs with one BLAS thread, wherever it runs, so that its result does not depend on that.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import multiprocessing
import os
import pickle
import queue
import re
import signal
import sys
import threading
import time
import traceback
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from prefsim import __version__

__all__ = ["Report", "check_jobs", "cluster", "track", "unordered"]

Result = TypeVar("Result")

#: Told of a loop's progress: (name of the job, description of the loop, steps done, steps in all or
#: None).
Report = Callable[[str, str, int, int | None], None]

_Call = tuple[Any, ...]
#: What to yield for a call whose worker died: told the call and the reason.
_Lost = Callable[[_Call, str], Result]

_PERIOD = 0.1  # seconds between two messages of one loop
_PATIENCE = 10  # seconds that a cluster has to answer, and a worker process to end


def check_jobs(jobs: int) -> None:
    """Raise unless ``jobs`` is a number of processes >= 1, or -1 for one a core."""
    if isinstance(jobs, bool) or not isinstance(jobs, int) or (jobs < 1 and jobs != -1):
        raise ValueError(f"jobs must be an integer >= 1, or -1 for one a core, got {jobs!r}")


def track(items: Iterable[Any], description: str, *, name: str, report: Report) -> Iterator[Any]:
    """Pass ``items`` through, and tell ``report`` how far the loop has come.

    At most ten times a second, and at the end.
    """
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


def unordered(
    function: Callable[..., Result],
    calls: Sequence[_Call],
    *,
    jobs: int = 1,
    report: Report | None = None,
    lost: _Lost[Result] | None = None,
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
    client = _dask_client(backend)
    if client is not None and calls:
        options = backend.submit_kwargs
        yield from _on_dask(client, options, function, calls, threads, report, lost)
        return
    processes = 1
    if isinstance(backend, LokyBackend):
        processes = min(backend.effective_n_jobs(wanted), len(calls))
    elif calls and not isinstance(backend, SequentialBackend):
        yield from _by_joblib(backend, wanted, function, calls, threads, report)
        return
    if processes > 1:
        yield from _on_processes(processes, function, calls, threads, report, lost)
        return
    for call in calls:
        yield _limited(function, call, threads, report)


class _ThreadLimit:
    """The limit on the BLAS threads of this process while calls run in it.

    Calls may overlap, each in a thread of its own. The first to come sets the limit and the last to
    go lifts it: if each put back what it found, one would put back the limit of another.
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
                self._held.enter_context(threadpool_limits(threads))
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                if self._running == 0:
                    self._held.close()


_thread_limit = _ThreadLimit()


def _limited(
    function: Callable[..., Result], call: _Call, threads: int, report: Report | None
) -> Result:
    with _thread_limit(threads):
        return function(*call, report=report)


def _dumps(value: Any) -> bytes:
    """Pickle, by value what only the caller's main module defines."""
    import cloudpickle

    dumped: bytes = cloudpickle.dumps(value)
    return dumped


def _make_up(lost: _Lost[Result] | None, call: _Call, reason: str) -> Result:
    """Return what stands for the result of a call whose worker died."""
    if lost is None:
        raise RuntimeError(f"{reason}, in the call {call!r}")
    return lost(call, reason)


# --- processes of this machine ---

# joblib's own pool breaks as a whole when one of its processes dies: every call that runs then is
# killed, and which one was to blame is unknown. Here each process has a connection of its own,
# which closes when either end dies. That says which call was lost, and ends the workers of a parent
# that died.

_RETURNED, _RAISED, _TOLD, _DIED = "returned", "raised", "told", "died"
_NO_MORE = b""


def _serve(connection: Connection) -> None:
    """Run the calls that come through ``connection``, until no more come; in a worker."""
    # Ctrl-C reaches every process of a terminal. The parent closes the connection if it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tasks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, tasks), daemon=True).start()
    sending = threading.Lock()

    def send(answer: bytes) -> None:
        with sending:
            connection.send_bytes(answer)

    def report(*event: Any) -> None:
        send(_dumps((_TOLD, event)))

    while (task := tasks.get()) != _NO_MORE:
        try:
            function, call, threads, watched = pickle.loads(task)
            result = _limited(function, call, threads, report if watched else None)
            answer = _dumps((_RETURNED, result))
        except Exception as error:
            answer = _dumps((_RAISED, _portable(error)))
        send(answer)


def _receive(connection: Connection, tasks: queue.SimpleQueue[bytes]) -> None:
    """Pass on what comes, and end this process if the parent is gone or wants it no longer."""
    try:
        while (task := connection.recv_bytes()) != _NO_MORE:
            tasks.put(task)
        tasks.put(_NO_MORE)
    except (EOFError, OSError):
        os._exit(1)  # in the middle of a call: nobody waits for its result


def _portable(error: Exception) -> Exception:
    """Return an error that survives the way home, with its traceback as a note."""
    note = f"In a worker process:\n{traceback.format_exc()}"
    try:
        pickle.loads(_dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(note)
    return error


class _Worker:
    """A process that runs one call after another, and this end of its connection."""

    def __init__(self, environment: dict[str, str]) -> None:
        from joblib.externals.loky.backend import get_context

        self.connection, theirs = multiprocessing.Pipe()
        # A process of loky, unlike one of the standard library, does not run the caller's script
        # again. The variables count when NumPy is imported, before any other limit can be set.
        self.process = get_context("loky").Process(
            target=_serve, args=(theirs,), env=environment, daemon=True
        )
        self.process.start()
        theirs.close()  # only the worker holds it now, so that its death closes the connection

    def dismiss(self) -> None:
        """Let the process end by itself: it has no more to do."""
        with contextlib.suppress(OSError):
            self.connection.send_bytes(_NO_MORE)
        self.process.join(_PATIENCE)
        self.stop()

    def stop(self) -> None:
        """End the process, whatever it does."""
        self.connection.close()
        self.process.terminate()
        self.process.join()

    def why_it_died(self) -> str:
        self.process.join(_PATIENCE)
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"its worker process was killed by {signal.Signals(-code).name}"
        return f"its worker process ended with exit code {code}"


def _on_processes(
    processes: int,
    function: Callable[..., Result],
    calls: Sequence[_Call],
    threads: int,
    report: Report | None,
    lost: _Lost[Result] | None,
) -> Iterator[Result]:
    from joblib.parallel import ParallelBackendBase

    environment = dict.fromkeys(ParallelBackendBase.MAX_NUM_THREADS_VARS, str(threads))
    waiting = deque(calls)
    busy: dict[Any, tuple[_Worker, _Call]] = {}

    def start_next(worker: _Worker | None) -> None:
        call = waiting.popleft()
        task = _dumps((function, call, threads, report is not None))
        if worker is not None:
            try:
                worker.connection.send_bytes(task)
            except OSError:  # it died between two calls, which costs neither
                worker.stop()
                worker = None
        if worker is None:
            worker = _Worker(environment)
            worker.connection.send_bytes(task)
        busy[worker.connection] = worker, call

    try:
        for _ in range(processes):
            start_next(None)
        while busy:
            for connection in wait(list(busy)):
                worker, call = busy[connection]
                kind, value = _next_message(worker)
                if kind == _TOLD:
                    if report is not None:
                        report(*value)
                    continue
                del busy[connection]
                if kind == _RAISED:
                    worker.stop()
                    raise value
                if kind == _DIED:
                    worker.stop()
                # The next call runs while the caller looks at this result.
                if waiting:
                    start_next(worker if kind == _RETURNED else None)
                elif kind == _RETURNED:
                    worker.dismiss()
                yield value if kind == _RETURNED else _make_up(lost, call, value)
    finally:
        for worker, _ in busy.values():
            worker.stop()


def _next_message(worker: _Worker) -> tuple[str, Any]:
    try:
        message = worker.connection.recv_bytes()
    except (EOFError, OSError):
        return _DIED, worker.why_it_died()
    kind, value = pickle.loads(message)
    return kind, value


# --- a Dask cluster ---


@contextlib.contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Run the calls of :func:`unordered` on a Dask cluster, inside a ``with`` block.

    Parameters
    ----------
    address
        Of the scheduler, such as ``"tcp://192.168.0.1:8786"``; None changes nothing.

    Raises
    ------
    ValueError
        If the address is not one, no scheduler or no worker answers there within ten seconds, a
        worker has another version of prefsim, or dask.distributed is not installed here.
    """
    if address is None:
        yield
        return
    import joblib

    client = _connect(address)
    with client:
        _check_workers(client, address)
        with joblib.parallel_config(backend="dask", client=client):
            yield


def _connect(address: str) -> Any:
    """Return a client of the scheduler at ``address``; raise ValueError where there is none."""
    try:
        import distributed
    except ImportError:
        raise ValueError(
            "a cluster needs dask.distributed: pip install 'prefsim[cluster]'"
        ) from None
    if not isinstance(address, str) or not re.fullmatch(r"(tcp|tls|ws|wss)://\S+:\d+", address):
        raise ValueError(
            "cluster must be the address of a Dask scheduler such as tcp://HOST:8786,"
            f" got {address!r}"
        )
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def connect() -> None:
        try:
            client = distributed.Client(address, timeout=_PATIENCE, set_as_default=False)
        except Exception as error:  # whatever listens there may say anything
            answers.put(error)
        else:
            answers.put(client)

    # In a thread, since the client waits for ever for a listener that does not say a word.
    threading.Thread(target=connect, daemon=True).start()
    try:
        answer = answers.get(timeout=_PATIENCE + 1)
    except queue.Empty:
        answer = TimeoutError("what listens there does not answer")
    if isinstance(answer, Exception):
        raise ValueError(
            f"cluster must be the address of a Dask scheduler that runs, got {address!r}:"
            f" {answer or type(answer).__name__}"
        )
    return answer


def _check_workers(client: Any, address: str) -> None:
    """Raise unless a worker answers and every one has this version of prefsim."""
    version = importlib.metadata.version
    try:
        # A call, since a cluster that grows on demand starts its first worker for one.
        client.submit(version, "dask", pure=False).result(timeout=_PATIENCE)
    except TimeoutError:
        raise ValueError(
            f"cluster must have a worker, got none at {address!r} after {_PATIENCE} s"
        ) from None
    for worker, found in client.run(version, "prefsim", on_error="return").items():
        if found != __version__:
            has = "no prefsim" if isinstance(found, Exception) else f"prefsim {found}"
            raise ValueError(
                f"every worker of a cluster must have prefsim {__version__}, got {has} at {worker}"
            )


def _dask_client(backend: Any) -> Any | None:
    """Return the client that a backend of joblib hands its calls to, None if that is not Dask's."""
    distributed = sys.modules.get("distributed")
    client = getattr(backend, "client", None)
    if distributed is None or not isinstance(client, distributed.Client):
        return None
    return client


class _Event:
    """A report that travels from a Dask worker to the client, by way of the scheduler."""

    def __init__(self, topic: str) -> None:
        self.topic = topic

    def __call__(self, *event: Any) -> None:
        from distributed import get_worker

        # A thread that the call has started itself is no worker's: its progress stays unknown.
        with contextlib.suppress(ValueError):
            get_worker().log_event(self.topic, event)


def _run_pickled(task: bytes, report: Report | None) -> Any:
    """Run a call in a Dask worker; bytes, since Dask looks for its own objects in all else."""
    # Another thread of the worker draws from ``random`` for purposes of its own, and Hypothesis
    # takes that for a strategy which does.
    warnings.filterwarnings("ignore", "Do not use the `random` module inside strategies")
    function, call, threads = pickle.loads(task)
    return _limited(function, call, threads, report)


def _on_dask(
    client: Any,
    options: dict[str, Any],
    function: Callable[..., Result],
    calls: Sequence[_Call],
    threads: int,
    report: Report | None,
    lost: _Lost[Result] | None,
) -> Iterator[Result]:
    # joblib's own backend for Dask waits for ever for a call whose worker died.
    from distributed import CancelledError, KilledWorker
    from distributed.comm import CommClosedError

    topic = f"prefsim-{uuid.uuid4().hex}"
    # Both kinds of news, so that the thread that iterates hears them in their order.
    news: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def hear(event: tuple[float, Any]) -> None:
        _, told = event
        news.put((_TOLD, told))

    def finished(batch: Sequence[_Call]) -> Iterator[tuple[_Call, Any, KilledWorker | None]]:
        """Yield each call with its result, or with the error that says that its worker died."""
        pending = {}
        told = None if report is None else _Event(topic)
        try:
            for call in batch:
                task = _dumps((function, call, threads))
                future = client.submit(_run_pickled, task, told, pure=False, **options)
                pending[future.key] = call, future
                future.add_done_callback(lambda future: news.put((_RETURNED, future.key)))
            while pending:
                kind, value = news.get()
                if kind == _TOLD:
                    if report is not None:
                        report(*value)
                    continue
                call, future = pending.pop(value)
                result = died = None
                try:
                    result = future.result()
                except KilledWorker as error:
                    died = error
                except (CancelledError, CommClosedError) as error:
                    message = "the connection to the scheduler of the cluster was lost"
                    raise ConnectionError(message) from error
                # A result that somebody still refers to is computed again when its worker dies.
                future.release()
                yield call, result, died
        finally:
            if pending and client.status == "running":
                client.cancel([future for _, future in pending.values()])

    if report is not None:
        client.subscribe_topic(topic, hear)
    try:
        suspects = []
        for call, result, died in finished(calls):
            if died is None:
                yield result
            else:
                suspects.append(call)
        # Dask blames every call that a dead worker had been given, and not only the one that ran.
        # Alone on the cluster, a call has nobody else to blame.
        for suspect in suspects:
            ((call, result, died),) = finished([suspect])
            if died is not None:
                reason = f"its worker died, the last one at {died.last_worker.address}"
                result = _make_up(lost, call, reason)
            yield result
    finally:
        if report is not None and client.status == "running":
            client.unsubscribe_topic(topic)


# --- any other backend of joblib ---


def _by_joblib(
    backend: Any,
    workers: int | None,
    function: Callable[..., Result],
    calls: Sequence[_Call],
    threads: int,
    report: Report | None,
) -> Iterator[Result]:
    import joblib

    if workers is None:
        # joblib gives a call within a call few workers, which the outer ones leave it.
        workers = backend.default_n_jobs if backend.nesting_level else -1
    shared = None
    if report is not None and getattr(backend, "supports_sharedmem", False):
        shared = _one_at_a_time(report)
    return_as = "generator_unordered" if backend.supports_return_generator else "list"
    pool = joblib.Parallel(n_jobs=workers, return_as=return_as, batch_size=1)
    yield from pool(joblib.delayed(_limited)(function, call, threads, shared) for call in calls)


def _one_at_a_time(report: Report) -> Report:
    lock = threading.Lock()

    def told(*event: Any) -> None:
        with lock:
            report(*event)

    return told
