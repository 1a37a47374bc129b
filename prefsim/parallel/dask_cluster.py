"""Calls on the workers of a Dask cluster, and the connection to it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import pickle
import queue
import re
import sys
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from prefsim import __version__
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

__all__ = ["cluster", "dask_client", "on_dask"]


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
            client = distributed.Client(address, timeout=PATIENCE, set_as_default=False)
        except Exception as error:  # whatever listens there may say anything
            answers.put(error)
        else:
            answers.put(client)

    # In a thread, since the client waits for ever for a listener that does not say a word.
    threading.Thread(target=connect, daemon=True).start()
    try:
        answer = answers.get(timeout=PATIENCE + 1)
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
        client.submit(version, "dask", pure=False).result(timeout=PATIENCE)
    except TimeoutError:
        raise ValueError(
            f"cluster must have a worker, got none at {address!r} after {PATIENCE} s"
        ) from None
    for worker, found in client.run(version, "prefsim", on_error="return").items():
        if found != __version__:
            has = "no prefsim" if isinstance(found, Exception) else f"prefsim {found}"
            raise ValueError(
                f"every worker of a cluster must have prefsim {__version__}, got {has} at {worker}"
            )


def dask_client(backend: Any) -> Any | None:
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
    return limited(function, call, threads, report)


def on_dask(
    client: Any,
    options: dict[str, Any],
    function: Callable[..., Result],
    calls: Sequence[Call],
    threads: int,
    report: Report | None,
    lost: Lost[Result] | None,
) -> Iterator[Result]:
    """Yield the results of calls on the workers of a cluster."""
    # joblib's own backend for Dask waits for ever for a call whose worker died.
    from distributed import CancelledError, KilledWorker
    from distributed.comm import CommClosedError

    topic = f"prefsim-{uuid.uuid4().hex}"
    # Both kinds of news, so that the thread that iterates hears them in their order.
    news: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def hear(event: tuple[float, Any]) -> None:
        _, told = event
        news.put((TOLD, told))

    def finished(batch: Sequence[Call]) -> Iterator[tuple[Call, Any, KilledWorker | None]]:
        """Yield each call with its result, or with the error that says that its worker died."""
        pending = {}
        told = None if report is None else _Event(topic)
        try:
            for call in batch:
                task = dumps((function, call, threads))
                future = client.submit(_run_pickled, task, told, pure=False, **options)
                pending[future.key] = call, future
                future.add_done_callback(lambda future: news.put((RETURNED, future.key)))
            while pending:
                kind, value = news.get()
                if kind == TOLD:
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
                result = made_up(lost, call, reason)
            yield result
    finally:
        if report is not None and client.status == "running":
            client.unsubscribe_topic(topic)
