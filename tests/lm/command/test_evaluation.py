"""Evaluation data on the command: what is measured, when training ends, what is kept."""

import json
from pathlib import Path

import pytest
from lm_made import FILM_PAIRS, TRAIN, TWO_STEPS, report_of

from prefsim import losses
from prefsim.lm import CausalLM, Evaluation, TextComparisons
from prefsim.solvers import fit

OPPOSED = [
    row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in reversed(FILM_PAIRS)
]


def lines_of(folder):
    return [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("precompute", [[], ["--precompute"]])
def test_the_command_measures_what_fit_does(prefsim, write, precompute):
    write(*OPPOSED, name="held.jsonl")
    report = report_of(
        prefsim,
        *TRAIN,
        *TWO_STEPS,
        *precompute,
        *["--eval-data", "held.jsonl", "--eval-every", 1, "--out", "run"],
    )
    assert report["best_step"] == 0
    policy = CausalLM.load("model")
    columns = {name: [row[name] for row in FILM_PAIRS] for name in FILM_PAIRS[0]}
    held_out = {name: [row[name] for row in OPPOSED] for name in FILM_PAIRS[0]}
    expected = fit(
        policy,
        losses.dpo,
        TextComparisons(**columns),
        reference=policy,
        evaluation=Evaluation(data=TextComparisons(**held_out), every=1),
        **{"steps": 2, "batch_size": 3, "learning_rate": 1e-3, "progress": False},
    )
    found = [line for line in lines_of("run") if "eval_loss" in line]
    assert [line["step"] for line in found] == [0, 1, 2]
    for line, wanted in zip(found, expected.metrics, strict=True):
        for name in ("eval_loss", "eval_margin", "eval_chosen_logp"):
            assert line[name] == pytest.approx(wanted[name], rel=1e-5, abs=1e-6)


def test_it_ends_early_and_keeps_the_best(prefsim, write):
    write(*OPPOSED, name="held.jsonl")
    early = ["--patience", 2, "--keep-best", "--best-by", "loss", "--eval-every", 1]
    arguments = [*TRAIN, "--steps", 40, "--batch-size", 3, "--learning-rate", 1e-3, *early]
    code, out, _ = prefsim(*arguments, "--eval-data", "held.jsonl", "--out", "run")
    assert code == 0
    assert "2 steps, loss" in out
    assert "Best evaluation: after 0 steps: run/best" in out
    start = CausalLM.load("model").model.state_dict()
    kept = CausalLM.load("run/best").model.state_dict()
    assert all((kept[name] == value).all() for name, value in start.items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--patience", 2], "--patience needs an evaluation, see --eval-data"),
        (["--keep-best"], "--keep-best needs an evaluation, see --eval-data"),
        (["--eval-data", "bad.jsonl"], "bad.jsonl, line 3: chosen must be"),
        (["--eval-data", "labels.jsonl"], "TextFeedback feed losses of"),
        (["--eval-data", "long.jsonl"], "long.jsonl, line 7: "),
        (["--eval-data", "pairs.jsonl", "--eval-every", 0], "every must be an integer >= 1"),
        (["--eval-data", "pairs.jsonl", "--best-by", "bleu"], "best_by must be one of"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(prefsim, options, message):
    for last in (["--out", "run"], ["--dry-run"]):
        code, _, error = prefsim(*TRAIN, *TWO_STEPS, *options, *last)
        assert code == 2
        assert message in error
    assert not Path("run").exists()


def test_long_rows_are_left_out_of_both(prefsim):
    report_of(
        prefsim,
        *TRAIN,
        *TWO_STEPS,
        *["--eval-data", "long.jsonl", "--max-tokens", 100, "--out", "run"],
    )
    assert "eval_loss" in lines_of("run")[-1]


def test_a_reference_in_bfloat16_is_the_same_before_training_and_along_with_it(prefsim, write):
    rows = [
        {"prompt": "was it?", "chosen": " it was" + " great" * n, "rejected": " the plot" * n}
        for n in range(3, 9)
    ]
    data = write(*rows)
    arguments = ("train", "--loss", "dpo", "--model", "model", "--data", data, "--eval-data", data)
    arguments += ("--dtype", "bfloat16", "--steps", 1, "--batch-size", 6)
    for number, way in enumerate([(), ("--precompute",)]):
        report_of(prefsim, *arguments, *way, "--out", f"run{number}", "--json")
        start = lines_of(f"run{number}")[0]
        # Products in bfloat16 depend on what is in a batch.
        for side in ("chosen", "rejected"):
            assert start[f"eval_{side}_log_ratio"] == pytest.approx(0, abs=0.03)
