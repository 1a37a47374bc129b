"""Every notebook runs from top to bottom, says what its paired script says, and shows figures."""

import re
from pathlib import Path

import jupytext
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
# Once more with people's data where they are asked for.
RUNS = [(path, False) for path in NOTEBOOKS]
RUNS += [(path, True) for path in NOTEBOOKS if "PREFSIM_DATA" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_paired_script_is_the_same(path):
    script = jupytext.read(path.with_suffix(".py"))
    notebook = nbformat.read(path, as_version=4)
    assert [c.source for c in notebook.cells] == [c.source for c in script.cells]


def test_the_tutorial_is_the_tour():
    tour = jupytext.read(FOLDER / "tour.py")
    tutorial = jupytext.read(FOLDER.parent / "docs" / "tutorial.md")
    assert [c.source for c in tutorial.cells] == [c.source for c in tour.cells]


@pytest.mark.parametrize(
    ("path", "with_data"), RUNS, ids=[f"{path.stem}-{with_data}" for path, with_data in RUNS]
)
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


def numbers(pattern, text):
    """The numbers in the groups of each match."""
    rows = re.findall(pattern, text)
    return [[float(each) for each in ([row] if isinstance(row, str) else row)] for row in rows]


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
    measured = (
        r"cosine of gradients (\S+), CHES (\S+); after 40 steps chosen (\S+), rejected (\S+) nats"
    )
    alike, unlike = numbers(measured, text)
    assert alike[0] > 0.3 > 0.2 > unlike[0] and alike[1] > unlike[1] + 5 and alike[2] < unlike[2]


def labels(figures, text, with_data):
    assert figures == (2 if with_data else 1)
    assert ("contradicted: 0.42" in text) == with_data
    assert ("no human data here" in text) != with_data
    assert "Crammer–Singer     calibrated False" in text
    assert "distillation_kl  0.5224   shifted 0.5224" in text
    wrong, weakest = re.search(r"wrong labels: (\S+), in the weakest fifth (\S+)", text).groups()
    assert float(weakest) > 2 * float(wrong)
    ends = numbers(r"off by (\S+), on the table (\S+)", text)
    assert all(abs(found - exact) < 0.02 for found, exact in ends)
    (plain, _), (smoothed, _), (told, _), (misled, _) = ends
    assert told < 0.02 < 0.1 < plain < smoothed and misled > 0.1


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


def alignment(figures, text, with_data):
    assert figures == 2
    assert numbers(r"optimum of RLHF differ by (\S+)", text)[0][0] < 1e-6
    (dpo, on_circle), (ipo, _) = numbers(
        r"moves a probability by (\S+); on a circle by (\S+)", text
    )
    assert dpo < 1e-6 < 1e-3 < ipo and on_circle > 0.1
    assert text.count("diverges: True") == 2
    assert "IPO           diverges: False   margin where the search ended 1.00" in text
    assert "at 99.5 % of the votes: dpo 10.59, ipo 0.99, hinge 2.00, exo_pair 13.68" in text
    rest = numbers(r"never compared (\S+)", text)
    assert rest[0] == [0.664] and rest[1][0] < 0.01
    below = dict(re.findall(r"^(\S.+?)  +KL .* below the curve by (\S+)", text, flags=re.MULTILINE))
    assert max(float(below[name]) for name in ("dpo", "exo_pair", "ipo", "conservative dpo")) < 1e-4
    assert min(float(below[name]) for name in ("nca", "bco", "rpo", "f_dpo, forward KL")) > 1e-3
    assert numbers(r"on thumbs differ by (\S+)", text)[0][0] < 1e-9
    for before, after in numbers(r"exact minimum (\S+) before, (\S+) after", text):
        assert after < 0.02 < 0.1 < before


def games(figures, text, with_data):
    assert figures == 1
    assert text.count("is the reward model's favourite") == 3
    assert "equilibrium: rock 0.444, scissors 0.222, paper 0.333" in text
    (away, mean), (kept, _), (near, _) = numbers(r"last policy (\S+), of the average (\S+)", text)
    assert away > 0.1 > 0.01 > mean and near < 1e-4 and 0.02 < kept < 0.03
    steps = dict(re.findall(r"(\d) times the largest step: .* (\S+)\n", text))
    assert float(steps["5"]) < 1e-9 < 0.1 < float(steps["6"])
    (wrong,), (right,) = numbers(r"from its mixture (\S+)", text)
    assert right < 1e-9 < 1e-3 < wrong
    ends = numbers(r"the last ten of 60 policies (\S+)", text)
    (mwu, momentum, _), (mwu_circle, momentum_circle, _) = np.reshape(ends, (2, 3))
    assert momentum < mwu and momentum_circle > mwu_circle
    (inpo,), (dno,), (sppo,) = numbers(r"the exact step differ by (\S+)\n", text)
    assert max(inpo, dno) < 1e-9 < 1e-8 < sppo
    left = np.ravel(numbers(r"η = 0\.\d: (\S+)", text))
    assert np.allclose(left[:-1] / left[1:], 8, rtol=0.05)
    assert "ten answers, 10 numbers each: log-odds are off by at most 0.00" in text
    rounds = np.array(numbers(r"\n +\d   +(\S+)   +(\S+)   +\S+(?=\n)", text))
    assert len(rounds) == 5 and rounds[:, 0].max() < 0.02 and (np.diff(rounds[:, 1]) < 0).all()


def generations(figures, text, with_data):
    assert figures == 3
    assert "of at most 3.175" in text
    assert max(np.ravel(numbers(r"differs from the best of \d+ by (\S+)", text))) < 1e-9
    kinds = numbers(r"answers left \S+ → (\S+), .* kept (\S+), promised (\S+)", text)
    (alone, *_), (some, *_), (half, *_) = kinds
    assert alone < 1.2 < 5 < some < half
    assert numbers(r"by the loss and by the rule differ by (\S+)", text)[0][0] < 1e-9
    for left, limit in numbers(r"s = 0\.\d: answers left +(\S+), at the limit +(\S+)", text):
        assert left == pytest.approx(limit, rel=0.02)
    assert "s = 1.5: answers left  1.00" in text
    moved = numbers(r"reward (\S+) → (\S+), covariance (\S+)", text)
    assert [after > before for before, after, _ in moved] == [c > 0 for *_, c in moved]
    assert (moved[0][2] > 0) and (moved[2][2] < 0)
    assert "KL from the first model 1.36, without self-preference 0.34" in text
    logit, prob = np.ravel(numbers(r"mean of \S+ *: off by (\S+)", text))
    assert logit < 1e-9 < 0.01 < prob
    away = np.ravel(numbers(r"KL from the judge's optimum (\S+)", text))
    assert (np.diff(away) < 0).all()
    for left, rule in numbers(r"completions left (\S+), by the rule (\S+)", text):
        assert abs(left - rule) < 0.2


def people(figures, text, with_data):
    assert figures == (2 if with_data else 1)
    assert ("no human data here" in text) != with_data
    assert "pairs of answers ranked against Borda: 0\n" in text
    assert "electorates in which one answer beats all others: 86%" in text
    assert "of these the reward model prefers another one in 9%" in text
    assert "and the equilibrium in 0%" in text
    favourites = re.findall(r"^ +\d   ([ABC])  .* (\[.*\])$", text, flags=re.MULTILINE)
    assert [name for name, _ in favourites] == ["A", "B", "B", "B"]
    assert len({shares for _, shares in favourites}) == 1
    assert "-5.60 more on average; labels for A 0.59" in text
    worse = dict(re.findall(r"^(\S.*?) +first .* the worse (\S+)$", text, flags=re.MULTILINE))
    assert max(worse, key=lambda name: float(worse[name])) == "max–min"
    assert numbers(r"duality gap (\S+)", text)[0][0] < 1e-6
    assert numbers(r"total variation to before (\S+)", text)[0][0] > 0.1
    assert "together       gain of each user [0. 0.]" in text
    assert max(np.ravel(numbers(r"total variation to the exact one (\S+)", text))) < 0.05
    if with_data:
        assert "schools        beats all others: London" in text
        assert "music          beats all others: none" in text
        assert "   Matrix   over Stereo   0.501" in text
        assert "spanish   40 students, beats all others: Barcelona" in text
        assert "303 students" in text and "of 40 listeners 50% go in circles" in text
        moved = numbers(r"speakers (\S+), by lot at most (\S+)", text)
        assert [gain for gain, _ in moved] == [0.30, 0.34, 0.28]
        assert max(by_lot for _, by_lot in moved) == 0.14


EXPECTED = {
    "alignment": alignment,
    "analyses": analyses,
    "games": games,
    "generations": generations,
    "labels": labels,
    "people": people,
    "sequences": sequences,
    "tour": tour,
}
