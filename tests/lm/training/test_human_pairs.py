"""Fifty steps of ``prefsim train`` on pairs of dialogues that people compared.

From a new tokenizer to the model on disk.
"""

import gzip
import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from prefsim.cli import app

# Dialogues of a few words: enough steps to see every pair several times.
STEPS, BATCH, SHORT = 50, 8, 48


@pytest.fixture(scope="module")
def trained(real_data, tmp_path_factory):
    """What the command said, and the folder it wrote."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    path = real_data / "hh-rlhf" / "harmless-base-test.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    folder = tmp_path_factory.mktemp("human")
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        dialogues = [json.loads(line)["chosen"] for line in stream]
    model = ByteLevelBPETokenizer()
    model.train_from_iterator(
        dialogues, vocab_size=1000, special_tokens=["<pad>", "<s>", "</s>"], show_progress=False
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=model._tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    tokenizer.save_pretrained(folder / "tokenizer")
    config = {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": SHORT,
    }
    (folder / "config.json").write_text(json.dumps(config))
    options = {
        "loss": "dpo",
        "set": "beta=0.1",
        "data": path,
        "model": folder / "config.json",
        "tokenizer": folder / "tokenizer",
        "out": folder / "out",
        "steps": STEPS,
        "batch-size": BATCH,
        "learning-rate": 3e-3,
        "max-tokens": SHORT,
        "log-every": 5,
        "diagnostics": "accuracy",
    }
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    result = CliRunner().invoke(app, ["train", *arguments, "--skip-unshared", "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout), folder / "out", path


def test_the_loss_falls_and_the_log_is_right(trained):
    from prefsim.lm.training.metrics import read_metrics

    said, out, _ = trained
    lines = read_metrics(out / "metrics.jsonl")
    assert said["steps"] == STEPS and [line["step"] for line in lines] == list(
        range(0, STEPS + 1, 5)
    )
    # The model is its own reference at the start, where every margin is zero and the loss log 2.
    losses = [line["loss"] for line in lines[1:]]
    assert losses[0] == pytest.approx(math.log(2), abs=0.05)
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < math.log(2) - 0.15
    assert lines[0]["reward_accuracy"] == 0.0 and lines[-1]["reward_accuracy"] > 0.8
    rates = [line["learning_rate"] for line in lines[1:]]
    assert max(rates) <= 3e-3 and rates[-1] == min(rates)
    assert [line["epoch"] for line in lines[1:]] == pytest.approx(
        [lines[1]["epoch"] * k for k in range(1, len(lines))]
    )


def test_the_model_that_was_written_prefers_what_people_chose(trained):
    """Recomputed from the folder: whole completions against a new model of the same seed."""
    from prefsim.lm import CausalLM, read_text_data

    said, _, path = trained
    policy = CausalLM.load(said["model"])
    data = read_text_data(path, skip_unshared=True).data
    brief = [
        i
        for i in range(len(data))
        if max(len(side[i]) for side in (data.chosen, data.rejected)) + len(data.prompt[i]) < 150
    ]
    tokens = [
        policy.encode([data.prompt[i]] * 2, [data.chosen[i], data.rejected[i]]) for i in brief
    ]
    short = data.take(
        [
            i
            for i, pair in zip(brief, tokens, strict=True)
            if max(len(p) + len(c) for p, c in pair) <= SHORT
        ]
    )
    assert len(short) > 20
    start = CausalLM.from_config(policy.model.config, policy.tokenizer, seed=0)
    chosen, rejected = (
        policy.log_prob(short.prompt, side, batch_size=32)
        - start.log_prob(short.prompt, side, batch_size=32)
        for side in (short.chosen, short.rejected)
    )
    assert float((chosen > rejected).double().mean()) > 0.8
