"""The one table of all benchmarks: collected, written between its markers, held to the last run."""

import importlib
import json
import math
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks"))
table = importlib.import_module("_table")
run = importlib.import_module("run")

FAST = table.beside_best(
    "a/fast",
    "something",
    0.002,
    {"slow peer": 0.5, "peer": 0.02},
    limit=5.0,
    certificate="gap 1e-9",
)
SLOW = table.beside_best("a/slow", "other", 3.0, {"peer": 1.5}, limit=1.0, certificate="")
ALONE = table.beside_best("b/alone", "memory", 271.4, {}, certificate="ours", unit="MB")


def test_a_row_is_beside_the_best_peer():
    assert (FAST.peer, FAST.peers) == ("peer", 0.02)
    assert FAST.ratio == pytest.approx(10)
    assert ALONE.peer == "" and math.isnan(ALONE.ratio)


def test_the_table_says_what_is_missed_and_what_was_before():
    lines = table.markdown([FAST, SLOW, ALONE], {"a/fast": ["peer", 8.0]}, "today").splitlines()
    assert lines[0] == "today"
    assert lines[4:] == [
        "| something | 2 ms | peer 20 ms | **10** | ≥ 5 | 8 | gap 1e-9 |",
        "| other | 3 s | peer 1.5 s | 0.5 (missed) | ≥ 1 |  |  |",
        "| memory | 271 MB | none |  |  |  | ours |",
    ]


def test_a_block_replaces_what_stands_between_the_markers_alone():
    text = f"# before\n\n{table.BEGIN}\nold\n{table.END}\n\nafter\n"
    written = table.with_block(text, "new")
    assert written == f"# before\n\n{table.BEGIN}\n\nnew\n\n{table.END}\n\nafter\n"
    assert table.with_block(written, "new") == written


@pytest.mark.parametrize(
    "text",
    ["", table.BEGIN, f"{table.END}{table.BEGIN}", f"{table.BEGIN}{table.END}{table.END}"],
)
def test_markers_stand_there_once_in_order(text):
    with pytest.raises(ValueError, match="the document must hold"):
        table.with_block(text, "new")


@pytest.mark.parametrize(
    ("before", "compared", "fallen"),
    [
        ({"a/fast": ["peer", 12.4], "a/slow": ["peer", 0.4]}, 2, []),
        ({"a/fast": ["peer", 12.6], "a/slow": ["peer", 0.4]}, 2, ["a/fast: 10 times peer, was 13"]),
        ({"a/fast": ["slow peer", 250.0]}, 0, []),
        ({}, 0, []),
    ],
)
def test_a_ratio_may_fall_by_a_fifth_to_the_same_peer(before, compared, fallen):
    assert table.falls([FAST, SLOW, ALONE], before) == (compared, fallen)


def as_part(rows):
    return {"rows": json.loads(json.dumps([list(row) for row in rows]))}


@pytest.fixture
def parts(monkeypatch, tmp_path):
    """Let parts answer at once what a test says, and write into a folder of its own."""
    answers = {"a": as_part([FAST, SLOW]), "b": as_part([ALONE])}
    asked = []

    def answer(script, arguments, threads):
        asked.append(tuple(arguments))
        return answers[arguments[1]]

    monkeypatch.setattr(run, "PARTS", {"a": "a", "b": "b"})
    monkeypatch.setattr(run, "PEERS", ())
    monkeypatch.setattr(run, "in_own_process", answer)
    monkeypatch.setattr(run, "RESULTS", tmp_path / "RESULTS.md")
    monkeypatch.setattr(run, "RATIOS", tmp_path / "ratios.json")
    run.RESULTS.write_text(f"history\n{table.BEGIN}\n{table.END}\nprose\n", encoding="utf-8")
    return answers, asked


def told(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    return run.main()


def test_a_run_writes_the_table_and_the_ratios(parts, monkeypatch):
    answers, _ = parts
    assert told(monkeypatch, "--write") == 0
    text = run.RESULTS.read_text(encoding="utf-8")
    assert text.startswith("history\n") and text.endswith("prose\n")
    assert "| other | 3 s | peer 1.5 s | 0.5 (missed) | ≥ 1 |  |  |" in text
    assert "numpy" in text and run.processor() in text and run.today() in text
    kept = table.read_ratios(run.RATIOS)
    assert kept["full"] == kept["quick"] == {"a/fast": ["peer", 10.0], "a/slow": ["peer", 0.5]}
    answers["a"] = "ModuleNotFoundError: No module named 'choix'"
    assert told(monkeypatch, "--write") == 0
    text = run.RESULTS.read_text(encoding="utf-8")
    assert "Left out: a (ModuleNotFoundError: No module named 'choix')." in text
    assert table.read_ratios(run.RATIOS) == kept


def test_small_sizes_are_recorded_by_themselves(parts, monkeypatch):
    before = run.RESULTS.read_text(encoding="utf-8")
    assert told(monkeypatch, "--write", "--quick") == 0
    assert run.RESULTS.read_text(encoding="utf-8") == before
    kept = table.read_ratios(run.RATIOS)
    assert kept == {"full": {}, "quick": {"a/fast": ["peer", 10.0], "a/slow": ["peer", 0.5]}}
    with pytest.raises(SystemExit):
        told(monkeypatch, "--write", "--only", "a")


def test_a_check_measures_again_what_fell(parts, monkeypatch, capsys):
    answers, asked = parts
    assert told(monkeypatch, "--check") == 0
    assert "not compared: no ratios in ratios.json" in capsys.readouterr().out
    told(monkeypatch, "--write")
    asked.clear()
    assert told(monkeypatch, "--check") == 0
    assert asked == [("--part", "a", "--quick"), ("--part", "b", "--quick")]
    answers["a"] = as_part([FAST._replace(prefsim=0.003), SLOW])
    asked.clear()
    assert told(monkeypatch, "--check") == 1
    assert asked[2:] == [("--part", "a", "--quick")] * (run.TRIES - 1)
    said = capsys.readouterr().out
    assert "a/fast: 6.7 times peer, was 10" in said and "1 fell by more than a fifth" in said


def test_a_check_without_peers_says_so(parts, monkeypatch, capsys):
    _, asked = parts
    monkeypatch.setattr(run, "PEERS", ("no_such_package",))
    assert told(monkeypatch, "--check") == 0
    assert "not compared: no_such_package not installed" in capsys.readouterr().out
    assert not asked


def test_every_part_has_rows_and_the_results_their_markers():
    for module in run.PARTS.values():
        source = (ROOT / "benchmarks" / f"{module}.py").read_text(encoding="utf-8")
        assert "\ndef rows(*, quick: bool) -> list[Row]:\n" in source
    text = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    assert table.with_block(text, "").count(table.END) == 1
