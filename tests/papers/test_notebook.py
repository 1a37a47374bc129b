"""The notebook of a paper runs from top to bottom, and is never written over another."""

import nbformat
import pytest
from nbclient import NotebookClient

from prefsim.cli import main
from prefsim.papers.discovery import all_slugs, load
from prefsim.papers.notebook import notebook_of, write_notebook

OWN = '''
"""A paper in one file."""

import numpy as np
from hypothesis import strategies as st

from prefsim.numerics import log_sigmoid
from prefsim.papers import Paper, Reproduction, apart, at_most, claim, panels

PAPER = Paper(slug="mine", title="Mine", arxiv="", year=0, summary="It says so.",
              implements=("prefsim.numerics.log_sigmoid",))


@claim("odd", "identity", source="eq. 1", stated="paper", tolerance=1e-9,
       given={"x": st.floats(-9, 9), "slope": st.just(1.0)}, breaks={"slope": st.just(2.0)})
def differs_by_its_argument(x, slope):
    """log σ(x) − log σ(−x) = x"""
    y = np.asarray(x)
    return apart(log_sigmoid(y) - log_sigmoid(-y), slope * x)


def reproduce(run):
    figure, axes = panels(1, 1, title="A line", width=4)
    axes[0, 0].plot([0, 1], [0, 1])
    return Reproduction(figure, [{"x": 1.0}], (at_most("one", 1.0, 1.0, stated="chosen"),))
'''


def run(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    printed = "".join(o.get("text", "") for cell in cells for o in cell.outputs)
    return printed, [o for cell in cells for o in cell.outputs if "image/png" in o.get("data", {})]


def test_it_runs(tmp_path):
    (tmp_path / "mine.py").write_text(OWN, encoding="utf-8")
    printed, figures = run(write_notebook(tmp_path / "mine.py", tmp_path / "new.ipynb"))
    assert "odd                      holds " in printed
    assert "odd, another slope:\n" in printed
    assert "pass  one: 1 (at most 1)" in printed
    assert "prefsim.numerics.log_sigmoid: odd" in printed
    assert len(figures) == 1


@pytest.mark.parametrize("slug", all_slugs())
def test_every_paper_has_one(slug):
    made = notebook_of(slug)
    nbformat.validate(nbformat.from_dict(made))
    text = "".join("".join(cell["source"]) for cell in made["cells"])
    for claim in load(slug).claims:
        assert f"- `{claim.id}` ({claim.kind}; {claim.source}): {claim.statement}" in text
    for cell in made["cells"]:
        if cell["cell_type"] == "code":
            code = [line for line in cell["source"] if not line.startswith("%")]
            compile("".join(code), slug, "exec")


def test_what_is_there_is_not_written_over(tmp_path):
    path = tmp_path / "rdpo.ipynb"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(ValueError, match=r"out must be a new file, got .*rdpo\.ipynb"):
        write_notebook("rdpo", path)
    assert path.read_text(encoding="utf-8") == "mine"


def test_bad_input(tmp_path):
    with pytest.raises(ValueError, match="out must lie in a folder that exists"):
        write_notebook("rdpo", tmp_path / "none" / "rdpo.ipynb")
    with pytest.raises(ValueError, match="none_such"):
        write_notebook("none_such", tmp_path / "x.ipynb")


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for code in (0, 2):
        with pytest.raises(SystemExit) as stop:
            main(["notebook", "rdpo"])
        assert stop.value.code == code
    captured = capsys.readouterr()
    assert captured.out == "rdpo.ipynb\n"
    assert "must be a new file" in captured.err
    assert (tmp_path / "rdpo.ipynb").is_file()
