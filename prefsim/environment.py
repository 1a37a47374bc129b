"""What this installation runs on: versions, devices, threads."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from typing import Any

from prefsim import __version__
from prefsim.backend import current_backend

__all__ = ["environment"]

_PACKAGES = (
    "numpy",
    "scipy",
    "torch",
    "array-api-compat",
    "cvxpy",
    "gymnasium",
    "hypothesis",
    "matplotlib",
    "joblib",
    "transformers",
)


def environment() -> dict[str, Any]:
    """Return versions, devices and threads as plain data.

    A package that is not installed has the version None.

    Torch is imported here, because only it knows the devices; its absence or failure is reported as
    a device list of ``["cpu"]``.
    """
    return {
        "prefsim": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": {name: _installed(name) for name in _PACKAGES},
        "backend": current_backend().name,
        "devices": _devices(),
        "threads": {"cores": _cores(), **_pools()},
        "data": os.environ.get("PREFSIM_DATA") or None,
    }


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cores() -> int:
    """Return the cores that this process may use.

    A container or taskset can make them fewer than the machine has.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pools() -> dict[str, int]:
    from threadpoolctl import threadpool_info

    return {
        f"{pool['user_api']} ({pool['internal_api']})": pool["num_threads"]
        for pool in threadpool_info()
    }


def _devices() -> list[str]:
    try:
        import torch
    except (ImportError, OSError):
        return ["cpu"]
    found = ["cpu"]
    if torch.cuda.is_available():
        found += [
            f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())
        ]
    if torch.backends.mps.is_available():
        found.append("mps")
    return found
