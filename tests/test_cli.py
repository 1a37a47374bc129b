"""The command line as a user meets it.

Data on stdout, progress on stderr, exit codes, one line for bad input.
"""

import json
from pathlib import Path

import pytest
from cli_calls import FAILS, NOTHING_BREAKS, RAISES

from prefsim import __version__, cli

KEYS = ["holds", "examples", "worst", "tolerance", "used", "counterexample_found", "data", "detail"]


@pytest.fixture
def prefsim(capsys, tmp_path, monkeypatch):
    """Run a command in this process; return (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            cli.main(list(map(str, arguments)))
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return run


def test_list(prefsim, fake_papers):
    fake_papers("first", family="nash")
    fake_papers("second")
    code, out, err = prefsim("list", "--json")
    assert (code, err) == (0, "")
    assert [(paper["slug"], paper["family"], paper["implements"]) for paper in json.loads(out)] == [
        ("second", "direct", ["prefsim.losses.dpo"]),
        ("first", "nash", ["prefsim.losses.dpo"]),
    ]
    assert [
        paper["slug"] for paper in json.loads(prefsim("list", "--family", "nash", "--json")[1])
    ] == ["first"]
    code, out, _ = prefsim("list")
    assert code == 0
    assert "On <first> & more" in out


def test_list_losses_by_part(prefsim):
    code, out, _ = prefsim("list", "--family", "direct", "--by", "data", "--json")
    assert code == 0
    assert "dpo" in json.loads(out)["pair feedback"]
    code, out, _ = prefsim("list", "--by", "property")
    assert code == 0
    assert "length bias" in out
    assert "rdpo_length" in out
    for bad, message in (
        (["--by", "colour"], "part must be one of"),
        (["--family", "nash", "--by", "data"], "--by sorts the losses"),
    ):
        code, out, err = prefsim("list", *bad)
        assert (code, out) == (2, "")
        assert message in err


def test_show(prefsim, fake_papers):
    file = fake_papers("first")
    code, out, err = prefsim("show", "first", "--json")
    assert (code, err) == (0, "")
    shown = json.loads(out)
    assert shown["module"] == str(file)
    assert shown["claims"][1] == {
        "id": "bound",
        "kind": "inequality",
        "statement": "x <= 1",
        "source": "eq. 2",
        "stated": "derived",
        "tolerance": 1e-9,
        "breaks": True,
        "dropped": [["x"]],
        "data": None,
    }
    assert [claim["breaks"] for claim in shown["claims"]] == [False, True]
    code, out, _ = prefsim("show", "first")
    assert code == 0
    assert "A [bold]summary[/bold] & <b>more</b>." in out
    assert "https://arxiv.org/abs/2401.00001" in out


def test_check(prefsim, fake_papers, tmp_path):
    fake_papers("first")
    fake_papers("second")
    code, out, err = prefsim("check", "--all", "--examples", 7, "--seed", 1, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert list(found) == ["first", "second"]
    for claims in found.values():
        used, _ = claims["bound"].pop("used"), claims["bound"].pop("detail")
        assert 0 < used <= 1
        row = {"holds": True, "examples": 7, "worst": 0.0, "tolerance": 1e-9, "data": "drawn here"}
        assert claims == {
            "zero": {**row, "used": None, "counterexample_found": None, "detail": ""},
            "bound": {**row, "counterexample_found": True},
        }
    assert (tmp_path / "results" / "first" / "claims.json").is_file()
    page = (tmp_path / "results" / "index.html").read_text()
    assert "4 of 4 claims checked hold" in " ".join(page.split())
    code, out, _ = prefsim("check", "second", "second", "--examples", 5)
    assert code == 0
    assert "2 of 2 claims hold" in out


@pytest.mark.parametrize(
    ("claims", "name", "counterexample", "detail"),
    [
        (FAILS, "fails", None, "error 2 > tolerance 1e-09"),
        (NOTHING_BREAKS, "robust", False, "no counterexample in 100 instances"),
        (RAISES, "raises", None, "raised ZeroDivisionError: division by zero"),
    ],
)
def test_a_claim_that_does_not_hold(prefsim, fake_papers, claims, name, counterexample, detail):
    fake_papers("first", claims=claims)
    code, out, _ = prefsim("check", "first", "--examples", 10, "--json")
    assert code == 1
    result = json.loads(out, parse_constant=lambda word: pytest.fail(f"not JSON: {word}"))["first"]
    assert list(result["zero"]) == KEYS
    assert list(result[name]) == KEYS
    assert result[name]["holds"] is False
    assert result[name]["counterexample_found"] is counterexample
    assert detail in result[name]["detail"]
    assert (result[name]["worst"] is None) == (name == "raises")
    code, out, _ = prefsim("check", "first", "--examples", 10)
    assert code == 1
    assert f"first {name}: {detail}" in out
    assert "2 of 3 claims hold" in out


def test_papers_of_ones_own(prefsim, fake_papers, tmp_path):
    folder = fake_papers("mine")
    own = tmp_path / "mine"
    folder.rename(own)
    (tmp_path / "other.py").write_text((own / "claims.py").read_text())
    code, out, err = prefsim("check", "./mine", "./other.py", "--examples", 5, "--json")
    assert (code, err) == (0, "")
    assert {slug: list(claims) for slug, claims in json.loads(out).items()} == {
        "mine": ["zero", "bound"],
        "other": ["zero", "bound"],
    }
    code, out, _ = prefsim("repro", "./mine", "--quick", "--json")
    assert code == 0
    assert json.loads(out)["mine"]["passed"] is True
    code, out, _ = prefsim("show", "./other.py", "--json")
    assert json.loads(out)["family"] == ""
    page = (tmp_path / "results" / "index.html").read_text()
    assert "4 of 4 claims checked hold" in " ".join(page.split())


def test_repro(prefsim, fake_papers, tmp_path):
    fake_papers("first")
    fake_papers("second")
    code, out, err = prefsim("repro", "--all", "--out", "here", "--quick", "--json")
    assert code == 0
    found = json.loads(out)
    assert list(found) == ["first", "second"]
    assert found["first"]["passed"] is True
    assert found["first"]["reused"] is False
    assert [criterion["passed"] for criterion in found["first"]["criteria"]] == [True, True]
    assert Path(found["first"]["figure"]) == tmp_path / "here" / "first" / "figure.png"
    assert Path(found["second"]["result"]).is_file()
    assert (tmp_path / "here" / "index.html").is_file()
    lines = err.splitlines()
    assert len(lines) == 2, "one line a paper where nobody watches"
    assert lines[0].startswith("✓ first: 2 of 2 criteria pass, ")
    code, out, err = prefsim("repro", "second", "--out", "here", "--quick")
    assert code == 0
    assert "kept" in err
    assert "Results: here/index.html" in out.replace("\n", "")
    assert "kept" not in prefsim("repro", "second", "--out", "here", "--quick", "--force")[2]


def test_a_reproduction_that_fails_or_raises(prefsim, fake_papers, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # a narrow table breaks words
    fake_papers("a_raises", body="raise KeyError('boom')")
    fake_papers("b_fails", body="passed = False")
    fake_papers("c_passes")
    code, out, err = prefsim("repro", "--all", "--json")
    assert code == 1
    found = json.loads(out)
    assert [result["passed"] for result in found.values()] == [False, False, True]
    assert found["a_raises"]["criteria"] == []
    assert found["a_raises"]["error"].startswith("KeyError: 'boom'")
    assert [line[0] for line in err.splitlines()] == ["✗", "✗", "✓"]
    page = (tmp_path / "results" / "index.html").read_text()
    assert "boom" in page
    code, out, _ = prefsim("repro", "--all")
    assert code == 1
    assert "KeyError: 'boom'" in out


def test_many_reproductions_end_in_a_few_lines(prefsim, fake_papers, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for slug in ("a", "b", "c", "d"):
        fake_papers(slug)
    code, out, _ = prefsim("repro", "--all")
    assert code == 0
    assert out.splitlines() == [
        "4 of 4 papers pass; 8 of 8 criteria",
        "Results: results/index.html",
    ]
    fake_papers("b", body="passed = False")
    code, out, _ = prefsim("repro", "--all")
    assert code == 1
    assert "3 of 4 papers pass; 7 of 8 criteria" in out
    assert out.count("✗ FAIL") == 1
    assert "✓" not in out


def test_info(prefsim, monkeypatch):
    monkeypatch.setenv("PREFSIM_DATA", "/some/where")
    code, out, err = prefsim("info", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["prefsim"] == __version__
    assert found["packages"]["numpy"] == __import__("numpy").__version__
    assert found["devices"][0] == "cpu"
    assert found["threads"]["cores"] >= 1
    assert found["data"] == "/some/where"
    assert f"prefsim: {__version__}" in prefsim("info")[1]


def test_version_and_help(prefsim):
    assert prefsim("--version") == (0, f"prefsim {__version__}\n", "")
    for arguments in ([], ["--help"]):
        code, out, err = prefsim(*arguments)
        assert (code, err) == (0, "")
        assert all(command in out for command in ("list", "show", "check", "repro", "info"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "frist"], "paper 'frist' is not known; did you mean 'first'?"),
        (["check", "frist"], "paper 'frist' is not known; did you mean 'first'?"),
        (["repro", "first", "frist"], "paper 'frist' is not known; did you mean 'first'?"),
        (["check"], "name some papers, or give --all"),
        (["repro", "first", "--all"], "give either the names of papers or --all, got both"),
        (["list", "--family", "north"], "family must be one of"),
        (["check", "first", "--examples", "0"], "examples must be an integer >= 1, got 0"),
        (["check", "first", "--examples", "many"], "--examples"),
        (["check", "first", "--seed", "-1"], "seed must be an integer >= 0, got -1"),
        (
            ["check", "first", "-j", "0"],
            "jobs must be an integer >= 1, or -1 for one a core, got 0",
        ),
        (["repro", "first", "--seed", "-1"], "seed must be an integer >= 0, got -1"),
        (
            ["repro", "first", "-j", "-2"],
            "jobs must be an integer >= 1, or -1 for one a core, got -2",
        ),
        (["repro", "first", "--backend", "jax"], "must be one of 'numpy', 'torch', got 'jax'"),
        (
            ["repro", "first", "--device", "cuda"],
            "device must be 'cpu' for the backend numpy, got 'cuda'",
        ),
        (
            ["repro", "first", "--data", "/no/such"],
            "data folder must be a folder that exists, got '/no/such'",
        ),
        (["repro", "first", "--out", ""], "'--out': must name a folder, got nothing"),
        (["repro", "first", "--out", __file__], "out must be a folder that can be made"),
        (["check", "first", "--out", __file__], "out must be a folder that can be made"),
        (["check", "./none.py"], "paper must be a file or a folder that exists, got './none.py'"),
        (["bogus"], "No such command 'bogus'"),
        (["list", "--bogus"], "--bogus"),
        (["show"], "Missing argument"),
    ],
)
def test_bad_input_is_one_line(prefsim, fake_papers, tmp_path, arguments, message):
    fake_papers("first")
    code, out, err = prefsim(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("prefsim: ")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_data_from_the_environment(prefsim, fake_papers, tmp_path, monkeypatch):
    fake_papers("first", body="assert run.data is not None and run.data.name == 'real'")
    assert prefsim("repro", "first")[0] == 1
    (tmp_path / "real").mkdir()
    assert prefsim("repro", "first", "--data", "real")[0] == 0
    monkeypatch.setenv("PREFSIM_DATA", str(tmp_path / "real"))
    assert prefsim("repro", "first", "--force")[0] == 0
    monkeypatch.setenv("PREFSIM_DATA", str(tmp_path / "gone"))
    code, _, err = prefsim("repro", "first")
    assert code == 2
    assert "PREFSIM_DATA must be a folder that exists" in err


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")]
)
def test_memory_that_is_not_there_is_one_line(monkeypatch, capsys, error):
    def raises(**_):
        raise error

    monkeypatch.setattr(cli, "app", raises)
    with pytest.raises(SystemExit, match="2"):
        cli.main(["list"])
    assert capsys.readouterr().err.startswith("prefsim: out of memory: ")
    monkeypatch.setattr(cli, "app", lambda **_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["list"])
