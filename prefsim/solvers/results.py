"""What every solver shares: the warning it gives when its certificate misses the tolerance."""

from __future__ import annotations

import functools
import os
import sys
import warnings
from pathlib import Path

__all__ = ["ConvergenceWarning", "warn_caller"]


class ConvergenceWarning(UserWarning):
    """A solver stopped before its certificate met the tolerance.

    The result says how far it came.
    """


# With the separator: a package of somebody else may begin with our name.
_OURS = (str(Path(__file__).parents[1]) + os.sep, functools.__file__)


def warn_caller(message: str, category: type[Warning] = ConvergenceWarning) -> None:
    """Give a warning that points at the line which called this library."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OURS):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
