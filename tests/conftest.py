"""Test session: one BLAS thread under xdist, hypothesis profiles, real data where it is found."""

import os
from pathlib import Path

# Two workers with two BLAS threads each on two cores run slower than one; this must happen before NumPy is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(_name, "1")

import pytest
from hypothesis import HealthCheck, settings

from prefsim.data.locate import data_folder

settings.register_profile(
    "ci", max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "nightly", max_examples=1000, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real data: ``PREFSIM_DATA``, or ``../shared/data`` beside the checkout."""
    folder = data_folder() or (BESIDE if BESIDE.is_dir() else None)
    if folder is None:
        pytest.skip(f"real data not found: set PREFSIM_DATA or put it in {BESIDE}")
    return folder
