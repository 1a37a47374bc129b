"""What is installed from a wheel works by itself, without an extra and far from the checkout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("hatchling")
ROOT = Path(__file__).resolve().parents[1]

# Nothing of the extras is to be found, and nothing of the checkout.
BARE = """
import importlib.abc
import sys


class Absent(importlib.abc.MetaPathFinder):
    names = {
        *("accelerate", "dask", "datasets", "distributed", "hatchling", "liger_kernel", "minigrid"),
        *("mo_gymnasium", "numba", "peft", "pyspiel", "pytest", "sklearn", "sphinx", "tensorboard"),
        *("stable_baselines3", "transformers", "vaderSentiment"),
    }

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Absent())
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bare")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT)]
    subprocess.run([*pip, *build], check=True)
    (wheel,) = folder.glob("prefsim-*.whl")
    target = folder / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(target), str(wheel)], check=True)
    (target / "sitecustomize.py").write_text(BARE, encoding="utf-8")
    return target


@pytest.fixture
def run(installed, tmp_path):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(installed)} | {"PREFSIM_DATA": ""},
        )

    return run


@pytest.mark.slow
def test_it_is_found_where_it_was_installed(run, installed):
    found = run(
        "-c", "import prefsim, paper_repros; print(prefsim.__file__, paper_repros.__file__)"
    )
    assert found.returncode == 0, found.stderr
    assert all(path.startswith(str(installed)) for path in found.stdout.split())
    assert (installed / "prefsim" / "py.typed").is_file()
    assert (installed / "paper_repros" / "nash" / "apo" / "errata.py").is_file()


@pytest.mark.slow
def test_papers_are_listed_reproduced_and_shown(run, tmp_path):
    listed = run("-m", "prefsim", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    assert '"rdpo"' in listed.stdout
    made = run("-m", "prefsim", "repro", "nash_md", "--quick", "--out", "here")
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "here" / "index.html").is_file()
    assert run("-m", "prefsim", "notebook", "rdpo").returncode == 0


@pytest.mark.slow
def test_what_needs_an_extra_says_so(run):
    found = run(
        "-m", "prefsim", "train", "--loss", "dpo", "--model", "x", "--data", "y", "--out", "z"
    )
    assert found.returncode == 2
    assert "prefsim[lm]" in found.stderr
