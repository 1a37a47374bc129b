"""A result is out of date exactly when something that it follows from has changed."""

import importlib

import pytest

from prefsim.papers import fingerprint as module
from prefsim.papers.fingerprint import fingerprint, modules_behind

SETTINGS = {"quick": True, "seed": 0}


def test_the_files_of_the_paper_count(fake_papers):
    folder = fake_papers("p")
    before = fingerprint("p", SETTINGS)
    assert fingerprint("p", SETTINGS) == before
    (folder / "subject.py").write_text("STEP = 1\n")
    after = fingerprint("p", SETTINGS)
    assert after != before
    (folder / "subject.py").write_text("STEP = 2\n")
    assert fingerprint("p", SETTINGS) not in (before, after)


def test_another_paper_does_not_count(fake_papers):
    fake_papers("p")
    before = fingerprint("p", SETTINGS)
    fake_papers("q", body="passed = False")
    assert fingerprint("p", SETTINGS) == before


def test_settings_and_versions_count(fake_papers, monkeypatch):
    fake_papers("p")
    before = fingerprint("p", SETTINGS)
    assert fingerprint("p", {**SETTINGS, "seed": 1}) != before
    monkeypatch.setattr(module, "version", lambda package: "0")
    assert fingerprint("p", SETTINGS) != before


def test_what_a_paper_imports_counts_also_inside_functions(fake_papers):
    folder = fake_papers("p", body="from prefsim.analysis.voting import borda_scores")
    behind = modules_behind("p")
    assert {"prefsim", "prefsim.papers.claims", "prefsim.analysis.voting"} <= behind.keys()
    assert "prefsim.checks" in behind, "what those import counts too"
    assert all(file.is_file() for file in behind.values())
    text = (folder / "reproduction.py").read_text()
    (folder / "reproduction.py").write_text(text.replace("analysis.voting", "analysis.returns"))
    assert "prefsim.analysis.returns" in modules_behind("p")


@pytest.mark.parametrize(
    "body",
    [
        "import prefsim; found = [prefsim.analysis.voting.borda_scores]",
        "import prefsim.worlds; found = prefsim.analysis.voting.borda_scores",
        "if passed is True:\n        from prefsim.analysis import voting",
        "try:\n        passed\n    except NameError:\n        from prefsim.analysis import voting",
        "match passed:\n        case None:\n            from prefsim.analysis import voting",
        "with open('x') as file:\n        from prefsim.analysis import voting",
    ],
)
def test_wherever_an_import_stands_it_counts(fake_papers, body):
    fake_papers("p", body=body)
    assert "prefsim.analysis.voting" in modules_behind("p")


def test_what_a_paper_does_not_import_does_not_count(fake_papers):
    fake_papers("p")
    behind = modules_behind("p")
    assert not [name for name in behind if name.startswith("prefsim.lm")]
    assert "prefsim.papers.report" not in behind
    assert "prefsim.cli" not in behind


def test_a_changed_module_of_the_library_makes_a_result_old(fake_papers, monkeypatch):
    fake_papers("p", body="from prefsim.analysis.voting import borda_scores")
    before = fingerprint("p", SETTINGS)
    digest = module._digest_of

    def changed(file):
        return "changed" if file.name == "voting.py" else digest(file)

    monkeypatch.setattr(module, "_digest_of", changed)
    assert fingerprint("p", SETTINGS) != before
    fake_papers("q")
    monkeypatch.undo()


@pytest.mark.parametrize("form", ["from . import subject", "from .subject import STEP"])
def test_relative_imports_stay_in_the_folder(fake_papers, form):
    folder = fake_papers("p", claims=form)
    (folder / "subject.py").write_text("from prefsim.worlds import ContextualBandit\nSTEP = 1\n")
    importlib.invalidate_caches()
    assert "prefsim.worlds.bandit" in modules_behind("p")


def test_every_module_that_a_paper_loads_is_behind_it(fake_papers, tmp_path):
    """The imports that are read are at least those that Python makes."""
    import subprocess
    import sys

    fake_papers("p", body="import prefsim.solvers")
    code = """
import sys
from prefsim.papers import load
before = set(sys.modules)
load("p")
import prefsim.solvers
print(*sorted(n for n in set(sys.modules) - before if n.partition(".")[0] == "prefsim"))
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    loaded = set(done.stdout.split())
    assert loaded
    assert loaded <= modules_behind("p").keys()


def test_the_content_of_the_data_counts_for_a_paper_that_reads_data(fake_papers, tmp_path):
    folder = tmp_path / "data"
    (folder / "people").mkdir(parents=True)
    labels = folder / "people" / "labels.csv"
    labels.write_text("1,0\n")
    settings = {**SETTINGS, "data": str(folder)}
    fake_papers("reads", body="list(run.data.iterdir())")
    fake_papers("draws", body="from prefsim.data import Comparisons")
    reads, draws = fingerprint("reads", settings), fingerprint("draws", settings)
    labels.write_text("0,1\n")
    assert fingerprint("reads", settings) != reads
    labels.write_text("1,0\n")
    assert fingerprint("reads", settings) == reads, "the content counts, not when it was written"
    (folder / "more.csv").write_text("")
    assert fingerprint("reads", settings) != reads
    assert fingerprint("draws", settings) == draws
