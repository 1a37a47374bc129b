"""Every script of the gallery runs, is short, and draws one picture."""

import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "gallery"
SCRIPTS = sorted(FOLDER.glob("plot_*.py"))


def test_there_are_enough():
    assert len(SCRIPTS) >= 20


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
def test_a_script_draws_one_picture(path, monkeypatch):
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    plt.close("all")
    monkeypatch.setattr(plt, "show", lambda: None)
    runpy.run_path(str(path))
    assert len(plt.get_fignums()) == 1
    for axis in plt.gcf().axes:
        assert axis.has_data()
    plt.close("all")
    lines = path.read_text(encoding="utf-8").splitlines()
    code = [line for line in lines if line.strip()]
    assert len(code) <= 50
