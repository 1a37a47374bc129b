"""prefsim: theory-first simulation and reference library for learning from preferences.

The way through the house is
``worlds -> raters -> data -> losses -> solvers -> analysis -> papers``; see
``docs/architecture.md``.
"""

from prefsim.backend import use_backend

__all__ = ["__version__", "use_backend"]

__version__ = "0.1.0"
