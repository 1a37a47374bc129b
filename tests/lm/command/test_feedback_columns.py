"""``prefsim train`` on single judgements: completions of other prompts, and matched prompts."""

import functools
import json
from pathlib import Path

import pytest
from lm_made import TRAIN, TWO_STEPS, report_of

from prefsim import losses
from prefsim.lm import CausalLM, TextFeedback, match_prompts
from prefsim.solvers import fit

# Thumbs are up for one question and down for another.
ASKED = {" Yes.": ("A good", "A good", "A long"), " No.": ("A dull", "A long", "A dull")}
ROWS = [
    {"prompt": f"{question} film?", "completion": answer, "label": answer == " Yes."}
    for answer, questions in ASKED.items()
    for question in questions
]


@pytest.fixture
def thumbs():
    Path("thumbs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    return TextFeedback(**columns)


def train(loss):
    return "train", "--loss", loss, "--model", "model", "--data", "thumbs.jsonl"


@pytest.mark.parametrize(
    ("loss", "option", "prepared"),
    [
        (losses.kto, "--mismatched", lambda policy, data: data.with_mismatched(seed=3)),
        (losses.bco_unpaired, "--match-prompts", match_prompts),
    ],
)
def test_a_run_is_the_call_of_fit(prefsim, thumbs, loss, option, prepared):
    report = report_of(
        prefsim, *train(loss.__name__), *TWO_STEPS, option, "--seed", "3", "--out", "run"
    )
    policy = CausalLM.load("model")
    data = prepared(policy, thumbs)
    options = {"steps": 2, "batch_size": 3, "learning_rate": 1e-3, "progress": False, "seed": 3}
    expected = fit(policy, functools.partial(loss), data, reference=policy.frozen(), **options)
    assert report["loss"] == pytest.approx(expected.value, rel=1e-6)
    plain = fit(policy, loss, thumbs, reference=policy.frozen(), **options)
    assert plain.value != expected.value
    # A dry run has no weights to make features of, and says what there is.
    dry = report_of(prefsim, *train(loss.__name__), option, "--dry-run", "--json")
    assert dry["data"]["rows"] == 6


def test_pairs_have_no_such_columns(prefsim):
    for option in ("--mismatched", "--match-prompts"):
        code, _, err = prefsim(*TRAIN, option, "--steps", 1, "--out", "run")
        assert code == 2
        assert f"{option} is for single judgements" in err
