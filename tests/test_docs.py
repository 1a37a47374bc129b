"""The handbook has every public name and every paper, and can be built; links lead somewhere."""

import doctest
import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from prefsim.papers.discovery import FAMILIES, all_slugs, cards, errata_of
from prefsim.papers.sabotage import resolve

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))
make_errata = importlib.import_module("make_errata")
make_reference = importlib.import_module("make_reference")
make_papers = importlib.import_module("make_papers")
make_site = importlib.import_module("make_site")

WRITTEN = [path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts]
OTHERS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/RESULTS.md")]
DOCUMENTS = [*OTHERS, *sorted(WRITTEN)]


@pytest.fixture(scope="module")
def pages():
    return make_reference.pages()


def members(text):
    return {name for listed in re.findall(r":members: (.*)", text) for name in listed.split(", ")}


def test_a_room_has_a_page(pages):
    assert {"prefsim.md", "losses.md", "solvers.games.md", "lm.training.md"} <= set(pages)
    assert "## `prefsim.losses.pairwise`" in pages["losses.md"]
    assert "value_iteration" in members(pages["solvers.planning.md"])
    assert "PairLogps" in members(pages["containers.md"])
    index = pages["index.md"]
    assert set(re.findall(r"\]\(([\w.]+)\)", index)) | {"index.md"} == set(pages)


@pytest.mark.parametrize("room", make_reference.rooms())
def test_what_a_face_shows_is_in_the_reference(room, pages):
    face = importlib.import_module(room)
    for name in getattr(face, "__all__", []):
        value = getattr(face, name)
        if inspect.isfunction(value) or inspect.isclass(value):
            assert any(name in members(text) for text in pages.values()), name


@pytest.mark.parametrize("module_name", make_reference.public_modules())
def test_public_names_are_documented(module_name):
    module = importlib.import_module(module_name)
    assert inspect.getdoc(module)
    for name in getattr(module, "__all__", []):
        value = getattr(module, name)
        if inspect.isfunction(value) or inspect.isclass(value):
            assert inspect.getdoc(value), f"{module_name}.{name} has no docstring"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_what_is_named_in_code_marks_exists(path):
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"`(prefsim(?:\.\w+)+)`", text):
        assert resolve(name) is not None, f"{path.name} names {name}"
    for name in make_site.NAME.findall(text):
        assert resolve(f"prefsim.{name}") is not None, f"{path.name} names {name}"
    for place in re.findall(r"`((?:prefsim|paper_repros|tests|docs|benchmarks)/[\w/.]+)`", text):
        assert (ROOT / place).exists(), f"{path.name} names {place}"


# --- the handbook ---


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("handbook")
    make_site.assemble(folder / "no results", folder / "source")
    return folder / "source"


def test_links_of_the_handbook_lead_somewhere(source):
    for path in source.rglob("*.md"):
        text = re.sub(r"(?s)```.*?```", "", path.read_text(encoding="utf-8"))
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if "://" not in target:
                # From the top of the handbook, or from the page.
                place = source / target[1:] if target[0] == "/" else path.parent / target
                assert place.exists(), f"{path.relative_to(source)} links to {target}"


@pytest.mark.parametrize(("family", "paper"), cards(), ids=lambda x: getattr(x, "slug", ""))
def test_a_paper_has_a_page(family, paper, source):
    text = (source / "papers" / family / f"{paper.slug}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {make_papers.plain(paper.title)}\n")
    assert f"prefsim repro {paper.slug}" in text
    for dotted in paper.implements:
        assert f"<{dotted}>" in text
    assert "```{math}" in text
    (example,) = re.findall(r"(?s)```pycon\n(.*?)```", text)
    run = doctest.DocTestParser().get_doctest(example, {}, paper.slug, None, 0)
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(run).failed == 0
    for erratum in errata_of(paper.slug):
        assert f"**{erratum.about}: {erratum.says}.** {erratum.true}\n" in text
        assert f"*How we know:* {erratum.known}\n" in text


def test_the_errata_are_those_of_the_papers():
    text = make_errata.FILE.read_text(encoding="utf-8")
    assert text == make_errata.page(), "run `make docs`"
    errata = [(slug, erratum) for slug in all_slugs() for erratum in errata_of(slug)]
    assert text.count("\n| [") == len(errata) > 80
    for slug, erratum in errata:
        line = next(row for row in text.splitlines() if erratum.true.replace("|", r"\|") in row)
        assert line.startswith(f"| [{slug}](../paper_repros/")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_has_a_map_and_a_notebook(family, source):
    map_of, notebook = make_papers.GUIDES[family]
    assert (source / "explanation" / f"{map_of}.md").exists()
    assert (source / "notebooks" / f"{notebook}.ipynb").exists()
    index = (source / "index.md").read_text(encoding="utf-8")
    assert f"\nexplanation/{map_of}\n" in index and f"\nnotebooks/{notebook}\n" in index


@pytest.mark.parametrize("family", sorted({family for family, _ in cards()}))
def test_a_family_page_says_how_its_papers_relate(family, source):
    text = (source / "papers" / family / "index.md").read_text(encoding="utf-8")
    said, _, _ = text.partition("| ")
    for name in (f"/explanation/{make_papers.GUIDES[family][0]}.md", "/notebooks/"):
        assert f"]({name}" in said
    for _, paper in cards(family):
        assert f"[{paper.slug}](../{family}/{paper.slug}.md)" in said, paper.slug


def test_words_stay_words():
    assert make_papers.plain("π_θ < 1 | a*b [c] `x_y|z`") == (r"π\_θ \< 1 \| a\*b \[c\] `x_y\|z`")


@pytest.mark.slow
def test_the_handbook_is_read_without_a_warning(source, tmp_path):
    """Every page and every docstring is understood; notebooks and gallery are run elsewhere."""
    pytest.importorskip("sphinx")
    command = ["-m", "sphinx", "-b", "dummy", "-c", ROOT / "docs", "-W", "-q"]
    command += [
        "-D",
        "nb_execution_mode=off",
        "-d",
        tmp_path / "doctrees",
        source,
        tmp_path / "out",
    ]
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "docs")])},
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_every_file_of_real_data_is_described():
    """What papers, notebooks and examples look for in the folder of real data."""
    place = re.compile(r'(?:folder|data) / "(delivery|preflib|hh-rlhf|paired)"(?: / "([^"]+)")?')
    sources = [
        path
        for folder in ("paper_repros", "notebooks", "examples")
        for path in (ROOT / folder).rglob("*.py")
    ]
    found = [names for path in sources for names in place.findall(path.read_text())]
    asked = {name for names in found for name in names if name}
    assert {"preflib", "cems_choice.csv.gz", "harmless-base-test.jsonl.gz"} <= asked
    described = (ROOT / "docs/how-to/real-data.md").read_text()
    assert [name for name in sorted(asked) if name not in described] == []
