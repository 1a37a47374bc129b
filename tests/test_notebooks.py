"""Every notebook runs from top to bottom, says what its paired script says, and shows figures."""

import re
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_paired_script_is_the_same(path):
    script = jupytext.read(path.with_suffix(".py"))
    notebook = nbformat.read(path, as_version=4)
    assert [c.source for c in notebook.cells] == [c.source for c in script.cells]


def test_the_tutorial_is_the_tour():
    tour = jupytext.read(FOLDER / "tour.py")
    tutorial = jupytext.read(FOLDER.parent / "docs" / "tutorial.md")
    assert [c.source for c in tutorial.cells] == [c.source for c in tour.cells]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
@pytest.mark.parametrize("with_data", [True, False])
def test_runs(path, with_data, request, monkeypatch):
    if with_data:
        monkeypatch.setenv("PREFSIM_DATA", str(request.getfixturevalue("real_data")))
    else:
        monkeypatch.delenv("PREFSIM_DATA", raising=False)
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    ).execute()
    outputs = [
        output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    ]
    figures = sum("image/png" in output.get("data", {}) for output in outputs)
    text = "".join(output.get("text", "") for output in outputs)
    EXPECTED[path.stem](figures, text, with_data)


def tour(figures, text, with_data):
    assert figures == (3 if with_data else 2)
    assert ("'regret': 0.57" in text) == with_data
    assert ("no human data here" in text) != with_data


def analyses(figures, text, with_data):
    assert figures == 3
    assert "inner product 1.2: chosen -0.2, rejected -0.8, as wanted: False" in text
    assert "No     -0.02" in text and "Yes    +3.83" in text
    assert "32 arrows between the sixteen losses" in text
    assert "τ = 1.0: 37.7% of outputs" in text and "another quality: -0.327" in text


def labels(figures, text, with_data):
    assert figures == (2 if with_data else 1)
    assert ("contradicted: 0.42" in text) == with_data
    assert ("no human data here" in text) != with_data
    assert "Crammer–Singer     calibrated False" in text
    assert "distillation_kl  0.5224   shifted 0.5224" in text
    wrong, weakest = re.search(r"wrong labels: (\S+), in the weakest fifth (\S+)", text).groups()
    assert float(weakest) > 2 * float(wrong)


def sequences(figures, text, with_data):
    assert figures == 5
    rewards = re.findall(r"λ = 0: (\S+) .* λ = 1: (\S+)", text)
    (response, at_one), (token, _) = rewards
    assert float(token) > float(response) + 0.3 and at_one == "1.00"
    assert "a table, DPO                       0.56" in text
    assert "alternating losses 50.00" in text and "bound of Hedge 5.89" in text
    assert text.count("gold -0.567") == 2
    assert "levels lowered   0 trainings without a policy" in text
    assert "the reversal costs 0.00 and keeps 0% of the five's labels" in text
    found = re.findall(r"regret (\S+) of 6 rounds; on alternating losses (\S+)", text)
    (before, honest), (after, fooled) = (map(float, row) for row in found)
    assert after < 0.6 < before and honest < fooled


EXPECTED = {"tour": tour, "analyses": analyses, "labels": labels, "sequences": sequences}
