"""``prefsim train`` with adapters: a second stage goes on from the first."""

import pytest
from lm_made import TRAIN, TWO_STEPS, report_of

from prefsim.lm import CausalLM

FAST = (*TWO_STEPS[:-3], "--learning-rate", 1e-2, "--json")
LORA = ("--lora-rank", 2)


@pytest.fixture
def first(prefsim):
    report_of(prefsim, *TRAIN, *FAST, *LORA, "--out", "l1")
    return prefsim


def log_prob(policy):
    return float(policy.log_prob(["was it a good film?"], [" it was a great film"]))


def test_a_second_stage_goes_on_with_the_adapters(first):
    second = ("--model", "l1/model", *FAST)
    dry = report_of(first, *TRAIN, *second, "--dry-run")
    assert dry["parameters"]["trained"] < dry["parameters"]["all"] / 4
    report = report_of(first, *TRAIN, *second[:2], *TWO_STEPS[:-2], 1e-12, "--json", "--out", "l2")
    base, one, two = (
        log_prob(CausalLM.load(name)) for name in ("model", "l1/model", report["model"])
    )
    assert abs(one - base) > 1e-3
    assert two == pytest.approx(one, abs=1e-6)
    # The reference is the model as the second stage found it, and not the first one's.
    assert report["loss"] == pytest.approx(0.6931472, abs=1e-6)
    stored = report_of(first, *TRAIN, *second, "--precompute", "--out", "l3")
    whole = report_of(first, *TRAIN, *second, "--out", "l4")
    assert stored["loss"] == pytest.approx(whole["loss"], abs=1e-6)


@pytest.mark.parametrize("how", ["dry", "real"])
def test_further_adapters_are_refused(first, how):
    ends = ("--dry-run",) if how == "dry" else ("--out", "l2")
    code, out, err = first(*TRAIN, "--model", "l1/model", *LORA, *ends)
    assert (code, out) == (2, "")
    assert "--model l1/model holds adapters, which those of --lora-rank would take the place" in err
    assert err.count("\n") == 1


def test_adapters_as_a_reference(first):
    arguments = (*TRAIN, "--reference", "l1/model", *FAST)
    dry = report_of(first, *arguments, "--dry-run")
    assert dry["memory"]["total"] > 0
    there = report_of(first, *arguments, "--out", "r1")
    start = report_of(first, *TRAIN, *FAST, "--out", "r2")
    assert there["loss"] != start["loss"]


def test_the_weights_of_adapters_follow_the_seed(prefsim):
    losses = [
        report_of(prefsim, *TRAIN, *FAST, *LORA, "--seed", seed, "--out", f"run{k}")["loss"]
        for k, seed in enumerate((0, 0, 1))
    ]
    assert losses[0] == losses[1] != losses[2]


def test_adapters_where_they_are_asked_for_and_merged_into_the_model(prefsim):
    only = ("--lora-target", "q_proj", "--lora-target", "v_proj", "--merge")
    report = report_of(prefsim, *TRAIN, *FAST, *LORA, *only, "--out", "l1")
    adapted = CausalLM.load(report["model"])
    places = {name.split(".lora_")[0] for name, _ in adapted.model.named_parameters()}
    assert {
        name.rpartition(".")[2] for name in places if "proj" in name and "base" not in name
    } <= {
        "q_proj",
        "v_proj",
    }
    merged = CausalLM.load(report["merged"])
    assert not hasattr(merged.model, "peft_config")
    assert log_prob(merged) == pytest.approx(log_prob(adapted), abs=1e-5)
    assert abs(log_prob(merged) - log_prob(CausalLM.load("model"))) > 1e-3
    # A second stage on adapters may end so too.
    again = report_of(prefsim, *TRAIN, "--model", "l1/model", *FAST, "--merge", "--out", "l2")
    assert log_prob(CausalLM.load(again["merged"])) == pytest.approx(
        log_prob(CausalLM.load(again["model"])), abs=1e-5
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lora-target", "q_proj"], "--lora-target needs --lora-rank, got ['q_proj'] without"),
        (["--merge"], "--merge needs adapters"),
        ([*LORA, "--lora-target", "p_proj"], "p_proj"),
    ],
)
def test_bad_options_of_adapters(prefsim, options, message):
    for last in (["--out", "run"], ["--dry-run"]):
        code, _, error = prefsim(*TRAIN, *FAST, *options, *last)
        assert code == 2
        assert message in error
