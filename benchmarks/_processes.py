"""What benchmarks need to measure one competitor in a process of its own.

That is memory, its peak, and the process itself.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["in_own_process", "resident_mb", "restart_peak"]


def resident_mb(field: str) -> float:
    """Return a field of the process's memory, such as VmRSS or its peak VmHWM, in MB.

    Where there is no /proc it is the peak in any case.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return (
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            / (2**20 if sys.platform == "darwin" else 2**10)
            * 1.048576
        )
    line = next(line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6


def restart_peak() -> float:
    """Let the peak start again from here, and return what is resident now, in MB."""
    gc.collect()
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")
    return resident_mb("VmRSS")


def in_own_process(
    script: str,
    arguments: list[str],
    threads: int | None = None,
    *,
    timeout: float | None = None,
) -> dict[str, Any] | str:
    """Run ``script`` and return the JSON of its last line, or the last line of its error.

    It is stopped after ``timeout`` seconds.
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = (
        dict(os.environ) if threads is None else os.environ | dict.fromkeys(names, str(threads))
    )
    try:
        done = subprocess.run(
            [sys.executable, script, *arguments],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return f"stopped after {timeout:.0f} s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return dict(json.loads(done.stdout.splitlines()[-1]))
