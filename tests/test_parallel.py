"""Calls run where the caller says, their results and progress come home, and each dies alone."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import dask
import joblib
import psutil
import pytest
from conftest import write_fake_paper
from distributed import Client, LocalCluster
from joblib.parallel import ThreadingBackend
from parallel_tasks import (
    blas_threads,
    fail,
    fail_stubbornly,
    logged,
    square,
    unsendable,
    wait_for_ever,
)

from prefsim import __version__
from prefsim.papers.reproducing import read_result, run_reproductions
from prefsim.papers.verdicts import check_papers
from prefsim.parallel import cluster, dask_cluster, track, unordered

DEADLINE = 120  # seconds after which what was waited for is not going to come


# Nobody has asked for more than the results.
pytestmark = [
    pytest.mark.filterwarnings(f"error::{kind}") for kind in ("UserWarning", "RuntimeWarning")
]

#: Everything on this machine, and nothing said of workers that die on purpose.
LOOPBACK = {
    "host": "127.0.0.1",
    "dashboard_address": "127.0.0.1:0",
    "worker_dashboard_address": "127.0.0.1:0",
    "silence_logs": logging.CRITICAL,
}


@pytest.fixture(scope="module")
def two_workers():
    """Return the address of a Dask cluster on this machine."""
    # A call that dies with its worker is not tried again, and those beside it are blamed as well.
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, **LOOPBACK) as local,
    ):
        yield local.scheduler_address


def pids(address):
    with Client(address, set_as_default=False) as client:
        return set(client.run(os.getpid).values())


@pytest.fixture(params=["processes", "dask"])
def workers(request):
    """Run the calls of a test on two workers, and say of which kind they are."""
    if request.param == "processes":
        with joblib.parallel_config(n_jobs=2):
            yield "processes"
    else:
        with cluster(request.getfixturevalue("two_workers")):
            yield "dask"


def until(condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


def ended(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# --- where the calls run ---


def test_calls_run_in_the_workers_and_tell_of_it_here(workers, two_workers):
    told = []

    def report(*event):
        told.append((*event, threading.get_ident()))

    found = list(unordered(square, [(x,) for x in range(6)], report=report))
    assert sorted((x, y) for x, y, *_ in found) == [(x, x * x) for x in range(6)]
    ran_in = {pid for _, _, pid, _ in found}
    assert os.getpid() not in ran_in
    assert (ran_in <= pids(two_workers)) == (workers == "dask")
    here = threading.get_ident()
    assert sorted(told) == [(f"job {x}", "squaring", 1, 1, here) for x in range(6)]


def test_without_a_word_of_the_caller_calls_run_here_in_order():
    found = list(unordered(square, [(x,) for x in (2, 0, 1)]))
    assert [x for x, *_ in found] == [2, 0, 1]
    assert {pid for _, _, pid, _ in found} == {os.getpid()}


def test_jobs_are_processes():
    found = list(unordered(square, [(x,) for x in range(4)], jobs=2))
    assert os.getpid() not in {pid for _, _, pid, _ in found}
    assert len({pid for _, _, pid, _ in found}) <= 2


@pytest.mark.parametrize("jobs", [0, -2, 1.0, True])
def test_bad_jobs(jobs):
    with pytest.raises(ValueError, match="jobs must be an integer >= 1, or -1 for one a core"):
        list(unordered(square, [(1,)], jobs=jobs))


@pytest.mark.parametrize("calls", [[(1,)], [(1,), (2,), (3,)]])
def test_the_threads_of_the_caller(calls):
    told = []
    with joblib.parallel_config(backend="threading", n_jobs=2):
        found = list(unordered(square, calls, report=lambda *event: told.append(event)))
    assert {pid for _, _, pid, _ in found} == {os.getpid()}
    assert threading.get_ident() not in {thread for *_, thread in found}
    assert sorted(told) == [(f"job {x}", "squaring", 1, 1) for (x,) in calls]


def test_one_call_runs_on_the_cluster_too(two_workers):
    with cluster(two_workers):
        ((_, _, pid, _),) = unordered(square, [(1,)])
    assert pid in pids(two_workers)


class Bare(ThreadingBackend):
    """A backend like Ray's: it returns all results at once and shares no memory."""

    supports_retrieve_callback = False
    supports_sharedmem = False

    def submit(self, func, callback=None):
        return self._get_pool().apply_async(func, callback=callback)


def test_a_backend_that_can_do_little_does_it():
    told = []
    with joblib.parallel_config(backend=Bare(), n_jobs=2):
        found = list(
            unordered(square, [(x,) for x in range(4)], report=lambda *event: told.append(event))
        )
    assert sorted((x, y) for x, y, *_ in found) == [(x, x * x) for x in range(4)]
    assert threading.get_ident() not in {thread for *_, thread in found}
    assert told == []


def test_one_blas_thread_each_in_workers(workers):
    assert list(unordered(blas_threads, [(x,) for x in range(2)])) == [{1}, {1}]


ONE_THREAD_EACH = """
import joblib
from parallel_tasks import blas_threads
from prefsim.parallel import unordered
before = blas_threads(0, report=None)
for _ in range(20):  # who comes first and who goes last is a matter of chance
    with joblib.parallel_config(backend="BACKEND", n_jobs=2):
        found = list(unordered(blas_threads, [(x,) for x in range(4)]))
    assert found == [{1}] * 4, found
    assert blas_threads(0, report=None) == before
"""


@pytest.mark.parametrize("backend", ["sequential", "threading"])
def test_one_blas_thread_each_here_and_afterwards_as_many_as_before(backend):
    limits = {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"}
    environment = {name: value for name, value in os.environ.items() if name not in limits}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    script = ONE_THREAD_EACH.replace("BACKEND", backend)
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)


TORCH_LATER = """
import sys
import joblib
from parallel_tasks import torch_threads
from prefsim.parallel import unordered
assert "torch" not in sys.modules
(found,) = unordered(torch_threads, [(0,)])
assert found == 1, found
assert sys.modules["torch"].get_num_threads() == joblib.cpu_count()
assert list(unordered(torch_threads, [(0,)])) == [1]
"""


def test_torch_has_one_thread_too_if_it_is_imported_in_the_call():
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    subprocess.run([sys.executable, "-c", TORCH_LATER], check=True, env=environment)


def test_more_blas_threads_where_the_caller_says_so():
    with joblib.parallel_config(backend="loky", n_jobs=2, inner_max_num_threads=2):
        assert list(unordered(blas_threads, [(x,) for x in range(2)])) == [{2}, {2}]


# --- what goes wrong ---


@pytest.mark.parametrize("end", ["exit", "kill"])
def test_a_worker_that_dies_costs_its_own_call_only(workers, end, tmp_path):
    log = tmp_path / "log"
    names = ["a", "b", end, "c", "d", "e"]
    calls = [(name, str(log)) for name in names]
    began = {}
    found = {}
    for name, reason in unordered(logged, calls, lost=lambda call, reason: (call[0], reason)):
        found[name] = reason
        began[name] = log.read_text().split().count(name)
    assert {name: reason for name, reason in found.items() if name != end} == dict.fromkeys(
        sorted(set(names) - {end})
    )
    if workers == "dask":
        assert "its worker died, the last one at tcp://127.0.0.1:" in found[end]
    else:
        assert found[end] in (
            "its worker process ended with exit code 7",
            "its worker process was killed by SIGKILL",
        )
        assert set(began.values()) == {1}
        # Dask may run a call again whose release it has not heard of when the worker dies.
        after = log.read_text().split()
        assert {name: after.count(name) for name in names} == began


def test_a_worker_that_dies_raises_where_nobody_takes_the_loss(tmp_path):
    calls = [("exit", str(tmp_path / "log"))] * 2
    with pytest.raises(RuntimeError, match=r"ended with exit code 7, in the call \('exit', "):
        list(unordered(logged, calls, jobs=2))


def test_an_error_of_a_call_is_raised_here(workers):
    with pytest.raises(KeyError, match="no 1") as caught:
        list(unordered(fail, [(1,), (1,)]))
    if workers == "processes":
        assert "raise KeyError" in caught.value.__notes__[0]


def test_an_error_that_cannot_be_sent_is_told():
    with pytest.raises(RuntimeError, match="Stubborn: no way"):
        list(unordered(fail_stubbornly, [(1,), (2,)], jobs=2))


def test_a_result_that_cannot_be_sent_is_an_error():
    with pytest.raises(TypeError, match="cannot pickle"):
        list(unordered(unsendable, [(1,), (2,)], jobs=2))


def running(folder, count):
    """Wait until ``count`` calls of :func:`wait_for_ever` run, and return their processes."""
    until(lambda: len(list(folder.glob("*.pid"))) == count)
    return [int(path.read_text()) for path in folder.glob("*.pid")]


def test_leaving_early_ends_the_workers(tmp_path):
    results = unordered(wait_for_ever, [(x, str(tmp_path)) for x in range(3)], jobs=2)
    next(results)
    inside = running(tmp_path, 3)
    results.close()
    assert all(ended(pid) for pid in inside)


SCRIPT = """
from prefsim.parallel import unordered
from parallel_tasks import wait_for_ever

for _ in unordered(wait_for_ever, [(x, {folder!r}) for x in (1, 2, 3, 4)], jobs=2, report=print):
    print("done")
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(how, tmp_path):
    # No guard of the main module: the workers do not run the script again.
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(folder=str(tmp_path)))
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    with subprocess.Popen([sys.executable, str(script)], env=environment) as parent:
        inside = running(tmp_path, 2)
        parent.send_signal(how)
    until(lambda: all(ended(pid) for pid in inside))
    assert len(list(tmp_path.glob("*.pid"))) == 2


# --- a cluster ---


def test_no_address_changes_nothing():
    with cluster(None):
        ((_, _, pid, _),) = unordered(square, [(1,)])
    assert pid == os.getpid()


@pytest.mark.parametrize("address", ["", "localhost:8786", "tcp://localhost", "processes", 8786])
def test_what_is_no_address(address):
    with pytest.raises(ValueError, match="must be the address of a Dask scheduler such as tcp://"):
        enter(address)


def enter(address):
    with cluster(address):
        pytest.fail("there is no such cluster")


@pytest.mark.parametrize("listens", [False, True])
def test_where_no_scheduler_answers(listens, monkeypatch):
    monkeypatch.setattr(dask_cluster, "PATIENCE", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if listens:
            silent.listen()
        with pytest.raises(ValueError, match="must be the address of a Dask scheduler that runs"):
            enter(f"tcp://127.0.0.1:{silent.getsockname()[1]}")


def test_a_cluster_without_workers(monkeypatch):
    monkeypatch.setattr(dask_cluster, "PATIENCE", 1)
    with (
        LocalCluster(n_workers=0, **LOOPBACK) as local,
        pytest.raises(ValueError, match="cluster must have a worker, got none at 'tcp://"),
    ):
        enter(local.scheduler_address)


def test_workers_of_another_version(two_workers, monkeypatch):
    monkeypatch.setattr(dask_cluster, "__version__", "0.0.0")
    message = f"must have prefsim 0.0.0, got prefsim {__version__} at tcp://127.0.0.1:"
    with pytest.raises(ValueError, match=message):
        enter(two_workers)


def test_without_dask(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r"pip install 'prefsim\[cluster\]'"):
        enter("tcp://127.0.0.1:8786")


# --- papers ---

DYING = "os._exit(3)"


def test_results_of_papers_come_home_to_one_folder(workers, tmp_path):
    elsewhere = f"passed = os.getpid() != {os.getpid()}"
    papers = [
        str(write_fake_paper(tmp_path / "papers" / name, body=body))
        for name, body in [("one", elsewhere), ("dying", DYING), ("two", elsewhere)]
    ]
    told = []
    outcomes = {
        outcome.slug: outcome
        for outcome in run_reproductions(
            papers, out=tmp_path / "out", report=lambda *event: told.append(event)
        )
    }
    assert outcomes["one"].passed
    assert outcomes["two"].passed
    assert "its worker" in outcomes["dying"].error
    for name in ("one", "two"):
        assert sorted(file.name for file in (tmp_path / "out" / name).iterdir()) == [
            "figure.png",
            "figure.svg",
            "result.json",
        ]
        assert read_result(tmp_path / "out" / name) == outcomes[name].result
        assert (name, "steps", 3, 3) in told


def test_verdicts_do_not_depend_on_where_they_were_found(workers, tmp_path):
    papers = [str(write_fake_paper(tmp_path / name)) for name in ("one", "two")]
    told = []
    found = check_papers(papers, examples=5, report=lambda *event: told.append(event))
    with joblib.parallel_config(backend="sequential"):
        here = check_papers(papers, examples=5)
    assert found == here
    assert {done for *_, done, _ in told} == {1, 2, 3, 4}
    assert all(result.holds for results in found.values() for result in results.values())


# --- progress of a loop ---


def test_a_loop_tells_of_its_start_and_end():
    told = []
    items = track(iter("abc"), "steps", name="job", report=lambda *event: told.append(event))
    assert list(items) == list("abc")
    assert told[0] == ("job", "steps", 0, None)
    assert told[-1] == ("job", "steps", 3, 3)
