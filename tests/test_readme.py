"""What the documents say is run.

Python blocks of every Markdown file, and the doctests of every module.
"""

import ast
import doctest
import importlib
import json
import pkgutil
import re
from pathlib import Path

import pytest

import paper_repros
import prefsim
from prefsim import cli

ROOT = Path(__file__).resolve().parents[1]
# What the handbook is built from is below docs/_build: copies of these, and docstrings.
WRITTEN = (
    path
    for path in sorted((ROOT / "docs").rglob("*.md"))
    if "_build" not in path.relative_to(ROOT).parts
)
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *WRITTEN]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# A block below this comment is left out where there is no real data.
NEEDS_DATA = "<!-- test: needs real data -->"
BLOCK = re.compile(
    r"^(?P<indent> *)```python\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)


def blocks(text):
    """Yield (line number, code, needs real data) of every Python block."""
    for match in BLOCK.finditer(text):
        before = text[: match.start()]
        indent = match["indent"]
        code = "".join(
            line.removeprefix(indent) for line in match["code"].splitlines(keepends=True)
        )
        yield before.count("\n") + 2, code, before.rstrip().endswith(NEEDS_DATA)


def with_blocks(paths):
    return [
        pytest.param(path, id=path.relative_to(ROOT).as_posix())
        for path in paths
        if path.exists() and any(blocks(path.read_text()))
    ]


def run_block(code, path, line, names):
    if code.lstrip().startswith(">>>"):
        test = doctest.DocTestParser().get_doctest(code, names, path.name, str(path), line)
        said = []
        runner = doctest.DocTestRunner(optionflags=FLAGS)
        result = runner.run(test, out=said.append, clear_globs=False)
        names.update(test.globs)
        assert result.failed == 0, "".join(said)
    else:
        # The line numbers of a traceback are those of the document.
        exec(compile(ast.increment_lineno(ast.parse(code), line - 1), str(path), "exec"), names)


@pytest.mark.parametrize("path", with_blocks(DOCUMENTS))
def test_document(path, tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    found = list(blocks(path.read_text(encoding="utf-8")))
    data = None
    if any(needs for *_, needs in found):
        try:
            data = request.getfixturevalue("real_data")
        except pytest.skip.Exception:
            data = None
    if (
        data is not None
    ):  # documents name the files of a data set plainly, as if they lay in the working folder
        for file in (file for file in data.rglob("*") if file.is_file()):
            (tmp_path / file.name).unlink(missing_ok=True)
            (tmp_path / file.name).symlink_to(file)
    names = {"__name__": "__main__"}
    for line, code, needs in found:
        if needs and data is None:
            continue
        run_block(code, path, line, names)


def test_a_wrong_block_fails(tmp_path):
    text = (
        "```python\nx = 1\n```\n\n- item:\n\n  ```python\n  assert x == 2\n  ```\n\n```python\n>>>"
        " x\n3\n```\n"
    )
    (first, code, _), (second, indented, _), (_, session, _) = blocks(text)
    assert (first, second, indented) == (2, 8, "assert x == 2\n")
    names = {}
    run_block(code, tmp_path, first, names)
    with pytest.raises(AssertionError):
        run_block(indented, tmp_path, second, names)
    with pytest.raises(AssertionError, match="Expected:"):
        run_block(session, tmp_path, 12, names)


def written_files(document):
    """Yield (file name, code) of the blocks that are files: their first line names them."""
    for _, code, _ in blocks((ROOT / document).read_text(encoding="utf-8")):
        if (match := re.match(r"# (\w+\.py)\n", code)) is not None:
            yield match[1], code


def run_command(*arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([str(argument) for argument in arguments])
    return stop.value.code, capsys.readouterr().out


def test_the_folder_in_contributing_is_a_paper(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "my_paper"
    folder.mkdir()
    for name, code in written_files("CONTRIBUTING.md"):
        (folder / name).write_text(code, encoding="utf-8")
    assert {path.name for path in folder.iterdir()} == {
        "__init__.py",
        "claims.py",
        "errata.py",
        "reproduction.py",
    }
    monkeypatch.chdir(tmp_path)
    code, out = run_command("show", "./my_paper", capsys=capsys)
    assert code == 0
    assert "Title as on arXiv" in out
    assert "wrong · released code: the corrected win rate" in out
    code, out = run_command("check", "./my_paper", "--json", capsys=capsys)
    checked = json.loads(out)["my_paper"]
    assert code == 0, checked
    assert all(claim["counterexample_found"] for claim in checked.values())
    for seed in (0, 1):
        command = ("repro", "./my_paper", "--quick", "--seed", seed, "--json")
        code, out = run_command(*command, capsys=capsys)
        assert code == 0, out
    assert (tmp_path / "results" / "my_paper" / "claims.json").is_file()


def test_the_file_in_the_how_to_is_checked_from_the_command_line(tmp_path, monkeypatch, capsys):
    ((name, code),) = written_files("docs/how-to/check-a-claim.md")
    (tmp_path / name).write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    exit_code, out = run_command("check", f"./{name}", "--examples", 10, "--json", capsys=capsys)
    assert exit_code == 0
    assert json.loads(out)["mine"]["recovers"]["counterexample_found"] is True


def test_the_readme_opens_with_its_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in text
    assert "make test" in text
    assert any(blocks(text)), "the README has no example"
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "make test" in run


def modules():
    for package in (prefsim, paper_repros):
        yield package.__name__
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            yield info.name


def with_examples():
    for name in modules():
        file = ROOT / Path(*name.split("."))
        source = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
        if ">>> " in source.read_text(encoding="utf-8"):
            yield name


@pytest.mark.parametrize("name", list(with_examples()))
def test_docstrings(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=FLAGS)
    assert result.attempted > 0
    assert result.failed == 0
