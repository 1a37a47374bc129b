"""``prefsim rounds --critic``: a value function that learns along, and what lies on disk of it."""

import functools
import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from prefsim import losses
from prefsim.lm import (
    CausalLM,
    PreferenceModel,
    ResponseClassifier,
    TextRollouts,
    TokenCritic,
    draw_scored,
    play_actor_critic,
    trainer,
)
from prefsim.lm.command.rounds_critic import explained_variance
from prefsim.lm.training.metrics import read_metrics

PROMPTS = ("the cat", "was it", "a dog")
MINE = "def short(prompt, completion):\n    return -float(len(completion))\n"
ROUNDS = ("rounds", "--loss", "ppo", "--model", "model", "--prompts", "prompts.jsonl", "--json")
SCORED = ("--score", "mine.py:short")
SIZES = ("--samples", 2, "--max-new-tokens", 5)
RATES = ("--learning-rate", 3e-3, "--critic-learning-rate", 1e-2, "--critic-epochs", 2)


@pytest.fixture
def command(prefsim, tmp_path):
    rows = [{"prompt": prompt} for prompt in PROMPTS]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "mine.py").write_text(MINE)

    def run(*arguments, scored=SCORED):
        code, out, err = prefsim(*ROUNDS, *scored, *SIZES, *arguments)
        return code, json.loads(out) if code == 0 else out, err

    return run


def stored(folder, kind=TokenCritic):
    return kind.load(folder).model.state_dict()


def equal(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


def test_it_is_the_loop_of_python(command, tmp_path):
    """The same numbers, seed for seed: β is in the advantages, and out of the loss."""
    code, report, err = command(
        *("--critic", "fresh", "--set", "beta=0.3", "--set", "whiten=true", "--rounds", 2),
        *("--discount", 0.9, "--trace", 0.8, "--critic-clip", "inf", *RATES, "--out", "run"),
        *("--per-round", 2, "--temperature", 0.8),
    )
    assert code == 0, err
    lines = read_metrics(tmp_path / "run/metrics.jsonl")

    policy = start = CausalLM.load("model")
    critic = TokenCritic(CausalLM.load("model"), seed=0)
    reference = start.frozen()
    score = lambda prompt, completion: -float(len(completion))  # noqa: E731
    drawing = {"n_samples": 2, "max_new_tokens": 5, "per_round": 2, "temperature": 0.8}
    options = {"schedule": "constant", "warmup": 0.0, "seed": 0, "batch_size": 8}
    loop = {
        "reference": reference,
        "beta": 0.3,
        "discount": 0.9,
        "trace": 0.8,
        "critic_loss": functools.partial(losses.value_loss, clip=np.inf),
        "train": trainer(learning_rate=3e-3, **options),
        "train_critic": trainer(learning_rate=1e-2, epochs=2, **options),
    }
    # In the second the policy has left its reference, so that the penalty is not zero.
    for number, line in enumerate(lines):
        (played,) = play_actor_critic(
            policy,
            critic,
            draw_scored(list(PROMPTS), score, **drawing),
            functools.partial(losses.ppo, beta=0.0, whiten=True),
            rounds=1,
            seed=np.random.default_rng([0, number]),
            **loop,
        )
        _, policy, critic = played
        drawn = played.drawn
        assert line["reward"] == pytest.approx(drawn.scores.mean(), abs=1e-9)
        assert line["explained_variance"] == pytest.approx(explained_variance(drawn), rel=1e-4)
        asked, answers = (
            np.repeat(drawn.prompt, 2),
            [ids for row in drawn.completions for ids in row],
        )
        theirs = reference.log_prob(list(asked), answers).cpu().numpy()
        kl = (drawn.old_logp.sum(axis=-1).ravel() - theirs).mean()
        assert line["kl"] == pytest.approx(kl, rel=1e-4, abs=1e-5)
    assert abs(kl) > 1e-2
    for found, expected in (
        (stored("run/model", CausalLM), policy.model.state_dict()),
        (stored(report["critic"]), critic.state_dict()),
    ):
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
    before = TokenCritic(CausalLM.load("model"), seed=0).state_dict()
    moved = [name for name, value in stored("run/critic").items() if (value != before[name]).any()]
    assert "classifier.score.weight" in moved and len(moved) > 5


@pytest.mark.parametrize("more", [(), ("--dtype", "bfloat16"), ("--lora-rank", 2)])
def test_rounds_with_a_critic_go_on_where_they_were_interrupted(command, tmp_path, more):
    asked = ("--critic", "fresh", *RATES, *more)
    assert command(*asked, "--rounds", 3, "--out", "whole")[0] == 0
    assert command(*asked, "--rounds", 1, "--out", "parts")[0] == 0
    code, _, err = command(*asked, "--rounds", 3, "--out", "parts", "--resume")
    assert code == 0, err
    whole, parts = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts"))
    for one, other in zip(whole, parts, strict=True):
        del one["seconds"], other["seconds"]
        assert one == other
    assert all("value_loss" in line and "value_grad_norm" in line for line in whole)
    assert equal(stored("whole/model", CausalLM), stored("parts/model", CausalLM))
    assert equal(stored("whole/critic"), stored("parts/critic"))
    # The optimiser too: what it holds is what the next round would go on from.
    last = "checkpoints/step-00000003/critic_optimizer.safetensors"
    whole, parts = ((tmp_path / name / last).read_bytes() for name in ("whole", "parts"))
    assert whole == parts


def test_a_reward_model_is_where_a_critic_starts_and_a_critic_goes_on(command, tmp_path):
    PreferenceModel(CausalLM.load("model"), dim=1, seed=3).save("rewards")
    asked = ("--critic", "rewards", *RATES, "--save-every", 0)
    code, report, err = command(*asked, "--out", "run", scored=("--reward-model", "rewards"))
    assert code == 0, err
    assert report["critic"] == "run/critic"
    classifier = AutoModelForSequenceClassification.from_pretrained("run/critic")
    assert classifier.config.num_labels == 1
    trained = stored("run/critic")
    assert not equal(trained, PreferenceModel.load("rewards").state_dict())
    asked = ("--critic", "run/critic", "--critic-learning-rate", 1e-30)
    code, _, err = command(*asked, "--rounds", 1, "--out", "again")
    assert code == 0, err
    assert equal(trained, stored("again/critic"))


def test_the_share_of_returns_that_was_foreseen():
    returns = np.array([[[1.0, 2.0, 9.0]], [[3.0, 9.0, 9.0]]])
    columns = ([[1], [2]], [[[4, 5]], [[6]]], np.zeros((2, 1)))

    def share(values):
        return explained_variance(TextRollouts(*columns, returns=returns, old_values=values))

    assert share(returns) == 1 and share(0 * returns) == pytest.approx(0)
    # Of 1, 2 and 3 these leave errors of 0, 0 and 1.
    assert share(np.minimum(returns, 2.0)) == pytest.approx(1 - (2 / 9) / (2 / 3))
    still = TextRollouts(*columns, returns=0 * returns + 1, old_values=returns)
    assert explained_variance(still) is None


@pytest.mark.parametrize("more", [(), ("--lora-rank", 2)])
def test_a_dry_run_tells_what_both_models_take(command, tmp_path, more):
    asked = ("--critic", "fresh", "--epochs", 2, *more)
    code, report, err = command(*asked, "--dry-run")
    assert code == 0, err
    policy = CausalLM.load("model")
    body = sum(p.numel() for p in policy.log_prob_model.body.parameters())
    whole, head = sum(p.numel() for p in policy.module.parameters()), 32
    if more:
        # The frozen weights are shared: beside adapters there is a head.
        adapters = report["parameters"]["trained"] - head
        assert report["parameters"]["all"] == whole + adapters + head
        assert report["memory"]["reference"] == 0
        assert report["memory"]["weights"] == 4 * (whole + adapters + head)
    else:
        assert report["parameters"] == {"all": whole + body + head, "trained": whole + body + head}
        assert report["memory"]["reference"] == 4 * whole
        assert report["memory"]["weights"] == 4 * (whole + body + head)
    assert report["memory"]["optimizer"] == 8 * report["parameters"]["trained"]
    assert report["round"] == {"completions": 6, "new_tokens": 5, "steps": 4}
    # Two layers of two keys of eight numbers, and as many values, of six sequences at once.
    longest = report["prompts"]["longest"] + 5
    assert report["memory"]["cache"] == 6 * longest * 2 * 2 * 2 * 8 * 4
    memory = report["memory"]
    held = sum(memory[name] for name in ("weights", "optimizer", "reference"))
    # Drawing and learning take turns.
    assert memory["total"] == held + memory["gradients"] + memory["activations"]
    assert memory["cache"] < memory["activations"] and memory["rounded"] == 0
    assert not (tmp_path / "run").exists()
    # A micro-batch of two prompts' sequences is less than the three of them.
    budget = ("--micro-batch-tokens", 2 * 2 * longest, "--set", "reduction=response")
    code, less, err = command(*asked, *budget, "--dry-run")
    assert code == 0, err
    shares = [of["memory"]["activations"] for of in (less, report)]
    assert shares[0] == pytest.approx(shares[1] * 2 / 3)
    assert command(*asked, *budget, "--rounds", 1, "--out", "run")[0] == 0


BAD = [
    (("--critic-clip", 0.1), "--critic-clip needs --critic, got 0.1 without"),
    (("--discount", 0.9), "--discount needs --critic, got 0.9 without"),
    (("--critic", "fresh", "--loss", "grpo"), "advantages of tokens, which ppo reads, got --loss"),
    (("--critic", "fresh", "--loss", "rloo"), "advantages of tokens, which ppo reads, got --loss"),
    (("--critic", "fresh", "--trace", 1.5), "trace must lie in [0.0, 1.0], got 1.5"),
    (("--critic", "fresh", "--critic-clip", 0), "critic_clip must lie in (0.0, inf]"),
    (("--critic", "fresh", "--critic-epochs", 0), "critic_epochs must be"),
    (("--critic", "fresh", "--critic-learning-rate", -1), "critic_learning_rate must be"),
    (("--critic", "fresh", "--reference", "last"), "to a reference that stays, got --reference"),
    (("--critic", "fresh", "--reference", "none"), "to a reference that stays, got --reference"),
    (("--critic", "model"), "--critic must be fresh or the folder of a reward model or a critic"),
    (("--critic", "classes"), "--critic classes must give one number, got one that gives 3"),
    (("--critic", "smaller"), "must have the vocabulary of the policy, 320 tokens, got 64"),
    (("--critic", "fresh", "--max-new-tokens", 127), "with --max-new-tokens 127"),
    (("--micro-batch-tokens", 9), "--micro-batch-tokens must be >= "),
    (("--loss", "p3o", "--samples", 3, "--micro-batch-tokens", 9), "2 sequences of the longest"),
    (("--micro-batch-tokens", 999), "the loss couples the examples of its micro-batch"),
]


@pytest.fixture(scope="module")
def scorers(tmp_path_factory):
    from lm_made import byte_tokenizer, small_llama

    folder = tmp_path_factory.mktemp("scorers")
    tokenizer = byte_tokenizer()
    whole = CausalLM.from_config(small_llama(len(tokenizer)), tokenizer, seed=0)
    ResponseClassifier(whole, classes=3, seed=0).save(folder / "classes")
    smaller = CausalLM.from_config(small_llama(64), seed=0)
    PreferenceModel(smaller, dim=1, seed=0).save(folder / "smaller")
    return folder


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_is_one_line_with_and_without_a_run(
    command, scorers, tmp_path, arguments, message
):
    for name in ("classes", "smaller"):
        (tmp_path / name).symlink_to(scorers / name)
    for run in (("--out", "run"), ("--dry-run",)):
        code, out, err = command(*arguments, *run)
        assert (code, out) == (2, ""), err
        assert message in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_what_the_critic_started_from_cannot_change(command):
    asked = ("--rounds", 1, "--out", "run")
    assert command("--critic", "fresh", *asked)[0] == 0
    for changed, name in (
        ((), "critic"),
        (("--critic", "fresh", "--trace", 0.5), "trace"),
        (("--critic", "fresh", "--critic-learning-rate", 0.5), "critic_learning_rate"),
        (("--critic", "run/critic"), "critic"),
    ):
        code, out, err = command(*asked, "--resume", *changed)
        assert (code, out) == (2, ""), err
        assert f"{name} must be what it was before the interruption" in err
