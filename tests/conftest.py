"""Test session: one BLAS thread under xdist, hypothesis profiles, real data where it is found."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# Two workers with two BLAS threads each on two cores run slower than one; this must happen before
# NumPy is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(_name, "1")

import pytest
from hypothesis import HealthCheck, settings

import paper_repros
from prefsim.data.locate import data_folder

settings.register_profile(
    "ci",
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "nightly",
    max_examples=1000,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
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


FAKE_PAPER = """
import os, time
from hypothesis import assume, strategies as st
from matplotlib.figure import Figure
from prefsim.papers import Claim, Criterion, Paper, Reproduction, Run, Verdict

PAPER = Paper(slug={slug!r}, title="On <{slug}> & more", arxiv="2401.00001", year=2024, family={family!r},
              summary="A [bold]summary[/bold] & <b>more</b>.", implements=("prefsim.losses.dpo",))


def shift(x):
    return Verdict(max(0.0, x - 1), f"x = {{x}}")


CLAIMS = (
    Claim("zero", "identity", "x & <x> agree", "eq. 1", st.floats(0, 1), lambda x: Verdict(0.0), 1e-9),
    Claim("bound", "inequality", "x <= 1", "eq. 2", st.floats(0, 1), shift, 1e-9, breaks=st.floats(0, 5)),
    {claims}
)


def reproduce(run):
    passed = True
    for _ in run.progress(range(3), "steps"):
        time.sleep({pause})
    {body}
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot([0, run.seed])
    table = [{{"n": 1, "error <e>": 0.5}}, {{"n": 2, "other": float("nan")}}]
    criteria = (Criterion("first <c>", ">= 0 & more", 1.23456789, True), Criterion("second", "yes", "[red]yes", passed))
    return Reproduction(figure, table, criteria)
"""


@pytest.fixture
def fake_papers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Make papers in a folder that takes the place of ``paper_repros``, here and (by ``PYTHONPATH``) in processes started from here."""
    folder = tmp_path / "fake" / "paper_repros"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text('"""Papers made for a test."""\n')
    monkeypatch.setattr(paper_repros, "__path__", [str(folder)])
    monkeypatch.setenv("PYTHONPATH", str(folder.parent))
    monkeypatch.delenv("PREFSIM_DATA", raising=False)
    kept = {
        name: module for name, module in sys.modules.items() if name.startswith("paper_repros.")
    }
    for name in kept:
        del sys.modules[name]

    def add(
        slug: str,
        *,
        family: str = "direct",
        claims: str = "",
        body: str = "",
        pause: float = 0.0,
        source: str | None = None,
    ) -> Path:
        file = folder / f"{slug}.py"
        text = (
            FAKE_PAPER.format(slug=slug, family=family, claims=claims, body=body, pause=pause)
            if source is None
            else source
        )
        file.write_text(text, encoding="utf-8")
        sys.modules.pop(f"paper_repros.{slug}", None)
        importlib.invalidate_caches()
        return file

    yield add
    for name in [name for name in sys.modules if name.startswith("paper_repros.")]:
        del sys.modules[name]
    sys.modules.update(kept)
