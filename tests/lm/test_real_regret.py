"""The regret of a real model, measured here on a tiny one: what is cached changes nothing."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from lm_made import small_llama

from prefsim.lm import CausalLM, TextGame, text_learner, told_losses

EXAMPLES = str(Path(__file__).resolve().parents[2] / "examples")


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("real_regret")


@pytest.fixture(scope="module")
def model(tokenizer):
    config = small_llama(len(tokenizer), max_position_embeddings=768)
    return CausalLM.from_config(config, tokenizer, seed=0)


def test_what_is_read_anew_is_what_is_read_at_once(study, model):
    game = TextGame(told_losses, (" a", " the"))
    cached, plain = study.cached_learner(model, game), text_learner(model, game)
    losses = np.random.default_rng(0).random((2, 4, 2)).round(2)
    # A second sequence, and shorter histories after longer ones.
    for each in (*losses, losses[0, ::-1]):
        for t in (0, 1, 2, 4, 3):
            np.testing.assert_allclose(cached(each[:t]), plain(each[:t]), atol=1e-5)


def test_a_chat_ends_where_the_action_is_named(study):
    user, answer = study.told_in_chat(np.array([[0.5, 0.0]]))
    assert user["content"].endswith("Round 2: which action do you choose, A or B?")
    assert answer == {"role": "assistant", "content": "I choose action"}


def test_the_summary(study, model):
    learner = study.cached_learner(model, TextGame(told_losses, (" a", " the")))
    found = {name: study.summary(runs) for name, runs in study.plays(learner, 4, 2).items()}
    assert list(found) == ["uniform", "gap", "gap, B is better", "alternating", "adaptive"]
    assert [len(each["regret"]) for each in found.values()] == [2, 2, 2, 1, 1]
    assert json.loads(json.dumps(found)) == found
    # Nobody does better than the best action where it loses in every round.
    assert found["adaptive"]["regret"][0] >= 0
