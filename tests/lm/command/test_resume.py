"""``prefsim train --resume``: what cannot go on is said in one line, whatever is wrong."""

import pytest
from lm_made import TRAIN, TWO_STEPS, report_of

KEPT = (*TWO_STEPS, "--save-every", 1, "--out", "run")

CHANGED = [
    (("--reference", "other"), "reference must be what it was before the interruption"),
    (("--model", "other"), "model must be what it was before the interruption"),
    (("--lora-rank", 4), "adapters must be what it was before the interruption, 'none', got"),
    (("--dtype", "float64"), "dtype must be what it was before the interruption, 'float32', got"),
    (("--set", "beta=3"), "loss must be what it was before the interruption"),
]


@pytest.fixture
def trained(prefsim):
    report_of(prefsim, *TRAIN, *KEPT)
    return prefsim


def test_what_a_training_started_from_cannot_change(trained):
    for changed, message in CHANGED:
        code, out, err = trained(*TRAIN, *KEPT, "--resume", *changed)
        assert (code, out) == (2, ""), changed
        assert message in err
        assert err.count("\n") == 1, err
    assert report_of(trained, *TRAIN, *KEPT, "--resume")["steps"] == 2


def test_adapters_go_on_as_they_were(prefsim):
    report_of(prefsim, *TRAIN, *KEPT, "--lora-rank", 2)
    for changed in (("--lora-rank", 4), ("--lora-rank", 2, "--lora-alpha", 64)):
        code, out, err = prefsim(*TRAIN, *KEPT, "--resume", *changed)
        assert (code, out) == (2, "")
        assert "adapters must be what it was before the interruption" in err
        assert err.count("\n") == 1
    assert report_of(prefsim, *TRAIN, *KEPT, "--lora-rank", 2, "--resume")["steps"] == 2


@pytest.mark.parametrize("name", ["model/model.safetensors", "optimizer.safetensors"])
def test_damaged_tensors_are_one_line(trained, tmp_path, name):
    file = tmp_path / "run/checkpoints/step-00000002" / name
    for damaged in (file.read_bytes()[:-9], b"\xff" * 100, b""):
        file.write_bytes(damaged)
        code, out, err = trained(*TRAIN, *KEPT, "--resume")
        assert (code, out) == (2, "")
        assert "step-00000002' cannot be read" in err
        assert err.count("\n") == 1


@pytest.mark.parametrize("out", ["pairs.jsonl", "pairs.jsonl/run", "/dev/null", "/proc/version/x"])
def test_a_folder_that_cannot_be_is_told_before_a_model_is_loaded(prefsim, monkeypatch, out):
    from prefsim.lm import CausalLM

    monkeypatch.setattr(CausalLM, "load", None)
    code, stdout, err = prefsim(*TRAIN, *TWO_STEPS, "--out", out)
    assert (code, stdout) == (2, "")
    assert f"--out {out}: " in err
    assert "is no folder that can be written to" in err
    assert err.count("\n") == 1
