"""Small calls for the tests of parallel running, in a module that every worker can import."""

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info


def square(x, *, report):
    if report is not None:
        report(f"job {x}", "squaring", 1, 1)
    return x, x * x, os.getpid(), threading.get_ident()


def logged(x, log, *, report):
    """Note that ``x`` began; one called "exit" or "kill" takes its process along."""
    with open(log, "a") as file:
        file.write(f"{x}\n")
    if x == "exit":
        os._exit(7)
    if x == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return x, None


def fail(x, *, report):
    raise KeyError(f"no {x}")


class Stubborn(Exception):
    """An error that cannot be made from its arguments again, as unpickling tries to."""

    def __init__(self, message, more):
        super().__init__(message)


def fail_stubbornly(x, *, report):
    raise Stubborn("no way", x)


def unsendable(x, *, report):
    return threading.Lock()


def blas_threads(_, *, report):
    np.ones((2, 2)) @ np.ones((2, 2))
    pools = threadpool_info()
    return {pool["num_threads"] for pool in pools if pool["user_api"] == "blas"}


def wait_for_ever(x, folder, *, report):
    """Say which process this is, in a file, and stay; 0 returns at once."""
    partial = Path(folder) / f"{x}.part"
    partial.write_text(str(os.getpid()))
    partial.rename(partial.with_suffix(".pid"))
    while x != 0:
        time.sleep(1)


def torch_threads(x, *, report):
    """How many threads torch has, imported here if nowhere before."""
    import torch

    return torch.get_num_threads()
