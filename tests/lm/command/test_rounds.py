"""``prefsim rounds``: sample, score, learn, and what lies on disk between."""

import gc
import inspect
import json

import numpy as np
import pytest
import torch
from lm_made import byte_tokenizer, small_llama

from prefsim.lm import CausalLM, PreferenceModel, draw_scored
from prefsim.lm.command import rounds_cli, rounds_loop
from prefsim.lm.training.metrics import read_metrics

ROWS = [
    {"prompt": prompt, "answer": answer}
    for prompt, answer in (("the cat", "sat"), ("was it", "a"), ("a dog", "sat"))
]
MINE = """
def short(prompt, completion):
    return -len(completion)


def by_row(prompt, completion, row):
    return float(row["answer"] in completion) - 0.01 * len(completion)
"""
ROUNDS = ("rounds", "--model", "model", "--prompts", "prompts.jsonl", "--json")
SMALL = ("--samples", 4, "--max-new-tokens", 6, "--learning-rate", 3e-3)


@pytest.fixture
def command(prefsim, tmp_path):
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "mine.py").write_text(MINE)

    def run(*arguments):
        code, out, err = prefsim(*ROUNDS, *SMALL, *arguments)
        return code, json.loads(out) if code == 0 else out, err

    return run


def weights(folder):
    return CausalLM.load(folder).model.state_dict()


@pytest.mark.parametrize("loss", ["grpo", "rloo", "ppo", "copg", "dpo", "sft"])
def test_a_round_of_every_form(command, tmp_path, loss):
    asked = ("--loss", loss, "--score", "mine.py:short", "--rounds", 2, "--save-every", 0)
    code, report, err = command(*asked, "--out", "run", "--batch-size", 4)
    assert code == 0, err
    lines = read_metrics(tmp_path / "run/metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2]
    assert report["first_reward"] == lines[0]["reward"] and report["rounds"] == 2
    # Sampled from the start itself, and from what has moved away from it.
    if loss != "sft":
        assert lines[0]["kl"] == pytest.approx(0, abs=1e-4)
        assert lines[1]["kl"] != pytest.approx(0, abs=1e-4)
    assert all(1 <= line["length"] <= 6 and 0 <= line["ended"] <= 1 for line in lines)
    before, after = weights("model"), weights("run/model")
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert not (tmp_path / "run/checkpoints").exists()


def test_rounds_go_on_where_they_were_interrupted(command, tmp_path):
    asked = ("--loss", "grpo", "--score", "mine.py:by_row")
    assert command(*asked, "--rounds", 3, "--out", "whole")[0] == 0
    assert command(*asked, "--rounds", 1, "--out", "parts")[0] == 0
    code, _, err = command(*asked, "--rounds", 3, "--out", "parts", "--resume")
    assert code == 0, err
    whole, parts = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts"))
    for one, other in zip(whole, parts, strict=True):
        del one["seconds"], other["seconds"]
        assert one == other
    for name, value in weights("whole/model").items():
        assert torch.equal(value, weights("parts/model")[name]), name
    steps = sorted(path.name for path in (tmp_path / "parts/checkpoints").iterdir())
    assert steps == ["step-00000002", "step-00000003"]


def test_what_the_rounds_started_from_cannot_change(command):
    asked = ("--loss", "grpo", "--score", "mine.py:short", "--rounds", 1, "--out", "run")
    assert command(*asked)[0] == 0
    for changed, message in (
        ((), "holds a training; give --resume or another folder"),
        (("--resume", "--samples", 3), "samples must be what it was before the interruption, 4"),
        (("--resume", "--model", "other"), "model must be what it was before the interruption"),
        (("--resume", "--set", "beta=0.2"), "settings must be what it was before"),
    ):
        code, out, err = command(*asked, *changed)
        assert (code, out) == (2, ""), err
        assert message in err and err.count("\n") == 1


def test_every_option_is_known_to_decide_the_end_or_not():
    compared = {"model", "prompts", "score", "loss", "critic", *rounds_loop._DECISIVE}
    # Told by a digest of what comes of them, or by one of their own.
    compared |= {"reward_model", "tokenizer", "chat_template_kwargs", "split", "dtype"}
    compared |= {"lora_rank", "lora_alpha"}
    compared |= {"discount", "trace", *(f"critic_{name}" for name in ("clip", "epochs"))}
    compared |= {"critic_learning_rate"}
    free = {"number", "out", "config", "save_every", "keep", "resume", "dry_run", "as_json"}
    free |= {"context", "attn_implementation", "gradient_checkpointing"}
    free |= {"offload_optimizer", "compile", "packing"}
    free |= {"token_masks"}  # of losses that no reward feeds
    assert compared | free == set(inspect.signature(rounds_cli.rounds).parameters)


def test_what_the_model_reads_and_is_held_to_cannot_change(command, tmp_path):
    chats = [{"prompt": [{"role": "user", "content": row["prompt"]}]} for row in ROWS]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chats))
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% if brief %}be brief{% endif %}" + tokenizer.chat_template
    tokenizer.save_pretrained(tmp_path / "own")
    held_to = CausalLM.from_config(small_llama(len(tokenizer)), tokenizer, seed=5)
    held_to.save(tmp_path / "held_to")
    given = ("--loss", "grpo", "--score", "mine.py:short", "--prompts", "chats.jsonl")
    asked = (*given, "--tokenizer", "own", "--reference", "held_to", "--out", "run")
    assert command(*asked, "--rounds", 1)[0] == 0
    more = (*asked, "--resume", "--rounds", 2)
    code, _, err = command(*more, "--chat-template-kwargs", '{"brief": true}')
    assert code == 2 and "tokens of the prompts must be what it was before the interr" in err
    CausalLM.from_config(small_llama(len(tokenizer)), tokenizer, seed=6).save(tmp_path / "held_to")
    code, _, err = command(*more)
    assert code == 2 and "reference_model must be what it was before the interruption" in err
    held_to.save(tmp_path / "held_to")
    assert command(*more)[0] == 0


def test_a_function_that_was_changed_is_another(command, tmp_path):
    own = tmp_path / "own.py"
    own.write_text("def score(prompt, completion):\n    return -float(len(completion))\n")
    asked = ("--loss", "grpo", "--score", "own.py:score", "--rounds", 1, "--out", "run")
    assert command(*asked)[0] == 0
    own.write_text("def score(prompt, completion):\n    return float(len(completion))\n")
    code, _, err = command(*asked, "--resume")
    assert code == 2 and "score must be what it was before the interruption" in err


def test_a_round_of_ties_changes_nothing_and_is_not_the_end(command, tmp_path):
    (tmp_path / "rare.py").write_text(
        "def score(prompt, completion):\n    return 1.0 + (len(completion) > 1000)\n"
    )
    asked = ("--loss", "dpo", "--score", "rare.py:score", "--save-every", 1, "--out", "run")
    said = "round 2 changes nothing: both completions of every one of"
    with pytest.warns(UserWarning, match=said):
        code, _, err = command(*asked, "--rounds", 2)
    assert code == 0, err
    lines = read_metrics(tmp_path / "run/metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2]
    assert all("loss" not in line and line["reward"] == 1 for line in lines)
    start, end = (CausalLM.load(name).model.state_dict() for name in ("model", "run/model"))
    assert all(torch.equal(start[name], end[name]) for name in start)
    with pytest.warns(UserWarning, match="round 3 changes nothing"):
        assert command(*asked, "--rounds", 3, "--resume")[0] == 0
    assert len(read_metrics(tmp_path / "run/metrics.jsonl")) == 3


def test_the_last_policy_can_be_the_reference(command, tmp_path):
    asked = ("--loss", "dpo", "--score", "mine.py:short", "--reference", "last", "--rounds", 2)
    code, _, err = command(*asked, "--out", "run", "--kept", 2, "--kept-temperature", 0.5)
    assert code == 0, err
    assert all("kl" not in line for line in read_metrics(tmp_path / "run/metrics.jsonl"))


def held_bytes():
    """All tensors in memory, with their gradients; compilers leave some that hold nothing."""
    gc.collect()
    found = {}
    for each in gc.get_objects():
        if type(each) in (torch.Tensor, torch.nn.Parameter):
            for tensor in (each, each.grad if each.is_leaf else None):
                if tensor is not None:
                    storage = tensor.untyped_storage()
                    found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())


@pytest.mark.parametrize("more", [(), ("--dtype", "bfloat16"), ("--reference", "last")])
def test_what_a_round_goes_on_from_is_in_memory_once(command, monkeypatch, more):
    asked = ("--loss", "grpo", "--score", "mine.py:short", "--rounds", 2, *more)
    memory = command(*asked, "--dry-run")[1]["memory"]
    held, step = [], torch.optim.AdamW.step

    def watched(self, *arguments, **options):
        step(self, *arguments, **options)
        held.append(held_bytes())

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    before = held_bytes()
    code, _, err = command(*asked, "--out", "run")
    assert code == 0, err
    # What is drawn from is made again when the round is over.
    estimated = sum(memory[name] for name in ("weights", "optimizer", "reference", "gradients"))
    assert len(held) == 2
    for measured in held:
        assert measured - before == pytest.approx(estimated, rel=0.03)


def test_a_reward_model_is_the_reward(command, tmp_path):
    PreferenceModel(CausalLM.load("model"), dim=1, seed=3).save("rewards")
    asked = ("--loss", "rloo", "--reward-model", "rewards", "--rounds", 1, "--out", "run")
    assert command(*asked)[0] == 0
    (line,) = read_metrics(tmp_path / "run/metrics.jsonl")
    draw = draw_scored(
        [row["prompt"] for row in ROWS],
        PreferenceModel.load("rewards").rewards,
        n_samples=4,
        max_new_tokens=6,
        batched=True,
    )
    start = CausalLM.load("model")
    drawn = draw(start, start, np.random.default_rng([0, 0]))
    assert line["reward"] == pytest.approx(drawn.scores.mean(), abs=1e-5)
    assert line["reward_deviation"] > 0


def test_rewards_of_what_was_cut_off(command, tmp_path):
    asked = ("--loss", "rloo", "--score", "mine.py:short", "--unfinished", -50)
    assert command(*asked, "--out", "run")[0] == 0
    (line,) = read_metrics(tmp_path / "run/metrics.jsonl")
    assert line["ended"] < 1 and line["reward"] < -50 * (1 - line["ended"])
    assert np.isfinite(line["reward_deviation"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--loss", "grpo"), "one of --score and --reward-model must be given"),
        (("--loss", "grpo", "--score", "mine.py:long"), "mine.py has no function 'long'"),
        (("--loss", "grpo", "--score", "none.py:long"), "none.py cannot be read"),
        (("--loss", "sppo", "--score", "mine.py:short"), "sppo takes win rates of a judge"),
        (("--loss", "kto", "--score", "mine.py:short"), "kto takes UnpairedLogps"),
        (("--loss", "gpro", "--score", "mine.py:short"), "loss 'gpro' is not known"),
        (
            ("--loss", "copg", "--score", "mine.py:short", "--samples", 1),
            "form 'pairs' needs at least 2 completions, got 1",
        ),
        (("--loss", "grpo", "--score", "mine.py:short", "--per-round", 9), "per_round must be"),
        (("--loss", "grpo", "--score", "mine.py:short", "--rounds", 0), "rounds must be"),
        (
            ("--loss", "grpo", "--score", "mine.py:short", "--prompts", "mine.py"),
            "the name of a data file must end in",
        ),
        (
            ("--loss", "grpo", "--score", "mine.py:short", "--prompts", "dialogues.jsonl"),
            "dialogues.jsonl, line 1: a row needs a prompt, got the columns chosen, rejected",
        ),
    ],
)
def test_bad_input_is_told_in_one_line_before_a_model_is_loaded(
    command, monkeypatch, arguments, message
):
    monkeypatch.setattr(CausalLM, "load", None)
    code, out, err = command(*arguments, "--out", "run")
    assert (code, out) == (2, ""), err
    assert message in err and err.count("\n") == 1
