"""Calls on processes of this machine, of which one may die without harm to the others."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import queue
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from prefsim.parallel.calls import (
    PATIENCE,
    RETURNED,
    TOLD,
    Call,
    Lost,
    Report,
    Result,
    dumps,
    limited,
    made_up,
)

__all__ = ["on_processes"]

# joblib's own pool breaks as a whole when one of its processes dies: every call that runs then is
# killed, and which one was to blame is unknown. Here each process has a connection of its own,
# which closes when either end dies. That says which call was lost, and ends the workers of a parent
# that died.

_RAISED, _DIED = "raised", "died"
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
        send(dumps((TOLD, event)))

    while (task := tasks.get()) != _NO_MORE:
        try:
            function, call, threads, watched = pickle.loads(task)
            result = limited(function, call, threads, report if watched else None)
            answer = dumps((RETURNED, result))
        except Exception as error:
            answer = dumps((_RAISED, _portable(error)))
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
        pickle.loads(dumps(error))
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
        self.process.join(PATIENCE)
        self.stop()

    def stop(self) -> None:
        """End the process, whatever it does."""
        self.connection.close()
        self.process.terminate()
        self.process.join()

    def why_it_died(self) -> str:
        self.process.join(PATIENCE)
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"its worker process was killed by {signal.Signals(-code).name}"
        return f"its worker process ended with exit code {code}"


def on_processes(
    processes: int,
    function: Callable[..., Result],
    calls: Sequence[Call],
    threads: int,
    report: Report | None,
    lost: Lost[Result] | None,
) -> Iterator[Result]:
    """Yield the results of calls on processes of this machine, so many at a time."""
    from joblib.parallel import ParallelBackendBase

    environment = dict.fromkeys(ParallelBackendBase.MAX_NUM_THREADS_VARS, str(threads))
    waiting = deque(calls)
    busy: dict[Any, tuple[_Worker, Call]] = {}

    def start_next(worker: _Worker | None) -> None:
        call = waiting.popleft()
        task = dumps((function, call, threads, report is not None))
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
                if kind == TOLD:
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
                    start_next(worker if kind == RETURNED else None)
                elif kind == RETURNED:
                    worker.dismiss()
                yield value if kind == RETURNED else made_up(lost, call, value)
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
