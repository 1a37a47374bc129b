"""A warning points at the line that called this library, whoever else has a like name."""

import sys
import warnings
from pathlib import Path

import pytest

import prefsim
from prefsim.solvers.results import ConvergenceWarning, warn_caller

BESIDE = f"{Path(prefsim.__file__).parent}_experiments/run.py"


@pytest.mark.parametrize("category", [ConvergenceWarning, RuntimeWarning])
@pytest.mark.parametrize("file", ["/home/somebody/run.py", BESIDE])
def test_the_first_line_outside_this_library_is_named(file, category):
    code = compile("def run(warn, *given):\n\n    warn(*given)\n", file, "exec")
    names = {}
    exec(code, names)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        names["run"](warn_caller, "not there yet", category)
    (found,) = caught
    assert (found.filename, found.lineno, found.category) == (file, 3, category)
    assert sys.modules["prefsim"] is prefsim
