"""Claims of papers that are no papers, and the command as users run it."""

import subprocess
import sys

DRAWN = 'source="eq. 3", stated="paper", given={"x": st.floats(0, 1)}, tolerance=1e-9'
FAILS = f"""
@claim("fails", "identity", {DRAWN})
def is_two(x):
    '''x = 2'''
    return apart(x, 2.0)
"""
NOTHING_BREAKS = f"""
@claim("robust", "identity", {DRAWN}, breaks={{"x": st.floats(0, 1)}})
def is_itself(x):
    '''x = x'''
    return apart(x, x)
"""
RAISES = f"""
@claim("raises", "identity", {DRAWN})
def divides(x):
    '''x = x'''
    return Verdict(1 / 0)
"""


def process(*arguments, **options):
    """Run a command as users do."""
    return subprocess.run(
        [sys.executable, "-m", "prefsim", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )
