"""Test session: one BLAS thread under xdist, hypothesis profiles, real data where it is found."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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
    # Seven times those of CI: on two cores the suite then takes most of half an hour.
    max_examples=200,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile(
    "mutants",
    settings.get_profile("ci"),
    # One process collects and runs the tests many times.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors],
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


CARD = """
from prefsim.papers import Paper

PAPER = Paper(
    slug={slug!r}, title="On <{slug}> & more", arxiv="2401.00001", year=2024,
    summary="A [bold]summary[/bold] & <b>more</b>.", implements=("prefsim.losses.dpo",),
)
"""

CLAIMS = """
from hypothesis import assume, strategies as st
from prefsim.papers import Verdict, above, apart, claim


@claim(
    "zero", "identity", source="eq. 3", stated="paper", given={{"x": st.floats(0, 1)}},
    tolerance=1e-9,
)
def agrees_with_itself(x):
    '''x & <x> agree'''
    return apart(x, x)


@claim(
    "bound", "inequality", source="eq. 2", stated="derived", given={{"x": st.floats(0, 1)}},
    breaks={{"x": st.floats(0, 5)}}, tolerance=1e-9,
)
def is_at_most_one(x):
    '''x <= 1'''
    return above(x, 1.0, detail=f"x = {{x}}")


{claims}
"""

REPRODUCTION = """
import os, time
from matplotlib.figure import Figure
from prefsim.papers import Reproduction, at_least, at_most, holds


def reproduce(run):
    passed = True
    for _ in run.progress(range(3), "steps"):
        time.sleep({pause})
    {body}
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot([0, run.seed])
    table = [{{"n": 1, "error <e>": 0.5}}, {{"n": 2, "other": float("nan")}}]
    criteria = (
        at_least("first <c>", 1.23456789, 0, stated="paper", paper=">= 0 & more"),
        holds("second", [passed], "[red]yes", stated="chosen"),
    )
    return Reproduction(figure, table, criteria, "How to <read> it.", "one of <two>")
"""


def write_fake_paper(
    folder: Path, *, claims: str = "", body: str = "", pause: float = 0.0, source: str | None = None
) -> Path:
    """Write a paper made for a test into ``folder``; ``source`` is all of its claims."""
    folder.mkdir(parents=True, exist_ok=True)
    text = CLAIMS.format(claims=claims) if source is None else source
    (folder / "__init__.py").write_text(CARD.format(slug=folder.name), encoding="utf-8")
    (folder / "claims.py").write_text(text, encoding="utf-8")
    told = REPRODUCTION.format(body=body, pause=pause)
    (folder / "reproduction.py").write_text(told, encoding="utf-8")
    return folder


@pytest.fixture
def fake_papers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Make papers in a folder that takes the place of ``paper_repros``.

    So it is here, and (by ``PYTHONPATH``) in processes that are started from here.
    """
    root = tmp_path / "fake" / "paper_repros"
    root.mkdir(parents=True)
    (root / "__init__.py").write_text('"""Papers made for a test."""\n')
    monkeypatch.setattr(paper_repros, "__path__", [str(root)])
    monkeypatch.setenv("PYTHONPATH", str(root.parent))
    monkeypatch.delenv("PREFSIM_DATA", raising=False)
    kept = {
        name: module for name, module in sys.modules.items() if name.startswith("paper_repros.")
    }
    for name in kept:
        del sys.modules[name]

    def add(slug: str, *, family: str = "direct", **content: Any) -> Path:
        folder = write_fake_paper(root / family / slug, **content)
        for name in [name for name in sys.modules if name.startswith("paper_repros.")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        return folder

    yield add
    for name in [name for name in sys.modules if name.startswith("paper_repros.")]:
        del sys.modules[name]
    sys.modules.update(kept)
