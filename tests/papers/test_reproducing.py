"""Results are whole or absent, kept while nothing has changed; a failure is its own paper's."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from prefsim.backend import current_backend
from prefsim.papers import Run, reproducing
from prefsim.papers.reproducing import (
    read_result,
    run_reproduction,
    run_reproductions,
)
from prefsim.papers.storage import STALE, clear
from prefsim.parallel import track


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_reproduction_leaves_its_three_files_and_nothing_else(fake_papers, tmp_path):
    fake_papers("p")
    outcome = run_reproduction("p", out=tmp_path / "deep" / "results", quick=True, seed=3)
    assert (outcome.slug, outcome.passed, outcome.reused, outcome.error) == ("p", True, False, None)
    assert names(tmp_path / "deep" / "results") == ["p"]
    assert names(outcome.folder) == ["figure.png", "figure.svg", "result.json"]
    assert (outcome.folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (outcome.folder / "figure.svg").read_bytes()
    result = json.loads(
        (outcome.folder / "result.json").read_text(),
        parse_constant=lambda name: pytest.fail(f"not JSON: {name}"),
    )
    assert len(result.pop("digest")) == 64
    assert result == outcome.result == read_result(outcome.folder)
    assert result["settings"] == {
        "quick": True,
        "seed": 3,
        "data": None,
        "backend": "numpy",
        "device": "cpu",
    }
    assert result["criteria"][0] == {
        "name": "first <c>",
        "bound": "at least 0",
        "stated": "paper",
        "measured": "1.235",
        "passed": True,
        "paper": ">= 0 & more",
    }
    assert result["table"] == [{"n": 1, "error <e>": 0.5}, {"n": 2, "other": "nan"}]
    assert result["paper"]["arxiv"] == "2401.00001"
    assert result["paper"]["family"] == "direct"


def test_what_numpy_measures_becomes_plain(fake_papers, tmp_path):
    fake_papers(
        "p",
        body=(
            "import numpy; passed = numpy.bool_(run.quick); run = run._replace(seed=numpy.int64(1))"
        ),
    )
    result = run_reproduction("p", out=tmp_path, quick=True).result
    assert result["criteria"][1]["passed"] is True
    assert reproducing._plain(np.float32(0.5)) == 0.5
    assert reproducing._plain(np.float64("inf")) == "inf"


def test_a_kept_result_is_not_computed_again(fake_papers, tmp_path):
    log = tmp_path / "log"
    fake_papers("p", body=f"open({str(log)!r}, 'a').write('x')")
    out = tmp_path / "results"
    first = run_reproduction("p", out=out)
    again = run_reproduction("p", out=out)
    assert (first.reused, again.reused) == (False, True)
    assert again.result == first.result
    assert log.read_text() == "x"
    assert not run_reproduction("p", out=out, force=True).reused
    assert log.read_text() == "xx"


@pytest.mark.parametrize(
    "change",
    [{"quick": True}, {"seed": 1}, {"data": "."}, {"backend": "torch"}, "source"],
)
def test_whatever_a_result_follows_from_makes_it_new(fake_papers, tmp_path, monkeypatch, change):
    file = fake_papers("p") / "reproduction.py"
    out = tmp_path / "results"
    first = run_reproduction("p", out=out)
    options = {}
    if change == "source":
        file.write_text(file.read_text() + "\n# changed\n")
    else:
        options = change
    again = run_reproduction("p", out=out, **options)
    assert not again.reused
    assert again.result["fingerprint"] != first.result["fingerprint"]
    assert read_result(out / "p") == again.result


@pytest.mark.parametrize(
    "damage",
    [
        "truncate",
        "remove",
        "no figure",
        "another figure",
        "empty figure",
        "no drawing",
        "another drawing",
        "not an object",
        "no criteria",
        "nested",
        "measured",
        "passed",
        "settings",
    ],
)
def test_a_damaged_result_is_computed_again(fake_papers, tmp_path, damage):
    fake_papers("p")
    folder = run_reproduction("p", out=tmp_path / "results").folder
    file = folder / "result.json"
    if damage == "truncate":
        file.write_text(file.read_text()[:-40])
    elif damage == "remove":
        file.unlink()
    elif damage == "no figure":
        (folder / "figure.png").unlink()
    elif damage == "another figure":
        (folder / "figure.png").write_bytes(b"\x89PNG")
    elif damage == "empty figure":
        (folder / "figure.png").write_bytes(b"")
    elif damage == "no drawing":
        (folder / "figure.svg").unlink()
    elif damage == "another drawing":
        (folder / "figure.svg").write_bytes(b"<svg/>")
    elif damage == "nested":
        file.write_text("[" * 100_000)
    elif damage in ("measured", "passed", "settings"):
        written = json.loads(file.read_text())
        place = written["criteria"][0] if damage == "measured" else written
        place[damage] = {"measured": 7.0, "passed": False, "settings": {}}[damage]
        file.write_text(json.dumps(written))
    else:
        file.write_text("[]" if damage == "not an object" else json.dumps({"slug": "p"}))
    assert read_result(folder) is None
    assert not run_reproduction("p", out=tmp_path / "results").reused
    assert read_result(folder) is not None


def test_a_failure_keeps_the_earlier_result_and_leaves_nothing_half(fake_papers, tmp_path):
    file = fake_papers("p")
    out = tmp_path / "results"
    first = run_reproduction("p", out=out)
    fake_papers("p", body="raise KeyError('boom')")
    failed = run_reproduction("p", out=out)
    assert not failed.passed
    assert failed.result is None
    assert failed.error.startswith("KeyError: 'boom' (reproduction.py:")
    assert read_result(out / "p") == first.result
    assert names(out) == ["p"]
    assert file.exists()


def test_an_error_while_writing_leaves_nothing_half(fake_papers, tmp_path):
    fake_papers("p", body="Figure.savefig = lambda *_, **__: open('/no/such/folder/x')")
    from matplotlib.figure import Figure

    savefig = Figure.savefig
    try:
        outcome = run_reproduction("p", out=tmp_path / "results")
    finally:
        Figure.savefig = savefig
    assert "FileNotFoundError" in outcome.error
    assert names(tmp_path / "results") == []


def test_an_interrupt_leaves_nothing_half_and_the_finished_ones(fake_papers, tmp_path):
    fake_papers("a")
    fake_papers("b", body="raise KeyboardInterrupt")
    fake_papers("c")
    out = tmp_path / "results"
    with pytest.raises(KeyboardInterrupt):
        list(run_reproductions(["a", "b", "c"], out=out))
    assert names(out) == ["a"]
    fake_papers("b")
    assert {o.slug: o.reused for o in run_reproductions(["a", "b", "c"], out=out)} == {
        "a": True,
        "b": False,
        "c": False,
    }


def test_what_a_killed_process_left_is_removed_and_what_is_being_written_is_not(tmp_path):
    abandoned, fresh = tmp_path / ".result.json-x.part", tmp_path / ".figure.png-y.part"
    for part in (abandoned, fresh):
        part.write_text("half")
    os.utime(abandoned, (0, abandoned.stat().st_mtime - 2 * STALE))
    clear(tmp_path)
    assert names(tmp_path) == [fresh.name]


def test_claims_and_other_files_beside_a_result_stay(fake_papers, tmp_path):
    fake_papers("p")
    for name in ("claims.json", "thesis.tex"):
        (tmp_path / "r" / "p").mkdir(parents=True, exist_ok=True)
        (tmp_path / "r" / "p" / name).write_text("years of work")
    assert run_reproduction("p", out=tmp_path / "r").error is None
    held = ["claims.json", "figure.png", "figure.svg", "result.json", "thesis.tex"]
    assert names(tmp_path / "r" / "p") == held


@pytest.mark.parametrize("source", ["raise RuntimeError('broken')", "def broken(:", "x = 1"])
def test_one_paper_does_not_stop_the_others(fake_papers, tmp_path, source):
    fake_papers("a", source=source)
    fake_papers("b", body="passed = False")
    fake_papers("c")
    outcomes = {o.slug: o for o in run_reproductions(["a", "b", "c"], out=tmp_path / "results")}
    assert [o.passed for o in outcomes.values()] == [False, False, True]
    assert outcomes["a"].error
    assert outcomes["b"].error is None
    assert names(tmp_path / "results") == ["b", "c"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return None", "TypeError: reproduce must return a Reproduction, got NoneType"),
        (
            "return Reproduction(Figure(), [], ())",
            "ValueError: a reproduction must have at least one criterion, got none",
        ),
        (
            "c = at_most('x', 0, 1, stated='paper'); return Reproduction(Figure(), [], (c, c))",
            "ValueError: criteria must have one name each",
        ),
        ("return Reproduction(Figure(), [], (holds,))", "AttributeError"),
        (
            "return Reproduction(Figure(), [1], (at_most('x', 0, 1, stated='paper'),))",
            "TypeError: rows of the table must be dicts, got int",
        ),
        (
            "return Reproduction(Figure(), [], (at_most('x', 0, 1, stated='paper'),), caption=1)",
            "TypeError: caption must be text, got int",
        ),
    ],
)
def test_a_wrong_reproduction(fake_papers, tmp_path, body, message):
    fake_papers("p", body=body)
    outcome = run_reproduction("p", out=tmp_path / "results")
    assert outcome.error.startswith(message)
    assert names(tmp_path / "results") == []


def test_the_backend_is_in_force_while_it_runs(fake_papers, tmp_path):
    fake_papers(
        "p",
        body=(
            "from prefsim.backend import current_backend; assert current_backend().name == 'torch'"
        ),
    )
    assert run_reproduction("p", out=tmp_path / "results", backend="torch").error is None
    assert current_backend().name == "numpy"
    assert "AssertionError" in run_reproduction("p", out=tmp_path / "results").error


def test_the_run_is_told_what_was_asked(fake_papers, tmp_path):
    fake_papers(
        "p",
        body=f"assert str(run.data) == {str(tmp_path)!r} and run.quick is True and run.seed == 5",
    )
    assert (
        run_reproduction("p", out=tmp_path / "r", data=tmp_path, quick=True, seed=5).error is None
    )


def test_progress_is_told(fake_papers, tmp_path):
    fake_papers("p")
    events = []
    run_reproduction("p", out=tmp_path / "results", report=lambda *event: events.append(event))
    assert events[0] == ("p", "steps", 0, 3)
    assert events[-1] == ("p", "steps", 3, 3)
    assert list(Run().progress([1, 2], "alone")) == [1, 2]


def test_progress_of_a_loop_of_unknown_length():
    events = []
    assert list(track(iter("ab"), "d", name="n", report=lambda *event: events.append(event))) == [
        "a",
        "b",
    ]
    assert events[0] == ("n", "d", 0, None)
    assert events[-1] == ("n", "d", 2, 2)


def test_a_file_in_the_place_of_a_folder_is_refused(fake_papers, tmp_path):
    fake_papers("p")
    (tmp_path / "p").write_text("years of work")
    with pytest.raises(ValueError, match=r"must be free for the result of p, got a file"):
        run_reproduction("p", out=tmp_path)
    assert (tmp_path / "p").read_text() == "years of work"


def test_a_paper_without_a_reproduction(tmp_path):
    own = """
from hypothesis import strategies as st
from prefsim.papers import apart, claim


@claim("same", "identity", source="school", stated="derived", given={"x": st.floats(0, 1)})
def is_itself(x):
    '''x is x.'''
    return apart(x, x)
"""
    (tmp_path / "mine.py").write_text(own)
    with pytest.raises(ValueError, match=r"mine.py must define reproduce\(run\), got none"):
        run_reproduction(str(tmp_path / "mine.py"), out=tmp_path / "r")
    assert not (tmp_path / "r").exists()
    told = """
def reproduce(run):
    from prefsim.papers import Reproduction, at_most, panels
    return Reproduction(panels(1, 1, title="x")[0], [], (at_most("x", 0.0, 1, stated="chosen"),))
"""
    (tmp_path / "other.py").write_text(own + told)
    outcome = run_reproduction(str(tmp_path / "other.py"), out=tmp_path / "r")
    assert outcome.error is None
    assert outcome.passed
    assert run_reproduction(str(tmp_path / "other.py"), out=tmp_path / "r").reused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reference": "q"}, "paper 'q' is not known"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"seed": 1.5}, "seed must be an integer >= 0, got 1.5"),
        ({"backend": "jax"}, "backend must be one of 'numpy', 'torch', got 'jax'"),
        ({"device": "cuda"}, "device must be 'cpu' for the backend numpy, got 'cuda': give torch"),
        (
            {"backend": "torch", "device": "warp"},
            "device must be one that torch can use here, got 'warp'",
        ),
        ({"data": "/no/such"}, "data folder must be a folder that exists, got '/no/such'"),
        ({"out": Path(__file__)}, "out must be a folder that can be made"),
    ],
)
def test_bad_options(fake_papers, tmp_path, options, message):
    fake_papers("p")
    with pytest.raises(ValueError, match=message):
        run_reproduction(**{"reference": "p", "out": tmp_path / "results", **options})


def test_bad_options_of_many_are_found_before_anything_runs(fake_papers, tmp_path):
    fake_papers("p")
    with pytest.raises(ValueError, match="paper 'q' is not known"):
        run_reproductions(["p", "q"], out=tmp_path / "results")
    with pytest.raises(ValueError, match="jobs must be"):
        run_reproductions(["p"], out=tmp_path / "results", jobs=0)
    assert not (tmp_path / "results").exists()
