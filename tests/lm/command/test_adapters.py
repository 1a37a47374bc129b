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
