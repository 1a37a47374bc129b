"""``prefsim train`` with losses of rewards and classes: what the head is follows from the loss."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lm_made import FILM_PAIRS, TWO_STEPS, report_of

from prefsim import losses
from prefsim.lm import (
    CausalLM,
    PreferenceModel,
    ResponseClassifier,
    TextClasses,
    TextComparisons,
    TextVersions,
    read_text_data,
)
from prefsim.solvers import fit

PAIRS = ("train", "--loss", "bradley_terry", "--model", "model", "--data", "pairs.jsonl")
OPTIONS = {"steps": 2, "batch_size": 3, "learning_rate": 1e-3, "progress": False}
GRADES = [
    {"prompt": "was it?", "completion": f" it was {x}", "class": i} for i, x in enumerate("abc")
]
GRADED = [{"prompt": "was it?", "versions": [" a great film", " a"], "degree": [0, 1]}] * 3


def columns(rows):
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_a_run_is_the_call_of_fit(prefsim):
    report = report_of(
        prefsim, *PAIRS, *TWO_STEPS, "--set", "margin=0.5", "--seed", 3, "--out", "run"
    )
    model = PreferenceModel(CausalLM.load("model"), dim=1, seed=3)
    loss = functools.partial(losses.bradley_terry, margin=0.5)
    data = TextComparisons(**columns(FILM_PAIRS))
    expected = fit(model, loss, data, seed=3, **OPTIONS)
    assert report["loss"] == pytest.approx(expected.value, rel=1e-6)
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    theirs = AutoModelForSequenceClassification.from_pretrained("run/model")
    tokenizer = AutoTokenizer.from_pretrained("run/model")
    texts = [f"{x}{y}</s>" for x, y in zip(data.prompt, data.chosen, strict=True)]
    with torch.no_grad():
        found = theirs(**tokenizer(texts, padding=True, return_tensors="pt")).logits[:, 0]
    ours = expected.policy.rewards(data.prompt, data.chosen).float()
    torch.testing.assert_close(found, ours, rtol=0, atol=1e-5)
    # It is trained on from where it is, with the head that it has.
    again = (*PAIRS[:3], "--model", "run/model", "--data", "pairs.jsonl")
    second = report_of(prefsim, *again, *TWO_STEPS, "--out", "second")
    continued = fit(PreferenceModel.load("run/model"), losses.bradley_terry, data, **OPTIONS)
    assert second["loss"] == pytest.approx(continued.value, rel=1e-6)
    dry = [report_of(prefsim, *a, "--dry-run", "--json")["parameters"] for a in (PAIRS, again)]
    own = sum(p.numel() for p in expected.policy.parameters())
    assert dry == [{"all": own, "trained": own}] * 2


def test_adapters_and_resumption(prefsim):
    arguments = (*PAIRS, *TWO_STEPS, "--steps", 4, "--save-every", 2, "--lora-rank", 2)
    whole = report_of(prefsim, *arguments, "--out", "whole")
    first = report_of(prefsim, *arguments, "--out", "run")
    again = report_of(prefsim, *arguments, "--out", "run", "--resume")
    assert whole["loss"] == first["loss"] == again["loss"]
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 4
    kept = {path.name for path in Path("run/checkpoints/step-00000004/model").iterdir()}
    assert kept == {"trained.safetensors"}, "adapters and head alone"
    rows = columns(FILM_PAIRS)
    rewards = [
        PreferenceModel.load(f"{name}/model").rewards(rows["prompt"], rows["chosen"])
        for name in ("whole", "run")
    ]
    torch.testing.assert_close(*rewards, rtol=0, atol=0)
    found = report_of(prefsim, *PAIRS, "--lora-rank", 2, "--dry-run", "--json")
    assert 0 < found["parameters"]["trained"] < found["parameters"]["all"]
    assert found["memory"]["reference"] == 0


def test_a_general_preference_model(prefsim):
    arguments = ("train", "--loss", "score_regression", *PAIRS[3:], *TWO_STEPS)
    report = report_of(prefsim, *arguments, "--preference-dim", 4, "--out", "run")
    model = PreferenceModel(CausalLM.load("model"), dim=4, seed=0)
    data = TextComparisons(**columns(FILM_PAIRS))
    expected = fit(model, losses.score_regression, data, **OPTIONS)
    assert report["loss"] == pytest.approx(expected.value, rel=1e-6)
    assert PreferenceModel.load("run/model").dim == 4


@pytest.mark.parametrize(
    ("loss", "rows", "container", "classes"),
    [("ldr_kl", GRADES, TextClasses, 3), ("preference_degree", GRADED, TextVersions, 2)],
)
def test_classes_and_degrees(prefsim, write, loss, rows, container, classes):
    file = write(*rows)
    source = read_text_data(file)
    assert isinstance(source.data, container)
    assert source.data.classes == classes
    arguments = ("train", "--loss", loss, "--model", "model", "--data", file)
    report = report_of(prefsim, *arguments, *TWO_STEPS, "--out", "run")
    model = ResponseClassifier(CausalLM.load("model"), classes=classes, seed=0)
    expected = fit(model, loss, source.data, **OPTIONS)
    assert report["loss"] == pytest.approx(expected.value, rel=1e-6)
    assert ResponseClassifier.load("run/model").dim == classes


def test_margins_and_soft_labels_are_columns(prefsim, write):
    rows = [row | {"margin": i / 2, "prob": 0.75} for i, row in enumerate(FILM_PAIRS)]
    file = write(*rows)
    data = read_text_data(file).data
    np.testing.assert_array_equal(data.margin, np.arange(6) / 2)
    report = report_of(prefsim, *PAIRS[:5], "--data", file, *TWO_STEPS, "--out", "run")
    model = PreferenceModel(CausalLM.load("model"), dim=1, seed=0)
    expected = fit(model, losses.bradley_terry, data, **OPTIONS)
    assert report["loss"] == pytest.approx(expected.value, rel=1e-6)


def test_evaluation_of_a_reward_model(prefsim):
    report_of(
        prefsim,
        *PAIRS,
        *TWO_STEPS,
        "--eval-data",
        "pairs.jsonl",
        "--eval-every",
        1,
        "--best-by",
        "reward_accuracy",
        "--keep-best",
        "--out",
        "run",
    )
    last = json.loads(Path("run/metrics.jsonl").read_text().splitlines()[-1])
    rows = columns(FILM_PAIRS)
    model = PreferenceModel.load("run/model")
    ahead = model.rewards(rows["prompt"], rows["chosen"]) - model.rewards(
        rows["prompt"], rows["rejected"]
    )
    assert last["eval_margin"] == pytest.approx(float(ahead.mean()), rel=1e-5)
    assert last["eval_reward_accuracy"] == float((ahead > 0).double().mean())
    assert PreferenceModel.load("run/best").dim == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*PAIRS, "--reference", "start"), "a loss of PairRewards has none, got start"),
        ((*PAIRS, "--precompute"), "--precompute needs a reference, and there is none"),
        ((*PAIRS, "--online-kl", "1"), "needs the reference model itself; got no reference"),
        ((*PAIRS, "--preference-dim", 3), "dim must be even"),
        ((*PAIRS, "--diagnostics", "ches"), "diagnostics are of log-probabilities"),
        ((*PAIRS, "--mismatched"), "is for single judgements"),
        (
            ("train", "--loss", "dpo", *PAIRS[3:], "--preference-dim", 1),
            "--preference-dim is for losses of rewards, such as bradley_terry, got a loss of Pair",
        ),
        (
            ("train", "--loss", "ldr_kl", *PAIRS[3:]),
            "TextComparisons feed losses of PairLogps, .* got a loss of ClassLogits",
        ),
        (("train", "--loss", "spo_degree", *PAIRS[3:]), "takes what text cannot give"),
    ],
)
def test_errors(prefsim, arguments, message):
    code, _, err = prefsim(*arguments, "--steps", 1, "--out", "run")
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    with pytest.raises(ValueError, match=message):
        raise ValueError(err)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (GRADES[0] | {"class": 1.5}, "class must be an integer, got 1.5"),
        (GRADES[0] | {"class": -1}, "label must be >= 0"),
        (GRADED[0] | {"degree": [0]}, "versions and degree must be of one length, got 2 and 1"),
        (GRADED[0] | {"degree": [0, "1"]}, r"degree\[1\] must be an integer, got '1'"),
        (FILM_PAIRS[0] | {"margin": "wide"}, "margin must be"),
    ],
)
def test_bad_rows(write, row, message):
    with pytest.raises(ValueError, match=rf"data\.jsonl, line 1: .*{message}"):
        read_text_data(write(row))
