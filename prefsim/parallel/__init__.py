"""Many independent calls on several processes or machines, and their progress told to the caller.

Where the calls run is for the caller to say, by ``joblib.parallel_config`` or by :func:`cluster`:

=====================  ===========================================================================
backend                what happens
=====================  ===========================================================================
none, or ``"loky"``    Processes of this machine. One that dies costs the call that it ran, and the
                       others do not notice. All end with the process that started them.
``"dask"``             The workers of a Dask cluster. A call whose worker dies is tried again as
                       often as the scheduler allows, and costs no other call. Results and progress
                       come home over the connection: nothing is written where a worker runs.
``"threading"``,       This process.
``"sequential"``
any other              Whatever joblib has a backend for, such as Ray. Progress inside the calls
                       stays unknown, and a worker that dies is that backend's own affair.
=====================  ===========================================================================

Each call runs with one BLAS thread, wherever it runs, so that its result does not depend on that.
"""

from prefsim.parallel.calls import Report, check_jobs, track
from prefsim.parallel.dask_cluster import cluster
from prefsim.parallel.dispatch import unordered

__all__ = ["Report", "check_jobs", "cluster", "track", "unordered"]


def __dir__() -> list[str]:
    return sorted(__all__)
