"""prefsim: theory-first simulation and reference library for learning from preferences.

The way through the house is
``worlds -> raters -> data -> logic -> losses -> solvers -> analysis -> papers``; see
``docs/architecture.md``. Every room answers by its name after ``import prefsim``, and is imported
when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from prefsim.backend import use_backend

if TYPE_CHECKING:
    from prefsim import (
        analysis,
        backend,
        checks,
        containers,
        data,
        divergences,
        gradients,
        lm,
        logic,
        loops,
        losses,
        numerics,
        papers,
        parallel,
        policies,
        raters,
        solvers,
        testing,
        typing,
        worlds,
    )

__all__ = [
    "__version__",
    "analysis",
    "backend",
    "checks",
    "containers",
    "data",
    "divergences",
    "gradients",
    "lm",
    "logic",
    "loops",
    "losses",
    "numerics",
    "papers",
    "parallel",
    "policies",
    "raters",
    "solvers",
    "testing",
    "typing",
    "use_backend",
    "worlds",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Asked only for what is not there yet: the rooms.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted(__all__)
